"""Pictures of segments."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sqlkmeans.errors import DefinitionError
from sqlkmeans.files import check_place, write_file
from sqlkmeans.result import SegmentResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours (2008), which people with any colour vision tell apart.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
_MARKERS = "os^Dvp*h"
SAMPLE_ROWS = 10_000


def scatter(
    sample: pa.Table,
    segments: Sequence[SegmentResult],
    x: str,
    y: str,
    path: str | Path,
    *,
    title: str,
) -> Path:
    """Draw labelled customers and their centroids as a PNG.

    Parameters
    ----------
    sample : pyarrow.Table
        Columns ``x``, ``y`` and ``segment_id``.
    segments : sequence of SegmentResult
    x, y : str
        Features on the axes.
    path : path-like
    title : str

    Returns
    -------
    pathlib.Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw_segments(
        axes, sample.column(x).to_numpy(), sample.column(y).to_numpy(),
        sample.column("segment_id").to_numpy(), segments,
        [(segment.centroid[x], segment.centroid[y]) for segment in segments],
        (x.replace("_", " "), y.replace("_", " ")),
    )  # fmt: skip
    axes.set_title(title, loc="left")
    figure.legend(loc="outside right upper", title="segment", frameon=False, alignment="left")
    return save_figure(figure, path)


def draw_segments(
    axes: Axes, xs: Any, ys: Any, labels: Any, segments: Sequence[SegmentResult], centres: Any,
    titles: Sequence[str],
) -> None:  # fmt: skip
    """Draw labelled rows and their centroids, each segment in its colour and shape.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    xs, ys, labels : ndarray of shape (n_rows,)
        Labels are segment ids.
    segments : sequence of SegmentResult
    centres : sequence of (float, float)
        One a segment.
    titles : (str, str)
        Of the axes.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    for index, (segment, (x, y)) in enumerate(zip(segments, centres)):
        member = np.flatnonzero(labels == segment.segment_id)
        colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index % len(_MARKERS)]
        axes.scatter(
            xs[member], ys[member], s=6, alpha=0.45, linewidths=0, color=colour, marker=marker
        )
        axes.scatter(
            x, y, s=130, edgecolors="white", linewidths=1.5, zorder=3, color=colour, marker=marker,
            label=f"{segment.segment_id}  {segment.name}  ({segment.share:.0%})",
        )  # fmt: skip
    for axis, title in zip((axes.xaxis, axes.yaxis), titles):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_label_text(title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def check_picture(path: str | Path) -> None:
    """Refuse a path where :func:`save_figure` could not write, before the work is done.

    Raises
    ------
    DefinitionError
    """
    _kind(path)
    check_place(path)


def _kind(path: str | Path) -> str:
    """What a picture's path ends with, PNG without an ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = Path(path).suffix.lstrip(".").lower() or "png"
    allowed = FigureCanvasAgg.get_supported_filetypes()
    if kind not in allowed:
        raise DefinitionError(f"{path}: allowed: a picture, {', '.join(sorted(allowed))}")
    return kind


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as what the path's ending says, PNG without one.

    Raises
    ------
    DefinitionError
        If there is no such kind of picture, or it cannot be written.
    """
    picture = BytesIO()
    figure.savefig(picture, format=_kind(path))
    return write_file(path, picture.getvalue())
