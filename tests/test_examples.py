"""The examples do what their pages say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pytest

from sqlkmeans.cli.app import run_command
from support.cdnow import CDNOW, load_cdnow

pytest.importorskip("lifetimes", reason="the CDNOW data comes with the package lifetimes")


@pytest.fixture(scope="module")
def cdnow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cdnow.duckdb as load.py makes it."""
    folder = tmp_path_factory.mktemp("cdnow")
    load_cdnow(folder / "cdnow.duckdb")
    return folder


def run_cdnow(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> dict:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SQLKMEANS_URL", "cdnow.duckdb")
    capsys.readouterr()
    assert run_command(["run", str(CDNOW / "segmentation.toml"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_cdnow_has_the_published_number_of_customers_and_purchases(cdnow_folder: Path) -> None:
    with duckdb.connect(str(cdnow_folder / "cdnow.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT COUNT(*) FROM dbo.purchase").fetchone() == (69_659,)
        assert connection.execute("SELECT COUNT(*) FROM dbo.customer_rfm").fetchone() == (23_570,)


def test_every_cdnow_customer_is_accounted_for_and_the_readme_shows_the_result(
    cdnow_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    result = run_cdnow(cdnow_folder, monkeypatch, capsys)
    assert result["rows"] + result["skipped"] == 23_570
    assert sum(segment["size"] for segment in result["segments"]) == result["rows"]
    shown = re.findall(
        r"│ +(\d+) │ ([^│]+?) +│ +([\d,]+) │", (CDNOW / "README.md").read_text(encoding="utf-8")
    )
    assert shown == [
        (str(segment["segment_id"]), segment["name"], f"{segment['size']:,}")
        for segment in result["segments"]
    ]
    silhouette = result["scores"]["silhouette"]
    assert f"silhouette of {silhouette:.2f}" in (CDNOW / "README.md").read_text(encoding="utf-8")


def test_cdnow_segments_are_what_the_readme_says_of_them(
    cdnow_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_cdnow(cdnow_folder, monkeypatch, capsys)
    with duckdb.connect(str(cdnow_folder / "cdnow.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "SELECT AVG((frequency = 1)::int), SUM(monetary), COUNT(*) FROM dbo.customer_rfm "
            "JOIN dbo.cdnow_segment USING (customer_id) GROUP BY segment_id ORDER BY segment_id"
        ).fetchall()
    once, revenue, sizes = ([row[column] for row in rows] for column in range(3))
    assert sum(o * n for o, n in zip(once, sizes)) / sum(sizes) == pytest.approx(0.5, abs=0.01)
    assert once[0] > 0.95
    assert once[1] == pytest.approx(0.43, abs=0.005)
    assert sizes[3] / sum(sizes) == pytest.approx(0.1, abs=0.01)
    assert revenue[3] == max(revenue)
