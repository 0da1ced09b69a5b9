// The page is complete without this: it lets a reader choose the scatter's axes and the theme, light
// up a segment from a legend, and read numbers off the pictures.
"use strict";

(() => {
  const root = document.documentElement;
  const button = document.querySelector("#theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";
  const tell = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  tell();
})();

// A legend's entry lights its segment up in every picture, while the pointer or the focus is on it;
// a click keeps it so until the next.
(() => {
  const marks = [...document.querySelectorAll("svg [data-segment]")];
  const entries = [...document.querySelectorAll(".entry[data-segment]")];
  let kept = null;
  const light = (segment) => {
    for (const mark of marks)
      mark.classList.toggle("dim", segment !== null && !mark.dataset.segment.split(" ").includes(segment));
  };
  for (const entry of entries) {
    const { segment } = entry.dataset;
    const toggle = () => {
      kept = kept === segment ? null : segment;
      for (const each of entries) each.setAttribute("aria-pressed", String(each.dataset.segment === kept));
      light(kept);
    };
    entry.tabIndex = 0;
    entry.setAttribute("role", "button");
    entry.setAttribute("aria-pressed", "false");
    for (const name of ["pointerenter", "focus"]) entry.addEventListener(name, () => light(segment));
    for (const name of ["pointerleave", "blur"]) entry.addEventListener(name, () => light(kept));
    entry.addEventListener("click", toggle);
    entry.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
  }
})();

// What a mark's title says, at once and beside the pointer; on the scatter, the nearest customer.
const nearest = [];
(() => {
  const words = new WeakMap();
  for (const title of document.querySelectorAll("svg title:not([id])")) {
    words.set(title.parentNode, title.textContent);
    title.remove();
  }
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  const wordsAt = (event) => {
    for (let mark = event.target; mark instanceof SVGElement; mark = mark.parentNode)
      if (words.has(mark)) return words.get(mark);
    return nearest.map((find) => find(event)).find((text) => text) || "";
  };
  const show = (event) => {
    tip.textContent = wordsAt(event);
    tip.hidden = !tip.textContent;
    if (tip.hidden) return;
    const { width, height } = tip.getBoundingClientRect();
    const x = event.clientX + 14 + width > innerWidth ? event.clientX - 14 - width : event.clientX + 14;
    const y = event.clientY + 16 + height > innerHeight ? event.clientY - 10 - height : event.clientY + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  };
  for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, show);
  for (const name of ["pointerleave", "scroll", "keydown"])
    document.addEventListener(name, () => { tip.hidden = true; }, { passive: true });
})();

(() => {
  const data = document.querySelector("#scatter-data");
  if (!data) return;
  const { box: [left, right, top, bottom], steps, axes, names, shapes, members } = JSON.parse(data.textContent);
  const svg = document.querySelector("#scatter");
  const choose = { x: document.querySelector("#scatter-x"), y: document.querySelector("#scatter-y") };
  const across = (step) => left + (step / steps) * (right - left);
  const up = (step) => bottom - (step / steps) * (bottom - top);
  const make = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };

  const draw = () => {
    const x = axes[choose.x.value], y = axes[choose.y.value];
    svg.querySelectorAll("path.points").forEach((path, segment) => {
      path.setAttribute("d", members[segment].map((row) =>
        x.places[row] === null || y.places[row] === null
          ? "" : `M${across(x.places[row]).toFixed(1)},${up(y.places[row]).toFixed(1)}${shapes[segment]}`
      ).join(""));
    });
    svg.querySelectorAll("g.centroid").forEach((mark, segment) => {
      const [cx, cy] = [x.centroids[segment], y.centroids[segment]];
      mark.setAttribute("transform", cx === null || cy === null
        ? "translate(-99,-99)" : `translate(${across(cx).toFixed(1)},${up(cy).toFixed(1)})`);
    });
    svg.querySelector(".ticks-x").replaceChildren(...x.ticks.flatMap(([at, label]) => [
      make("line", { x1: across(at), x2: across(at), y1: top, y2: bottom, class: "grid" }),
      make("text", { x: across(at), y: bottom + 20, "text-anchor": "middle" }, label)]));
    svg.querySelector(".ticks-y").replaceChildren(...y.ticks.flatMap(([at, label]) => [
      make("line", { x1: left, x2: right, y1: up(at), y2: up(at), class: "grid" }),
      make("text", { x: left - 8, y: up(at) + 4, "text-anchor": "end" }, label)]));
    svg.querySelector(".title-x").textContent = `${x.name} →`;
    svg.querySelector(".title-y").textContent = `↑ ${y.name}`;
    svg.querySelector("title").textContent = `Customers by ${x.name} and ${y.name}`;
    document.querySelector("#scatter-about").textContent =
      [x, y].filter((axis) => axis.about).map((axis) => `${axis.name[0].toUpperCase()}${axis.name.slice(1)} is ${axis.about}. `).join("");
  };

  // A place is a thousandth of its axis, so a value is told to three digits.
  const told = ({ name, places, scale: [low, high, isLog] }, row) => {
    const [from, to] = isLog ? [Math.log1p(low), Math.log1p(high)] : [low, high];
    const at = from + (places[row] / steps) * (to - from);
    const value = isLog ? Math.expm1(at) : at;
    return `${name} about ${value.toLocaleString("en-US", { maximumSignificantDigits: 3 })}`;
  };
  const customer = (row, segment) => [names[segment], ...axes
    .filter((axis) => axis.scale && axis.places[row] !== null).slice(0, 8)
    .map((axis) => told(axis, row))].join("\n");
  nearest.push((event) => {
    if (event.target.closest("svg") !== svg) return "";
    const x = axes[choose.x.value], y = axes[choose.y.value];
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const paths = svg.querySelectorAll("path.points");
    let found = null, least = 8 ** 2;
    members.forEach((rows, segment) => {
      if (paths[segment].classList.contains("dim")) return;
      for (const row of rows) {
        if (x.places[row] === null || y.places[row] === null) continue;
        const far = (across(x.places[row]) - at.x) ** 2 + (up(y.places[row]) - at.y) ** 2;
        if (far < least) [least, found] = [far, [row, segment]];
      }
    });
    return found ? customer(...found) : "";
  });

  document.querySelector("#scatter-choice").hidden = false;
  choose.x.addEventListener("change", draw);
  choose.y.addEventListener("change", draw);
})();
