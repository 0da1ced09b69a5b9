"""Schema sqlkmeans on a live server, and what a test asks of it with nothing but a SQL client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sqlkmeans.database.sqlserver.script import batches
from sqlkmeans.external_script import run_segmentation
from sqlkmeans.model import SegmentModel
from support import sqlserver_server

Rows = list[tuple[Any, ...]]

DEFINE = """EXECUTE sqlkmeans.define_segmentation @segmentation = N'customers',
@source = N'dbo.customer', @key = N'customer_id', @k = 3, @target = N'dbo.customer_segment',
@features = N'["income", {"column": "age", "transform": "log1p", "weight": 2}]',
@missing = N'mean';"""


class Server:
    """A connection, and what a test asks of it."""

    def __init__(self) -> None:
        self.url = sqlserver_server.server_url("mssqlpython")
        self.connection = sqlserver_server.connect(self.url)

    def rows(self, sql: str, *parameters: Any) -> Rows:
        return sqlserver_server.rows(self.connection, sql, *parameters)

    def value(self, sql: str, *parameters: Any) -> Any:
        return self.rows(sql, *parameters)[0][0]

    def script(self, text: str) -> list[Rows]:
        return [self.rows(batch) for batch in batches(text)]

    def has(self, system_object: str) -> bool:
        return self.value(f"SELECT OBJECT_ID(N'{system_object}');") is not None

    def error(self, sql: str, *parameters: Any) -> str:
        with pytest.raises(Exception, match=r".") as caught:
            self.rows(sql, *parameters)
        return str(caught.value)

    def run(self, number: int) -> int:
        """The id of the first, second … run of this test."""
        runs = self.rows("SELECT run_id FROM sqlkmeans.run ORDER BY run_id;")
        return int(runs[number - 1][0])

    def objects(self) -> set[str]:
        return {row[0] for row in self.rows(
            "SELECT o.name FROM sys.objects AS o WHERE o.schema_id = SCHEMA_ID('sqlkmeans') "
            "AND RTRIM(o.type) IN ('P', 'V', 'U', 'FN', 'IF');")}  # fmt: skip


def train(server: Server, name: str) -> int:
    """Train as the client does: Python here, staging and publication there."""
    row = server.rows(
        "SELECT definition, active_run_id, last_segment_id FROM sqlkmeans.segmentation "
        "WHERE name = ?;", name)[0]  # fmt: skip
    definition, active, last = json.loads(row[0]), row[1], row[2]
    server.rows("EXECUTE sqlkmeans.lock_segmentation @segmentation = ?;", name)
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run @segmentation = ?, "
        "@run_id = @r OUTPUT; SELECT @r;", name)  # fmt: skip
    key = definition["key"][0]
    features = ", ".join(f"CAST([{f['column']}] AS float)" for f in definition["features"])
    found = server.rows(f"SELECT [{key}], {features} FROM {definition['source']} ORDER BY [{key}];")
    frame = pd.DataFrame([row[1:] for row in found], dtype="float64")
    target = definition["target"]
    now = {}
    if active is not None:
        now = dict(server.rows(f"SELECT [{key}], segment_id FROM {target};"))
    frame.insert(0, "now", [now.get(row[0], np.nan) for row in found])
    frame.insert(0, "n", np.arange(len(found), dtype=np.int32))
    labels, publication = run_segmentation(frame, json.dumps(make_job(server, name, run_id, last)))
    assert "error" not in json.loads(publication), publication
    values = [
        f"({found[n][0]}, {cluster}, {distance!r})"
        for n, cluster, distance in zip(
            labels["row_number"].tolist(), labels["cluster"].tolist(), labels["distance"].tolist()
        )
    ]
    for start in range(0, len(values), 1000):
        server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} ([{key}], cluster, distance) VALUES "
                    f"{', '.join(values[start : start + 1000])};")  # fmt: skip
    server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id, publication)
    server.rows("EXECUTE sqlkmeans.unlock_segmentation @segmentation = ?;", name)
    return int(run_id)


def make_job(server: Server, name: str, run_id: int, last: int) -> dict[str, Any]:
    definition, active = server.rows(
        "SELECT definition, active_run_id FROM sqlkmeans.segmentation WHERE name = ?;", name
    )[0]

    def result(columns: str, table: str, where: str = "") -> list[dict[str, Any]]:
        rows = server.rows(
            f"SELECT {columns} FROM sqlkmeans.{table} WHERE run_id = {active or 0} {where};"
        )
        return [dict(zip(columns.split(", "), row)) for row in rows]

    return {
        "run_id": run_id,
        "last_segment_id": last,
        "definition": json.loads(definition),
        "model_feature": result(
            "position, feature, transform, weight, center, scale, fill, source_column, type, "
            "level, low, high, reference_date", "model_feature"),
        "centroid": result("segment_id, position, scaled_value", "centroid"),
        "segment": result("segment_id, name", "segment", "AND segment_id > 0"),
        "given": result("segment_id, name", "segment", "AND name_source = N'given'"),
    }  # fmt: skip


def versions_are_read(server: Server) -> bool:
    """Whether readers get row versions, without which an index says less (has_unique_key)."""
    return bool(server.value("SELECT d.is_read_committed_snapshot_on FROM sys.databases AS d "
                             "WHERE d.name = DB_NAME();"))  # fmt: skip


def make_customers(server: Server, rows: int = 120) -> None:
    """Three groups that nobody could confuse, and a NULL."""
    server.rows("CREATE TABLE dbo.customer (customer_id bigint NOT NULL PRIMARY KEY, "
                "income float NULL, age int NULL);")  # fmt: skip
    rng = np.random.default_rng(0)
    group = np.arange(rows) * 6 // rows
    group = np.array([0, 0, 0, 1, 1, 2])[group]
    income = np.array([40_000, 90_000, 160_000])[group] + rng.normal(size=rows) * 3_000
    age = np.array([25, 45, 62])[group]
    # Beyond 2^53: a key that passes through a float anywhere loses its last digit.
    values = ", ".join(
        f"({9007199254740993 + i}, {x!r}, {a})"
        for i, (x, a) in enumerate(zip(income.tolist(), age))
    )
    server.rows(f"INSERT INTO dbo.customer VALUES {values};")


def load_model(server: Server, name: str) -> SegmentModel:
    job = make_job(server, name, 0, 0)
    names = {row["segment_id"]: row["name"] for row in job["segment"]}
    return SegmentModel.from_rows(
        job["model_feature"], job["centroid"], names, scaling="", missing=""
    )


def publish_changes(server: Server, segments: list[dict[str, int]], *rows: str) -> str | None:
    """Stage a few changes of 120 trained customers and publish them; the error, if any."""
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'customers', @kind = N'assign', @run_id = @r OUTPUT; SELECT @r;"
    )
    columns = "customer_id, cluster, distance, departed"
    server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} ({columns}) VALUES {', '.join(rows)};")
    model_run_id = server.value("SELECT active_run_id FROM sqlkmeans.segmentation;")
    publication = {
        "segment_ids": [1, 2, 3], "model_run_id": model_run_id, "last_segment_id": 3,
        "distance_tolerance": 0, "staged_rows": len(rows), "changes_only": True,
        "run": {"rows": sum(segment["size"] for segment in segments)},
        "tables": {"segment": [{"name": str(s["segment_id"]), "name_source": "generated",
                                "description": "", "share": 0, "within_ss": 0, **s}
                               for s in segments]},
    }  # fmt: skip
    try:
        server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;", run_id,
                    json.dumps(publication))  # fmt: skip
    except sqlserver_server.mssql_python.Error as error:
        return str(error)
    return None


SIZES_AFTER = [{"segment_id": 1, "size": 59}, {"segment_id": 2, "size": 41},
               {"segment_id": 3, "size": 20}]  # fmt: skip
