"""The command line: JSON, exit codes, and which words go where."""

from __future__ import annotations

import errno
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import sqlkmeans
from sqlkmeans import demo, pipeline
from sqlkmeans.cli import commands
from sqlkmeans.cli.app import run_command
from sqlkmeans.cli.select import Selection
from sqlkmeans.clustering.kmeans.kernels import kernel
from sqlkmeans.database.duckdb import database as database_module
from sqlkmeans.errors import SqlKMeansError
from support.engines import ENGINES
from support.folders import labels, query
from support.shops import MakeCustomers

ROOT = Path(__file__).parent.parent.parent

DEFINITION = """
[database]
url = "duckdb:///shop.duckdb"

[segmentation.customers]
source = "dbo.customer"
key = "customer_id"
features = ["income", "age"]
k = 3
n_init = 3
target = "dbo.customer_segment"
"""

SECOND = """
[segmentation.by_age]
source = "dbo.customer"
key = "customer_id"
features = ["age"]
k = 2
n_init = 3
target = "dbo.by_age"
"""

RUN_KEYS = [
    "segmentation", "run_id", "engine", "status", "k", "rows", "skipped", "changed", "inertia",
    "n_iter", "scores", "segments", "target", "seconds",
]  # fmt: skip
SCORES = ["silhouette", "davies_bouldin", "calinski_harabasz"]
SEGMENT_KEYS = ["segment_id", "name", "size", "share", "centroid"]
SECONDS = ["read", "fit", "assign", "publish", "total"]


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        #: What is said, but for the file that nobody named.
        self.words = err.removeprefix("Definition: ./sqlkmeans.toml\n")

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]

    @property
    def problems(self) -> list[str]:
        error = self.json["error"]
        assert list(self.json) == ["error"]
        assert error["code"] == self.code
        return error["problems"]  # type: ignore[no-any-return]


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def shop(tmp_path: Path, command: Command, make_customers: MakeCustomers) -> Path:
    """A folder with a database of 120 customers and ``sqlkmeans.toml``."""
    (tmp_path / "sqlkmeans.toml").write_text(DEFINITION, encoding="utf-8")
    query(tmp_path, "CREATE SCHEMA dbo")
    with duckdb.connect(tmp_path / "shop.duckdb") as connection:
        connection.register("given", make_customers())
        connection.execute("CREATE TABLE dbo.customer AS FROM given")
    return tmp_path


# The table of segments

NAMES = ("income", "orders", "age", "visits", "basket_value", "returns", "discount_share",
         "newsletter_opens", "days_since_last_visit", "recency_days", "support_tickets",
         "loyalty_points")  # fmt: skip


@pytest.fixture
def wide(shop: Path) -> Path:
    """Customers with twelve features, of which each segment has some that set it apart."""
    columns = (
        f"(i % 4) * {j % 5 + 1}00.5 * {(-1) ** j} + hash(i * {j + 1}) % 100 AS {name}"
        for j, name in enumerate(NAMES)
    )
    query(shop, f"CREATE TABLE wide AS SELECT i AS customer_id, {', '.join(columns)} "
                "FROM range(2000) AS r (i)")  # fmt: skip
    text = DEFINITION.replace('dbo.customer"', 'wide"').replace(
        '["income", "age"]', json.dumps(NAMES)
    )
    (shop / "sqlkmeans.toml").write_text(text, encoding="utf-8")
    return shop


def test_a_table_of_twelve_features_fits_80_columns(
    wide: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlkmeans.cli.output.PIPE_WIDTH", 80)
    found = command("run")
    assert found.code == 0
    assert max(map(len, found.out.splitlines())) <= 80
    assert "mean (everyone's)" in found.out
    assert "--verbose shows all" in found.err
    told = [name for name in NAMES if re.search(rf"{name}\s", found.out)]
    assert 0 < len(told) <= 9
    more = command("run", "--verbose")
    assert max(map(len, more.out.splitlines())) <= 80
    of_all = more.out[more.out.index("everyone ") :]
    assert all(f"│ {name} " in of_all for name in NAMES)


def test_few_features_have_a_column_each_and_no_more_words(shop: Path, command: Command) -> None:
    found = command("run")
    assert found.out.startswith("customers: dbo.customer_segment (means)")
    heading = found.out.splitlines()[2]
    assert "income" in heading
    assert "age" in heading
    assert "--verbose" not in found.err


def test_the_table_has_the_means_that_the_report_has(shop: Path, command: Command) -> None:
    query(
        shop,
        "CREATE OR REPLACE TABLE dbo.customer AS SELECT *, customer_id % 3 = 0 AS member, "
        "CASE customer_id % 2 WHEN 0 THEN 'Oslo' ELSE 'Bergen' END AS city, "
        "DATE '2020-01-01' + CAST(customer_id AS integer) AS joined FROM dbo.customer",
    )
    text = DEFINITION.replace(
        '"income", "age"',
        '{ column = "income", transform = "log1p" }, { column = "member", type = "category" }, '
        '{ column = "city", type = "category" }, { column = "joined", type = "date" }',
    )
    (shop / "sqlkmeans.toml").write_text(text, encoding="utf-8")
    shown = command("run").out
    # A boolean has two features and one column.
    titles = {"income": 1, "member = yes": 3, "city = Bergen": 4, "city = Oslo": 5,
              "joined (days)": 6}  # fmt: skip
    assert command("report").code == 0
    page = (shop / "customers.html").read_text(encoding="utf-8")
    rows = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    headings = [cell.strip() for cell in shown.splitlines()[2].split("┃")[1:-1]]
    assert sorted(headings[4:]) == sorted(titles)
    for column, title in enumerate(headings[4:], start=4):
        assert f"{title}</th>" in page
        for row in rows:
            source = f"segment_feature.mean 1 {int(row[0])} {titles[title]}"
            (exact,) = set(re.findall(rf'data-value="([^"]*)" data-q="{source}"', page))
            cell = row[column].strip()
            if cell.endswith("%"):
                assert cell == f"{float(exact):.1%}"
            else:
                assert float(cell.replace(",", "")) == pytest.approx(float(exact), rel=1e-3)


# Explanations, and the guard


def test_explain_prints_the_reason_in_five_lines(shop: Path, command: Command) -> None:
    command("run")
    found = command("explain", "customers", 42)
    assert (found.code, found.words) == (0, "")
    lines = found.out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("Customer 42 is in segment 1 (")
    assert lines[2].startswith("Decided by ")


def test_explain_prints_the_same_as_json(shop: Path, command: Command) -> None:
    command("run")
    found = command("explain", "customers", 42, "--json").json
    assert list(found) == [
        "segmentation", "customer", "segment", "runner_up", "margin", "certainty", "features",
        "published_segment_id", "changed", "reason",
    ]  # fmt: skip
    assert found["reason"] == command("explain", "customers", 42).out.splitlines()
    moving = [f["change"] for f in found["features"] if f["change"]]
    assert list(moving[0]) == [
        "column",
        "value",
        "difference",
        "segment_id",
        "name",
        "is_usual",
        "told",
    ]
    assert found["reason"][-1].startswith(f"It would move with {moving[0]['told']} (segment ")
    [(distance,)] = query(shop, "SELECT distance FROM dbo.customer_segment WHERE customer_id = 42")
    assert found["segment"]["distance"] == pytest.approx(distance)


def test_the_change_that_explain_names_moves_the_customer_when_it_is_made(
    shop: Path, command: Command
) -> None:
    command("run")
    features = command("explain", "customers", 42, "--json").json["features"]
    change = next(f["change"] for f in features if f["change"])
    with duckdb.connect(str(shop / "shop.duckdb")) as connection:
        connection.execute(
            f"UPDATE dbo.customer SET {change['column']} = ? WHERE customer_id = 42",
            [change["value"]],
        )
    command("assign")
    found = query(shop, "SELECT segment_id FROM dbo.customer_segment WHERE customer_id = 42")
    assert found == [(change["segment_id"],)]


def test_export_sql_writes_a_macro_that_explains(shop: Path, command: Command) -> None:
    command("run")
    wanted = command("explain", "customers", 42, "--json").json
    script = command("export-sql", "customers", "--dialect", "duckdb", "--explain").out
    values = {f["feature"]: f["value"] for f in wanted["features"]}
    with duckdb.connect() as connection:
        connection.execute(script)
        found = connection.execute(
            "SELECT feature, contribution, new_value, new_segment_id "
            "FROM explain_customers(income := ?, age := ?)", [values["income"], values["age"]]
        ).fetchall()  # fmt: skip
    for feature in wanted["features"]:
        [(_, contribution, value, segment_id)] = [
            row for row in found if row[0] == feature["feature"]
        ]
        change = feature["change"] or {"value": None, "segment_id": None}
        assert contribution == pytest.approx(feature["contribution"])
        assert (value, segment_id) == (change["value"], change["segment_id"])
    refused = command("export-sql", "customers", "--explain", "--json")
    assert refused.code == 2
    assert "allowed: --dialect duckdb" in refused.problems[0]


def test_explaining_an_unknown_customer_exits_with_3(shop: Path, command: Command) -> None:
    command("run")
    found = command("explain", "customers", 4711, "--json")
    assert found.code == 3
    assert found.problems[0].startswith("customer 4711: not in dbo.customer; customer_id looks")


def test_a_load_with_half_the_incomes_zero_is_stopped_by_the_guard(
    shop: Path, command: Command
) -> None:
    guarded = DEFINITION + 'guard = { action = "refuse" }\n'
    (shop / "sqlkmeans.toml").write_text(guarded, encoding="utf-8")
    assert command("run").code == 0
    before = labels(shop)
    query(shop, "UPDATE dbo.customer SET income = 0 WHERE customer_id % 2 = 0")
    found = command("run", "--json")
    assert found.code == 3
    assert found.problems[0].startswith("income: drifted since run 1 (PSI ")
    assert labels(shop) == before
    assert [row["status"] for row in command("runs", "--json").json["runs"]] == [
        "failed", "published",
    ]  # fmt: skip


def test_run_tells_people_what_drifted(shop: Path, command: Command) -> None:
    command("run")
    query(shop, "UPDATE dbo.customer SET income = 0 WHERE customer_id % 2 = 0")
    found = command("run")
    assert found.code == 0
    assert "Warning: income: drifted since run 1 (PSI " in found.err


# The JSON that programs rely on


def test_run_prints_the_json_of_the_design(shop: Path, command: Command) -> None:
    found = command("run", "--json")
    assert (found.code, found.words) == (0, "")
    result = found.json
    assert [key for key in result if key in RUN_KEYS] == RUN_KEYS
    assert result["segmentation"] == "customers"
    assert result["target"] == "dbo.customer_segment"
    assert (result["engine"], result["status"], result["k"]) == ("local", "published", 3)
    assert (result["rows"], result["skipped"], result["changed"]) == (120, 0, 120)
    assert list(result["scores"]) == SCORES
    assert 0.8 < result["scores"]["silhouette"] <= 1
    assert result["inertia"] > 0
    assert result["n_iter"] >= 1
    assert [list(segment) for segment in result["segments"]] == [SEGMENT_KEYS] * 3
    assert [s["segment_id"] for s in result["segments"]] == [1, 2, 3]
    assert [s["size"] for s in result["segments"]] == [60, 40, 20]
    assert sum(s["share"] for s in result["segments"]) == pytest.approx(1)
    assert list(result["segments"][0]["centroid"]) == ["income", "age"]
    assert 35_000 < result["segments"][0]["centroid"]["income"] < 45_000
    assert list(result["seconds"]) == SECONDS
    assert result["seconds"]["total"] >= max(result["seconds"][step] for step in SECONDS[:-1])


def test_the_json_of_a_run_is_what_the_tables_say(shop: Path, command: Command) -> None:
    result = command("run", "--json").json
    [row] = query(shop, 'SELECT run_id, inertia, n_iter, silhouette, "rows" FROM sqlkmeans.run')
    assert row == (
        result["run_id"], result["inertia"], result["n_iter"], result["scores"]["silhouette"], 120,
    )  # fmt: skip
    stored = query(shop, "SELECT segment_id, name, size, share FROM sqlkmeans.segment ORDER BY 1")
    assert stored[1:] == [
        (s["segment_id"], s["name"], s["size"], s["share"]) for s in result["segments"]
    ]


def test_a_second_run_changes_nothing(shop: Path, command: Command) -> None:
    first, second = command("run", "--json").json, command("run", "--json").json
    assert second["changed"] == 0
    assert second["run_id"] == first["run_id"] + 1
    ids = [
        [(s["segment_id"], s["name"], s["size"]) for s in r["segments"]] for r in (first, second)
    ]
    assert ids[0] == ids[1]


def test_assign_prints_the_same_keys_and_fits_nothing(shop: Path, command: Command) -> None:
    command("run", "--json")
    query(shop, "DELETE FROM dbo.customer WHERE customer_id = 1")
    found = command("assign", "--json")
    assert found.code == 0
    result = found.json
    assert [key for key in result if key in RUN_KEYS] == RUN_KEYS
    assert (result["rows"], result["changed"], result["n_iter"]) == (119, 1, None)
    assert list(result["scores"]) == SCORES


def test_rollback_prints_the_run_that_brought_the_labels_back(shop: Path, command: Command) -> None:
    first = command("run", "--json").json
    before = labels(shop)
    query(shop, "DELETE FROM dbo.customer WHERE customer_id <= 10")
    second = command("run", "--json").json
    result = command("rollback", "customers", "--url", "duckdb:///shop.duckdb", "--json").json
    assert [key for key in result if key in RUN_KEYS] == RUN_KEYS
    assert (result["changed"], result["status"], result["kind"]) == (10, "published", "rollback")
    assert labels(shop) == before
    again = command("rollback", "--to", second["run_id"], "--json")
    assert again.json["changed"] == 10
    back = command("rollback", "sqlkmeans.toml", "--to", first["run_id"], "--json")
    assert back.code == 0
    assert labels(shop) == before


def test_runs_lists_the_runs_newest_first(shop: Path, command: Command) -> None:
    assert command("runs", "--json").json == {"runs": []}
    command("run", "--json")
    command("assign", "--json")
    query(shop, "UPDATE dbo.customer SET age = NULL WHERE customer_id = 1")
    assert command("run", "--json").code == 3
    runs = command("runs", "--json").json["runs"]
    assert [row["run_id"] for row in runs] == [3, 2, 1]
    assert [row["kind"] for row in runs] == ["fit", "assign", "fit"]
    assert [row["status"] for row in runs] == ["failed", "published", "published"]
    assert "age: 1 row is NULL" in runs[0]["error"]
    assert len(command("runs", "--limit", 2, "--json").json["runs"]) == 2
    named = command("runs", "customers", "--url", "duckdb:///shop.duckdb", "--json").json["runs"]
    assert named == runs
    table = command("runs")
    assert table.code == 0
    assert "assign" in table.out
    assert "failed" in table.out


def test_rename_names_a_segment_for_good(shop: Path, command: Command) -> None:
    command("run", "--json")
    found = command("rename", "sqlkmeans.toml", 2, "our middle", "--json")
    assert found.json == {"segmentation": "customers", "segment_id": 2, "name": "our middle"}
    again = command("run", "--json").json
    assert [s["name"] for s in again["segments"] if s["segment_id"] == 2] == ["our middle"]
    assert query(
        shop, "SELECT DISTINCT segment_name FROM dbo.customer_segment_named WHERE segment_id = 2"
    ) == [("our middle",)]


def test_install_says_which_version_the_schema_has(shop: Path, command: Command) -> None:
    first = command("install", "--json")
    assert first.code == 0
    assert first.json["version_before"] == 0
    assert first.json["version"] >= 1
    second = command("install", "--json").json
    assert second["version_before"] == second["version"] == first.json["version"]
    assert "already" in command("install").err


@pytest.mark.parametrize("name", ["run", "assign", "choose-k"])
def test_a_memory_limit_of_the_command_line_beats_the_definition(
    shop: Path, command: Command, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("sqlkmeans.toml").open("a") as file:
        file.write('memory_limit = "2GiB"\n')
    assert command("run", "--json").code == 0
    limits = []
    bound = database_module.DuckDBDatabase.limited_memory

    def limited(self: Any, limit: int) -> Any:
        limits.append(limit)
        return bound(self, limit)

    monkeypatch.setattr(database_module.DuckDBDatabase, "limited_memory", limited)
    assert command(name, "--json").code == 0
    assert command(name, "--json", "--memory-limit", "512MiB").code == 0
    # DuckDB's three eighths of 2 GiB, then of 512 MiB.
    assert limits == [3 * 2**28, 3 * 2**26]
    refused = command(name, "--json", "--memory-limit", "12MiB")
    assert refused.code == 2
    assert refused.problems == [
        'segmentation.customers.memory_limit: "12MiB" given; allowed: an amount of memory such as '
        '"1GiB" or "800 MB", or a number of bytes; 512 MiB or more'
    ]


def test_doctor_says_how_much_memory_is_free(shop: Path, command: Command) -> None:
    found = {row["check"]: row for row in command("doctor", "--json").json["findings"]}
    assert found["memory"]["ok"] is None
    assert re.match(r"[\d.,]+ [KMG]iB free; rows that need more than", found["memory"]["detail"])


def test_doctor_lists_its_findings(shop: Path, command: Command) -> None:
    found = command("doctor", "--json")
    assert found.code == 0
    findings = found.json["findings"]
    assert all(set(finding) == {"check", "ok", "detail"} for finding in findings)
    assert all(finding["ok"] is not False for finding in findings)
    assert any(finding["check"] == "segmentation customers" for finding in findings)
    assert any("NumPy" in f["detail"] for f in findings if f["check"] == "fit")
    table = command("doctor")
    assert table.code == 0
    assert "segmentation customers" in table.out


def test_doctor_exits_1_where_something_has_to_be_done(shop: Path, command: Command) -> None:
    query(shop, "ALTER TABLE dbo.customer DROP COLUMN age")
    table = command("doctor")
    assert table.code == 1
    assert "feature age: no such column" in " ".join(table.out.split())
    found = command("doctor", "--json")
    assert found.code == 1
    assert [f["ok"] for f in found.json["findings"] if f["check"].startswith("segmentation")] == [
        False
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE dbo.customer SET age = NULL WHERE customer_id < 4", ["age: 3 rows are NULL"]),
        ("UPDATE dbo.customer SET age = NULL WHERE customer_id < 4; "
         "UPDATE dbo.customer SET income = 1", ["age: 3 rows are NULL", "income: constant"]),
        ("INSERT INTO dbo.customer FROM dbo.customer LIMIT 1", ["not unique"]),
        ("INSERT INTO dbo.customer VALUES (NULL, 1, 1)", ["key customer_id: 1 NULL"]),
        ("DELETE FROM dbo.customer", ["no rows"]),
        ("DELETE FROM dbo.customer WHERE customer_id > 2", ["k = 3 and the source has 2 rows"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("engine", ENGINES)
def test_doctor_finds_in_the_rows_what_would_stop_a_run(
    change: str, says: list[str], engine: str, shop: Path, command: Command
) -> None:
    (shop / "sqlkmeans.toml").write_text(DEFINITION + f'engine = "{engine}"\n', encoding="utf-8")
    query(shop, change)
    found = command("doctor", "--json")
    assert found.code == 1
    todo = [f["detail"] for f in found.json["findings"] if f["ok"] is False]
    assert len(todo) == len(says)
    assert all(any(words in detail for detail in todo) for words in says)
    assert command("run", "--json").code == 3


def test_doctor_says_what_it_has_looked_at_and_what_not(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detail(*arguments: object) -> str:
        findings = command("doctor", *arguments, "--json").json["findings"]
        return next(f["detail"] for f in findings if f["check"].startswith("segmentation"))

    assert "in 120 rows no NULL or repeated key" in detail()
    command("run")
    monkeypatch.setattr(pipeline, "CHECKED_ROWS", 100)
    assert "not checked, because the source has more than 100 rows: NULL and" in detail()
    (shop / "sqlkmeans.toml").unlink()
    assert "not checked" in detail("customers", "--url", "shop.duckdb")
    assert detail("--url", "shop.duckdb") == "no definition file given, so none was checked"


def _self_test(failed: int) -> Callable[..., dict[str, Any]]:
    def answer(database: object, *, keep: bool = False) -> dict[str, Any]:
        results = [
            {"check": "labels", "ok": not failed, "detail": None, "milliseconds": 12},
            {"check": "Agent", "ok": None, "detail": "not here: kept" * keep, "milliseconds": 1},
        ]
        server = {"version": "16.0", "edition": "Developer", "collation": "Latin1_General_CI_AS"}
        counts = {"passed": 1 - failed, "not_here": 1, "failed": failed}
        return {**server, **counts, "results": results}

    return answer


def _have_self_test(monkeypatch: pytest.MonkeyPatch, failed: int) -> None:
    """Let the database that is opened be one that runs procedures, as far as the command asks."""

    class Server(database_module.DuckDBDatabase):
        self_test = _self_test(failed)

        def run_inside(self, segmentation: object, kind: str) -> int:
            raise NotImplementedError

        def run_script(self, script: str) -> None:
            raise NotImplementedError

    monkeypatch.setattr(database_module, "DuckDBDatabase", Server)


def test_self_test_shows_each_check_and_says_what_is_not_here(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have_self_test(monkeypatch, failed=0)
    shown = command("self-test", "--keep")
    assert shown.code == 0
    assert "SQL Server 16.0, Developer, Latin1_General_CI_AS" in " ".join(shown.out.split())
    assert "not here: kept" in shown.out
    assert "1 checks passed, 1 are about what is not here, 0 failed." in shown.err
    report = command("self-test", "--json")
    assert report.code == 0
    assert [result["ok"] for result in report.json["results"]] == [True, None]


def test_self_test_exits_1_where_a_check_failed(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have_self_test(monkeypatch, failed=1)
    shown = command("self-test")
    assert shown.code == 1
    assert "FAILED" in shown.out
    assert "Error: 1 of 2 checks failed; `sqlkmeans self-test --json` prints" in shown.err
    report = command("self-test", "--json")
    assert report.code == 1
    assert report.json["failed"] == 1


def test_self_test_needs_a_sql_server(shop: Path, command: Command) -> None:
    command("run", "--json")
    found = command("self-test", "--json")
    assert found.code == 4
    assert "only SQL Server has a self-test" in found.problems[0]


def test_uninstall_drops_nothing_without_yes(shop: Path, command: Command) -> None:
    command("run", "--json")
    planned = command("uninstall", "--json")
    assert planned.code == 0
    assert planned.json["executed"] is False
    assert any("DROP SCHEMA" in statement for statement in planned.json["statements"])
    assert len(query(shop, "SELECT * FROM sqlkmeans.run")) == 1
    words = command("uninstall")
    assert "Nothing was dropped" in words.err
    assert "DROP SCHEMA" in words.out
    done = command("uninstall", "--yes", "--json")
    assert done.json == {"executed": True, "statements": planned.json["statements"]}
    assert len(labels(shop)) == 120
    assert command("uninstall", "--json").json == {"executed": False, "statements": []}


def test_drop_drops_nothing_without_yes(shop: Path, command: Command) -> None:
    command("run", "--json")
    planned = command("drop", "customers", "--json").json
    assert (planned["segmentation"], planned["executed"]) == ("customers", False)
    assert any("customer_segment_history" in statement for statement in planned["statements"])
    words = command("drop", "customers")
    assert "Nothing was dropped; add --yes to do it. The segment table would stay." in words.err
    assert len(query(shop, "SELECT * FROM sqlkmeans.run")) == 1
    done = command("drop", "customers", "--yes", "--json").json
    assert done == {**planned, "executed": True}
    assert len(labels(shop)) == 120
    assert query(shop, "SELECT * FROM sqlkmeans.run") == []
    again = command("drop", "customers", "--yes", "--json")
    assert (again.code, "customers" in again.problems[0]) == (2, True)


def test_drop_takes_the_segment_table_where_it_is_asked_to(shop: Path, command: Command) -> None:
    command("run", "--json")
    assert "DROP TABLE" in command("drop", "customers", "--target", "--yes").out
    assert query(shop, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'dbo'") == [
        ("customer",)]  # fmt: skip


def test_several_segmentations_run_one_after_the_other(shop: Path, command: Command) -> None:
    (shop / "two.toml").write_text(DEFINITION + SECOND, encoding="utf-8")
    both = command("run", "two.toml", "--json").json
    assert [result["segmentation"] for result in both["runs"]] == ["customers", "by_age"]
    one = command("run", "two.toml", "--segmentation", "by_age", "--json").json
    assert one["segmentation"] == "by_age"
    unknown = command("run", "two.toml", "-s", "by_agee", "--json")
    assert unknown.code == 2
    assert "by_agee" in unknown.problems[0]


@pytest.mark.parametrize(
    "arguments",
    [["rename", 1, "best"], ["explain", 42], ["rollback"], ["report"], ["export-sql"]],
    ids=lambda arguments: arguments[0],
)
def test_a_command_on_one_segmentation_of_several_is_told_which(
    arguments: list[object], shop: Path, command: Command
) -> None:
    (shop / "two.toml").write_text(DEFINITION + SECOND, encoding="utf-8")
    for _ in range(3):
        assert command("run", "two.toml", "--json").code == 0
    name, *values = arguments
    asked = command(name, "two.toml", *values, "--json")
    assert asked.code == 2
    assert asked.problems == [
        "name one segmentation with --segmentation; allowed: customers, by_age"
    ]
    for option in ("-s", "--segmentation"):
        done = command(name, "two.toml", *values, option, "by_age", "--json")
        assert (done.code, done.json["segmentation"]) == (0, "by_age")
    wrong = command(name, "two.toml", *values, "-s", "by_agee", "--json")
    assert wrong.problems == ["segmentation by_agee given; allowed: customers, by_age"]


def test_a_segmentation_that_fails_does_not_stop_the_next(shop: Path, command: Command) -> None:
    (shop / "two.toml").write_text(
        DEFINITION.replace('"income"', '"incom"') + SECOND, encoding="utf-8"
    )
    found = command("run", "two.toml", "--json")
    assert found.code == 3
    assert list(found.json) == ["runs", "error"]
    assert [run["segmentation"] for run in found.json["runs"]] == ["by_age"]
    problems = found.json["error"]["problems"]
    assert problems[0].startswith("customers: feature incom: no such column")
    assert query(shop, "SELECT COUNT(*) FROM dbo.by_age") == [(120,)]


def test_a_segmentation_that_ran_before_is_known_by_its_name(shop: Path, command: Command) -> None:
    command("run", "--json")
    (shop / "sqlkmeans.toml").unlink()
    found = command("run", "customers", "--url", "duckdb:///shop.duckdb", "--json")
    assert found.code == 0
    assert found.json["changed"] == 0
    unknown = command("run", "clients", "--url", "duckdb:///shop.duckdb", "--json")
    assert unknown.code == 2
    assert unknown.problems == ["segmentation clients: not in this database (it has: customers)"]


def test_the_url_of_the_environment_goes_before_that_of_the_file(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLKMEANS_URL", "duckdb:///nowhere.duckdb")
    assert command("run", "--json").code == 4
    assert command("run", "--url", "duckdb:///shop.duckdb", "--json").code == 0


# Exit codes


def test_exit_2_for_a_definition_with_six_mistakes_and_each_is_told(
    shop: Path, command: Command
) -> None:
    (shop / "bad.toml").write_text(
        """
[segmentation.customers]
source = "DELETE FROM x"
features = []
k = 1
target = "my target"
scaling = "std"
engin = "local"
""",
        encoding="utf-8",
    )
    found = command("run", "bad.toml", "--json")
    assert found.code == 2
    assert len(found.problems) == 7
    plain = command("run", "bad.toml")
    assert plain.code == 2
    assert plain.out == ""
    assert plain.err.count("Error: ") == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "none.toml"],
        ["run", "--engine", "quantum"],
        ["rename", "sqlkmeans.toml", "two", "x"],
        ["rename", "sqlkmeans.toml"],
        ["runs", "--limit", "0"],
        ["demo", "--customers", "1"],
        ["run", "--url", "nonsense"],
        ["run", "--url", "mysql://host/db"],
        ["rollback"],
    ],
)
def test_exit_2_for_bad_usage(arguments: list[str], shop: Path, command: Command) -> None:
    plain = command(*arguments)
    assert plain.code == 2
    assert plain.out == ""
    assert plain.words.startswith("Error: ")
    assert "Traceback" not in plain.err
    found = command(*arguments, "--json")
    assert found.code == 2
    assert found.problems


def test_exit_2_without_any_database(command: Command) -> None:
    found = command("runs", "--json")
    assert found.code == 2
    assert "--url" in found.problems[0]
    assert "SQLKMEANS_URL" in found.problems[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE dbo.customer SET age = NULL WHERE customer_id < 4", "age: 3 rows are NULL"),
        ("INSERT INTO dbo.customer FROM dbo.customer LIMIT 1", "not unique"),
        ("ALTER TABLE dbo.customer ALTER age TYPE varchar", "feature age: its type is VARCHAR"),
        ("DROP TABLE dbo.customer", "source dbo.customer"),
        ("DELETE FROM dbo.customer", "no rows"),
    ],
)
def test_exit_3_for_bad_data_and_the_labels_stay(
    change: str, says: str, shop: Path, command: Command
) -> None:
    command("run", "--json")
    before = labels(shop)
    query(shop, change)
    found = command("run", "--json")
    assert found.code == 3
    assert found.err == ""
    assert any(says in problem for problem in found.problems)
    plain = command("run")
    assert (plain.code, plain.out) == (3, "")
    assert plain.words.startswith("Error: ")
    assert "Traceback" not in plain.err
    assert labels(shop) == before


def test_exit_4_for_a_database_that_is_not_there(shop: Path, command: Command) -> None:
    for arguments in (["run"], ["runs"], ["doctor"], ["assign"], ["rollback"], ["uninstall"]):
        found = command(*arguments, "--url", "duckdb:///none.duckdb", "--json")
        assert found.code == 4
        assert found.problems == [
            "none.duckdb: there is no such database file; `sqlkmeans install` makes one"
        ]
    assert not (shop / "none.duckdb").exists()


def test_exit_4_for_a_file_that_is_no_database(shop: Path, command: Command) -> None:
    (shop / "text.duckdb").write_text("not a database" * 1000, encoding="utf-8")
    found = command("run", "--url", "duckdb:///text.duckdb", "--json")
    assert found.code == 4
    assert "text.duckdb" in found.problems[0]


def test_exit_5_when_another_process_has_the_database(shop: Path, command: Command) -> None:
    command("run", "--json")
    before = labels(shop)
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import duckdb, sys; c = duckdb.connect('shop.duckdb'); print('open', flush=True); "
         "sys.stdin.read()"],
        cwd=shop, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        found = command("run", "--json")
        assert found.code == 5
        assert "another process has this database open" in found.problems[0]
        assert "A notebook keeps it open until its connection.close()" in found.problems[0]
        if sys.platform == "linux":
            assert f", process {holder.pid})" in found.problems[0]
    finally:
        holder.communicate()
    assert labels(shop) == before


def test_exit_5_when_this_process_reads_the_database_elsewhere(
    shop: Path, command: Command
) -> None:
    command("run", "--json")
    with duckdb.connect(shop / "shop.duckdb", read_only=True):
        found = command("run", "--json")
    assert found.code == 5
    assert "this process has the database open already" in found.problems[0]


def test_a_wrong_table_is_told_with_the_tables_that_are_near(shop: Path, command: Command) -> None:
    query(shop, "CREATE TABLE orders AS SELECT 1 AS id")
    near = {
        "dbo.custmer": ", did you mean dbo.customer?",
        "customer": ", did you mean dbo.customer?",
        "DBO.Customers": ", did you mean dbo.customer?",
        "main.order": ", did you mean orders?",
        "xyz": "",
    }
    for given, hint in near.items():
        text = DEFINITION.replace('"dbo.customer"', f'"{given}"')
        (shop / "sqlkmeans.toml").write_text(text, encoding="utf-8")
        found = command("run", "--json")
        assert found.code == 3
        assert found.problems == [
            f"source {given}: no such table or view{hint} (there are dbo.customer, orders)"
        ]
    text = DEFINITION.replace('"dbo.customer"', '"SELECT * FROM dbo.custmer"')
    (shop / "sqlkmeans.toml").write_text(text, encoding="utf-8")
    assert 'does not exist; Did you mean "customer"?' in command("run", "--json").problems[0]


def test_a_segment_is_named_by_its_number(shop: Path, command: Command) -> None:
    command("run", "--json")
    found = command("rename", "sqlkmeans.toml", "four", "x", "--json")
    assert found.code == 2
    assert found.problems == ["segment 'four' given; allowed: the number of a segment (1, 2, 3)"]


def test_exit_5_when_another_run_holds_the_lock(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlkmeans.database import open_database

    with open_database("duckdb:///shop.duckdb") as other, other.store.lock("customers"):
        found = command("run", "--json")
    assert found.code == 5
    assert "is being run already; nothing was changed" in found.problems[0]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_exit_1_for_what_nobody_expected(
    flags: list[str], shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(pipeline, "run", fails)
    found = command("run", *flags)
    assert found.code == 1
    told = found.problems[0] if flags else found.err
    assert "surprise" in told
    assert "Traceback" not in found.err
    assert "Traceback" in command("run", "--verbose", *flags).err


def test_an_interrupt_says_that_nothing_was_published(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    found = command("run", "--json")
    assert found.code == 1
    assert "nothing was published" in found.problems[0]


def test_every_error_class_has_an_exit_code_of_its_own() -> None:
    codes = {error.__name__: error.exit_code for error in SqlKMeansError.__subclasses__()}
    assert codes == {
        "DefinitionError": 2, "DataError": 3, "DatabaseError": 4, "LockedError": 5,
    }  # fmt: skip
    assert SqlKMeansError("x").exit_code == 1
    assert SqlKMeansError(["a", "b"]).to_json() == {"error": {"code": 1, "problems": ["a", "b"]}}
    assert str(SqlKMeansError(["a", "b"])) == "a\nb"


# Words


def test_results_go_to_standard_output_and_words_to_standard_error(
    shop: Path, command: Command
) -> None:
    found = command("run")
    assert found.code == 0
    assert "customer_segment" in found.out
    assert "60" in found.out
    assert "Run 1: 120 customers, 120 changed" in found.err
    assert "Run 1" not in found.out


def test_quiet_says_nothing_but_the_result(shop: Path, command: Command) -> None:
    found = command("run", "--quiet")
    assert found.code == 0
    assert found.err == ""
    assert found.out
    for arguments in (["install"], ["uninstall"], ["doctor"], ["rename", "sqlkmeans.toml", 1, "x"]):
        assert command(*arguments, "--quiet").err == ""
    failing = command("run", "none.toml", "--quiet")
    assert failing.code == 2
    assert failing.words.startswith("Error: ")


def test_verbose_tells_the_time_of_each_step(shop: Path, command: Command) -> None:
    err = command("run", "--verbose").err
    assert all(f"{step} 0." in err or f"{step} 1." in err for step in SECONDS)


def test_a_run_with_warnings_shows_them(shop: Path, command: Command) -> None:
    (shop / "skip.toml").write_text(DEFINITION + 'missing = "skip"\n', encoding="utf-8")
    query(shop, "UPDATE dbo.customer SET age = NULL WHERE customer_id = 1")
    assert "Warning: 1 row" in command("run", "skip.toml").err
    result = command("run", "skip.toml", "--json").json
    assert result["skipped"] == 1
    assert sum("skipped" in line for line in result["warnings"]) == 1


def test_names_with_brackets_are_printed_as_they_are(shop: Path, command: Command) -> None:
    command("run", "--json")
    command("rename", "sqlkmeans.toml", 1, "[bold]best[/bold]", "--json")
    assert "[bold]best" in command("run").out


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments: list[str], command: Command) -> None:
    found = command(*arguments)
    words = found.out + found.err
    for name in ("demo", "install", "run", "assign", "runs", "rollback", "rename", "doctor",
                 "uninstall"):  # fmt: skip
        assert f" {name} " in words


def test_version_prints_the_version(command: Command) -> None:
    from sqlkmeans import __version__

    assert command("--version").out == f"sqlkmeans {__version__}\n"


@pytest.mark.parametrize("name", ["run", "assign", "choose-k", "demo"])
def test_a_database_in_memory_comes_with_a_warning(shop: Path, command: Command, name: str) -> None:
    url = "duckdb:///:memory:"
    found = command(name, "--url", url, *(["--customers", 100] if name == "demo" else []))
    assert "Warning: the database is in memory, and nothing stays when this" in found.err
    assert "Try next" not in found.err
    findings = command("doctor", "--url", url, "--json").json["findings"]
    assert [f["ok"] for f in findings if "where nothing stays" in f["detail"]] == [None]


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        "mssql+oracle://sa:S3cretPass@host/shop",
        "postgresql://sa:S3cretPass@host/shop",
        "mysql://sa:S3cretPass@host:99/shop",
        "mssql+pyodbc//sa:S3cretPass@host/shop",
        "sa:S3cretPass@host",
        "mssql+pyodbc://sa@host:S3cretPass/shop",
        "mssql+pyodbc://sa:p@ss:S3cretPass/shop",
        "://:S3cretPass",
        "Server=host;UID=sa;PWD=S3cretPass",
        "duckdb:///none.duckdb?password=S3cretPass",
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"], ["--verbose"]])
def test_no_password_of_a_url_is_ever_printed(
    url: str, flags: list[str], shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "url.toml").write_text(
        DEFINITION.replace("duckdb:///shop.duckdb", url), encoding="utf-8"
    )
    for arguments in (["run", "--url", url], ["run", "url.toml"], ["runs", "url.toml"]):
        found = command(*arguments, *flags)
        assert found.code in (2, 4)
        assert "S3cretPass" not in found.out + found.err
    monkeypatch.setenv("SQLKMEANS_URL", url)
    found = command("doctor", *flags)
    assert found.code in (2, 4)
    assert "S3cretPass" not in found.out + found.err


def test_a_selection_does_not_show_its_url_in_a_repr() -> None:
    assert "S3cret" not in repr(Selection("mssql+pyodbc://sa:S3cret@host/shop", None, None))


# The demo


@pytest.fixture
def small_demo(command: Command) -> Command:
    def run(*arguments: object) -> Outcome:
        return command("demo", "--customers", 400, "--clusters", 3, *arguments)

    return run


def test_the_demo_segments_and_draws_and_a_second_one_changes_nothing(
    small_demo: Command, tmp_path: Path
) -> None:
    first = small_demo("--json")
    assert (first.code, first.err) == (0, "")
    assert [key for key in first.json if key in RUN_KEYS] == RUN_KEYS
    assert (first.json["rows"], first.json["k"], first.json["changed"]) == (400, 3, 400)
    assert (tmp_path / "sqlkmeans_demo.duckdb").exists()
    assert (tmp_path / "sqlkmeans_demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    second = small_demo("--json").json
    assert second["changed"] == 0
    ids = [[(s["segment_id"], s["size"]) for s in r["segments"]] for r in (first.json, second)]
    assert ids[0] == ids[1]


@pytest.mark.spark
def test_the_demo_finds_the_same_segment_for_every_customer_with_spark(
    small_demo: Command,
) -> None:
    first = small_demo("--json").json
    second = small_demo("--json", "--engine", "spark").json
    assert (second["engine"], second["changed"]) == ("spark", 0)
    assert second["segments"] == first["segments"]


def test_the_demo_says_what_to_try_next_and_that_works(
    small_demo: Command, command: Command, tmp_path: Path
) -> None:
    found = small_demo()
    assert found.code == 0
    assert "dbo.customer_segment" in found.out
    assert "sqlkmeans_demo.png" in found.err
    assert "duckdb.connect" in found.err
    again = command("run", "demo.toml", "--json")
    assert again.code == 0
    assert again.json["changed"] == 0
    # The query that it prints runs as printed.
    lines = [line.strip() for line in found.err.splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("import duckdb"))
    code = "\n".join(lines[start : start + 3])
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "segment_name" in shown.stdout


def test_the_demo_never_overwrites_a_table_that_is_not_its_own(
    small_demo: Command, command: Command, tmp_path: Path
) -> None:
    small_demo("--json")
    other = command("demo", "--customers", 500, "--json")
    assert other.code == 2
    assert "with 400 customers and not 500" in other.problems[0]
    with duckdb.connect(tmp_path / "mine.duckdb") as mine:
        mine.execute("CREATE SCHEMA dbo; CREATE TABLE dbo.customer AS SELECT 1 AS id")
    refused = small_demo("--database", "mine.duckdb", "--json")
    assert refused.code == 2
    assert "is not the demo's" in refused.problems[0]
    with duckdb.connect(tmp_path / "mine.duckdb") as mine:
        assert mine.execute("FROM dbo.customer").fetchall() == [(1,)]


def test_the_demo_leaves_a_definition_file_of_that_name_alone(
    small_demo: Command, tmp_path: Path
) -> None:
    (tmp_path / "demo.toml").write_text("mine", encoding="utf-8")
    assert small_demo().code == 0
    assert (tmp_path / "demo.toml").read_text(encoding="utf-8") == "mine"


def test_the_demo_writes_where_it_is_told(small_demo: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    found = small_demo("--database", "out/d.duckdb", "--plot", "out/p.png", "--json")
    assert found.code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"d.duckdb", "p.png"}
    assert not (tmp_path / "sqlkmeans_demo.duckdb").exists()
    assert not (tmp_path / "sqlkmeans_demo.png").exists()


def test_the_defaults_of_the_demo_are_those_of_the_package() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(commands.demo).parameters.items()
    }
    assert (defaults["customers"], defaults["clusters"], defaults["seed"]) == (
        demo.CUSTOMERS, demo.CLUSTERS, demo.SEED,
    )  # fmt: skip
    assert (demo.CUSTOMERS, demo.CLUSTERS) == (100_000, 5)
    assert defaults["database"] == "sqlkmeans_demo.duckdb"


def test_the_customers_of_the_demo_are_natural_clusters_and_the_same_for_a_seed() -> None:
    customers = demo.make_customers(20_000, 4, seed=3)
    assert customers.equals(demo.make_customers(20_000, 4, seed=3))
    assert not customers.equals(demo.make_customers(20_000, 4, seed=4))
    assert customers.column("customer_id").to_pylist() == list(range(1, 20_001))
    from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans

    points = customers.select(["income", "age"]).to_pandas().to_numpy()
    scaled = (points - points.mean(axis=0)) / points.std(axis=0)
    fit = fit_kmeans(scaled, 4, n_init=5)
    for cluster in range(4):
        members = points[fit.assignment.labels == cluster]
        assert 7_000 < members[:, 0].std() < 13_000
        assert 1.2 < members[:, 1].std() < 3
    centres = [points[fit.assignment.labels == cluster].mean(axis=0) for cluster in range(4)]
    assert all(20_000 < income < 200_000 and 20 < age < 70 for income, age in centres)


# Start


def test_help_in_a_process_of_its_own_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sqlkmeans.cli.app import run_command\n"
        "assert run_command(['--help']) == 0\n"
        "heavy = {'sklearn', 'scipy', 'pandas', 'matplotlib', 'sqlalchemy', 'duckdb', 'numpy',\n"
        "         'pyarrow', 'pydantic', 'pyodbc', 'mssql_python'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "demo" in done.stdout


def test_a_run_on_duckdb_loads_no_library_that_only_others_need(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "shop.duckdb") as connection:
        connection.execute(
            "CREATE TABLE customer AS SELECT i AS id, i % 7 AS x FROM range(900) t(i)"
        )
    (tmp_path / "shop.toml").write_text(
        '[database]\nurl = "duckdb:///shop.duckdb"\n\n[segmentation.customers]\n'
        'source = "customer"\nkey = "id"\nfeatures = ["x"]\nk = 3\ntarget = "segment"\n'
        "sample_rows = 500\n"
    )
    code = (
        "import sys\n"
        "from sqlkmeans.cli.app import run_command\n"
        "assert run_command(['run', 'shop.toml', '--quiet']) == 0\n"
        "others = {'sklearn', 'scipy', 'matplotlib', 'sqlalchemy', 'pyodbc', 'mssql_python'}\n"
        "print(sorted(others & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_python_m_sqlkmeans_is_the_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sqlkmeans", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    shown = run("--help")
    assert shown.returncode == 0
    assert "Usage: sqlkmeans" in shown.stdout
    failed = run("run", "--url", "duckdb:///none.duckdb", "--json")
    assert failed.returncode == 4
    assert json.loads(failed.stdout)["error"]["code"] == 4


def test_the_package_offers_its_names_without_loading_them() -> None:
    code = (
        "import sys, sqlkmeans\n"
        "assert 'sqlkmeans.pipeline' not in sys.modules\n"
        "for name in sqlkmeans.__all__: getattr(sqlkmeans, name)\n"
        "assert set(dir(sqlkmeans)) == set(sqlkmeans.__all__)\n"
        "try: sqlkmeans.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "module 'sqlkmeans' has no attribute 'nothing'\n", done.stderr


def test_every_function_takes_what_it_works_on_and_then_the_database() -> None:
    functions = [value for name in sqlkmeans.__all__
                 if inspect.isfunction(value := getattr(sqlkmeans, name))]  # fmt: skip
    assert len(functions) >= 10
    for function in functions:
        parameters = list(inspect.signature(function).parameters)
        if "database" in parameters:
            assert parameters[0] in ("segmentation", "name"), function
            assert parameters[1] == "database", function
        documented = (ROOT / "docs" / "try.md").read_text(encoding="utf-8")
        assert f"{function.__name__}" in documented or function.__name__ == "load_definition"


def test_the_python_of_the_first_page_works(
    small_demo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_demo("--json")
    text = (ROOT / "docs" / "try.md").read_text(encoding="utf-8")
    blocks = text[text.index("## From Python") :].split("\n\n")
    code = "\n".join(
        line.removeprefix("    ")
        for block in blocks if block.startswith("    ") for line in block.splitlines()
    )  # fmt: skip
    names: dict[str, Any] = {"frame": pd.DataFrame({"income": [50_000.0], "age": [40.0]})}
    exec(code.replace("k=5", "k=3"), names)
    assert (tmp_path / "customers.html").exists()
    assert names["model"].predict(names["frame"]).tolist() in ([1], [2], [3])


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_leaves_early_does_not_make_a_published_run_a_failed_one(shop: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sqlkmeans", "run", "--json"],
        cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, words = process.communicate(timeout=60)
    assert (process.returncode, words) == (0, b"")
    assert len(labels(shop)) == 120


def test_a_large_run_without_numba_recommends_it(
    shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "WORTH_INSTALLING", 100)
    monkeypatch.setattr(kernel, "find_spec", lambda name: None)
    warnings = command("run", "--json").json["warnings"]
    assert sum('pip install "sqlkmeans[fast]"' in warning for warning in warnings) == 1


# Choosing k


def test_choose_k_prints_the_json_of_the_design_and_publishes_nothing(
    shop: Path, command: Command
) -> None:
    found = command("choose-k", "--json", "--k-max", 5)
    assert (found.code, found.words) == (0, "")
    result = found.json
    assert next(iter(result)) == "segmentation"
    assert [result[key] for key in ("segmentation", "structure", "shape", "recommended_k")] == [
        "customers", True, "compact", 3,
    ]  # fmt: skip
    assert result["reason"].startswith("3 segments: best by ")
    assert [row["k"] for row in result["scores"]] == [2, 3, 4, 5]
    assert {"inertia", "silhouette", "gap", "stability"} <= set(result["scores"][0])
    assert query(shop, "SELECT COUNT(*) FROM sqlkmeans.k_score") == [(4,)]
    tables = query(shop, "SELECT table_name FROM information_schema.tables "
                         "WHERE table_schema = 'dbo'")  # fmt: skip
    assert tables == [("customer",)]


def test_choose_k_shows_every_score_marks_one_k_and_gives_the_reason(
    shop: Path, command: Command
) -> None:
    found = command("choose-k", "--k-max", 4, "--verbose")
    assert found.code == 0
    assert found.out.count("recommended") == 1
    assert "│ 3 │" in next(line for line in found.out.splitlines() if "recommended" in line)
    for heading in ("inertia", "Davies-Bouldin", "separation", "stability", "smallest"):
        assert heading in found.out
    assert found.out.rstrip().splitlines()[-1].startswith("3 segments: best by ")
    assert "fit " in found.err


def test_choose_k_draws_its_scores(shop: Path, command: Command) -> None:
    assert command("choose-k", "--k-max", 4, "--plot", "scores.png").code == 0
    assert (shop / "scores.png").read_bytes().startswith(b"\x89PNG")


NOWHERE = {
    "no/such/x.png": "there is no folder no/such",
    "folder.png": "is a folder",
    "x.xyz": "allowed: a picture, ",
}


@pytest.mark.parametrize("place", NOWHERE)
@pytest.mark.parametrize(
    "arguments",
    [["choose-k", "--plot"], ["demo", "--plot"], ["report", "--output"],
     ["export-sql", "--to-file"]],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_refused_before_the_work_begins(
    arguments: list[str], place: str, shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "x.xyz" and arguments[-1] != "--plot":
        return
    (shop / "folder.png").mkdir()

    def work(*_: object, **__: object) -> None:
        raise AssertionError("began")

    monkeypatch.setattr(database_module.DuckDBDatabase, "count", work)
    monkeypatch.setattr(database_module.DuckDBDatabase, "schema_version", work)
    if arguments[0] == "report":
        # One segmentation has to be known before its page is named.
        monkeypatch.undo()
        monkeypatch.chdir(shop)
        monkeypatch.setattr("sqlkmeans.report.page.read_facts", work)
    found = command(*arguments, place)
    assert (found.code, found.out) == (2, "")
    assert NOWHERE[place] in found.err


@pytest.mark.parametrize("arguments", [["choose-k", "--k-max", "3"], ["demo", "--customers", 100]])
def test_a_disk_that_fills_up_later_takes_no_result_away(
    arguments: list[object], shop: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    found = command(*arguments, "--plot", "x.png", "--json")
    assert found.code == 2
    assert found.json["segmentation"] == "customers"
    assert found.err == "Error: x.png: cannot be written: No space left on device\n"


def test_choose_k_says_that_noise_has_no_structure(shop: Path, command: Command) -> None:
    query(
        shop,
        "CREATE OR REPLACE TABLE dbo.customer AS SELECT i AS customer_id, "
        "hash(i) / 1e19 AS income, hash(i + 1000) / 1e19 AS age FROM range(500) AS r (i)",
    )
    result = command("choose-k", "--json", "--k-max", 5).json
    assert (result["structure"], result["recommended_k"]) == (False, None)
    assert not any(row["recommended"] for row in result["scores"])
    words = command("choose-k", "--k-max", 5).out
    assert "No cluster structure" in words


def test_choose_k_takes_several_segmentations_but_draws_one(shop: Path, command: Command) -> None:
    with (shop / "sqlkmeans.toml").open("a", encoding="utf-8") as file:
        file.write(SECOND)
    refused = command("choose-k", "--plot", "scores.png", "--json")
    assert refused.code == 2
    assert "allowed: customers, by_age" in refused.problems[0]
    both = command("choose-k", "--k-max", 3, "--json").json
    assert [run["segmentation"] for run in both["runs"]] == ["customers", "by_age"]
    assert command("choose-k", "-s", "by_age", "--k-max", 3, "--plot", "scores.png").code == 0


def test_a_range_without_a_k_is_refused(shop: Path, command: Command) -> None:
    refused = command("choose-k", "--k-min", 8, "--k-max", 4, "--json")
    assert refused.code == 2
    assert "k_min is 8 and k_max 4" in refused.problems[0]


def test_run_with_k_auto_prints_the_recommendation(shop: Path, command: Command) -> None:
    text = DEFINITION.replace("k = 3", 'k = "auto"\nk_max = 4')
    (shop / "sqlkmeans.toml").write_text(text, encoding="utf-8")
    result = command("run", "--json").json
    assert result["k"] == 3
    assert result["recommendation"]["recommended_k"] == 3
    assert "3 segments: best by" in command("run").err
