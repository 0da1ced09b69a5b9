"""Categories, dates, winsorising and row weights on a live server: definition, scoring, profile."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sqlkmeans import Segmentation
from sqlkmeans.external_script import run_segmentation
from sqlkmeans.tsql.scoring import scoring_function
from support.embedded import hexadecimal
from support.people import (
    CENTROIDS,
    DEFINE,
    FEATURES,
    UPPERS,
    bins_of,
    distances,
    make_people,
    own_values,
    population_stability,
    publish,
)
from support.tsql_files import read
from support.tsql_server import Server, load_model, make_job

pytestmark = pytest.mark.sqlserver


@pytest.fixture
def prepared(server: Server) -> tuple[Server, list[tuple[Any, ...]]]:
    rows = make_people(server)
    publish(server, rows)
    return server, rows


Prepared = tuple[Server, list[tuple[Any, ...]]]


def test_a_definition_with_every_key_is_the_one_that_python_writes(server: Server) -> None:
    make_people(server)
    server.rows(DEFINE)
    found = server.value("SELECT definition FROM sqlkmeans.segmentation;")
    wanted = Segmentation.create(
        name="people", source="dbo.person", key="person_id", k="auto", k_min=3, k_max=6,
        target="dbo.person_segment", missing="median", winsorize=[0.01, 0.99],
        sample_weight="orders", min_share=0.05, guard={"action": "refuse", "psi": 0.4},
        features=[
            {"column": "income", "transform": "log1p", "weight": 2, "winsorize": [0, 0.95],
             "unit": "1 000 €"},
            {"column": "home city", "type": "category", "min_frequency": 0.05,
             "max_categories": 3},
            {"column": "joined", "type": "date", "transform": "log1p"},
            {"column": "plan_code", "type": "category", "weight": 3},
        ],
    )  # fmt: skip
    assert json.loads(found) == json.loads(wanted.to_json())
    assert Segmentation.from_json(found) == wanted


def test_a_definition_with_no_more_than_it_needs_has_every_key_too(server: Server) -> None:
    make_people(server)
    server.rows("EXECUTE sqlkmeans.define_segmentation @segmentation = N'people', "
                "@source = N'dbo.person', @key = N'person_id', @features = N'income', @k = 3, "
                "@target = N'dbo.person_segment';")  # fmt: skip
    found = server.value("SELECT definition FROM sqlkmeans.segmentation;")
    wanted = Segmentation.create(
        name="people", source="dbo.person", key="person_id", k=3, features=["income"],
        target="dbo.person_segment",
    )  # fmt: skip
    assert json.loads(found) == json.loads(wanted.to_json())


def test_every_problem_of_the_new_keys_comes_at_once(server: Server) -> None:
    make_people(server)
    message = server.error(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'people', "
        "@source = N'dbo.person', @key = N'person_id', @target = N'dbo.t', @k_min = 5, "
        "@k_max = 3, @min_share = 0.5, @winsorize = N'[0.9, 0.1]', "
        "@guard = N'{\"action\": \"stop\", \"psi\": 0, \"moved\": \"0.5\", \"speed\": 1}', "
        "@sample_weight = N'joined', @features = ?;",
        json.dumps([
            "home city", "joined", {"column": "income", "type": "date"},
            {"column": "orders", "type": "colour", "winsorize": 0.5, "min_frequency": 2,
             "max_categories": 1, "weight": 0, "colour": "red", "unit": " \u0007"},
            {"column": "plan_code", "type": "category", "winsorize": [0.1, 0.2, 0.3], "unit": "€"},
        ]),
    )  # fmt: skip
    for problem in (
        "@k_min: 5 and @k_max: 3", "@min_share: 0.5", "@winsorize: [0.9, 0.1]",
        "@guard: action stop", "@guard: psi 0 ", "@guard: moved 0.5", "@guard: unknown key speed",
        "type colour of orders", "winsorize 0.5 of orders", "min_frequency 2 of orders",
        "unit of orders given; allowed: 1 to 20",
        "unit of plan_code given; allowed for number only",
        "max_categories 1 of orders", "weight 0 of orders", "unknown key colour",
        "winsorize [0.1, 0.2, 0.3] of plan_code", "transform or winsorize of plan_code",
        'home city is nvarchar; allowed: a number or a bit, or {"column": "home city", '
        '"type": "category"}',
        'joined is datetime2; allowed: a number or a bit, or {"column": "joined", "type": "date"}',
        "income is float; allowed for a date: date,", "sample_weight: joined is datetime2",
        "sample_weight: joined is a feature too",
    ):  # fmt: skip
        assert problem in message, problem
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 0


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("@k = 3, @k_min = 2", "either @k, or @k_min and @k_max"),
        ("@k_max = 5", "@k_min: NULL and @k_max: 5"),
        ("@k_min = 1, @k_max = 5", "@k_min: 1"),
        ("@min_share = 0.1", "@k: NULL"),
        ("@k = 3, @sample_weight = N'nobody'", "sample_weight: the source has no column nobody"),
        ("@k = 3, @sample_weight = N'person_id'", "sample_weight: person_id is the key too"),
        ("@k = 3, @guard = N'[1]'", "@guard: [1]"),
        ("@k = 3, @winsorize = N'0.01'", "@winsorize: 0.01"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(
    server: Server, parameters: str, problem: str
) -> None:
    if not server.has("dbo.person"):
        make_people(server)
    assert problem in server.error(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'people', "
        "@source = N'dbo.person', @key = N'person_id', @target = N'dbo.person_segment', "
        f"@features = N'income', {parameters};"
    )


def test_the_function_scores_categories_dates_and_outliers(prepared: Prepared) -> None:
    server, rows = prepared
    wanted = distances(rows)
    found = server.rows(
        "SELECT f.segment_id, f.segment_name, f.distance, f.runner_up_distance "
        "FROM dbo.person AS c CROSS APPLY "
        "sqlkmeans.assign_people(c.income, c.[home city], c.joined, c.plan_code) AS f "
        "ORDER BY c.person_id;"
    )
    assert [row[0] for row in found] == (wanted.argmin(axis=1) + 1).tolist()
    assert [row[1] for row in found] == [f"name {row[0]}" for row in found]
    ordered = np.sort(wanted, axis=1)
    np.testing.assert_allclose([row[2] for row in found], ordered[:, 0], rtol=1e-9)
    np.testing.assert_allclose([row[3] for row in found], ordered[:, 1], rtol=1e-9)
    assert len({row[0] for row in found}) > 1, "a test in which all are alike shows nothing"


def test_assigning_gives_the_same_labels_and_profiles_own_units(prepared: Prepared) -> None:
    server, rows = prepared
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")[0]
    assert run[1:3] == (len(rows), 0)
    labels = distances(rows).argmin(axis=1) + 1
    assert server.rows("SELECT person_id, segment_id FROM dbo.person_segment ORDER BY 1;") == [
        (row[0], label) for row, label in zip(rows, labels.tolist())]  # fmt: skip
    own = np.array([own_values(row) for row in rows])
    found = server.rows(
        "SELECT segment_id, position, feature, mean, deviation, [min], median, [max], missing "
        "FROM sqlkmeans.segment_feature WHERE run_id = ? ORDER BY segment_id, position;", run[0]
    )  # fmt: skip
    assert len(found) == (1 + len(set(labels.tolist()))) * len(FEATURES)
    for segment_id, position, name, *numbers, missing in found:
        values = own[labels == segment_id if segment_id else slice(None), position - 1]
        known = values[~np.isnan(values)]
        assert name == FEATURES[position - 1]["feature"]
        assert missing == np.isnan(values).sum()
        np.testing.assert_allclose(
            numbers,
            [known.mean(), known.std(), known.min(), np.median(known), known.max()],
            rtol=1e-9, atol=1e-9,
        )  # fmt: skip


def test_assigning_tells_what_drifted_since_the_fit(server: Server) -> None:
    rows = make_people(server)
    fitted = [row for row in rows if row[2] != "Oslo"]
    publish(server, rows, fitted)
    server.rows("UPDATE sqlkmeans.segmentation SET definition = REPLACE(definition, ?, ?);",
                '"action":"refuse"', '"action":"warn"')  # fmt: skip
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")[0]
    psi = {c: population_stability(bins_of(c, fitted), bins_of(c, rows)) for c in UPPERS}
    drift = server.rows(
        "SELECT feature, psi, missing_share, previous_missing_share, mean, previous_mean "
        "FROM sqlkmeans.feature_drift WHERE run_id = ? ORDER BY position;", run[0]
    )  # fmt: skip
    assert [row[0] for row in drift] == list(UPPERS)
    np.testing.assert_allclose([row[1] for row in drift], list(psi.values()), rtol=1e-9)
    shares = [[bins_of(c, part)[0] / len(part) for part in (rows, fitted)] for c in UPPERS]
    np.testing.assert_allclose([row[2:4] for row in drift], shares, rtol=1e-9)
    own = np.array([own_values(row) for row in rows])
    assert drift[0][4] == pytest.approx(np.nanmean(own[:, 0]))
    assert drift[1][4] is None
    assert psi["home city"] > 0.4 > psi["income"], "or the test shows nothing"
    found = server.rows("SELECT compared_run_id, psi, mean_distance, warnings FROM sqlkmeans.run "
                        "WHERE run_id = ?;", run[0])[0]  # fmt: skip
    assert found[0] == server.run(1)
    assert found[1] == pytest.approx(psi["home city"])
    assert found[2] == pytest.approx(distances(rows).min(axis=1).mean())
    was, now = (bins_of("home city", part)[2] / len(part) for part in (fitted, rows))
    assert json.loads(found[3]) == [
        f"a refit is due: home city: drifted since run {found[0]} (PSI {psi['home city']:.2f}, "
        f"allowed 0.4): {now:.0%} are Oslo, and {was:.0%} were"]  # fmt: skip
    assert server.rows("SELECT position, bin, customers FROM sqlkmeans.feature_bin "
                       "WHERE run_id = ? ORDER BY position, bin;", run[0]) == [
        (position, number, customers) for position, column in enumerate(UPPERS, 1)
        for number, customers in enumerate(bins_of(column, rows))]  # fmt: skip


def test_a_guard_that_refuses_leaves_the_labels_as_they_are(server: Server) -> None:
    rows = make_people(server)
    publish(server, rows, [row for row in rows if row[2] != "Oslo"])
    server.rows("DELETE FROM dbo.person WHERE person_id > 30;")
    message = server.error("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")
    assert "customers: 30, and 84 in run" in message
    assert "home city: drifted since run" in message
    assert "nothing was published" in message
    assert server.value("SELECT COUNT(*) FROM dbo.person_segment;") == len(rows)
    assert server.value("SELECT status FROM sqlkmeans.run WHERE run_id = ?;", server.run(2)
                        ) == "failed"  # fmt: skip


def test_without_a_fill_value_a_missing_category_or_date_gives_no_segment(
    prepared: Prepared,
) -> None:
    server, rows = prepared
    server.rows("UPDATE sqlkmeans.model_feature SET fill = NULL;")
    server.rows("UPDATE sqlkmeans.run SET definition = REPLACE(definition, ?, ?);",
                '"missing":"median"', '"missing":"skip"')  # fmt: skip
    server.rows("UPDATE sqlkmeans.segmentation SET definition = REPLACE(definition, ?, ?);",
                '"action":"refuse"', '"action":"warn"')  # fmt: skip
    whole = [row for row in rows if None not in row]
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")[0]
    assert run[1:3] == (len(whole), len(rows) - len(whole))
    labels = (distances(whole).argmin(axis=1) + 1).tolist()
    assert server.rows("SELECT person_id, segment_id FROM dbo.person_segment ORDER BY 1;") == [
        (row[0], label) for row, label in zip(whole, labels)]  # fmt: skip


@pytest.mark.parametrize("missing", ["median", "skip"])
def test_what_python_trained_is_scored_in_sql_as_python_predicts(
    server: Server, missing: str
) -> None:
    rows = make_people(server)
    # log1p has no value for a date to come.
    server.rows("UPDATE dbo.person SET joined = '20250101' WHERE joined > '20251231';")
    server.rows("UPDATE dbo.person SET income = -0.5 WHERE income < 0;")
    server.rows(DEFINE.replace("N'median'", f"N'{missing}'").replace('"refuse"', '"warn"')
                .replace("@k_min = 3, @k_max = 6", "@k = 3"))  # fmt: skip
    found = server.rows("SELECT income, [home city], joined, plan_code, orders FROM dbo.person "
                        "ORDER BY person_id;")  # fmt: skip
    people = pd.DataFrame(found, columns=["income", "home city", "joined", "plan_code", "orders"])
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'people', @run_id = @r OUTPUT; SELECT @r;"
    )
    sent = pd.DataFrame({"n": np.arange(1, len(rows) + 1), "now": np.nan})
    for number, expression in enumerate(
        ("CAST(income AS float)", "CAST([home city] AS nvarchar(101))",
         "CAST(DATEDIFF(day, '19700101', CAST(joined AS date)) AS float)",
         "CAST(plan_code AS nvarchar(101))", "CAST(orders AS float)"), 1
    ):  # fmt: skip
        values = [
            row[0]
            for row in server.rows(f"SELECT {expression} FROM dbo.person ORDER BY person_id;")
        ]
        sent[f"f{number}"] = [hexadecimal(v) if isinstance(v, str) else v for v in values]
    job = {**make_job(server, "people", run_id, 0), "reference_date": "2026-01-01"}
    labels, publication = run_segmentation(sent, json.dumps(job))
    assert "error" not in json.loads(publication), publication
    for row_number, cluster, distance in labels.itertuples(index=False):
        server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} (person_id, cluster, distance) VALUES "
                    f"({rows[row_number - 1][0]}, {cluster}, {float(distance)!r});")  # fmt: skip
    server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id, publication)

    model = load_model(server, "people")
    assert [f.type for f in model.preparation.features].count("category") > 4
    wanted = model.predict(people).tolist()
    assert len(set(wanted)) == 3 + (missing == "skip")
    scored = server.rows(
        "SELECT f.segment_id, f.distance FROM dbo.person AS c CROSS APPLY "
        "sqlkmeans.assign_people(c.income, c.[home city], c.joined, c.plan_code) AS f "
        "ORDER BY c.person_id;"
    )
    assert [row[0] or 0 for row in scored] == wanted
    server.rows(scoring_function("dbo.assign_by_client", model))
    by_client = server.rows(
        "SELECT f.segment_id, f.distance FROM dbo.person AS c CROSS APPLY "
        "dbo.assign_by_client(c.income, c.[home city], c.joined, c.plan_code) AS f "
        "ORDER BY c.person_id;"
    )
    assert [row[0] for row in by_client] == [row[0] for row in scored]
    known = [row[0] is not None for row in scored]
    np.testing.assert_allclose(
        [row[1] for row in scored if row[0]], model.transform(people)[known].min(axis=1), rtol=1e-9
    )
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")[0]
    assert run[1:6] == (sum(known), len(rows) - sum(known), 0, 0, 0), "Python's labels stay"
    profiles = server.rows(
        "SELECT f.feature, f.mean, f.median, f.deviation, t.mean, t.median, t.deviation "
        "FROM sqlkmeans.segment_feature AS f INNER JOIN sqlkmeans.segment_feature AS t "
        "ON t.run_id = ? AND t.segment_id = f.segment_id AND t.position = f.position "
        "WHERE f.run_id = ?;", run[0], run_id
    )  # fmt: skip
    assert len(profiles) == 4 * len(model.preparation.features)
    for _, *numbers in profiles:
        np.testing.assert_allclose(numbers[:3], numbers[3:], rtol=1e-9, atol=1e-9)


def test_features_that_are_not_the_models_are_not_assigned(prepared: Prepared) -> None:
    server, _ = prepared
    server.rows(
        DEFINE.replace('"column": "plan_code", "type": "category"', '"column": "plan_code"')
    )
    message = server.error("EXECUTE sqlkmeans.assign_segments @segmentation = N'people';")
    assert "the features are not those of the stored model" in message


def test_training_inside_sends_texts_days_and_weights(server: Server) -> None:
    """What Python gets, where a procedure with the contract of external scripts stands in."""
    if server.has("sys.sp_execute_external_script"):
        pytest.skip("this server runs Python itself")
    if server.value("SELECT CONVERT(varchar(10), CAST(N'Ł' AS varbinary(4)), 1);") != "0x4101":
        pytest.skip("this server does not write the bytes of a text as hexadecimal digits")
    rows = make_people(server)
    server.rows("UPDATE dbo.person SET [home city] = REPLICATE(N'x', 300) WHERE person_id = 1;")
    server.rows(DEFINE)
    server.rows("CREATE TABLE dbo.stand_in (job nvarchar(max));")
    server.rows(
        "CREATE PROCEDURE dbo.stand_in_for_python @language nvarchar(20), "
        "@script nvarchar(max), @input_data_1 nvarchar(max), @params nvarchar(max), "
        "@job nvarchar(max), @publication nvarchar(max) OUTPUT AS BEGIN "
        "INSERT INTO dbo.stand_in VALUES (@job); "
        "EXECUTE (N'SELECT q.* INTO dbo.stand_in_input FROM (' + @input_data_1 + N') AS q'); "
        "SELECT 1 AS row_number, 0 AS cluster, 0e0 AS distance WHERE 1 = 0; END;"
    )
    text = read("procedures/run_segmentation.sql")
    try:
        server.script(
            text.replace("sys.sp_execute_external_script", "dbo.stand_in_for_python")
            # What would undo the record of what was sent.
            .replace("ROLLBACK TRANSACTION", "COMMIT TRANSACTION")
        )
        message = server.error("EXECUTE sqlkmeans.run_segmentation @segmentation = N'people';")
    finally:
        server.script(text)
    assert "Python gave no publication back" in message
    job = json.loads(server.value("SELECT job FROM dbo.stand_in;"))
    today = server.value("SELECT CAST(SYSUTCDATETIME() AS date);")
    assert datetime.date.fromisoformat(job["reference_date"]) - today < datetime.timedelta(days=2)
    assert job["definition"]["k"] == "auto"
    found = server.rows("SELECT f1, f2, f3, f4, sample_weight FROM dbo.stand_in_input "
                        "ORDER BY row_number;")  # fmt: skip
    wanted = [
        (income, city and hexadecimal(city),
         joined and float((datetime.date.fromisoformat(joined[:10])
                           - datetime.date(1970, 1, 1)).days),
         None if plan is None else hexadecimal(str(plan)), float(orders))
        for _, income, city, joined, plan, orders in rows
    ]  # fmt: skip
    wanted[0] = (wanted[0][0], hexadecimal("x" * 101), *wanted[0][2:])
    assert found == wanted


def test_k_is_not_known_before_a_run_has_chosen_it(server: Server) -> None:
    rows = make_people(server)
    publish(server, rows)
    server.rows("SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
                "@segmentation = N'people', @run_id = @r OUTPUT;")  # fmt: skip
    assert server.rows("SELECT status, k FROM sqlkmeans.run_log ORDER BY run_id;") == [
        ("published", len(CENTROIDS)), ("running", None)]  # fmt: skip
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segment_summary;") == len(CENTROIDS)
