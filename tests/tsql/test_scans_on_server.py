"""How often a run reads and sorts its rows: counted in the statements that it executes."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from support.statement_log import statement_log
from support.tsql_files import GRAMMARS, PROCEDURES, check, read
from support.tsql_server import Server, versions_are_read

#: The tables of a run that have a row a customer, and its source.
BIG = r"(?:#sqlkmeans_(?:input|prepared|scored|label)\b|\[dbo\]\.\[wide\])"
READ = re.compile(rf"\b(?:FROM|JOIN) {BIG}")
#: What happens only when something is amiss: no row in a cluster, too few that differ.
RARELY = [r"IF @@ROWCOUNT < @k\nBEGIN.*?\nEND;", r"IF @differing < @k\nBEGIN.*?\nEND;"]


def looks(statements: list[str]) -> tuple[int, int, list[str]]:
    """Reads of a big table by passes, by sorts of one column, and which else."""
    passes = sorts = 0
    others: list[str] = []
    for text in statements:
        for rare in RARELY:
            text = re.sub(rare, "", text, flags=re.DOTALL)
        found = READ.findall(text)
        count = len(found)
        if "INSERT INTO #sqlkmeans_moved" in text:
            passes += count
        elif re.search(r"INTO #sqlkmeans_(?:ranked|sorted)\b", text):
            sorts += count
        else:
            others += [f"{read} in {text[:60]!r}" for read in found]
    return passes, sorts, others


def sorts_of(statements: list[str]) -> list[str]:
    """What a statement orders all rows of a big table by; the same order twice is one sort."""
    found: list[str] = []
    for text in statements:
        # Of a sample, only what is below its share is sorted.
        if READ.search(text) and "h.hash < @share" not in text:
            for rare in RARELY:
                text = re.sub(rare, "", text, flags=re.DOTALL)
            found += sorted(
                set(re.findall(r"OVER \((?:PARTITION BY [^)]*? )?(ORDER BY [^)]*)\)", text))
            )
        if re.search(r"INSERT INTO sqlkmeans\.\[staging_\d+\] WITH", text):
            found.append("the staging table's key")
    return found


def make_wide(server: Server, features: int) -> None:
    rng = np.random.default_rng(1)
    columns = ", ".join(f"f{n} float" for n in range(features))
    server.rows(f"CREATE TABLE dbo.wide (customer_id int NOT NULL PRIMARY KEY, {columns});")
    values = np.round(rng.normal(size=(300, features)) + np.arange(300)[:, None] % 3 * 8, 3)
    rows = ", ".join(f"({n}, {', '.join(map(str, row))})" for n, row in enumerate(values.tolist()))
    server.rows(f"INSERT INTO dbo.wide VALUES {rows};")


def define(server: Server, features: int, **values: Any) -> None:
    names = json.dumps([f"f{n}" for n in range(features)])
    more = "".join(f", @{name} = N'{value}'" for name, value in values.items())
    server.rows("EXECUTE sqlkmeans.define_segmentation @segmentation = N'wide', @source = "
                "N'dbo.wide', @key = N'customer_id', @target = N'dbo.wide_segment', @k = 3, "
                f"@n_init = 2, @features = N'{names}'{more};")  # fmt: skip


@pytest.fixture(params=[4, 10])
def features(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.sqlserver
def test_a_run_reads_its_rows_a_few_times_and_sorts_each_column_once(
    server: Server, features: int
) -> None:
    make_wide(server, features)
    for name, values in {
        "standard": {}, "robust, winsorized": {"scaling": "robust", "winsorize": "[0.01, 0.99]"},
    }.items():  # fmt: skip
        define(server, features, **values)
        with statement_log(server) as logged:
            run_id = server.value("EXECUTE sqlkmeans.run_segmentation @segmentation = N'wide', "
                                  "@engine = N'tsql';")  # fmt: skip
            trained = logged()
        passed, sorted_columns, others = looks(trained)
        sorts = sorts_of(trained)
        counts = f"{len(others)} scans, {passed} passes, {len(sorts)} sorts"
        print(f"\n{name}, {features} features: {counts}")
        n_iter = server.value("SELECT n_iter FROM sqlkmeans.run WHERE run_id = ?;", run_id)
        assert 1 <= passed <= n_iter
        assert sorted_columns == (0 if name == "standard" else features)
        # One of them for sums about the means, which the quantiles of "robust" do without.
        assert len(others) <= (8 if name == "standard" else 7) + 1, others  # the source too
        assert len(sorts) <= sorted_columns + 2, sorts
        for grammar in GRAMMARS:
            assert not check("\nGO\n".join(dict.fromkeys(trained)) + "\nGO\n", grammar)
    server.rows("UPDATE dbo.wide SET f1 = f1 + 0.01 WHERE customer_id < 3;")
    for medians, most in ((0, 4), (1, 5)):
        with statement_log(server) as logged:
            server.rows("EXECUTE sqlkmeans.assign_segments @segmentation = N'wide', "
                        f"@medians = {medians};")  # fmt: skip
            assigned = logged()
        *_, others = looks(assigned)
        sorts = sorts_of(assigned)
        print(f"assigned, medians {medians}: {len(others)} scans, {len(sorts)} sorts")
        # The source too; and whether keys repeat, where the source's index does not say so.
        assert len(others) == most + 1 - versions_are_read(server), others
        assert sorts == ["the staging table's key"], "of what changed"


def test_statements_that_are_not_built_read_the_rows_only_when_something_is_amiss() -> None:
    """They would not be in the log."""
    found = []
    for name in PROCEDURES:
        text = re.sub(r"--[^\n]*|N'(?:[^']|'')*'", "", read(name))
        for match in READ.finditer(text):
            found.append((name, match[0]))
    # Where outliers are asked for, and with Python.
    assert sorted(name for name, _ in found) == [
        "procedures/mark_outliers.sql", "procedures/mark_outliers.sql",
        "procedures/run_segmentation.sql", "procedures/run_segmentation.sql",
    ]  # fmt: skip


def test_what_is_counted_would_be_found() -> None:
    texts = [
        "SELECT 1 FROM #sqlkmeans_input AS i INNER JOIN #sqlkmeans_scored AS s ON 1 = 1;",
        "INSERT INTO #sqlkmeans_moved SELECT 1 FROM #sqlkmeans_prepared AS r;",
        "INSERT INTO #sqlkmeans_ranked SELECT ROW_NUMBER() OVER (ORDER BY i.v) FROM "
        "#sqlkmeans_input AS i;",
    ]
    assert looks(texts)[:2] == (1, 1)
    assert len(looks(texts)[2]) == 2
    assert sorts_of(texts) == ["ORDER BY i.v"]
