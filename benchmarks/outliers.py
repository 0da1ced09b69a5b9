"""How many planted outliers `outlier` and `trim` find, and how many of those they flag are planted.

    python benchmarks/outliers.py [--seeds 5] [--write]

5,000 rows in 5 Gaussian groups (equal sizes, deviation 1, centres at least 8 apart) of 2 and of 8
features, with 0.5 % and 2 % of planted rows: **around**, uniform in a box that is four times as
wide as the groups; **clump**, all in one narrow heap beside the groups; **wrong unit**, a row of a
group with one feature ten times as far from the origin as the farthest group. Everything is scaled
by its standard deviation, planted rows included, as a run does by default. p is the planted share.

Recall is the share of the planted rows that are flagged, precision the share of the flagged rows
that are planted. A group counts as found if a centroid is within one deviation a feature of its
centre. Isolation forest and local outlier factor are scikit-learn's, with contamination = p; they
know no segments.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from sqlkmeans.clustering.describing.outliers import outlier_distances
from sqlkmeans.clustering.kmeans.trimming import fit_trimmed, kept_within

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
#: Who is flagged, and the centroids where there are some.
Flagged = tuple[Mask, Matrix | None]

ROWS, K = 5_000, 5
KINDS = ("around", "clump", "wrong unit")
RESULT = Path(__file__).parent / "results" / "outliers.md"


def centres(rng: np.random.Generator, n_features: int) -> Matrix:
    while True:
        found = rng.uniform(-15, 15, (K, n_features))
        apart = np.linalg.norm(found[:, None] - found, axis=2)
        if apart[~np.eye(K, dtype=bool)].min() >= 8:
            return found


def draw(kind: str, n_features: int, share: float, seed: int) -> tuple[Matrix, Mask, Matrix]:
    """Rows, which of them are planted, and the centres."""
    rng = np.random.default_rng(seed)
    middle = centres(rng, n_features)
    n_far = round(share * ROWS)
    rows = middle[np.arange(ROWS) % K] + rng.normal(size=(ROWS, n_features))
    far = rows[:n_far].copy()
    if kind == "around":
        while len(near := _near(far, middle)):
            far[near] = rng.uniform(-60, 60, (len(near), n_features))
    elif kind == "clump":
        far = 45 * np.ones(n_features) / np.sqrt(n_features) + rng.normal(0, 0.3, far.shape)
    else:
        far[np.arange(n_far), rng.integers(0, n_features, n_far)] = 150
    rows[:n_far] = far
    order = rng.permutation(ROWS)
    scale = rows.std(axis=0)
    return np.asfortranarray(rows[order] / scale), order < n_far, middle / scale


def _near(rows: Matrix, middle: Matrix) -> npt.NDArray[np.int64]:
    apart = np.linalg.norm(rows[:, None] - middle, axis=2).min(axis=1)
    return np.flatnonzero(apart < 5 * np.sqrt(rows.shape[1]))


def ours(outlier: float, trim: float) -> Callable[[Matrix, float], Flagged]:
    """Flagged by a definition whose keys are so many times the planted share."""

    def flag(rows: Matrix, share: float) -> Flagged:
        fit = fit_trimmed(rows, K, trim=trim * share)
        labels, squared = fit.assignment.labels, fit.assignment.squared_distances
        kept = kept_within(squared, trim * share)
        limits = outlier_distances(labels, squared, K, outlier * share, squared=True, at_most=kept)
        return np.sqrt(squared) > limits[labels], fit.centroids

    return flag


METHODS: dict[str, Callable[[Matrix, float], Flagged]] = {
    "`outlier = p`": ours(1, 0),
    "`outlier = 2p`": ours(2, 0),
    "`outlier = p`, `trim = p`": ours(1, 1),
    "`outlier = p/10`, `trim = p`": ours(0.1, 1),
    "`outlier = p/10`, `trim = 2p`": ours(0.1, 2),
    "`outlier = p/10`, `trim = p/2`": ours(0.1, 0.5),
    "isolation forest": lambda rows, share: (
        IsolationForest(contamination=share, random_state=0).fit_predict(rows) < 0, None
    ),
    "local outlier factor": lambda rows, share: (
        LocalOutlierFactor(contamination=share).fit_predict(rows) < 0, None
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} too")
    options = parser.parse_args()
    started = time.perf_counter()
    figures: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for kind in KINDS:
        for n_features in (2, 8):
            for share in (0.005, 0.02):
                for seed in range(options.seeds):
                    rows, planted, middle = draw(kind, n_features, share, seed)
                    for name, method in METHODS.items():
                        flagged, centroids = method(rows, share)
                        hits = (flagged & planted).sum()
                        found = np.nan
                        if centroids is not None:
                            found = _groups(centroids, middle, rows[~planted])
                        figures[name, kind].append(
                            (hits / planted.sum(), hits / max(1, flagged.sum()), found)
                        )
    heading = " | ".join(f"{kind}: recall | precision | groups" for kind in KINDS)
    lines = [f"| % | {heading} |", "| --- |" + " --: |" * 3 * len(KINDS)]
    for name in METHODS:
        means = np.concatenate([np.mean(figures[name, kind], axis=0) for kind in KINDS])
        cells = ["" if np.isnan(mean) else f"{100 * mean:.1f}" for mean in means]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    command = f"python benchmarks/outliers.py --seeds {options.seeds}"
    text = (
        "# Planted outliers\n\n"
        f"Command: `{command} --write`, {time.perf_counter() - started:.0f} s, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}; {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}. What is planted stands at "
        "the top of that file.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if options.write:
        RESULT.write_text(text, encoding="utf-8")


def _groups(centroids: Matrix, middle: Matrix, rows: Matrix) -> float:
    """Share of the groups that have a centroid within one deviation of their own."""
    labels = np.linalg.norm(rows[:, None] - middle, axis=2).argmin(axis=1)
    near = 0
    for group in range(K):
        own = rows[labels == group]
        # In the group's own deviations: scaling made each feature another.
        offsets = (centroids - middle[group]) / own.std(axis=0)
        near += np.linalg.norm(offsets, axis=1).min() <= np.sqrt(rows.shape[1])
    return near / K


if __name__ == "__main__":
    main()
