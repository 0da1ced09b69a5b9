"""The keys of the rows that an engine reads: collected, checked, put in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.clustering.arrays.chunks import CHUNK
from sqlkmeans.engines.local.storage import Batches
from sqlkmeans.errors import DataError


class KeyCollector:
    """Keeps the key columns and finds NULL and repeated keys.

    Parameters
    ----------
    names : sequence of str
        The key columns.
    kept : Batches
        Where they are kept.
    """

    def __init__(self, names: Sequence[str], kept: Batches) -> None:
        self._name = ", ".join(names)
        self._kept = kept
        self._last: pa.RecordBatch | None = None
        #: Whether each key was greater than the one before.
        self.ascending = True
        self._nulls = 0
        self.keys = pa.table({})

    @property
    def sound(self) -> bool:
        """Whether so far no key is NULL and each is greater than the one before."""
        return self.ascending and not self._nulls

    def add(self, keys: pa.RecordBatch) -> None:
        """Take the keys of the next rows, of one or more."""
        self._nulls += sum(column.null_count for column in keys.columns)
        if self.ascending and not self._nulls:
            between = self._last is None or _strictly_increasing(_joined(self._last, keys[:1]))
            self.ascending = between and _strictly_increasing(keys)
        self._last = _copied(keys[-1:])
        self._kept.add(keys)

    def finish(self, *, sort: bool) -> npt.NDArray[np.int64] | None:
        """Check the keys, and set ``keys`` to all of them.

        Parameters
        ----------
        sort : bool
            Bring the keys into ascending order; where false, equal keys are neighbours already.

        Returns
        -------
        ndarray of int64 or None
            The order that sorts the rows; None where they are to stay as they are.

        Raises
        ------
        DataError
            If a key is NULL or not unique.
        """
        self.keys = self._kept.table()
        if self._nulls:
            raise DataError(f"key {self._name}: {self._nulls:,} NULL; a key identifies a customer")
        if self.ascending:
            return None
        order = None
        if sort:
            import pyarrow.compute as pc

            by = [(name, "ascending") for name in self.keys.column_names]
            order = pc.sort_indices(self.keys, sort_keys=by)
            self.keys = self.keys.take(order)
        self._refuse_repeats()
        return None if order is None else order.to_numpy().astype(np.int64)

    def _refuse_repeats(self) -> None:
        import pyarrow.compute as pc

        repeats, example = 0, ""
        last: pa.RecordBatch | None = None
        for batch in self.keys.to_batches(max_chunksize=CHUNK):
            rows = batch if last is None else _joined(last, batch)
            same = _equals_the_one_before(rows)
            found = pc.sum(same).as_py() or 0
            if found and not repeats:
                row = rows.slice(pc.index(same, True).as_py(), 1).to_pylist()[0]
                example = ", ".join(str(value) for value in row.values())
            repeats += found
            last = batch[-1:]
        if repeats:
            raise DataError(
                f"key {self._name}: not unique; {repeats:,} rows repeat the key of another "
                f"(for example {example}); aggregate in the source, or add a key column"
            )


def _copied(keys: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in memory of their own, which keep no others alive."""
    return _joined(keys, keys[:0])


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    columns = [pa.concat_arrays(pair) for pair in zip(first.columns, second.columns)]
    return pa.RecordBatch.from_arrays(columns, names=first.schema.names)


def _equals_the_one_before(keys: pa.RecordBatch) -> pa.Array:
    """Whether each row's key, from the second on, is that of the row before."""
    import pyarrow.compute as pc

    same: pa.Array | None = None
    for column in keys.columns:
        equal = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
        same = equal if same is None else pc.and_(same, equal)
    return same


def _strictly_increasing(keys: pa.RecordBatch) -> bool:
    """Whether each row's key is greater than the one before, the first column counting most."""
    if keys.num_columns == 1 and pa.types.is_integer(keys.schema.types[0]):
        # As most keys are. Arrow's functions for the others take a while to load.
        values = keys.column(0).to_numpy(zero_copy_only=False)
        return bool((values[:-1] < values[1:]).all())
    import pyarrow.compute as pc

    greater: pa.Array | None = None
    for column in reversed(keys.columns):
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        if greater is None:
            greater = pc.less(before, after)
        else:
            greater = pc.or_(pc.less(before, after), pc.and_(pc.equal(before, after), greater))
    return bool(pc.all(greater).as_py())
