"""A definition is read to its end, whatever it is, and refused in few words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sqlkmeans.definition import Segmentation, load_definition
from sqlkmeans.errors import MOST_PROBLEMS, DefinitionError
from sqlkmeans.sqltext import parse_source
from support.attacks import change, command, each, write_definition

VALUES: dict[str, Any] = {
    "source": "customer", "key": "id", "features": ["x"], "k": 2, "target": "segment",
}  # fmt: skip


def as_json(**changes: Any) -> str:
    return json.dumps({"segmentation": {"shop": {**VALUES, **changes}}})


DEEP = 200_000
WORDS = [f"column_{number}" for number in range(20_000)]

FILES = {
    "deep lists.json": "[" * DEEP + "]" * DEEP,
    "deep objects.json": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep lists.toml": "a = " + "[" * DEEP + "]" * DEEP,
    "deep tables.toml": "a = " + "{a=" * DEEP + "1" + "}" * DEEP,
    "long number.json": '{"segmentation": ' + "9" * 5000 + "}",
    "long number.toml": "a = " + "9" * 5000,
    "long number as k.json": as_json().replace('"k": 2', '"k": ' + "9" * 5000),
    "no number.json": as_json(k=float("nan")),
    "too large.toml": "#" * 10_000_001,
    "not UTF-8.toml": b"\xff\xfe\x00",
    "NUL.toml": "a\0b",
    "half a pair.json": '{"segmentation": {"shop": {"source": "\\ud800"}}}',
    "no table.json": "[1, 2]",
    "text.json": '"segmentation"',
    "empty.json": "",
    "empty.toml": "",
    "key twice.json": as_json().replace('"k": 2', '"k": 2, "k": 3'),
    "source twice.json": as_json().replace('"k": 2', '"k": 2, "source": "salaries"'),
    "segmentation twice.json": '{"segmentation": {}, "segmentation": {}}',
    "key twice.toml": "[segmentation.a]\nk = 2\nk = 3",
    "table twice.toml": "[segmentation.a]\n[segmentation.a]",
    "database a text.json": json.dumps({"database": "duckdb:///x", "segmentation": {}}),
    "segmentation a list.json": json.dumps({"segmentation": [VALUES]}),
    "segmentation a number.json": json.dumps({"segmentation": {"shop": 7}}),
    "many unknown keys.json": json.dumps(dict.fromkeys(WORDS, 1)),
    "many unknown keys of one.json": as_json(**dict.fromkeys(WORDS, 1)),
    "many segmentations.json": json.dumps({"segmentation": dict.fromkeys(WORDS, 1)}),
    "many features.json": as_json(features=WORDS),
    "many bad features.json": as_json(features=[{"column": 1, "colour": 2}] * 900),
    "many keys twice.json": as_json(key=WORDS * 2),
    "a long source.json": as_json(source="SELECT 1" + "/**/" * 30_000),
    "many comments.json": as_json(source="SELECT 1" + "/**/" * 20_000 + ";"),
    "an open comment.json": as_json(source="SELECT 1" + "/*" * 40_000),
    "many parentheses.json": as_json(source="SELECT " + "(" * 90_000),
    "many quotes.json": as_json(source="SELECT " + "'" * 90_001),
    "many brackets.json": as_json(source="SELECT " + "[" * 90_000),
    "a long text.json": as_json(engine="x" * 5_000_000),
    "a long target.json": as_json(target="x" * 5_000_000),
    "k_max.json": as_json(k="auto", k_max=1000),
    "k_min.json": as_json(k="auto", k_min=101, k_max=101),
    "n_init.json": as_json(n_init=10**9),
    "memory_limit.json": as_json(memory_limit="9" * 5000),
    "a negative weight.json": as_json(features=[{"column": "x", "weight": -1}]),
    "an infinite weight.json": as_json(features=[{"column": "x", "weight": float("inf")}]),
    "a name of SQL.json": json.dumps({"segmentation": {"a'; DROP TABLE x; --": VALUES}}),
    "a name of a path.json": json.dumps({"segmentation": {"../../evil": VALUES}}),
    "a name of another script.json": json.dumps({"segmentation": {"ѕhop": VALUES}}),
}


@each(FILES)
def test_a_file_is_refused_in_few_words(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = FILES[attack]
    path = tmp_path / f"shop{Path(attack).suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert command("run", str(path), "--url", "duckdb:///nowhere.duckdb") == 2
    said = capsys.readouterr().err
    assert 0 < len(said.splitlines()) <= MOST_PROBLEMS + 1
    assert len(said) < 60_000
    assert all(line.startswith("Error: ") for line in said.splitlines())


def test_the_rest_of_many_problems_is_counted() -> None:
    with pytest.raises(DefinitionError) as caught:
        Segmentation.create(name="shop", **{**VALUES, "features": [{"column": 1}] * 999})
    assert len(caught.value.problems) == MOST_PROBLEMS + 1
    assert caught.value.problems[-1] == "and 979 more"


@pytest.mark.skipif(sys.platform == "win32", reason="devices of POSIX")
def test_a_device_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(DefinitionError, match="at most 10,000,000 bytes"):
        load_definition("/dev/zero")


TARGETS = [
    "temp.segment", "system.segment", "pg_catalog.segment", "information_schema.segment",
    "INFORMATION_SCHEMA.segment", "temp.main.segment", "sqlkmeans.run", "sqlkmeans.segment_new",
    "SQLKMEANS.segment", "sys.segment", '"a\0b"', "x" * 121, "x" * 128, "x" * 129, '""', "a..b",
    "a.b.c.d", "customer; DROP TABLE customer", "segment/*", "(SELECT 1)", "'segment'",
    "../segment", "segment'", "a b",
]  # fmt: skip


@each(TARGETS)
def test_a_target_that_cannot_be_is_refused(attack: str) -> None:
    with pytest.raises(DefinitionError):
        Segmentation.create(name="shop", **{**VALUES, "target": attack})


@each(["memory.main.segment", "other.main.segment", "no_such.main.segment"])
def test_a_target_in_a_database_that_is_not_there_is_refused_in_words(
    attack: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("shop.toml").read_text()
    Path("shop.toml").write_text(text.replace('"segment"', f'"{attack}"'))
    assert command("run", "shop.toml") == 3
    assert capsys.readouterr().err.startswith(f"Error: target {attack}: this database has no ")


SOURCES = [
    "SELECT 1; DROP TABLE customer",
    "SELECT 1 DROP TABLE customer",
    "SELECT * INTO evil FROM customer",
    "SELECT 1 UNION SELECT 1) AS x; DROP TABLE customer; --",
    "SELECT * FROM customer) AS s; COPY customer TO 'evil.csv'; SELECT (1",
    "COPY customer TO 'evil.csv'",
    "ATTACH 'evil.duckdb'",
    "INSTALL httpfs",
    "LOAD '/tmp/evil.duckdb_extension'",
    "PRAGMA enable_profiling",
    "SET enable_external_access = true",
    "EXPORT DATABASE 'evil'",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "INSERT INTO customer SELECT * FROM customer",
    "DELETE FROM customer",
    "EXECUTE xp_cmdshell 'dir'",
    "SELECT * FROM OPENROWSET(BULK 'c:\\secret.txt', SINGLE_CLOB) AS x",
    "SELECT * FROM OPENQUERY(other, 'SELECT 1')",
    "SELECT * FROM OPENDATASOURCE('x', 'y').a.b.c",
    "SELECT 1 WAITFOR DELAY '1:00'",
    "SELECT * FROM enable_logging(storage_path := 'evil')",
    "SELECT * FROM ENABLE_PROFILING(save_location := 'evil.txt')",
    "SELECT * FROM \"enable_logging\"(storage_path := 'evil')",
    "SELECT * FROM enable_logging /* x */ (storage_path := 'evil')",
    "SELECT * FROM read_text('secret.csv')",
    "SELECT * FROM read_blob('secret.csv')",
    "SELECT * FROM glob('*')",
    "SELECT * FROM sniff_csv('secret.csv')",
    "SELECT * FROM read_duckdb('secret.duckdb')",
    "SELECT reflect('java.lang.System', 'exit')",
    "SELECT JAVA_METHOD('java.lang.System', 'exit')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('customer')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT E'\\'' , enable_logging() --'",
    "SELECT $$ ' $$, enable_logging() --'",
    "SELECT $tag$ ' $tag$ --'",
    "SELECT 'a\0b'",
    "SELECT (1",
    "SELECT 1)",
    "SELECT 'x",
    'SELECT "x',
    "SELECT [x",
    "SELECT /* /* */ 1",
    "",
    ";",
    "'secret.csv'",
]


@each(SOURCES)
def test_a_source_that_does_more_than_read_is_refused(attack: str) -> None:
    with pytest.raises(DefinitionError):
        Segmentation.create(name="shop", **{**VALUES, "source": attack})


#: Sources that read well as SQL, and reach outside.
OUTSIDE = [
    "SELECT * FROM read_csv('sec' || 'ret.csv')",
    "SELECT * FROM read_csv(['secret.csv'])",
    "SELECT * FROM read_csv('secret.*')",
    "SELECT * FROM 'secret.json'",
    "SELECT * FROM read_json('secret.json')",
    "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
    "SELECT * FROM 's3://evil/x.parquet'",
    "SELECT *, (SELECT 1 FROM read_ndjson('secret.json')) FROM customer",
    "SELECT * FROM customer WHERE 'x' IN (SELECT column0 FROM read_csv(['secret.csv']))",
    "SELECT * FROM parquet_metadata('secret.parquet')",
]


@each(OUTSIDE)
def test_a_source_reads_no_file_but_those_it_names(
    attack: str, shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("secret.csv").write_text("SSN 12-34\n")
    Path("secret.json").write_text('[{"ssn": "SSN 12-34"}]')
    duckdb.sql("COPY (SELECT 'SSN 12-34' AS ssn) TO 'secret.parquet' (FORMAT parquet)")
    parse_source(attack)
    text = Path("shop.toml").read_text()
    Path("shop.toml").write_text(text.replace('"customer"', f'"{attack}"'))
    assert command("run", "shop.toml") == 3
    said = capfd.readouterr()
    assert "SSN" not in said.out + said.err


def test_thousands_of_misspelt_columns_are_told_of_in_few_words(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ", ".join(f"{number} AS kolumn_{number}" for number in range(1_000))
    change(shop, f"CREATE TABLE wide AS SELECT 1 AS id, {columns}")
    features = ", ".join(f'"column_{number}"' for number in range(1_000))
    text = Path("shop.toml").read_text()
    Path("shop.toml").write_text(
        text.replace('"customer"', '"wide"').replace(
            text[text.index("features") : text.index("k = 2")], f"features = [{features}]\n"
        )
    )
    assert command("run", "shop.toml") == 3
    said = capsys.readouterr().err
    assert "did you mean" in said
    assert "more" in said.splitlines()[-1]
    assert len(said) < 60_000


PATHS = ["", ".", "/", "no/such.toml", "a\0b.toml", "x" * 300 + ".toml", "~/x.toml", "\n.toml"]


@each(PATHS)
def test_a_path_that_is_no_definition_is_refused_in_words(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_definition(tmp_path)
    assert command("run", attack) in (2, 4)
    assert capsys.readouterr().err.startswith("Error: ")


URLS = [
    "", "x", "://", "duckdb:", "duckdb:///a\0b", "duckdb:////", "duckdb:///.", "mssql", "mssql+://",
    "duckdb:///" + "x" * 5_000, "sqlite:///x", "file:///etc/passwd", "http://127.0.0.1/",
    "duckdb:///no/such/folder/x.duckdb", "mssql+mssqlpython://",
]  # fmt: skip


@each(URLS)
def test_a_url_that_is_none_is_refused_in_words(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert command("runs", "shop", "--url", attack) in (2, 4)
    assert capsys.readouterr().err.startswith("Error: ")
