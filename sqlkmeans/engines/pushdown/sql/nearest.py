"""The nearest centroid of each row as SQL, linear in k x d.

By LEAST over k distances where it may be (:meth:`Dialect.fits_least`), otherwise by
ordering them in a join that looks at each row's own centroids (``CROSS APPLY … TOP (1)``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.tsql.expressions import number

#: How a number stands in a statement.
Constant = Callable[[float], str]


def nearest_rows(
    dialect: Dialect,
    inner: str,
    centroids: Matrix,
    carry: Sequence[str],
    *,
    value_terms: float = inf,
    exact: bool = True,
    runner_up: bool = False,
    shares: Sequence[str] | None = None,
    constant: Constant = number,
) -> str:
    """The query of rows with their nearest centroid: ``carry``, ``cluster`` from 0, ``squared``.

    Parameters
    ----------
    dialect : Dialect
    inner : str
        A query of ``carry`` and prepared features.
    centroids : ndarray of shape (k, n_features)
    carry : sequence of str
    value_terms : float, default=inf
        At most so many identifiers and constants make a column of ``inner``.
    exact : bool, default=True
        ``squared`` is the squared distance, added up a feature at a time as the scoring
        function does. Otherwise it lacks the row's own norm: twice as fast, and enough to say
        which centroid is nearer.
    runner_up : bool, default=False
        Add the squared distance to the second nearest.
    shares : sequence of str of length k, optional
        Over ``carry``: what of a squared distance counts where each is the second; ``runner_up``
        is the least that does.
    constant : callable
        How a number of a centroid is written.
    """
    k, n_features = centroids.shape
    # Without an end where LEAST would stand inside LEAST.
    terms = inf if runner_up else least_terms(k, n_features, len(carry), value_terms, exact)
    if dialect.fits_least(terms):
        return _nearest_by_least(inner, centroids, carry, exact, runner_up, shares, constant)
    return _nearest_by_order(dialect, inner, centroids, carry, exact, runner_up, shares, constant)


def least_terms(k: int, n_features: int, carried: int, value_terms: float, exact: bool) -> float:
    """Identifiers and constants of the nearest centroid by LEAST, all names written out.

    A database may write an expression out wherever its name stands: a distance in LEAST, and all
    of LEAST again in every WHEN.
    """
    distance = n_features * (value_terms + 1) * (2 if exact else 1) + (not exact)
    least = k * distance
    cluster = k * (least + distance + 1)
    return carried * value_terms + cluster + least


def _nearest_by_least(
    inner: str,
    centroids: Matrix,
    carry: Sequence[str],
    exact: bool,
    runner_up: bool,
    shares: Sequence[str] | None,
    constant: Constant,
) -> str:
    names = [f"d{i}" for i in range(len(centroids))]
    distances = [_distance(centroid, exact, constant) for centroid in centroids.tolist()]
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
    if shares is not None:
        names = [f"{name} * ({share})" for name, share in zip(names, shares)]
    others = ", ".join(f"CASE WHEN cluster <> {i} THEN {n} END" for i, n in enumerate(names))
    return (
        f"SELECT {listed(carry, ['cluster'])}, squared, LEAST({others}) AS runner_up\n"
        f"FROM ({text}) AS b"
    )


def _distance(centroid: Sequence[float], exact: bool, constant: Constant) -> str:
    if exact:
        differences = [f"(z{p} - ({constant(c)}))" for p, c in enumerate(centroid, start=1)]
        return " + ".join(f"{difference} * {difference}" for difference in differences)
    norm, *products = _norm_and_products(centroid, constant)
    return " + ".join([norm, *(f"z{p} * ({c})" for p, c in enumerate(products, start=1))])


def _norm_and_products(centroid: Sequence[float], constant: Constant) -> list[str]:
    return [constant(sum(c * c for c in centroid)), *(constant(-2 * c) for c in centroid)]


def _nearest_by_order(
    dialect: Dialect,
    inner: str,
    centroids: Matrix,
    carry: Sequence[str],
    exact: bool,
    runner_up: bool,
    shares: Sequence[str] | None,
    constant: Constant,
) -> str:
    """Centroids are rows of constants, and the distance to one of them is written once."""
    positions = range(1, centroids.shape[1] + 1)
    coordinates = [f"c{p}" for p in positions]
    if exact:
        rows = [list(map(constant, centroid)) for centroid in centroids.tolist()]
        squares = [f"(z.z{p} - c.c{p}) * (z.z{p} - c.c{p})" for p in positions]
        distance = " + ".join(squares)
    else:
        rows = [_norm_and_products(centroid, constant) for centroid in centroids.tolist()]
        distance = " + ".join(["c.norm", *(f"z.z{p} * c.c{p}" for p in positions)])
        coordinates = ["norm", *coordinates]
    values = ",\n".join(f"({i}, {', '.join(row)})" for i, row in enumerate(rows))
    all_distances = (
        f"FROM (VALUES {values}) AS c (cluster, {', '.join(coordinates)})\n"
        f"{dialect.apply} (SELECT {distance} AS squared) AS d"
    )
    found = ["n.cluster", "n.squared"]
    if runner_up:
        second = "d.squared"
        if shares is not None:
            cases = " ".join(f"WHEN {i} THEN {share}" for i, share in enumerate(shares))
            second = f"d.squared * CASE c.cluster {cases} END"
        places = (
            f"SELECT c.cluster, d.squared, {second} AS second, "
            f"ROW_NUMBER() OVER (ORDER BY d.squared, c.cluster) AS place {all_distances}"
        )
        first = "MIN(CASE WHEN p.place = 1 THEN p."
        nearest = (
            f"SELECT {first}cluster END) AS cluster, {first}squared END) AS squared, "
            f"MIN(CASE WHEN p.place > 1 THEN p.second END) AS runner_up FROM ({places}) AS p"
        )
        found.append("n.runner_up")
    else:
        nearest = dialect.first(
            1, "c.cluster, d.squared", f"{all_distances}\nORDER BY d.squared, c.cluster"
        )
    return (
        f"SELECT {listed([f'z.{name}' for name in carry], found)}\n"
        f"FROM ({inner}) AS z\n{dialect.apply} ({nearest}) AS n"
    )


def listed(first: Sequence[str], rest: Sequence[str]) -> str:
    """A list of columns."""
    return ", ".join([*first, *rest])
