"""How often each score, and the recommendation, find the number of clusters that is there.

    python benchmarks/choose_k.py [--rounds 2] [--seed 2000] [--write]

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

A score finds k where it is best at the true k among 2 to 10. The gap statistic takes the smallest
k from 1 on by its rule of one standard error, the inertia its knee. Without clusters, the
recommendation is right if it says that there is no structure, the gap statistic if it takes 1;
the other scores cannot say so. The rule was made on seeds below
2000; the table is of others.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise, product
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.choosing.choose_k import KChoice, choose_k
from sqlkmeans.clustering.choosing.recommend import knee

Matrix = npt.NDArray[np.float64]

OVERLAPS = {"none": (3.5, 5.0), "slight": (2.5, 3.0), "moderate": (1.75, 2.25), "heavy": (1.0, 1.5)}
SHAPES = ("cube", "ball", "blob", "elongated", "heavy tails", "skewed")
DIMENSIONS = (2, 3, 4, 6, 8)
ROWS = (500, 1_000, 2_000, 5_000)
RESULT = Path(__file__).parent / "results" / "choose_k.md"


@dataclass(frozen=True)
class Case:
    """What to draw: ``k`` is 1 where there are no clusters."""

    seed: int
    group: str
    overlap: str
    k: int
    kind: str
    dimensions: int
    n_rows: int

    def draw(self) -> Matrix:
        rng = np.random.default_rng([self.seed, self.k])
        rows = _mixture(rng, self) if self.k > 1 else _unstructured(rng, self)
        scaled: Matrix = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        return scaled


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


def _mixture(rng: np.random.Generator, case: Case) -> Matrix:
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
    cluster[: 10 * k] = np.tile(np.arange(k), 10)
    noise = rng.normal(size=(case.n_rows, d)) * deviations[cluster][:, None]
    points: Matrix = np.array(centres)[cluster] + noise
    if "noise feature" in case.kind:
        points = np.column_stack([points, rng.normal(size=case.n_rows)])
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
    return lambda choice: max(choice.scores, key=lambda s: (sign * getattr(s, name), -s.k)).k


def _first_gap(choice: KChoice) -> int:
    assert choice.gap_of_one is not None
    values = [(1, choice.gap_of_one.value, 0.0)]
    values += [(s.k, s.gap, s.gap_error) for s in choice.scores]
    for (k, value, _), (_, following, error) in pairwise(values):
        if value >= following - error:
            return k
    return values[-1][0]


METHODS: dict[str, Callable[[KChoice], int]] = {
    "**recommendation**": lambda choice: choice.recommendation.recommended_k or 1,
    "silhouette": _highest("silhouette"),
    "simplified silhouette": _highest("simplified_silhouette"),
    "Davies-Bouldin": _highest("davies_bouldin", -1),
    "Calinski-Harabasz": _highest("calinski_harabasz"),
    "gap statistic": _first_gap,
    "knee of the inertia": lambda choice: knee(choice.scores)[0],
    "stability": _highest("stability"),
}


def examine(case: Case) -> tuple[Case, dict[str, bool]]:
    """Which methods are right."""
    choice = choose_k(case.draw())
    return case, {name: method(choice) == case.k for name, method in METHODS.items()}


def table(found: list[tuple[Case, dict[str, bool]]]) -> str:
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
    counts = [sum(case.group in wanted for case, _ in found) for wanted in columns.values()]
    lines = [
        "| right, % | " + " | ".join(columns) + " |",
        "| --- |" + " --: |" * len(columns),
        "| cases | " + " | ".join(map(str, counts)) + " |",
    ]
    for name in METHODS:
        shares = [_share([right[name] for c, right in found if c.group in wanted])
                  for wanted in columns.values()]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(shares) + " |")
    lines += ["", "The recommendation by kind:", "", "| kind | cases | right, % |",
              "| --- | --: | --: |"]  # fmt: skip
    kinds: dict[str, list[bool]] = defaultdict(list)
    for case, right in found:
        named = [case.kind] if case.k == 1 else [f"mixture: {p}" for p in case.kind.split(", ")]
        for kind in named:
            kinds[kind].append(right["**recommendation**"])
    lines += [f"| {kind} | {len(r)} | {_share(r)} |" for kind, r in sorted(kinds.items())]
    return "\n".join(lines)


def _share(right: list[bool]) -> str:
    return f"{100 * sum(right) / len(right):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} too")
    options = parser.parse_args()
    started = time.perf_counter()
    with Pool() as pool:
        found = list(pool.imap(examine, cases(options.seed, options.rounds), chunksize=4))
    command = f"python benchmarks/choose_k.py --rounds {options.rounds} --seed {options.seed}"
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
