"""How often each score, and the recommendation, find how many clusters there are, if any.

    python benchmarks/choose_k.py [--rounds 2] [--seed 2000] [--before 7ccae37] [--write]

Mixtures of 2 to 10 Gaussian clusters in 2 to 8 dimensions, 500 to 5,000 rows; sizes equal or up
to 1 : 8, deviations equal or 0.5 to 1.5; centres packed as closely as their overlap allows, or
scattered so that some pairs are close and others far. Overlap is the least distance of two
centres over the sum of their deviations: none (3.5 to 5), slight (2.5 to 3), moderate (1.75 to
2.25: for equal clusters, 1 to 4 % lie beyond the border) and heavy (1 to 1.5: 7 to 16 %, and
mostly one peak for the eye). A fifth of the mixtures is counted apart: packed, with one feature
more that is noise as wide as the clusters are apart, which K-Means has to cut through. And rows
without clusters: uniform in a cube and in a ball, one Gaussian blob, one elongated and turned, one
with heavy tails (Student's t, 5 degrees of freedom), one skewed (log-normal). All are scaled by
their standard deviations, as a run does by default.

Then what customers' tables have beside. Columns of few values next to the rows without clusters
and next to mixtures without or with slight overlap (there half of the columns go with the
clusters): yes/no, counts up to 6, categories of 3 to 6 levels, scaled as a run does. Such columns
alone, independent of each other or of 2 to 4 latent classes. 10 to 300 rows. Two to four features
of noise. And crowds that are not of K-Means' shape: rings, a ring around a core, moons, lines,
spirals; some with a third feature or with a yes/no column.

A score finds k where it is best at the true k among 2 to 10. The gap statistic takes the smallest
k from 1 on by its rule of one standard error, the inertia its knee (Satopää, Albrecht, Irwin &
Raghavan, 2011). Without clusters, the recommendation is right if it says that there is no
structure, the gap statistic if it takes 1; the other scores cannot say so. Of crowds of another
shape, it is right if it says that. The rule was made on seeds below 2000; the table is of others.

``--before`` runs the same cases with the package as a commit has it, from a work tree in a
directory for temporary files.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain, pairwise, product
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k

Matrix = npt.NDArray[np.float64]

OVERLAPS = {"none": (3.5, 5.0), "slight": (2.5, 3.0), "moderate": (1.75, 2.25), "heavy": (1.0, 1.5)}
SHAPES = ("cube", "ball", "blob", "elongated", "heavy tails", "skewed")
DIMENSIONS = (2, 3, 4, 6, 8)
ROWS = (500, 1_000, 2_000, 5_000)
RESULT = Path(__file__).parent / "results" / "choose_k.md"

#: The answer "structure, but not of K-Means' shape".
ANOTHER_SHAPE = 0
FEW_VALUED = (
    "1 yes/no", "3 yes/no", "2 counts", "1 category", "1 yes/no, 1 category",
    "3 yes/no, 2 categories",
)  # fmt: skip
CROWDS = (
    "rings", "ring and core", "moons", "lines", "spirals", "moons in 3 features",
    "lines in 3 features", "moons, 1 yes/no",
)  # fmt: skip
FEW_ROWS = (10, 20, 50, 100, 200, 300)


@dataclass(frozen=True)
class Case:
    """What to draw: ``k`` is 1 where there are no clusters, 0 where they are of another shape.

    ``columns`` are the columns of few values beside.
    """

    seed: int
    group: str
    overlap: str
    k: int
    kind: str
    dimensions: int
    n_rows: int
    columns: str = ""

    def draw(self) -> tuple[Matrix, list[str]]:
        """Scaled rows, and the source column of each feature."""
        rng = np.random.default_rng([self.seed, self.k])
        cluster = np.zeros(self.n_rows, dtype=np.int64)
        rows: Matrix = np.empty((self.n_rows, 0))
        if self.k > 1 and self.dimensions:
            rows, cluster = _mixture(rng, self)
        elif self.k > 1:
            cluster = rng.integers(self.k, size=self.n_rows)
        elif self.k == ANOTHER_SHAPE:
            rows = _crowds(rng, self)
        elif self.dimensions:
            rows = _unstructured(rng, self)
        scaled: Matrix = (rows - rows.mean(axis=0)) / rows.std(axis=0) if rows.size else rows
        names = [f"x{number}" for number in range(scaled.shape[1])]
        for number, column in enumerate(_few_valued(rng, self, cluster)):
            spread = np.sqrt((column.var(axis=0)).sum())
            if spread > 0:
                scaled = np.column_stack([scaled, (column - column.mean(axis=0)) / spread])
                names += [f"few{number}"] * column.shape[1]
        return scaled, names


def cases(seed: int, rounds: int) -> Iterator[Case]:
    """All kinds of mixtures, and as many shapes without clusters as make a quarter of all."""
    for turn in range(rounds):
        rng = np.random.default_rng([seed, turn])
        kinds = product(OVERLAPS, range(2, 11), ("equal", "unequal"), ("equal", "unequal"))
        for overlap, k, sizes, deviations in kinds:
            layout = rng.choice(["packed", "scattered", "a noise feature"], p=[0.4, 0.4, 0.2])
            group = "noise feature" if layout == "a noise feature" else overlap
            kind = f"{sizes} sizes, {deviations} deviations, {layout}"
            dimensions, n_rows = int(rng.choice(DIMENSIONS)), int(rng.choice(ROWS))
            yield Case(int(rng.integers(2**31)), group, overlap, k, kind, dimensions, n_rows)
        for shape, dimensions, n_rows in product(SHAPES, DIMENSIONS, rng.choice(ROWS, 2)):
            seed_of_case = int(rng.integers(2**31))
            yield Case(seed_of_case, "no clusters", "none", 1, shape, dimensions, int(n_rows))


def further_cases(seed: int, rounds: int) -> Iterator[Case]:
    """Columns of few values, few rows, features of noise, and other shapes."""
    for turn in range(rounds):
        rng = np.random.default_rng([seed, turn, 1])

        def draw(group: str, overlap: str, k: int, kind: str, dimensions: int, n_rows: int,
                 columns: str = "", rng: np.random.Generator = rng) -> Case:  # fmt: skip
            seed_of_case = int(rng.integers(2**31))
            return Case(seed_of_case, group, overlap, k, kind, dimensions, n_rows, columns)

        def mixture(*, scattered: bool = True, rng: np.random.Generator = rng) -> str:
            sizes, deviations = rng.choice(["equal", "unequal"], 2)
            layout = rng.choice(["packed", "scattered"]) if scattered else "packed"
            return f"{sizes} sizes, {deviations} deviations, {layout}"

        rows = (50, 100, 200, 500, 1_000, 2_000)
        for shape, columns in product(SHAPES, FEW_VALUED):
            d, n = int(rng.choice(DIMENSIONS)), int(rng.choice(rows))
            yield draw("noise, few values beside", "none", 1, shape, d, n, columns)
        for overlap, k, columns in product(("none", "slight"), (2, 4, 6), FEW_VALUED):
            d, n = int(rng.choice(DIMENSIONS)), int(rng.choice([200, 500, 1_000, 2_000]))
            yield draw("mixture, few values beside", overlap, k, mixture(), d, n, columns)
        for columns in ("2 yes/no", "4 yes/no", "8 yes/no", *FEW_VALUED[2:]):
            n = int(rng.choice(rows))
            yield draw("few values only, noise", "none", 1, "independent", 0, n, columns)
        for k, n_columns in product((2, 3, 4), (8, 12)):
            n = int(rng.choice([500, 1_000, 2_000]))
            kind = f"{k} latent classes"
            yield draw("few values only, classes", "none", k, kind, 0, n, f"{n_columns} yes/no")
        for shape, n in product(SHAPES, FEW_ROWS):
            d = int(rng.choice(DIMENSIONS))
            yield draw(f"noise, {n} rows", "none", 1, shape, d, n)
        for overlap, n, _ in product(("none", "slight"), FEW_ROWS, range(3)):
            d, k = int(rng.choice(DIMENSIONS)), int(rng.integers(2, min(6, n // 5) + 1))
            yield draw(f"mixture, {n} rows", overlap, k, mixture(), d, n)
        for overlap, noise, k in product(("none", "slight"), (2, 3, 4), (2, 4, 6)):
            d, n = int(rng.choice([4, 6, 8])), int(rng.choice([500, 1_000, 2_000]))
            kind = f"{mixture(scattered=False)}, {noise} noise features"
            yield draw("noise features", overlap, k, kind, d, n)
        for kind, n in product(CROWDS, (200, 500, 1_000, 2_000)):
            columns = "1 yes/no" if "yes/no" in kind else ""
            yield draw("another shape", "none", ANOTHER_SHAPE, kind, 2, n, columns)


def _mixture(rng: np.random.Generator, case: Case) -> tuple[Matrix, npt.NDArray[np.int64]]:
    k, d = case.k, case.dimensions
    sizes = np.geomspace(1, rng.uniform(3, 8), k) if "unequal sizes" in case.kind else np.ones(k)
    deviations = rng.uniform(0.5, 1.5, k) if "unequal dev" in case.kind else np.ones(k)
    apart = rng.uniform(*OVERLAPS[case.overlap])
    side = apart * (8 if "scattered" in case.kind else 2)
    centres: list[npt.NDArray[np.float64]] = []
    refused = 0
    while len(centres) < k:
        centre = rng.uniform(0, side, d)
        least = apart * (deviations[: len(centres)] + deviations[len(centres)])
        if all(np.linalg.norm(centre - c) >= gap for c, gap in zip(centres, least)):
            centres.append(centre)
            refused = 0
        else:
            refused += 1
        if refused > 50:
            side, refused = side * 1.05, 0
    cluster = rng.choice(k, case.n_rows, p=rng.permutation(sizes) / sizes.sum())
    each = min(10, case.n_rows // k)
    cluster[: each * k] = np.tile(np.arange(k), each)
    noise = rng.normal(size=(case.n_rows, d)) * deviations[cluster][:, None]
    points: Matrix = np.array(centres)[cluster] + noise
    if "noise feature" in case.kind:
        word = case.kind.split(", ")[-1].split()[0]
        more = int(word) if word.isdigit() else 1
        points = np.column_stack([points, rng.normal(size=(case.n_rows, more))])
    return points, cluster


def _few_valued(
    rng: np.random.Generator, case: Case, cluster: npt.NDArray[np.int64]
) -> Iterator[Matrix]:
    """Columns of few values; a category's has one feature a level.

    Next to a mixture, half of them go with the clusters; with latent classes, all.
    """
    for part in filter(None, case.columns.split(", ")):
        number, what = part.split()
        for _ in range(int(number)):
            goes = case.k > 1 and (case.dimensions == 0 or rng.uniform() < 0.5)
            own = cluster if goes else np.zeros(case.n_rows, dtype=np.int64)
            n_own = int(own.max()) + 1
            if what == "yes/no":
                share = rng.uniform(0.1, 0.9, n_own)
                if case.dimensions == 0 and goes:
                    share = np.where(rng.uniform(size=n_own) < 0.5, 0.1, 0.9)
                yield (rng.uniform(size=(case.n_rows, 1)) < share[own][:, None]).astype(float)
            elif what == "counts":
                mean = rng.uniform(0.5, 2.5, n_own)[own]
                yield np.minimum(rng.poisson(mean), 6)[:, None].astype(float)
            else:
                levels = int(rng.integers(3, 7))
                reach = rng.dirichlet(np.full(levels, 3.0), n_own).cumsum(axis=1)[own]
                level = (rng.uniform(size=(case.n_rows, 1)) > reach[:, :-1]).sum(axis=1)
                yield (level[:, None] == np.unique(level)).astype(float)


def _crowds(rng: np.random.Generator, case: Case) -> Matrix:
    n, noise = case.n_rows, rng.uniform(0.03, 0.1)
    normal, angle = rng.normal(size=(n, 2)), rng.uniform(0, 2 * np.pi, n)

    def turned(angle: npt.NDArray[np.float64]) -> Matrix:
        return np.column_stack([np.cos(angle), np.sin(angle)])

    if case.kind == "rings":
        radii = np.arange(1, int(rng.integers(2, 4)) + 1)
        radius = rng.choice(radii, n, p=radii / radii.sum())
        return radius[:, None] * turned(angle) + 1.2 * noise * normal
    if case.kind == "ring and core":
        core = rng.uniform(size=(n, 1)) < 0.4
        return np.where(core, 0.4 * normal, 2 * turned(angle) + 0.12 * normal)
    if "moons" in case.kind:
        upper, half = rng.integers(2, size=(n, 1)) == 0, turned(angle / 2)
        points: Matrix = np.where(upper, half, [1.0, 0.5] - half) + noise * normal
    elif "lines" in case.kind:
        n_lines = int(rng.integers(2, 5))
        line, long = rng.integers(n_lines, size=n), rng.uniform(1, 2) * n_lines
        points = np.column_stack([rng.uniform(-long, long, n), line + 1.2 * noise * normal[:, 0]])
        a = rng.uniform(0, np.pi)
        points = points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    else:
        arm, way = rng.integers(2, size=n), 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, n))
        return way[:, None] * turned(way + np.pi * arm) / np.pi + 1.5 * noise * normal
    if "3 features" in case.kind:
        points = np.column_stack([points, 0.3 * points.std() * rng.normal(size=n)])
    return points


def _unstructured(rng: np.random.Generator, case: Case) -> Matrix:
    d = case.dimensions
    normal: Matrix = rng.normal(size=(case.n_rows, d))
    if case.kind == "cube":
        return rng.uniform(size=(case.n_rows, d))
    if case.kind == "ball":
        radius = rng.uniform(size=(case.n_rows, 1)) ** (1 / d)
        return normal / np.linalg.norm(normal, axis=1)[:, None] * radius
    if case.kind == "elongated":
        turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
        return normal * np.geomspace(1, rng.uniform(3, 8), d) @ turn
    if case.kind == "heavy tails":
        return normal / np.sqrt(rng.chisquare(5, size=(case.n_rows, 1)) / 5)
    return np.exp(0.6 * normal) if case.kind == "skewed" else normal


def _highest(name: str, sign: int = 1) -> Callable[[KChoice], int]:
    def best(choice: KChoice) -> int:
        known = [s for s in choice.scores if getattr(s, name) is not None] or choice.scores[:1]
        return max(known, key=lambda s: (sign * (getattr(s, name) or 0.0), -s.k)).k

    return best


def _first_gap(choice: KChoice) -> int:
    assert choice.gap_of_one is not None
    values = [(1, choice.gap_of_one.value, 0.0)]
    values += [(s.k, s.gap, s.gap_error) for s in choice.scores if s.gap is not None]
    for (k, value, _), (_, following, error) in pairwise(values):
        if value >= following - error:
            return k
    return values[-1][0]


def _knee(choice: KChoice) -> int:
    """Where the inertia is farthest below the line from its first to its last value."""
    first, last = choice.scores[0], choice.scores[-1]
    if len(choice.scores) < 3 or last.inertia >= first.inertia:
        return first.k
    return max(
        choice.scores,
        key=lambda s: (
            (first.inertia - s.inertia) / (first.inertia - last.inertia)
            - (s.k - first.k) / (last.k - first.k)
        ),
    ).k


def _recommended(choice: KChoice) -> int:
    if getattr(choice.recommendation, "shape", None) == "connected":
        return ANOTHER_SHAPE
    return choice.recommendation.recommended_k or 1


METHODS: dict[str, Callable[[KChoice], int]] = {
    "**recommendation**": _recommended,
    "silhouette": _highest("silhouette"),
    "simplified silhouette": _highest("simplified_silhouette"),
    "Davies-Bouldin": _highest("davies_bouldin", -1),
    "Calinski-Harabasz": _highest("calinski_harabasz"),
    "gap statistic": _first_gap,
    "knee of the inertia": _knee,
    "stability": _highest("stability"),
}


def examine(case: Case) -> dict[str, int]:
    """What each method answers."""
    matrix, names = case.draw()
    # An earlier commit knows no columns.
    known = "columns" in inspect.signature(choose_k).parameters
    choice = choose_k(matrix, **({"columns": names} if known else {}))
    return {name: method(choice) for name, method in METHODS.items()}


def answers(drawn: list[Case], processes: int) -> list[dict[str, int]]:
    """Of this package, in the order of the cases."""
    with Pool(processes) as pool:
        return list(pool.imap(examine, drawn, chunksize=4))


def answers_of(commit: str, options: list[str]) -> list[int]:
    """What the package of a commit recommends."""
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        tree = str(Path(folder) / "tree")
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=root, check=True)
        try:
            found = subprocess.run(
                [sys.executable, __file__, *options, "--answers"], cwd=tree, check=True,
                env={**os.environ, "PYTHONPATH": tree}, stdout=subprocess.PIPE,
            )  # fmt: skip
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=root, check=True)
    said = json.loads(found.stdout)
    if not said["package"].startswith(tree):
        raise RuntimeError(f"{said['package']} answered instead of {commit}")
    return [answer[OURS] for answer in said["answers"]]


OURS = "**recommendation**"
Found = list[tuple[Case, dict[str, int]]]


def table(found: Found) -> str:
    """The table by overlap, and what the recommendation does with each kind."""
    groups = [*OVERLAPS, "noise feature", "no clusters"]
    columns = {
        **{f"overlap {group}": {group} for group in OVERLAPS},
        "separated (none, slight)": {"none", "slight"},
        "these mixtures": set(OVERLAPS),
        "noise feature": {"noise feature"},
        "no clusters": {"no clusters"},
        "all": set(groups),
    }
    lines = _heading("right", columns)
    for name in found[0][1]:
        shares = [_right(found, name, lambda c, wanted=wanted: c.group in wanted)
                  for wanted in columns.values()]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(shares) + " |")
    further = sorted({case.group for case, _ in found} - set(groups), key=_natural)
    lines += ["", "What tables of customers have beside:", "", *_heading("right", found[0][1])]
    for group in further:
        shares = [_right(found, name, lambda c, group=group: c.group == group)
                  for name in found[0][1]]  # fmt: skip
        lines.append(f"| {group} | " + " | ".join(shares) + " |")
    ours = [name for name in found[0][1] if name.startswith("**")]
    lines += ["", "The recommendation by kind:", "", *_heading("kind", ours)]
    kinds: dict[str, set[int]] = defaultdict(set)
    for number, (case, _) in enumerate(found):
        for kind in _kinds(case, groups):
            kinds[kind].add(number)
    for kind, numbers in sorted(kinds.items(), key=lambda item: _natural(item[0])):
        shares = [_right([found[n] for n in sorted(numbers)], name) for name in ours]
        lines.append(f"| {kind} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _heading(first: str, columns: Iterable[str]) -> list[str]:
    columns = list(columns)
    return [f"| {first} | " + " | ".join(columns) + " |", "| --- |" + " --: |" * len(columns)]


def _kinds(case: Case, groups: list[str]) -> list[str]:
    if case.group in groups:
        return [case.kind] if case.k == 1 else [f"mixture: {p}" for p in case.kind.split(", ")]
    if case.columns and case.k != ANOTHER_SHAPE:
        return [f"{case.group}: {case.columns}"]
    if case.group == "another shape":
        return [f"{case.group}: {case.kind}", f"{case.group}: {case.n_rows} rows"]
    return [f"{case.group}: {case.kind.split(', ')[-1]}"]


def _natural(text: str) -> list[str]:
    return [word.zfill(6) if word.isdigit() else word for word in text.split()]


def _right(found: Found, name: str, wanted: Callable[[Case], bool] = lambda _: True) -> str:
    right = [answer[name] == case.k for case, answer in found if wanted(case)]
    return f"{sum(right)}/{len(right)} ({100 * sum(right) / len(right):.1f} %)" if right else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="only groups whose names begin so")
    parser.add_argument("--before", help="a commit to compare with")
    parser.add_argument("--answers", action="store_true", help="print answers as JSON instead")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} too")
    options = parser.parse_args()
    started = time.perf_counter()
    every = chain(cases(options.seed, options.rounds), further_cases(options.seed, options.rounds))
    drawn = [case for case in every if case.group.startswith(options.only or "")]
    answered = answers(drawn, options.processes)
    if options.answers:
        package = sys.modules["sqlkmeans"].__file__
        print(json.dumps({"package": package, "answers": answered}))
        return
    command = f"python benchmarks/choose_k.py --rounds {options.rounds} --seed {options.seed}"
    if options.only:
        command += f" --only {options.only!r}"
    if options.before:
        same = ["--rounds", str(options.rounds), "--seed", str(options.seed),
                "--processes", str(options.processes), "--only", options.only or ""]  # fmt: skip
        before = answers_of(options.before, same)
        name = f"**recommendation at {options.before}**"
        answered = [
            {OURS: new[OURS], name: old, **{m: k for m, k in new.items() if m != OURS}}
            for new, old in zip(answered, before)
        ]
        command += f" --before {options.before}"
    found = list(zip(drawn, answered))
    text = (
        "# Choosing k\n\n"
        f"Command: `{command} --write`, {time.perf_counter() - started:.0f} s, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}; {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}. What is drawn and what "
        f"counts as right stands at the top of that file.\n\n{table(found)}\n"
    )
    print(text)
    if options.write:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
