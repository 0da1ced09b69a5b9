"""Labels by the model: run, assign, predict and samples agree, on every database."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import Database
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError, DefinitionError
from sqlkmeans.model import SegmentModel
from sqlkmeans.pipeline import assign, run
from sqlkmeans.registry import load_model
from support.backends import Backend
from support.published import (
    SEGMENT,
    changed,
    labels,
    published,
)


def test_run_assign_and_predict_agree_on_every_customer(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    rng = np.random.default_rng(5)
    matrix = np.column_stack(
        [rng.lognormal(3, 2, 400), rng.integers(0, 9, 400), rng.normal(size=400)]
    )
    matrix[::37, 2] = np.nan
    rows = pa.table(
        {"customer_id": range(400), "spent": matrix[:, 0], "orders": matrix[:, 1],
         "trend": pa.array(matrix[:, 2], from_pandas=True)}
    )  # fmt: skip
    backend.make_table("dbo.customer", rows, "customer_id")
    segmentation = changed(
        customers,
        features=[
            {"column": "spent", "transform": "log1p"}, {"column": "orders", "weight": 2.5}, "trend",
        ],
        k=6, scaling="robust", missing="median",
    )  # fmt: skip
    run(segmentation, database)
    published_labels = labels(backend)
    model = load_model("customers", database)
    assert model is not None
    predicted = model.predict(matrix)
    assert published_labels == dict(enumerate(predicted.tolist()))
    assert SegmentModel.from_json(model.to_json()).predict(matrix).tolist() == predicted.tolist()
    again = assign(segmentation, database)
    assert (again.changed, again.written) == (0, 0)
    assert labels(backend) == published_labels


def test_assign_labels_new_changed_and_departed_customers_without_a_refit(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    first = run(customers, database)
    # 1 moves to the rich, 2 leaves, 500 arrives among the middle.
    shop.execute("UPDATE dbo.customer SET income = 161000, age = 61 WHERE customer_id = 1")
    shop.execute("DELETE FROM dbo.customer WHERE customer_id = 2")
    shop.execute("INSERT INTO dbo.customer (customer_id, income, age) VALUES (500, 91000, 44)")
    result = assign(customers, database)
    counts = (result.arrived, result.moved, result.departed, result.changed, result.written)
    assert counts == (1, 1, 1, 3, 3)
    assert result.kind == "assign"
    assert result.n_iter is None
    found = labels(shop)
    assert found[1] == 3
    assert found[500] == 2
    assert 2 not in found
    assert [s.centroid for s in result.segments] == [s.centroid for s in first.segments]
    assert [s.size for s in result.segments] == [58, 41, 21]
    assert shop.rows("SELECT active_run_id FROM sqlkmeans.segmentation") == [(first.run_id,)]


def test_assign_needs_a_model(shop: Backend, database: Database, customers: Segmentation) -> None:
    with pytest.raises(DataError, match="no model yet"):
        assign(customers, database)
    assert "customer_segment" not in shop.tables("dbo")


def test_assign_refuses_features_that_the_model_does_not_know(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    before = published(shop)
    with pytest.raises(DefinitionError, match="the features are not those of the stored model"):
        assign(changed(customers, features=["income"]), database)
    assert published(shop) == before


def test_a_customer_with_a_missing_value_leaves_at_assign_where_missing_is_skip(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    segmentation = changed(customers, missing="skip")
    run(segmentation, database)
    shop.execute("UPDATE dbo.customer SET age = NULL WHERE customer_id = 7")
    result = assign(segmentation, database)
    assert (result.rows, result.skipped, result.departed) == (119, 1, 1)
    assert 7 not in labels(shop)


def test_a_labelled_sample_is_of_labelled_customers_and_the_same_each_time(
    shop: Backend, database: Database, customers: Segmentation
) -> None:
    run(customers, database)
    sample = database.labels.sample(customers, ["income", "age"], 50)
    assert sample.num_rows == 50
    assert sample.column_names == ["income", "age", "segment_id"]
    assert sample.equals(database.labels.sample(customers, ["income", "age"], 50))
    by_label = {
        (income, age): label
        for income, age, label in shop.rows(
            "SELECT c.income, c.age, s.segment_id FROM dbo.customer AS c "
            f"JOIN {SEGMENT} AS s ON s.customer_id = c.customer_id"
        )
    }
    found = sample.to_pylist()
    assert all(by_label[row["income"], row["age"]] == row["segment_id"] for row in found)


def test_a_feature_may_be_called_as_a_column_of_labels(
    backend: Backend, database: Database, customers: Segmentation
) -> None:
    values = np.repeat([0.0, 5.0, 9.0], 40) + np.linspace(0, 1, 120)
    rows = pa.table({"customer_id": range(120), "distance": values, "run_id": -values})
    backend.make_table("dbo.customer", rows, "customer_id")
    segmentation = changed(customers, features=["distance", "run_id"])
    run(segmentation, database)
    sample = database.labels.sample(segmentation, ["distance", "run_id"], 50)
    assert sample.column_names == ["distance", "run_id", "segment_id"]
    assert set(sample["distance"].to_pylist()) <= set(values.tolist())


@pytest.mark.parametrize("sample_rows", [100_000, 0])
def test_training_in_the_database_publishes_what_training_here_does(
    shop: Backend, database: Database, customers: Segmentation, sample_rows: int
) -> None:
    here = run(customers, database)
    there = run(changed(customers, engine="pushdown", sample_rows=sample_rows), database)
    assert (there.engine, there.changed) == ("pushdown", 0)
    assert there.inertia == pytest.approx(here.inertia, rel=1e-6)
    for one, other in zip(here.segments, there.segments):
        assert other.size == one.size
        assert other.centroid == pytest.approx(one.centroid, rel=1e-6)
