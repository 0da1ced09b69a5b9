"""The nearest centroid of each row as SQL, linear in k x d.

By LEAST over k distances where it may be (:meth:`TrainingDialect.fits_least`), otherwise by
ordering them in ``CROSS APPLY … TOP (1)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlkmeans.tsql.expressions import number
from sqlkmeans.tsql.training_dialect import TrainingDialect

Matrix = npt.NDArray[np.float64]


def nearest_rows(
    dialect: TrainingDialect,
    inner: str,
    centroids: Matrix,
    carry: Sequence[str],
    *,
    exact: bool = True,
    runner_up: bool = False,
) -> str:
    """The query of rows with their nearest centroid: ``carry``, ``cluster`` from 0, ``squared``.

    Parameters
    ----------
    dialect : TrainingDialect
    inner : str
        A query of ``carry`` and prepared features.
    centroids : ndarray of shape (k, n_features)
    carry : sequence of str
    exact : bool, default=True
        ``squared`` is the squared distance, added up a feature at a time as the scoring
        function does. Otherwise it lacks the row's own norm: twice as fast, and enough to say
        which centroid is nearer.
    runner_up : bool, default=False
        Add the squared distance to the second nearest.
    """
    distances = [_distance(centroid, exact) for centroid in centroids.tolist()]
    terms = (4 if exact else 2) * centroids.shape[1] + 1
    if dialect.fits_least(len(centroids), terms):
        return _nearest_by_least(inner, distances, carry, runner_up)
    return _nearest_by_order(inner, distances, carry, runner_up)


def _distance(centroid: Sequence[float], exact: bool) -> str:
    if exact:
        differences = [f"(z{p} - ({number(c)}))" for p, c in enumerate(centroid, start=1)]
        return " + ".join(f"{difference} * {difference}" for difference in differences)
    norm = sum(c * c for c in centroid)
    products = [f"z{p} * ({number(-2 * c)})" for p, c in enumerate(centroid, start=1)]
    return " + ".join([number(norm), *products])


def _nearest_by_least(
    inner: str, distances: Sequence[str], carry: Sequence[str], runner_up: bool
) -> str:
    names = [f"d{i}" for i in range(len(distances))]
    labelled = " ".join(f"WHEN {name} THEN {i}" for i, name in enumerate(names))
    text = (
        f"SELECT {listed(carry, [f'{d} AS {n}' for d, n in zip(distances, names)])}\n"
        f"FROM ({inner}) AS z"
    )
    least = f"LEAST({', '.join(names)}) AS squared"
    text = f"SELECT {listed(carry, names)}, {least}\nFROM ({text}) AS d"
    cluster = f"CASE squared {labelled} END AS cluster"
    if not runner_up:
        return f"SELECT {listed(carry, [cluster])}, squared\nFROM ({text}) AS m"
    text = f"SELECT {listed(carry, names)}, squared, {cluster}\nFROM ({text}) AS m"
    others = ", ".join(f"CASE WHEN cluster <> {i} THEN {n} END" for i, n in enumerate(names))
    return (
        f"SELECT {listed(carry, ['cluster'])}, squared, LEAST({others}) AS runner_up\n"
        f"FROM ({text}) AS b"
    )


def _nearest_by_order(
    inner: str, distances: Sequence[str], carry: Sequence[str], runner_up: bool
) -> str:
    """Each distance is written once, and what TOP or MIN gives cannot be written out again."""
    rows = ",\n".join(f"({i}, {distance})" for i, distance in enumerate(distances))
    values = f"(VALUES {rows}) AS v (cluster, squared)"
    found = ["n.cluster", "n.squared"]
    if runner_up:
        places = (
            "SELECT v.cluster, v.squared, "
            f"ROW_NUMBER() OVER (ORDER BY v.squared, v.cluster) AS place FROM {values}"
        )
        first = "MIN(CASE WHEN p.place = 1 THEN p."
        nearest = (
            f"SELECT {first}cluster END) AS cluster, {first}squared END) AS squared, "
            f"MIN(CASE WHEN p.place = 2 THEN p.squared END) AS runner_up FROM ({places}) AS p"
        )
        found.append("n.runner_up")
    else:
        nearest = f"SELECT TOP (1) v.cluster, v.squared FROM {values} ORDER BY v.squared, v.cluster"
    return (
        f"SELECT {listed([f'z.{name}' for name in carry], found)}\n"
        f"FROM ({inner}) AS z\nCROSS APPLY ({nearest}) AS n"
    )


def listed(first: Sequence[str], rest: Sequence[str]) -> str:
    """A list of columns."""
    return ", ".join([*first, *rest])
