"""What the columns of a source look like, and the definition that is proposed for it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError
from sqlkmeans.profiling import profile_columns
from sqlkmeans.proposal import definition_text, propose
from support.backends import Backend

N = 400


def people() -> pa.Table:
    """Customers with a column of every kind that a definition should leave out or prepare."""
    rng = np.random.default_rng(3)
    group = np.repeat([0, 1], [250, 150])
    age = np.where(group, 60.0, 30.0) + rng.normal(size=N)
    ages = [None if row % 20 == 0 else float(age[row].round(2)) for row in range(N)]
    joined = [date(2025, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 300, N)]
    return pa.table(
        {
            "loaded_at": joined,
            "customer_id": np.arange(5_000, 5_000 + N),
            "email": [f"someone.{row}@example.com" for row in range(N)],
            "age": pa.array(ages),
            "income": np.exp(rng.normal(10, 1.2, N)).round(2),
            "city": pa.array([None if row == 7 else "Oslo Bergen Bodo".split()[row % 3]
                              for row in range(N)]),
            "joined": joined[::-1],
            "member": group == 1,
            "also_member": group == 1,
            "postal_code": rng.integers(1_000, 1_300, N),
            "country": ["NO"] * N,
            "fax": pa.array(["1"] * 10 + [None] * (N - 10)),
            "note": [f"note {row % 60}" for row in range(N)],
        }
    )  # fmt: skip


@pytest.fixture
def source(backend: Backend) -> str:
    backend.make_table("dbo.customer", people(), "customer_id")
    return "dbo.customer"


def test_a_profile_says_what_numpy_says(database: Database, source: str) -> None:
    columns = {column.name: column for column in profile_columns(database, source)}
    income = people().column("income").to_numpy()
    found = columns["income"]
    assert (found.low, found.high, found.distinct) == (
        income.min(), income.max(), len(np.unique(income))
    )  # fmt: skip
    assert found.mean == pytest.approx(income.mean())
    assert found.deviation == pytest.approx(income.std())
    for values, skewness in ((income, found.skewness), (np.log1p(income), found.log_skewness)):
        centred = values - values.mean()
        assert skewness == pytest.approx((centred**3).mean() / values.std() ** 3, rel=1e-6)
    edges = np.linspace(income.min(), income.max(), 9)
    assert found.spread == tuple(np.histogram(income, edges)[0])
    assert not found.whole
    assert columns["postal_code"].whole
    assert (columns["age"].missing, columns["city"].missing) == (20, 1)
    assert columns["city"].levels[0] == "Oslo"
    assert columns["city"].spread == (134, 133, 132)
    assert columns["member"].mean == pytest.approx(150 / N)


def test_the_age_of_a_date_is_what_is_skewed(backend: Backend, database: Database) -> None:
    days = [date(2026, 1, 1) - timedelta(days=int(d)) for d in 2.0 ** np.arange(10)]
    backend.make_table("dbo.visit", pa.table({"id": np.arange(10), "last_visit": days}), "id")
    found = profile_columns(database, "dbo.visit")[1]
    assert found.skewness is not None
    assert found.log_skewness is not None
    assert found.skewness > 1 > abs(found.log_skewness)


def test_each_column_is_a_feature_or_left_out_with_a_reason(
    database: Database, source: str
) -> None:
    proposal = propose(database, source)
    assert proposal.key == ("customer_id",)
    assert [feature.to_definition() for feature in proposal.features] == [
        "age",
        {"column": "income", "transform": "log1p"},
        {"column": "city", "type": "category"},
        {"column": "joined", "type": "date"},
        "member",
    ]
    assert proposal.missing == "median"
    assert "age 5 %" in proposal.missing_why
    assert proposal.left_out == {
        "loaded_at": "named like the time a row was written",
        "email": "differs in every row",
        "also_member": "spreads exactly as member does",
        "postal_code": "named like a code",
        "country": "one value only",
        "fax": "98 % is missing",
        "note": "60 levels are too many; group them in a SELECT",
    }


def test_the_proposed_definition_runs_as_it_is(database: Database, source: str) -> None:
    values: dict[str, Any] = propose(database, source).to_definition("dbo.customer_segment")
    result = pipeline.run(Segmentation.create(name="customers", **values), database)
    assert result.rows == N


def test_a_key_that_is_given_is_taken(database: Database, source: str) -> None:
    proposal = propose(database, source, key=["email"])
    assert proposal.key == ("email",)
    assert "customer_id" in proposal.left_out
    with pytest.raises(DataError, match="key mail: no such column"):
        propose(database, source, key=["mail"])


def test_a_source_without_a_key_says_what_is_nearest_to_one(
    backend: Backend, database: Database
) -> None:
    orders = pa.table({"order_line": [1, 2, 3, 4], "customer_id": [1, 1, 2, 2], "n": [1, 2, 2, 1]})
    backend.make_table("dbo.line", orders, "order_line")
    query = "SELECT customer_id, n FROM dbo.line"
    with pytest.raises(DataError, match="the nearest is customer_id, 2 different values in 4 rows"):
        propose(database, query)


def test_a_source_without_a_feature_says_why_for_each_column(
    backend: Backend, database: Database
) -> None:
    rows = pa.table({"id": [1, 2, 3], "country": ["NO"] * 3})
    backend.make_table("dbo.empty", rows, "id")
    with pytest.raises(DataError) as caught:
        propose(database, "dbo.empty")
    assert caught.value.problems == [
        "source dbo.empty: no column can be a feature",
        "country: one value only",
    ]


def test_a_source_without_rows_is_refused(backend: Backend, database: Database) -> None:
    backend.make_table("dbo.none", people()[:0], "customer_id")
    with pytest.raises(DataError, match="it has no rows"):
        propose(database, "dbo.none")


def test_names_with_quotes_and_line_breaks_make_a_file_that_reads_back(
    backend: Backend, database: Database
) -> None:
    tomllib = pytest.importorskip("tomllib")
    name = 'a "quoted"\n[name]\\'
    backend.require_names(columns=[name])
    rows = pa.table({"id": [1, 2, 3, 4], name: [1.5, 2.0, 7.0, 9.0], "x\ty": ["NO\n", "b"] * 2})
    backend.make_table("dbo.odd", rows, "id")
    proposal = propose(database, "dbo.odd")
    text = definition_text(proposal, "odd", "dbo.odd_segment", "duckdb:///odd.duckdb", "a\nb")
    assert tomllib.loads(text)["segmentation"]["odd"]["features"] == [
        name, {"column": "x\ty", "type": "category"}
    ]  # fmt: skip
