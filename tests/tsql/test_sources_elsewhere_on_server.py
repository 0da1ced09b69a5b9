"""Runs whose source the server does not know, and the heaps that others fill for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sqlkmeans.database.sqlserver.parts import writing_parts
from support import sqlserver_server
from support.tsql_server import Server

pytestmark = pytest.mark.sqlserver

LAKE: dict[str, Any] = {
    "name": "lake", "source": "parquet.`s3a://lake/customer`", "key": ["id"],
    "features": [{"column": "income"}], "k": 2, "target": "dbo.lake_segment", "engine": "spark",
}  # fmt: skip


def start(server: Server, types: object = ("bigint",), **changes: Any) -> int:
    """A run of a source that Spark has."""
    return int(
        server.value(
            "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run @segmentation = "
            "N'lake', @definition = ?, @key_types = ?, @run_id = @r OUTPUT; SELECT @r;",
            json.dumps({**LAKE, **changes}),
            types if isinstance(types, str) else json.dumps(types),
        )
    )


def columns(server: Server, run_id: int) -> list[tuple[str, str, int]]:
    return [(name, kind, size) for name, kind, size in server.rows(
        "SELECT c.name, t.name, c.max_length FROM sys.columns AS c INNER JOIN sys.types AS t "
        "ON t.user_type_id = c.system_type_id WHERE c.object_id = "
        f"OBJECT_ID(N'sqlkmeans.staging_{run_id}') ORDER BY c.column_id;")]  # fmt: skip


def test_the_staging_table_has_the_types_of_a_key_that_the_server_cannot_look_at(
    server: Server,
) -> None:
    types = ["bit", "date", "datetime2(6)", "nvarchar(30)", "varbinary(40)", "bigint"]
    run_id = start(server, types, key=["a", "b", "c", "d", "e", "f"])
    assert columns(server, run_id)[:6] == [
        ("a", "bit", 1), ("b", "date", 3), ("c", "datetime2", 8), ("d", "nvarchar", 60),
        ("e", "varbinary", 40), ("f", "bigint", 8),
    ]  # fmt: skip
    assert server.value("SELECT engine FROM sqlkmeans.run;") == "spark"


@pytest.mark.parametrize(
    ("types", "changes", "said"),
    [
        (["decimal(12, 4)"], {}, "key: id is decimal(12, 4); allowed where the source is not in "
         "this database: bigint, bit, date, datetime2(6), nvarchar(n), varbinary(n); CAST it"),
        (["float"], {}, "key: id is float; allowed"),
        ([], {}, "key: id is of no type; allowed"),
        (["nvarchar(max)"], {}, "key: id is nvarchar(max); allowed"),
        (["nvarchar(500)"], {}, "key: id is nvarchar(500); allowed"),
        (["varbinary(99999999999)"], {}, "key: id is varbinary(99999999999); allowed"),
        (["bigint NULL, x int"], {}, "key: id is bigint NULL, x int; allowed"),
        (["nvarchar(9) NULL, x int)"], {}, "key: id is nvarchar(9) NULL, x int); allowed"),
        ('{"a": "bigint"}', {}, "key: id is of no type; allowed"),
        ("bigint", {}, "@key_types: not JSON; allowed: a list"),
        (["nvarchar(400)", "nvarchar(400)"], {"key": ["a", "b"]}, "key: 1600 bytes wide"),
        (["bigint"], {"engine": "local"}, "@key_types: given, and the engine is local; allowed"),
        (["bigint"], {"key": ["distance"]}, "key: distance is a column of the segment table"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_one_is_refused_in_words(
    server: Server, types: object, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Exception, match=r"\S") as caught:
        start(server, types, **changes)
    assert said in str(caught.value)
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 0


def test_the_server_says_that_the_client_runs_what_spark_has(server: Server) -> None:
    """As Agent's jobs would, which call these."""
    make = "INSERT INTO sqlkmeans.segmentation (name, definition, target, last_segment_id, "
    make += "created_at, updated_at) VALUES (N'lake', ?, N'dbo.lake_segment', 2, "
    server.rows(make + "SYSUTCDATETIME(), SYSUTCDATETIME());", json.dumps(LAKE))
    # A target that is there already can be compared with nothing.
    server.rows("CREATE TABLE dbo.lake_segment (id bigint NOT NULL);")
    for call in ("run_segmentation @engine = N'tsql',", "start_run"):
        message = server.error(f"EXECUTE sqlkmeans.{call} @segmentation = N'lake';")
        assert 'engine = "spark": if Spark has it, the client runs it: sqlkmeans run' in message
    assert server.value("SELECT COUNT(*) FROM sqlkmeans.run;") == 0


# The heap


def failed(server: Server, run_id: int) -> None:
    server.rows("EXECUTE sqlkmeans.fail_run @run_id = ?, @error = N'tried';", run_id)
    assert server.rows("SELECT status FROM sqlkmeans.run WHERE run_id = ?;", run_id) == [
        ("failed",)]  # fmt: skip


def test_a_heap_that_somebody_still_fills_stays_until_the_next_run(server: Server) -> None:
    run_id = start(server)
    parts = f"sqlkmeans.staging_{run_id}_parts"
    server.rows("EXECUTE sqlkmeans.create_parts @run_id = ?;", run_id)
    other = sqlserver_server.connect(server.url)
    sqlserver_server.rows(other, writing_parts(run_id))
    sqlserver_server.rows(other, "BEGIN TRANSACTION;")
    sqlserver_server.rows(other, f"INSERT INTO {parts} VALUES (7, 0, 0.5, 1);")
    failed(server, run_id)
    assert server.has(parts)
    assert not server.has(f"sqlkmeans.staging_{run_id}")
    sqlserver_server.rows(other, "ROLLBACK TRANSACTION;")
    sqlserver_server.rows(other, writing_parts(run_id).replace("get", "release").replace(
        "@LockMode = N'Shared', ", ""))  # fmt: skip
    other.close()
    start(server)
    assert not server.has(parts)


@pytest.mark.parametrize("call", ["purge", "drop_segmentation @segmentation = N'lake'"])
def test_a_heap_that_was_left_goes_with_its_runs(server: Server, call: str) -> None:
    run_id = start(server)
    server.rows("EXECUTE sqlkmeans.create_parts @run_id = ?;", run_id)
    server.rows("UPDATE sqlkmeans.run SET status = N'failed', finished_at = SYSUTCDATETIME();")
    server.rows(f"EXECUTE sqlkmeans.{call};")
    assert not server.has(f"sqlkmeans.staging_{run_id}_parts")
