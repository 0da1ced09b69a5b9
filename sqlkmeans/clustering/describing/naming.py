"""Names and one sentence for segments.

A name has the two features that set a segment apart most, from everyone and from the segment that
is most like it, and then a word more for each segment that it would not be told from. The server
does the same in ``sql/procedures/train_names.sql``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sqlkmeans.clustering.describing.numbers import brief_number
from sqlkmeans.clustering.describing.profile import FeatureProfile, SegmentProfile

# Differences from everyone's mean, in everyone's deviations, that earn a word.
NOTABLE, STRONG = 0.5, 1.5
#: So many features in a name; more only to tell segments apart, and then at most so many.
WORDS, MOST_WORDS = 2, 4
#: The longest name, with room for a number behind it.
MOST_LETTERS = 390
#: Shares of a segment that has a level, mostly has it, hardly ever has it.
NEARLY_ALL, MOSTLY, HARDLY_ANY = 0.95, 0.5, 0.05

#: Better words than high and low, by the first word of a column's name:
#: high, low, very high, very low.
_WORDS = {
    "age": ("older", "younger", "much older", "much younger"),
    "recency": ("lapsed", "recent", "long lapsed", "very recent"),
}

_NO_UNITS: Mapping[str, str] = {}

#: Levels of a boolean.
YES_NO = {"1": "yes", "0": "no"}


def name_segments(
    profiles: Sequence[SegmentProfile],
    kept: Sequence[str | None] | None = None,
    units: Mapping[str, str] = _NO_UNITS,
) -> list[tuple[str, str]]:
    """A name and a sentence for each segment.

    Parameters
    ----------
    profiles : sequence of SegmentProfile
        Everyone first, then the segments.
    kept : sequence of (str or None), optional
        For each segment, the name that it already has and keeps.
    units : mapping of str to str, optional
        By feature, what stands behind its means.

    Returns
    -------
    list of (name, description), one a segment
        Names differ from each other. A name is a handle that reports use, so a segment that
        has one keeps it; the description is made anew from this run's numbers.
    """
    everyone, segments = profiles[0], profiles[1:]
    names: list[str | None] = list(kept) if kept else [None] * len(segments)
    taken = {name for name in names if name}
    for index in range(len(segments)):
        if names[index] is None:
            names[index] = _unused(_candidates(index, segments, everyone, units), taken)
            taken.add(str(names[index]))
    return [
        (str(name), _sentence(segment, everyone, units)) for name, segment in zip(names, segments)
    ]


def describe_everyone(
    profile: SegmentProfile, units: Mapping[str, str] = _NO_UNITS
) -> tuple[str, str]:
    """Name and sentence of row 0."""
    means = ", ".join(
        _mean(name, f, profile, units) for name, f in profile.features.items() if _told(f, profile)
    )
    return "everyone", f"All {profile.size:,} customers; on average {means}."


def feature_titles(
    features: Iterable[Mapping[str, Any]], units: Mapping[str, str] = _NO_UNITS
) -> list[str]:
    """What people read for each feature: ``income (NOK)``, ``joined (days)``, ``city = Oslo``,
    ``member = yes``.

    Parameters
    ----------
    features : iterable of mapping
        Rows of ``model_feature``. A category whose levels are 1 and 0 is a boolean.
    units : mapping of str to str, optional
        By column.
    """
    features = list(features)
    levels: dict[str, set[str]] = {}
    for row in features:
        if row["level"] is not None:
            levels.setdefault(row["source_column"] or row["feature"], set()).add(row["level"])
    titles = []
    for row in features:
        column = row["source_column"] or row["feature"]
        title = str(row["feature"])
        if row["type"] == "date":
            title = f"{column} (days)"
        elif row["level"] is not None and levels[column] <= set(YES_NO):
            title = f"{column} = {YES_NO[row['level']]}"
        elif column in units:
            title = f"{column} ({units[column]})"
        titles.append(title)
    return titles


def one_row_each(features: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Rows of ``model_feature`` without the ``no`` of a boolean: its ``yes`` says the same."""
    features = list(features)
    levels: dict[str | None, list[str | None]] = {}
    for row in features:
        if row["type"] == "category":
            levels.setdefault(row["source_column"], []).append(row["level"])
    said = {
        column for column, of_column in levels.items() if sorted(map(str, of_column)) == ["0", "1"]
    }
    return [row for row in features if row["level"] != "0" or row["source_column"] not in said]


def is_share(feature: Mapping[str, Any], of_everyone: Mapping[str, Any] | None) -> bool:
    """Whether a feature's means are shares of the customers: of a level, or of 0 and 1.

    Parameters
    ----------
    feature : mapping
        A row of ``model_feature``.
    of_everyone : mapping or None
        The feature's row of ``segment_feature`` for everyone.
    """
    if feature["type"] == "category" or of_everyone is None:
        return bool(feature["type"] == "category")
    if (of_everyone["min"], of_everyone["max"]) != (0, 1):
        return False
    # Between 0 and 1, nothing spreads as much as what is either.
    mean, deviation = of_everyone["mean"], of_everyone["deviation"]
    return bool(abs(deviation**2 - mean * (1 - mean)) < 1e-9)


def _column(name: str, feature: FeatureProfile) -> str:
    return name if feature.level is None else feature.level[0]


def _ranked(
    segment: SegmentProfile, strengths: Mapping[str, float] | None = None
) -> list[tuple[str, FeatureProfile]]:
    """Features, the strongest first; of a category the strongest level, and rather one it has.

    Strengths are importances where none are given.
    """
    strengths = strengths or {name: abs(f.importance) for name, f in segment.features.items()}
    ranked: dict[str, tuple[str, FeatureProfile]] = {}
    for name, feature in sorted(
        segment.features.items(),
        key=lambda item: (-round(strengths[item[0]], 9), item[1].importance < 0),
    ):
        ranked.setdefault(_column(name, feature), (name, feature))
    return list(ranked.values())


def _gap(one: SegmentProfile, other: SegmentProfile, name: str) -> float:
    """How far two segments are apart in a feature, in everyone's deviations."""
    return abs(one.features[name].importance - other.features[name].importance)


def _apart(one: SegmentProfile, other: SegmentProfile) -> float:
    return round(sum(_gap(one, other, name) ** 2 for name in one.features), 9)


def _grade(feature: FeatureProfile) -> int:
    """From -2, very low, to 2, very high."""
    size = abs(feature.importance)
    return int(np.sign(feature.importance)) * ((size >= NOTABLE) + (size >= STRONG))


def _tells(one: SegmentProfile, other: SegmentProfile, name: str) -> bool:
    """Whether a feature's word is another one in the other segment, and not by a hair."""
    this, that = one.features[name], other.features[name]
    return _grade(this) != _grade(that) and round(_gap(one, other, name), 9) >= NOTABLE


def _telling(index: int, segments: Sequence[SegmentProfile], everyone: SegmentProfile) -> list[str]:
    """The features of a segment's name."""
    segment = segments[index]
    others = [other for place, other in enumerate(segments) if place != index]
    others.sort(key=lambda other: _apart(segment, other))
    strengths = {
        name: abs(feature.importance) + (_gap(segment, others[0], name) if others else 0.0)
        for name, feature in segment.features.items()
    }
    ranked = _ranked(segment, strengths)
    chosen = [name for name, feature in ranked if abs(feature.importance) >= NOTABLE][:WORDS]
    for other in others if chosen else []:
        if len(chosen) == MOST_WORDS or any(_tells(segment, other, name) for name in chosen):
            continue
        columns = {_column(name, segment.features[name]) for name in chosen}
        gaps = {name: _gap(segment, other, name) for name in segment.features}
        more = [
            name
            for name, feature in _ranked(segment, gaps)
            if _column(name, feature) not in columns
            and _tells(segment, other, name)
            # Of a level that is as frequent as in everyone there is nothing to say.
            and (_grade(feature) or _level(name, feature, everyone) is None)
        ]
        chosen += more[:1]
    return chosen


def _candidates(
    index: int,
    segments: Sequence[SegmentProfile],
    everyone: SegmentProfile,
    units: Mapping[str, str],
) -> Iterator[str]:
    """Names from short to long: a longer one tells apart two segments that share the short one."""
    segment = segments[index]
    chosen = _telling(index, segments, everyone)
    words = {name: _word(name, segment.features[name], everyone) for name in chosen}
    yield _joined(words.values()) or "average"
    ranked = _ranked(segment)
    columns = {_column(name, segment.features[name]) for name in chosen}
    longer = list(words.values())
    for name, feature in ranked:
        if _column(name, feature) not in columns and abs(feature.importance) >= NOTABLE:
            longer.append(_word(name, feature, everyone))
            yield _joined(longer)
    for name, feature in ranked:
        if most := _superlative(name, feature, segment, segments, everyone):
            yield _joined([most, *(word for other, word in words.items() if other != name)])
    yield _joined(_mean(name, f, everyone, units) for name, f in ranked[:WORDS])


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)[:MOST_LETTERS]


def _superlative(
    name: str, feature: FeatureProfile, segment: SegmentProfile,
    segments: Sequence[SegmentProfile], everyone: SegmentProfile,
) -> str | None:  # fmt: skip
    """``highest income`` where no other segment has as much."""
    if feature.type != "number" or _level(name, feature, everyone) is not None:
        return None
    plain = name.replace("_", " ")
    rest = [other.features[name].importance for other in segments if other is not segment]
    if all(feature.importance > importance for importance in rest):
        return f"highest {plain}"
    return f"lowest {plain}" if all(feature.importance < other for other in rest) else None


def _unused(candidates: Iterable[str], taken: set[str]) -> str:
    last = ""
    for last in candidates:
        if last not in taken:
            return last
    number = 2
    while f"{last} ({number})" in taken:
        number += 1
    return f"{last} ({number})"


def _level(
    name: str, feature: FeatureProfile, everyone: SegmentProfile
) -> tuple[str, str, float, float] | None:
    """Column, level, share and importance of a category, or of a number that is 0 or 1.

    Levels that are 1 and 0 are yes and no.
    """
    if feature.level is not None:
        column, level = feature.level
        all_levels = {
            f.level[1] for f in everyone.features.values() if f.level and f.level[0] == column
        }
        level = YES_NO[level] if all_levels <= set(YES_NO) else level
        return column, level, feature.mean or 0.0, feature.importance
    if feature.type != "number" or not is_share(
        {"type": "number"}, asdict(everyone.features[name])
    ):
        return None
    share = feature.mean or 0.0
    if feature.importance < 0:
        return name, "no", 1 - share, -feature.importance
    return name, "yes", share, feature.importance


def _word(name: str, feature: FeatureProfile, everyone: SegmentProfile) -> str:
    if (level := _level(name, feature, everyone)) is not None:
        return _level_word(*level)
    if feature.type == "date":
        return _mean(name.replace("_", " "), feature, everyone, _NO_UNITS)
    plain, grade = name.replace("_", " "), _grade(feature)
    if grade == 0:
        return f"medium {plain}"
    usual = [f"{much} {plain}" for much in ("high", "low", "very high", "very low")]
    words = _WORDS.get(plain.lower().split(" ")[0], usual)
    return words[2 * (abs(grade) == 2) + (grade < 0)]


def _level_word(column: str, level: str, share: float, importance: float) -> str:
    often = "more often" if importance > 0 else "less often"
    if importance > 0 and share >= NEARLY_ALL:
        return f"{column.replace('_', ' ')}: {level}"
    if importance > 0 and share >= MOSTLY:
        often = "mostly"
    elif importance <= 0 and share < HARDLY_ANY:
        often = "hardly ever"
    return f"{column.replace('_', ' ')} {often} {level}"


def _mean(
    name: str, feature: FeatureProfile, everyone: SegmentProfile, units: Mapping[str, str]
) -> str:
    if feature.type == "date":
        mean = feature.mean
        if mean is not None and mean < 0:
            return f"{name} in {_number(-mean)} days"
        return f"{name} {_number(mean)} days ago"
    if feature.level is None:
        return " ".join([name, _number(feature.mean), *filter(None, [units.get(name)])])
    level = _level(name, feature, everyone)
    assert level is not None
    return f"{level[0]} is {level[1]} for {_share(feature.mean)}"


def _told(feature: FeatureProfile, profile: SegmentProfile) -> bool:
    """Of a category, its most frequent level alone."""
    if feature.level is None:
        return True
    column = feature.level[0]
    of_column = [f for f in profile.features.values() if f.level and f.level[0] == column]
    return feature is max(of_column, key=lambda f: f.mean or 0.0)


def _against(
    name: str, segment: FeatureProfile, everyone: SegmentProfile, units: Mapping[str, str]
) -> str:
    mean = everyone.features[name].mean
    of_all = _number(mean) if segment.level is None else _share(mean)
    return f"{_mean(name, segment, everyone, units)} against {of_all}"


def _sentence(segment: SegmentProfile, everyone: SegmentProfile, units: Mapping[str, str]) -> str:
    notable = [item for item in _ranked(segment) if abs(item[1].importance) >= NOTABLE]
    if not notable:
        return "Near everyone's average in every feature."
    told = notable[: WORDS + 1]
    parts = [_against(name, feature, everyone, units) for name, feature in told]
    averaged = any(feature.level is None for _, feature in told)
    return f"{'; '.join(parts)}{' on average' if averaged else ''}."


def _number(value: float | None) -> str:
    return "unknown" if value is None else brief_number(value)


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}".replace("%", " %")
