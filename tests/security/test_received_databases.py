"""A .duckdb file from somebody else opens, and reaches nothing but itself."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from support.attacks import change, command, each, process
from support.engines import ENGINES

#: Statements that were in a file as a view, and what must not be there after a look at it.
VIEWS = [
    "SELECT * FROM read_csv('secret.csv', header = false)",
    "SELECT * FROM 'secret.csv'",
    "SELECT * FROM read_text('secret.csv')",
    "SELECT * FROM read_blob('secret.csv')",
    "SELECT * FROM glob('*')",
    "SELECT * FROM read_json('secret.json')",
    "SELECT * FROM read_parquet('secret.parquet')",
    "SELECT * FROM sniff_csv('secret.csv')",
    "SELECT * FROM query('SELECT * FROM read_text(''secret.csv'')')",
    "SELECT * FROM enable_profiling(save_location := 'evil.txt')",
    "SELECT * FROM enable_profiling(save_location := 'evil.json', format := 'json')",
    "SELECT * FROM parquet_metadata('secret.parquet')",
    "SELECT * FROM read_duckdb('secret.duckdb')",
]


@pytest.fixture(autouse=True)
def secrets(shop: Path) -> None:
    """Files beside the database that are nobody's business."""
    Path("secret.csv").write_text("SSN 12-34\n")
    Path("secret.json").write_text('[{"ssn": "SSN 12-34"}]')
    duckdb.sql("COPY (SELECT 'SSN 12-34' AS ssn) TO 'secret.parquet' (FORMAT parquet)")
    change(Path("secret.duckdb"), "CREATE TABLE secret AS SELECT 'SSN 12-34' AS ssn")


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if ".wal" not in path.name}


@each(VIEWS)
def test_a_view_instead_of_the_run_log_reads_and_writes_nothing(
    attack: str, shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # The file was made where such a view could be made.
    change(shop, "ALTER TABLE sqlkmeans.run RENAME TO kept")
    change(shop, f"CREATE VIEW sqlkmeans.run AS SELECT * FROM kept, ({attack}) AS evil")
    before = files()
    capfd.readouterr()
    command("runs", "shop.toml")
    said = capfd.readouterr()
    assert "SSN" not in said.out + said.err
    assert files() == before


@each(VIEWS)
def test_a_view_instead_of_the_customers_reads_and_writes_nothing(
    attack: str, shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(shop, "ALTER TABLE customer RENAME TO kept")
    change(shop, f"CREATE VIEW customer AS SELECT kept.* FROM kept, ({attack}) AS evil")
    before = files()
    capfd.readouterr()
    command("run", "shop.toml")
    said = capfd.readouterr()
    assert "SSN" not in said.out + said.err
    assert files() == before


def test_a_view_that_logs_to_a_folder_makes_none(shop: Path) -> None:
    change(
        shop,
        "ALTER TABLE sqlkmeans.run RENAME TO kept",
        "CREATE VIEW sqlkmeans.run AS SELECT kept.* FROM kept, "
        "(SELECT * FROM enable_logging(storage_path := 'evil')) AS evil",
    )
    before = files()
    # DuckDB itself may end the process, so in one of its own.
    process("runs", "shop.toml")
    assert files() == before


def test_a_database_starts_no_spark_by_what_it_says_of_itself(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spark = "replace(definition, '\"local\"', '\"spark\"')"
    change(shop, f"UPDATE sqlkmeans.segmentation SET definition = {spark}")
    capfd.readouterr()
    assert command("run", "shop", "--url", shop.as_posix()) == 2
    assert 'engine = "spark" reads more than the database' in capfd.readouterr().err


#: Texts in columns of the stored model that become part of statements.
MODELS = [
    ("reference_date", "2026-01-01'); COPY (SELECT 1) TO 'evil.pth'; --"),
    ("reference_date", "2026-01-01' OR 1=1 --"),
    ("reference_date", "2026-13-45"),
    ("center", "0); COPY (SELECT 1) TO 'evil.pth'; --"),
    ("scale", "(SELECT 1)"),
    ("weight", "1e0 OR 1=1"),
    ("fill", "NULL)"),
    ("low", "nan"),
    ("high", "inf"),
    ("transform", "log1p(x)); --"),
    ("type", "date'"),
]


@pytest.mark.parametrize("engine", ENGINES)
@each(MODELS)
def test_a_stored_model_is_numbers_and_dates_or_is_refused(
    attack: tuple[str, str], engine: str, shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    column, text = attack
    change(
        shop,
        f"ALTER TABLE sqlkmeans.model_feature ALTER COLUMN {column} TYPE varchar",
        f"UPDATE sqlkmeans.model_feature SET {column} = '{text.replace(chr(39), 2 * chr(39))}'",
    )
    definition = Path("shop.toml")
    definition.write_text(definition.read_text() + f'\nengine = "{engine}"\n')
    before = files()
    capfd.readouterr()
    for arguments in (["assign", "shop.toml"], ["export-sql", "shop.toml"]):
        assert command(*arguments) in (2, 3)
        assert "COPY" not in capfd.readouterr().out
    assert files() == before


NAMES = ["evil'; DROP TABLE customer; --", 'evil"; DROP TABLE customer; --', "evil\nGO\nDROP"]


@each(NAMES)
def test_a_stored_level_and_name_stay_texts(attack: str, shop: Path) -> None:
    quoted = attack.replace("'", "''")
    change(
        shop,
        f"UPDATE sqlkmeans.model_feature SET level = '{quoted}' WHERE level = 'Oslo'",
        f"UPDATE sqlkmeans.segment SET name = '{quoted}' WHERE segment_id = 1",
    )
    for engine in ENGINES:
        definition = Path("shop.toml")
        definition.write_text(definition.read_text().split("engine")[0] + f'engine = "{engine}"\n')
        assert command("assign", "shop.toml", "--quiet", "--json") == 0
    with duckdb.connect(shop) as connection:
        assert connection.execute("SELECT COUNT(*) FROM customer").fetchone() == (60,)


def test_a_name_in_a_received_database_opens_no_file(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(
        shop,
        "UPDATE sqlkmeans.segmentation SET definition = "
        'replace(definition, \'"source":"customer"\', \'"source":"secret.csv"\')',
    )
    assert command("run", "shop", "--url", "duckdb:///shop.duckdb") == 2
    assert "only a definition file opens files" in capfd.readouterr().err


def test_the_file_that_a_definition_names_is_read_and_no_other(
    shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("named.csv", "other.csv"):
        duckdb.sql(
            "COPY (SELECT i AS id, i % 2 * 500 + i AS x, 'Oslo' || i % 2 AS city, DATE '2026-01-01'"
            f" + CAST(i % 5 AS integer) AS day FROM range(60) AS t (i)) TO '{name}' (HEADER)"
        )
    text = Path("shop.toml").read_text()
    Path("shop.toml").write_text(text.replace('"customer"', "\"SELECT * FROM 'named.csv'\""))
    assert command("run", "shop.toml", "--json") == 0
    assert command("assign", "shop.toml", "--json") == 0
    Path("shop.toml").write_text(
        text.replace('"customer"', "\"SELECT * FROM 'named.csv' WHERE id IN (FROM theirs)\"")
    )
    change(shop, "CREATE VIEW theirs AS SELECT id FROM 'other.csv'")
    capfd.readouterr()
    assert command("run", "shop.toml") == 3
    assert 'Cannot access file "other.csv"' in capfd.readouterr().err
