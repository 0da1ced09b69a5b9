"""The tutorials' customers, and what the pages say of them."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import duckdb
import numpy as np
import pandas as pd
import pytest

from sqlkmeans.cli.app import run_command

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``examples/customers/scaling.py``, which brings ``make.py`` along."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "customers"))
    for name in ("make", "scaling"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("scaling")


def test_the_csv_tutorial_shows_what_init_prints_and_run_finds(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = (TUTORIALS / "csv.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example.customers().to_csv("customers.csv", index=False)
    assert run_command(["init", "customers.csv"]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert all(line in text for line in shown)
    definition = Path("customers.toml").read_text(encoding="utf-8")
    written = '{ column = "revenue", transform = "log1p" },'
    assert written in definition
    with_unit = '{ column = "revenue", transform = "log1p", unit = "NOK" },'
    assert with_unit in text
    Path("customers.toml").write_text(definition.replace(written, with_unit), encoding="utf-8")
    assert run_command(["run", "customers.toml"]) == 0
    assert "revenue (NOK)" in capsys.readouterr().out
    assert run_command(["rename", "customers.toml", "1", "regulars"]) == 0
    capsys.readouterr()
    assert run_command(["explain", "customers.toml", "100042"]) == 0
    assert capsys.readouterr().out.startswith("Customer 100042 is in segment 3 (last order ")
    assert run_command(["explain", "customers.toml", "100003"]) == 0
    assert re.search(r"revenue [\d,]+ NOK \(", capsys.readouterr().out)
    with duckdb.connect("customers.duckdb") as database:
        found = database.sql("SELECT DISTINCT segment_name FROM customers_segment_named").fetchall()
    assert len(found) == 3
    assert ("regulars",) in found
    assert "(3 here)" in text
    assert run_command(["export", "customers.toml", "--to", "segments.csv"]) == 0
    assert len(pd.read_csv("segments.csv")) == 20_000


def told_apart(values: pd.Series, labels: pd.Series) -> float:
    """The share of a column's variance that lies between the segments."""
    within = values.groupby(labels).transform("mean")
    return float(((within - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def test_scales_do_what_the_page_and_its_picture_say(example: ModuleType) -> None:
    customers = example.customers().dropna(subset="age").reset_index(drop=True)
    customers["age"] = customers["age"].astype(float)
    none, standard, log1p, weighted = example.segmented(customers)

    def parts(result: object) -> tuple[float, float]:
        spent = np.log1p(customers["revenue"])
        return told_apart(customers["age"], result.labels), told_apart(spent, result.labels)

    # Without a scale revenue decides alone, and a weight lets age decide.
    ranges = customers.groupby(none.labels)["revenue"].agg(["min", "max"]).sort_values("min")
    assert (ranges["max"].to_numpy()[:-1] <= ranges["min"].to_numpy()[1:]).all()
    assert parts(none)[0] < 0.1
    assert parts(weighted)[0] > 0.85
    # The tail pulls: fewer customers have a segment of their own, and spend more.
    assert standard.segments["revenue (NOK)"].max() > 1.5 * log1p.segments["revenue (NOK)"].max()
    assert min(parts(log1p)) > 0.5
