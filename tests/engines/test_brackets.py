"""Quantiles by brackets, as a database with approximate quantiles finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database import open_database
from sqlkmeans.database.duckdb.dialect import DuckDBDialect
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.pushdown.quantiles import quantiles
from sqlkmeans.engines.pushdown.rows import KeptRows

SHARES = [0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]


class Bracketing(DuckDBDialect):
    """DuckDB, with a quantile that is one of the values as it is on Spark: at ``ceil(n share)``."""

    sorts_brackets = True

    def approximate_quantiles(self, value: str, shares: Sequence[float], error: float) -> list[str]:
        return [f"QUANTILE_DISC({value}, {share!r})" for share in shares]

    def value_at(self, value: str, place: str) -> str:
        known = f"LIST({value} ORDER BY {value}) FILTER (WHERE {value} IS NOT NULL)"
        return f"({known})[CAST({place} AS integer) + 1]"


@pytest.mark.parametrize("kind", ["all differ", "many alike", "some missing"])
@pytest.mark.parametrize("rows", [1, 2, 3, 20, 57, 100, 999, 30_000])
def test_a_quantile_by_its_bracket_is_the_exact_one(rows: int, kind: str) -> None:
    rng = np.random.default_rng(rows)
    values = rng.normal(size=rows).round(1 if kind == "many alike" else 9)
    known = np.ones(rows, bool)
    if kind == "some missing":
        known = rng.random(rows) < 0.6
        known[0] = True
    table = pa.table({"id": np.arange(rows), "x": pa.array(values, mask=~known)})
    segmentation = Segmentation.create(
        name="t", source="dbo.t", key="id", features=["x"], k=2, target="dbo.s", engine="pushdown"
    )
    feature = PreparedFeature("x", "none", 1.0, 0.0, 1.0, None)
    with open_database("duckdb:///:memory:", create=True) as database:
        database.create_table("dbo.t", table, "id")
        with database.open_workspace(segmentation) as workspace:
            workspace.dialect = Bracketing()
            kept = KeptRows(workspace, segmentation, ["x"])
            kept.take()
            found = quantiles(kept, [(feature, share) for share in SHARES])
    expected = [float(np.quantile(values[known], share)) for share in SHARES]
    assert [one[0] for one in found] == pytest.approx(expected, rel=1e-12, abs=1e-12)
