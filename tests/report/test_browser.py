"""The page in a real browser: both themes, wide and narrow, with and without its script."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sqlkmeans.report.page import write_report
from support.pages import opened

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


def browse(folder: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser of its own, without a network."""
    return subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--no-first-run", "--proxy-server=127.0.0.1:1", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'browser'}", *options, page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(cdnow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of CDNOW after two runs."""
    file = tmp_path_factory.mktemp("page") / "cdnow.html"
    with opened(cdnow) as database:
        write_report("cdnow", database, file)
    return file


def with_script(page: Path, folder: Path, script: str) -> Path:
    """A copy of the page that runs a script of the test's; the page's own policy forbids it."""
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"<meta http-equiv[^>]*>", text)
    copy = folder / "copy.html"
    copy.write_text(
        text.replace(policy.group(), "").replace("</body>", f"<script>{script}</script></body>"),
        encoding="utf-8",
    )
    return copy


def said(dom: str) -> str:
    """What a test's script put into the page."""
    return html.unescape(re.search(r'data-said="([^"]*)"', dom).group(1))


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)], ids=["light", "dark"])
def test_the_page_follows_the_theme_of_the_system(
    page: Path, tmp_path: Path, scheme: int, dark: bool
) -> None:
    from matplotlib.image import imread

    picture = tmp_path / "page.png"
    done = browse(
        tmp_path, page, f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1400,2400", f"--screenshot={picture}",
    )  # fmt: skip
    pixels = imread(picture)[:, :, :3]
    background = pixels[2, 2]
    assert (background < 0.15).all() if dark else (background > 0.95).all()
    # Something is drawn all the way down, in several colours.
    for part in np.array_split(pixels, 6):
        assert (np.abs(part - background).max(axis=2) > 0.3).mean() > 0.005
    assert "CONSOLE" not in done.stderr, done.stderr


def test_the_script_draws_the_axes_that_a_reader_chooses(page: Path, tmp_path: Path) -> None:
    copy = with_script(
        page, tmp_path,
        """
        const paths = () => [...document.querySelectorAll("#scatter path.points")]
          .map((path) => path.getAttribute("d"));
        const first = paths();
        const x = document.querySelector("#scatter-x");
        const names = [...x.options].map((option) => option.text);
        const hidden = document.querySelector("#scatter-choice").hidden;
        x.value = x.value; x.dispatchEvent(new Event("change"));
        const same = paths();
        x.value = String(names.indexOf("frequency")); x.dispatchEvent(new Event("change"));
        const other = paths();
        document.querySelector("#theme").click();
        document.body.dataset.said = JSON.stringify({
          names, hidden, redrawn: JSON.stringify(first) === JSON.stringify(same),
          changed: first.map((d, i) => d !== other[i]),
          points: [first, other].map((all) => all.join("").split("M").length - 1),
          title: document.querySelector("#scatter .title-x").textContent,
          tick: document.querySelector("#scatter .ticks-x text").textContent,
          scheme: getComputedStyle(document.documentElement).colorScheme,
        });
        """,
    )  # fmt: skip
    found = json.loads(said(browse(tmp_path, copy, "--dump-dom").stdout))
    assert found["names"] == [
        "principal component 1", "principal component 2", "recency_days", "frequency", "monetary",
    ]  # fmt: skip
    assert found["hidden"] is False
    # What the script draws is what stood on the page already, to the last digit.
    assert found["redrawn"] is True
    assert found["changed"] == [True] * 4
    assert found["points"] == [2000, 2000]
    assert found["title"] == "frequency →"
    assert found["tick"] == "1"
    assert found["scheme"] == "dark"


def test_a_legend_lights_a_segment_up_in_every_picture_and_marks_tell_their_numbers(
    page: Path, tmp_path: Path
) -> None:
    copy = with_script(
        page, tmp_path,
        """
        const entry = document.querySelector(".legend .entry"), { segment } = entry.dataset;
        const bright = () => [...document.querySelectorAll("svg [data-segment]:not(.dim)")]
          .map((mark) => mark.dataset.segment.trim());
        const all = bright().length;
        entry.dispatchEvent(new PointerEvent("pointerenter"));
        const hovered = bright();
        entry.dispatchEvent(new PointerEvent("pointerleave"));
        const left = bright().length;
        entry.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
        entry.dispatchEvent(new PointerEvent("pointerleave"));
        const kept = bright().length, pressed = entry.getAttribute("aria-pressed");
        entry.click();
        const strip = `#distributions g[data-segment="${segment}"] use`;
        const tip = document.querySelector("#tip");
        const tell = (mark, clientX, clientY) => {
          mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX, clientY }));
          return tip.hidden ? "" : tip.textContent;
        };
        const customer = document.querySelector("#scatter path.points");
        const [, at] = customer.getAttribute("d").match(/^M([-.\\d]+,[-.\\d]+)/);
        const place = new DOMPoint(...at.split(",").map(Number))
          .matrixTransform(document.querySelector("#scatter").getScreenCTM());
        document.body.dataset.said = JSON.stringify({
          segment, all, hovered, left, kept, pressed, after: bright().length,
          strip: tell(document.querySelector(strip), 5, 5),
          score: tell(document.querySelector("#k circle"), 5, 5),
          customer: tell(customer, place.x, place.y),
          nothing: tell(document.querySelector("h1"), 5, 5),
        });
        """,
    )  # fmt: skip
    found = json.loads(said(browse(tmp_path, copy, "--dump-dom").stdout))
    assert all(found["segment"] in segments.split() for segments in found["hovered"])
    # Points, centroid, three distributions, and the flow's bands and columns.
    assert len(found["hovered"]) >= 2 + 3 + 2
    assert found["left"] == found["after"] == found["all"] > found["kept"] == len(found["hovered"])
    assert found["pressed"] == "true"
    assert re.search(r": mean [\d,.]+", found["strip"])
    assert re.fullmatch(r"k = 2: 0\.\d+", found["score"])
    assert re.fullmatch(
        rf"{found['segment']}  .*\nrecency_days about [\d,.]+\nfrequency .*\nmonetary .*",
        found["customer"],
    )
    assert found["nothing"] == ""


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(page: Path, tmp_path: Path, width: int) -> None:
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"<meta http-equiv[^>]*>", text)
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<meta charset="utf-8"><iframe style="width:{width}px;height:900px;border:0" srcdoc="'
        f'{html.escape(text.replace(policy.group(), ""))}"></iframe>'
        "<script>addEventListener('load', () => {"
        "const root = document.querySelector('iframe').contentDocument.documentElement;"
        "document.body.dataset.said = root.clientWidth + ' ' + root.scrollWidth; });</script>",
        encoding="utf-8",
    )
    dom = browse(tmp_path, frame, "--window-size=1600,1000", "--dump-dom").stdout
    window, content = (int(part) for part in said(dom).split())
    assert content <= window == width


def test_the_page_prints_on_a4(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.pdf"
    browse(tmp_path, page, "--no-pdf-header-footer", f"--print-to-pdf={file}")
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", file.read_bytes())
    assert 4 <= len(boxes) <= 9
    # 210 x 297 mm in points.
    assert {(round(float(w)), round(float(h))) for w, h in boxes} == {(595, 842)}
