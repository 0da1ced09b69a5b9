"""Rules and typical customers of labelled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.describing.found import TypicalCustomer
from sqlkmeans.clustering.describing.rules import Rule, find_conditions
from sqlkmeans.clustering.describing.typical import COUNT
from sqlkmeans.engines.key_texts import key_texts_of
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sample import LabelledSample
from sqlkmeans.engines.pushdown.sql import description


def count_rules(
    rows: KeptRows,
    sample: LabelledSample,
    order: Sequence[int],
    sizes: npt.NDArray[np.int64],
    seed: int,
) -> list[Rule | None]:
    """The rules that the sample suggests, counted on all rows.

    Parameters
    ----------
    rows : KeptRows
    sample : LabelledSample
    order : sequence of int
        The number in the labelled table of each cluster.
    sizes : ndarray of int of shape (k,)
        Of the clusters of the labelled table.
    seed : int
    """
    conditions = find_conditions(
        sample.matrix, sample.preparation, sample.assignment.labels, len(order), seed=seed
    )
    found = {order[j]: one for j, one in enumerate(conditions) if one is not None}
    if not found:
        return [None] * len(order)
    intervals = {cluster: condition.intervals for cluster, condition in found.items()}
    query = description.rule_query(rows.layout, sample.preparation.features, intervals)
    facts = iter(rows.one(query))
    counted = {
        cluster: condition.counted(int(next(facts)), int(next(facts)), int(sizes[cluster]))
        for cluster, condition in found.items()
    }
    return [counted.get(cluster) for cluster in order]


def read_typical(rows: KeptRows, order: Sequence[int]) -> list[list[TypicalCustomer]]:
    """The customers nearest their centroid, with their keys, one list a cluster."""
    found = rows.ask(description.typical_query(rows.layout, COUNT))
    texts = key_texts_of([row[:-2] for row in found])
    typical: dict[int, list[TypicalCustomer]] = {cluster: [] for cluster in order}
    for text, (*_, cluster, distance) in zip(texts, found):
        typical[int(cluster)].append(TypicalCustomer(text, float(distance)))
    return [typical[cluster] for cluster in order]
