"""SQL that explains a row: what Python says, and far from the server's limits."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.margin import margin_of
from sqlkmeans.clustering.describing.remedy import Steps, smallest_changes
from sqlkmeans.clustering.preparation.preparation import Preparation
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.database.sqlserver.dialect import TSQL
from sqlkmeans.model import SegmentModel
from sqlkmeans.tsql.explaining import explaining_function, explaining_script, fixed_text
from sqlkmeans.tsql.portable import explaining_macro
from support.expansion import LIMIT, largest_expression
from support.models import models, rows_of, wide_model
from support.tsql_files import GRAMMARS, check, read

TYPES = {"number": "double", "date": "date", "category": "varchar"}


def explained(
    model: SegmentModel, steps: dict[int, Steps], row: dict[str, Any]
) -> list[dict[str, Any]]:
    """What the macro says of a row; a row a feature."""
    values = ", ".join(f"CAST(? AS {TYPES[kind]})" for kind in model.preparation.types.values())
    with duckdb.connect() as connection:
        connection.execute(explaining_macro("customers", model, steps))
        found = connection.execute(
            f"SELECT * FROM explain_customers({values}) ORDER BY position",
            [row[c] for c in model.columns],
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, values)) for values in found.fetchall()]


def new_value(line: dict[str, Any]) -> Any:
    given = [line["new_value"], line["new_date"], line["new_level"]]
    return next((value for value in given if value is not None), None)


@settings(max_examples=15)
@given(models(), st.data())
def test_duckdb_says_what_python_says_and_the_change_scored_again_proves_it(
    given_model: tuple[SegmentModel, dict[int, Steps]], data: st.DataObject
) -> None:
    model, steps = given_model
    row = data.draw(rows_of(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a level that the model does not know
        raw, texts = raw_rows(pd.DataFrame([row], dtype=object), model.preparation.types)
        point = model.prepare(pd.DataFrame([row], dtype=object))[0]
    wanted = smallest_changes(model.preparation, model.centroids, raw[0], texts, steps)
    margin = margin_of(point, model.centroids)
    found = explained(model, steps, row)
    assert [line["feature"] for line in found] == model.preparation.names
    total = margin.contributions.sum()
    for line, change, part in zip(found, wanted, margin.contributions):
        assert line["segment_id"] == model.segment_ids[margin.own]
        assert line["runner_up_id"] == model.segment_ids[margin.runner_up]
        assert line["contribution"] == pytest.approx(part / total if total > 0 else 0.0, abs=1e-6)
        new = new_value(line)
        if change is None:
            assert (new, line["difference"], line["new_segment_id"]) == (None, None, None)
            continue
        if isinstance(new, date):
            new = new.isoformat()
        assert new == (change.value if isinstance(new, str) else pytest.approx(change.value))
        assert line["difference"] == pytest.approx(change.difference)
        assert line["new_segment_id"] == model.segment_ids[change.segment]
        assert line["new_segment_name"] == model.names[change.segment]
        feature = model.preparation.features[line["position"] - 1]
        then = pd.DataFrame([{**row, feature.column: new_value(line)}], dtype=object)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert model.predict(then)[0] == line["new_segment_id"] != line["segment_id"]


def test_a_row_without_a_segment_has_nothing_to_explain() -> None:
    model = wide_model(3, 2)
    assert len(explained(model, {}, {"f0": 20.0, "f1": None})) == 2
    unfilled = [replace(feature, fill=None) for feature in model.preparation.features]
    model = replace(model, preparation=Preparation(tuple(unfilled), "standard", "skip"))
    assert explained(model, {}, {"f0": 20.0, "f1": None}) == []
    assert len(explained(model, {}, {"f0": 20.0, "f1": 4.0})) == 2


def test_queries_of_a_with_are_written_out_where_they_are_named() -> None:
    text = "WITH q AS (SELECT a + b AS y FROM t) SELECT q.y + q.y FROM q"
    assert largest_expression(text) == 4


def test_the_procedure_writes_the_text_that_the_client_writes() -> None:
    procedure = read("procedures/explaining_text.sql").replace("''", "'")
    pieces = re.split(r"\{(?:own|changed|moved)\}", fixed_text(TSQL))
    assert len(pieces) == 4
    places = [procedure.index(f"N'{piece}'") for piece in pieces]
    assert places == sorted(places)


@pytest.mark.parametrize(("k", "n_features"), [(2, 2), (8, 50), (254, 50)])
def test_the_explaining_function_stays_under_half_of_the_limit(k: int, n_features: int) -> None:
    model = wide_model(k, n_features)
    text = explaining_function("sqlkmeans.[e]", "sqlkmeans.[a]", model, {})
    assert largest_expression(text) < LIMIT // 2


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_script_is_sql_for_every_supported_server(grammar: str) -> None:
    steps = {1: Steps(True), 2: Steps(True, 0.0, 1.0)}
    assert not check(explaining_script("it's [mine]\nGO", wide_model(5, 20), steps), grammar)
