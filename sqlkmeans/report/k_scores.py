"""The scores of each k as small line charts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlkmeans.clustering.choosing.recommend import deciding_scores
from sqlkmeans.report.facts import Choice
from sqlkmeans.report.scales import Axis, Tick, decimals_for

#: In the picture's own units.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 240.0, 150.0, 44.0, 230.0, 12.0, 122.0

#: Column of ``k_score``, its words, and how to read it.
SCORES = (
    ("silhouette", "Silhouette", "higher is better"),
    ("simplified_silhouette", "Simplified silhouette", "higher is better"),
    ("davies_bouldin", "Davies–Bouldin", "lower is better"),
    ("calinski_harabasz", "Calinski–Harabasz", "higher is better"),
    ("gap", "Gap", "higher is better; the line shows its error"),
    ("separation", "Separation", "1: borders are empty; 0: as full as beside them"),
    ("stability", "Stability", "higher is better"),
    ("smallest_share", "Smallest segment", "share of the customers"),
    ("inertia", "Inertia", "falls always, so it says nothing by itself"),
)


@dataclass(frozen=True)
class Point:
    """One k."""

    k: int
    value: float
    x: float
    y: float
    recommended: bool
    runner_up: bool


@dataclass(frozen=True)
class ScoreLine:
    """One score over k.

    Attributes
    ----------
    column, title, reading : str
    decimals : int
        That the table writes.
    points : list of Point
    line, errors : str
        Paths.
    ticks_x, ticks_y : list of Tick
    decides : bool
        Whether the recommendation goes by it.
    here : float or None
        Where the page's own k stands.
    """

    column: str
    title: str
    reading: str
    decimals: int
    points: list[Point]
    line: str
    errors: str
    ticks_x: list[Tick]
    ticks_y: list[Tick]
    decides: bool
    here: float | None


def score_lines(choice: Choice, k: int) -> list[ScoreLine]:
    """A chart for each score that any k has; ``k`` is the page's own."""
    lines = (_score_line(choice, k, *score) for score in SCORES)
    return [line for line in lines if line is not None]


def _score_line(
    choice: Choice, here: int, column: str, title: str, reading: str
) -> ScoreLine | None:
    rows = [row for row in choice.scores if row[column] is not None]
    recommendation = choice.recommendation
    if not rows:
        return None
    errors = [(row["gap_error"] or 0.0) if column == "gap" else 0.0 for row in rows]
    low = min(row[column] - error for row, error in zip(rows, errors))
    high = max(row[column] + error for row, error in zip(rows, errors))
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    ks = [row["k"] for row in choice.scores]
    # Half a step to both sides, so that the first and the last k do not touch the frame.
    across, up = Axis("k", min(ks) - 0.5, max(ks) + 0.5), Axis(title, low - margin, high + margin)

    def x(k: float) -> float:
        return round(LEFT + across.place(k) * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - up.place(value) * (BOTTOM - TOP), 1)

    points = [
        Point(
            row["k"],
            row[column],
            x(row["k"]),
            y(row[column]),
            bool(row["recommended"]),
            row["k"] == recommendation.get("runner_up_k"),
        )
        for row in rows
    ]
    # Of a choice that kept no word on structure it is not known what decided.
    decides = "structure" in recommendation and column in deciding_scores(
        recommendation["structure"], choice.scores
    )
    every = -(-len(ks) // 10)
    return ScoreLine(
        column, title, reading, decimals_for(row[column] for row in rows), points,
        line="M" + "L".join(f"{point.x:g},{point.y:g}" for point in points),
        errors="".join(
            f"M{x(row['k']):g},{y(row[column] - error):g}V{y(row[column] + error):g}"
            for row, error in zip(rows, errors)
            if error
        ),
        ticks_x=[Tick(x(k), str(k)) for k in ks[::every]],
        ticks_y=[Tick(BOTTOM - tick.at * (BOTTOM - TOP), tick.label) for tick in up.ticks()],
        decides=decides,
        here=x(here) if here in ks else None,
    )  # fmt: skip
