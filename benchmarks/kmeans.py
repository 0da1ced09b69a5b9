"""The fit alone, beside other K-Means, on the same rows in the same process.

    python benchmarks/kmeans.py [--full] [--sizes 1000000x4 1000000x8 10000000x8]
        [--only sqlkmeans faiss] [--results benchmarks/results/kmeans.md]

Contenders take turns; each turn has a seed of its own. Measured are wall and CPU seconds, and the
inertia of the centroids over all rows in float64, beside the best that any contender reached on
these rows.

sqlkmeans
    ``fit_kmeans`` with its default of 10 restarts; labels and distances of all rows included.
    With numba (extra ``fast``, compiled before the clock starts) and without.
scikit-learn
    ``KMeans`` on float64 and float32, ``n_init`` 10 and 1.
scikit-learn-intelex, faiss, MiniBatchKMeans
    As their documentation suggests for large data; faiss on all rows, its default of 25 passes.

Rows: ``blobs`` are k overlapping round groups, ``skewed`` are sums of money and counts, groups
with long tails, standardised as they are. Both come in the order of no group.

The bandwidth limit is the time that all cores need to add up the values of the same matrix; a
full pass is one step of Lloyd's algorithm over all rows.

numba, faiss and scikit-learn-intelex are installed into a virtual environment of their own, in
the folder for temporary files; one that cannot be had is left out and named.

Left out unless ``--full``: ``n_init=10`` above 1,000,000 rows (minutes each), and more than two
turns of the contenders that take longest.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "kmeans.md"
PEERS = ("numba", "faiss-cpu", "scikit-learn-intelex")
SEEDS, SLOW_TURNS = 5, 2
KINDS = ("blobs", "skewed")
CHOICES = range(2, 11)


def peers_python() -> str:
    """The interpreter of an environment that has this one's packages and the peers."""
    home = Path(tempfile.gettempdir()) / f"sqlkmeans-peers-{sysconfig.get_python_version()}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(home, with_pip=True)
    import sqlkmeans

    # An editable install is in none of the folders of packages.
    here = [str(Path(sqlkmeans.__file__).parents[1])]
    here += [path for path in sys.path if path.endswith("site-packages")]
    (Path(_purelib(python)) / "here.pth").write_text("\n".join(here))
    for peer in PEERS:
        command = [str(python), "-m", "pip", "install", "--quiet", peer]
        if subprocess.run(command, stdout=sys.stderr).returncode:
            print(f"{peer} cannot be installed here", file=sys.stderr)
    return str(python)


def _purelib(python: Path) -> str:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.check_output([str(python), "-c", ask], text=True).strip()


# The rows


def make(kind: str, n_rows: int, n_features: int, k: int) -> Any:
    """Standardised rows of float64."""
    import numpy as np

    rng = np.random.default_rng(7)
    group = rng.choice(k, size=n_rows, p=rng.dirichlet(np.full(k, 5.0)))
    centers = rng.normal(0, 2.0 if kind == "blobs" else 0.8, (k, n_features))
    matrix = rng.standard_normal((n_rows, n_features))
    if kind == "skewed":
        matrix *= 0.8
    for start in range(0, n_rows, 65536):
        rows = slice(start, start + 65536)
        matrix[rows] += centers[group[rows]]
        if kind == "skewed":
            np.exp(matrix[rows], out=matrix[rows])
            matrix[rows, ::2] = np.floor(4 * matrix[rows, ::2])
    matrix -= matrix.mean(axis=0)
    matrix /= matrix.std(axis=0)
    return matrix


class Made:
    """The same values as contenders take them: a row or a column in one piece.

    sqlkmeans reads columns from a database; the others would copy them first.
    """

    def __init__(self, rows: Any) -> None:
        import numpy as np

        self.rows, self.columns = rows, np.asfortranarray(rows)
        self.rows32, self.columns32 = rows.astype(np.float32), self.columns.astype(np.float32)


# The contenders: values, k, seed -> centroids

Fit = Callable[[Made, int, int], Any]


@dataclass
class Contender:
    """One way to fit, and what it was measured at."""

    name: str
    fit: Fit
    slow: bool = False
    most_rows: int = 10**12
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    inertia: list[float] = field(default_factory=list)


def own(compiled: bool) -> Fit:
    """fit_kmeans with the loops of numba or of NumPy."""
    from sqlkmeans.clustering.kmeans.kernels import kernel
    from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans

    def fit(made: Made, k: int, seed: int) -> Any:
        kernel.forced = compiled
        return fit_kmeans(made.columns, k, seed=seed).centroids

    return fit


def scikit_learn(n_init: int, float32: bool) -> Fit:
    def fit(made: Made, k: int, seed: int) -> Any:
        from sklearn.cluster import KMeans

        model = KMeans(k, n_init=n_init, random_state=seed)
        return model.fit(made.rows32 if float32 else made.rows).cluster_centers_

    return fit


def mini_batch(made: Made, k: int, seed: int) -> Any:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, n_init=10, batch_size=4096, random_state=seed)
    return model.fit(made.rows).cluster_centers_


def intelex(n_init: int) -> Fit:
    from sklearnex.cluster import KMeans

    def fit(made: Made, k: int, seed: int) -> Any:
        return KMeans(k, n_init=n_init, random_state=seed).fit(made.rows).cluster_centers_

    return fit


def with_faiss() -> Fit:
    import faiss

    def fit(made: Made, k: int, seed: int) -> Any:
        n_rows, n_features = made.rows32.shape
        model = faiss.Kmeans(n_features, k, seed=seed, max_points_per_centroid=n_rows)
        model.train(made.rows32)
        return model.centroids

    return fit


def contenders(full: bool) -> tuple[list[Contender], list[str]]:
    """Those that are there, and the names of those that are not."""
    absent: list[str] = []
    found: list[Contender] = []

    def add(name: str, make_fit: Callable[[], Fit], **options: Any) -> None:
        try:
            found.append(Contender(name, make_fit(), **options))
        except ImportError as error:
            absent.append(f"{name} ({error})")

    def compiled() -> Fit:
        import numba  # noqa: F401

        return own(True)

    ten = {"slow": True, "most_rows": 10**12 if full else 1_000_000}
    add("sqlkmeans, numba", compiled)
    add("sqlkmeans, NumPy", lambda: own(False))
    add("scikit-learn f64, n_init=10", lambda: scikit_learn(10, False), **ten)
    add("scikit-learn f32, n_init=10", lambda: scikit_learn(10, True), **ten)
    add("scikit-learn f64, n_init=1", lambda: scikit_learn(1, False), slow=True)
    add("scikit-learn f32, n_init=1", lambda: scikit_learn(1, True), slow=True)
    add("scikit-learn-intelex, n_init=10", lambda: intelex(10), **ten)
    add("scikit-learn-intelex, n_init=1", lambda: intelex(1), slow=True)
    add("faiss", with_faiss, slow=True)
    add("MiniBatchKMeans, n_init=10", lambda: mini_batch, **ten)
    return found, absent


# Measuring


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, wall and CPU seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def true_inertia(rows: Any, centroids: Any) -> float:
    import numpy as np

    from sqlkmeans.clustering.kmeans.assignment import assign
    from sqlkmeans.clustering.kmeans.kernels import kernel

    kernel.forced = None
    return assign(rows, np.asarray(centroids, dtype=np.float64)).inertia


def bandwidth_limit(rows: Any, repeats: int = 9) -> tuple[float, str]:
    """Least seconds in which all cores add up the values, and how."""
    import numpy as np

    from sqlkmeans.clustering.arrays.threads import in_threads

    values = rows.reshape(-1, order="F")  # as it lies
    how, add = "NumPy", lambda part: part.sum()
    try:
        import numba

        @numba.njit(nogil=True, fastmath=True)
        def compiled(values: Any) -> float:
            total = 0.0
            for value in values:
                total += value
            return total

        how, add = "numba", compiled
    except ImportError:
        pass
    add(values[:10])
    parts = np.array_split(values, 4 * (os.cpu_count() or 1))
    return min(timed(lambda: in_threads(add, parts))[1] for _ in range(repeats)), how


def full_pass(rows: Any, k: int, compiled: bool, repeats: int = 9) -> float:
    """Least seconds of one step over all rows."""
    from sqlkmeans.clustering.arrays.threads import one_library_thread
    from sqlkmeans.clustering.kmeans.kernels import kernel
    from sqlkmeans.clustering.kmeans.lloyd import lloyd

    kernel.forced = compiled
    start = rows[:: len(rows) // k][:k].astype("float64")
    with one_library_thread():
        step = [
            timed(lambda: lloyd(rows, start, max_iter=1, threshold=0.0))[1] for _ in range(repeats)
        ]
    return min(step)


def pass_table(made: Made, k: int) -> list[str]:
    has_numba = _version("numba") is not None
    lines = ["| rows | limit ms | pass, numba ms | times the limit | pass, NumPy ms | times |"]
    lines.append("| --- | --: | --: | --: | --: | --: |")
    for name, matrix in (("float64", made.columns), ("float32", made.columns32)):
        limit, how = bandwidth_limit(matrix)
        cells = [f"{name}, limit by {how}", f"{limit * 1e3:.1f}"]
        for compiled in (True, False):
            if compiled and not has_numba:
                cells += ["absent", ""]
                continue
            taken = full_pass(matrix, k, compiled)
            cells += [f"{taken * 1e3:.1f}", f"{taken / limit:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def compare(
    kind: str, n_rows: int, n_features: int, field_: list[Contender], full: bool
) -> list[str]:
    """Measure all on one set of rows."""
    k = n_features if n_features > 4 else 5
    made = Made(make(kind, n_rows, n_features, k))
    few = Made(made.rows[:120_000])
    taking_part = [c for c in field_ if n_rows <= c.most_rows]
    for contender in taking_part:
        contender.wall, contender.cpu, contender.inertia = [], [], []
        # Compiled, and libraries loaded, before the clock starts.
        contender.fit(few, k, 99)
    for seed in range(SEEDS):
        for contender in taking_part:
            if contender.slow and seed >= SLOW_TURNS and not full:
                continue
            fit = contender.fit
            centroids, wall, cpu = timed(lambda f=fit, s=seed: f(made, k, s))
            contender.wall.append(wall)
            contender.cpu.append(cpu)
            contender.inertia.append(true_inertia(made.columns, centroids))
            print(f"{kind} {n_rows} {contender.name}: {wall:.2f} s", file=sys.stderr, flush=True)
    best = min(min(contender.inertia) for contender in taking_part)
    fastest = statistics.median(taking_part[0].wall)
    lines = [
        f"## {kind}, {n_rows:,} x {n_features}, k = {k}", "",
        *pass_table(made, k),
        "| fit | turns | wall s | times the first | CPU s | inertia over the best seen, median | "
        "worst |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for contender in taking_part:
        wall = statistics.median(contender.wall)
        above = [inertia / best - 1 for inertia in contender.inertia]
        lines.append(
            f"| {contender.name} | {len(above)} | {wall:.3f} | {wall / fastest:.1f} | "
            f"{statistics.median(contender.cpu):.2f} | {statistics.median(above):.1e} | "
            f"{max(above):.1e} |"
        )
    left_out = [contender.name for contender in field_ if n_rows > contender.most_rows]
    if left_out:
        lines += ["", f"Left out, minutes each (`--full` has them): {'; '.join(left_out)}."]
    return [*lines, ""]


def choosing_k(n_rows: int, n_features: int) -> list[str]:
    """k = 2..10 on the same rows: fit_many, and scikit-learn in a loop."""
    from sqlkmeans.clustering.kmeans.kernels import kernel
    from sqlkmeans.clustering.kmeans.kmeans import fit_many

    made = Made(make("blobs", n_rows, n_features, 6))
    few = Made(made.rows[:120_000])
    taken: dict[str, tuple[float, list[float]]] = {}

    def many(compiled: bool, made: Made = made) -> list[Any]:
        kernel.forced = compiled
        return [fit.centroids for _, fit in fit_many(made.columns, CHOICES)]

    loop = scikit_learn(10, False)
    ways: dict[str, Callable[[], list[Any]]] = {
        "sqlkmeans fit_many, numba": lambda: many(True),
        "sqlkmeans fit_many, NumPy": lambda: many(False),
        "scikit-learn f64 in a loop, n_init=10": lambda: [loop(made, k, 0) for k in CHOICES],
    }
    if _version("numba") is None:
        del ways["sqlkmeans fit_many, numba"]
    else:
        many(True, few)  # compiled before the clock starts
    for name, way in ways.items():
        centroids, wall, _ = timed(way)
        taken[name] = wall, [true_inertia(made.columns, c) for c in centroids]
        print(f"k = 2..10 {name}: {wall:.2f} s", file=sys.stderr, flush=True)
    best = [min(values) for values in zip(*(inertia for _, inertia in taken.values()))]
    fastest = next(iter(taken.values()))[0]
    lines = [
        f"## k = 2 to 10, blobs, {n_rows:,} x {n_features}", "",
        "| fits | wall s | times the first | inertia over the best, worst k |",
        "| --- | --: | --: | --: |",
    ]  # fmt: skip
    for name, (wall, inertia) in taken.items():
        worst = max(found / least - 1 for found, least in zip(inertia, best))
        lines.append(f"| {name} | {wall:.2f} | {wall / fastest:.1f} | {worst:.1e} |")
    return [*lines, ""]


# The report


def heading(arguments: Sequence[str], absent: list[str]) -> list[str]:
    command = " ".join(["python benchmarks/kmeans.py", *arguments])
    names = ("numpy", "scikit-learn", "numba", "faiss-cpu", "scikit-learn-intelex")
    versions = ", ".join(f"{name} {_version(name) or 'absent'}" for name in names)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return [
        "# The fit", "",
        f"Command: `{command}`, {time.strftime('%Y-%m-%d')}. What is compared stands at the top "
        "of that file.", "",
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"{versions}. Load of the machine at the start: {load}.", "",
        *([f"Absent: {'; '.join(absent)}.", ""] if absent else []),
    ]  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def write(lines: list[str], results: Path) -> None:
    """Keep what is there so far: a run that is interrupted has what it finished."""
    results.parent.mkdir(exist_ok=True)
    results.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", default=["1000000x4", "1000000x8", "10000000x8"])
    parser.add_argument("--full", action="store_true", help="all contenders, 5 turns each")
    parser.add_argument("--only", nargs="+", default=[""], help="contenders, by part of name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file to write")
    parser.add_argument("--no-peers", action="store_true", help="install nothing")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.no_peers or options.inside):
        command = [peers_python(), __file__, "--inside", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command).returncode)
    found, absent = contenders(options.full)
    found = [c for c in found if any(part in c.name for part in options.only)]
    lines = heading([shlex.quote(a) for a in sys.argv[1:] if a != "--inside"], absent)
    if "1000000x8" in options.sizes and options.only == [""]:
        lines += choosing_k(1_000_000, 8)
        write(lines, options.results)
    for size in options.sizes:
        n_rows, n_features = (int(number) for number in size.split("x"))
        for kind in KINDS:
            lines += compare(kind, n_rows, n_features, found, options.full)
            write(lines, options.results)
    print(options.results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
