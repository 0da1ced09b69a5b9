"""A pass over wide rows, by NumPy where they are: Spark compiles no expression of so many terms."""

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


def nearest_means(
    rows: DataFrame, centroids: npt.NDArray[np.float64], *, weighted: bool
) -> list[tuple[Any, ...]]:
    """Customers, cluster, and the mean of each column over the rows nearest to a centroid.

    Parameters
    ----------
    rows : pyspark.sql.DataFrame
        Prepared features, behind the weight where there is one.
    centroids : ndarray of shape (k, n_features)
    weighted : bool
    """
    parts = rows.mapInArrow(partial_sums(centroids, weighted), SCHEMA).toArrow()
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
        (int(customers[cluster]), cluster, *(sums[cluster] / weights[cluster]).tolist())
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
