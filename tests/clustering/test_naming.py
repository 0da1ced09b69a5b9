"""Names tell segments apart and stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.clustering.naming import describe_everyone, name_segments
from sqlkmeans.clustering.profile import FeatureProfile, SegmentProfile


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
