"""Scoring SQL: pinned as text, and executed against Python's own labels."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.database.duckdb.dialect import DuckDBDialect
from sqlkmeans.database.sqlserver.dialect import TSQL
from sqlkmeans.model import SegmentModel
from sqlkmeans.sqltext import quote
from sqlkmeans.tsql.expressions import number, own_expression
from sqlkmeans.tsql.scoring import (
    parameter_names,
    scoring_function,
    scoring_query,
    scoring_script,
)
from support.tsql_files import GOLDEN, GRAMMARS, check

DUCKDB = DuckDBDialect()


def make_model(
    columns: list[str],
    k: int = 5,
    missing: str = "mean",
    names: list[str] | None = None,
    seed: int = 0,
) -> SegmentModel:
    """A model with every kind of feature; ids have a gap, as after a retired segment."""
    rng = np.random.default_rng(seed)
    features = tuple(
        PreparedFeature(
            column,
            "log1p" if position % 2 else "none",
            1.0 + position,
            float(rng.normal()),
            float(rng.uniform(0.2, 3)),
            2.5 if missing in ("mean", "median") else None,
        )
        for position, column in enumerate(columns)
    )
    ids = (*range(1, k), k + 3)
    return SegmentModel(
        Preparation(features, "standard", missing),
        rng.normal(size=(k, len(columns))),
        ids,
        tuple(names or [f"name {i}" for i in ids]),
        tuple(rng.uniform(1, 3, k)),
    )


def score(model: SegmentModel, rows: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """What the scoring SQL says of rows, NaN where NULL."""
    table = pa.table(
        {name: pa.array(rows[:, j], from_pandas=True) for j, name in enumerate(model.columns)}
    )
    return score_table(model, table)


def score_table(model: SegmentModel, table: pa.Table) -> dict[str, npt.NDArray[np.float64]]:
    """The same of a table of the model's columns."""
    with duckdb.connect() as connection:
        connection.register("customer", table.append_column("n", pa.array(range(table.num_rows))))
        query = scoring_query(model, [f"s.{quote(name)}" for name in model.columns], DUCKDB)
        found = connection.execute(
            f"SELECT f.* FROM customer AS s {DUCKDB.apply} ({query}) AS f ORDER BY s.n"
        ).to_arrow_table()
    return {
        # A column of booleans with NULLs comes as Python's own objects.
        name: np.array(found[name].to_pylist(), dtype=np.float64)
        for name in ("segment_id", "distance", "runner_up_distance", "is_outlier")
    }


def test_scoring_gives_pythons_labels_and_distances_on_100_000_rows() -> None:
    model = make_model(["income", "orders", "Größe in cm"])
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(100_000, 3))
    rows[:, 1] = np.exp(rng.normal(2, 2, 100_000)) - 0.5
    rows[rng.random(rows.shape) < 0.02] = np.nan
    rows[:4, 1] = [0.0, 1e-18, -1e-9, 1e300]
    found = score(model, rows)
    distances = np.sort(model.transform(rows), axis=1)
    # Rows whose two nearest centroids are equally far to the last bits could go either way.
    clear = distances[:, 1] - distances[:, 0] > 1e-9 * distances[:, 1]
    assert clear.sum() > 99_990
    assert np.array_equal(found["segment_id"][clear], model.predict(rows)[clear])
    assert np.array_equal(found["is_outlier"] == 1, model.is_outlier(rows))
    assert 1_000 < np.nansum(found["is_outlier"]) < 99_000
    assert np.array_equal(np.isnan(found["is_outlier"]), np.isnan(found["segment_id"]))
    np.testing.assert_allclose(found["distance"], distances[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["runner_up_distance"], distances[:, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("missing", ["skip", "error"])
def test_a_missing_value_that_is_not_filled_in_gives_no_segment(missing: str) -> None:
    model = make_model(["a", "b"], missing=missing)
    rows = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0]])
    found = score(model, rows)
    assert np.isnan(found["segment_id"]).tolist() == [True, True, False]
    assert np.isnan(found["distance"]).tolist() == [True, True, False]
    assert model.predict(rows).tolist()[:2] == [0, 0]


def test_a_value_outside_the_domain_of_log1p_gives_no_segment_and_no_error() -> None:
    found = score(make_model(["a", "b"]), np.array([[0.0, -1.0], [0.0, -7.0], [0.0, -0.5]]))
    assert np.isnan(found["segment_id"]).tolist() == [True, True, False]


def test_the_lowest_segment_id_wins_a_tie() -> None:
    features = (PreparedFeature("a", "none", 1.0, 0.0, 1.0, None),)
    preparation = Preparation(features, "none", "error")
    model = SegmentModel(preparation, np.array([[1.0], [-1.0], [1.0]]), (7, 4, 2), ("x", "y", "z"))
    assert score(model, np.array([[0.0], [1.0]]))["segment_id"].tolist() == [2, 2]
    assert model.predict([[0.0], [1.0]]).tolist() == [2, 2]


@pytest.mark.parametrize(
    "x", [1e-300, 1e-17, 1e-16, 3e-16, 1e-12, 1e-9, 1e-5, 0.5, 1e6, 1e15, 1e300]
)
def test_the_logarithm_keeps_its_digits_near_zero(x: float) -> None:
    features = (PreparedFeature("a", "log1p", 1.0, 0.0, 1.0, None),)
    model = SegmentModel(
        Preparation(features, "none", "error"), np.array([[0.0], [-9.0]]), (1, 2), ("x", "y")
    )
    assert score(model, np.array([[x]]))["distance"][0] == pytest.approx(np.log1p(x), rel=1e-14)


# Categories, dates and quantiles

LEVELS = ["Oslo", "oslo", "Oslo ", "x'y", "", " ", "Tromsø", "東京", "a]b", "🚲", "1"]
TEXTS = [*LEVELS, "unseen", "OSLO", "Oslo  ", "Oslo.", None]
DAYS = st.dates(date(1900, 1, 1), date(2100, 12, 31))


def mixed_model(missing: str, *, other: bool, seed: int = 0, own_levels: int = 11) -> SegmentModel:
    """A number with quantiles, two dates (one with a logarithm) and a category."""
    rng = np.random.default_rng(seed)
    filled = missing in ("mean", "median")
    number_fill, age_fill = (900.0, 31.5) if filled else (None, None)
    levels: list[str | None] = [*LEVELS[:own_levels], *([None] if other else [])]
    features = (
        PreparedFeature("spend", "log1p", 2.0, 3.0, 1.5, number_fill, low=-0.5, high=700.25),
        PreparedFeature("last order", "none", 1.0, 300.0, 120.0, age_fill, "date",
                        reference_date="2026-11-23"),
        PreparedFeature("born", "log1p", 1.0, 9.0, 0.5, age_fill, "date",
                        low=0.0, high=30000.0, reference_date="2026-11-23"),
        *(
            PreparedFeature("city", "none", 1.5, 0.1, 0.9, float(not j) if filled else None,
                            "category", level)
            for j, level in enumerate(levels)
        ),
    )  # fmt: skip
    return SegmentModel(
        Preparation(features, "standard", missing),
        rng.normal(size=(4, len(features))),
        (1, 2, 3, 5),
        ("a", "b", "c", "d"),
    )


def mixed_table(rows: list[tuple[float | None, date | None, date | None, str | None]]) -> pa.Table:
    spend, last, born, city = zip(*rows)
    return pa.table(
        {
            "spend": pa.array(spend, pa.float64()),
            "last order": pa.array(last, pa.date32()),
            "born": pa.array(born, pa.date32()),
            "city": pa.array(city, pa.string()),
        }
    )


def agree(model: SegmentModel, table: pa.Table) -> None:
    """The text and predict say the same of every row."""
    found = score_table(model, table)
    frame = table.to_pandas()
    distances = np.sort(model.transform(frame), axis=1)
    np.testing.assert_allclose(found["distance"], distances[:, 0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found["runner_up_distance"], distances[:, 1], rtol=1e-12, atol=1e-12)
    clear = np.isnan(distances[:, 0]) | (distances[:, 1] - distances[:, 0] > 1e-9)
    assert clear.mean() > 0.9 or len(clear) < 50
    said = np.nan_to_num(found["segment_id"])
    assert np.array_equal(said[clear], model.predict(frame)[clear])


@pytest.mark.parametrize("missing", ["error", "skip", "mean", "median"])
@pytest.mark.parametrize("other", [False, True])
def test_categories_dates_and_quantiles_are_prepared_as_in_python(
    missing: str, other: bool
) -> None:
    rng = np.random.default_rng(2)
    spends = [None, -0.5, -0.7, -40.0, 0.0, 700.25, 700.26, 1e9, 12.5]
    days = [None, *(date(2026, 11, 23) + timedelta(int(d)) for d in rng.integers(-30_000, 900, 40))]
    rows = [
        (
            spends[rng.integers(len(spends))], days[rng.integers(len(days))],
            days[rng.integers(len(days))], TEXTS[rng.integers(len(TEXTS))],
        )
        for _ in range(4_000)
    ]  # fmt: skip
    agree(mixed_model(missing, other=other), mixed_table(rows))


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1e6, 1e12),
            st.none() | DAYS,
            st.none() | DAYS,
            st.none()
            | st.sampled_from(TEXTS)
            | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["skip", "mean"]),
    st.booleans(),
)
def test_any_mixed_row_gets_pythons_segment(rows: Any, missing: str, other: bool) -> None:
    model = mixed_model(missing, other=other, own_levels=5)
    agree(model, mixed_table(rows))


def test_an_unseen_level_counts_as_other_and_is_all_zeros_where_there_is_no_other() -> None:
    row = (1.0, date(2026, 1, 1), date(1980, 1, 1), "unseen")
    for other, expected in ((True, 1.0), (False, 0.0)):
        model = mixed_model("error", other=other)
        prepared = model.preparation.transform(
            *raw_rows(mixed_table([row]).to_pandas(), model.preparation.types)
        )
        assert model.preparation.inverse_transform(prepared)[0, -1] == pytest.approx(expected)
        agree(model, mixed_table([row]))


def test_t_sql_compares_a_level_by_its_characters_trailing_blanks_included() -> None:
    level = PreparedFeature("city", "none", 1.0, 0.0, 1.0, None, "category", "it's ")
    assert own_expression(level, "@city", TSQL) == (
        "CASE WHEN @city IS NULL THEN NULL "
        "WHEN (@city + N'.') COLLATE Latin1_General_100_BIN2 IN (N'it''s .') THEN 1e0 ELSE 0e0 END"
    )
    rest = PreparedFeature("city", "none", 1.0, 0.0, 1.0, 0.0, "category", None)
    assert own_expression(rest, "@city", TSQL, levels=["a", "b"]) == (
        "CASE WHEN @city IS NULL THEN 0.0e0 "
        "WHEN (@city + N'.') COLLATE Latin1_General_100_BIN2 IN (N'a.', N'b.') "
        "THEN 0e0 ELSE 1e0 END"
    )


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("it's", "N'it''s'"),
        ("", "N''"),
        ("a\nGO\nb", "N'a' + NCHAR(10) + N'GO' + NCHAR(10) + N'b'"),
        ("$(PATH)", "N'$' + N'(PATH)'"),
        ("$ (1) $", "N'$ (1) $'"),
        ("\r\0\x7f\x85\u2028", "N'' + NCHAR(13) + N'' + NCHAR(0) + N'' + NCHAR(127) + N'' + "
         "NCHAR(133) + N'' + NCHAR(8232) + N''"),
    ],
)  # fmt: skip
def test_a_t_sql_text_is_on_one_line_and_has_no_variable_of_sqlcmd(
    value: str, literal: str
) -> None:
    assert TSQL.literal(value) == literal


@given(st.text())
def test_any_text_comes_back_from_its_literal(value: str) -> None:
    literal = TSQL.literal(value)
    assert "$(" not in literal
    assert len(literal.splitlines()) == 1
    parts = re.findall(r"N'((?:[^']|'')*)'|NCHAR\((\d+)\)", literal)
    assert "".join(chr(int(code)) if code else part.replace("''", "'")
                   for part, code in parts) == value  # fmt: skip


HOSTILE = ["x\nGO\nDROP TABLE dbo.customer;\nGO\n", "$(PATH)", "a'b\r\nGO\r\n"]


def hostile_script() -> str:
    features = [PreparedFeature("city", "none", 1.0, 0.0, 1.0, None, "category", level)
                for level in HOSTILE]  # fmt: skip
    model = SegmentModel(Preparation(tuple(features), "none", "error"), np.eye(3), (1, 2, 3),
                         tuple(HOSTILE))  # fmt: skip
    return scoring_script("customers", model)


def test_a_line_go_inside_a_text_ends_no_batch_of_the_script() -> None:
    script = hostile_script()
    assert [line for line in script.splitlines() if line.strip().upper() == "GO"] == ["GO"] * 3
    assert "$(" not in script
    # The text as a naive literal has it: one line GO more than the script means to have.
    naive = script.replace(TSQL.literal(HOSTILE[0]), "N'" + HOSTILE[0] + "'", 1)
    assert sum(line == "GO" for line in naive.splitlines()) == 5


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_a_script_of_hostile_texts_is_sql(grammar: str) -> None:
    assert not check(hostile_script(), grammar)


def test_t_sql_ages_a_date_to_the_day_of_the_fit() -> None:
    born = PreparedFeature("born", "none", 1.0, 0.0, 1.0, 7.0, "date", reference_date="2026-11-23")
    assert own_expression(born, "@born", TSQL) == (
        "COALESCE(CAST(DATEDIFF(day, @born, CAST('2026-11-23' AS date)) AS float), 7.0e0)"
    )


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_script_of_mixed_features_has_one_typed_parameter_a_column(grammar: str) -> None:
    model = mixed_model("mean", other=True)
    text = scoring_script("customers", model)
    assert not check(text, grammar)
    head = text[text.index("CREATE FUNCTION") : text.index("RETURNS TABLE")]
    assert [line.strip(" ,") for line in head.splitlines()[2:-1]] == [
        "@spend float", "@feature_2 date", "@born date", "@city nvarchar(4000)",
    ]  # fmt: skip


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_the_same_float(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert "e" in text, "without an exponent T-SQL reads a decimal"


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), st.integers(2, 9))
def test_any_row_gets_pythons_segment(row: list[float], k: int) -> None:
    model = make_model(["a", "b"], k=k, seed=k)
    row[1] = abs(row[1])
    distances = np.sort(model.transform([row])[0])
    if distances[1] - distances[0] > 1e-9 * (1 + distances[1]):
        assert score(model, np.array([row]))["segment_id"][0] == model.predict([row])[0]


def test_parameters_are_named_after_the_columns_where_that_is_possible() -> None:
    names = parameter_names(
        ["income", "Income", "total spend", "größe", "2nd", "x]; DROP TABLE y--"]
    )
    assert names == [
        "@income",
        "@feature_2",
        "@feature_3",
        "@feature_4",
        "@feature_5",
        "@feature_6",
    ]


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("k", [2, 5, 300])
def test_the_script_is_sql_for_every_supported_server(k: int, grammar: str) -> None:
    names = [f"it's [segment] {i} -- % {{}} Ünïcode" for i in range(k)]
    model = make_model(["income", "My Table]]x]", "a'b", "line\nbreak", "*/ GO"], k=k, names=names)
    assert not check(scoring_script("customers", model), grammar)


def test_the_text_is_the_one_that_was_reviewed() -> None:
    features = (
        PreparedFeature("income", "log1p", 2.0, 10.5, 0.75, 50_000.0),
        PreparedFeature("age in years", "none", 1.0, 41.25, 12.5, None),
    )
    model = SegmentModel(
        Preparation(features, "standard", "skip"),
        np.array([[0.5, -1.25], [-0.125, 1e-7], [2.0, 3.0]]),
        (1, 2, 4),
        ("high income", "it's average", "older"),
        (1.5, 2.25, 1e-3),
    )
    check_golden("assign", model)


def check_golden(golden: str, model: SegmentModel) -> None:
    text = scoring_function("sqlkmeans.[assign_customers]", model)
    path = GOLDEN / f"{golden}.sql"
    if not path.exists():
        path.write_text(text, encoding="utf-8", newline="\n")
        pytest.fail(f"{path.name} was missing and has been written; review it")
    assert text == path.read_text(encoding="utf-8")


def test_the_text_of_mixed_features_is_the_one_that_was_reviewed() -> None:
    features = (
        PreparedFeature("spend", "log1p", 1.0, 3.5, 0.75, 12.5, low=0.5, high=900.0),
        PreparedFeature("city", "none", 1.0, 0.625, 0.5, 1.0, "category", "Oslo"),
        PreparedFeature("city", "none", 1.0, 0.25, 0.5, 0.0, "category", "it's"),
        PreparedFeature("city", "none", 1.0, 0.125, 0.5, 0.0, "category", None),
        PreparedFeature("last order", "none", 2.0, 180.0, 90.0, 150.0, "date", low=0.0,
                        high=720.0, reference_date="2026-11-23"),
    )  # fmt: skip
    model = SegmentModel(
        Preparation(features, "standard", "median"),
        np.array([[0.5, -1.25, 1.0, 0.0, 2.0], [-0.125, 1e-7, 0.5, -1.0, 0.25]]),
        (1, 2),
        ("lapsed", "home city mostly Oslo"),
    )
    check_golden("mixed", model)


def test_parameters_of_the_function_never_share_a_name() -> None:
    names = parameter_names(["feature_2", "a b", "Income", "income", "feature_9"])
    assert len({name.lower() for name in names}) == 5
