"""Numbers in words, axes, the flow's layout, colours that can be seen."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.report.flow import flow_picture
from sqlkmeans.report.marks import COLOURS, marks
from sqlkmeans.report.scales import Axis, decimals_for, number, percent, signed


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, None, "–"),
        (0, None, "0"),
        (23570, None, "23,570"),
        (1234567.8, None, "1,234,568"),
        (0.41234, None, "0.412"),
        (-3.5, 1, "−3.5"),
        (2.96, 1, "3.0"),
        (0.129, 0, "0.13"),
        (-0.0, 2, "0.00"),
        (0.0, 2, "0.00"),
        (4.2e-9, None, "0.00000000420"),
    ],
)
def test_numbers_are_written_for_people(
    value: float | None, decimals: int | None, text: str
) -> None:
    assert number(value, decimals) == text


def test_differences_and_shares_have_their_sign_and_unit() -> None:
    assert [signed(v) for v in (1.234, -0.5, 0.0, None)] == ["+1.23", "−0.50", "0.00", "–"]
    assert [percent(v) for v in (0.3862, 1.0, None)] == ["38.6 %", "100.0 %", "–"]


def test_the_numbers_of_one_feature_have_the_same_decimals() -> None:
    assert [decimals_for(values) for values in ([0.5, 12.0], [3.0], [367.0], [0.02], [])] == [
        1, 2, 0, 4, 0,
    ]  # fmt: skip


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.sampled_from(["none", "log1p"]))
def test_ticks_lie_on_the_axis_from_left_to_right(low: float, span: float, transform: str) -> None:
    low = max(low, 0.0) if transform == "log1p" else low
    ticks = Axis("x", low, low + span, transform).ticks()
    places = [tick.at for tick in ticks]
    assert 1 <= len(ticks) <= 12
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def test_a_logarithmic_axis_has_round_numbers() -> None:
    assert [tick.label for tick in Axis("x", 0, 5000, "log1p").ticks()] == [
        "0", "1", "10", "100", "1,000",
    ]  # fmt: skip
    assert [tick.label for tick in Axis("x", -2.4, 9.9).ticks()] == ["0", "5"]


def test_a_constant_stands_in_the_middle_and_a_missing_value_nowhere() -> None:
    places = Axis("x", 3, 3).places(np.array([3.0, np.nan]))
    assert places[0] == 0.5
    assert np.isnan(places[1])


def test_each_of_the_first_64_segments_looks_different() -> None:
    made = marks([{"segment_id": i, "name": str(i)} for i in range(1, 65)])
    assert len({(mark.colour, mark.shape) for mark in made.values()}) == 64


flows = st.dictionaries(
    st.tuples(st.none() | st.integers(1, 12), st.none() | st.integers(1, 12)).filter(
        lambda way: way != (None, None)
    ),
    st.integers(1, 100_000),
    min_size=1,
)


@given(flows)
def test_the_flow_keeps_every_customer_and_its_columns_do_not_overlap(
    ways: dict[tuple[int | None, int | None], int],
) -> None:
    given_flows = [(start, end, customers) for (start, end), customers in ways.items()]
    picture = flow_picture(given_flows)
    total = sum(ways.values())
    for nodes in (picture.before, picture.after):
        assert sum(node.customers for node in nodes) == total
        assert all(a.y + a.height < b.y for a, b in pairwise(nodes))
        assert nodes[-1].y + nodes[-1].height < picture.height
    moved = sum(n for (start, end), n in ways.items() if start != end)
    assert picture.moved_customers == moved
    assert picture.listed_customers <= moved


# Colours


def palette(theme: int) -> dict[str, str]:
    """The style sheet's colours: light is 0, dark is 1."""
    css = resources.files("sqlkmeans.report").joinpath("templates", "report.css").read_text("utf-8")
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    return {name: pair[theme] for name, *pair in found}


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_can_be_read_in_both_themes(theme: int) -> None:
    colours = palette(theme)
    assert contrast(colours["ink"], colours["page"]) >= 7
    assert contrast(colours["ink"], colours["panel"]) >= 7
    assert contrast(colours["soft"], colours["page"]) >= 4.5
    for index in range(COLOURS):
        mark = colours[f"c{index}"]
        # WCAG 2.2: 4.5 for the number in a badge, 3 for a graphic on the page.
        assert contrast(mark, colours["on-mark"]) >= 4.5, index
        assert contrast(mark, colours["page"]) >= 3, index
    assert contrast(colours["soft"], colours["on-mark"]) >= 4.5
