"""Where a run keeps what is as long as its rows: in memory, or in files that are mapped.

A mapped array is used like any other; the operating system reads and writes its pages, and drops
them where memory is short. So a run that keeps its rows so takes as little memory as it is given.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
from functools import cached_property
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.clustering.arrays.chunks import Empty, chunks
from sqlkmeans.errors import SqlKMeansError
from sqlkmeans.memory import free_memory, in_words

# Of a memory_limit that is given, what rows may take before they are spilled, and what the
# database may take that runs in this process. The rest is for everything else.
ROWS_SHARE, DATABASE_SHARE = 0.25, 0.375
# Of what is free, the same two where no memory_limit is given.
FREE_ROWS_SHARE, FREE_DATABASE_SHARE = 0.5, 0.25
#: Bytes of rows that nobody has to make room for.
LITTLE = 64 * 2**20


class Storage:
    """Arrays and keys of one run.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that the process may take; by default, rows take up to half of what is free.

    Attributes
    ----------
    spilled : bool
        Whether new arrays are files.
    spilled_bytes : int
        How large these files are together.
    folder : str
        Where the files are: the temporary folder, which the variable TMPDIR names.
    """

    def __init__(self, memory_limit: int | None = None) -> None:
        self.spilled = False
        self.spilled_bytes = 0
        self.folder = tempfile.gettempdir()
        self._limit = memory_limit

    @cached_property
    def _shares(self) -> tuple[float, int]:
        # Looked up when the first rows come: it takes a library and some files of the system.
        rows, database, amount = FREE_ROWS_SHARE, FREE_DATABASE_SHARE, self._limit
        if amount is None:
            amount = free_memory()
        else:
            rows, database = ROWS_SHARE, DATABASE_SHARE
        return rows * amount, int(database * amount)

    @property
    def _room(self) -> float:
        """Bytes that rows may take in memory."""
        return self._shares[0]

    @property
    def database_share(self) -> int:
        """Bytes that a database in this process may take."""
        return self._shares[1]

    def expect(self, needed: int) -> None:
        """Decide where so many bytes are to be kept, before the first of them is.

        Raises
        ------
        SqlKMeansError
            If it has to be files, and the disk has no room for them.
        """
        self.spilled_bytes = 0
        # To ask what is free takes a library; the others take more than a little already.
        if (needed <= LITTLE and self._limit is None) or needed <= self._room:
            return
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise self._too_little_disk(needed, free)
        self.spilled = True

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float64) -> npt.NDArray[Any]:
        """An array of any content.

        Raises
        ------
        SqlKMeansError
            If the disk has no room for it.
        """
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if not self.spilled or not needed:
            return np.empty(shape, dtype)
        with self._file() as file:
            self._reserve(file, needed)
            mapped = mmap.mmap(file.fileno(), needed)
        self.spilled_bytes += needed
        return np.frombuffer(mapped, dtype).reshape(shape)

    def notes(self) -> list[str]:
        """Where the rows are, if that is not where people expect them."""
        if not self.spilled:
            return []
        return [
            f"{in_words(self.spilled_bytes)} of rows were kept in files in {self.folder}, because "
            f"rows may take {in_words(self._room)} of memory"
        ]

    def batches(self) -> Batches:
        """Something that keeps batches, where arrays are kept as well."""
        return SpilledBatches(self) if self.spilled else Batches()

    def _file(self) -> IO[bytes]:
        """A file without a name, or on Windows one that goes when it is closed.

        Closing it leaves the mapping as it is; when that goes, or the process ends in whatever
        way, so does what is on the disk.
        """
        return tempfile.TemporaryFile(dir=self.folder)

    def _reserve(self, file: IO[bytes], size: int) -> None:
        """Make room on the disk, so that none is wanting when a page is written later."""
        try:
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                    return
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                        raise
            free = shutil.disk_usage(self.folder).free
            if size > free:
                raise self._too_little_disk(size, free)
            file.truncate(size)
        except OSError as error:
            raise self.disk_error(error, size) from None

    def disk_error(self, error: OSError, needed: int) -> SqlKMeansError:
        """What went wrong with a file, in words."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return self._too_little_disk(needed, shutil.disk_usage(self.folder).free)
        return SqlKMeansError(f"{self.folder}: rows cannot be spilled there: {error.strerror}")

    def _too_little_disk(self, needed: int, free: int) -> SqlKMeansError:
        return SqlKMeansError(
            f"{self.folder}: {in_words(free)} are free, and rows that memory_limit does not allow "
            f"in memory need {in_words(needed)} there; name a folder on a larger disk in the "
            "variable TMPDIR, or give a higher memory_limit (docs/operate.md)"
        )


class Batches:
    """Keeps batches in memory."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep a batch."""
        # A column of an imported batch keeps all of it alive, other columns too; a copy lets
        # the rest go.
        columns = [pa.concat_arrays([column, column[:0]]) for column in batch.columns]
        self._batches.append(pa.RecordBatch.from_arrays(columns, names=batch.schema.names))

    def table(self) -> pa.Table:
        """All that were kept; nothing is added after it."""
        return pa.Table.from_batches(self._batches)


class PassingBatches(Batches):
    """Keeps none."""

    def add(self, batch: pa.RecordBatch) -> None:
        pass


class SpilledBatches(Batches):
    """Keeps batches in an Arrow file, which is mapped when all are there."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file = storage._file()
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        try:
            if self._writer is None:
                self._writer = pa.ipc.new_file(self._file, batch.schema)
            self._writer.write_batch(batch)
        except OSError as error:
            raise self._storage.disk_error(error, batch.nbytes) from None

    def table(self) -> pa.Table:
        if self._writer is None:
            raise ValueError("no batch was added")
        try:
            self._writer.close()
            self._file.flush()
        except OSError as error:
            raise self._storage.disk_error(error, 0) from None
        with self._file as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._storage.spilled_bytes += len(mapped)
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def kept_rows(
    values: npt.NDArray[Any], kept: npt.NDArray[np.bool_], n_kept: int, empty: Empty
) -> npt.NDArray[Any]:
    """``values[kept]``, a chunk at a time."""
    result, end = empty((n_kept,), values.dtype), 0
    for rows in chunks(len(values)):
        part = values[rows][kept[rows]]
        result[end : end + len(part)] = part
        end += len(part)
    return result


def describe() -> str:
    """How much can be kept where, for `doctor`."""
    free, folder = free_memory(), tempfile.gettempdir()
    disk = shutil.disk_usage(folder).free
    return (
        f"{in_words(free)} free; rows that need more than {in_words(FREE_ROWS_SHARE * free)}, or "
        f"than memory_limit allows, go to files in {folder}, where {in_words(disk)} are free"
    )
