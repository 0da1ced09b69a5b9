"""A fitted segmentation: preparation, centroids and names. Plain numbers, nothing pickled."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.describing.numbers import tidy
from sqlkmeans.clustering.kmeans.assignment import assign, squared_distances
from sqlkmeans.clustering.preparation.preparation import (
    Preparation,
    PreparedFeature,
    preparation_from_rows,
    preparation_to_rows,
)
from sqlkmeans.clustering.preparation.raw_rows import YES_AND_NO, raw_rows

FORMAT = 1


@dataclass(frozen=True, eq=False)
class SegmentModel:
    """Labels new rows as the run that made it did, under scikit-learn's names.

    Attributes
    ----------
    preparation : Preparation
    centroids : ndarray of float64 of shape (k, n_features)
        In the scaled space; read-only.
    segment_ids : tuple of int of length k
        The id of each centroid, ascending.
    names : tuple of str of length k
    outlier_distances : tuple of float of length k, optional
        Beyond which distance to its centroid, in the scaled space, a row is an outlier; by
        default no row is.
    """

    preparation: Preparation
    centroids: npt.NDArray[np.float64]
    segment_ids: tuple[int, ...]
    names: tuple[str, ...]
    outlier_distances: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        centroids = np.array(self.centroids, dtype=np.float64)
        order = np.argsort(self.segment_ids)
        centroids = centroids[order]
        centroids.setflags(write=False)
        object.__setattr__(self, "centroids", centroids)
        object.__setattr__(self, "segment_ids", tuple(int(self.segment_ids[i]) for i in order))
        object.__setattr__(self, "names", tuple(str(self.names[i]) for i in order))
        if self.outlier_distances is not None:
            limits = tuple(float(self.outlier_distances[i]) for i in order)
            object.__setattr__(self, "outlier_distances", limits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SegmentModel) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def k(self) -> int:
        return len(self.segment_ids)

    @property
    def cluster_centers_(self) -> npt.NDArray[np.float64]:
        """The centroids, of shape (k, n_features), in the scaled space; read-only.

        :meth:`own_units` gives them in the columns' own units.
        """
        return self.centroids

    @property
    def feature_names_in_(self) -> npt.NDArray[np.object_]:
        """The names of :attr:`columns`, of shape (n_features_in_,)."""
        return np.array(self.columns, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """How many columns a row has; a category makes several features of one."""
        return len(self.columns)

    @property
    def columns(self) -> list[str]:
        """The source columns, in the order in which rows hold them."""
        return self.preparation.columns

    def predict(self, rows: Any) -> npt.NDArray[np.int64]:
        """The segment id of each row.

        Parameters
        ----------
        rows : data frame, or array-like of shape (n_rows, n_columns)
            Raw values: a data frame, or anything with :attr:`columns` by name, or an array in
            their order. Missing is NaN, None or NULL; a date is one, or days since 1970-01-01; a
            category is a text, or what the database writes as the same text. Where the database
            has a boolean, yes and no, true and false stand for it too.

        Returns
        -------
        ndarray of int64 of shape (n_rows,)
            0 for a row that has a missing value which the model does not fill in.

        Raises
        ------
        DataError
            If the rows have another number of columns, a column is not there, or values are
            infinite or of another type; all problems at once.

        Warns
        -----
        UserWarning
            With their number, of levels that the model does not know and has no ``(other)`` for:
            such a row has none of the levels.
        """
        prepared = self.prepare(rows)
        ids = np.zeros(len(prepared), dtype=np.int64)
        known = np.isfinite(prepared).all(axis=1)
        assignment = assign(prepared[known], self.centroids)
        ids[known] = np.asarray(self.segment_ids)[assignment.labels]
        return ids

    def is_outlier(self, rows: Any) -> npt.NDArray[np.bool_]:
        """Whether each row is farther from its centroid than its segment's limit.

        Rows, errors and warnings are those of :meth:`predict`; False for a row that has a missing
        value which the model does not fill in, and for all rows where the model has no limits.
        """
        prepared = self.prepare(rows)
        far = np.zeros(len(prepared), dtype=np.bool_)
        if self.outlier_distances is not None:
            known = np.isfinite(prepared).all(axis=1)
            assignment = assign(prepared[known], self.centroids)
            limits = np.array(self.outlier_distances)
            far[known] = np.sqrt(assignment.squared_distances) > limits[assignment.labels]
        return far

    @property
    def limits(self) -> dict[int, float]:
        """:attr:`outlier_distances` by segment id; empty where there are none."""
        return dict(zip(self.segment_ids, self.outlier_distances or ()))

    def transform(self, rows: Any) -> npt.NDArray[np.float64]:
        """The distance of each row to each centroid in the scaled space, of shape (n_rows, k).

        Rows, errors and warnings are those of :meth:`predict`; NaN for a row that has a missing
        value which the model does not fill in.
        """
        return np.sqrt(squared_distances(self.prepare(rows), self.centroids))

    def prepare(self, rows: Any) -> npt.NDArray[np.float64]:
        """The rows in the scaled space, of shape (n_rows, n_features); the same of missing."""
        matrix, texts = raw_rows(rows, self.preparation.types)
        for position, column in enumerate(self.columns):
            if column in texts:
                texts[column] = self._levels(column, texts[column], matrix[:, position])
        return self.preparation.transform(matrix, texts)

    def _levels(
        self, column: str, texts: Sequence[str], codes: npt.NDArray[np.float64]
    ) -> list[str]:
        """Texts of a category as its levels are written; warns of those that are no level."""
        known = set(self.preparation.levels(column))
        found = list(texts)
        if known <= {"0", "1"}:
            found = [
                text if text in known else str(YES_AND_NO.get(text.strip().lower(), text))
                for text in texts
            ]
        other = any(f.column == column and f.level is None for f in self.preparation.features)
        unknown = [code for code, text in enumerate(found) if text not in known and not other]
        if unknown:
            counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(found))
            ranked = sorted(unknown, key=lambda code: -counts[code])
            shown = ", ".join(f"{found[code][:30]!r} {counts[code]:,}" for code in ranked[:5])
            more = f", and {len(ranked) - 5:,} more" if len(ranked) > 5 else ""
            rows = int(counts[unknown].sum())
            warnings.warn(
                f"{column}: {rows:,} {'row has a level' if rows == 1 else 'rows have levels'} "
                f"that the model does not know ({shown}{more}); it knows "
                f"{', '.join(map(repr, sorted(known)))}",
                stacklevel=4,
            )
        return found

    def own_units(self) -> npt.NDArray[np.float64]:
        """The centroids in the features' own units, of shape (k, n_features).

        A date's is an age in days, a level's the share of customers that have it.
        """
        return self.preparation.inverse_transform(self.centroids)

    def centroids_in(self, preparation: Preparation) -> npt.NDArray[np.float64] | None:
        """The centroids in the scaled space of another run, to compare the two.

        Returns
        -------
        ndarray of shape (k, n_features) or None
            None where the other run has other columns. A level that this model has no feature for
            has the share 0.
        """
        if preparation.types != self.preparation.types or preparation.columns != self.columns:
            return None
        place = {name: position for position, name in enumerate(self.preparation.names)}
        own = self.own_units()
        columns = [
            own[:, place[name]] if name in place else np.zeros(len(own))
            for name in preparation.names
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            points = preparation.from_own_units(np.column_stack(columns))
        return points if np.isfinite(points).all() else None

    # JSON

    def to_json(self) -> str:
        """Everything that :meth:`from_json` needs; floats to their last bit."""
        limits = self.limits
        return json.dumps(
            {
                "format": FORMAT,
                "scaling": self.preparation.scaling,
                "missing": self.preparation.missing,
                "features": [asdict(feature) for feature in self.preparation.features],
                "segments": [
                    {
                        "segment_id": segment_id,
                        "name": name,
                        "centroid": centroid.tolist(),
                        **({"outlier_distance": limits[segment_id]} if limits else {}),
                    }
                    for segment_id, name, centroid in zip(
                        self.segment_ids, self.names, self.centroids
                    )
                ],
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> SegmentModel:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If it is of a format that this version does not know.
        """
        values = json.loads(text)
        if values.get("format") != FORMAT:
            raise ValueError(f"model format {values.get('format')!r} given; allowed: {FORMAT}")
        features = tuple(PreparedFeature(**feature) for feature in values["features"])
        segments = values["segments"]
        return cls(
            Preparation(features, values["scaling"], values["missing"]),
            np.array([segment["centroid"] for segment in segments], dtype=np.float64),
            tuple(segment["segment_id"] for segment in segments),
            tuple(segment["name"] for segment in segments),
            _limits([segment.get("outlier_distance") for segment in segments]),
        )

    # Tables

    def to_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the tables ``model_feature`` and ``centroid``, without their run."""
        own, limits = self.own_units(), self.limits
        for position, feature in enumerate(self.preparation.features):
            # What the way there and back leaves of 0.
            own[np.abs(own[:, position]) < 1e-12 * feature.scale, position] = 0
        return {
            "model_feature": preparation_to_rows(self.preparation),
            "centroid": [
                {
                    "segment_id": segment_id,
                    "position": position + 1,
                    "feature": name,
                    "value": tidy(own[index, position]),
                    "scaled_value": float(self.centroids[index, position]),
                    "outlier_distance": limits.get(segment_id),
                }
                for index, segment_id in enumerate(self.segment_ids)
                for position, name in enumerate(self.preparation.names)
            ],
        }

    @classmethod
    def from_rows(
        cls,
        model_feature: Iterable[Mapping[str, Any]],
        centroid: Iterable[Mapping[str, Any]],
        names: Mapping[int, str],
        *,
        scaling: str,
        missing: str,
    ) -> SegmentModel:
        """Read what :meth:`to_rows` wrote; names by segment id.

        Raises
        ------
        ValueError
            If a value is not what it has to be.
        """
        preparation = preparation_from_rows(model_feature, scaling=scaling, missing=missing)
        points: dict[int, dict[int, float]] = {}
        limits: dict[int, float | None] = {}
        for row in centroid:
            limits[row["segment_id"]] = row.get("outlier_distance")
            points.setdefault(row["segment_id"], {})[row["position"]] = row["scaled_value"]
        segment_ids: Sequence[int] = sorted(points)
        centroids = np.array(
            [[points[i][p] for p in sorted(points[i])] for i in segment_ids], dtype=np.float64
        )
        if not np.isfinite(centroids).all():
            raise ValueError("a centroid that is not finite")
        return cls(
            preparation,
            centroids,
            tuple(segment_ids),
            tuple(names.get(i, f"segment {i}") for i in segment_ids),
            _limits([limits[i] for i in segment_ids]),
        )


def _limits(given: Sequence[float | None]) -> tuple[float, ...] | None:
    """Those of all segments; None where there are none."""
    known = tuple(limit for limit in given if limit is not None)
    return known if known and len(known) == len(given) else None
