"""Labels that come through side tables and a switch are those that changes in place leave.

A server without ``ALTER TABLE … SWITCH`` gets a stand-in for that one statement, which moves the
rows; all before and after it is the product's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from test_on_server import Server, server
from tsql_files import read

pytestmark = pytest.mark.sqlserver

__all__ = ["server"]

TARGETS = {"in_place": "dbo.[Käufer %]", "switched": "dbo.[Käufer Größe]"}
#: Key, segment_id and distance. The second publication has one that stays, one whose distance
#: moved a little, one whose distance moved much, three that moved (one of them under a key in other
#: letters), one that departed and two that arrived.
FIRST = [("a", 1, 0.5), ("b", 1, 0.5), ("c", 2, 0.5), ("d", 1, 0.25), ("e", 2, 0.5),
         ("f", 3, 0.5), ("g", 3, 0.75)]  # fmt: skip
SECOND = [("a", 1, 0.5), ("b", 1, 0.55), ("c", 2, 0.9), ("D", 2, 0.3), ("e", 3, 0.5),
          ("f", 1, 0.1), ("ä", 2, 0.5), ("z", 3, 0.125)]  # fmt: skip
MOVED = """    DECLARE @statement nvarchar(max) =
        N'INSERT INTO sqlkmeans.' + QUOTENAME(@staging + N'_old')
        + N' SELECT * FROM ' + @table + N'; DELETE FROM ' + @table + N'; INSERT INTO ' + @table
        + N' SELECT * FROM sqlkmeans.' + QUOTENAME(@staging + N'_new') + N';';
"""


def has_switch(server: Server) -> bool:
    for name in ("one", "other"):
        server.rows(f"CREATE TABLE dbo.{name} (a int NOT NULL PRIMARY KEY);")
    try:
        server.rows("ALTER TABLE dbo.one SWITCH TO dbo.other;")
    except Exception:
        return False
    else:
        return True
    finally:
        server.rows("DROP TABLE dbo.one, dbo.other;")


@pytest.fixture
def switching(server: Server) -> Iterator[Server]:
    """A server on which nothing speaks against a switch, and the switch works."""
    try:
        permit(server)
        if not has_switch(server):
            replace_the_switch(server, MOVED)
            text = read("procedures/refresh_statistics.sql")
            server.script(text.replace("N'UPDATE STATISTICS '", "N'-- '"))
        yield server
    finally:
        for name in ("functions/switch_obstacle", "procedures/switch_labels",
                     "procedures/refresh_statistics"):  # fmt: skip
            server.script(read(f"{name}.sql"))


def permit(server: Server) -> None:
    text = read("functions/switch_obstacle.sql")
    start, end = text.index("    DECLARE @target"), text.index("    RETURN NULL;")
    server.script(text[:start] + text[end:])


def break_the_switch(server: Server) -> None:
    replace_the_switch(
        server,
        "    DECLARE @statement nvarchar(max) = N'INSERT INTO sqlkmeans.nowhere SELECT 1;';\n",
    )


def replace_the_switch(server: Server, statement: str) -> None:
    text = read("procedures/switch_labels.sql")
    start = text.index("    DECLARE @statement")
    end = text.index("\n    EXECUTE sqlkmeans.as_owner")
    server.script(text[:start] + statement + text[end:])


def define(server: Server, name: str) -> None:
    if not server.has("dbo.buyer"):
        server.rows("CREATE TABLE dbo.buyer ([Schlüssel] nvarchar(20) NOT NULL PRIMARY KEY, "
                    "a float NOT NULL, b float NOT NULL);")  # fmt: skip
    server.rows(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = ?, @source = N'dbo.buyer', "
        "@key = N'Schlüssel', @k = 3, @features = N'a, b', @target = ?;", name, TARGETS[name]
    )  # fmt: skip


def publish_all(
    server: Server, name: str, labels: list[tuple[str, int, float]], sent: int | None = None
) -> tuple[Any, ...]:
    """Stage every label and publish them: arrived, moved, departed, written."""
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = ?, @kind = N'assign', @run_id = @r OUTPUT; SELECT @r;", name
    )  # fmt: skip
    for key, segment_id, distance in labels:
        server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} VALUES (?, ?, ?, 0);", key,
                    segment_id - 1, distance)  # fmt: skip
    publication = {
        "segment_ids": [1, 2, 3], "model_run_id": run_id, "last_segment_id": 3,
        "distance_tolerance": 0.1, "run": {"rows": sent or len(labels)},
    }  # fmt: skip
    return tuple(server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;",
                             run_id, json.dumps(publication))[0])  # fmt: skip


def state(server: Server, name: str) -> tuple[list[Any], list[Any]]:
    """Labels and history, with the number of a run in place of its id and times."""
    runs = server.rows(
        "SELECT run_id, published_at FROM sqlkmeans.run WHERE segmentation = ? ORDER BY run_id;",
        name,
    )
    number: dict[int | datetime | None, int | None] = {None: None}
    for n, (run_id, published_at) in enumerate(runs, start=1):
        number |= {run_id: n, published_at: n}
    columns = "[Schlüssel], segment_id, distance, run_id, {} "
    table, history = TARGETS[name], TARGETS[name].replace("]", "_history]")
    found = []
    for read_from, times in ((table, "assigned_at"), (history, "valid_from, valid_to")):
        rows = server.rows(f"SELECT {columns.format(times)} FROM {read_from};")
        found.append(sorted((*row[:3], *(number[value] for value in row[3:])) for row in rows))
    return found[0], found[1]


def warnings(server: Server, name: str) -> list[str]:
    found = server.value(
        "SELECT TOP (1) warnings FROM sqlkmeans.run WHERE segmentation = ? ORDER BY run_id DESC;",
        name,
    )
    return list(json.loads(found or "[]"))


def left_over(server: Server) -> list[str]:
    return [name for name in server.objects() if name.startswith("staging_")]


def publish_both(server: Server, name: str) -> tuple[Any, ...]:
    define(server, name)
    assert publish_all(server, name, FIRST) == (7, 0, 0, 7)
    # The same customer, unless the collation tells the letters apart.
    d = server.value("SELECT CASE WHEN N'D' = N'd' THEN N'D' ELSE N'd' END;")
    return publish_all(server, name, [(d if row[0] == "D" else row[0], *row[1:]) for row in SECOND])


def test_a_switch_leaves_what_changes_in_place_leave(switching: Server) -> None:
    counts = publish_both(switching, "switched")
    switched = state(switching, "switched")
    assert warnings(switching, "switched") == []
    switching.script(read("functions/switch_obstacle.sql"))
    break_the_switch(switching)
    assert counts == publish_both(switching, "in_place") == (2, 3, 1, 7)
    assert warnings(switching, "in_place") == []
    assert switched == state(switching, "in_place")
    assert switched[0] == sorted([
        ("a", 1, 0.5, 1, 1), ("b", 1, 0.5, 1, 1), ("c", 2, 0.9, 1, 1), ("d", 2, 0.3, 2, 2),
        ("e", 3, 0.5, 2, 2), ("f", 1, 0.1, 2, 2), ("ä", 2, 0.5, 2, 2), ("z", 3, 0.125, 2, 2),
    ])  # fmt: skip
    assert left_over(switching) == []


def test_a_switch_that_fails_is_replaced_by_changes_in_place(switching: Server) -> None:
    break_the_switch(switching)
    assert publish_both(switching, "switched") == (2, 3, 1, 7)
    told = warnings(switching, "switched")
    assert len(told) == 1
    assert told[0].startswith(
        "the labels were changed in place, because the switch of tables failed"
    )
    assert {row[0]: row[1] for row in state(switching, "switched")[0]} == {
        "a": 1, "b": 1, "c": 2, "d": 2, "e": 3, "f": 1, "ä": 2, "z": 3
    }  # fmt: skip
    assert left_over(switching) == []


def test_few_changes_are_not_worth_a_switch(switching: Server) -> None:
    break_the_switch(switching)
    define(switching, "switched")
    publish_all(switching, "switched", FIRST)
    few = [("a", 2, 0.5), *FIRST[1:]]
    assert publish_all(switching, "switched", few) == (0, 1, 0, 1)
    assert warnings(switching, "switched") == []
    assert left_over(switching) == []


def test_a_publication_that_is_refused_is_not_published_in_place_either(switching: Server) -> None:
    define(switching, "switched")
    publish_all(switching, "switched", FIRST)
    before = state(switching, "switched")[0]
    with pytest.raises(Exception, match="9 labels were sent and 8 arrived"):
        publish_all(switching, "switched", SECOND, sent=9)
    assert state(switching, "switched")[0] == before
    assert left_over(switching) != []
    publish_all(switching, "switched", SECOND)
    assert left_over(switching) == []


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ("ALTER TABLE {} ADD remark int NULL;", "the columns of the segment table are not those"),
        ("ALTER TABLE {} ADD CHECK (distance >= 0);", "a check constraint, or a foreign key"),
        ("CREATE TABLE dbo.buyer_note (buyer nvarchar(20) NOT NULL PRIMARY KEY "
         "REFERENCES {} ([Schlüssel]));", "a check constraint, or a foreign key"),
        ("CREATE TRIGGER dbo.buyer_moved ON {} AFTER UPDATE AS SELECT 1;", "has a trigger"),
        ("CREATE INDEX by_segment ON {} (segment_id);", "an index other than"),
    ],
    ids=["column", "check", "foreign key", "trigger", "index"],
)  # fmt: skip
def test_what_somebody_put_on_the_table_is_an_obstacle(
    server: Server, change: str, obstacle: str
) -> None:
    define(server, "switched")
    publish_all(server, "switched", FIRST)
    ask = "SELECT sqlkmeans.switch_obstacle(definition) FROM sqlkmeans.segmentation;"
    try:
        look_at_the_table_only(server, indexes="INDEX" in change)
        if "INDEX" not in change:
            assert server.value(ask) is None
        server.rows(change.format(TARGETS["switched"]))
        assert obstacle in server.value(ask)
    finally:
        server.script(read("functions/switch_obstacle.sql"))
        server.rows("DROP TABLE IF EXISTS dbo.buyer_note;")


def look_at_the_table_only(server: Server, *, indexes: bool) -> None:
    """Have the function ask nothing of the database, nor what this server's catalog lacks."""
    text = read("functions/switch_obstacle.sql")
    gone = [
        ("    IF EXISTS (SELECT 1 FROM sys.databases", "    IF EXISTS (SELECT 1 FROM sys.tables")
    ]
    if not server.has("sys.security_predicates"):
        gone += [("    IF EXISTS (SELECT 1 FROM sys.security_predicates", "    RETURN NULL;")]
    clustered = server.value(
        "SELECT COUNT(*) FROM sys.indexes AS i "
        "WHERE i.object_id = OBJECT_ID(N'sqlkmeans.run') AND i.index_id = 1;"
    )
    if not clustered and not indexes:
        gone += [("    IF EXISTS (SELECT 1 FROM sys.indexes",
                  "    IF EXISTS (SELECT 1 FROM sys.triggers")]  # fmt: skip
    for first, following in gone:
        start = text.index(first)
        text = text[:start] + text[text.index(following, start) :]
    server.script(text)


def test_where_readers_do_not_wait_nothing_is_switched(server: Server) -> None:
    define(server, "switched")
    obstacle = "SELECT sqlkmeans.switch_obstacle(definition) FROM sqlkmeans.segmentation;"
    assert server.value(obstacle) == "the segment table is not in this database"
    publish_all(server, "switched", FIRST)
    versions = server.rows("SELECT is_read_committed_snapshot_on, snapshot_isolation_state "
                           "FROM sys.databases WHERE database_id = DB_ID();")[0]  # fmt: skip
    if versions[0]:
        assert server.value(obstacle).startswith("READ_COMMITTED_SNAPSHOT is on")
    elif versions[1]:
        assert server.value(obstacle).startswith("ALLOW_SNAPSHOT_ISOLATION is on")
    else:
        assert server.value(obstacle) is None
