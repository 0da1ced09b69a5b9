// The page is complete without this: it lets a reader choose the scatter's axes and the theme.
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

(() => {
  const data = document.querySelector("#scatter-data");
  if (!data) return;
  const { box: [left, right, top, bottom], steps, axes, shapes, members } = JSON.parse(data.textContent);
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

  document.querySelector("#scatter-choice").hidden = false;
  choose.x.addEventListener("change", draw);
  choose.y.addEventListener("change", draw);
})();
