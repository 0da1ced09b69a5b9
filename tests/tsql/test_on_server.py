"""The T-SQL product on a live server, with nothing but a SQL client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from sqlkmeans import Segmentation
from sqlkmeans.database.sqlserver.script import install_script, uninstall_script
from sqlkmeans.external_script import run_segmentation
from support import sqlserver_server, tsql_files
from support.tsql_files import read
from support.tsql_server import (
    DEFINE,
    SIZES_AFTER,
    Rows,
    Server,
    load_model,
    make_customers,
    make_job,
    publish_changes,
    train,
)

pytestmark = pytest.mark.sqlserver


def test_installing_again_keeps_data_and_grants(trained: Server) -> None:
    before = trained.rows("SELECT run_id, status, [rows] FROM sqlkmeans.run;")
    trained.rows("GRANT EXECUTE ON sqlkmeans.purge TO sqlkmeans_operator;")
    objects = trained.objects()
    trained.script(install_script())
    assert trained.rows("SELECT run_id, status, [rows] FROM sqlkmeans.run;") == before
    assert trained.objects() == objects
    assert trained.value("SELECT COUNT(*) FROM sqlkmeans.segment_summary;") == 3


def test_every_object_of_the_build_order_is_there(server: Server) -> None:
    named = {
        tsql_files.object_name(name)
        for name in tsql_files.installed_order()
        if name.split("/")[0] in ("tables", "functions", "procedures", "views")
    }
    assert named <= server.objects()


def test_a_list_has_its_texts_as_they_were_before_xml(server: Server) -> None:
    # Where a server writes a control character in XML, it writes its number.
    written = ", a&#x01;b, c&#x0D;d&#x1F;, &lt;&amp;&gt;, &amp;#x02;, &amp;lt;, ｆ＆lt;"
    texts = ["a\x01b", "c\rd\x1f", "<&>", "&#x02;", "&lt;", "ｆ＆lt;"]
    assert server.value(f"SELECT sqlkmeans.joined(N'{written}', N', ');") == ", ".join(texts)
    assert server.value("SELECT sqlkmeans.joined(NULL, N', ');") == ""
    assert server.value("SELECT sqlkmeans.joined(N' a; b', N' ');") == "a; b"


@pytest.mark.parametrize("name", tsql_files.public_procedures())
def test_help_shows_the_signature_and_does_nothing(server: Server, name: str) -> None:
    made = tsql_files.object_name(name)
    shown = server.rows(f"EXECUTE sqlkmeans.{made} @help = 1;")
    assert [(row[0], row[1], row[2]) for row in shown] == [
        (p.name, p.type, p.default) for p in tsql_files.signature(name)
    ]
    assert all(row[3] for row in shown)
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 0


# The self-test needs nothing.
@pytest.mark.parametrize(
    "name", sorted(set(tsql_files.public_procedures()) - {"procedures/self_test.sql"})
)
def test_a_call_without_what_it_needs_is_one_error_that_names_it(server: Server, name: str) -> None:
    made = tsql_files.object_name(name)
    if made == "purge":
        message = server.error("EXECUTE sqlkmeans.purge @segmentation = N'nobody', @keep_days = 0;")
        assert "@segmentation: nobody" in message
        assert "@keep_days: 0" in message
    else:
        message = server.error(f"EXECUTE sqlkmeans.{made};")
        assert re.search(r"@\w+: ", message), message


def test_all_problems_of_a_definition_come_at_once_and_nothing_is_dropped(server: Server) -> None:
    make_customers(server)
    server.rows("CREATE TABLE dbo.y (id int NOT NULL PRIMARY KEY);")
    message = server.error(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'a b', @k = 1, "
        "@source = N'x]; DROP TABLE dbo.y--', @key = N'distance', @features = N'[5]', "
        "@target = N'a.b.c.d.e', @scaling = N'big', @missing = N'y', @n_init = 0, @seed = -1, "
        "@engine = N'steam', @language = N'my\tPython';"
    )
    for problem in ("@segmentation: a b", "@k: 1", "@scaling: big", "@missing: y", "@n_init: 0",
                    "@seed: -1", "@engine: steam", "@language: my", "source: x]; DROP TABLE "
                    "dbo.y--", "target: a.b.c.d.e", "key: distance"):  # fmt: skip
        assert problem in message
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 0
    assert server.value("SELECT COUNT(*) FROM dbo.y;") == 0


def test_a_profile_column_has_to_be_there_and_to_be_one_that_can_be_described(
    server: Server,
) -> None:
    make_customers(server)
    server.rows("ALTER TABLE dbo.customer ADD photo varbinary(10) NULL;")
    message = server.error(DEFINE.replace("@k = 3", "@k = 3, @profile = N'photo, age, town, town'"))
    for problem in ("profile: photo is varbinary, which is not described",
                    "profile: age is a key or a feature", "profile: the source has no column town",
                    "profile: town is named twice"):  # fmt: skip
        assert problem in message
    message = server.error(DEFINE.replace("@k = 3", "@k = 3, @profile = N'a,,b'"))
    assert "@profile: not a list" in message


@pytest.mark.parametrize(
    "source",
    [
        "x]; DROP TABLE dbo.y--",
        "dbo.customer; DROP TABLE dbo.y",
        "dbo.customer AS s; DROP TABLE dbo.y --",
        "SELECT customer_id, income, age FROM dbo.customer) AS s; DROP TABLE dbo.y --",
        "SELECT customer_id, income, age FROM dbo.customer; DROP TABLE dbo.y",
        "SELECT customer_id, income, age INTO dbo.z FROM dbo.customer",
        "DROP TABLE dbo.y",
        "'; DROP TABLE dbo.y --",
    ],
)
def test_a_source_that_is_more_than_one_relation_is_refused(server: Server, source: str) -> None:
    make_customers(server)
    server.rows("CREATE TABLE dbo.y (id int NOT NULL PRIMARY KEY);")
    server.error(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'customers', @source = ?, "
        "@key = N'customer_id', @features = N'income, age', @k = 3, "
        "@target = N'dbo.customer_segment';", source)  # fmt: skip
    assert server.value("SELECT COUNT(*) FROM dbo.y;") == 0
    assert server.value("SELECT OBJECT_ID(N'dbo.z');") is None


@pytest.mark.parametrize(
    ("changed_by", "problem"),
    [("version", "changed_by: the source has no column version"),
     ("SYS_CHANGE_VERSION", "changed_by: SYS_CHANGE_VERSION is Change Tracking of the source")],
)  # fmt: skip
def test_what_cannot_tell_changes_is_refused(server: Server, changed_by: str, problem: str) -> None:
    make_customers(server)
    define = DEFINE.replace("N'dbo.customer'", "N'SELECT * FROM dbo.customer'")
    assert problem in server.error(define.replace(";", f", @changed_by = N'{changed_by}';"))
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 0


def test_change_tracking_is_taken_where_it_is_on_for_the_table(server: Server) -> None:
    if not server.has("sys.change_tracking_tables"):
        pytest.skip("this server has no Change Tracking")
    make_customers(server)
    define = DEFINE.replace(";", ", @changed_by = N'SYS_CHANGE_VERSION';")
    message = server.error(define)
    assert "Change Tracking is off for [dbo].[customer]" in message
    turn_on = (
        "IF CHANGE_TRACKING_CURRENT_VERSION() IS NULL "
        + re.findall(r"ALTER DATABASE .*?\)", message)[0]
    )
    try:
        server.rows(turn_on)
    except Exception as error:
        pytest.skip(f"no Change Tracking here: {error}")
    server.rows(re.findall(r"ALTER TABLE .* ENABLE CHANGE_TRACKING", message)[0])
    server.rows(define)
    stored = json.loads(server.value("SELECT definition FROM sqlkmeans.segmentation;"))
    assert stored["changed_by"] == "SYS_CHANGE_VERSION"


def test_defining_without_executing_shows_and_changes_nothing(server: Server) -> None:
    make_customers(server)
    shown = server.rows(DEFINE.replace(";", ", @execute = 0;"))
    assert shown[0][1] == "would be registered"
    assert "[dbo].[customer_segment]" in shown[0][2]
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 0


def test_the_client_reads_what_was_defined_in_sql(server: Server) -> None:
    make_customers(server)
    server.rows(DEFINE)
    found = Segmentation.from_json(server.value("SELECT definition FROM sqlkmeans.segmentation;"))
    assert found == Segmentation.create(
        name="customers", source="dbo.customer", key="customer_id", k=3,
        features=["income", {"column": "age", "transform": "log1p", "weight": 2}],
        target="dbo.customer_segment", missing="mean",
    )  # fmt: skip


def test_skipped_rows_have_no_label_and_a_warning(trained: Server) -> None:
    trained.rows("UPDATE sqlkmeans.run SET definition = REPLACE(definition, ?, ?);",
                 '"missing":"mean"', '"missing":"skip"')  # fmt: skip
    trained.rows("UPDATE sqlkmeans.model_feature SET fill = NULL;")
    trained.rows("UPDATE dbo.customer SET age = NULL WHERE customer_id = 9007199254740993;")
    run = trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert run[1:6] == (119, 1, 0, 0, 1)
    assert json.loads(trained.value("SELECT warnings FROM sqlkmeans.run WHERE run_id = ?;",
                                    run[0])) == [
        "1 rows were skipped because a feature is missing"]  # fmt: skip


def test_a_first_run_labels_every_customer_under_its_own_key(trained: Server) -> None:
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120
    assert trained.value(
        "SELECT COUNT(*) FROM dbo.customer_segment AS t "
        "INNER JOIN dbo.customer AS c ON c.customer_id = t.customer_id;") == 120  # fmt: skip
    sizes = trained.rows(
        "SELECT segment_id, size FROM sqlkmeans.segment_summary ORDER BY segment_id;"
    )
    assert sizes == [(1, 60), (2, 40), (3, 20)]
    assert trained.rows("SELECT status, changed, arrived, written FROM sqlkmeans.run;") == [
        ("published", 120, 120, 120)]  # fmt: skip


def test_training_again_writes_nothing(trained: Server) -> None:
    train(trained, "customers")
    assert trained.rows("SELECT changed, written FROM sqlkmeans.run ORDER BY run_id;") == [
        (120, 120),
        (0, 0),
    ]
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment_history;") == 120


def test_the_function_gives_pythons_answer_for_every_row(trained: Server) -> None:
    trained.rows("INSERT INTO dbo.customer VALUES (1, NULL, 30), (2, 100000, NULL), (3, 1e9, 0);")
    found = trained.rows(
        "SELECT c.income, c.age, f.segment_id, f.segment_name, f.distance, f.runner_up_distance "
        "FROM dbo.customer AS c CROSS APPLY sqlkmeans.assign_customers(c.income, c.age) AS f;"
    )
    model = load_model(trained, "customers")
    raw = np.array([[np.nan if v is None else v for v in row[:2]] for row in found], dtype=float)
    assert [row[2] for row in found] == model.predict(raw).tolist()
    names = dict(zip(model.segment_ids, model.names))
    assert [row[3] for row in found] == [names[row[2]] for row in found]
    distances = np.sort(model.transform(raw), axis=1)
    np.testing.assert_allclose([row[4] for row in found], distances[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([row[5] for row in found], distances[:, 1], rtol=1e-9)


def test_assigning_labels_new_changed_and_departed_customers(trained: Server) -> None:
    trained.rows("INSERT INTO dbo.customer VALUES (7, 161000, 61);")
    trained.rows(
        "UPDATE dbo.customer SET income = 160000, age = 62 WHERE customer_id = 9007199254740993;"
    )
    trained.rows("DELETE FROM dbo.customer WHERE customer_id = 9007199254740994;")
    run = trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert run[1:6] == (120, 0, 1, 1, 1)
    assert trained.rows(
        "SELECT customer_id, segment_id FROM dbo.customer_segment WHERE customer_id IN "
        "(7, 9007199254740993, 9007199254740994) ORDER BY customer_id;"
    ) == [(7, 3), (9007199254740993, 3)]
    history = trained.rows(
        "SELECT segment_id, CASE WHEN valid_to IS NULL THEN 1 ELSE 0 END "
        "FROM dbo.customer_segment_history WHERE customer_id = 9007199254740993 "
        "ORDER BY valid_from;"
    )
    assert history == [(1, 0), (3, 1)]
    moved = trained.rows(
        "SELECT from_segment_id, to_segment_id, customers FROM sqlkmeans.segment_movement "
        "WHERE segmentation = N'customers' AND from_run_id = ? AND to_run_id = ?;",
        trained.run(1),
        trained.run(2),
    )
    assert set(moved) == {(1, 1, 58), (2, 2, 40), (3, 3, 20), (1, 3, 1), (1, None, 1), (None, 3, 1)}
    assert sum(row[2] for row in moved) == 121


def test_assigning_again_changes_nothing(trained: Server) -> None:
    trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    run = trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert run[3:] == (0, 0, 0, 0)


def test_assigning_an_empty_source_is_refused_and_everybody_keeps_the_label(
    trained: Server,
) -> None:
    trained.rows("DELETE FROM dbo.customer;")
    message = trained.error("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    assert "source: no row that can be labelled; nothing was changed" in message
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120


def test_rolling_back_brings_back_labels_and_is_a_run_of_its_own(trained: Server) -> None:
    before = trained.rows("SELECT customer_id, segment_id FROM dbo.customer_segment ORDER BY 1;")
    trained.rows("UPDATE dbo.customer SET income = 160000, age = 62 WHERE income < 60000;")
    trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    assert (
        trained.rows("SELECT customer_id, segment_id FROM dbo.customer_segment ORDER BY 1;")
        != before
    )
    run = trained.rows("EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'customers';")[0]
    assert run[:4] == (trained.run(3), trained.run(1), 0, 60)
    assert (
        trained.rows("SELECT customer_id, segment_id FROM dbo.customer_segment ORDER BY 1;")
        == before
    )
    message = trained.error("EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'customers';")
    assert "no published run before" in message


def test_a_name_that_is_given_reaches_views_function_and_later_runs(trained: Server) -> None:
    trained.rows("EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', @segment_id = 3, "
                 "@name = N'Größte O''Hara';")  # fmt: skip
    train(trained, "customers")
    assert trained.value("SELECT f.segment_name FROM sqlkmeans.assign_customers(160000, 62) AS f;"
                         ) == "Größte O'Hara"  # fmt: skip
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment_named "
                         "WHERE segment_name = N'Größte O''Hara';") == 20  # fmt: skip
    assert "segment 3" in trained.error(
        "EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', @segment_id = 1, "
        "@name = N'Größte O''Hara';")  # fmt: skip


def test_a_second_session_is_kept_out_at_once(trained: Server) -> None:
    other = sqlserver_server.connect(trained.url)
    sqlserver_server.rows(
        other, "EXECUTE sqlkmeans.lock_segmentation @segmentation = N'customers';"
    )
    message = trained.error("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    assert "is being run already; nothing was changed" in message
    sqlserver_server.rows(
        other, "EXECUTE sqlkmeans.unlock_segmentation @segmentation = N'customers';"
    )
    trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    other.close()


def test_a_run_that_failed_says_why_and_leaves_no_staging_and_no_lock(trained: Server) -> None:
    trained.rows(
        "UPDATE sqlkmeans.run SET definition = REPLACE(definition, ?, ?);",
        '"missing":"mean"', '"missing":"error"')  # fmt: skip
    trained.rows("UPDATE sqlkmeans.model_feature SET fill = NULL;")
    trained.rows("INSERT INTO dbo.customer VALUES (1, NULL, 30);")
    assert "1 rows have a NULL" in trained.error(
        "EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';"
    )
    row = trained.rows(
        "SELECT status, error FROM sqlkmeans.run_log WHERE run_id = ?;", trained.run(2)
    )[0]
    assert row[0] == "failed"
    assert "NULL" in row[1]
    assert not [name for name in trained.objects() if name.startswith("staging_")]
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120
    other = sqlserver_server.connect(trained.url)
    sqlserver_server.rows(
        other, "EXECUTE sqlkmeans.lock_segmentation @segmentation = N'customers';"
    )
    other.close()


def test_parts_are_made_again_beside_any_key(server: Server) -> None:
    server.rows("CREATE TABLE dbo.tried ([attempt] int NOT NULL PRIMARY KEY, income float);")
    server.rows("EXECUTE sqlkmeans.define_segmentation @segmentation = N'tried', @source = "
                "N'dbo.tried', @key = N'attempt', @k = 2, @features = N'income', "
                "@target = N'dbo.tried_segment';")  # fmt: skip
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'tried', @run_id = @r OUTPUT; SELECT @r;"
    )
    parts = f"sqlkmeans.staging_{run_id}_parts"
    for _ in range(2):
        server.rows("EXECUTE sqlkmeans.create_parts @run_id = ?;", run_id)
        assert server.value(f"SELECT COUNT(*) FROM {parts};") == 0
        server.rows(f"INSERT INTO {parts} VALUES (7, 0, 0.5, 1);")


def test_labels_that_did_not_all_arrive_are_not_published(trained: Server) -> None:
    run_id = trained.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'customers', @kind = N'assign', @run_id = @r OUTPUT; SELECT @r;"
    )
    trained.rows(f"INSERT INTO sqlkmeans.staging_{run_id} VALUES (1, 0, 0.5, 0, NULL);")
    message = trained.error(
        "EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;",
        run_id,
        json.dumps({"segment_ids": [1], "model_run_id": run_id, "last_segment_id": 3,
                    "distance_tolerance": 0, "run": {"rows": 2}}),
    )  # fmt: skip
    assert "2 labels were sent and 1 arrived" in message
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120
    train(trained, "customers")
    assert trained.value("SELECT error FROM sqlkmeans.run WHERE run_id = ?;", run_id).startswith(
        "interrupted")  # fmt: skip


def test_the_history_is_closed_whatever_somebody_did_to_its_times(trained: Server) -> None:
    """One customer moves whose row begins at another time; one comes back whose label was lost."""
    labels = "SELECT customer_id, segment_id FROM dbo.customer_segment"
    before = dict(trained.rows(labels + ";"))
    moved = next(customer for customer, segment_id in before.items() if segment_id == 1)
    lost = next(customer for customer, segment_id in before.items() if segment_id == 3)
    trained.rows("UPDATE dbo.customer_segment_history SET valid_from = "
                 f"DATEADD(day, -1, valid_from) WHERE customer_id = {moved};")  # fmt: skip
    trained.rows(f"DELETE FROM dbo.customer_segment WHERE customer_id = {lost};")
    error = publish_changes(trained, SIZES_AFTER, f"({moved}, 1, 0.5, 0)", f"({lost}, 2, 0.25, 0)")
    assert error is None
    current = trained.rows(f"{labels}_history WHERE valid_to IS NULL;")
    assert len(current) == 120
    assert dict(current) == dict(trained.rows(labels + ";")) == {**before, moved: 2}
    assert trained.rows("SELECT customer_id, COUNT(*) FROM dbo.customer_segment_history "
                        f"WHERE customer_id IN ({moved}, {lost}) AND valid_to IS NOT NULL "
                        "GROUP BY customer_id ORDER BY customer_id;") == [
        (customer, 1) for customer in sorted((moved, lost))
    ]  # fmt: skip


def test_changes_alone_can_be_staged(trained: Server) -> None:
    """One customer moves, one comes, one leaves; nobody else is staged, and nobody else leaves."""
    before = dict(trained.rows("SELECT customer_id, segment_id FROM dbo.customer_segment;"))
    sizes = [list(before.values()).count(segment_id) for segment_id in (1, 2, 3)]
    assert sizes == [60, 40, 20]
    of = {segment: [c for c, s in before.items() if s == segment] for segment in (1, 2, 3)}
    error = publish_changes(
        trained, SIZES_AFTER, f"({of[1][0]}, 1, 0.5, 0)", "(9999, 2, 0.25, 0)",
        f"({of[3][0]}, 0, 0, 1)",
    )  # fmt: skip
    assert error is None
    expected = {**before, of[1][0]: 2, 9999: 3}
    del expected[of[3][0]]
    labels = "SELECT customer_id, segment_id FROM dbo.customer_segment"
    assert dict(trained.rows(labels + ";")) == expected
    assert dict(trained.rows(f"{labels}_history WHERE valid_to IS NULL;")) == expected
    assert trained.rows(
        "SELECT TOP (1) arrived, moved, departed, written FROM sqlkmeans.run ORDER BY run_id DESC;"
    ) == [(1, 1, 1, 3)]


@pytest.mark.parametrize(
    "meanwhile",
    ["DELETE FROM dbo.customer_segment WHERE customer_id = 9007199254740995;",
     "UPDATE dbo.customer_segment SET segment_id = 3 WHERE customer_id = 9007199254740995;"],
    ids=["deleted", "changed"],
)  # fmt: skip
def test_changes_of_a_table_that_somebody_else_changed_are_not_published(
    meanwhile: str, trained: Server
) -> None:
    moved = trained.value("SELECT MIN(customer_id) FROM dbo.customer_segment WHERE segment_id = 1;")
    trained.rows(meanwhile)
    before = trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;")
    assert before
    error = publish_changes(trained, SIZES_AFTER, f"({moved}, 1, 0.5, 0)")
    assert error is not None
    assert "somebody else" in error
    assert trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;") == before


def test_a_table_that_is_no_segment_table_is_never_taken_for_one(server: Server) -> None:
    make_customers(server)
    server.rows(
        "CREATE TABLE dbo.customer_segment (customer_id bigint NOT NULL PRIMARY KEY, a int);"
    )
    assert "choose another target" in server.error(DEFINE)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        pytest.param("Kunden Tabelle %", "Größe in cm", id="unicode"),
        pytest.param("My Table]x", "it's [a] column", id="brackets"),
    ],
)
def test_source_key_and_feature_names_may_be_awkward(
    server: Server, table: str, column: str
) -> None:
    if "]" in table:
        try:
            assert server.value("SELECT QUOTENAME(N'a''b') AS [a]]b];") == "[a'b]"
        except Exception:
            pytest.skip("this server does not quote brackets")
    source, feature = f"dbo.{sqlserver_server.quote(table)}", sqlserver_server.quote(column)
    target = f"dbo.{sqlserver_server.quote(table + ' Ziel')}"
    server.rows(f"CREATE TABLE {source} ([select] nvarchar(20) NOT NULL PRIMARY KEY, "
                f"{feature} float NULL, [GO] int NULL);")  # fmt: skip
    server.rows(f"INSERT INTO {source} VALUES (N'ä', 1, 1), (N'ö', 2, 1), (N'ü', 9, 9), "
                "(N'ß', 9, 8);")  # fmt: skip
    server.rows(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = N'customers', @source = ?, "
        "@key = N'select', @k = 2, @features = ?, @target = ?;",
        source, json.dumps([column, "GO"], ensure_ascii=False), target)  # fmt: skip
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'customers', @run_id = @r OUTPUT; SELECT @r;"
    )
    frame = pd.DataFrame({"n": np.arange(4, dtype=np.int32), "now": np.nan,
                          "a": [1.0, 2.0, 9.0, 9.0], "b": [1.0, 1.0, 9.0, 8.0]})  # fmt: skip
    labels, publication = run_segmentation(
        frame, json.dumps(make_job(server, "customers", run_id, 0))
    )
    for n, key in enumerate("äöüß"):
        cluster = labels["cluster"][n]
        server.rows(
            f"INSERT INTO sqlkmeans.staging_{run_id} VALUES (N'{key}', {cluster}, 0.5, 0, NULL);"
        )
    server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id, publication)
    named = f"dbo.{sqlserver_server.quote(table + ' Ziel_named')}"
    assert server.value(f"SELECT COUNT(*) FROM {named};") == 4
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert run[1:6] == (4, 0, 0, 0, 0)
    assert server.value(f"SELECT COUNT(*) FROM {source} AS c CROSS APPLY "
                        f"sqlkmeans.assign_customers(c.{feature}, c.[GO]) AS f;") == 4  # fmt: skip


def test_a_select_is_a_source(server: Server) -> None:
    make_customers(server)
    select = "SELECT customer_id, income, age FROM dbo.customer"
    server.rows(DEFINE.replace("N'dbo.customer'", f"N'{select} -- all of them'"))
    train_source = "SELECT definition FROM sqlkmeans.segmentation;"
    definition = json.loads(server.value(train_source))
    assert definition["source"].endswith("-- all of them")
    server.rows("UPDATE sqlkmeans.segmentation SET definition = REPLACE(definition, "
                "N' -- all of them', N'');")  # fmt: skip
    definition = json.loads(server.value(train_source))
    server.rows("UPDATE sqlkmeans.segmentation SET definition = REPLACE(definition, ?, ?);",
                f'"source":"{definition["source"]}"', '"source":"dbo.customer"')  # fmt: skip
    train(server, "customers")
    server.rows("UPDATE sqlkmeans.segmentation SET definition = REPLACE(definition, ?, ?);",
                '"source":"dbo.customer"',
                f'"source":"{select} -- all of them"')  # fmt: skip
    run = server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")[0]
    assert run[1:6] == (120, 0, 0, 0, 0)


def test_the_demo_and_its_ten_reports_return_rows(server: Server) -> None:
    for name in ("01_demo_customers", "02_rfm_view", "03_define"):
        server.script(read(f"examples/{name}.sql"))
    train(server, "customers")
    train(server, "rfm")
    assert all(server.script(read("examples/04_assign.sql"))[1:])
    reports = server.script(read("examples/05_report_queries.sql"))
    assert len(reports) == 10
    assert all(reports)


def test_training_in_the_database_stages_and_publishes_what_python_gave(trained: Server) -> None:
    """Where the server runs no Python, a procedure with the same contract answers in its place."""
    text = read("procedures/run_segmentation.sql")
    if not trained.has("sys.sp_execute_external_script"):
        trained.rows(
            "CREATE TABLE dbo.stand_in_label (row_number int, cluster int, distance float);"
        )
        trained.rows("CREATE TABLE dbo.stand_in (content nvarchar(max), job nvarchar(max), "
                     "query nvarchar(max));")  # fmt: skip
        trained.rows("INSERT INTO dbo.stand_in (content) VALUES (NULL);")
        trained.rows(
            "CREATE PROCEDURE dbo.stand_in_for_python @language nvarchar(20), "
            "@script nvarchar(max), @input_data_1 nvarchar(max), @params nvarchar(max), "
            "@job nvarchar(max), @publication nvarchar(max) OUTPUT AS BEGIN "
            "UPDATE dbo.stand_in SET job = @job, query = @input_data_1; "
            "SELECT @publication = s.content FROM dbo.stand_in AS s; "
            "SELECT l.row_number, l.cluster, l.distance FROM dbo.stand_in_label AS l; END;"
        )
        text = text.replace("sys.sp_execute_external_script", "dbo.stand_in_for_python")
        # Not every server hands OUTPUT parameters through INSERT … EXECUTE.
        text = text.replace("INSERT INTO #sqlkmeans_publication (content) VALUES (@publication);",
                            "INSERT INTO #sqlkmeans_publication (content) SELECT s.content "
                            "FROM dbo.stand_in AS s;")  # fmt: skip
        trained.script(text)
        _answer(trained)
    run = trained.rows("EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers';")[0]
    assert run == (trained.run(2), 120, 0, 0, 0, 0, 0)
    assert trained.rows("SELECT engine, status, [rows] FROM sqlkmeans.run WHERE run_id = ?;",
                        run[0]) == [("in_database", "published", 120)]  # fmt: skip
    if trained.value("SELECT OBJECT_ID(N'dbo.stand_in');") is not None:
        query, job = trained.rows("SELECT query, job FROM dbo.stand_in;")[0]
        assert query == (
            "SELECT [sqlkmeans row] AS row_number, [sqlkmeans previous] AS previous_segment_id, "
            "[sqlkmeans f1] AS f1, [sqlkmeans f2] AS f2 FROM #sqlkmeans_input"
        )
        sent = json.loads(job)
        assert sent["run_id"] == run[0]
        before = sent["compared_run"]
        assert (before["run_id"], before["rows"], before["k"]) == (trained.run(1), 120, 3)
        assert before["definition"]["key"] == ["customer_id"]
        assert before["mean_distance"] > 0
        assert {row["feature"] for row in sent["segment_feature"]} == {"income", "age"}
        assert sum(row["customers"] for row in sent["feature_bin"]) == 2 * 120
        compared = json.loads(run_segmentation(_frame(trained), job)[1])
        assert compared["run"]["compared_run_id"] == trained.run(1)
        assert compared["run"]["psi"] == 0
        definition = sent["definition"] | {"guard": {"action": "refuse"}}
        guarded = json.dumps(sent | {"definition": definition})
        poor = run_segmentation(_frame(trained).iloc[::4], guarded)
        error = json.loads(poor[1])["error"]
        assert error["code"] == 3
        assert error["problems"][0].startswith(f"customers: 30, and 120 in run {trained.run(1)}")
        trained.rows("UPDATE dbo.stand_in SET content = N'{\"error\": {\"code\": 3, "
                     "\"problems\": [\"income: constant\", \"age: constant\"]}}';")  # fmt: skip
        message = trained.error("EXECUTE sqlkmeans.run_segmentation @segmentation = N'customers';")
        assert "income: constant\nage: constant" in message
        assert trained.value("SELECT status FROM sqlkmeans.run WHERE run_id = ?;",
                             trained.run(3)) == "failed"  # fmt: skip
        trained.script(read("procedures/run_segmentation.sql"))


def _frame(server: Server) -> pd.DataFrame:
    """The rows as they reach Python, with the segments that are published."""
    found = server.rows("SELECT income, age FROM dbo.customer ORDER BY customer_id;")
    frame = pd.DataFrame(found, columns=["a", "b"], dtype="float64")
    frame.insert(0, "now", [
        float(row[0]) for row in server.rows(
            "SELECT segment_id FROM dbo.customer_segment ORDER BY customer_id;")])  # fmt: skip
    frame.insert(0, "n", np.arange(1, len(found) + 1, dtype=np.int32))
    return frame


def _answer(server: Server) -> None:
    """What Python will have said: the second run's publication, and its labels."""
    frame = _frame(server)
    labels, publication = run_segmentation(
        frame, json.dumps(make_job(server, "customers", server.run(1) + 1, 3))
    )
    server.rows("UPDATE dbo.stand_in SET content = ?;", publication)
    values = ", ".join(
        f"({n}, {c}, {d!r})"
        for n, c, d in zip(
            labels["row_number"].tolist(), labels["cluster"].tolist(), labels["distance"].tolist()
        )
    )
    server.rows(f"INSERT INTO dbo.stand_in_label VALUES {values};")


def test_a_choice_of_k_is_kept_and_publishes_nothing(trained: Server) -> None:
    before = trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;")
    run_id = trained.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'customers', @kind = N'choose_k', @run_id = @r OUTPUT; SELECT @r;"
    )
    assert not trained.has(f"sqlkmeans.staging_{run_id}")
    publication = {
        "run": {"k": 4, "rows": 120, "skipped": 0,
                "recommendation": {"structure": True, "recommended_k": 4, "reason": "it's four"}},
        "tables": {"k_score": [{"k": k, "inertia": 9.0 - k, "gap": None, "separation": 0.5,
                                "recommended": k == 4} for k in (3, 4)]},
    }  # fmt: skip
    finish = "EXECUTE sqlkmeans.finish_choice @run_id = ?, @publication = ?;"
    trained.rows(finish, run_id, json.dumps(publication))
    row = trained.rows(
        "SELECT kind, status, k, published_at, recommendation FROM sqlkmeans.run WHERE run_id = ?;",
        run_id,
    )[0]
    assert tuple(row)[:4] == ("choose_k", "finished", 4, None)
    assert json.loads(row[4]) == publication["run"]["recommendation"]
    stored = trained.rows(
        "SELECT k, inertia, gap, separation, recommended FROM sqlkmeans.k_score "
        "WHERE run_id = ? ORDER BY k;",
        run_id,
    )
    assert [tuple(r) for r in stored] == [(3, 6.0, None, 0.5, False), (4, 5.0, None, 0.5, True)]
    assert trained.rows("SELECT * FROM dbo.customer_segment ORDER BY customer_id;") == before
    again = trained.error(finish, run_id, json.dumps(publication))
    assert "is a choose_k that is finished; allowed: a running choose_k" in again
    assert "there is no published run before" in trained.error(
        "EXECUTE sqlkmeans.rollback_segmentation @segmentation = N'customers';"
    )


def test_purging_keeps_what_is_published_now(trained: Server) -> None:
    first = trained.run(1)
    train(trained, "customers")
    trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")
    trained.rows("UPDATE sqlkmeans.run SET finished_at = DATEADD(day, -400, finished_at);")
    assert trained.rows("EXECUTE sqlkmeans.purge @execute = 0;")[0][:2] == ("would be deleted", 1)
    assert trained.rows("EXECUTE sqlkmeans.purge;")[0][:2] == ("deleted", 1)
    assert trained.rows("SELECT run_id FROM sqlkmeans.run ORDER BY run_id;") == [
        (first + 1,), (first + 2,)]  # fmt: skip
    assert trained.value("SELECT MIN(run_id) FROM sqlkmeans.centroid;") == first + 1


def test_an_agent_job_can_be_shown_anywhere_and_made_where_agent_is(trained: Server) -> None:
    shown = trained.rows("EXECUTE sqlkmeans.create_agent_job @segmentation = N'customers', "
                         "@frequency = N'weekly', @day = 2, @execute = 0;")[0]  # fmt: skip
    assert shown[1] == "would be scheduled"
    if not trained.has("msdb.dbo.sp_add_job"):
        assert "no SQL Server Agent" in trained.error(
            "EXECUTE sqlkmeans.create_agent_job @segmentation = N'customers';"
        )
        return
    for _ in range(2):
        trained.rows("EXECUTE sqlkmeans.create_agent_job @segmentation = N'customers';")
    jobs = f"SELECT COUNT(*) FROM msdb.dbo.sysjobs WHERE name = N'{shown[0]}';"
    assert trained.value(jobs) == 1
    trained.rows("EXECUTE sqlkmeans.drop_agent_job @segmentation = N'customers';")
    assert trained.value(jobs) == 0


def test_uninstalling_leaves_the_segment_table_and_nothing_else(trained: Server) -> None:
    shown = [row[0] for row in trained.script(uninstall_script(execute=False))[0]]
    assert "DROP SCHEMA sqlkmeans;" in shown
    assert trained.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 1
    trained.script(uninstall_script())
    assert trained.objects() == set()
    assert trained.value("SELECT SCHEMA_ID(N'sqlkmeans');") is None
    assert (
        trained.rows("SELECT name FROM sys.database_principals WHERE name LIKE N'sqlkmeans%';")
        == []
    )
    assert trained.rows("SELECT o.name FROM sys.objects AS o WHERE o.name LIKE N'customer[_]%' "
                        "AND RTRIM(o.type) IN ('U', 'V');") == [("customer_segment",)]  # fmt: skip
    assert trained.script(uninstall_script())[0] == []


def test_a_segment_table_that_outlived_its_schema_is_taken_up_again(trained: Server) -> None:
    trained.script(uninstall_script())
    trained.script(install_script())
    trained.rows(DEFINE)
    train(trained, "customers")
    assert trained.rows("SELECT arrived, departed FROM sqlkmeans.run;") == [(0, 0)]
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment_history "
                         "WHERE valid_to IS NULL;") == 120  # fmt: skip


@pytest.fixture
def people(trained: Server) -> Iterator[Server]:
    """Users without a login, one a role."""
    if not trained.has("sys.parameters"):
        pytest.skip("this server has no EXECUTE AS")
    for role in ("reader", "operator", "admin"):
        trained.rows(f"CREATE USER person_{role} WITHOUT LOGIN;")
        trained.rows(f"ALTER ROLE sqlkmeans_{role} ADD MEMBER person_{role};")
    yield trained
    for role in ("reader", "operator", "admin"):
        trained.rows(f"DROP USER person_{role};")


def _as(server: Server, person: str, sql: str) -> Rows:
    server.rows(f"EXECUTE AS USER = N'person_{person}';")
    try:
        return server.rows(sql)
    finally:
        server.rows("REVERT;")


def test_a_reader_reads_labels_and_cannot_run(people: Server) -> None:
    assert _as(people, "reader", "SELECT COUNT(*) FROM dbo.customer_segment_named;") == [(120,)]
    assert _as(people, "reader", "SELECT COUNT(*) FROM sqlkmeans.segment_summary;") == [(3,)]
    for refused in ("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';",
                    "SELECT COUNT(*) FROM dbo.customer;",
                    "DELETE FROM sqlkmeans.run;"):  # fmt: skip
        with pytest.raises(Exception, match=r"(?i)permission"):
            _as(people, "reader", refused)


def test_an_operator_runs_with_select_on_the_source_and_can_drop_nothing(people: Server) -> None:
    run = "EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';"
    with pytest.raises(Exception, match=r"(?i)permission|may not read"):
        _as(people, "operator", run)
    people.rows("GRANT SELECT ON dbo.customer TO person_operator;")
    assert _as(people, "operator", run)[0][1] == 120
    for refused in ("EXECUTE sqlkmeans.as_owner @statement = N'DROP TABLE dbo.customer;';",
                    "DROP TABLE dbo.customer_segment;",
                    "DELETE FROM dbo.customer_segment;",
                    "DELETE FROM sqlkmeans.run;",
                    "EXECUTE sqlkmeans.purge;"):  # fmt: skip
        with pytest.raises(Exception, match=r"(?i)permission"):
            _as(people, "operator", refused)
