"""The same suite for every engine: what one finds, the others find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
)

from sqlkmeans import pipeline
from sqlkmeans.clustering.kmeans.assignment import assign, squared_distances
from sqlkmeans.clustering.kmeans.kmeans import fit_kmeans
from sqlkmeans.clustering.kmeans.lloyd import lloyd as rested_at
from sqlkmeans.clustering.kmeans.lloyd import settle
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database import Database, open_database
from sqlkmeans.database.duckdb.dialect import DuckDBDialect
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines import Plan
from sqlkmeans.engines.pushdown import fit as pushdown_fit
from sqlkmeans.engines.pushdown import preparation as pushdown_preparation
from sqlkmeans.engines.pushdown import profile as pushdown_profile
from sqlkmeans.engines.pushdown.engine import PushdownEngine
from sqlkmeans.engines.pushdown.fit import Points, carry_on, lloyd, single_moves
from sqlkmeans.engines.pushdown.profile import score_partition, total_ss
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql.training import ROWS
from sqlkmeans.errors import DataError
from sqlkmeans.progress import Advance, Progress
from support.engines import ENGINES, EVERY_ENGINE, FIRST, OTHERS
from support.shops import labels_of, make_shop, native
from support.training_statements import make_layout

#: Engine and sample: where all rows are the sample, where few are, and where none leaves.
WAYS: dict[str, dict[str, Any]] = {
    **{name: {"engine": name} for name in ENGINES},
    "local on a sample": {"engine": "local", "sample_rows": 1_000},
    "pushdown on a sample": {"engine": "pushdown", "sample_rows": 1_000},
    "pushdown without rows": {"engine": "pushdown", "sample_rows": 0},
    "spark": {"engine": "spark"},
    "spark on a sample": {"engine": "spark", "sample_rows": 1_000},
    "spark without rows": {"engine": "spark", "sample_rows": 0},
}
#: Their names, to parametrise with.
NAMES = [
    pytest.param(name, marks=pytest.mark.spark) if way["engine"] == "spark" else name
    for name, way in WAYS.items()
]
#: The same for tests of several fits: without rows, each has hundreds of statements, each of which
#: takes Spark a while to plan.
MANY_STATEMENTS = [
    pytest.param(name, marks=[pytest.mark.spark, pytest.mark.slow])
    if name == "spark without rows" else given
    for name, given in zip(WAYS, NAMES)
]  # fmt: skip

#: What a run says of its segments.
TABLES = (
    "model_feature", "centroid", "segment", "segment_feature", "typical_customer", "feature_bin",
)  # fmt: skip

PREPARATIONS: dict[str, dict[str, Any]] = {
    "means for what is missing": {"missing": "mean"},
    "medians for what is missing": {"missing": "median"},
    "rows with missing values left out": {"missing": "skip"},
    "robust": {"scaling": "robust"},
    "minmax": {"scaling": "minmax"},
    "unscaled": {"scaling": "none"},
    "logarithm and weight": {
        "features": ["age", {"column": "orders", "transform": "log1p", "weight": 2.0}]
    },
    "winsorised": {"winsorize": [0.02, 0.95]},
    "category": {"features": ["income", {"column": "city", "type": "category"}]},
    "category with others": {
        "features": ["income", {"column": "city", "type": "category", "max_categories": 2}]
    },
    "date": {"features": ["age", {"column": "joined", "type": "date"}]},
    "weighted rows": {"sample_weight": "importance"},
    "weighted medians and quantiles": {
        "sample_weight": "importance", "missing": "median", "scaling": "robust",
        "winsorize": [0.05, 0.9],
    },
    "limits": {"outlier": 0.02, "sample_weight": "importance", "missing": "skip"},
    "limits of everyone": {"outlier": 0.4},
    "everything": {
        "features": [
            "income", "age", {"column": "orders", "transform": "log1p"},
            {"column": "city", "type": "category"}, {"column": "joined", "type": "date"},
        ],
        "sample_weight": "importance", "winsorize": [0.01, 0.99],
    },
}  # fmt: skip


def near(found: list[dict[str, Any]], expected: list[dict[str, Any]], rel: float = 1e-9) -> None:
    """The same rows of a result table, but for the run and rounding."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        for column, value in other.items():
            if column == "run_id":
                continue
            if isinstance(value, float):
                assert one[column] == pytest.approx(value, rel=rel, abs=1e-9), (column, other)
            else:
                assert one[column] == value, (column, other)


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_every_engine_finds_what_the_first_finds(
    preparation: str, engine: str, run_engine: Callable[..., dict[str, Any]]
) -> None:
    definition = PREPARATIONS[preparation]
    first, other = run_engine(FIRST, **definition), run_engine(engine, **definition)
    for column in ("segment_id", "is_outlier"):
        assert first["labels"][column].equals(other["labels"][column])
    flagged = sum(first["labels"]["is_outlier"].to_pylist())
    assert first.get("outliers") == other.get("outliers") == (flagged or None)
    assert bool(flagged) == ("outlier" in definition)
    np.testing.assert_allclose(
        other["labels"]["distance"], first["labels"]["distance"], rtol=1e-9, atol=1e-9
    )
    for table in TABLES:
        near(other[table], first[table])
    assert other["inertia"] == pytest.approx(first["inertia"], rel=1e-12)
    assert other["skipped"] == first["skipped"]
    assert other["warnings"] == first["warnings"]
    for score in ("silhouette", "davies_bouldin", "calinski_harabasz"):
        assert other["scores"][score] == pytest.approx(first["scores"][score], rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_published_centroid_is_the_mean_that_sql_finds(name: str, database: Database) -> None:
    # One cloud, so that many customers are near a border.
    rng = np.random.default_rng(3)
    values = np.round(rng.lognormal(10, 0.6, size=(2, 4_000)), 2)
    rows = pa.table({"id": np.arange(4_000), "income": values[0], "spent": values[1]})
    database.create_table("dbo.cloud", rows, "id")
    segmentation = Segmentation.create(
        name="cloud", source="dbo.cloud", key="id", features=["income", "spent"], k=5,
        target="dbo.cloud_segment", n_init=3, **WAYS[name],
    )  # fmt: skip
    pipeline.run(segmentation, database)
    assert_centroids_are_means(native(database), segmentation.target, "dbo.cloud", 5, 5_000)


def assert_centroids_are_means(
    connection: Any, target: str, source: str, k: int, deviation: float
) -> None:
    for feature in ("income", "spent"):
        found = connection.execute(
            "SELECT c.value, m.mean FROM sqlkmeans.centroid AS c INNER JOIN ("
            f"SELECT t.segment_id, AVG(s.{feature}) AS mean FROM {target} AS t "
            f"INNER JOIN {source} AS s ON s.id = t.id GROUP BY t.segment_id) AS m "
            f"ON m.segment_id = c.segment_id WHERE c.feature = '{feature}'"
        ).fetchall()
        assert len(found) == k
        np.testing.assert_allclose(*np.array(found).T, rtol=0, atol=1e-9 * deviation)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize(
    "key", ["row_number", "weight", "previous_segment_id", "f1", "k1", "z1", "w", "squared"]
)
def test_a_key_may_be_called_like_a_column_of_the_work(
    key: str, engine: str, database: Database
) -> None:
    rows = make_shop(200).rename_columns({"customer_id": key, "importance": "heavy"})
    database.create_table("dbo.shop", rows, key)
    segmentation = Segmentation.create(
        name="shop", source="dbo.shop", key=key, features=["income", "orders"], k=3,
        target="dbo.labels", sample_weight="heavy", engine=engine,
    )  # fmt: skip
    assert pipeline.run(segmentation, database).arrived == 200
    done = pipeline.assign(segmentation, database)
    assert (done.arrived, done.moved, done.departed) == (0, 0, 0)
    assert labels_of(database, "dbo.labels", key)[key].to_pylist() == sorted(rows[key].to_pylist())


def shop_with(rows: pa.Table) -> Database:
    database = open_database("duckdb:///:memory:", create=True)
    database.create_table("dbo.points", rows, "id")
    return database


def points(kind: str, rows: int, seed: int) -> pa.Table:
    """Five groups in three dimensions: far apart, or in each other, of unequal sizes."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0, 0], [1, 1, 0], [-1, 1, 1], [0, -1, 1], [1, -1, -1]])
    group = rng.choice(5, size=rows, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    apart = {"separated": 12.0, "overlapping": 2.2}[kind]
    values = centres[group] * apart + rng.normal(size=(rows, 3))
    ids = rng.permutation(rows)
    return pa.table({"id": ids} | {f"x{j}": values[:, j] for j in range(3)})


def fit(database: Database, name: str, seed: int, **definition: Any) -> tuple[float, Any]:
    """Inertia and labels in key order."""
    segmentation = Segmentation.create(
        name=name, source="dbo.points", key="id", features=["x0", "x1", "x2"], k=5,
        target=f"dbo.{name}", seed=seed, **definition,
    )  # fmt: skip
    result = pipeline.run(segmentation, database)
    labels = labels_of(database, f"dbo.{name}", "id")["segment_id"]
    return result.inertia, labels.to_numpy()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["separated", "overlapping"])
def test_every_engine_finds_the_same_partition_whatever_the_seed(kind: str, seed: int) -> None:
    # Up to sample_rows the fit is scikit-learn's own, which ends a little earlier.
    names = ["local on a sample", "pushdown on a sample", "pushdown without rows"]
    with shop_with(points(kind, 4_000, seed)) as database:
        found = [fit(database, f"t{j}", seed, **WAYS[name]) for j, name in enumerate(names)]
    inertia, labels = found[0]
    for other, other_labels in found[1:]:
        assert other == pytest.approx(inertia, rel=1e-4)
        if kind == "separated":
            assert adjusted_rand_score(labels, other_labels) >= 0.999


class Heard(Progress):
    """Adds up what each step tells."""

    def __init__(self) -> None:
        super().__init__()
        self.done: dict[str, int] = {}

    @contextmanager
    def shown(self, name: str, total: int | None) -> Iterator[Advance]:
        def advance(done: int) -> None:
            self.done[name] = self.done.get(name, 0) + done

        yield advance


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_a_fit_tells_of_its_passes_over_all_rows(engine: str) -> None:
    heard = Heard()
    with shop_with(points("overlapping", 3000, 1)) as database:
        segmentation = Segmentation.create(
            name="points", source="dbo.points", key="id", features=["x0", "x1", "x2"], k=5,
            target="dbo.point_segment", engine=engine, sample_rows=1000,
        )  # fmt: skip
        result = pipeline.run(segmentation, database, heard)
    assert heard.done["read"] == 3000
    # The iterations of the best start on the sample are counted in n_iter as well.
    assert 0 < heard.done["fit"] < (result.n_iter or 0)


@pytest.mark.parametrize("name", MANY_STATEMENTS)
def test_the_result_does_not_depend_on_the_order_of_the_rows(name: str) -> None:
    rows = points("overlapping", 3_000, 1)
    found = []
    for order in (np.arange(3_000), np.random.default_rng(5).permutation(3_000)):
        with shop_with(rows.take(order)) as database:
            found.append(fit(database, "t", 0, **WAYS[name]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    assert (found[0][1] == found[1][1]).all()


BAD: dict[str, tuple[dict[str, Any], dict[str, list[Any]], str]] = {
    "missing": ({"missing": "error"}, {"b": [None, *range(199)]}, "1 row is NULL and missing"),
    "infinite": ({}, {"b": [float("inf"), *range(199)]}, "b: 1 row is infinite"),
    "no logarithm": (
        {"features": ["a", {"column": "b", "transform": "log1p"}]},
        {"b": [-1.0, -2.5, *range(198)]},
        "b: 2 rows are -1 or less",
    ),
    "constant": ({}, {"b": [5.0] * 200}, r"b: constant \(5 in all 200 rows\)"),
    "empty": ({"missing": "mean"}, {"b": [None] * 200}, "b: every value is NULL"),
    "almost empty": ({"missing": "mean"}, {"b": [1.0, 2.0] + [None] * 198}, "198 of 200 rows"),
    "like a key": ({}, {"b": list(range(200))}, "b: like a key"),
    "no quartiles": ({"scaling": "robust"}, {"b": [0.0] * 190 + [1.5] * 10}, "interquartile"),
    "winsorised away": (
        {"winsorize": [0.1, 0.9]}, {"b": [0.0] * 195 + [1.5] * 5}, "winsorize pulls every value"
    ),
    "huge": ({}, {"b": [1e300, -1e300] * 100}, 'scaling = "standard" cannot compute'),
    "both": ({}, {"a": [1.0] * 200, "b": [2.0] * 200}, "a: constant(.|\n)*b: constant"),
    "too few that differ": (
        {"k": 5}, {"a": [1.0, 2.0] * 100, "b": [1.0, 2.0] * 100}, "k = 5 needs at least 5"
    ),
    "repeated key": ({}, {"id": [1, 1, *range(2, 200)]}, "key id: not unique; 1 rows repeat"),
    "key NULL": ({}, {"id": [None, *range(1, 200)]}, "key id: 1 NULL"),
    "constant category": (
        {"features": ["a", {"column": "c", "type": "category"}]},
        {"c": ["x"] * 200}, r"c: constant \(x in all 200 rows\)",
    ),
    "category like a key": (
        {"features": ["a", {"column": "c", "type": "category"}]},
        {"c": [str(n) for n in range(200)]}, "c: like a key",
    ),
    "levels too long": (
        {"features": ["a", {"column": "c", "type": "category"}]},
        {"c": ["x" * 101, "y" * 101] * 100}, "and at most 100 characters",
    ),
    "negative weight": (
        {"sample_weight": "b"}, {"b": [-1.0] + [1.0] * 199}, "1 row is negative"
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("name", BAD)
def test_bad_rows_get_the_same_words_from_every_engine(name: str, engine: str) -> None:
    definition, columns, words = BAD[name]
    rng = np.random.default_rng(0)
    rows: dict[str, Any] = {
        "id": list(range(200)), "a": rng.normal(size=200), "b": rng.normal(size=200),
        "c": ["x", "y"] * 100, **columns,
    }  # fmt: skip
    values = {
        "name": "bad", "source": "dbo.points", "key": "id", "target": "dbo.bad", "k": 2,
        "features": ["a"] if "sample_weight" in definition else ["a", "b"], "engine": engine,
        **definition,
    }  # fmt: skip
    with open_database("duckdb:///:memory:", create=True) as database:
        native(database).execute("CREATE SCHEMA dbo")
        native(database).register("given", pa.table(rows))
        native(database).execute("CREATE TABLE dbo.points AS FROM given")
        with pytest.raises(DataError, match=words):
            pipeline.run(Segmentation.create(**values), database)
        assert database.describe_table("dbo.bad") is None


def test_nothing_stays_behind_in_the_database(
    run_engine: Callable[..., dict[str, Any]], database: Database
) -> None:
    run_engine("pushdown")
    with pytest.raises(DataError):
        run_engine("pushdown", missing="error")
    temporary = (
        native(database)
        .execute("SELECT table_name FROM duckdb_tables() WHERE temporary")
        .fetchall()
    )
    assert temporary == []


@pytest.mark.parametrize("name", MANY_STATEMENTS)
def test_a_second_run_and_assign_keep_the_segments(
    name: str, run_engine: Callable[..., dict[str, Any]], database: Database
) -> None:
    definition = dict(WAYS[name])
    engine = str(definition.pop("engine"))
    first = run_engine(engine, **definition)
    second = run_engine(engine, **definition)
    assert second["changed"] == 0
    assert first["labels"]["segment_id"].equals(second["labels"]["segment_id"])
    segmentation = Segmentation.from_json(
        str((database.catalog.segmentation(f"shop_{engine}") or {})["definition"])
    )
    native(database).execute("DELETE FROM dbo.shop WHERE customer_id % 7 = 0")
    assigned = pipeline.assign(segmentation, database)
    left = labels_of(database, f"dbo.shop_{engine}")
    assert assigned.changed == len(first["labels"]) - len(left)
    before = dict(zip(first["labels"]["customer_id"].to_pylist(),
                      first["labels"]["segment_id"].to_pylist()))  # fmt: skip
    after = zip(left["customer_id"].to_pylist(), left["segment_id"].to_pylist())
    assert all(before[key] == segment_id for key, segment_id in after)


def test_an_empty_cluster_moves_to_the_farthest_rows() -> None:
    values = np.concatenate([np.linspace(0, 1, 50), np.linspace(10, 11, 50), [40.0, 41.0]])
    rows = pa.table({"id": np.arange(102), "x": values})
    segmentation = Segmentation.create(
        name="t", source="dbo.points", key="id", features=["x"], k=3, target="dbo.t",
        engine="pushdown",
    )  # fmt: skip
    with shop_with(rows) as database, database.open_workspace(segmentation) as workspace:
        feature = PreparedFeature("x", "none", 1.0, 0.0, 1.0, None)
        start = np.array([[0.5], [20.0], [1e6]])
        kept = KeptRows(workspace, segmentation, ["x"])
        kept.take()
        centroids, *_ = lloyd(kept, [feature], start, 1e-12)
    np.testing.assert_allclose(np.sort(centroids[:, 0]), [0.5, 10.5, 40.5])


@pytest.mark.parametrize("at_a_time", [3, 1_000])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["cloud", "lattice", "outliers"])
def test_single_rows_move_by_queries_until_no_move_pays(
    kind: str, weighted: bool, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushdown_fit, "MOST_MOVING", at_a_time)
    rng = np.random.default_rng(10)
    values, weights = rng.normal(size=(150, 2)), rng.integers(0, 4, 150) / 2
    if kind == "lattice":
        values = np.round(values * 2)
    elif kind == "outliers":
        values[:3] = rng.normal(30, 10, (3, 2))
        weights[:3] = 1.0
    of_rows = weights if weighted else None
    start = np.unique(values[weights > 0], axis=0)[[0, 10, 20, -10, -1]]
    definition = {"sample_weight": "w"} if weighted else {}
    segmentation = Segmentation.create(
        name="t", source="dbo.points", key="id", features=["x", "y"], k=5, target="dbo.t",
        engine="pushdown", **definition,
    )  # fmt: skip
    features = [PreparedFeature(name, "none", 1.0, 0.0, 1.0, None) for name in ("x", "y")]
    table = pa.table({"id": np.arange(150), "x": values[:, 0], "y": values[:, 1], "w": weights})
    with shop_with(table) as database, database.open_workspace(segmentation) as workspace:
        kept = KeptRows(workspace, segmentation, ["x", "y"])
        kept.take()
        points = Points(values, of_rows, are_rows=True, everyone=False)
        found, passes = carry_on(kept, features, points, start)
    rested = rested_at(values, start, of_rows, max_iter=300, threshold=0.0)
    assert passes > rested.n_iter
    moved = settle(values, found, of_rows, max_iter=300)
    np.testing.assert_allclose(moved.centroids, found, rtol=0, atol=1e-9)
    total = assign(values, found, of_rows).inertia
    assert total < rested.assignment().inertia * (1 - 1e-6)


def test_where_no_row_may_move_the_centroids_stay() -> None:
    # SQL Server's answer without rows has no columns either.
    workspace = SimpleNamespace(matrix=lambda query: np.array([]))
    layout = make_layout(DuckDBDialect())
    rows = SimpleNamespace(layout=layout, workspace=workspace)
    features = [PreparedFeature(name, "none", 1.0, 0.0, 1.0, None) for name in ("income", "age")]
    centroids = np.array([[0.0, 0.0], [9.0, 9.0]])
    assert single_moves(rows, features, centroids, np.array([5.0, 5.0])) is None  # type: ignore[arg-type]


def test_scores_of_several_k_are_those_of_scikit_learn() -> None:
    table = points("overlapping", 2_000, 3)
    values = np.column_stack([table[f"x{j}"].to_numpy() for j in range(3)])
    segmentation = Segmentation.create(
        name="t", source="dbo.points", key="id", features=["x0", "x1", "x2"], k=3,
        target="dbo.t", engine="pushdown",
    )  # fmt: skip
    features = [PreparedFeature(f"x{j}", "none", 1.0, 0.0, 1.0, None) for j in range(3)]
    fits = [fit_kmeans(values, k, n_init=2) for k in (2, 3, 5)]
    with shop_with(table) as database, database.open_workspace(segmentation) as workspace:
        rows = KeptRows(workspace, segmentation, segmentation.columns)
        rows.take()
        total = total_ss(rows, features, ROWS)
        found = [score_partition(rows, features, fit.centroids, total) for fit in fits]
    for one, fitted in zip(found, fits):
        labels = fitted.assignment.labels
        means = np.array([values[labels == j].mean(axis=0) for j in range(one.k)])
        distances = np.sort(np.sqrt(squared_distances(values, fitted.centroids)), axis=1)
        assert one.inertia == pytest.approx(fitted.assignment.inertia)
        assert one.smallest_share == np.bincount(labels).min() / 2_000
        assert one.simplified_silhouette == pytest.approx(
            (1 - distances[:, 0] / distances[:, 1]).mean()
        )
        # scikit-learn measures to the means of the labels, from which centroids hardly differ.
        assert np.abs(means - fitted.centroids).max() < 0.02
        assert one.davies_bouldin == pytest.approx(davies_bouldin_score(values, labels), rel=0.02)
        assert one.calinski_harabasz == pytest.approx(
            calinski_harabasz_score(values, labels), rel=0.001
        )


@pytest.mark.parametrize("sample_rows", [100_000, 0])
def test_many_features_are_learnt_and_described_in_parts(
    sample_rows: int, run_engine: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = PREPARATIONS["everything"]
    whole = run_engine("pushdown", sample_rows=sample_rows, **definition)
    monkeypatch.setattr(pushdown_profile, "TOGETHER", 2)
    monkeypatch.setattr(pushdown_preparation, "TOGETHER", 2)
    in_parts = run_engine("pushdown", sample_rows=sample_rows, **definition)
    near(in_parts["segment_feature"], whole["segment_feature"])


def test_a_name_that_needs_quotes_and_a_key_of_two_columns() -> None:
    rng = np.random.default_rng(0)
    rows = pa.table({
        "shop id": ["a", "b"] * 100, 'nr "x"': np.repeat(np.arange(100), 2),
        "Größe in cm": rng.normal(size=200), "select": rng.normal(size=200),
    })  # fmt: skip
    found = []
    for engine in ENGINES:
        with open_database("duckdb:///:memory:", create=True) as database:
            native(database).execute("CREATE SCHEMA dbo")
            native(database).register("given", rows)
            native(database).execute('CREATE TABLE dbo."odd table" AS FROM given')
            segmentation = Segmentation.create(
                name="odd", source='SELECT * FROM dbo."odd table" -- all', engine=engine,
                key=["shop id", 'nr "x"'], features=["Größe in cm", "select"], k=3,
                target="dbo.[odd segments]",
            )  # fmt: skip
            pipeline.run(segmentation, database)
            found.append(native(database).execute(
                'SELECT * EXCLUDE (distance, assigned_at) FROM dbo."odd segments" ORDER BY ALL'
            ).fetchall())  # fmt: skip
    assert all(one == found[0] for one in found)
    assert len(found[0]) == 200


def test_an_error_while_it_trains_reaches_what_the_engine_opened(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database tells its errors in its own words where the session was opened."""
    seen: list[BaseException] = []
    real = database.open_workspace

    @contextmanager
    def telling(segmentation: Segmentation) -> Iterator[Any]:
        with real(segmentation) as workspace:
            try:
                yield workspace
            except ZeroDivisionError as error:
                seen.append(error)
                raise

    monkeypatch.setattr(database, "open_workspace", telling)
    database.create_table("dbo.shop", make_shop(), "customer_id")
    segmentation = Segmentation.create(
        name="telling", source="dbo.shop", key="customer_id", features=["income", "orders"], k=3,
        target="dbo.telling", engine="pushdown",
    )  # fmt: skip
    plan = Plan.of(segmentation)
    with pytest.raises(ZeroDivisionError), PushdownEngine().open(database, plan):
        raise ZeroDivisionError
    assert isinstance(seen[0], ZeroDivisionError)
