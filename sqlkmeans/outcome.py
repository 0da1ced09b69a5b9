"""What a run makes of what it found: from what stood before to what is published.

Values in, values out, and the same for the client and for Python inside the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from sqlkmeans.clustering.arrays.types import Matrix, Vector
from sqlkmeans.clustering.choosing.choose_k import KChoice
from sqlkmeans.clustering.comparing.compare import (
    THRESHOLDS,
    Comparison,
    Movement,
    RunFacts,
    compare,
    movement,
)
from sqlkmeans.clustering.comparing.stable_ids import Previous, match_segments
from sqlkmeans.clustering.describing.bins import FeatureBins, bins_to_rows
from sqlkmeans.clustering.describing.found import Found
from sqlkmeans.clustering.describing.naming import describe_everyone, name_segments
from sqlkmeans.clustering.describing.profile import EVERYONE, SegmentProfile, profile_to_rows
from sqlkmeans.clustering.describing.profile_columns import column_rows
from sqlkmeans.clustering.preparation.preparation import Preparation, units_from_definition
from sqlkmeans.model import SegmentModel
from sqlkmeans.publication import Publication

Row = dict[str, Any]
#: (published segment_id, new cluster, customers) that both have.
Overlap = Iterable[tuple[int, int, int]]

#: A label that stays is rewritten when its distance moved by more than this share of the run's
#: root mean square distance.
DISTANCE_TOLERANCE = 0.01
REFIT = "a refit is due: "


@dataclass(frozen=True)
class Fit:
    """Clusters that have no segment ids yet, largest first.

    Attributes
    ----------
    preparation : Preparation
    centroids : ndarray of float64 of shape (k, n_features)
        In the scaled space.
    n_iter : int
    findings : list of str
        What the rows suggest about the features and the number of segments, in words.
    choice : KChoice or None
        How k was chosen, where the definition says "auto".
    outlier_distances : ndarray of float64 of shape (k,) or None
        Beyond which distance a customer is an outlier.
    """

    preparation: Preparation
    centroids: Matrix
    n_iter: int
    findings: list[str] = field(default_factory=list)
    choice: KChoice | None = None
    outlier_distances: Vector | None = None

    def limits(self, segment_ids: Sequence[int]) -> dict[int, float]:
        """The same by segment id; empty where there are none."""
        limits = self.outlier_distances
        return {} if limits is None else dict(zip(segment_ids, limits.tolist()))


@dataclass(frozen=True)
class Before:
    """What stands when a run begins.

    Attributes
    ----------
    run : RunFacts or None
        The run to compare with; None before the first.
    model : SegmentModel or None
        The model in force, with the names that its segments have.
    model_run_id : int or None
    given : mapping of int to str
        Names that people gave.
    last_segment_id : int
        The highest segment id ever given.
    arrived : int
        Customers that came since the model was fitted, up to the last publication.
    """

    run: RunFacts | None = None
    model: SegmentModel | None = None
    model_run_id: int | None = None
    given: Mapping[int, str] = field(default_factory=dict)
    last_segment_id: int = 0
    arrived: int = 0

    @property
    def bins(self) -> Sequence[FeatureBins]:
        """In which the rows are counted to be compared."""
        return self.run.bins if self.run else ()

    @property
    def names(self) -> dict[int, str]:
        """Names that the segments have, given or not."""
        return dict(zip(self.model.segment_ids, self.model.names)) if self.model else {}

    def follow(self, fit: Fit, overlap: Callable[[], Overlap]) -> tuple[list[int], Movement]:
        """The segment id of each new cluster, and who moved since the run before.

        ``overlap`` is called where there was one.
        """
        last = self.last_segment_id
        if self.model is None:
            return match_segments(fit.centroids, Previous((), None, last)), Movement(0, 0)
        centroids, shared = self.model.centroids_in(fit.preparation), list(overlap())
        previous = Previous(self.model.segment_ids, centroids, last)
        segment_ids = match_segments(fit.centroids, previous, shared)
        return segment_ids, movement(
            shared, segment_ids, fit.centroids, self.model.segment_ids, centroids
        )


def of_fit(
    run_id: int,
    definition: Mapping[str, Any],
    before: Before,
    fit: Fit,
    found: Found,
    segment_ids: list[int],
    moves: Movement,
    notes: Sequence[str] = (),
) -> Publication:
    """What a fit publishes.

    Parameters
    ----------
    run_id : int
    definition : mapping
        Its keys as JSON has them.
    before : Before
    fit : Fit
    found : Found
        What the labelled rows tell.
    segment_ids : list of int
        Of the clusters.
    moves : Movement
    notes : sequence of str, default=()
        More warnings, in words.

    Raises
    ------
    DataError
        If something is beyond a threshold and the guard's action is ``refuse``.
    """
    compared = _compared(run_id, definition, before.run, found, moves)
    units = units_from_definition(definition)
    tables = _tables(found, segment_ids, before, moves.shifts, units)
    names = {row["segment_id"]: row["name"] for row in tables["segment"]}
    limits = None if fit.outlier_distances is None else tuple(fit.outlier_distances.tolist())
    model = SegmentModel(
        fit.preparation, fit.centroids, tuple(segment_ids), tuple(names[i] for i in segment_ids),
        limits,
    )  # fmt: skip
    warnings = [*segment_warnings(found.profiles, segment_ids, found.skipped), *fit.findings]
    if compared:
        warnings += compared.alarms + compared.notes
    run = {**_run_row(found, compared), "n_iter": fit.n_iter, "warnings": [*warnings, *notes]}
    if fit.choice:
        run["recommendation"] = fit.choice.recommendation.to_dict()
    return Publication(
        run_id=run_id,
        segment_ids=segment_ids,
        model_run_id=run_id,
        run=run,
        tables={
            **model.to_rows(),
            **tables,
            "feature_drift": compared.drift if compared else [],
            "k_score": fit.choice.to_rows() if fit.choice else [],
        },
        last_segment_id=max(before.last_segment_id, *segment_ids),
        distance_tolerance=DISTANCE_TOLERANCE * sqrt(found.inertia / found.weight),
        outlier_distances=fit.limits(segment_ids),
    )


def of_labels(
    run_id: int,
    definition: Mapping[str, Any],
    before: Before,
    found: Found,
    overlap: Overlap,
    notes: Sequence[str] = (),
) -> Publication:
    """What new labels by the stored model publish; they are compared with the run that fitted it.

    Parameters and errors are those of :func:`of_fit`; ``before`` has a model and its run, and
    ``overlap`` is that with the labels that are published now.
    """
    model, fitted = before.model, before.run
    assert model is not None
    assert before.model_run_id is not None
    assert fitted is not None
    segment_ids = list(model.segment_ids)
    moves = movement(overlap, segment_ids, model.centroids, segment_ids, None)
    compared = _compared(run_id, definition, fitted, found, moves)
    assert compared is not None
    units = units_from_definition(definition)
    warnings = segment_warnings(found.profiles, segment_ids, found.skipped)
    alarms = compared.alarms + _arrivals(before, fitted, found, moves, definition)
    warnings += [REFIT + text for text in alarms] + compared.notes
    if definition.get("outlier") is not None and not model.limits:
        warnings.append(
            f"the model of run {before.model_run_id} has no limits, so nobody is an outlier until "
            "the next run finds them"
        )
    return Publication(
        run_id=run_id,
        segment_ids=segment_ids,
        model_run_id=before.model_run_id,
        run={**_run_row(found, compared), "warnings": [*warnings, *notes]},
        tables={**_tables(found, segment_ids, before, {}, units), "feature_drift": compared.drift},
        last_segment_id=before.last_segment_id,
        distance_tolerance=0.0,
        outlier_distances=model.limits,
    )


def _run_row(found: Found, compared: Comparison | None) -> Row:
    """Columns of the run's row."""
    return {
        "k": len(found.profiles) - 1,
        "rows": found.rows,
        "skipped": found.skipped,
        "inertia": found.inertia,
        "mean_distance": found.mean_distance,
        "outliers": found.all_outliers,
        **found.scores.to_dict(),
        **(compared.run if compared else {}),
    }


def _compared(
    run_id: int,
    definition: Mapping[str, Any],
    before: RunFacts | None,
    found: Found,
    moves: Movement,
) -> Comparison | None:
    """This run beside the one before; None where there is none."""
    if before is None:
        return None
    everyone = found.profiles[EVERYONE]
    now = RunFacts(
        run_id=run_id,
        rows=found.rows,
        k=len(found.profiles) - 1,
        silhouette=found.scores.silhouette,
        mean_distance=found.mean_distance,
        definition=definition,
        bins=found.compared_bins,
        means={name: feature.mean for name, feature in everyone.features.items()},
        outliers=found.all_outliers,
    )
    return compare(now, before, moves, _guard(definition))


def _guard(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    # A definition of an earlier version has none.
    return definition.get("guard") or {}


def _arrivals(
    before: Before, fitted: RunFacts, found: Found, moves: Movement, definition: Mapping[str, Any]
) -> list[str]:
    """Whether more customers came since the fit than the guard allows, in words."""
    arrived = before.arrived + found.rows - moves.moved - moves.stayed
    share = arrived / max(1, found.rows)
    allowed = _guard(definition).get("rows", THRESHOLDS["rows"])
    if share <= allowed:
        return []
    return [
        f"{arrived:,} customers arrived since run {fitted.run_id}, and {found.rows:,} are there "
        f"({share:.0%}, allowed {allowed:.0%})"
    ]


def _tables(
    found: Found,
    segment_ids: list[int],
    before: Before,
    shifts: Mapping[int, float],
    units: Mapping[str, str],
) -> dict[str, list[Row]]:
    """Rows of the tables that describe segments and features."""
    return {
        "segment": segment_rows(found, segment_ids, before, shifts, units),
        "segment_feature": [
            row
            for segment_id, profile in _by_id(found.profiles, segment_ids)
            for row in profile_to_rows(segment_id, profile)
        ],
        "segment_profile": [
            row
            for segment_id, columns in zip([EVERYONE, *segment_ids], found.columns)
            for row in column_rows(segment_id, columns)
        ],
        "typical_customer": [
            {"segment_id": segment_id, "rank": rank, **vars(customer)}
            for segment_id, customers in zip(segment_ids, found.typical)
            for rank, customer in enumerate(customers, start=1)
        ],
        "feature_bin": bins_to_rows(found.bins),
    }


def _by_id(
    profiles: Sequence[SegmentProfile], segment_ids: Sequence[int]
) -> list[tuple[int, SegmentProfile]]:
    """Each profile with its segment's id, row 0 for everyone."""
    return sorted(zip([EVERYONE, *segment_ids], profiles), key=lambda pair: pair[0])


def segment_rows(
    found: Found,
    segment_ids: list[int],
    before: Before,
    shifts: Mapping[int, float],
    units: Mapping[str, str],
) -> list[Row]:
    """Rows of ``segment``, row 0 for everyone; None where something is not known.

    Parameters
    ----------
    found : Found
    segment_ids : list of int
        Of the clusters.
    before : Before
        Names that stay.
    shifts : mapping of int to float
        How far each centroid moved, by segment id.
    units : mapping of str to str
        Of features, by column.
    """
    kept = before.names
    names = [before.given.get(i) or kept.get(i) for i in segment_ids]
    words = name_segments(found.profiles, names, units)
    everyone = describe_everyone(found.profiles[EVERYONE], units)
    said = {EVERYONE: everyone, **dict(zip(segment_ids, words))}
    rule_of = dict(zip(segment_ids, found.rules))
    silhouette_of = dict(zip(segment_ids, found.scores.segment_silhouettes))
    outliers_of = {EVERYONE: found.all_outliers, **dict(zip(segment_ids, found.outliers))}
    rows: list[Row] = []
    for segment_id, profile in _by_id(found.profiles, segment_ids):
        name, description = said[segment_id]
        rule = rule_of.get(segment_id)
        rows.append(
            {
                "segment_id": segment_id,
                "name": name,
                "name_source": "given" if segment_id in before.given else "generated",
                "description": description,
                "size": profile.size,
                "share": profile.share,
                "within_ss": profile.within_ss,
                "rule": None if rule is None else rule.text,
                "rule_precision": None if rule is None else rule.precision,
                "rule_coverage": None if rule is None else rule.coverage,
                "silhouette": silhouette_of.get(segment_id),
                "centroid_shift": shifts.get(segment_id),
                "outliers": outliers_of.get(segment_id),
            }
        )
    return rows


def segment_warnings(
    profiles: Sequence[SegmentProfile], segment_ids: Sequence[int], skipped: int
) -> list[str]:
    """What people should look at, in words."""
    found = []
    if skipped:
        found.append(f"{skipped:,} rows were skipped because a feature is missing")
    for segment_id, profile in zip(segment_ids, profiles[1:]):
        if profile.size == 1:
            found.append(
                f"segment {segment_id} is one customer: look for wrong values, or try "
                'transform = "log1p" or scaling = "robust"'
            )
    return found
