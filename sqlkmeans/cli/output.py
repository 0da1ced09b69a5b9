"""Results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.database import Database
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.progress import Advance, Progress
from sqlkmeans.result import FeatureResult, RunResult
from sqlkmeans.words import visible, visible_json, visible_lines

# Columns of a table that goes to a file or another program.
PIPE_WIDTH = 160
#: Features that are told of a segment, the difference from which one is, and segments beside each
#: other where all are.
TOLD, NOTABLE, BESIDE = 3, 0.1, 4


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
        """Print a table; columns whose values are numbers stand to the right.

        A value that is a list is so many lines.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table(title=visible(title) or None, title_justify="left", header_style="bold")
        for position, column in enumerate(columns):
            numbers = bool(rows) and all(_is_number(row[position]) for row in rows)
            name = visible(column)
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(_cell, row))
        console = Console(highlight=False, markup=False, emoji=False, width=_room())
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
        self.segments(result)
        self.say(
            f"Run {result.run_id}: {result.rows:,} customers, {result.changed:,} changed "
            f"({result.arrived:,} arrived, {result.moved:,} moved, {result.departed:,} departed), "
            f"{result.seconds['total']:.1f} s."
        )
        if result.outliers is not None:
            share = result.outliers / max(1, result.rows)
            self.say(f"Outliers, beyond their segment's limit: {result.outliers:,} ({share:.1%}).")
        if result.scores.get("silhouette") is not None:
            self.say(f"Silhouette {result.scores['silhouette']:.2f} (1 is clear-cut, 0 is none).")
        if result.recommendation:
            self.say(f"{result.recommendation['reason']}.")
        for warning in result.warnings:
            self.say(f"Warning: {warning}.")
        if self.verbose:
            self.say(", ".join(f"{step} {s:.3f} s" for step, s in result.seconds.items()))

    def segments(self, result: RunResult) -> None:
        """Print the segments with the means of every feature, or of those that matter most."""
        about = ["segment", "name", "customers", "share"]
        rows: list[list[object]] = [
            [s.segment_id, s.name, s.size, f"{s.share:.1%}"] for s in result.segments
        ]
        title = f"{result.segmentation}: {result.target}"
        full = [
            [*row, *(_mean(feature, segment.segment_id) for feature in result.features)]
            for row, segment in zip(rows, result.segments)
        ]
        columns = [*about, *(feature.title for feature in result.features)]
        if _width(columns, full) <= _room():
            self.table(columns, full, title=f"{title} (means)")
            return
        self.table(
            [*about, "mean (everyone's)"],
            [[*row, _apart(result, s.segment_id)] for row, s in zip(rows, result.segments)],
            title=title,
        )
        if not self.verbose:
            self.say("The features that set each segment apart; --verbose shows all.")
            return
        for start in range(0, len(result.segments), BESIDE):
            some = result.segments[start : start + BESIDE]
            self.table(
                ["mean", "everyone", *(f"segment {s.segment_id}" for s in some)],
                [
                    [f.title, *(_mean(f, i) for i in (EVERYONE, *(s.segment_id for s in some)))]
                    for f in result.features
                ],
            )


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


def _mean(feature: FeatureResult, segment_id: int) -> object:
    value = feature.means.get(segment_id)
    return f"{value:.1%}" if feature.is_share and value is not None else value


def _cell(value: object) -> str:
    lines = value if isinstance(value, list) else [value]
    return "\n".join(visible(_shown(line)) for line in lines)


def _apart(result: RunResult, segment_id: int) -> list[str]:
    """The features in which a segment differs most from everyone, one a line."""

    def importance(feature: FeatureResult) -> float:
        return feature.importance.get(segment_id) or 0.0

    by_column: dict[str, FeatureResult] = {}
    # Of a category one level, and rather one that the segment has.
    for feature in sorted(result.features, key=lambda f: (-abs(importance(f)), -importance(f))):
        by_column.setdefault(feature.column, feature)
    ranked = list(by_column.values())
    notable = [feature for feature in ranked if abs(importance(feature)) >= NOTABLE]
    return [
        f"{f.title} {_shown(_mean(f, segment_id))} ({_shown(_mean(f, EVERYONE))})"
        for f in (notable or ranked[:1])[:TOLD]
    ]


def _room() -> int:
    """Columns that there are for a table."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def _width(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """How wide a table is."""
    from rich.cells import cell_len

    cells = [[*map(_cell, row)] for row in ([*columns], *rows)]
    return 1 + sum(3 + max(map(cell_len, column)) for column in zip(*cells))


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
