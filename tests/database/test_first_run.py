"""What the first run publishes, on every database."""

from __future__ import annotations

import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.pipeline import run
from support.backends import Backend
from support.published import (
    SEGMENT,
    labels,
    names,
    sizes,
)


def test_the_first_run_makes_the_segment_table_with_the_documented_columns(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    columns = [column.name for column in database.describe(SEGMENT)]
    assert columns == [
        "customer_id", "segment_id", "distance", "is_outlier", "run_id", "assigned_at"
    ]  # fmt: skip


def test_the_view_beside_the_target_adds_the_name(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    columns = [column.name for column in database.describe(f"{SEGMENT}_named")]
    assert columns == [
        "customer_id", "segment_id", "distance", "is_outlier", "run_id", "assigned_at",
        "segment_name",
    ]  # fmt: skip
    assert names(shop) == {s.segment_id: s.name for s in result.segments}
    assert shop.rows(f"SELECT COUNT(*) FROM {SEGMENT}_named") == [(120,)]


def test_the_history_has_the_documented_columns_and_one_open_row_a_customer(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    columns = [column.name for column in database.describe(f"{SEGMENT}_history")]
    documented = ["customer_id", "segment_id", "is_outlier", "valid_from", "valid_to", "run_id"]
    assert [column for column in columns if column in documented] == documented
    history = shop.rows(
        f"SELECT customer_id, segment_id FROM {SEGMENT}_history WHERE valid_to IS NULL"
    )
    assert sorted(history) == sorted(labels(shop).items())


def test_segment_ids_of_the_first_run_start_at_1_largest_first(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    assert [(s.segment_id, s.size) for s in result.segments] == [(1, 60), (2, 40), (3, 20)]
    assert sizes(shop) == {1: 60, 2: 40, 3: 20}


def test_a_run_tells_what_the_tables_hold(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    row = shop.rows(
        'SELECT run_id, segmentation, kind, status, engine, k, "rows", skipped, changed, arrived, '
        "moved, departed, written, inertia, n_iter, silhouette, davies_bouldin, calinski_harabasz, "
        "error FROM sqlkmeans.run"
    )
    assert row == [
        (
            result.run_id, "customers", "fit", "published", "local", 3, 120, 0, 120, 120, 0, 0, 120,
            result.inertia, result.n_iter, *result.scores.values(), None,
        )
    ]  # fmt: skip
    assert list(result.scores) == ["silhouette", "davies_bouldin", "calinski_harabasz"]
    centroids = shop.rows("SELECT segment_id, feature, value FROM sqlkmeans.centroid")
    assert {(s, f): v for s, f, v in centroids} == {
        (s.segment_id, name): value for s in result.segments for name, value in s.centroid.items()
    }
    assert shop.rows("SELECT active_run_id, last_segment_id FROM sqlkmeans.segmentation") == [
        (result.run_id, 3)
    ]


def test_a_run_records_its_times_and_its_versions(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    [(started, at, finished, version, libraries, client)] = shop.rows(
        "SELECT started_at, published_at, finished_at, sqlkmeans_version, library_versions, client "
        "FROM sqlkmeans.run"
    )
    assert started <= at <= finished
    assert version
    assert "scikit-learn" in libraries
    assert "@" in client


def test_the_distance_is_that_to_the_own_centroid_in_the_scaled_space(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    squares = [d * d for (d,) in shop.rows(f"SELECT distance FROM {SEGMENT}")]
    assert sum(squares) == pytest.approx(result.inertia, rel=1e-9)


def test_row_0_of_the_segments_is_everyone(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    result = run(customers, database)
    assert shop.rows("SELECT name, size, share FROM sqlkmeans.segment WHERE segment_id = 0") == [
        ("everyone", 120, 1.0)
    ]
    [(total,)] = shop.rows("SELECT SUM(within_ss) FROM sqlkmeans.segment WHERE segment_id > 0")
    assert total == pytest.approx(result.inertia)
    expected = shop.rows("SELECT AVG(income), MIN(income), MAX(income) FROM dbo.customer")[0]
    found = shop.rows(
        'SELECT mean, "min", "max", missing FROM sqlkmeans.segment_feature '
        "WHERE segment_id = 0 AND feature = 'income'"
    )[0]
    assert found[:3] == pytest.approx(expected)
    assert found[3] == 0


def test_the_target_has_the_key_as_primary_key(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    with pytest.raises(shop.error):
        shop.execute(f"INSERT INTO {SEGMENT} SELECT * FROM {SEGMENT} WHERE customer_id = 1")
    assert len(labels(shop)) == 120
