"""One run's result, ready to be made visible."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclass(frozen=True)
class Publication:
    """What a run publishes beside its labels, which are staged.

    Attributes
    ----------
    run_id : int
    segment_ids : sequence of int
        The segment id of each staged cluster: ``segment_ids[cluster]``.
    model_run_id : int
        The run whose model made the labels: itself after a fit, an earlier one after `assign`.
    run : dict
        Columns of the run row to set: counts, scores, seconds, versions. ``warnings`` is a list
        and ``recommendation`` a dict; a database that keeps them as JSON writes it.
    tables : dict of list of dict
        Rows of ``model_feature``, ``centroid``, ``segment`` and ``segment_feature``, without
        their run; `assign` publishes the last two only, because it makes no model.
    last_segment_id : int
        The highest id ever given, so that a retired id never returns.
    distance_tolerance : float
        A row whose segment stays is rewritten only when its distance moved by more than this, or
        it became an outlier or ceased to be one.
    outlier_distances : mapping of int to float, default={}
        By segment id, beyond which distance a customer is an outlier; without, nobody is.
    """

    run_id: int
    segment_ids: Sequence[int]
    model_run_id: int
    run: Row
    tables: dict[str, list[Row]]
    last_segment_id: int
    distance_tolerance: float
    outlier_distances: Mapping[int, float] = field(default_factory=dict)

    def to_json(self) -> Row:
        """What ``sqlkmeans.publish_run`` takes, as values that JSON has."""
        values = asdict(self)
        del values["run_id"]
        return dict(plain(values))


def plain(value: Any) -> Any:
    """The same as JSON has it: what is not a finite number is None."""
    if isinstance(value, dict):
        return {name: plain(of_it) for name, of_it in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(of_it) for of_it in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
