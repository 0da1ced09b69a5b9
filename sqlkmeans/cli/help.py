"""What `--help` and the Tab key show, in few words and at once."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from sqlkmeans.names import ENGINES

#: What `--help` lists commands under, in this order.
TASKS = START, SEGMENT, LOOK, CHANGE, SERVER, UPKEEP = (
    "Start", "Segment", "Look at segments", "Change them", "SQL Server", "Look after a database",
)  # fmt: skip
#: A command's words are as many letters at the most; they wrap.
LONGEST = 200


class ByTask(TyperGroup):
    """Commands under the task that they are for, ``rich_help_panel``, as plain text."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each task."""
        tasks: dict[str, list[tuple[str, str]]] = {task: [] for task in TASKS}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                task = getattr(command, "rich_help_panel", None)
                words = command.get_short_help_str(LONGEST)
                tasks.setdefault(str(task), []).append((name, words))
        widest = max(len(name) for rows in tasks.values() for name, _ in rows)
        for task, rows in tasks.items():
            with formatter.section(task):
                formatter.write_dl([(name.ljust(widest), words) for name, words in rows])


def definition_files(incomplete: str) -> list[str]:
    """Files that a segmentation can begin with, and whose paths begin so."""
    return _files(incomplete, ".toml", ".json") + data_files(incomplete)


def data_files(incomplete: str) -> list[str]:
    """The same of files of customers."""
    return _files(incomplete, ".csv", ".csv.gz", ".parquet")


def _files(incomplete: str, *endings: str) -> list[str]:
    from glob import escape, glob

    return [file for end in endings for file in sorted(glob(f"{escape(incomplete)}*{end}"))]


def engines(incomplete: str) -> list[str]:
    """Engines that begin so."""
    return [engine for engine in ENGINES if engine.startswith(incomplete)]
