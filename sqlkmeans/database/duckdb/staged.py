"""The labels of a run on their way to its tables on DuckDB."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.duckdb.connection import DuckDBConnection
from sqlkmeans.database.duckdb.label_tables import UNCHANGED, KeyColumn, LabelTables, staging_name
from sqlkmeans.database.duckdb.memory import GROUP_ROWS
from sqlkmeans.memory import release_unused

#: A batch of just so many rows becomes a row group, whichever thread writes it: neighbouring keys
#: stay together.
BATCH_ROWS = GROUP_ROWS


@dataclass(frozen=True)
class Load:
    """Labels on their way into tables aside."""

    written: Future[int]
    now: datetime
    key: list[KeyColumn]


class Staged:
    """What is staged; nobody else sees it.

    Attributes
    ----------
    rows : int
        How many labels there are.
    labels : pyarrow.Table or None
        Where they came as arrays.
    load : Load or None
    """

    def __init__(self, connection: DuckDBConnection) -> None:
        self._connection = connection
        self.rows = 0
        self.labels: pa.Table | None = None
        self.load: Load | None = None

    def keep(
        self,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
    ) -> pa.Table:
        """Take labels; returns the table that they are."""
        # DuckDB reads Arrow memory where it lies, inside the publishing transaction: a table
        # would only be a second copy, and one to clean up after a crash.
        labels = keys.append_column("cluster", _column_of(clusters, pa.int32()))
        labels = labels.append_column("distance", _column_of(distances, pa.float64()))
        self.labels = pa.Table.from_batches(labels.to_batches(BATCH_ROWS), labels.schema)
        self.rows = labels.num_rows
        return self.labels

    def lend(self, tables: LabelTables, run_id: int) -> None:
        """Let a connection read the staged labels once. Nobody else may hold them: they are let go
        of as soon as they are written."""
        assert self.labels is not None
        tables.show_staged(run_id, stream(self.labels))

    def drop(self, run_id: int) -> None:
        """Forget what a run staged."""
        self._connection.native.execute(f"DROP VIEW IF EXISTS {staging_name(run_id)}")
        self._connection.native.execute(f"DROP TABLE IF EXISTS {UNCHANGED}")
        self.forget()

    def forget(self) -> None:
        """Let go of the labels."""
        self._connection.native.unregister("sqlkmeans_labels")
        self.labels = None
        release_unused()


def _column_of(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An array of numbers where it lies. ``pa.array`` loads NumPy's masked arrays first."""
    values = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def stream(rows: pa.Table) -> object:
    """What DuckDB reads once. For a table it would load pyarrow.dataset, which takes as long as a
    few hundred thousand rows take to be written."""
    return rows.__arrow_c_stream__()
