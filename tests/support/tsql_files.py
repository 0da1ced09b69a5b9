"""The files of ``sql/`` as the tests look at them: texts, kinds, parameters, help."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlkmeans.database.sqlserver.script import batches, build_order, sql_directory

SQL = sql_directory()
FILES = sorted(path.relative_to(SQL).as_posix() for path in SQL.rglob("*.sql"))
PROCEDURES = [name for name in FILES if name.startswith("procedures/")]
#: Files that tests compare with what they make.
GOLDEN = Path(__file__).parents[1] / "tsql" / "golden"
#: Statements that procedures have built on a server; test_generated_statements writes them.
RECORDED = GOLDEN / "statements.sql"
GRAMMARS = ("2016", "2019", "2022", "2025")

_PARAMETER = re.compile(
    r"^\s*(?P<name>@\w+)\s+(?P<type>\w+(?:\([^)]*\))?)"
    r"(?:\s*=\s*(?P<default>N'(?:[^']|'')*'|\w+))?(?P<output>\s+OUTPUT)?\s*,?\s*$",
    re.MULTILINE,
)
_HELP = re.compile(
    r"\((?P<position>\d+), N'(?P<name>@\w+)', N'(?P<type>[^']*)', N'(?P<default>(?:[^']|'')*)',"
    r"\s*N'(?P<meaning>(?:[^']|'')*)'\)"
)


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    default: str | None


def read(name: str) -> str:
    return (SQL / name).read_text(encoding="utf-8")


def object_name(name: str) -> str:
    """``procedures/start_run.sql`` holds ``start_run``."""
    return Path(name).stem


def definition(name: str) -> str:
    """The batch of a file that defines its object, without the stub before it."""
    return next(
        batch
        for batch in batches(read(name))
        if re.search(r"^ALTER (PROCEDURE|FUNCTION)", batch, re.MULTILINE)
    )


def signature(name: str) -> list[Parameter]:
    """The parameters that a procedure declares."""
    head = re.split(r"^AS$", definition(name), maxsplit=1, flags=re.MULTILINE)[0]
    return [
        Parameter(
            match["name"],
            match["type"] + (" OUTPUT" if match["output"] else ""),
            match["default"],
        )
        for match in _PARAMETER.finditer(head)
    ]


def help_rows(name: str) -> list[Parameter]:
    """The parameters that ``@help = 1`` shows."""
    return [
        Parameter(match["name"], match["type"], match["default"].replace("''", "'"))
        for match in _HELP.finditer(definition(name))
    ]


def public_procedures() -> list[str]:
    """Files of the procedures that people call; the others are reached through them only."""
    return [name for name in PROCEDURES if "@help" in read(name)]


def recorded_statements() -> list[str]:
    return batches(RECORDED.read_text(encoding="utf-8"))


def check(text: str, grammar: str) -> str:
    """What Microsoft's own parser has against a script; empty where nothing."""
    program = shutil.which("maxdop") or str(Path(sys.executable).with_name("maxdop"))
    found = subprocess.run(
        [program, "--parser-version", grammar],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return "" if found.returncode == 0 else (found.stderr or found.stdout).decode() or "refused"


def installed_order() -> list[str]:
    return build_order()
