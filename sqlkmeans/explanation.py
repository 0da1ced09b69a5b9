"""Why one customer is in a segment and what would move it, as numbers and in five lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.describing.margin import Margin, margin_of
from sqlkmeans.clustering.describing.naming import YES_NO
from sqlkmeans.clustering.describing.numbers import brief_number, number_text, own_values
from sqlkmeans.clustering.describing.remedy import Change, smallest_changes
from sqlkmeans.clustering.preparation.problems import weight_problems
from sqlkmeans.database import Database, Sources, open_places
from sqlkmeans.database.base import Source
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.local.rows import RawRows, prepare, read_rows
from sqlkmeans.engines.local.storage import Storage
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.model import SegmentModel
from sqlkmeans.registry import load_model, load_segmentation, load_steps

#: At most so many features are named in words, and only those that contribute this much.
NAMED, NOTABLE = 3, 0.05


@dataclass(frozen=True)
class SegmentDistance:
    """A segment, and how far the customer is from its centroid in the scaled space."""

    segment_id: int
    name: str
    distance: float


@dataclass(frozen=True)
class SmallestChange:
    """The smallest change of one column that would move the customer.

    Attributes
    ----------
    column : str
    value : float or str
        What the column would have to be: a number, a date as YYYY-MM-DD, or a category's level.
    difference : float or None
        From the customer's value, in days for a date; None for a category and where it has none.
    segment_id : int
        Where the customer would go.
    name : str
        Of that segment.
    is_usual : bool
        Whether the value is between the least and the greatest that the fit has seen.
    told : str
        The change in words: ``income 61,240 (+9,240)``, ``newsletter yes``.
    """

    column: str
    value: float | str
    difference: float | None
    segment_id: int
    name: str
    is_usual: bool
    told: str


@dataclass(frozen=True)
class FeatureReason:
    """What one feature says.

    Attributes
    ----------
    feature : str
    value, segment_value, runner_up_value : float
        The customer's value and the two centroids', in the column's own units. A missing value
        is what it was filled with.
    contribution : float
        Part of the difference of the squared distances; all add up to 1, and a negative one
        speaks for the runner-up.
    unit : str or None
        Of the three values.
    change : SmallestChange or None
        None where no change of this column alone would move the customer. A category has a reason
        for each level, and its change is to that level.
    """

    feature: str
    value: float
    segment_value: float
    runner_up_value: float
    contribution: float
    unit: str | None = None
    change: SmallestChange | None = None

    @property
    def told(self) -> str:
        """The customer's value with its unit."""
        return " ".join([brief_number(self.value), *filter(None, [self.unit])])


@dataclass(frozen=True)
class CustomerExplanation:
    """Why a customer is in a segment.

    Attributes
    ----------
    segmentation : str
    customer : tuple of str
        The key's values.
    segment, runner_up : SegmentDistance
        The nearest segment by the customer's row as it is now, and the next.
    margin : float
        1 - distance / distance to the runner-up: 0 (between the two) to 1 (at the centroid).
    certainty : {"sure", "fairly sure", "borderline"}
        From a margin of 0.5, from 0.2, and below.
    features : tuple of FeatureReason
        The one that decides most first.
    published_segment_id : int or None
        The customer's label; None where there is none yet.
    """

    segmentation: str
    customer: tuple[str, ...]
    segment: SegmentDistance
    runner_up: SegmentDistance
    margin: float
    certainty: str
    features: tuple[FeatureReason, ...]
    published_segment_id: int | None

    @property
    def changed(self) -> bool:
        """Whether the row says another segment now than when it was labelled."""
        return self.published_segment_id not in (None, self.segment.segment_id)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The reason in four lines, and in a fifth what would move the customer."""
        return [
            self._where(), self._distances(), self._features(), self._how_sure(), self._remedy()
        ]  # fmt: skip

    def _where(self) -> str:
        who, name = f"Customer {', '.join(self.customer)}", self.segmentation
        segment = f"segment {self.segment.segment_id} ({self.segment.name})"
        if self.published_segment_id is None:
            return f"{who} has no label yet and is nearest to {segment}; `assign {name}` gives it."
        if self.changed:
            return (
                f"{who} has changed since it was labelled segment {self.published_segment_id} and "
                f"is now nearest to {segment}; `assign {name}` moves it."
            )
        return f"{who} is in {segment}."

    def _distances(self) -> str:
        return (
            f"Distance {self.segment.distance:.3g} to its centroid, {self.runner_up.distance:.3g} "
            f"to the runner-up, segment {self.runner_up.segment_id} ({self.runner_up.name})."
        )

    def _features(self) -> str:
        parts = [
            f"{reason.feature} {reason.told} "
            f"({brief_number(reason.segment_value)} in the segment, "
            f"{brief_number(reason.runner_up_value)} in the runner-up; {reason.contribution:.0%})"
            for rank, reason in enumerate(self.features[:NAMED])
            if rank == 0 or abs(reason.contribution) >= NOTABLE
        ]
        return f"Decided by {', '.join(parts)}."

    def _how_sure(self) -> str:
        times = self.runner_up.distance / self.segment.distance if self.segment.distance else np.inf
        far = f"{times:.3g} times as far away" if np.isfinite(times) else "elsewhere"
        return f"{self.certainty.capitalize()}: the runner-up is {far} (margin {self.margin:.2f})."

    def _remedy(self) -> str:
        changes = [
            reason.change
            for reason in self.features
            if reason.change is not None and reason.change.is_usual
        ]
        told = [
            f"{change.told} (segment {change.segment_id}, {change.name})"
            for change in changes[:NAMED]
        ]
        if not told:
            return "No usual value of one column alone would move it."
        return f"It would move with {' or '.join(told)}, everything else as it is."

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "segmentation": self.segmentation,
            "customer": list(self.customer),
            "segment": asdict(self.segment),
            "runner_up": asdict(self.runner_up),
            "margin": self.margin,
            "certainty": self.certainty,
            "features": [asdict(reason) for reason in self.features],
            "published_segment_id": self.published_segment_id,
            "changed": self.changed,
            "reason": self.lines(),
        }


def explain(
    name: str, database: Database, customer: object, *, spark: object = None
) -> CustomerExplanation:
    """Why a customer is in a segment, by the model in force and the row as it is now.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database
    customer : object or iterable of object
        The key's value, or one for each of its columns; as they are, or as text.
    spark : pyspark.sql.SparkSession, optional
        Where the source is Spark's, or the target.

    Raises
    ------
    DefinitionError
        If there is no such segmentation, the key has another number of columns, or no row may
        leave the database.
    DataError
        If there is no model yet, no such customer, or its row cannot be labelled.
    """
    key = _key_texts(customer)
    segmentation = load_segmentation(database, name)
    if segmentation.sample_rows == 0:
        raise DefinitionError(
            f"{name}: sample_rows = 0 lets no row leave the database, and to explain a customer's "
            "segment is to read that customer's row; the function assign_… that `export-sql` "
            "writes scores a row where it is, and segment_feature has what sets each segment apart"
        )
    model = load_model(name, database)
    if len(key) != len(segmentation.key):
        raise DefinitionError(
            f"{len(key)} values of the key given; allowed: {len(segmentation.key)} "
            f"({', '.join(segmentation.key)})"
        )
    with open_places(segmentation, database, spark, from_file=False) as (there, sources):
        raw = _read(there, sources, segmentation, model, key)
        published = there.labels.segment_of(segmentation, key)
    values = raw.matrix[0].copy()  # to prepare a row uses it up
    point = _prepared(raw, model, key)
    found = margin_of(point, model.centroids)
    steps = load_steps(name, database)
    changes = smallest_changes(model.preparation, model.centroids, values, raw.texts, steps)
    return CustomerExplanation(
        segmentation=name,
        customer=tuple(key),
        segment=_segment(model, found.own, found.distance),
        runner_up=_segment(model, found.runner_up, found.runner_up_distance),
        margin=found.margin,
        certainty=found.certainty,
        features=_reasons(model, segmentation.units, point, found, changes),
        published_segment_id=published,
    )


def _key_texts(customer: object) -> list[str]:
    """A key's values as the command line takes them."""
    if isinstance(customer, (str, bytes)) or not isinstance(customer, Iterable):
        customer = [customer]
    return [_key_text(value) for value in customer]


def _key_text(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as a data frame holds whole numbers beside a missing one
    return str(value)


def _read(
    database: Database,
    sources: Sources,
    segmentation: Segmentation,
    model: SegmentModel,
    customer: Sequence[str],
) -> RawRows:
    """The customer's row, read as a run does."""
    with sources.open_source(segmentation, model.columns, customer) as source:
        batches = list(source.batches)
    rows = sum(batch.keys.num_rows for batch in batches)
    if not rows:
        raise DataError(_unknown(database, segmentation, customer))
    source = Source(rows, iter(batches), in_key_order=True)
    raw = read_rows(source, segmentation.key, Storage(), lambda _: None)
    assert raw is not None
    return raw


def _prepared(
    raw: RawRows, model: SegmentModel, customer: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The row in the scaled space."""
    try:
        if raw.weights is not None and (problems := weight_problems(raw.weights)):
            raise DataError(problems)
        _, found = prepare(raw, model.preparation, Storage())
    except DataError as error:
        who = f"customer {', '.join(customer)} has no segment"
        raise DataError([f"{who}: {problem}" for problem in error.problems]) from None
    return np.asarray(found.matrix[0])


def _unknown(database: Database, segmentation: Segmentation, customer: Sequence[str]) -> str:
    who = f"customer {', '.join(customer)}: not in {segmentation.source}"
    published = database.labels.segment_of(segmentation, customer)
    if published is not None:
        return (
            f"{who} any more; the label, segment {published}, goes with the next "
            f"`sqlkmeans assign {segmentation.name}`"
        )
    row = database.catalog.segmentation(segmentation.name) or {}
    typical = database.catalog.result("typical_customer", row.get("active_run_id") or 0)
    known = [" ".join(json.loads(found["customer"])) for found in typical[:3]]
    columns = ", ".join(segmentation.key)
    return f"{who}; {columns} looks like {' or '.join(known)}" if known else f"{who} ({columns})"


def _segment(model: SegmentModel, index: int, distance: float) -> SegmentDistance:
    return SegmentDistance(model.segment_ids[index], model.names[index], distance)


def _reasons(
    model: SegmentModel,
    units: Mapping[str, str],
    point: npt.NDArray[np.float64],
    found: Margin,
    changes: Sequence[Change | None],
) -> tuple[FeatureReason, ...]:
    """Each feature's part, the largest first."""
    points = np.vstack([point, model.centroids[found.own], model.centroids[found.runner_up]])
    total = float(found.contributions.sum())
    reasons = []
    for position, feature in enumerate(model.preparation.features):
        value, segment_value, runner_up_value = own_values(feature, points[:, position]).tolist()
        part = float(found.contributions[position]) / total if total > 0 else 0.0
        unit, change = units.get(feature.name), changes[position]
        reasons.append(
            FeatureReason(
                feature.name, value, segment_value, runner_up_value, part, unit,
                None if change is None else _change(model, feature.column, unit, change),
            )
        )  # fmt: skip
    return tuple(sorted(reasons, key=lambda reason: -abs(reason.contribution)))


def _change(model: SegmentModel, column: str, unit: str | None, change: Change) -> SmallestChange:
    value = change.value
    if isinstance(value, float):
        words = number_text(value)
    else:
        yes_or_no = set(model.preparation.levels(column)) <= set(YES_NO)
        words = YES_NO.get(value, value) if yes_or_no else value
    told = " ".join([column, words, *filter(None, [unit])])
    if change.difference is not None:
        days = "" if isinstance(value, float) else " days"
        told += f" ({'+' if change.difference > 0 else ''}{brief_number(change.difference)}{days})"
    return SmallestChange(
        column, value, change.difference, model.segment_ids[change.segment],
        model.names[change.segment], change.is_usual, told,
    )  # fmt: skip
