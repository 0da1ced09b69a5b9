"""Names and one sentence for segments, from what sets each apart from everyone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlkmeans.clustering.profile import FeatureProfile, SegmentProfile

# Differences from everyone's mean, in everyone's deviations, that earn a word.
NOTABLE, STRONG = 0.5, 1.5
#: At most this many features in a name.
WORDS = 2

#: Better words than high and low, by the first word of a column's name:
#: high, low, very high, very low.
_WORDS = {
    "age": ("older", "younger", "much older", "much younger"),
    "recency": ("lapsed", "recent", "long lapsed", "very recent"),
}


def name_segments(
    profiles: Sequence[SegmentProfile], kept: Sequence[str | None] | None = None
) -> list[tuple[str, str]]:
    """A name and a sentence for each segment.

    Parameters
    ----------
    profiles : sequence of SegmentProfile
        Everyone first, then the segments.
    kept : sequence of (str or None), optional
        For each segment, the name that it already has and keeps.

    Returns
    -------
    list of (name, description), one a segment
        Names differ from each other. A name is a handle that reports use, so a segment that
        has one keeps it; the description is made anew from this run's numbers.
    """
    everyone, segments = profiles[0], profiles[1:]
    names: list[str | None] = list(kept) if kept else [None] * len(segments)
    taken = {name for name in names if name}
    for index, segment in enumerate(segments):
        if names[index] is None:
            names[index] = _unused(_candidates(segment), taken)
            taken.add(str(names[index]))
    return [(str(name), _sentence(segment, everyone)) for name, segment in zip(names, segments)]


def describe_everyone(profile: SegmentProfile) -> tuple[str, str]:
    """Name and sentence of row 0."""
    means = ", ".join(f"{name} {_number(f.mean)}" for name, f in profile.features.items())
    return "everyone", f"All {profile.size:,} customers; on average {means}."


def _ranked(segment: SegmentProfile) -> list[tuple[str, FeatureProfile]]:
    return sorted(segment.features.items(), key=lambda item: -abs(item[1].importance))


def _candidates(segment: SegmentProfile) -> Iterator[str]:
    """Names from short to long: a longer one tells apart two segments that share the short one."""
    ranked = _ranked(segment)
    notable = [(name, f) for name, f in ranked if abs(f.importance) >= NOTABLE]
    for count in range(min(WORDS, len(notable)), len(notable) + 1):
        yield ", ".join(_word(name, f.importance) for name, f in notable[:count]) or "average"
    yield ", ".join(f"{name} {_number(f.mean)}" for name, f in ranked[:WORDS])


def _unused(candidates: Iterable[str], taken: set[str]) -> str:
    last = ""
    for last in candidates:
        if last not in taken:
            return last
    number = 2
    while f"{last} ({number})" in taken:
        number += 1
    return f"{last} ({number})"


def _word(name: str, importance: float) -> str:
    plain = name.replace("_", " ")
    usual = (f"high {plain}", f"low {plain}", f"very high {plain}", f"very low {plain}")
    words = _WORDS.get(plain.lower().split(" ")[0], usual)
    return words[2 * (abs(importance) >= STRONG) + (importance < 0)]


def _sentence(segment: SegmentProfile, everyone: SegmentProfile) -> str:
    notable = [item for item in _ranked(segment) if abs(item[1].importance) >= NOTABLE]
    if not notable:
        return "Near everyone's average in every feature."
    parts = [
        f"{name} {_number(f.mean)} against {_number(everyone.features[name].mean)}"
        for name, f in notable[: WORDS + 1]
    ]
    return f"{'; '.join(parts)} on average."


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
