"""The documentation as a site: built without a warning, its notebook executed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sqlkmeans

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
pytest.importorskip("mkdocs_jupyter", reason="the extra docs is not installed")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / name / "index.html").read_text(encoding="utf-8")


def test_the_front_page_leads_to_the_tutorials(site: Path) -> None:
    text = page(site, ".")
    for name in ("csv", "dataframe", "sql-server", "features", "report"):
        assert f'href="tutorials/{name}/"' in text
    for promise in ("Ids that stay", "All or nothing", "No Launchpad needed", "The same answer"):
        assert promise in text


def test_the_notebook_is_executed(site: Path) -> None:
    text = page(site, "tutorials/dataframe")
    assert len(re.findall(r'<img[^>]*src="data:image/png', text)) == 2
    assert "Customer 100042 is in segment" in text
    # Every row gets from the model the label that it has.
    assert re.search(r"<pre>\[1 2 3\]\s*True\s*</pre>", text)


def test_everything_public_is_on_the_page_of_the_api(site: Path) -> None:
    text = page(site, "api")
    missing = [
        name
        for name in sqlkmeans.__all__
        if not name.startswith("_") and not re.search(rf'id="sqlkmeans\.[\w.]*\b{name}"', text)
    ]
    assert not missing
    assert not re.findall(r":(?:class|func|meth):", text)


def test_links_out_of_the_documentation_lead_to_files_of_the_repository(site: Path) -> None:
    found = {
        link
        for file in site.rglob("index.html")
        for link in re.findall(r"/sqlkmeans/blob/main/([^\"#]+)", file.read_text(encoding="utf-8"))
    }
    assert {"README.md", "examples/customers/scaling.py"} <= found
    assert all((ROOT / path).exists() for path in found)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]*src="https?:', text), file
        assert not re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="https?:', text), file
