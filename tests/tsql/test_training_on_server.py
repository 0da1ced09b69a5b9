"""Training in T-SQL alone on a live server, beside what Python makes of the same rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sqlkmeans import Segmentation, run
from sqlkmeans.database import open_database
from sqlkmeans.demo import make_customers as demo_customers
from sqlkmeans.errors import DatabaseError, DefinitionError
from sqlkmeans.external_script import run_segmentation
from support.embedded import hexadecimal
from support.tsql_files import read
from support.tsql_server import Server, make_customers, make_job, train

live = pytest.mark.sqlserver

RUN = "EXECUTE sqlkmeans.run_segmentation @segmentation = N'{}', @engine = N'tsql';"


def define(server: Server, name: str = "customers", **values: Any) -> None:
    given = {
        "@segmentation": name, "@source": "dbo.customer", "@key": "customer_id",
        "@features": "income, age", "@k": 3, "@n_init": 2, "@target": f"dbo.{name}_segment",
        **{f"@{key}": value for key, value in values.items()},
    }  # fmt: skip
    parameters = ", ".join(f"{key} = ?" for key in given)
    server.rows(f"EXECUTE sqlkmeans.define_segmentation {parameters};", *given.values())


def refill(server: Server, rows: list[tuple[int, float | None, float]]) -> None:
    """Put these customers in the place of all others: key, x, y."""
    server.rows("DROP TABLE IF EXISTS dbo.point;")
    server.rows("CREATE TABLE dbo.point (id int NOT NULL PRIMARY KEY, x float NULL, y float NULL);")
    values = ", ".join(f"({i}, {'NULL' if x is None else repr(x)}, {y!r})" for i, x, y in rows)
    server.rows(f"INSERT INTO dbo.point (id, x, y) VALUES {values};")


def same(ours: Any, theirs: Any, rel: float = 1e-9) -> bool:
    """Rows of texts, numbers and None, equal to rounding."""
    return len(ours) == len(theirs) and all(
        a == (pytest.approx(b, rel=rel) if isinstance(b, (int, float)) else b)
        for a, b in zip(ours, theirs)
    )


def result(server: Server, table: str, columns: str, name: str) -> list[tuple[Any, ...]]:
    return server.rows(
        f"SELECT {columns} FROM sqlkmeans.{table} WHERE run_id = (SELECT g.active_run_id "
        f"FROM sqlkmeans.segmentation AS g WHERE g.name = ?) ORDER BY {columns};", name
    )  # fmt: skip


# The same as the client


@live
def test_it_publishes_the_segments_that_the_client_publishes(server: Server) -> None:
    url = server.url.render_as_string(hide_password=False)
    demo = demo_customers(3_000)
    with open_database(url) as database:
        database.create_table("dbo.customer", demo, "customer_id")
        for name in ("here", "there"):
            define(server, name, k=5, n_init=10)
        done = server.rows(RUN.format("here"))[0]
        client = run(
            Segmentation.create(
                name="there", source="dbo.customer", key="customer_id", features=["income", "age"],
                k=5, target="dbo.there_segment",
            ),
            database,
        )  # fmt: skip
    assert done[1:] == (3_000, 0, 3_000, 0, 0, 3_000)
    differing = server.rows(
        "SELECT COUNT(*), SUM(CASE WHEN a.segment_id = b.segment_id THEN 0 ELSE 1 END), "
        "MAX(ABS(a.distance - b.distance)) FROM dbo.here_segment AS a "
        "INNER JOIN dbo.there_segment AS b ON b.customer_id = a.customer_id;"
    )[0]
    assert differing[:2] == (3_000, 0)
    assert differing[2] < 1e-9
    for table, columns in {
        "centroid": "segment_id, position, feature, value, scaled_value",
        "model_feature": "position, feature, source_column, type, weight, center, scale",
        "segment": "segment_id, name, name_source, description, size, share, within_ss",
        "segment_feature": "segment_id, position, mean, deviation, min, median, max, missing, "
                           "importance",
    }.items():  # fmt: skip
        if table == "segment_feature":
            columns = columns.replace("min", "[min]").replace("max", "[max]")
        ours, theirs = (result(server, table, columns, name) for name in ("here", "there"))
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert same(a, b), (table, a, b)
    scores = "inertia, davies_bouldin, calinski_harabasz, mean_distance, [rows], k"
    facts = server.rows(f"SELECT {scores} FROM sqlkmeans.run ORDER BY run_id;")
    assert facts[0] == pytest.approx(facts[1], rel=1e-9)
    assert client.inertia == pytest.approx(facts[0][0], rel=1e-9)
    engine = server.rows("SELECT engine, silhouette FROM sqlkmeans.run ORDER BY run_id;")[0]
    assert engine == ("tsql", None)
    bins = server.rows(
        "SELECT b.feature, SUM(b.customers), COUNT(*) FROM sqlkmeans.feature_bin AS b "
        "WHERE b.run_id = ? GROUP BY b.feature ORDER BY b.feature;", done[0]
    )  # fmt: skip
    assert [row[:2] for row in bins] == [("age", 3_000), ("income", 3_000)]
    assert all(9 <= row[2] <= 11 for row in bins)


@live
@pytest.mark.parametrize("weight", [None, "orders"])
def test_a_published_centroid_is_the_mean_of_its_customers(
    server: Server, weight: str | None
) -> None:
    """As SQL sees it; the groups overlap, so that passes over the rows between them are many."""
    with open_database(server.url.render_as_string(hide_password=False)) as database:
        database.create_table("dbo.customer", demo_customers(4_000), "customer_id")
    server.rows("ALTER TABLE dbo.customer ADD orders float NULL;")
    server.rows("UPDATE dbo.customer SET orders = customer_id % 5 / 2e0;")
    define(server, k=6, sample_weight=weight)
    server.rows(RUN.format("customers"))
    assert server.value("SELECT n_iter FROM sqlkmeans.run;") > 5
    w = weight or "1"
    for feature in ("income", "age"):
        far = server.value(
            "SELECT MAX(ABS(m.mean / c.value - 1)) FROM sqlkmeans.centroid AS c INNER JOIN ("
            f"SELECT s.segment_id, SUM(CAST({w} AS float) * t.{feature}) / SUM(CAST({w} AS float)) "
            "AS mean FROM dbo.customers_segment AS s INNER JOIN dbo.customer AS t "
            "ON t.customer_id = s.customer_id GROUP BY s.segment_id) AS m "
            "ON m.segment_id = c.segment_id WHERE c.feature = ?;", feature
        )  # fmt: skip
        assert far < 1e-9
    # And each is with the nearest of them.
    row = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert row[1:] == (4_000, 0, 0, 0, 0, 0)


# Every way of preparation

FEATURES = [
    # So heavy that every start finds the same three groups.
    {"column": "income", "weight": 40.0, "winsorize": [0.0, 0.97], "unit": "NOK"},
    {"column": "visits", "transform": "log1p"},
    {"column": "city", "type": "category", "min_frequency": 0.1, "max_categories": 2},
    {"column": "joined", "type": "date"},
]


def make_mixed(server: Server) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 240
    group = np.arange(n) * 6 // n
    frame = pd.DataFrame({
        "income": np.array([40, 40, 40, 90, 90, 160])[group] * 1000.0 + rng.normal(size=n) * 500,
        "visits": rng.integers(0, 40, n).astype(float),
        "city": rng.choice(["Oslo", "oslo", "Oslo ", "it's", "São Paulo"], n,
                           p=[0.3, 0.25, 0.2, 0.15, 0.1]),
        "joined": 19_000 + rng.integers(0, 1_500, n),
        "weight": rng.integers(0, 5, n) / 2,
    })  # fmt: skip
    frame.loc[[3, 70, 200], "visits"] = np.nan
    frame.loc[[3, 90], "city"] = None
    server.rows("CREATE TABLE dbo.mixed (id bigint NOT NULL PRIMARY KEY, income float NULL, "
                "visits float NULL, city nvarchar(40) NULL, joined date NULL, "
                "weight float NULL);")  # fmt: skip
    for i, row in enumerate(frame.itertuples(index=False), 1):
        visits = None if np.isnan(row.visits) else row.visits
        city = None if pd.isna(row.city) else row.city
        server.rows("INSERT INTO dbo.mixed VALUES (?, ?, ?, ?, "
                    "DATEADD(day, CAST(? AS int), CAST('19700101' AS date)), ?);",
                    i, row.income, visits, city, int(row.joined), row.weight)  # fmt: skip
    return frame


@live
@pytest.mark.parametrize(
    ("scaling", "missing", "weight"),
    [
        ("standard", "mean", "weight"), ("robust", "median", None), ("robust", "median", "weight"),
        ("minmax", "skip", None), ("none", "mean", "weight"), ("standard", "median", None),
    ],
)  # fmt: skip
def test_it_prepares_as_python_does(
    server: Server, scaling: str, missing: str, weight: str | None
) -> None:
    frame = make_mixed(server)
    features = FEATURES
    if scaling == "none":
        # What nothing scales decides by its range alone.
        features = [{**f, "weight": 1.0 if f["column"] == "income" else 1e-3} for f in FEATURES]
    define(
        server, "mixed", source="dbo.mixed", key="id", features=json.dumps(features),
        scaling=scaling, missing=missing, sample_weight=weight, winsorize="[0.02, 0.98]",
    )  # fmt: skip
    done = server.rows(RUN.format("mixed"))[0]
    day = server.value(
        "SELECT CONVERT(nvarchar(10), MAX(reference_date), 23) FROM sqlkmeans.model_feature;"
    )
    job = make_job(server, "mixed", 1, 0)
    job.update(reference_date=day, model_feature=[], centroid=[], segment=[], given=[])
    given = frame if weight else frame.drop(columns="weight")
    given = given.assign(city=given["city"].map(hexadecimal, na_action="ignore"))
    given = pd.concat([
        pd.DataFrame({"row_number": np.arange(1, len(frame) + 1, dtype=np.int32),
                      "previous": np.nan}), given], axis=1)  # fmt: skip
    labels, text = run_segmentation(given, json.dumps(job))
    publication = json.loads(text)
    assert "error" not in publication, publication
    assert done[1:3] == (len(labels), len(frame) - len(labels))
    names = "position, feature, transform, type, level, weight, center, scale, fill, low, high"
    ours = result(server, "model_feature", names, "mixed")
    wanted = publication["tables"]["model_feature"]
    assert len(ours) == len(wanted)
    for row, by_name in zip(ours, wanted):
        assert same(row, [by_name[n] for n in names.split(", ")]), (row, by_name)
    published = server.rows("SELECT id, segment_id, distance FROM dbo.mixed_segment ORDER BY id;")
    ids = np.array(publication["segment_ids"])
    assert [row[0] for row in published] == labels.iloc[:, 0].tolist()
    assert [row[1] for row in published] == ids[labels.iloc[:, 1]].tolist()
    assert [row[2] for row in published] == pytest.approx(labels.iloc[:, 2].tolist(), rel=1e-6)
    assert server.value("SELECT inertia FROM sqlkmeans.run;") == pytest.approx(
        publication["run"]["inertia"], rel=1e-9
    )
    size = "segment_id, size, within_ss"
    assert result(server, "segment", size, "mixed") == [
        pytest.approx((s["segment_id"], s["size"], s["within_ss"]), rel=1e-9)
        for s in sorted(publication["tables"]["segment"], key=lambda s: s["segment_id"])
    ]
    missing_bins = "position, bin, customers"
    counted = [row for row in result(server, "feature_bin", missing_bins, "mixed") if not row[1]]
    assert [row[2] for row in counted] == [0, 3, 2, 0]


@live
def test_of_what_python_gives_back_only_changes_are_staged(server: Server) -> None:
    if server.has("sys.sp_execute_external_script"):
        pytest.skip("this server runs Python itself")
    make_customers(server)
    server.rows("ALTER TABLE dbo.customer ADD visits int NOT NULL DEFAULT 3;")
    define(server, profile="visits")
    found = server.rows("SELECT income, age FROM dbo.customer ORDER BY customer_id;")
    given = pd.DataFrame(found, columns=["f1", "f2"], dtype="float64")
    given.insert(0, "now", np.nan)
    given.insert(0, "n", np.arange(1, len(found) + 1, dtype=np.int32))
    labels, publication = run_segmentation(given, json.dumps(make_job(server, "customers", 1, 0)))
    server.rows("CREATE TABLE dbo.python_label (n int, cluster int, distance float);")
    values = ", ".join(f"({n}, {c}, {d!r})" for n, c, d in labels.to_numpy().tolist())
    server.rows(f"INSERT INTO dbo.python_label VALUES {values};")
    server.rows("CREATE TABLE dbo.python_publication (content nvarchar(max));")
    server.rows("INSERT INTO dbo.python_publication VALUES (?);", publication)
    server.rows(
        "CREATE PROCEDURE dbo.stand_in_for_python @language nvarchar(20), @script nvarchar(max), "
        "@input_data_1 nvarchar(max), @params nvarchar(max), @job nvarchar(max), "
        "@publication nvarchar(max) OUTPUT AS BEGIN "
        "SELECT l.n, l.cluster, l.distance FROM dbo.python_label AS l; END;"
    )
    text = read("procedures/run_segmentation.sql")
    # Not every server gives a parameter back from INSERT … EXECUTE.
    given_back = (
        "SELECT JSON_MODIFY(p.content, ''$.model_run_id'', r.run_id) "
        "FROM dbo.python_publication AS p "
        "CROSS JOIN (SELECT MAX(a.run_id) AS run_id FROM sqlkmeans.run AS a) AS r"
    )
    stood_in = text.replace("sys.sp_execute_external_script", "dbo.stand_in_for_python")
    stood_in = stood_in.replace("VALUES (@publication)", given_back)
    run = "EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers';"
    try:
        server.script(stood_in)
        assert server.rows(run)[0][1:] == (120, 0, 120, 0, 0, 120)
        told = result(server, "segment_profile", "segment_id, source_column, mean", "customers")
        assert [tuple(row) for row in told] == [(i, "visits", 3.0) for i in range(4)]
        server.rows("UPDATE dbo.python_label SET distance = distance + 100 WHERE n <= 2;")
        assert server.rows(run)[0][1:] == (120, 0, 0, 0, 0, 2)
    finally:
        server.script(text)
    far = "SELECT COUNT(*) FROM dbo.customers_segment WHERE distance > 100;"
    assert server.value(far) == 2


# From run to run


@live
def test_ids_and_names_stay_and_the_run_is_compared(server: Server) -> None:
    make_customers(server)
    define(server)
    server.rows(RUN.format("customers"))
    names = dict(result(server, "segment", "segment_id, name", "customers"))
    server.rows("EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', "
                "@segment_id = 2, @name = N'the middle';")  # fmt: skip
    # The largest segment becomes the smallest, and a new group takes the place of none.
    server.rows("DELETE FROM dbo.customer WHERE income < 60000 "
                "AND customer_id % 6 <> 0;")  # fmt: skip
    server.rows(RUN.format("customers"))
    after = dict(result(server, "segment", "segment_id, name", "customers"))
    assert after == {**names, 2: "the middle"}
    assert server.rows("SELECT moved, departed FROM sqlkmeans.run ORDER BY run_id DESC;")[0] == (
        0, 50)  # fmt: skip
    facts = server.rows("SELECT compared_run_id, psi, centroid_shift, warnings FROM sqlkmeans.run "
                        "ORDER BY run_id DESC;")[0]  # fmt: skip
    assert facts[0] == server.run(1)
    assert facts[1] > 0.25
    assert facts[2] > 0
    warnings = json.loads(facts[3])
    assert any(text.startswith("age: drifted since run") for text in warnings), warnings


@live
def test_a_new_group_gets_a_new_id_and_a_retired_id_does_not_return(server: Server) -> None:
    make_customers(server)
    define(server)
    server.rows(RUN.format("customers"))
    server.rows("DELETE FROM dbo.customer WHERE income < 60000;")
    values = ", ".join(f"({n}, {400_000 + 10 * n}, {n % 5 + 80})" for n in range(1, 31))
    server.rows(f"INSERT INTO dbo.customer VALUES {values};")
    server.rows(RUN.format("customers"))
    assert [row[0] for row in result(server, "segment", "segment_id", "customers")] == [0, 2, 3, 4]
    assert server.value("SELECT last_segment_id FROM sqlkmeans.segmentation;") == 4
    assert server.value("SELECT COUNT(*) FROM dbo.customers_segment WHERE segment_id = 4;") == 30


@live
def test_it_goes_on_where_the_client_trained(server: Server) -> None:
    make_customers(server)
    define(server)
    train(server, "customers")
    row = server.rows(RUN.format("customers"))[0]
    assert row[1:] == (120, 0, 0, 0, 0, 0)
    assert server.value("SELECT psi FROM sqlkmeans.run WHERE run_id = ?;", row[0]) == 0


@live
def test_the_guard_refuses_and_nothing_changes(server: Server) -> None:
    make_customers(server)
    define(server, guard='{"action": "refuse"}')
    server.rows(RUN.format("customers"))
    before = server.rows("SELECT * FROM dbo.customers_segment ORDER BY customer_id;")
    server.rows("DELETE FROM dbo.customer WHERE customer_id % 4 <> 0;")
    message = server.error(RUN.format("customers"))
    assert "customers: 30, and 120 in run" in message
    assert server.rows("SELECT * FROM dbo.customers_segment ORDER BY customer_id;") == before
    _expect_nothing_left(server, 2)


@live
def test_levels_that_swap_their_places_are_compared_all_the_same(server: Server) -> None:
    make_customers(server)
    server.rows("ALTER TABLE dbo.customer ADD city nvarchar(20) NULL;")
    city = "UPDATE dbo.customer SET city = CASE WHEN customer_id % 10 < {} THEN {} ELSE {} END;"
    server.rows(city.format(7, "N'Oslo'", "N'oslo'"))
    features = json.dumps(["income", {"column": "city", "type": "category", "weight": 0.01}])
    define(server, features=features, guard='{"action": "refuse", "psi": 0.2}')
    server.rows(RUN.format("customers"))
    server.rows(city.format(4, "N'Oslo'", "N'oslo'"))
    # Not every server takes two signs for one here, as THROW does.
    message = server.error(RUN.format("customers")).replace("%%", "%")
    assert "city: drifted since run" in message
    assert "40% are Oslo, and 70% were" in message or "60% are oslo, and 30% were" in message
    assert "changed since run" not in message
    # Nobody moved, and who did would have been seen.
    define(server, features=features)
    row = server.rows(RUN.format("customers"))[0]
    assert row[4:6] == (0, 0)
    shift, warnings = server.rows(
        "SELECT centroid_shift, warnings FROM sqlkmeans.run WHERE run_id = ?;", row[0]
    )[0]
    assert shift is not None
    assert "changed since run" not in warnings


@live
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"winsorize": "[0.01, 0.99]"}, "winsorize changed"),
        ({"k": 2, "scaling": "robust"}, "scaling and k changed"),
        ({"features": '["income", {"column": "age", "winsorize": [0, 0.9]}]'}, "features changed"),
        ({"features": "age, income"}, "features changed"),
        ({"sample_weight": "customer_weight", "missing": "mean"},
         "missing and sample_weight changed"),
    ],
)  # fmt: skip
def test_what_the_definition_changes_is_named_and_movement_not_compared(
    server: Server, changes: dict[str, Any], says: str
) -> None:
    make_customers(server)
    server.rows("ALTER TABLE dbo.customer ADD customer_weight int NOT NULL DEFAULT (1);")
    define(server)
    server.rows(RUN.format("customers"))
    define(server, **changes)
    run_id = server.rows(RUN.format("customers"))[0][0]
    warnings = json.loads(
        server.value("SELECT warnings FROM sqlkmeans.run WHERE run_id = ?;", run_id)
    )
    assert any(text.startswith(f"{says} since run") for text in warnings), warnings
    drift = server.rows("SELECT feature, psi, mean, previous_mean FROM sqlkmeans.feature_drift "
                        "WHERE run_id = ? ORDER BY feature;", run_id)  # fmt: skip
    assert [row[0] for row in drift] == ["age", "income"]
    # The same rows, wherever their columns stand now.
    assert all(psi < 0.05 for _, psi, _, _ in drift)
    assert all(mean == pytest.approx(before, rel=0.02) for _, _, mean, before in drift)


@live
def test_a_centroid_that_moved_very_far_is_a_warning_and_no_overflow(server: Server) -> None:
    make_customers(server)
    define(server, scaling="none", features="income")
    server.rows(RUN.format("customers"))
    server.rows("UPDATE dbo.customer SET income = 300 * income;")
    run_id = server.rows(RUN.format("customers"))[0][0]
    warnings = server.value("SELECT warnings FROM sqlkmeans.run WHERE run_id = ?;", run_id)
    assert "its centroid moved by" in warnings


# Numbers


@live
@pytest.mark.parametrize(
    ("values", "deviation"),
    [([1e10 + n for n in range(1, 7)], 35**0.5 / 12**0.5), ([1e12 - 1e3, 1e12 + 1e3] * 3, 1e3)],
)
@pytest.mark.parametrize("scaling", ["standard", "none"])
def test_deviations_keep_their_digits_far_from_zero(
    server: Server, values: list[float], deviation: float, scaling: str
) -> None:
    server.rows("CREATE TABLE dbo.customer (customer_id int NOT NULL PRIMARY KEY, since float);")
    for n, value in enumerate(values):
        server.rows("INSERT INTO dbo.customer VALUES (?, ?);", n, value)
    define(server, features="since", k=2, scaling=scaling)
    server.rows(RUN.format("customers"))
    everyone = ("SELECT mean, deviation FROM sqlkmeans.segment_feature "
                "WHERE segment_id = 0 ORDER BY run_id DESC;")  # fmt: skip
    expected = (sum(values) / len(values), pytest.approx(deviation, rel=1e-6))
    assert server.rows(everyone)[0] == expected
    server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    assert server.rows(everyone)[0] == expected


@live
def test_a_tie_goes_to_the_lowest_segment_id_as_in_the_scoring_function(server: Server) -> None:
    # Those in the middle weigh nothing, so that they stay there.
    server.rows("CREATE TABLE dbo.customer (customer_id int NOT NULL PRIMARY KEY, income float, "
                "orders int);")  # fmt: skip
    values = [(n, 1.0, 1) if n < 20 else (n, 2.0, 0) if n < 24 else (n, 3.0, 1) for n in range(40)]
    server.rows(f"INSERT INTO dbo.customer VALUES {', '.join(map(str, values))};")
    define(server, features="income", k=2, scaling="none", sample_weight="orders")
    labels = (
        "SELECT income, MIN(segment_id), MAX(segment_id) FROM dbo.customers_segment AS s "
        "INNER JOIN dbo.customer AS c ON c.customer_id = s.customer_id GROUP BY income;"
    )
    for _ in range(2):
        server.rows(RUN.format("customers"))
        found = {row[0]: row[1:] for row in server.rows(labels)}
        assert found[2.0] == (1, 1)
        assert {found[1.0], found[3.0]} == {(1, 1), (2, 2)}
        row = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
        assert row[1:] == (40, 0, 0, 0, 0, 0)
        # The other way about, the lowest id is on the other side.
        server.rows("UPDATE dbo.customer SET income = 4 - income;")


@live
def test_levels_that_are_too_long_or_called_as_the_rest_join_it(server: Server) -> None:
    make_customers(server)
    server.rows("ALTER TABLE dbo.customer ADD city nvarchar(200) NULL;")
    server.rows("UPDATE dbo.customer SET city = CASE customer_id % 4 WHEN 0 THEN N'(other)' "
                "WHEN 1 THEN REPLICATE(N'x', 101) ELSE N'Oslo' END;")  # fmt: skip
    define(server, features='["income", {"column": "city", "type": "category"}]')
    server.rows(RUN.format("customers"))
    names = "feature, level"
    assert result(server, "model_feature", names, "customers") == [
        ("city = (other)", None), ("city = Oslo", "Oslo"), ("income", None)]  # fmt: skip
    shares = dict(server.rows(
        "SELECT feature, mean FROM sqlkmeans.segment_feature WHERE segment_id = 0;"))  # fmt: skip
    assert shares["city = (other)"] == pytest.approx(0.5)
    row = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert row[1:6] == (120, 0, 0, 0, 0)


# Keys


@live
@pytest.mark.parametrize(
    "key", ["row_number", "weight", "previous_segment_id", "sample_weight", "f1", "cluster id"]
)
def test_a_key_may_be_called_like_a_column_of_the_work(server: Server, key: str) -> None:
    server.rows(f"CREATE TABLE dbo.customer ([{key}] int NOT NULL PRIMARY KEY, income float, "
                "orders int);")  # fmt: skip
    values = ", ".join(f"({n}, {1000 * (n % 3) + n + 500}, {n % 2 + 1})" for n in range(1, 61))
    server.rows(f"INSERT INTO dbo.customer VALUES {values};")
    define(server, key=json.dumps([key]), features="income", sample_weight="orders")
    assert server.rows(RUN.format("customers"))[0][1:] == (60, 0, 60, 0, 0, 60)
    server.rows(f"DELETE FROM dbo.customer WHERE [{key}] = 5;")
    server.rows(f"UPDATE dbo.customer SET income = 2500 WHERE [{key}] = 3;")
    row = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert row[1:6] == (59, 0, 0, 1, 1)


@live
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("cluster", "cluster is a column of the segment table itself"),
        ("Departed", "Departed is a column of the segment table itself"),
        ("sqlkmeans change", "sqlkmeans change begins as columns of sqlkmeans itself do"),
    ],
)
def test_a_key_that_would_collide_is_refused(server: Server, key: str, says: str) -> None:
    server.rows(f"CREATE TABLE dbo.customer ([{key}] int NOT NULL PRIMARY KEY, income float);")
    with pytest.raises(Exception, match=says):
        define(server, key=json.dumps([key]), features="income")


@live
def test_keys_that_are_null_or_repeated_are_told_in_words(server: Server) -> None:
    server.rows("CREATE TABLE dbo.customer (shop nvarchar(10) NULL, customer_id int NULL, "
                "income float);")  # fmt: skip
    values = ", ".join(f"(N'a', {n}, {1000 * (n % 3) + n + 500})" for n in range(1, 31))
    server.rows(f"INSERT INTO dbo.customer VALUES {values};")
    define(server, key='["shop", "customer_id"]', features="income")
    server.rows(RUN.format("customers"))
    server.rows("INSERT INTO dbo.customer VALUES (N'a', 7, 1), (N'A', 7, 2), (N'b', 8, 3), "
                "(NULL, 9, 4), (NULL, NULL, 5);")  # fmt: skip
    repeats = server.value("SELECT SUM(g.n - 1) FROM (SELECT COUNT(*) AS n FROM dbo.customer "
                           "WHERE shop IS NOT NULL AND customer_id IS NOT NULL "
                           "GROUP BY shop, customer_id) AS g;")  # fmt: skip
    before = server.rows("SELECT * FROM dbo.customers_segment ORDER BY customer_id;")
    for statement in (
        RUN.format("customers"), "EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';"
    ):  # fmt: skip
        message = server.error(statement)
        assert "key shop, customer_id: 3 NULL; a key identifies a customer" in message
        assert (
            f"key shop, customer_id: not unique; {repeats} rows repeat the key of another "
            "(for example a, 7); aggregate in the source, or add a key column"
        ).lower() in message.lower()
        error = "SELECT error FROM sqlkmeans.run ORDER BY run_id DESC;"
        assert "3 NULL" in server.rows(error)[0][0]
    assert server.rows("SELECT * FROM dbo.customers_segment ORDER BY customer_id;") == before
    # As the client says it, number and all.
    number = server.value(
        "SET NOCOUNT ON; BEGIN TRY EXECUTE sqlkmeans.run_segmentation "
        "@segmentation = N'customers', @engine = N'tsql'; END TRY "
        "BEGIN CATCH SELECT ERROR_NUMBER(); END CATCH;"
    )
    assert number == 50003


# What goes wrong


@live
def test_bad_data_is_one_error_with_every_problem(server: Server) -> None:
    make_customers(server)
    server.rows("UPDATE dbo.customer SET age = 40, income = NULL WHERE customer_id % 2 = 0;")
    server.rows("UPDATE dbo.customer SET age = 40;")
    define(server)
    message = server.error(RUN.format("customers"))
    assert 'income: 60 rows are NULL and missing = "error"' in message
    assert "age: constant (40 in all 120 rows)" in message
    assert server.value("SELECT error FROM sqlkmeans.run;") in message
    _expect_nothing_left(server, 1)
    define(server, features="customer_number", source=(
        "SELECT c.customer_id, ROW_NUMBER() OVER (ORDER BY c.customer_id) AS customer_number "
        "FROM dbo.customer AS c"))  # fmt: skip
    assert "customer_number: like a key" in server.error(RUN.format("customers"))


@live
def test_k_has_to_be_a_number_that_the_rows_allow(server: Server) -> None:
    make_customers(server)
    define(server, k=None, k_min=2, k_max=4)
    message = server.error(RUN.format("customers"))
    words = (
        "k: auto given; allowed where T-SQL trains: a number, such as sqlkmeans choose-k recommends"
    )
    assert words in message
    # The client says the same, before it asks anything of the server.
    with pytest.raises(DefinitionError) as caught:
        Segmentation.create(
            name="customers", source="dbo.customer", key="customer_id", features=["income", "age"],
            k="auto", target="dbo.customer_segment", engine="tsql",
        )  # fmt: skip
    assert words in str(caught.value)
    server.rows("UPDATE dbo.customer SET income = CASE WHEN customer_id % 2 = 0 THEN 1 ELSE 2 END;")
    define(server, features="income")
    assert "k = 3 needs at least 3 customers that differ" in server.error(RUN.format("customers"))


@live
def test_more_features_than_a_row_holds_are_told_in_words(server: Server) -> None:
    server.rows("CREATE TABLE dbo.customer (customer_id int NOT NULL PRIMARY KEY, a int, b int, "
                "c int, d int, e int);")  # fmt: skip
    for start in range(0, 3000, 1000):
        values = ", ".join(
            f"({n}, {n % 101}, {n % 103}, {n % 107}, {n % 109}, {n % 113})"
            for n in range(start, start + 1000)
        )
        server.rows(f"INSERT INTO dbo.customer VALUES {values};")
    features = [
        {"column": c, "type": "category", "min_frequency": 0, "max_categories": 100}
        for c in "abcde"
    ]
    define(server, features=json.dumps(features))
    assert (
        "features: 505, each kept level of a category counted; allowed with @engine = N'tsql': 430"
    ) in server.error(RUN.format("customers"))


@live
def test_an_engine_that_is_none_is_refused_before_anything_happens(server: Server) -> None:
    make_customers(server)
    define(server)
    message = server.error(RUN.format("customers").replace("'tsql'", "'steam'"))
    assert "@engine: steam given; allowed: in_database, tsql" in message
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 0


@live
def test_what_a_killed_run_has_learnt_is_forgotten_by_the_next(server: Server) -> None:
    make_customers(server)
    define(server)
    server.rows("DECLARE @r bigint; EXECUTE sqlkmeans.start_run @segmentation = N'customers', "
                "@run_id = @r OUTPUT;")  # fmt: skip
    server.rows("INSERT INTO sqlkmeans.model_feature (run_id, position, feature, transform, "
                "weight, center, scale, source_column, type) VALUES "
                "(?, 1, N'income', N'none', 1, 0, 1, N'income', N'number');",
                server.run(1))  # fmt: skip
    server.rows(RUN.format("customers"))
    assert [row[0] for row in server.rows("SELECT status FROM sqlkmeans.run ORDER BY run_id;")] == [
        "failed", "published"]  # fmt: skip
    # The scoring function computes the same distances, to the last bit.
    scored = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert scored[1:] == (120, 0, 0, 0, 0, 0)
    _expect_nothing_left(server, 1)


@live
def test_rows_that_repeat_do_not_crowd_out_the_rare_ones(server: Server) -> None:
    server.rows("CREATE TABLE dbo.customer (customer_id int NOT NULL PRIMARY KEY, income float);")
    values = [f"({n}, {1 if n < 5990 else n % 2 + 2})" for n in range(6000)]
    for start in range(0, 6000, 1000):
        server.rows(f"INSERT INTO dbo.customer VALUES {', '.join(values[start : start + 1000])};")
    define(server, features="income")
    server.rows(RUN.format("customers"))
    assert result(server, "segment", "segment_id, size", "customers") == [
        (0, 6000), (1, 5990), (2, 5), (3, 5)]  # fmt: skip
    assert server.value("SELECT inertia FROM sqlkmeans.run;") == pytest.approx(0, abs=1e-12)


def _expect_nothing_left(server: Server, number: int) -> None:
    """Of a run that failed."""
    run_id = server.run(number)
    for table in ("model_feature", "centroid", "feature_bin", "segment", "segment_feature"):
        count = f"SELECT COUNT(*) FROM sqlkmeans.{table} WHERE run_id = ?;"
        assert server.value(count, run_id) == 0, table
    assert server.value("SELECT status FROM sqlkmeans.run WHERE run_id = ?;", run_id) == "failed"
    assert server.value(f"SELECT OBJECT_ID(N'sqlkmeans.staging_{run_id}');") is None


# Through the client


@live
def test_the_client_runs_it_and_says_what_it_made(server: Server) -> None:
    make_customers(server)
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", features=["income", "age"],
        k=3, n_init=2, target="dbo.customer_segment", engine="tsql",
    )  # fmt: skip
    with open_database(server.url.render_as_string(hide_password=False)) as database:
        database.catalog  # noqa: B018
        found = run(segmentation, database)
    assert (found.engine, found.rows, found.k) == ("tsql", 120, 3)
    assert [segment.size for segment in found.segments] == [60, 40, 20]
    definition = server.value("SELECT definition FROM sqlkmeans.segmentation;")
    assert json.loads(definition)["engine"] == "tsql"
    # The definition says so: no parameter is needed.
    row = server.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers';")[0]
    assert row[1:] == (120, 0, 0, 0, 0, 0)


def test_an_embedded_database_says_that_it_has_no_t_sql(duckdb_url: str) -> None:
    segmentation = Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", features=["income", "age"],
        k=3, target="dbo.customer_segment", engine="tsql",
    )  # fmt: skip
    with open_database(duckdb_url, create=True) as database:
        database.create_table("dbo.customer", demo_customers(100), "customer_id")
        with pytest.raises(DatabaseError, match='engine = "tsql" needs SQL Server; use "local"'):
            run(segmentation, database)


def test_training_holds_no_transaction_and_tells_how_far_it_is() -> None:
    passes = read("procedures/train_passes.sql")
    assert "WITH NOWAIT" in passes
    assert "SET n_iter = @n_iter" in passes
    for name in ("segmentation", "columns", "quantiles", "seed", "passes", "labels"):
        assert "BEGIN TRANSACTION" not in read(f"procedures/train_{name}.sql")


# What only some rows bring up


POINTS = {"source": "dbo.point", "key": "id", "n_init": 1}


@live
def test_two_new_centroids_as_near_to_an_earlier_one_get_different_ids(server: Server) -> None:
    refill(server, [(i, 0.5 if i < 10 else 10.0, i % 2 / 8) for i in range(20)])
    define(server, "near", features="x, y", k=2, scaling="none", **POINTS)
    server.rows(RUN.format("near"))
    # Nobody stays, so that centroids decide: 0 and 1 are as far from 0.5.
    refill(server, [(100 + i, (0.0, 1.0, 10.0)[i // 10], i % 2 / 8) for i in range(30)])
    define(server, "near", features="x, y", k=3, scaling="none", **POINTS)
    server.rows(RUN.format("near"))
    sizes = server.rows(
        "SELECT segment_id, COUNT(*) FROM dbo.near_segment GROUP BY segment_id ORDER BY segment_id;"
    )
    assert sizes == [(1, 10), (2, 10), (3, 10)]


@live
def test_a_column_that_gets_a_logarithm_had_a_centroid_that_has_none(server: Server) -> None:
    refill(server, [(i, -5.0 if i < 10 else 5.0, i % 5 / 8) for i in range(20)])
    define(server, "logs", features="x, y", k=2, scaling="none", **POINTS)
    server.rows(RUN.format("logs"))
    refill(server, [(100 + i, 0.5 if i < 10 else 50.0, i % 5 / 8) for i in range(20)])
    features = '[{"column": "x", "transform": "log1p"}, "y"]'
    define(server, "logs", features=features, k=2, scaling="none", **POINTS)
    server.rows(RUN.format("logs"))
    assert server.value("SELECT COUNT(DISTINCT segment_id) FROM dbo.logs_segment;") == 2


@live
def test_a_segment_that_lacks_a_feature_altogether_has_no_mean_of_it(server: Server) -> None:
    refill(server, [(i, None if i < 10 else i % 4 / 8, 0.0 if i < 10 else 90.0) for i in range(20)])
    define(server, "lacking", features="x, y", k=2, scaling="none", missing="mean", **POINTS)
    server.rows(RUN.format("lacking"))
    means = "segment_id, feature, mean, deviation, missing"
    found = [row for row in result(server, "segment_feature", means, "lacking") if row[4] == 10]
    assert sorted(row[1:] for row in found if row[0]) == [("x", None, None, 10)]
    server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'lacking', @medians = 1;")
