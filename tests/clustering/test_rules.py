"""Rules in the columns' own units, and the customers that are typical."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.numbers import short_number
from sqlkmeans.clustering.describing.rules import Rule, find_rules
from sqlkmeans.clustering.describing.typical import typical_rows
from sqlkmeans.clustering.kmeans.assignment import Assignment
from sqlkmeans.clustering.preparation.learning import fit_preparation
from sqlkmeans.clustering.preparation.preparation import (
    Feature,
    Preparation,
    PreparedFeature,
)


def _rules(
    raw: np.ndarray, labels: np.ndarray, features: list[Feature], k: int, scaling: str = "standard"
) -> list[Rule | None]:
    matrix = raw.astype(np.float64).copy()
    preparation = fit_preparation(matrix, features, scaling=scaling, missing="error")
    matrix, _ = preparation.prepare(matrix)
    return find_rules(matrix, preparation, labels.astype(np.int32), k)


def _meets(text: str, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Read a rule as people do."""
    meets = np.ones(len(next(iter(columns.values()))), dtype=bool)
    for part in text.replace(",", "").split(" and "):
        if between := re.fullmatch(r"(\S+) < (\w+) <= (\S+)", part):
            low, name, high = between.groups()
            meets &= (columns[name] > float(low)) & (columns[name] <= float(high))
        else:
            name, sign, bound = part.split(" ")
            column, value = columns[name], float(bound)
            meets &= {"<=": column <= value, ">": column > value, "=": column == value}[sign]
    return meets


def test_a_rule_says_what_parts_the_segments_in_short_numbers() -> None:
    rng = np.random.default_rng(0)
    income = 1000 * np.concatenate([rng.integers(20, 60, 500), rng.integers(81, 200, 500)])
    age = rng.integers(18, 80, 1000)
    labels = np.where(income > 70_000, np.where(age <= 45, 1, 2), 0)
    rules = _rules(np.column_stack([income, age]), labels, [Feature("income"), Feature("age")], 3)
    found = [set(rule.text.split(" and ")) for rule in rules if rule]
    assert found == [
        {"income <= 70,000"}, {"income > 70,000", "age <= 45"}, {"income > 70,000", "age > 45"},
    ]  # fmt: skip
    assert [(rule.precision, rule.coverage) for rule in rules if rule] == [(1.0, 1.0)] * 3


@pytest.mark.parametrize("n_rows", [300, 60_000])
@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_precision_and_coverage_are_those_of_the_written_rule_over_all_rows(
    n_rows: int, transform: str
) -> None:
    rng = np.random.default_rng(1)
    columns = {"a": rng.normal(50, 20, n_rows).round(3) + 200, "b": rng.integers(0, 40, n_rows)}
    labels = (columns["a"] > 250).astype(int) + (columns["b"] > 20)
    labels = np.where(rng.random(n_rows) < 0.1, 0, labels)
    features = [Feature("a"), Feature("b", transform)]
    rules = _rules(np.column_stack(list(columns.values())), labels, features, 3)
    for cluster, rule in enumerate(rules):
        assert rule is not None
        meets, members = _meets(rule.text, columns), labels == cluster
        assert rule.precision == pytest.approx((meets & members).sum() / meets.sum())
        assert rule.coverage == pytest.approx((meets & members).sum() / members.sum())


def test_a_yes_or_no_column_is_written_with_an_equals_sign() -> None:
    raw = np.array([[0.0], [1.0]] * 20)
    rules = _rules(raw, raw[:, 0], [Feature("newsletter")], 2)
    assert [rule.text for rule in rules if rule] == ["newsletter = 0", "newsletter = 1"]


def test_levels_of_a_category_and_ages_of_a_date_have_words_of_their_own() -> None:
    rng = np.random.default_rng(2)
    oslo, days = rng.integers(0, 2, 400).astype(float), np.arange(166.0, 566.0)
    preparation = Preparation(
        (
            PreparedFeature("city", "none", 1.0, 0.5, 0.5, None, "category", "Oslo"),
            PreparedFeature("signed_up", "none", 1.0, 500.0, 300.0, None, "date",
                            reference_date="2026-01-01"),
        ),
        "standard", "error",
    )  # fmt: skip
    matrix = np.column_stack([(oslo - 0.5) / 0.5, (days - 500) / 300])
    labels = np.where(oslo == 1, 0, np.where(days <= 365, 1, 2)).astype(np.int32)
    texts = [rule.text for rule in find_rules(matrix, preparation, labels, 3) if rule]
    assert texts[0] == "city is Oslo"
    assert set(texts[1].split(" and ")) == {"city is not Oslo", "age of signed_up <= 365 days"}
    assert set(texts[2].split(" and ")) == {"city is not Oslo", "age of signed_up > 365 days"}


def test_conditions_on_one_column_become_one_interval() -> None:
    value = np.arange(300) + 0.5
    labels = ((value > 100) & (value < 200)).astype(int)
    rules = _rules(value[:, None], labels, [Feature("x")], 2)
    assert rules[1] is not None
    assert rules[1].text == "100 < x <= 200"


def test_segments_that_no_condition_tells_apart_have_no_rule() -> None:
    preparation = Preparation((PreparedFeature("x", "none", 1.0, 0.0, 1.0, None),), "none", "error")
    assert find_rules(np.zeros((4, 1)), preparation, np.array([0, 0, 1, 1]), 2) == [None, None]


@given(
    value=st.floats(-1e9, 1e9),
    sample=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50),
)
def test_a_short_number_parts_the_sample_as_the_long_one_does(
    value: float, sample: list[float]
) -> None:
    ordered = np.sort(np.array(sample))
    short = short_number(value, ordered)
    assert ((ordered <= short) == (ordered <= value)).all()


def test_a_short_number_of_a_year_keeps_its_digits() -> None:
    years = np.sort(np.random.default_rng(0).integers(1940, 2005, 5000).astype(float))
    assert short_number(1987.5, years) == 1987


def test_typical_rows_are_the_nearest_and_of_equals_the_first() -> None:
    labels = np.array([0, 1, 0, 0, 1, 0, 0], dtype=np.int32)
    squares = np.array([4.0, 9.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    found = typical_rows(Assignment(labels, squares), 2)
    assert [rows.tolist() for rows in found] == [[2, 3, 5], [4, 1]]
