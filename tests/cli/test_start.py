"""From a file or a table to a definition (`init`), and from a file to everything (`run`)."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from pyarrow import csv, parquet

from sqlkmeans import load_definition
from sqlkmeans.cli import start
from sqlkmeans.cli.app import run_command
from support.shops import MakeCustomers


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_customers: MakeCustomers) -> Path:
    """A folder with nothing but ``customers.csv``, which is where commands are typed."""
    monkeypatch.chdir(tmp_path)
    csv.write_csv(make_customers(), "customers.csv")
    return tmp_path


def test_a_csv_gets_a_definition_and_a_database_beside_it(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "customers.csv"]) == 0
    told = capsys.readouterr()
    assert "income" in told.out
    assert "█" in told.out
    assert told.err.splitlines()[-3:] == [
        "Written: customers.toml",
        "Database: customers.duckdb",
        "Next: `sqlkmeans run customers.toml`",
    ]
    definition = load_definition("customers.toml")
    assert definition.segmentations["customers"].key == ("customer_id",)
    assert run_command(["run", "customers.toml", "--quiet"]) == 0
    with duckdb.connect("customers.duckdb") as database:
        assert database.sql("SELECT COUNT(*) FROM customers_segment").fetchall() == [(120,)]


def test_a_definition_that_is_there_is_replaced_with_force_only(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("customers.toml").write_text("mine")
    assert run_command(["init", "customers.csv"]) == 2
    assert "add --force" in capsys.readouterr().err
    assert Path("customers.toml").read_text() == "mine"
    assert not Path("customers.duckdb").exists()
    assert run_command(["init", "customers.csv", "--force"]) == 0
    assert Path("customers.toml").read_text().startswith("# Written by")


def test_init_tells_programs_what_it_saw_and_chose(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "customers.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["definition"] == "customers.toml"
    assert found["rows"] == 120
    assert found["key"] == "customer_id"
    assert found["features"] == ["income", "age"]
    assert [column["use"] for column in found["columns"]] == ["key", "number", "number"]


def test_parquet_elsewhere_with_an_odd_name_runs_from_anywhere(
    shop: Path, make_customers: MakeCustomers
) -> None:
    folder = shop / "the data"
    folder.mkdir()
    parquet.write_table(make_customers(), folder / "it's 2026.parquet")
    assert run_command(["run", "the data/it's 2026.parquet", "-q", "--key", "customer_id"]) == 0
    made = {path.name for path in folder.iterdir()}
    assert {"it_s_2026.toml", "it_s_2026.duckdb", "it_s_2026.html"} < made
    assert not list(shop.glob("*.duckdb"))


def test_a_table_of_a_database_gets_a_definition_in_the_working_folder(
    shop: Path, make_customers: MakeCustomers, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_customers()
    with duckdb.connect("shop.duckdb") as database:
        database.execute("CREATE SCHEMA crm")
        database.register("rows", rows)
        database.execute('CREATE TABLE crm."the customers" AS FROM rows')
    assert run_command(["init", 'crm."the customers"', "--url", "shop.duckdb"]) == 0
    assert load_definition("the_customers.toml").url == "duckdb:///shop.duckdb"
    capsys.readouterr()
    assert run_command(["run", "the_customers.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "crm.the_customers_segment"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "none.csv"], "none.csv: there is no such file"),
        (["init", "dbo.customer"], "no database given for table dbo.customer"),
        (["init", "data.xlsx", "--url", "shop.duckdb"], "there is no such database file"),
        (["init", "a b", "--url", "shop.duckdb"], "or a .csv or .parquet file"),
        (["init", "customers.csv", "--url", "mssql+pyodbc://server/shop"], "URL of a server"),
        (["init", "customers.csv", "--key", "name"], "key name: no such column"),
        (["run", "customers.csv", "--segmentation", "x"], "--segmentation given"),
        (["run", "other.toml", "--key", "name"], "--key given"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run_command(arguments) != 0
    assert words in capsys.readouterr().err
    assert not list(shop.glob("*.toml"))


def test_no_password_is_written_into_a_definition() -> None:
    url = "mssql+mssqlpython://etl:s3cret@server/shop?Encrypt=yes"
    assert start.kept_url(url) == "mssql+mssqlpython://etl@server/shop?Encrypt=yes"


def test_run_of_a_file_does_all_of_it_and_says_where_it_is(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "customers.csv", "--key", "customer_id"]) == 0
    told = capsys.readouterr()
    assert "customers_segment" in told.out
    for words in (
        "Definition: customers.toml, made from the file's columns",
        "Labels: table customers_segment in customers.duckdb",
        "Report: customers.html",
    ):
        assert words in told.err.splitlines()
    assert "<html" in Path("customers.html").read_text(encoding="utf-8")


def test_the_second_run_of_a_file_keeps_the_definition_and_the_ids(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", "customers.csv", "--quiet"]) == 0
    mine = Path("customers.toml").read_text(encoding="utf-8").replace('k = "auto"', "k = 3")
    Path("customers.toml").write_text(mine, encoding="utf-8")
    capsys.readouterr()
    assert run_command(["run", "customers.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run_id"], found["k"], found["changed"]) == (2, 3, 0)
    assert (found["definition"], found["database"], found["report"]) == (
        "customers.toml", "customers.duckdb", "customers.html"
    )  # fmt: skip
    assert Path("customers.toml").read_text(encoding="utf-8") == mine


def test_another_key_than_that_of_the_definition_that_is_there_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "customers.csv", "--quiet"]) == 0
    assert run_command(["run", "customers.csv", "--key", "income"]) == 2
    assert "is there already, with key = customer_id" in capsys.readouterr().err


def test_numbers_with_a_decimal_comma_are_not_taken_for_texts(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{n};{n % 7},{n % 10};{n % 3}" for n in range(200)]
    Path("norsk.csv").write_text("\n".join(["id;beløp;x", *rows]), encoding="utf-8")
    assert run_command(["init", "norsk.csv", "--json"]) == 0
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert left_out["beløp"].startswith("numbers with a decimal comma, as texts")
    text = Path("norsk.toml").read_text(encoding="utf-8")
    text = text.replace(
        'source = "norsk.csv"',
        "source = \"SELECT * FROM read_csv('norsk.csv', decimal_separator = ',')\"",
    )
    text = text.replace("features = [", 'features = [\n    "beløp",').replace('"auto"', "2")
    Path("norsk.toml").write_text(text, encoding="utf-8")
    assert run_command(["run", "norsk.toml"]) == 0


def test_a_definition_of_something_else_is_not_run_for_the_file(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "customers.csv", "--quiet"]) == 0
    text = Path("customers.toml").read_text(encoding="utf-8")
    Path("customers.toml").write_text(
        text.replace('"customers.csv"', '"dbo.customer"'), encoding="utf-8"
    )
    assert run_command(["run", "customers.csv"]) == 2
    assert "is there already and reads dbo.customer, not customers.csv" in capsys.readouterr().err


def test_what_a_file_says_in_its_columns_reaches_no_terminal(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "id,n,\x1b[31mred\n" + "".join(f"{i},{i * i},{'ab'[i % 2]}\x1b[2J\n" for i in range(50))
    Path("odd.csv").write_text(text, encoding="utf-8")
    assert run_command(["init", "odd.csv"]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "\x1b" not in Path("odd.toml").read_text(encoding="utf-8")
    assert run_command(["run", "odd.toml"]) == 0
