"""The scripts of ``sql/``: finding them, joining them to one installer, splitting it at GO."""

from __future__ import annotations

import re
from pathlib import Path

from sqlkmeans._version import __version__

_VERSION = "{{version}}"
_SCHEMA_VERSION = "{{schema_version}}"

# What can hide the letters GO on a line of their own: comments, which nest, texts and names.
_TOKEN = re.compile(
    r"""
      (?P<line>--[^\n]*)
    | (?P<open>/\*) | (?P<close>\*/)
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*"|\[(?:[^\]]|\]\])*\])
    | (?P<go>^[ \t]*GO[ \t]*(?:\d+[ \t]*)?(?:--[^\n]*)?$)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)

_HEADER = """\
/*
sqlkmeans {version}: installs or upgrades schema sqlkmeans in the current database.

Made from the files that build_order.txt names; do not edit it. May be run again: data, segment
tables and grants on procedures stay. Needs db_owner, SQL Server 2016 SP1 or newer, and
compatibility level 130 or higher for JSON.
*/
-- Procedures keep these settings of the session that makes them, and some clients have others.
SET ANSI_NULLS ON;
GO
SET QUOTED_IDENTIFIER ON;
GO
"""

# Where may_install has stopped the script, the session goes on as it was.
_FOOTER = """\
SET NOEXEC OFF;
GO
"""


def sql_directory() -> Path:
    """The folder ``sql/``: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "sql", package.parent / "sql"):
        if (folder / "build_order.txt").is_file():
            return folder
    raise FileNotFoundError(f"no folder sql/ in or beside {package}; reinstall sqlkmeans")


def build_order(directory: Path | None = None) -> list[str]:
    """The files that make up the installer, in order."""
    text = ((directory or sql_directory()) / "build_order.txt").read_text(encoding="utf-8")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def build_install_script(directory: Path | None = None) -> str:
    """Join the parts. ``install.sql`` is this text; a test holds the two together."""
    folder = directory or sql_directory()
    parts = [_HEADER]
    for name in build_order(folder):
        part = (folder / name).read_text(encoding="utf-8").strip()
        parts.append(f"-- {name}\n{part}\n")
    text = "\n".join([*parts, _FOOTER]).replace("{version}", __version__, 1)
    return text.replace(_VERSION, __version__).replace(_SCHEMA_VERSION, str(_newest(folder)))


def _newest(folder: Path) -> int:
    """The version that the migrations bring the schema to: the number of the last one."""
    return max(int(path.name[:4]) for path in (folder / "migrations").glob("*.sql"))


def install_script() -> str:
    """The installer, as ``sql/install.sql`` holds it."""
    return (sql_directory() / "install.sql").read_text(encoding="utf-8")


def uninstall_script(*, execute: bool = True) -> str:
    """The script that drops everything, or with ``execute=False`` only prints what it would."""
    text = (sql_directory() / "uninstall.sql").read_text(encoding="utf-8")
    return text.replace("@execute bit = 0;", "@execute bit = 1;", 1) if execute else text


def batches(text: str) -> list[str]:
    """Split a script at its lines GO, as sqlcmd does; batches without a statement are left out.

    ``GO 5`` repeats its batch five times. GO inside a comment, a text or a quoted name is not a
    separator.
    """
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    result: list[str] = []
    start = position = depth = 0
    while match := _TOKEN.search(text, position):
        kind, position = match.lastgroup, match.end()
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif depth:
            # Inside a comment only its end counts; look again right behind this token's start.
            position = match.start() + 1
        elif kind == "go":
            count = re.search(r"\d+", match.group())
            result += [text[start : match.start()]] * (int(count.group()) if count else 1)
            start = match.end()
    result.append(text[start:])
    return [batch.strip() for batch in result if _has_statement(batch)]


def _has_statement(batch: str) -> bool:
    depth = 0
    rest: list[str] = []
    end = 0
    for match in re.finditer(r"--[^\n]*|/\*|\*/", batch):
        if depth == 0:
            rest.append(batch[end : match.start()])
        if match.group() == "/*":
            depth += 1
        elif match.group() == "*/":
            depth = max(0, depth - 1)
        end = match.end()
    if depth == 0:
        rest.append(batch[end:])
    return bool("".join(rest).strip())


def write_install_script() -> Path:
    """Make ``sql/install.sql`` anew; for use after a change of its parts."""
    path = sql_directory() / "install.sql"
    path.write_text(build_install_script(), encoding="utf-8", newline="\n")
    return path


if __name__ == "__main__":
    print(write_install_script())
