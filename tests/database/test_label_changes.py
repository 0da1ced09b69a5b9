"""The difference between two labellings, against one worked out row by row."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.database import label_changes
from sqlkmeans.database.label_changes import LabelChanges

Labels = dict[Any, tuple[int, float]]


def compare(
    new: Labels, published: Labels, batch: int = 3, names: tuple[str, ...] = ("id",)
) -> Any:
    """Give both sides to the comparison in their dictionaries' order."""

    def table(keys: list[Any]) -> pa.Table:
        rows = [key if isinstance(key, tuple) else (key,) for key in keys]
        columns = list(zip(*rows)) or [()] * len(names)
        first = next(iter({**new, **published}), 0)
        kinds = [
            pa.array([value]).type for value in (first if isinstance(first, tuple) else (first,))
        ]
        return pa.table([pa.array(c, kind) for c, kind in zip(columns, kinds)], names=list(names))

    changes = LabelChanges(
        table(list(new)),
        np.array([cluster for cluster, _ in new.values()], dtype=np.int32),
        np.array([distance for _, distance in new.values()]),
    )
    keys = list(published)
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        changes.add(
            table(part).to_batches()[0],
            np.array([published[key][0] for key in part], dtype=np.int32),
            np.array([published[key][1] for key in part]),
            np.array([published[key][2:] == (True,) for key in part], dtype=np.bool_),
        )
    changes.finish()
    return changes


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them also where there are few labels."""
    monkeypatch.setattr(label_changes, "_CHUNK", 4)


def staged(rows: pa.Table, names: tuple[str, ...] = ("id",)) -> dict[Any, Any]:
    """Key to (cluster, distance), or to None for who departed."""
    found = {}
    for row in rows.to_pylist():
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        assert key not in found
        found[key] = None if row["departed"] else (row["cluster"], row["distance"])
    return found


LABEL = st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0]))
PUBLISHED = st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
LIMITS = st.sampled_from([{}, {1: 0.7, 2: 0.2}, {1: 0.2, 2: 2.0, 7: 0.7}])
KEYS = {
    "numbers": (st.integers(-50, 50), ("id",)),
    "texts": (st.text("ab", max_size=6), ("id",)),
    "two columns": (st.tuples(st.integers(0, 6), st.text("ab", max_size=2)), ("a", "b")),
}


@pytest.mark.parametrize("kind", list(KEYS))
@given(data=st.data())
def test_what_is_staged_turns_the_published_labels_into_the_new_ones(
    kind: str, data: st.DataObject
) -> None:
    key, names = KEYS[kind]
    new = data.draw(st.dictionaries(key, LABEL, min_size=1, max_size=40))
    published = data.draw(st.dictionaries(key, PUBLISHED, max_size=40))
    if data.draw(st.booleans()):  # in key order, as a database gives them
        new, published = dict(sorted(new.items())), dict(sorted(published.items()))
    segment_ids = data.draw(st.permutations([1, 2, 7]))
    tolerance, limits = data.draw(st.sampled_from([0.0, 0.6])), data.draw(LIMITS)

    changes = compare(new, published, names=names)
    rows, changes_only = changes.to_stage(segment_ids, tolerance, limits)

    shared = Counter((published[k][0], new[k][0]) for k in new if k in published)
    assert changes.overlap() == [(*pair, n) for pair, n in sorted(shared.items())]
    wanted = {
        k: (cluster, distance)
        for k, (cluster, distance) in new.items()
        if k not in published
        or published[k][0] != segment_ids[cluster]
        or abs(published[k][1] - distance) > tolerance
        # Who is an outlier now and was none, or whose old distance would say otherwise.
        or published[k][2] != (far := distance > limits.get(segment_ids[cluster], 9))
        or far != (published[k][1] > limits.get(segment_ids[cluster], 9))
    }
    departed = {k: None for k in published if k not in new}
    assert changes_only == (len(wanted) + len(departed) <= 0.2 * len(new))
    assert staged(rows, names) == (wanted | departed if changes_only else new)


def test_the_same_labels_again_stage_nothing() -> None:
    labels = {key: (key % 3, key / 7) for key in range(1000)}
    published = {key: (cluster + 1, distance) for key, (cluster, distance) in labels.items()}
    rows, changes_only = compare(labels, published, batch=64).to_stage([1, 2, 3], 0.0, {})
    assert changes_only
    assert rows.num_rows == 0


def test_customers_far_from_where_they_were_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind many new customers, or in an order that this process does not know."""
    monkeypatch.setattr(label_changes, "_SLACK", 4)
    old = dict.fromkeys(range(1000), (1, 0.0))
    new = dict.fromkeys([*range(-100, 0), *range(999, -1, -1)], (0, 0.0))
    rows, changes_only = compare(new, old, batch=32).to_stage([1], 0.0, {})
    assert changes_only
    assert staged(rows) == dict.fromkeys(range(-100, 0), (0, 0.0))


def test_keys_beyond_the_precision_of_a_float_are_told_apart() -> None:
    old = {2**53 + i: (1, 0.0) for i in range(100)}
    new = {2**53 + i: (0, 0.0) for i in range(1, 101)}
    rows, _ = compare(new, old).to_stage([1], 0.0, {})
    assert staged(rows) == {2**53: None, 2**53 + 100: (0, 0.0)}
