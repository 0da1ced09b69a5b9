"""Learns the preparation from aggregates, as `clustering.preparation.learning` does from rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

from sqlkmeans.clustering.preparation import categories, problems
from sqlkmeans.clustering.preparation.learning import repeated_names
from sqlkmeans.clustering.preparation.preparation import Feature, Preparation, PreparedFeature
from sqlkmeans.engines.pushdown.quantiles import quantiles
from sqlkmeans.engines.pushdown.rows import KeptRows
from sqlkmeans.engines.pushdown.sql import statistics
from sqlkmeans.errors import DataError

#: Features whose facts one query tells: five columns each, and SQL Server's have 4,096 at most.
TOGETHER = 800


@dataclass
class _Checked:
    """What a first look at all rows has found, by column; -1 for too few to tell how many."""

    absent: dict[str, int]
    infinite: dict[str, int]


def fit_preparation(
    rows: KeptRows, features: Sequence[Feature], *, scaling: str, missing: str, reference_date: str
) -> Preparation:
    """Learn centres, scales and fill values; see `clustering.fitting.fit_preparation`.

    With ``missing="skip"`` the rows that have a missing value are left out from now on.

    Raises
    ------
    DataError
        With all problems of all columns.
    """
    checked = _check(rows, features)
    found = _weight_problems(rows)
    if rows.layout.weighted and not found:
        rows.recount()
    if missing == "skip":
        _skip(rows, checked, [f.column for f in features])
        checked = _check(rows, features)
    usable: list[Feature] = []
    for feature in features:
        of_column = _column_problems(rows, feature, checked, missing)
        found += of_column
        if not of_column:
            usable.append(feature)
    prepared: dict[str, list[PreparedFeature]] = {}
    for feature in usable:
        if feature.type == "category":
            try:
                prepared[feature.column] = _fit_category(rows, feature, scaling, missing)
            except DataError as error:
                found += error.problems
    numbers = [feature for feature in usable if feature.type != "category"]
    if numbers:
        try:
            fitted = _fit_numbers(rows, numbers, scaling, missing, reference_date)
            prepared |= {feature.column: [feature] for feature in fitted}
        except DataError as error:
            found += error.problems
    result = [one for feature in features for one in prepared.get(feature.column, [])]
    found += repeated_names(result)
    if found:
        raise DataError(found)
    return Preparation(tuple(result), scaling, missing)


def check_preparation(rows: KeptRows, preparation: Preparation) -> None:
    """Check that rows can be prepared as an earlier run did, and leave out those to skip.

    Raises
    ------
    DataError
        With all problems of all columns.
    """
    features = [Feature(column, type=kind) for column, kind in preparation.types.items()]
    checked = _check(rows, features)
    found = _weight_problems(rows)
    for column in preparation.columns:
        count = checked.absent[column]
        found += problems.counted_value_problems(checked.infinite.get(column, 0), 0, column)
        if preparation.missing == "error":
            found += problems.counted_missing_problems(count, column)
    logarithmic = [f for f in preparation.features if f.transform == "log1p"]
    if logarithmic and not found:
        known = [replace(feature, fill=None) for feature in logarithmic]
        ranges = _ranges(rows, known, fitted=False)
        for feature, (_, _, _, outside, _) in zip(logarithmic, ranges):
            found += problems.counted_value_problems(0, int(outside or 0), feature.column)
    if found:
        raise DataError(found)
    if preparation.missing == "skip":
        _skip(rows, checked, preparation.columns)


def _ranges(
    rows: KeptRows, features: Sequence[PreparedFeature], *, fitted: bool = True
) -> list[Sequence[float | None]]:
    """Of each feature, the five facts of :func:`.range_query`."""
    found: list[Sequence[float | None]] = []
    for start in range(0, len(features), TOGETHER):
        part = features[start : start + TOGETHER]
        found += _parts(rows.one(statistics.range_query(rows.layout, part, fitted=fitted)), 5)
    return found


def _parts(facts: Sequence[float | None], size: int) -> list[Sequence[float | None]]:
    return [facts[start : start + size] for start in range(0, len(facts), size)]


def _check(rows: KeptRows, features: Sequence[Feature]) -> _Checked:
    columns = list(rows.layout.columns)
    numbers = [feature.column for feature in features if feature.type == "number"]
    facts = rows.one(statistics.check_query(rows.layout, numbers))
    return _Checked(
        dict(zip(columns, (int(value) for value in facts))),
        dict(zip(numbers, (int(value or 0) for value in facts[len(columns) :]))),
    )


def _weight_problems(rows: KeptRows) -> list[str]:
    if not rows.layout.weighted:
        return []
    facts = rows.one(statistics.check_query(rows.layout, []))
    return problems.counted_weight_problems(*(int(value or 0) for value in facts[-4:]))


def _skip(rows: KeptRows, checked: _Checked, columns: Sequence[str]) -> None:
    if not any(checked.absent.values()):
        return
    rows.execute([statistics.skip_rows(rows.layout)])
    before = rows.count
    enough = rows.layout.at_least
    rows.skipped_missing = {column: n for column, n in checked.absent.items() if n >= enough}
    rows.recount()
    if not rows.count:
        raise DataError(
            f'missing = "skip" leaves no row: each of the {before:,} rows has a NULL in '
            f"{', '.join(columns)}"
        )


def _column_problems(
    rows: KeptRows, feature: Feature, checked: _Checked, missing: str
) -> list[str]:
    name, absent = feature.column, checked.absent[feature.column]
    known = rows.count - max(absent, 0)
    found = problems.counted_value_problems(checked.infinite.get(name, 0), 0, name)
    if missing == "error":
        found += problems.counted_missing_problems(absent, name)
    else:
        found += problems.counted_almost_missing_problems(absent, rows.count, name)
    if not found and not known:
        found.append(problems.empty(name))
    if not found and known < rows.layout.at_least:
        found.append(
            f"{name}: fewer customers than min_group = {rows.layout.at_least} have a value, and "
            "sample_rows = 0 lets nothing about them leave the database; remove it from features"
        )
    return found


def _fit_category(
    rows: KeptRows, feature: Feature, scaling: str, missing: str
) -> list[PreparedFeature]:
    name, layout = feature.column, rows.layout
    total, n_levels = rows.one(statistics.level_summary_query(layout, name))
    query = statistics.level_query(
        layout, name, feature.max_categories, categories.MAX_LEVEL_LENGTH
    )
    levels, customers = statistics.levels_of(layout, rows.ask(query))
    known = int(rows.ask(statistics.level_summary_query(layout, name))[0][0])
    if n_levels == 1:
        raise DataError(categories.constant_level(name, next(iter(levels), "hidden"), known))
    if categories.is_key_like(int(n_levels), known):
        raise DataError(categories.key_like_levels(name, int(n_levels), known))
    lacking = float(rows.one(statistics.lacking_query(layout, name))[0] or 0)
    while True:
        found = categories.category_features(
            feature, levels, scaling, missing,
            n_levels=int(n_levels), total=float(total), lacking=lacking,
        )  # fmt: skip
        named = [one.level for one in found if one.level is not None]
        rest = known - sum(customers[level] for level in named)
        if not 0 < rest < layout.at_least:
            return found
        # The rest is about too few customers alone: the rarest level joins it.
        del levels[named[-1]]


def _fit_numbers(
    rows: KeptRows, features: Sequence[Feature], scaling: str, missing: str, reference_date: str
) -> list[PreparedFeature]:
    own = [
        PreparedFeature(
            f.column, "none", 1.0, 0.0, 1.0, None, f.type,
            reference_date=reference_date if f.type == "date" else None,
        )
        for f in features
    ]  # fmt: skip
    raw = _ranges(rows, own)
    own = [_winsorized(rows, f, given) for f, given in zip(own, features)]
    within = raw
    if any(f.low is not None for f in own):
        within = _ranges(rows, own)
    found = []
    for given, before, after in zip(features, raw, within):
        found += _number_problems(rows, given, before, after)
    if found:
        raise DataError(found)
    own = [
        replace(f, fill=_fill(rows, f, before[0], missing), transform=given.transform)
        for f, given, before in zip(own, features, raw)
    ]
    scales = _centers_and_scales(rows, own, scaling)
    prepared = []
    for f, given, facts, (center, scale) in zip(own, features, within, scales):
        limits = (
            "its values are of a size"
            if facts[1] is None
            else (f"from {problems.plain(facts[1])} to {problems.plain(float(facts[2] or 0))}")
        )
        found += problems.scale_problems(center, scale, given.column, scaling, limits)
        prepared.append(replace(f, weight=float(given.weight), center=center, scale=scale))
    if found:
        raise DataError(found)
    return prepared


def _winsorized(rows: KeptRows, own: PreparedFeature, given: Feature) -> PreparedFeature:
    if given.winsorize is None:
        return own
    low, high = (_quantile(rows, own, share) for share in given.winsorize)
    return replace(own, low=low, high=high)


def _quantile(rows: KeptRows, feature: PreparedFeature, share: float) -> float:
    """Of the transformed values, which a feature without fill, centre and scale leaves as is."""
    if rows.layout.weighted:
        return float(rows.one(statistics.weighted_quantile_query(rows.layout, feature, share))[1])
    [found] = quantiles(rows, [(feature, share)], transformed=True)
    if not found:
        raise rows.too_few()
    return found[0]


def _number_problems(
    rows: KeptRows,
    given: Feature,
    raw: Sequence[float | None],
    within: Sequence[float | None],
) -> list[str]:
    """``raw`` and ``within`` are mean, least, greatest, -1 or less, and whether like a key."""
    name = given.column
    outside = int(within[3] or 0) if given.transform == "log1p" else 0
    found = problems.counted_value_problems(0, outside, name)
    if found:
        return found
    if within[1] is not None and within[1] == within[2]:
        winsorized = raw[1] != raw[2] or raw[1] is None
        return [problems.constant(name, within[1], rows.count, winsorized=winsorized)]
    if given.type == "number" and raw[4] and rows.count >= problems.KEY_LIKE_ROWS:
        feature = PreparedFeature(name, "none", 1.0, 0.0, 1.0, None)
        customers, distinct = rows.ask(statistics.distinct_query(rows.layout, [feature]))[0]
        if customers == distinct:
            return [problems.key_like(name, int(customers))]
    return []


def _fill(rows: KeptRows, own: PreparedFeature, mean: float | None, missing: str) -> float | None:
    if missing == "mean":
        return mean
    if missing == "median":
        return _quantile(rows, replace(own, low=None, high=None), 0.5)
    return None


def _centers_and_scales(
    rows: KeptRows, features: Sequence[PreparedFeature], scaling: str
) -> list[tuple[float, float]]:
    """Of transformed values, filled in and pulled in: what K-Means will see."""
    layout = rows.layout
    if scaling == "robust":
        quantiles = [
            [_quantile(rows, feature, share) for share in (0.25, 0.5, 0.75)] for feature in features
        ]
        return [(middle, high - low) for low, middle, high in quantiles]
    if scaling == "minmax":
        facts = rows.one(statistics.extreme_query(layout, features))
        return [(float(low), float(high - low)) for low, high in zip(facts[::2], facts[1::2])]
    if scaling == "none":
        return [(0.0, 1.0)] * len(features)
    means = rows.one(statistics.moment_query(layout, features))[::2]
    # The mean square about the mean: the difference of two large squares would have no digits.
    centred = [replace(f, center=float(mean)) for f, mean in zip(features, means)]
    facts = rows.one(statistics.moment_query(layout, centred))
    return [
        (float(mean) + float(rest), sqrt(max(float(square) - float(rest) ** 2, 0.0)))
        for mean, rest, square in zip(means, facts[::2], facts[1::2])
    ]
