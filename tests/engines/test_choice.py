"""Choosing k by each engine, and what min_share refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans import pipeline
from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.result import ChoiceResult

#: Engine and sample: where all rows are the sample, where few are, and where none leaves.
ENGINES: dict[str, dict[str, Any]] = {
    "local": {"engine": "local"},
    "pushdown with all rows as sample": {"engine": "pushdown"},
    "pushdown on a sample": {"engine": "pushdown", "sample_rows": 900},
    "pushdown without rows": {"engine": "pushdown", "sample_rows": 0},
}
#: Scores of all rows; the others are of samples.
OF_ALL_ROWS = (
    "inertia", "simplified_silhouette", "davies_bouldin", "calinski_harabasz", "smallest_share",
)  # fmt: skip
OF_SAMPLES = ("silhouette", "gap", "gap_error", "separation", "separation_error", "stability")


def fill(database: Database, *, crowd: bool = False, far: int = 0) -> None:
    """Three groups, or one crowd; and some customers far away."""
    rng = np.random.default_rng(4)
    centres = np.zeros((3, 2)) if crowd else np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    values = centres[rng.integers(3, size=2_400)] + rng.normal(size=(2_400, 2))
    values[:far] = 14.0 + rng.normal(size=(far, 2))
    ids = rng.permutation(2_400)
    weight = rng.integers(0, 3, size=2_400).astype(np.float64)
    visits = np.array(["never", "at times", "often"])[rng.integers(3, size=2_400)]
    columns = {
        "id": ids, "x": values[:, 0], "y": values[:, 1], "weight": weight, "visits": visits,
    }  # fmt: skip
    database.create_table("dbo.points", pa.table(columns), "id")


def definition(**changes: Any) -> Segmentation:
    values: dict[str, Any] = {
        "name": "points", "source": "dbo.points", "key": "id", "features": ["x", "y"],
        "k": "auto", "k_max": 5, "target": "dbo.points_segment", "n_init": 3, **changes,
    }  # fmt: skip
    return Segmentation.create(**values)


def choose(database: Database, **changes: Any) -> ChoiceResult:
    return pipeline.choose_k(definition(**changes), database)


@pytest.mark.parametrize("weights", [{}, {"sample_weight": "weight"}], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_recommends_the_groups_that_are_there(
    name: str, weights: dict[str, Any], database: Database
) -> None:
    fill(database)
    expected = choose(database, **ENGINES["local"], **weights)
    found = choose(database, **ENGINES[name], **weights)
    assert found.recommended_k == expected.recommended_k == 3
    assert (found.rows, found.skipped) == (2_400, 0)
    assert [row["k"] for row in found.scores] == [2, 3, 4, 5]
    assert [row["recommended"] for row in found.scores] == [False, True, False, False]
    # Of the groups that are there every start finds the same partition.
    three, of_local = found.scores[1], expected.scores[1]
    for score in OF_ALL_ROWS:
        assert three[score] == pytest.approx(of_local[score], rel=1e-6), score
    run = database.catalog.run(found.run_id) or {}
    assert run["engine"] == ENGINES[name]["engine"]
    assert database.catalog.result("k_score", found.run_id)[1]["inertia"] == three["inertia"]


def test_where_the_sample_is_everyone_the_choice_is_the_local_engines(database: Database) -> None:
    fill(database)
    local = choose(database, **ENGINES["local"])
    pushdown = choose(database, **ENGINES["pushdown with all rows as sample"])
    assert (pushdown.structure, pushdown.reason) == (local.structure, local.reason)
    for one, other in zip(pushdown.scores, local.scores):
        assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in ENGINES if "without" not in name])
def test_a_category_beside_the_groups_is_left_out_by_every_engine_that_reads_rows(
    name: str, database: Database
) -> None:
    fill(database)
    features = ["x", "y", {"column": "visits", "type": "category"}]
    found = choose(database, **ENGINES[name], features=features)
    assert (found.structure, found.shape, found.recommended_k) == (True, "compact", 3)
    assert "Judged without visits: its few values part any customers" in found.reason
    three = found.scores[1]
    assert three["separation"] > 0.9
    assert three["inertia"] > 2_000  # of all customers and features


@pytest.mark.parametrize("name", [name for name in ENGINES if "sample" in name])
def test_a_crowd_has_no_structure_by_its_sample_either(name: str, database: Database) -> None:
    fill(database, crowd=True)
    found = choose(database, **ENGINES[name])
    assert (found.structure, found.recommended_k) == (False, None)
    result = pipeline.run(definition(**ENGINES[name]), database)
    assert any("no cluster structure" in warning for warning in result.warnings)


def test_without_rows_structure_is_not_judged_and_the_reason_says_so(database: Database) -> None:
    fill(database)
    found = choose(database, **ENGINES["pushdown without rows"])
    assert found.structure is None
    assert found.reason == (
        "3 segments: best by simplified silhouette. "
        "No row may be read, so whether there is any cluster structure is not tested"
    )
    assert all(row[score] is None for row in found.scores for score in OF_SAMPLES)


def test_without_rows_a_k_with_a_segment_below_min_group_is_passed_over(
    database: Database,
) -> None:
    fill(database, far=20)
    without = ENGINES["pushdown without rows"]
    found = choose(database, **without, min_group=50)
    assert found.recommended_k == 3
    assert [row["k"] for row in found.scores] == [2, 3]
    assert found.reason.endswith(". min_group = 50 refuses 4, 5")
    with pytest.raises(DataError, match=r"k = 4 makes a segment of fewer .* min_group = 50"):
        choose(database, **without, min_group=50, k_min=4)
    with pytest.raises(DataError, match="k = 2 needs at least 2 groups of min_group = 2000"):
        choose(database, **without, min_group=2_000)


@pytest.mark.parametrize("name", ENGINES)
def test_a_run_takes_the_k_that_is_recommended(name: str, database: Database) -> None:
    fill(database)
    result = pipeline.run(definition(**ENGINES[name]), database)
    assert result.k == 3
    assert result.recommendation is not None
    assert result.recommendation["recommended_k"] == 3
    stored = database.catalog.result("k_score", result.run_id)
    assert [row["k"] for row in stored if row["recommended"]] == [3]
    assert stored[1]["inertia"] == pytest.approx(result.inertia)
    assert pipeline.run(definition(**ENGINES[name]), database).changed == 0


@pytest.mark.parametrize("name", ENGINES)
def test_min_share_is_honoured_by_every_engine(name: str, database: Database) -> None:
    fill(database, far=120)
    refused = r"min_share = 0.1: with k = 4, a segment has 120 of 2,400 customers \(5.00%\)"
    with pytest.raises(DataError, match=refused):
        pipeline.run(definition(**ENGINES[name], k=4, min_share=0.1), database)
    assert database.describe_table("dbo.points_segment") is None
    with pytest.raises(DataError, match=r"leaves a segment smaller than min_share = 0\.1"):
        pipeline.run(definition(**ENGINES[name], k_min=4, min_share=0.1), database)
    pipeline.run(definition(**ENGINES[name], k=4, min_share=0.05), database)


def test_choose_k_never_reads_rows_that_may_not_leave(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    read: list[Callable[..., Any]] = []
    monkeypatch.setattr(type(database), "open_source", lambda *_, **__: read.append(choose))
    with pytest.raises(DefinitionError, match='choose-k with engine = "in_database" reads'):
        choose(database, engine="in_database", sample_rows=0)
    choose(database, engine="pushdown", sample_rows=0)
    choose(database, engine="pushdown")
    assert read == []
