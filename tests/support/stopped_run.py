"""A program: ``sqlkmeans run`` that sends itself a signal at a moment of the run.

    python stopped_run.py MOMENT SIGNAL DEFINITION_FILE

A moment is one of ``MOMENTS``; SIGNAL is a number.
"""

from __future__ import annotations

import os
import sys
from threading import Timer
from typing import Any

from sqlkmeans.cli import main
from sqlkmeans.database.duckdb.label_tables import LabelTables
from sqlkmeans.database.duckdb.labels import DuckDBLabels
from sqlkmeans.database.duckdb.staged import Staged
from sqlkmeans.database.spark.workspace import SparkWorkspace
from support.spark import SETTINGS

KILL = 9
#: What begins at each, and after how many seconds the signal comes.
MOMENTS: dict[str, tuple[type, str, float]] = {
    "training": (SparkWorkspace, "matrix", 0.3),
    "labels": (DuckDBLabels, "stage", 0.0),
    # The target, its history and the rest of the run are one transaction.
    "publishing": (LabelTables, "count", 0.0),
    "published": (Staged, "drop", 0.0),
}


def stopping(what: Any, seconds: float, signal: int) -> Any:
    """The same, but a signal comes when it has begun."""

    def send() -> None:
        if signal == KILL:
            os.kill(os.getpid(), signal)
        else:  # As from a terminal: to Spark's processes too.
            os.killpg(os.getpgid(0), signal)

    def begun(*given: Any, **named: Any) -> Any:
        if seconds:
            Timer(seconds, send).start()
        else:
            send()
        return what(*given, **named)

    return begun


if __name__ == "__main__":
    moment, number, file = sys.argv[1:]
    owner, name, seconds = MOMENTS[moment]
    setattr(owner, name, stopping(getattr(owner, name), seconds, int(number)))
    os.environ["PYSPARK_SUBMIT_ARGS"] = " ".join(
        [*(f"--conf {key}={value}" for key, value in SETTINGS.items()), "pyspark-shell"]
    )
    sys.argv = ["sqlkmeans", "run", file]
    main()
