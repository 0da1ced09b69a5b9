"""Draw the README's picture of the report with a headless Chromium.

From the checkout's top folder:

    python examples/cdnow/load.py
    sqlkmeans run examples/cdnow/segmentation.toml
    sqlkmeans report examples/cdnow/segmentation.toml
    python examples/cdnow/picture.py cdnow.html docs/images/report.png
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image


def draw(page: str, picture: str) -> None:
    """Make a PNG of the top of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("a headless browser draws it: apt install chromium")
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--blink-settings=preferredColorScheme=1", "--window-size=1160,2390",
            f"--screenshot={Path(picture).resolve()}", Path(page).resolve().as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    # Few colours, and a quarter of the bytes; Pillow comes with matplotlib.
    with Image.open(picture) as image:
        image.convert("RGB").quantize(96).save(picture, optimize=True)
    print(f"{picture}: {Path(picture).stat().st_size:,} bytes")


if __name__ == "__main__":
    draw(sys.argv[1], sys.argv[2])
