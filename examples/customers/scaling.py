"""Draw what scaling, log1p and a weight do to the segments of the same customers.

python examples/customers/scaling.py [scaling.png]
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from make import customers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sqlkmeans import Segments, segment

AGE = {"column": "age", "unit": "years"}
REVENUE = {"column": "revenue", "unit": "NOK"}
LOG_REVENUE = {**REVENUE, "transform": "log1p"}

#: Title, features, and the scaling.
WAYS: list[tuple[str, list[dict[str, Any]], str]] = [
    ('scaling = "none": revenue decides alone', [AGE, REVENUE], "none"),
    ('scaling = "standard": the long tail pulls', [AGE, REVENUE], "standard"),
    ('transform = "log1p": both count', [AGE, LOG_REVENUE], "standard"),
    ("weight = 3 on age: age decides", [{**AGE, "weight": 3.0}, LOG_REVENUE], "standard"),
]


def segmented(frame: pd.DataFrame) -> list[Segments]:
    """The same customers in four segments, each way."""
    return [
        segment(frame, features=features, k=4, scaling=scaling, missing="skip")
        for _, features, scaling in WAYS
    ]


def draw(path: str) -> None:
    """Draw the four ways beside each other."""
    figure = Figure(figsize=(11, 8), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    found = segmented(customers())
    for axes, (title, _, _), result in zip(figure.subplots(2, 2).flat, WAYS, found):
        result.plot("age", "revenue", ax=axes)
        axes.get_legend().remove()
        axes.set_title(title, loc="left", fontsize=10)
        if axes.get_yscale() == "symlog":
            axes.set_ylim(80)
    figure.savefig(path)


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "scaling.png")
