"""What a publication of all labels changes: labels, history and counts, row for row."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from support.tsql_server import Server

pytestmark = pytest.mark.sqlserver


TARGET = "dbo.[Käufer %]"
#: Key, segment_id and distance. The second publication has one that stays, one whose distance
#: moved a little, one whose distance moved much, three that moved (one of them under a key in other
#: letters), one that departed and two that arrived.
FIRST = [("a", 1, 0.5), ("b", 1, 0.5), ("c", 2, 0.5), ("d", 1, 0.25), ("e", 2, 0.5),
         ("f", 3, 0.5), ("g", 3, 0.75)]  # fmt: skip
SECOND = [("a", 1, 0.5), ("b", 1, 0.55), ("c", 2, 0.9), ("D", 2, 0.3), ("e", 3, 0.5),
          ("f", 1, 0.1), ("ä", 2, 0.5), ("z", 3, 0.125)]  # fmt: skip


def define(server: Server) -> None:
    if not server.has("dbo.buyer"):
        server.rows("CREATE TABLE dbo.buyer ([Schlüssel] nvarchar(20) NOT NULL PRIMARY KEY, "
                    "a float NOT NULL, b float NOT NULL);")  # fmt: skip
    server.rows(
        "EXECUTE sqlkmeans.define_segmentation @segmentation = ?, @source = N'dbo.buyer', "
        "@key = N'Schlüssel', @k = 3, @features = N'a, b', @target = ?;", "buyers", TARGET
    )  # fmt: skip


def publish_all(
    server: Server, labels: list[tuple[str, int, float]], sent: int | None = None
) -> tuple[Any, ...]:
    """Stage every label and publish them: arrived, moved, departed, written."""
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = ?, @kind = N'assign', @run_id = @r OUTPUT; SELECT @r;", "buyers"
    )  # fmt: skip
    for key, segment_id, distance in labels:
        server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} VALUES (?, ?, ?, 0, NULL);", key,
                    segment_id - 1, distance)  # fmt: skip
    publication = {
        "segment_ids": [1, 2, 3], "model_run_id": run_id, "last_segment_id": 3,
        "distance_tolerance": 0.1, "run": {"rows": sent or len(labels)},
    }  # fmt: skip
    return tuple(server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;",
                             run_id, json.dumps(publication))[0])  # fmt: skip


def state(server: Server) -> tuple[list[Any], list[Any]]:
    """Labels and history, with the number of a run in place of its id and times."""
    runs = server.rows(
        "SELECT run_id, published_at FROM sqlkmeans.run WHERE segmentation = ? ORDER BY run_id;",
        "buyers",
    )
    number: dict[int | datetime | None, int | None] = {None: None}
    for n, (run_id, published_at) in enumerate(runs, start=1):
        number |= {run_id: n, published_at: n}
    columns = "[Schlüssel], segment_id, distance, run_id, {} "
    table, history = TARGET, TARGET.replace("]", "_history]")
    found = []
    for read_from, times in ((table, "assigned_at"), (history, "valid_from, valid_to")):
        rows = server.rows(f"SELECT {columns.format(times)} FROM {read_from};")
        found.append(sorted((*row[:3], *(number[value] for value in row[3:])) for row in rows))
    return found[0], found[1]


def left_over(server: Server) -> list[str]:
    return [name for name in server.objects() if name.startswith("staging_")]


def test_what_differs_is_changed_and_nothing_else(server: Server) -> None:
    define(server)
    assert publish_all(server, FIRST) == (7, 0, 0, 7)
    # The same customer, unless the collation tells the letters apart.
    d = server.value("SELECT CASE WHEN N'D' = N'd' THEN N'D' ELSE N'd' END;")
    second = [(d if row[0] == "D" else row[0], *row[1:]) for row in SECOND]
    assert publish_all(server, second) == (2, 3, 1, 7)
    labels, history = state(server)
    assert labels == sorted([
        ("a", 1, 0.5, 1, 1), ("b", 1, 0.5, 1, 1), ("c", 2, 0.9, 1, 1), ("d", 2, 0.3, 2, 2),
        ("e", 3, 0.5, 2, 2), ("f", 1, 0.1, 2, 2), ("ä", 2, 0.5, 2, 2), ("z", 3, 0.125, 2, 2),
    ])  # fmt: skip
    ended = {row[0] for row in history if row[-1] is not None}
    assert ended == {"d", "e", "f", "g"}
    assert left_over(server) == []


def test_a_publication_that_is_refused_changes_nothing(server: Server) -> None:
    define(server)
    publish_all(server, FIRST)
    before = state(server)[0]
    with pytest.raises(Exception, match="9 labels were sent and 8 arrived"):
        publish_all(server, SECOND, sent=9)
    assert state(server)[0] == before
    assert left_over(server) != []
    publish_all(server, SECOND)
    assert left_over(server) == []
