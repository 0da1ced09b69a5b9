"""Segments of a data frame, with no database in sight."""

from __future__ import annotations

import base64
import html
import weakref
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans import pipeline
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.tables import segment_profile
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.explanation import CustomerExplanation, explain
from sqlkmeans.frames import index_of, to_arrow, whole_as_integers
from sqlkmeans.job import require_schema
from sqlkmeans.model import SegmentModel
from sqlkmeans.proposal import propose
from sqlkmeans.registry import load_model, segment_table
from sqlkmeans.report.components import principal_components
from sqlkmeans.report.page import WrittenReport, write_report
from sqlkmeans.result import RunResult
from sqlkmeans.sqltext import parse_name, written_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Customers that a picture shows.
DRAWN = 5_000
#: The table of rows, in a database in memory.
_SOURCE = "frame"
#: The number of a row, in the table of rows that :meth:`Segments.to_database` makes.
_ROW = "sqlkmeans_row"


def segment(
    data: Any,
    key: str | Sequence[str] | None = None,
    features: Sequence[Any] | None = None,
    k: int | str = "auto",
    **definition: Any,
) -> Segments:
    """Find the segments of a data frame's rows.

    Parameters
    ----------
    data : pandas.DataFrame, polars.DataFrame, pyarrow.Table, or path-like
        A row a customer; a path is that of a .csv or .parquet file.
    key : str or list of str, optional
        The column that identifies a customer. By default rows are known by the frame's index.
    features : list of (str or dict), optional
        As in a definition: ``["age", {"column": "revenue", "transform": "log1p"}]``. By default
        those that ``sqlkmeans init`` would propose, and then ``missing`` as well.
    k : int or "auto", default="auto"
    **definition
        Further keys of a :class:`Segmentation`: ``scaling``, ``missing``, ``winsorize``, ``seed``…
        ``name`` is "customers" by default.

    Returns
    -------
    Segments

    Raises
    ------
    DefinitionError
        If an argument is wrong; all problems at once.
    DataError
        If the rows cannot be clustered as they are.

    Examples
    --------
    >>> from sqlkmeans import segment
    >>> result = segment(customers, key="customer_id", features=["income", "age"])
    >>> customers["segment"] = result.labels
    """
    ours = [name for name in ("source", "target", "changed_by", "url") if name in definition]
    if ours:
        raise DefinitionError(
            [f"{name} given; allowed: in a definition, whose rows are in a database"
             for name in ours]
        )  # fmt: skip
    rows = to_arrow(data)
    keys = [key] if isinstance(key, str) else list(key or ())
    index = index_of(data, rows.num_rows)
    place = _unused("row", rows.column_names)
    given = {
        "name": "customers", "source": _SOURCE, "target": f"{_SOURCE}_segment",
        "key": keys or place, "k": k, **definition,
    }  # fmt: skip
    whole = list(keys)
    if features is not None:
        given["features"] = features
        checked = Segmentation.create(**given)
        whole += [f.column for f in checked.features if f.type == "category"]
    rows = whole_as_integers(rows, whole)
    database = open_database(":memory:", create=True)
    try:
        numbered = rows.append_column(place, pa.array(np.arange(rows.num_rows, dtype=np.int64)))
        database.create_table(_SOURCE, numbered, place)
        if features is None:
            told = Segmentation.create(**{**given, "features": [_ROW]}).profile
            given = {**_proposed(database, keys, place, told), **given}
        segmentation = Segmentation.create(**given)
        run = pipeline.run(segmentation, database)
        return Segments(database, segmentation, run, numbered, index, place)
    except BaseException:
        database.close()
        raise


def _proposed(
    database: Database, keys: Sequence[str], place: str, profile: Sequence[str]
) -> dict[str, Any]:
    """Features, and what to do where they are missing."""
    # The row's number would pass for a feature where there are few rows.
    ignore = [*profile, *([place] if keys else [])]
    found = propose(database, _SOURCE, key=keys or [place], ignore=ignore)
    values = found.to_definition(f"{_SOURCE}_segment")
    return {name: values[name] for name in ("features", "missing")}


def _unused(name: str, taken: Sequence[str]) -> str:
    while name in {other.lower() for other in taken}:
        name += "_"
    return name


class Segments:
    """What :func:`segment` found; a notebook shows the table and the picture.

    Attributes
    ----------
    labels : pandas.Series of int64
        The segment id of each row, on the frame's index; 0 where ``missing="skip"`` left it out.
    outliers : pandas.Series of bool
        Whether each row is farther from its centroid than its segment's limit; False for all rows
        without ``outlier=``.
    segments : pandas.DataFrame
        A row a segment: ``segment_id``, ``name``, ``size``, ``share``, ``rule``, with
        ``outlier=`` its ``outliers``, and the mean of each feature; of a ``profile`` column too,
        of its levels the share.
    profile : pandas.DataFrame
        Rows of ``segment_profile``: how each ``profile`` column differs in each segment. Empty
        where there is none.
    scores : dict of str to (float or None)
        ``silhouette``, ``davies_bouldin``, ``calinski_harabasz``.
    model : SegmentModel
        Labels new rows: ``result.model.predict(frame)``.
    segmentation : Segmentation
        The definition, with the features that were chosen.
    run : RunResult
        The rest: ``inertia``, ``recommendation``, ``warnings``…
    """

    def __init__(
        self, database: Database, segmentation: Segmentation, run: RunResult, rows: pa.Table,
        index: pd.Index[Any], place: str,
    ) -> None:  # fmt: skip
        import pandas as pd

        self.segmentation, self.run = segmentation, run
        self._database, self._rows, self._index, self._place = database, rows, index, place
        # Its folder for rows that do not fit into memory goes with it.
        weakref.finalize(self, database.close)
        self.model: SegmentModel = load_model(segmentation.name, database)
        self.scores = run.scores
        self.labels = pd.Series(self._labels(), index=index, name="segment")
        far = np.zeros(len(index), dtype=np.bool_)
        if self.model.limits:
            far = self.model.is_outlier(self._rows.select(self.model.columns))
        self.outliers = pd.Series(far, index=index, name="is_outlier")
        self.segments = pd.DataFrame(segment_table(database, segmentation.name)[1:])
        self.profile = pd.DataFrame(run.profile, columns=segment_profile.columns[1:])

    def _labels(self) -> npt.NDArray[np.int64]:
        """As they were published."""
        rows = self._rows.num_rows
        published = self._database.labels.sample(self.segmentation, [self._place], rows)
        labels = np.zeros(rows, dtype=np.int64)
        places = published.column(self._place).to_numpy().astype(np.int64)
        labels[places] = published.column("segment_id").to_numpy()
        return labels

    def explain(self, row: Any) -> CustomerExplanation:
        """Why a row is in its segment.

        Parameters
        ----------
        row : object
            The key's value, or one for each of its columns; the index label where no key was given.

        Raises
        ------
        DataError
            If there is no such row, or it has no segment.
        """
        if list(self.segmentation.key) != [self._place]:
            return explain(self.segmentation.name, self._database, row)
        try:
            place = self._index.get_loc(row)
        except (KeyError, TypeError):
            raise DataError(f"row {row!r}: not in the frame's index") from None
        if not isinstance(place, int):
            raise DataError(f"row {row!r}: stands in the frame's index more than once")
        if not self.labels.iloc[place]:
            raise DataError(f"row {row!r}: has no segment, because a feature is missing")
        found = explain(self.segmentation.name, self._database, place)
        return replace(found, customer=(str(row),))

    def plot(self, x: str | None = None, y: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the rows, coloured by segment, and the centroids.

        Parameters
        ----------
        x, y : str, optional
            Two numbers or dates of the features. By default the two that there are, else the first
            two principal components of all features in the scaled space.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure of pyplot's.

        Returns
        -------
        matplotlib.axes.Axes
        """
        if (x is None) != (y is None):
            raise DefinitionError(f"{'y' if y is None else 'x'} missing; give both x and y")
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(8, 5), layout="constrained")[1]
        self._draw(ax, x, y)
        return ax

    def _draw(self, ax: Axes, x: str | None = None, y: str | None = None) -> None:
        from sqlkmeans.report.plots import draw_segments

        labelled = np.flatnonzero(self.labels.to_numpy())
        # A picture is the same each time.
        shown = np.sort(np.random.default_rng(0).permutation(labelled)[:DRAWN])
        points = self.model.prepare(self._some(shown))
        preparation = self.model.preparation
        names = preparation.names
        allowed = [f.name for f in preparation.features if f.type != "category"]
        unknown = [name for name in (x, y) if name is not None and name not in allowed]
        if unknown:
            raise DefinitionError(
                f"{', '.join(unknown)} given; allowed: numbers and dates of the features, "
                f"{', '.join(allowed) or 'of which there are none'}"
            )
        if x is None and allowed == names and len(names) == 2:
            x, y = names
        if x is not None and y is not None:
            across = [names.index(x), names.index(y)]
            drawn = preparation.inverse_transform(points)[:, across]
            units = self.segmentation.units
            titles = [f"{name} ({units[name]})" if name in units else name for name in (x, y)]
            centres = self.model.own_units()[:, across]
            # As distances see them.
            for place, scale in zip(across, (ax.set_xscale, ax.set_yscale)):
                scale("symlog" if preparation.features[place].transform == "log1p" else "linear")
        else:
            found = principal_components(points)
            drawn, centres = found.places(points), found.places(self.model.cluster_centers_)
            titles = [f"principal component {n} ({s:.0%})" for n, s in enumerate(found.shares, 1)]
        draw_segments(
            ax, drawn[:, 0], drawn[:, 1], self.labels.to_numpy()[shown], self.run.segments,
            centres, titles,
        )  # fmt: skip
        ax.set_title(
            f"{self.run.rows:,} rows in {self.run.k} segments"
            + (f" ({len(shown):,} shown)" if len(shown) < self.run.rows else ""),
            loc="left",
        )
        ax.legend(title="segment", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))

    def _some(self, places: npt.NDArray[np.int64]) -> pa.Table:
        return self._rows.select(self.model.columns).take(pa.array(places))

    def report(self, path: str | Path | None = None, *, samples: bool = True) -> WrittenReport:
        """Write the HTML page about the segments; see :func:`write_report`."""
        return write_report(self.segmentation.name, self._database, path, samples=samples)

    def to_database(self, url: str, target: str, *, name: str | None = None) -> RunResult:
        """Publish the segments in a database, where reports join them by key.

        The rows, that is the key, the features and what else the definition names, go to a table
        ``<target>_source``, and the definition runs there with the number of segments found here:
        the same rows and seed give the same segments. Later calls replace the rows; ids and the
        history follow the customers, and `sqlkmeans report`, `assign` and `export` know it by its
        name.

        Parameters
        ----------
        url : str
            Of the database, as :func:`open_database` takes it; an embedded one is made.
        target : str
            The segment table.
        name : str, optional
            Of the segmentation there. By default the target's own.

        Raises
        ------
        DefinitionError
            If no key was given, or the table of rows is somebody else's.
        DatabaseError
        """
        if list(self.segmentation.key) == [self._place]:
            raise DefinitionError(
                "to_database without a key; allowed: after segment(data, key=…), which says how "
                "labels join customers"
            )
        *schema, table = _parts(target)
        source = written_name((*schema, f"{table}_source"))
        values = self.segmentation.model_dump()
        segmentation = Segmentation.create(
            **{**values, "name": name or table, "source": source, "target": target,
               "k": self.run.k}
        )  # fmt: skip
        used = [*segmentation.key, *segmentation.columns, *segmentation.profile]
        used += [segmentation.sample_weight] if segmentation.sample_weight else []
        rows = self._rows.select(list(dict.fromkeys(used)))
        rows = rows.append_column(_ROW, self._rows.column(self._place))
        with open_database(url, create=True) as database:
            require_schema(database)
            known = database.catalog.segmentation(segmentation.name)
            there = database.describe_table(source)
            # Of an earlier call, or of one that ended before its run was recorded.
            is_ours = there is None or [column.name for column in there] == rows.column_names
            if known is not None and not is_ours:
                is_ours = Segmentation.from_json(known["definition"]).source == source
            if not is_ours:
                raise DefinitionError(
                    f"{source}: is there already and not of segmentation {segmentation.name}; name "
                    "another target"
                )
            database.create_table(source, rows, _ROW, replace=True)
            return pipeline.run(segmentation, database)

    # What a notebook shows

    def __repr__(self) -> str:
        return "\n".join([*self._words(), self.segments.to_string(index=False)])

    def _repr_html_(self) -> str:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), dpi=96, layout="constrained")
        FigureCanvasAgg(figure)
        self._draw(figure.add_subplot())
        picture = BytesIO()
        figure.savefig(picture, format="png")
        data = base64.b64encode(picture.getvalue()).decode()
        words = "<br>".join(map(html.escape, self._words()))
        percent = "{:.1%}".format
        shares = {feature.title: percent for feature in self.run.features if feature.is_share}
        shown = self.segments.to_html(
            index=False, border=0, na_rep="", float_format=lambda value: f"{value:,.4g}",
            formatters={**shares, "share": percent, "size": "{:,}".format},
        )  # fmt: skip
        return (
            f'<p>{words}</p>{shown}<img alt="rows by segment" src="data:image/png;base64,{data}">'
        )

    def _words(self) -> list[str]:
        silhouette = self.scores.get("silhouette")
        known = "" if silhouette is None else f", silhouette {silhouette:.2f}"
        left_out = f", {self.run.skipped:,} left out" if self.run.skipped else ""
        words = [f"{self.run.rows:,} rows in {self.run.k} segments{left_out}{known}"]
        if self.run.recommendation:
            words.append(f"{self.run.recommendation['reason']}.")
        return words + [f"Warning: {warning}." for warning in self.run.warnings]


def _parts(target: str) -> tuple[str, ...]:
    try:
        return parse_name(target)
    except ValueError as error:
        raise DefinitionError(f"target: {error}") from None
