"""What a caller cannot do through the procedures, asked of a server."""

from __future__ import annotations

import json

import pytest

from sqlkmeans.sqltext import parse_source
from support.tsql_files import object_name, public_procedures
from support.tsql_server import DEFINE, Server, make_customers

pytestmark = pytest.mark.sqlserver


#: Sources of both kinds; parse_source tells which.
SOURCES = [
    "customer",
    "dbo.customer",
    "[my db].dbo.[a ]] b]",
    "a.b.c.d",
    "",
    "dbo.",
    "x]; DROP TABLE y--",
    "SELECT 1 AS a",
    "select a from b",
    "/* why */ SELECT a FROM b -- so",
    "-- c\nSELECT a FROM b",
    "SELECT a FROM b;",
    "SELECT a FROM b) AS s; SELECT (1",
    "SELECT a FROM (b",
    "SELECT 'a;)' AS a",
    "SELECT 'it''s' AS a",
    "SELECT 'a",
    "SELECT [a;)] FROM b",
    "SELECT [a]]] FROM b",
    "SELECT [a FROM b",
    'SELECT "a;" FROM b',
    'SELECT "a FROM b',
    "SELECT 1 /* ; */ AS a",
    "SELECT 1 /* /* ; */ */ AS a",
    "SELECT 1 /* /* ; */ AS a",
    "SELECT 1 AS a --;",
    "SELECT a FROM t -- \r'\n) AS s; DROP TABLE x; -- '",
    "SELECT a INTO b FROM c",
    "SELECT a FROM b UNION ALL SELECT a FROM c",
    "SELECT * FROM OPENROWSET(BULK N'C:\\a', SINGLE_CLOB) AS a",
    "SELECT * FROM OpenQuery(far, 'SELECT 1')",
    "SELECT [openquery] FROM b",
    "SELECT update_time FROM b",
    "SELECT a FROM b WHERE c = 'drop table d'",
    "SELECT a, [drop] FROM b",
    "SELECT a FROM b EXECUTE c",
    "WITH a AS (SELECT 1 AS b) SELECT b FROM a",
    "SELECT - - 1 AS a",
    "SELECT 4 / 2 AS a",
    "SELECT a FROM dbo.[go]",
    "DELETE FROM b",
    "EXECUTE p",
    "SELECT\ta FROM b",
]


@pytest.mark.parametrize("source", SOURCES)
def test_the_server_takes_the_sources_that_python_takes(server: Server, source: str) -> None:
    problem = server.value("SELECT sqlkmeans.source_problem(?);", source)
    try:
        parse_source(source)
    except ValueError:
        # A text without dots is a name to the server, quoted and not found.
        assert problem or server.value("SELECT sqlkmeans.relation(?);", source).startswith(
            "[dbo].["
        )
    else:
        assert problem is None


def test_describing_a_select_leaves_nothing_behind(server: Server) -> None:
    make_customers(server)
    before = server.objects()
    source = "N'SELECT customer_id, income, age FROM dbo.customer'"
    server.rows(DEFINE.replace("N'dbo.customer'", source))
    assert server.objects() == before


@pytest.mark.parametrize("name", sorted(set(public_procedures())))
def test_an_open_transaction_is_refused(server: Server, name: str) -> None:
    message = server.error(
        f"BEGIN TRANSACTION; EXECUTE sqlkmeans.{object_name(name)}; COMMIT TRANSACTION;"
    )
    server.rows("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION;")
    assert "called inside a transaction" in message


def test_implicit_transactions_leave_nothing_open(server: Server) -> None:
    make_customers(server)
    server.rows("SET IMPLICIT_TRANSACTIONS ON;")
    try:
        server.rows(DEFINE)
        assert server.value("SELECT @@TRANCOUNT;") in (0, 1)  # asking may begin one itself
        server.rows("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION;")
    finally:
        server.rows("SET IMPLICIT_TRANSACTIONS OFF;")
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 1


def test_a_definition_with_a_key_twice_is_refused(server: Server) -> None:
    make_customers(server)
    server.rows(DEFINE)
    text = server.value("SELECT definition FROM sqlkmeans.segmentation;")
    twice = text.replace('"source":', '"source":"dbo.other","source":').replace(
        '"column":"age"', '"column":"income","column":"age"'
    )
    message = server.error("DECLARE @r bigint; EXECUTE sqlkmeans.start_run @segmentation = "
                           "N'customers', @definition = ?, @run_id = @r OUTPUT;",
                           twice)  # fmt: skip
    assert "definition: source is there twice" in message
    assert "definition: features[1].column is there twice" in message


def test_a_model_of_another_segmentation_is_refused(trained: Server) -> None:
    other = DEFINE.replace("N'customers'", "N'others'").replace("customer_segment", "other_segment")
    trained.rows(other)
    run_id = trained.value("SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
                           "@segmentation = N'others', @kind = N'assign', @run_id = @r OUTPUT; "
                           "SELECT @r;")  # fmt: skip
    publication = {"segment_ids": [1], "model_run_id": trained.run(1), "last_segment_id": 1,
                   "distance_tolerance": 0, "run": {"rows": 0}}  # fmt: skip
    message = trained.error("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id,
                            json.dumps(publication))  # fmt: skip
    assert f"model_run_id {trained.run(1)} is no run of others" in message


SEGMENTS = (
    "(customer_id bigint NOT NULL PRIMARY KEY, segment_id int NOT NULL, "
    "distance float NOT NULL, is_outlier bit NOT NULL, run_id bigint NOT NULL, "
    "assigned_at datetime2(6) NOT NULL)"
)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (f"CREATE TABLE dbo.customer_segment {SEGMENTS};",
         "[dbo].[customer_segment] is there already"),
        ("CREATE TABLE dbo.customer_segment_history (a int NOT NULL);",
         "[dbo].[customer_segment_history] is there already"),
        ("CREATE VIEW dbo.customer_segment_named AS SELECT 1 AS a;",
         "[dbo].[customer_segment_named] is there already"),
        ("CREATE VIEW dbo.customer_segment AS SELECT customer_id FROM dbo.customer;",
         "[dbo].[customer_segment] is there already"),
    ],
    ids=["table", "history", "named", "view"],
)  # fmt: skip
def test_what_others_made_is_no_target(server: Server, before: str, said: str) -> None:
    make_customers(server)
    server.rows(before)
    message = server.error(DEFINE)
    assert f"target: {said}, and sqlkmeans did not make it" in message
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.segmentation;") == 0


def test_a_trigger_on_a_target_is_never_fired(trained: Server) -> None:
    trained.rows("CREATE TABLE dbo.heard (a int NOT NULL);")
    trained.rows("CREATE TRIGGER dbo.listens ON dbo.customer_segment AFTER UPDATE AS "
                 "INSERT INTO dbo.heard (a) VALUES (1);")  # fmt: skip
    trained.rows("UPDATE dbo.customer SET income = 160000, age = 62 WHERE income < 60000;")
    for call in ("assign_segments", "run_segmentation @engine = N'tsql',"):
        message = trained.error(f"EXECUTE sqlkmeans.{call} @segmentation = N'customers';")
        assert "has the trigger listens, which would run as dbo" in message
    assert trained.value("SELECT COUNT(*) FROM dbo.heard;") == 0
    trained.rows("DROP TRIGGER dbo.listens;")
    trained.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'customers';")


def test_a_trigger_that_comes_while_labels_are_staged_is_not_fired(trained: Server) -> None:
    run_id = trained.value("SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
                           "@segmentation = N'customers', @kind = N'assign', @run_id = @r OUTPUT; "
                           "SELECT @r;")  # fmt: skip
    trained.rows(f"INSERT INTO sqlkmeans.staging_{run_id} VALUES (1, 0, 0.5, 0, NULL);")
    trained.rows("CREATE TABLE dbo.heard (a int NOT NULL);")
    trained.rows("CREATE TRIGGER dbo.listens ON dbo.customer_segment_history AFTER INSERT AS "
                 "INSERT INTO dbo.heard (a) VALUES (1);")  # fmt: skip
    publication = {"segment_ids": [1], "model_run_id": trained.run(1), "last_segment_id": 3,
                   "distance_tolerance": 0, "run": {"rows": 1}}  # fmt: skip
    message = trained.error("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id,
                            json.dumps(publication))  # fmt: skip
    assert "has the trigger listens, which would run as dbo" in message
    assert trained.value("SELECT COUNT(*) FROM dbo.heard;") == 0
    assert trained.value("SELECT COUNT(*) FROM dbo.customer_segment;") == 120


def test_the_login_is_recorded_whatever_the_client_calls_itself(trained: Server) -> None:
    trained.rows("DECLARE @r bigint; EXECUTE sqlkmeans.start_run @segmentation = N'customers', "
                 "@client = N'somebody else', @run_id = @r OUTPUT;")  # fmt: skip
    told = trained.value("SELECT TOP (1) client FROM sqlkmeans.run ORDER BY run_id DESC;")
    assert told == trained.value("SELECT ORIGINAL_LOGIN();") + ", somebody else"


@pytest.mark.parametrize("sign", ["\x1b", "\n", "\x85", "\u202e", "\u200b", "\ufeff"])
def test_a_name_that_drives_a_terminal_is_refused(trained: Server, sign: str) -> None:
    rename = ("EXECUTE sqlkmeans.rename_segment @segmentation = N'customers', @segment_id = 1, "
              "@name = ?;")  # fmt: skip
    assert "@name: has characters that cannot be seen" in trained.error(rename, f"a{sign}b")
    trained.rows(rename, "Ærlig talt: 50 % – 東京 🚲")
