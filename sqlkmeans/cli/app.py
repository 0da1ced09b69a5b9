"""A command line from its words to its exit code."""

from __future__ import annotations

import gc
import io
import os
import sys

import typer

# Those of a server add themselves to the others.
from sqlkmeans.cli import server_commands
from sqlkmeans.cli.commands import app
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.words import visible, visible_lines, without_passwords

__all__ = ["app", "main", "run_command", "server_commands"]

#: What Typer returns after Ctrl-C.
INTERRUPTED = 130
INTERRUPTED_WORDS = "interrupted; nothing was published unless `sqlkmeans runs` says so"


def main() -> None:
    """Run a command and exit with its code."""
    # What libraries make while they load stays, and looking through it for cycles after every 700
    # objects takes a tenth of the time that they load.
    gc.set_threshold(50_000)
    _keep_out("pandas")
    for stream in (sys.stdout, sys.stderr):
        # A segment's name may have letters that a console or a redirect on Windows has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # Whoever reads has left; what was to be done is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # The interpreter would look through every object of every library once more for cycles, for
    # a fifth of a second, and the process ends here.
    gc.freeze()
    sys.exit(code)


def _keep_out(library: str) -> None:
    """Let a library not be found in this process.

    DuckDB and Arrow look whether a value that they are handed is of pandas, and load it for that:
    a third of a second in each command, none of which has such values. Spark Connect cannot do
    without.
    """

    class Absent:
        # A finder of Python's, whose base class would take a while to load.
        @staticmethod
        def find_spec(fullname: str, *_: object) -> None:
            if fullname == library and "pyspark.sql.connect" not in sys.modules:
                raise ModuleNotFoundError(f"commands do without {library}", name=library)

    sys.meta_path.insert(0, Absent)


def run_command(arguments: list[str]) -> int:
    """Run a command line; errors go to standard error, or as JSON to standard output.

    Returns
    -------
    int
        The exit code.
    """
    as_json = "--json" in arguments
    verbose = "--verbose" in arguments or "-v" in arguments
    try:
        code = app(arguments or ["--help"], prog_name="sqlkmeans", standalone_mode=False)
        if code != INTERRUPTED:
            return code if isinstance(code, int) else 0
        return _fail([INTERRUPTED_WORDS], 1, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail([INTERRUPTED_WORDS], 1, as_json)
    except (BrokenPipeError, SystemExit):
        # Whoever reads has left, as `head` does; what was to be done is done. Typer turns the
        # first into the second, and has no other use for it here.
        return 0
    except Exception as error:
        if verbose:
            import textwrap
            import traceback

            # Indented, so that no line of a message is taken for one of ours.
            told = textwrap.indent(without_passwords(traceback.format_exc()), "  ")
            typer.echo(visible_lines(told), err=True)
        if isinstance(error, SqlKMeansError):
            return _fail(error.problems, error.exit_code, as_json)
        # Typer brings its own copy of Click, or Click's, by version: both kinds of usage error
        # can say what they mean.
        if hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            hint = f" (see `{context.command_path} --help`)" if context else ""
            return _fail([error.format_message() + hint], 2, as_json)
        return _fail([f"{type(error).__name__}: {error} (--verbose shows where)"], 1, as_json)


def _fail(problems: list[str], code: int, as_json: bool) -> int:
    problems = [without_passwords(problem) for problem in problems]
    if as_json:
        from sqlkmeans.cli.output import print_json

        print_json({"error": {"code": code, "problems": problems}})
    else:
        for problem in problems:
            typer.echo(f"Error: {visible(problem)}", err=True)
    return code
