"""Labels that are on their way from Spark to a database, in files of this process alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class LabelFiles:
    """A folder that is removed when it is closed; what is read from it is mapped, not held."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="sqlkmeans_labels_", ignore_cleanup_errors=True)
        self._path = Path(self._folder.name)
        self._keys: pa.ipc.RecordBatchFileWriter | None = None
        self._made = 0
        self.rows = 0

    def add(self, keys: pa.Table, clusters: npt.NDArray[Any], distances: npt.NDArray[Any]) -> None:
        """Take the next labels."""
        if self._keys is None:
            self._keys = pa.ipc.new_file(str(self._path / "keys"), keys.schema)
        self._keys.write_table(keys)
        for name, values in (("cluster", clusters), ("distance", distances)):
            with (self._path / name).open("ab") as file:
                values.tofile(file)
        self.rows += keys.num_rows

    def read(self) -> tuple[pa.Table, npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Keys, clusters and distances of all; nothing can be added any more."""
        assert self._keys is not None
        self._keys.close()
        return (
            pa.ipc.open_file(pa.memory_map(str(self._path / "keys"))).read_all(),
            np.memmap(self._path / "cluster", np.int32, "r"),
            np.memmap(self._path / "distance", np.float64, "r"),
        )

    def empty(self, shape: Any, dtype: Any = np.float64) -> npt.NDArray[Any]:
        """Room for what is as long as the labels, in a file too."""
        self._made += 1
        return np.memmap(self._path / f"more {self._made}", dtype, "w+", shape=shape)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()
