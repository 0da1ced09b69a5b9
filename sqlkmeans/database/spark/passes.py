"""Python on the executors, as for a pass over wide rows: Spark compiles no expression of so many
terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

#: What a task tells: a row a cluster.
SCHEMA = "cluster int, customers bigint, weight double, sums array<double>"
Batches = Iterable[pa.RecordBatch]


def on_executors(
    rows: DataFrame, function: Callable[[Batches], Iterator[pa.RecordBatch]], schema: str
) -> pa.Table | None:
    """What a function gives of the rows of each task; None where executors lack what it imports.

    Parameters
    ----------
    rows : pyspark.sql.DataFrame
    function : callable
        Called by each task with its batches.
    schema : str
        Of what it gives.
    """
    from pyspark.errors import PythonException

    try:
        return rows.mapInArrow(function, schema).toArrow()
    except PythonException as error:
        if "ModuleNotFoundError" not in str(error):
            raise
        return None


def nearest_means(
    rows: DataFrame, centroids: npt.NDArray[np.float64], *, weighted: bool
) -> list[tuple[Any, ...]] | None:
    """Customers, cluster, its weight, and the mean of each column over the rows nearest to a
    centroid.

    None where the executors have no NumPy.

    Parameters
    ----------
    rows : pyspark.sql.DataFrame
        Prepared features, behind the weight where there is one.
    centroids : ndarray of shape (k, n_features)
    weighted : bool
    """
    parts = on_executors(rows, partial_sums(centroids, weighted), SCHEMA)
    if parts is None:
        return None
    k, n_features = centroids.shape
    customers, weights = np.zeros(k, np.int64), np.zeros(k)
    sums = np.zeros((k, n_features))
    # In the order of the partitions, so that each pass adds up alike.
    for part in parts.to_pylist():
        cluster = part["cluster"]
        customers[cluster] += part["customers"]
        weights[cluster] += part["weight"]
        sums[cluster] += part["sums"]
    return [
        (
            int(customers[cluster]),
            cluster,
            float(weights[cluster]),
            *(sums[cluster] / weights[cluster]).tolist(),
        )
        for cluster in range(k)
        if customers[cluster]
    ]


def partial_sums(
    centroids: npt.NDArray[np.float64], weighted: bool
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """A function that a task calls with its batches.

    It travels by value, because a function inside another cannot be imported: an executor needs
    NumPy and PyArrow, and nothing of this package.
    """
    k, n_features = centroids.shape
    norms, products = (centroids**2).sum(axis=1), -2 * centroids.T

    def sums_of(batches: Batches) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        customers, weights = np.zeros(k, np.int64), np.zeros(k)
        sums = np.zeros((k, n_features))
        for batch in batches:
            columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
            weight = columns.pop(0) if weighted else np.ones(batch.num_rows)
            values = np.column_stack(columns)
            nearest = (values @ products + norms).argmin(axis=1)
            customers += np.bincount(nearest, minlength=k)
            weights += np.bincount(nearest, weight, minlength=k)
            for position in range(n_features):
                sums[:, position] += np.bincount(nearest, weight * values[:, position], minlength=k)
        yield pa.record_batch({
            "cluster": pa.array(np.arange(k), pa.int32()),
            "customers": pa.array(customers),
            "weight": pa.array(weights),
            "sums": pa.array(sums.tolist(), pa.list_(pa.float64())),
        })  # fmt: skip

    return sums_of
