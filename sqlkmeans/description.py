"""What a run finds out about its rows before it lets go of them, as rows of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlkmeans.clustering.comparing.compare import RunFacts
from sqlkmeans.clustering.describing.bins import FeatureBins, bins_to_rows
from sqlkmeans.clustering.describing.describe import explain_rows, segment_rows, segment_warnings
from sqlkmeans.clustering.describing.profile import EVERYONE, SegmentProfile
from sqlkmeans.clustering.describing.scores import Scores
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import Engine, Explanation
from sqlkmeans.registry import stored_model

Row = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """Clusters described, before they have segment ids.

    Attributes
    ----------
    rows, skipped : int
    inertia : float
    mean_distance : float or None
    profiles : list of SegmentProfile
        Everyone, then each cluster.
    scores : Scores
    explanation : Explanation
    bins : list of FeatureBins
        What is stored: after a fit its own bins, else those of the fit.
    compared_bins : list of FeatureBins
        The rows in the bins of the run that this one is compared with.
    """

    rows: int
    skipped: int
    inertia: float
    mean_distance: float | None
    profiles: list[SegmentProfile]
    scores: Scores
    explanation: Explanation
    bins: list[FeatureBins]
    compared_bins: list[FeatureBins]

    def facts(self, run_id: int, segmentation: Segmentation) -> RunFacts:
        """What the next run and the one before are compared by."""
        return RunFacts(
            run_id=run_id,
            rows=self.rows,
            k=len(self.profiles) - 1,
            silhouette=self.scores.silhouette,
            mean_distance=self.mean_distance,
            definition=segmentation.model_dump(mode="json"),
            bins=self.compared_bins,
            means={name: f.mean for name, f in self.profiles[EVERYONE].features.items()},
        )

    def run_row(self) -> Row:
        """Columns of the run's row."""
        return {
            "k": len(self.profiles) - 1,
            "rows": self.rows,
            "skipped": self.skipped,
            "inertia": self.inertia,
            "mean_distance": self.mean_distance,
            **self.scores.to_dict(),
        }

    def warnings(self, segment_ids: Sequence[int]) -> list[str]:
        """What people should look at, in words."""
        return segment_warnings(self.profiles, segment_ids, self.skipped)

    def tables(
        self,
        database: Database,
        segmentation: Segmentation,
        segment_ids: list[int],
        shifts: Mapping[int, float],
    ) -> dict[str, list[Row]]:
        """Rows of the tables that describe segments and features."""
        model = stored_model(database, segmentation.name)
        kept = dict(zip(model.segment_ids, model.names)) if model else {}
        given = database.catalog.given_names(segmentation.name)
        tables = segment_rows(self.profiles, segment_ids, given, kept, segmentation.units)
        silhouettes = self.scores.segment_silhouettes
        explain_rows(tables["segment"], segment_ids, self.explanation.rules, silhouettes, shifts)
        typical = [
            {"segment_id": segment_id, "rank": rank, **vars(customer)}
            for segment_id, customers in zip(segment_ids, self.explanation.typical)
            for rank, customer in enumerate(customers, start=1)
        ]
        return {**tables, "typical_customer": typical, "feature_bin": bins_to_rows(self.bins)}


def describe(
    engine: Engine, segmentation: Segmentation, before: RunFacts | None, *, new_bins: bool
) -> Description:
    """Describe the labelled rows of an engine, which has looked at them.

    Parameters
    ----------
    engine : Engine
    segmentation : Segmentation
    before : RunFacts or None
        The run to compare with.
    new_bins : bool
        Cut the features anew, as a fit does; else keep to the bins of ``before``.
    """
    compared = engine.bins(before.bins) if before else []
    return Description(
        rows=engine.rows,
        skipped=engine.skipped,
        inertia=engine.inertia,
        mean_distance=engine.mean_distance,
        profiles=engine.profiles(),
        scores=engine.scores(segmentation.seed),
        explanation=engine.explain(segmentation.seed),
        bins=engine.bins() if new_bins or not compared else compared,
        compared_bins=compared,
    )
