"""Names tell segments apart and stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.describing.naming import describe_everyone, name_segments
from sqlkmeans.clustering.describing.profile import FeatureProfile, SegmentProfile


def profile(size: int = 100, **importance: float) -> SegmentProfile:
    """A segment whose means lie so many deviations from everyone's 100."""
    return SegmentProfile(
        size, 0.5, 1.0,
        {
            name: FeatureProfile(100 + 10 * value, 10.0, 0.0, 100.0, 200.0, 0, value)
            for name, value in importance.items()
        },
    )  # fmt: skip


EVERYONE = profile(income=0.0, age=0.0)


def test_a_name_says_in_plain_words_what_sets_a_segment_apart() -> None:
    segments = [
        profile(income=2.0, age=-0.7),
        profile(income=-0.6, age=0.1),
        profile(income=0.1, age=1.9),
        profile(income=0.2, age=-0.2),
    ]
    names = [name for name, _ in name_segments([EVERYONE, *segments])]
    assert names == ["very high income, younger", "low income", "much older", "average"]


def test_the_description_compares_with_everyone() -> None:
    [(_, description)] = name_segments([EVERYONE, profile(income=2.0, age=0.1)])
    assert description == "income 120 against 100 on average."
    [(_, flat)] = name_segments([EVERYONE, profile(income=0.1, age=0.1)])
    assert flat == "Near everyone's average in every feature."


def test_a_unit_stands_behind_a_mean() -> None:
    segments = [EVERYONE, profile(income=2.0, age=0.1)]
    [(_, description)] = name_segments(segments, units={"income": "NOK"})
    assert description == "income 120 NOK against 100 on average."
    assert describe_everyone(EVERYONE, {"age": "years"})[1].endswith("income 100, age 100 years.")


def test_underscores_of_a_column_do_not_show_in_a_name() -> None:
    everyone = profile(number_of_orders=0.0)
    [(name, _)] = name_segments([everyone, profile(number_of_orders=1.0)])
    assert name == "high number of orders"


def test_equal_segments_get_different_names() -> None:
    names = [name for name, _ in name_segments([EVERYONE, *[profile(income=1.0, age=0.0)] * 4])]
    assert len(set(names)) == 4


def test_a_kept_name_stays_and_is_not_given_twice() -> None:
    same = profile(income=1.0, age=0.0)
    names = name_segments([EVERYONE, same, same, same], [None, "high income", "VIP"])
    assert [name for name, _ in names][1:] == ["high income", "VIP"]
    assert names[0][0] not in ("high income", "VIP")


def test_everyone_is_described_by_its_means() -> None:
    assert describe_everyone(profile(size=12_345, income=0.0)) == (
        "everyone", "All 12,345 customers; on average income 100.",
    )  # fmt: skip


deviations = st.floats(-3, 3) | st.sampled_from([0.0, 0.5, -0.5, 1.5])


@given(
    st.lists(st.tuples(deviations, deviations), min_size=1, max_size=12),
    st.data(),
)
def test_names_are_never_empty_and_never_the_same(
    importances: list[tuple[float, float]], data: st.DataObject
) -> None:
    segments = [profile(income=a, age=b) for a, b in importances]
    kept = data.draw(
        st.lists(
            st.none() | st.sampled_from(["VIP", "high income", "average", "older"]),
            min_size=len(segments), max_size=len(segments),
            unique_by=lambda name: name or object(),
        )
    )  # fmt: skip
    names = [name for name, _ in name_segments([EVERYONE, *segments], kept)]
    assert all(names)
    assert len(set(names)) == len(names)
    assert all(was is None or was == now for was, now in zip(kept, names))


def test_a_name_tells_a_segment_from_the_one_that_is_most_like_it() -> None:
    everyone = profile(income=0.0, age=0.0, orders=0.0)
    segments = [
        profile(income=1.2, age=0.1, orders=0.2),
        profile(income=1.1, age=0.2, orders=1.4),
        profile(income=-1.0, age=0.0, orders=-0.8),
        profile(income=-1.1, age=-0.9, orders=-0.8),
    ]
    assert [name for name, _ in name_segments([everyone, *segments])] == [
        "high income, medium orders", "high orders, high income",
        "low income, low orders, medium age", "younger, low income",
    ]  # fmt: skip


def test_only_what_is_average_in_everything_is_called_average() -> None:
    segments = [profile(income=0.4, age=-0.4), profile(income=0.4, age=-0.6)]
    assert [name for name, _ in name_segments([EVERYONE, *segments])] == ["average", "younger"]


def test_segments_of_the_same_words_are_told_by_the_highest_and_the_lowest() -> None:
    segments = [profile(income=0.6), profile(income=0.9), profile(income=0.7)]
    names = [name for name, _ in name_segments([profile(income=0.0), *segments])]
    assert names == ["high income", "highest income", "income 107"]


def test_a_name_has_room_in_its_column() -> None:
    wide = {f"{'column ' * 20}{i}": 1.0 for i in range(4)}
    [(name, _)] = name_segments([profile(**dict.fromkeys(wide, 0.0)), profile(**wide)])
    assert len(name) <= 390


# Categories and dates


def level(name: str, share: float, importance: float) -> FeatureProfile:
    return FeatureProfile(
        share, 0.4, 0.0, 0.0, 1.0, 0, importance, type="category", level=("home_city", name)
    )


def mixed(oslo: float, bergen: float, days: float, *importance: float) -> SegmentProfile:
    date = FeatureProfile(days, 9.0, 0.0, days, 99.0, 0, importance[2], type="date")
    features = {
        "home_city = Oslo": level("Oslo", oslo, importance[0]),
        "home_city = Bergen": level("Bergen", bergen, importance[1]),
        "last_order": date,
    }
    return SegmentProfile(10, 0.5, 1.0, features)


def test_categories_and_dates_are_told_in_words_that_read_well() -> None:
    everyone = mixed(0.2, 0.8, 300, 0, 0, 0)
    segments = [
        mixed(0.62, 0.38, 295, 1.05, -1.05, 0.0),
        mixed(0.35, 0.65, 30, 0.6, -0.5, -2.0),
        mixed(0.0, 1.0, 320, -0.9, 0.8, 0.6),
        mixed(0.2, 0.8, 300, 0.0, 0.0, 0.0),
    ]
    assert name_segments([everyone, *segments]) == [
        (
            "home city mostly Oslo, last order 295 days ago",
            "home_city is Oslo for 62 % against 20 %.",
        ),
        (
            "last order 30 days ago, home city more often Oslo",
            "last_order 30 days ago against 300; home_city is Oslo for 35 % against 20 % "
            "on average.",
        ),
        (
            "home city hardly ever Oslo, last order 320 days ago",
            "home_city is Oslo for 0 % against 20 %; last_order 320 days ago against 300 "
            "on average.",
        ),
        ("average", "Near everyone's average in every feature."),
    ]
    assert describe_everyone(everyone)[1] == (
        "All 10 customers; on average home_city is Bergen for 80 %, last_order 300 days ago."
    )


def test_of_two_levels_that_say_the_same_the_one_that_customers_have_is_told() -> None:
    everyone = mixed(0.3, 0.7, 300, 0, 0, 0)
    few = mixed(0.9, 0.1, 300, 1.3, -1.3, 0.0)
    many = mixed(0.1, 0.9, 300, -1.3, 1.3, 0.0)
    names = [name for name, _ in name_segments([everyone, few, many])]
    assert names == ["home city mostly Oslo", "home city mostly Bergen"]


def share(mean: float, of_all: float) -> FeatureProfile:
    """Of a number that is 0 or 1."""
    deviation = (of_all * (1 - of_all)) ** 0.5
    own = (mean * (1 - mean)) ** 0.5
    return FeatureProfile(mean, own, 0.0, round(mean), 1.0, 0, (mean - of_all) / deviation)


def answers(newsletter: float, member: float) -> SegmentProfile:
    """A number of 0 and 1, and a category of 0 and 1."""
    of_all = 0.4
    by = (member - of_all) / (of_all * (1 - of_all)) ** 0.5
    levels = {
        f"member = {text}": FeatureProfile(
            mean, 0.4, 0.0, 0.0, 1.0, 0, importance, type="category", level=("member", text)
        )
        for text, mean, importance in (("1", member, by), ("0", 1 - member, -by))
    }
    return SegmentProfile(10, 0.5, 1.0, {"newsletter": share(newsletter, of_all), **levels})


def test_yes_and_no_are_said_in_the_words_of_the_column() -> None:
    everyone = answers(0.4, 0.4)
    segments = [
        answers(0.0, 0.4), answers(0.9, 0.4), answers(0.4, 1.0), answers(0.4, 0.02),
        answers(0.12, 0.4),
    ]  # fmt: skip
    names = [name for name, _ in name_segments([everyone, *segments])]
    assert names == [
        "newsletter: no", "newsletter mostly yes", "member: yes", "member: no",
        "newsletter mostly no",
    ]  # fmt: skip
    assert name_segments([everyone, segments[2]])[0][1] == "member is yes for 100 % against 40 %."
