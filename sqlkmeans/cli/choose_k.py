"""What `choose-k` prints: the scores of each k, and the recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlkmeans.cli.output import Output
from sqlkmeans.result import ChoiceResult

#: Heading of each score.
_COLUMNS = {
    "k": "k",
    "inertia": "inertia",
    "silhouette": "silhouette",
    "simplified_silhouette": "simplified silhouette",
    "davies_bouldin": "Davies-Bouldin",
    "calinski_harabasz": "Calinski-Harabasz",
    "gap": "gap",
    "separation": "separation",
    "stability": "stability",
    "smallest_share": "smallest",
}


def show_and_draw(plot: str | None) -> Callable[[Output, ChoiceResult], None]:
    """What shows a choice and, where ``plot`` is a file, draws the scores there.

    Raises
    ------
    DefinitionError
        At once, if the file cannot be written.
    """
    if plot is None:
        return show
    from sqlkmeans.report.choice_plot import draw_scores
    from sqlkmeans.report.plots import check_picture

    check_picture(plot)

    def shown(output: Output, result: ChoiceResult) -> None:
        show(output, result)
        with output.after_result():
            draw_scores(result, plot)

    return shown


def show(output: Output, result: ChoiceResult) -> None:
    """Print a choice: its JSON, or a table of the scores and the reason."""
    if output.as_json:
        output.result(result.to_json())
        return
    output.table(
        [*_COLUMNS.values(), ""],
        [[*(_shown(name, row) for name in _COLUMNS), _mark(row, result)] for row in result.scores],
        title=f"{result.segmentation}: {result.rows:,} customers",
    )
    output.line(f"{result.reason}.")
    if output.verbose:
        output.say(", ".join(f"{step} {s:.3f} s" for step, s in result.seconds.items() if s))


def _shown(name: str, row: Mapping[str, Any]) -> object:
    value, error = row[name], row.get(f"{name}_error")
    if value is None:
        return None
    if name == "smallest_share":
        return f"{value:.1%}"
    return round(value, 3) if error is None else f"{value:.3f} ± {error:.3f}"


def _mark(row: Mapping[str, Any], result: ChoiceResult) -> str:
    if row["recommended"]:
        return "recommended"
    return "runner-up" if row["k"] == result.runner_up_k else ""
