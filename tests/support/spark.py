"""A Spark session for tests: quick over few rows, and compiled nowhere."""

from __future__ import annotations

import shutil
from functools import cache
from importlib.util import find_spec
from typing import Any

#: For thousands of rows, code that is generated and compiled takes longer than the work.
SETTINGS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "2",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}
#: The same for a process that Spark is started by.
OPTIONS = [part for name, value in SETTINGS.items() for part in ("--conf", f"{name}={value}")]


def trouble() -> str | None:
    """Why there can be no session; None where there can."""
    if find_spec("pyspark") is None:
        return "pyspark is not installed"
    if shutil.which("java") is None:
        return "there is no java on the path"
    return None


@cache
def session() -> Any:
    """The session of this process: two threads, and four attempts of a task."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2,4]").appName("tests")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
