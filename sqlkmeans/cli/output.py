"""Results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from sqlkmeans.database import Database
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.progress import Advance, Progress
from sqlkmeans.result import RunResult
from sqlkmeans.words import visible, visible_json, visible_lines

# Columns of a table that goes to a file or another program.
PIPE_WIDTH = 160


class Output:
    """Where a command's words go.

    Parameters
    ----------
    as_json : bool
        Print one JSON object, and no table.
    quiet : bool
        Say nothing on standard error but errors.
    verbose : bool
        Say how long each step took.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose

    def say(self, text: str = "") -> None:
        """Tell people something."""
        if not self.quiet:
            print(visible(text), file=sys.stderr)

    def line(self, text: str) -> None:
        """Print a line of the result for people."""
        print(visible(text))

    def script(self, text: str) -> None:
        """Print a script: as it is for a file or another program, and safely on a terminal."""
        sys.stdout.write(visible_lines(text) if sys.stdout.isatty() else text)

    def say_what_stays(self, database: Database) -> None:
        """Warn of a database whose content goes with the process."""
        if not database.stays:
            self.say(
                "Warning: the database is in memory, and nothing stays when this command ends; "
                "name a file to keep it, such as duckdb:///shop.duckdb."
            )

    @contextmanager
    def after_result(self) -> Iterator[None]:
        """For what comes after the result: where it fails the result stands, and JSON is whole."""
        try:
            yield
        except SqlKMeansError as error:
            for problem in error.problems:
                print(f"Error: {visible(problem)}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None

    def result(self, value: Mapping[str, Any]) -> None:
        """Print the result for programs."""
        print_json(value)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
    ) -> None:
        """Print a table; columns whose values are numbers stand to the right."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title=visible(title) or None, title_justify="left", header_style="bold")
        for position, column in enumerate(columns):
            numbers = bool(rows) and all(_is_number(row[position]) for row in rows)
            name = visible(column)
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(visible(_shown(value)) for value in row))
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        console = Console(highlight=False, markup=False, emoji=False, width=width)
        # Written here and not by Rich, which exits with 1 when a reader such as `head` has left.
        with console.capture() as capture:
            console.print(table)
        sys.stdout.write(capture.get())

    def progress(self) -> Progress:
        """Shows steps on a terminal, and only times them elsewhere."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            return Progress()
        return _TerminalProgress()

    def run(self, result: RunResult) -> None:
        """Print a run: its JSON, or a table of its segments and a few words."""
        if self.as_json:
            self.result(result.to_json())
            return
        features = list(result.segments[0].centroid) if result.segments else []
        self.table(
            ["segment", "name", "customers", "share", *features],
            [
                [s.segment_id, s.name, s.size, f"{s.share:.1%}", *s.centroid.values()]
                for s in result.segments
            ],
            title=f"{result.segmentation}: {result.target}",
        )
        self.say(
            f"Run {result.run_id}: {result.rows:,} customers, {result.changed:,} changed "
            f"({result.arrived:,} arrived, {result.moved:,} moved, {result.departed:,} departed), "
            f"{result.seconds['total']:.1f} s."
        )
        if result.scores.get("silhouette") is not None:
            self.say(f"Silhouette {result.scores['silhouette']:.2f} (1 is clear-cut, 0 is none).")
        if result.recommendation:
            self.say(f"{result.recommendation['reason']}.")
        for warning in result.warnings:
            self.say(f"Warning: {warning}.")
        if self.verbose:
            self.say(", ".join(f"{step} {s:.3f} s" for step, s in result.seconds.items()))


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object on standard output; what a terminal would obey is escaped, as JSON can."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(visible_json(text) + "\n")


class _TerminalProgress(Progress):
    @contextmanager
    def shown(self, name: str, total: int | None) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
        if total is None:
            columns += [TimeElapsedColumn(), TextColumn("{task.fields[passes]}")]
        else:
            columns += [
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("of"),
                TimeRemainingColumn(),
            ]
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(name, total=total, passes="")

            def advance(done: int) -> None:
                bars.advance(task, done)
                if total is None:
                    bars.update(task, passes=f"{bars.tasks[0].completed:.0f} passes")

            yield advance


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.endswith("%") and value[:-1].replace(".", "").isdigit()
    return value is None or isinstance(value, (int, float))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
