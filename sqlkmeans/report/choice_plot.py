"""The scores of each number of segments, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlkmeans.clustering.choosing.recommend import deciding_scores
from sqlkmeans.report.plots import COLOURS, save_figure
from sqlkmeans.result import ChoiceResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Each panel's score and its title, which says what is good.
PANELS = {
    "inertia": "inertia (always falls)",
    "silhouette": "silhouette (high is good)",
    "simplified_silhouette": "simplified silhouette (high)",
    "davies_bouldin": "Davies-Bouldin (low)",
    "calinski_harabasz": "Calinski-Harabasz (high)",
    "gap": "gap statistic (high)",
    "separation": "separation (high; 1: borders empty)",
    "stability": "stability (high)",
    "smallest_share": "smallest segment's share",
}


def draw_scores(result: ChoiceResult, path: str | Path) -> Path:
    """Draw every score over k as a PNG; marked are the recommended k, the runner-up, and the
    scores that decide between them.

    Parameters
    ----------
    result : ChoiceResult
    path : path-like

    Returns
    -------
    pathlib.Path
    """
    from textwrap import fill

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(3, 3, sharex=True).flat, PANELS.items()):
        _panel(axes, result, name, title)
        if name in deciding_scores(result.structure, result.scores):
            axes.set_title(f"{title}: decides", loc="left", fontsize=9, fontweight="bold")
            axes.set_facecolor("#F2F6FA")
    marks = figure.axes[0].get_legend_handles_labels()
    if marks[0]:
        figure.legend(*marks, loc="outside lower left", ncols=2, fontsize=9, frameon=False)
    for axes in figure.axes[-3:]:
        axes.set_xlabel("number of segments, k")
    figure.suptitle(
        fill(f"{result.segmentation} ({result.rows:,} customers). {result.reason}.", 130),
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return save_figure(figure, path)


def _panel(axes: Axes, result: ChoiceResult, name: str, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    known = [row for row in result.scores if row[name] is not None]
    ks, values = [row["k"] for row in known], [row[name] for row in known]
    axes.plot(ks, values, marker="o", markersize=4, color=COLOURS[0])
    if name == "gap":
        errors = [row["gap_error"] for row in known]
        axes.errorbar(ks, values, errors, fmt="none", ecolor=COLOURS[0], capsize=2)
    for row in known:
        if row["recommended"]:
            axes.axvline(row["k"], color=COLOURS[3], linestyle="--", linewidth=1)
            axes.plot(row["k"], row[name], "D", ms=8, color=COLOURS[3], label="recommended")
        elif row["k"] == result.runner_up_k:
            axes.plot(
                row["k"], row[name], "D", ms=8, mfc="white", mec=COLOURS[3], label="runner-up"
            )
    axes.set_title(title, loc="left", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
