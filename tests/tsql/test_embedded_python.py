"""The Python that runs inside the server, run as the server runs it."""

from __future__ import annotations

import ast
import json
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sqlkmeans import Segmentation, open_database
from sqlkmeans import run as run_client
from sqlkmeans.database.base import Database
from sqlkmeans.model import SegmentModel
from support.embedded import Outcome, external_script, make_job, make_rows, run

CALL = external_script("procedures/run_segmentation.sql")


def run_job(rows: pd.DataFrame, job: dict[str, Any]) -> Outcome:
    return run(CALL, rows, job=json.dumps(job))


@pytest.fixture(scope="module")
def first() -> Outcome:
    return run_job(make_rows(), make_job())


def test_the_script_is_three_lines_of_python_that_the_package_answers() -> None:
    assert CALL.language == "Python"
    lines = [line for line in CALL.script.splitlines() if line.strip()]
    assert len(lines) <= 3
    tree = ast.parse(CALL.script)
    assert any(isinstance(node, ast.ImportFrom) and node.module == "sqlkmeans.external_script"
               for node in ast.walk(tree))  # fmt: skip
    assert CALL.inputs == ("job",)
    assert CALL.outputs == ("publication",)


def test_no_key_is_sent_to_python() -> None:
    assert CALL.input_query.startswith(
        "SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id"
    )


def test_labels_come_back_by_row_number_with_types_that_the_server_takes(first: Outcome) -> None:
    assert list(first.labels.dtypes) == [np.dtype("int32"), np.dtype("int32"), np.dtype("float64")]
    assert sorted(first.labels.iloc[:, 0]) == list(range(1, 121))
    assert first.labels.iloc[:, 1].value_counts().sort_index().tolist() == [60, 40, 20]


def test_nothing_is_imported_that_a_server_does_not_have(first: Outcome) -> None:
    assert not first.modules & {"pyarrow", "pydantic", "sqlalchemy", "duckdb", "mssql_python"}


def test_the_publication_has_what_publish_run_asks_for(first: Outcome) -> None:
    publication = first.outputs["publication"]
    assert publication["segment_ids"] == [1, 2, 3]
    assert publication["model_run_id"] == 5
    assert publication["last_segment_id"] == 3
    assert publication["run"]["rows"] == 120
    assert publication["distance_tolerance"] > 0
    assert [row["segment_id"] for row in publication["tables"]["segment"]] == [0, 1, 2, 3]
    assert len(publication["tables"]["centroid"]) == 6


def test_limits_and_a_trim_are_those_of_the_client(duckdb_url: str) -> None:
    rows = make_rows()
    rows.loc[[3, 70], "f1"] = [900_000.0, -500_000.0]
    keys = {"outlier": 0.05, "trim": 0.02}
    embedded = run_job(rows, make_job(**keys)).outputs["publication"]
    with open_database(duckdb_url, create=True) as database:
        _load(database, rows)
        result = run_client(
            Segmentation.create(name="customers", source="dbo.customer", key="id", k=3,
                                features=["income", "age"], target="dbo.segment", **keys),
            database,
        )  # fmt: skip
        centroids = database.catalog.result("centroid", result.run_id)
    limits = {str(row["segment_id"]): row["outlier_distance"] for row in centroids}
    assert embedded["outlier_distances"] == pytest.approx(limits)
    assert embedded["run"]["outliers"] == result.outliers
    assert result.outliers
    assert [row["outliers"] for row in embedded["tables"]["segment"][1:]] == [
        segment.outliers for segment in result.segments
    ]
    assert {row["outlier_distance"] for row in embedded["tables"]["centroid"]} == set(
        embedded["outlier_distances"].values()
    )


def test_the_labels_and_the_model_are_those_of_the_client(first: Outcome, duckdb_url: str) -> None:
    rows = make_rows()
    with open_database(duckdb_url, create=True) as database:
        _load(database, rows)
        result = run_client(
            Segmentation.create(
                name="customers", source="dbo.customer", key="id", features=["income", "age"],
                k=3, target="dbo.segment",
            ),
            database,
        )  # fmt: skip
        centroid = database.catalog.result("centroid", result.run_id)
    publication = first.outputs["publication"]
    assert publication["run"]["inertia"] == pytest.approx(result.inertia, rel=1e-12)
    assert [row["scaled_value"] for row in publication["tables"]["centroid"]] == [
        row["scaled_value"] for row in centroid
    ]
    assert [row["name"] for row in publication["tables"]["segment"][1:]] == [
        segment.name for segment in result.segments
    ]


def _load(database: Database, rows: pd.DataFrame) -> None:
    import pyarrow as pa

    table = pa.table({"id": rows["row_number"], "income": rows["f1"], "age": rows["f2"]})
    database.create_table("dbo.customer", table, "id")


def test_ids_and_names_stay_with_their_customers_when_rows_come_in_another_order(
    first: Outcome,
) -> None:
    before = first.outputs["publication"]
    rows = make_rows()
    ids = np.asarray(before["segment_ids"], dtype=np.int32)
    labels = first.labels.sort_values("column0")["column1"].to_numpy()
    rows["previous_segment_id"] = ids[labels]
    rows = rows.iloc[40:].sample(frac=1, random_state=0)
    job = make_job()
    job.update(
        run_id=6,
        last_segment_id=before["last_segment_id"],
        model_feature=before["tables"]["model_feature"],
        centroid=before["tables"]["centroid"],
        segment=[
            {k: row[k] for k in ("segment_id", "name")} for row in before["tables"]["segment"]
        ],
        given=[{"segment_id": 2, "name": "the middle"}],
    )
    after = run_job(rows, job).outputs["publication"]
    # The first segment is now the smallest but one; its id is what it was.
    sizes = {row["segment_id"]: row["size"] for row in after["tables"]["segment"]}
    assert sizes == {0: 80, 1: 20, 2: 40, 3: 20}
    named = {
        row["segment_id"]: (row["name"], row["name_source"]) for row in after["tables"]["segment"]
    }
    assert named[2] == ("the middle", "given")
    assert named[1][0] == before["tables"]["segment"][1]["name"]
    assert after["last_segment_id"] == 3


@pytest.mark.parametrize("missing", ["skip", "mean"])
def test_a_column_with_a_null_comes_as_floats_and_is_prepared(missing: str) -> None:
    rows = make_rows()
    rows["f2"] = rows["f2"].astype("float64")
    rows.loc[3, "f2"] = np.nan
    outcome = run_job(rows, make_job(missing=missing))
    left_out = 1 if missing == "skip" else 0
    assert len(outcome.labels) == 120 - left_out
    assert outcome.outputs["publication"]["run"]["skipped"] == left_out
    assert (4 in outcome.labels.iloc[:, 0].tolist()) == (missing == "mean")


def test_bad_data_comes_back_as_every_problem_and_a_code_instead_of_a_traceback() -> None:
    rows = make_rows()
    rows["f1"] = 7.0
    rows["f2"] = rows["f2"].astype("float64")
    rows.loc[3, "f2"] = np.nan
    outcome = run_job(rows, make_job())
    error = outcome.outputs["publication"]["error"]
    assert error["code"] == 3
    assert [problem.split(":")[0] for problem in error["problems"]] == ["income", "age"]
    assert not len(outcome.labels)
    assert outcome.labels.shape[1] == 3


def test_a_mistake_of_ours_comes_back_as_one_sentence() -> None:
    outcome = run_job(make_rows().iloc[:, :3], make_job())
    error = outcome.outputs["publication"]["error"]
    assert error["code"] == 1
    assert error["problems"][0].startswith("ValueError: 3 columns came")


def test_no_rows_are_an_error_and_not_an_empty_publication() -> None:
    error = run_job(make_rows().iloc[:0], make_job()).outputs["publication"]["error"]
    assert error == {"code": 3, "problems": ["the source has no rows; nothing was changed"]}


@pytest.mark.parametrize(("low", "high"), [(2, 5), (5, 2)])
def test_a_tie_goes_to_the_lowest_segment_id_as_in_the_scoring_function(
    low: int, high: int
) -> None:
    # Those in the middle weigh nothing, so that they stay there.
    values = np.array([1.0] * 40 + [2.0] * 3 + [3.0] * 40)
    rows = pd.DataFrame({
        "row_number": np.arange(1, 84, dtype=np.int32),
        "previous_segment_id": np.where(values < 2, float(low), float(high)),
        "f1": values,
        "sample_weight": np.where(values == 2, 0.0, 1.0),
    })  # fmt: skip
    feature = {
        "position": 1, "feature": "income", "transform": "none", "weight": 1.0, "center": 0.0,
        "scale": 1.0, "fill": None, "source_column": "income", "type": "number", "level": None,
        "low": None, "high": None, "reference_date": None,
    }  # fmt: skip
    job = make_job(features=[{"column": "income"}], k=2, scaling="none", sample_weight="visits") | {
        "last_segment_id": 5,
        "model_feature": [feature],
        "centroid": [
            {"segment_id": low, "position": 1, "scaled_value": 1.0},
            {"segment_id": high, "position": 1, "scaled_value": 3.0},
        ],
    }
    outcome = run_job(rows, job)
    publication = outcome.outputs["publication"]
    clusters = outcome.labels.set_index("column0")["column1"]
    published = [publication["segment_ids"][clusters[n]] for n in range(1, 84)]
    model = SegmentModel.from_rows(
        publication["tables"]["model_feature"], publication["tables"]["centroid"], {},
        scaling="none", missing="error",
    )  # fmt: skip
    assert published == model.predict(values[:, None]).tolist()
    assert published == [low] * 40 + [2] * 3 + [high] * 40
    sizes = {row["segment_id"]: row["size"] for row in publication["tables"]["segment"]}
    assert sizes == {0: 83, 2: 43, 5: 40}


# Categories, dates and weights


def make_mixed_job(**changes: Any) -> dict[str, Any]:
    """Every key of a definition, as the registry keeps it."""
    features = [
        # So heavy that every start of every scikit-learn finds the same three groups.
        {"column": "income", "weight": 8.0},
        {"column": "city", "type": "category", "min_frequency": 0.1},
        {"column": "last_order", "type": "date", "transform": "log1p", "winsorize": [0.0, 1.0]},
    ]
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="id", features=features, k=3,
        target="dbo.segment", missing="mean", winsorize=[0.02, 0.98], sample_weight="visits",
        **changes,
    )  # fmt: skip
    return {**make_job(), "definition": json.loads(segmentation.to_json())}


def make_mixed_rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = make_rows()
    rows["f2"] = rng.choice(["Oslo", "oslo", "Bergen ", "rare"], 120, p=[0.5, 0.3, 0.17, 0.03])
    # So old on whatever day: two NumPys may round a logarithm differently, on some days only.
    today = datetime.now(timezone.utc).date() - date(1970, 1, 1)
    rows["f3"] = today.days - 780.0 + rng.integers(0, 700, 120)
    rows.loc[5, "f2"] = None
    rows.loc[6, "f3"] = np.nan
    rows["sample_weight"] = rng.integers(0, 4, 120).astype(np.int32)
    return rows


def test_categories_dates_and_weights_give_what_the_client_gives(duckdb_url: str) -> None:
    import pyarrow as pa

    rows = make_mixed_rows()
    today = datetime.now(timezone.utc).date().isoformat()
    outcome = run_job(rows, {**make_mixed_job(), "reference_date": today})
    publication = outcome.outputs["publication"]
    epoch = date(1970, 1, 1)
    days = [None if np.isnan(d) else epoch + timedelta(int(d)) for d in rows["f3"]]
    table = pa.table(
        {
            "id": rows["row_number"], "income": rows["f1"], "city": pa.array(rows["f2"]),
            "last_order": pa.array(days, pa.date32()), "visits": rows["sample_weight"],
        }
    )  # fmt: skip
    with open_database(duckdb_url, create=True) as database:
        database.create_table("dbo.customer", table, "id")
        definition = json.dumps(make_mixed_job()["definition"])
        result = run_client(Segmentation.from_json(definition), database)
        centroid = database.catalog.result("centroid", result.run_id)
        model_feature = database.catalog.result("model_feature", result.run_id)
    assert publication["run"]["inertia"] == pytest.approx(result.inertia, rel=1e-12)
    assert publication["run"]["warnings"] == result.warnings
    tables = publication["tables"]
    assert [row["feature"] for row in tables["model_feature"]] == [
        "income", "city = Oslo", "city = oslo", "city = Bergen ", "city = (other)", "last_order",
    ]  # fmt: skip
    assert [row["reference_date"] for row in tables["model_feature"]] == [*[None] * 5, today]
    for ours, theirs in zip(model_feature, tables["model_feature"]):
        assert {**ours, "run_id": None, "reference_date": None} == {
            **theirs, "run_id": None, "reference_date": None,
        }  # fmt: skip
    assert [row["scaled_value"] for row in tables["centroid"]] == pytest.approx(
        [row["scaled_value"] for row in centroid], rel=1e-12
    )


def test_dates_are_aged_on_todays_day_in_utc_unless_the_job_says_another() -> None:
    before = datetime.now(timezone.utc).date().isoformat()
    outcome = run_job(make_mixed_rows(), make_mixed_job())
    after = datetime.now(timezone.utc).date().isoformat()
    rows = outcome.outputs["publication"]["tables"]["model_feature"]
    assert before <= rows[-1]["reference_date"] <= after


def test_a_weight_column_that_is_missing_is_one_sentence() -> None:
    outcome = run_job(make_mixed_rows().iloc[:, :-1], make_mixed_job())
    error = outcome.outputs["publication"]["error"]
    assert "1 sample weight were expected" in error["problems"][0]


# The run before


def _with_compared_run(first: Outcome, **changes: Any) -> dict[str, Any]:
    """The job of the run after the first one, as the server has it in its tables."""
    publication = first.outputs["publication"]
    tables = publication["tables"]
    job = make_job(**changes)
    names = ("run_id", "rows", "k", "silhouette", "mean_distance")
    return {
        **job,
        "run_id": 6,
        "last_segment_id": 3,
        **{name: tables[name] for name in ("model_feature", "centroid", "segment", "feature_bin")},
        "segment": [row for row in tables["segment"] if row["segment_id"]],
        "segment_feature": [row for row in tables["segment_feature"] if not row["segment_id"]],
        "compared_run": {
            **{name: {**publication["run"], "run_id": 5}[name] for name in names},
            "definition": make_job()["definition"],
        },
    }


def _half_zero(first: Outcome) -> pd.DataFrame:
    rows = make_rows()
    rows["previous_segment_id"] = first.labels.sort_values(first.labels.columns[0]).iloc[:, 1] + 1.0
    rows.loc[::2, "f1"] = 0.0
    return rows


def test_rules_bins_and_silhouettes_come_with_the_publication(first: Outcome) -> None:
    tables = first.outputs["publication"]["tables"]
    rules = [row["rule"] for row in tables["segment"]]
    assert rules[0] is None
    assert all(rules[1:])
    assert [row["rule_coverage"] for row in tables["segment"][1:]] == [1.0, 1.0, 1.0]
    assert sum(row["customers"] for row in tables["feature_bin"] if row["feature"] == "age") == 120
    assert tables["feature_drift"] == []
    assert first.outputs["publication"]["run"]["mean_distance"] > 0


def test_a_run_is_compared_with_the_one_before(first: Outcome) -> None:
    publication = run_job(_half_zero(first), _with_compared_run(first)).outputs["publication"]
    run = publication["run"]
    assert run["compared_run_id"] == 5
    assert any(text.startswith("income: drifted since run 5 (PSI") for text in run["warnings"])
    drift = {row["feature"]: row["psi"] for row in publication["tables"]["feature_drift"]}
    assert drift["income"] == run["psi"] > 0.25
    assert drift["age"] == 0


def test_the_guard_refuses_inside_the_server_as_well(first: Outcome) -> None:
    job = _with_compared_run(first, guard={"action": "refuse"})
    error = run_job(_half_zero(first), job).outputs["publication"]["error"]
    assert error["code"] == 3
    assert error["problems"][0].startswith("income: drifted since run 5")


def test_k_auto_is_chosen_inside_the_server_as_outside() -> None:
    publication = run_job(make_rows(), make_job(k="auto", k_max=4)).outputs["publication"]
    assert publication["run"]["k"] == 3
    assert publication["run"]["recommendation"]["recommended_k"] == 3
    assert [(row["k"], row["recommended"]) for row in publication["tables"]["k_score"]] == [
        (2, False), (3, True), (4, False),
    ]  # fmt: skip


def test_a_segment_smaller_than_min_share_is_an_error_inside_the_server_too() -> None:
    error = run_job(make_rows(), make_job(min_share=0.3)).outputs["publication"]["error"]
    assert error["code"] == 3
    assert error["problems"][0].startswith("min_share = 0.3: with k = 3, a segment has 20 of 120")
