"""Every statement that trains in a database, for a layout with every kind of feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.describing.rules import MAX_DEPTH, Interval
from sqlkmeans.clustering.preparation.preparation import PreparedFeature
from sqlkmeans.database.dialect import Dialect
from sqlkmeans.database.sqlserver.dialect import SQLServerDialect
from sqlkmeans.engines.pushdown.sql import description as training_description
from sqlkmeans.engines.pushdown.sql import profile as training_profile
from sqlkmeans.engines.pushdown.sql import starts as training_seeds
from sqlkmeans.engines.pushdown.sql import statistics as training_statistics
from sqlkmeans.engines.pushdown.sql import training
from sqlkmeans.engines.pushdown.sql.training import Layout

OLD, NEW = SQLServerDialect(), SQLServerDialect(least=True)
ROWSTORE = SQLServerDialect(least=True, columnstore=False)
DIALECTS = {"2016": OLD, "2022": NEW, "rowstore": ROWSTORE}
CENTROIDS = np.random.default_rng(0).normal(size=(4, 5))
FEATURES = [
    PreparedFeature("income", "log1p", 2.0, 1.5, 0.5, 3.25),
    PreparedFeature("age", "none", 1.0, 40.0, 12.0, None, low=18.0, high=90.0),
    PreparedFeature("city", "none", 1.0, 0.2, 0.7, None, "category", "O'Hara"),
    PreparedFeature("city", "none", 1.0, 0.8, 0.7, None, "category", None),
    PreparedFeature("joined", "none", 1.0, 900.0, 100.0, None, "date", reference_date="2026-01-31"),
]


def make_layout(dialect: Dialect, at_least: int = 1, weighted: bool = False) -> Layout:
    number = dialect.float_type
    return Layout(
        dialect, ("bigint", "nvarchar(40) COLLATE Latin1_General_CI_AS"),
        ("income", "age", "city", "joined"),
        (number, number, "nvarchar(101) COLLATE DATABASE_DEFAULT", "date"),
        weighted, at_least,
    )  # fmt: skip


def statements(
    layout: Layout,
    features: Sequence[PreparedFeature] = FEATURES,
    centroids: npt.NDArray[np.float64] = CENTROIDS,
    category: str = "city",
) -> Iterator[str]:
    """Every statement of a run; the first two features are numbers."""
    origin = centroids[0]
    numbers = [feature for feature in features if feature.type == "number"]
    levels = [feature for feature in features if feature.column == category]
    columns = ["[id]", "[shop]", *(f"CAST([{name}] AS float)" for name in layout.columns),
               *["[w]"] * layout.weighted]  # fmt: skip
    yield from training.take_rows(layout, "[dbo].[customer] AS source", columns)
    yield training_statistics.key_query(layout)
    yield training_statistics.check_query(layout, [feature.column for feature in numbers])
    for fitted in (False, True):
        yield training_statistics.count_query(layout, fitted=fitted)
    yield training_statistics.skip_rows(layout)
    yield training_statistics.range_query(layout, numbers)
    yield training_statistics.moment_query(layout, features)
    yield training_statistics.extreme_query(layout, features)
    yield training_statistics.distinct_query(layout, numbers)
    yield training_statistics.level_query(layout, category, 20, 100)
    yield training_statistics.level_summary_query(layout, category)
    yield training_statistics.lacking_query(layout, category)
    for transformed in (False, True):
        yield training_statistics.quantile_query(layout, numbers[0], 0.25, transformed=transformed)
    if layout.weighted:
        yield training_statistics.weighted_quantile_query(layout, numbers[0], 0.25)
    layout, made = training.keep_prepared(layout, features)
    yield from made
    for share in (0.02, 1.0):
        yield training_seeds.sample_query(layout, features, 1000, share, 7)
        yield from training_seeds.first_cell(layout, features, 1000, share, 7)
    yield training_seeds.some_distinct_query(layout, features, 5)
    yield from training_seeds.split_cells(layout, features, 0)
    yield training_seeds.cell_query(layout, features, 1)
    yield training.pass_query(layout, features, centroids, origin)
    yield training.pass_statement(layout, features, centroids, origin)
    yield training.far_query(layout, features, centroids, 10)
    if layout.at_least == 1:
        weights = np.arange(1.0, len(centroids) + 1)
        yield training.moving_query(layout, features, centroids, weights, 1_000)
    yield from training.label_rows(layout, features, centroids)
    yield training.staged_query(layout, ["customer ]id", "shop"], range(len(centroids))[::-1])
    yield training_profile.size_query(layout)
    yield training_profile.spread_query(layout, features)
    yield training_profile.mean_query(layout, features)
    for by_cluster in (False, True):
        yield training_profile.profile_query(layout, features, origin, by_cluster=by_cluster)
        yield training_statistics.quantile_query(
            layout, numbers[0], 0.5, table=training.LABELLED, by_cluster=by_cluster
        )
    for table in (training.ROWS, training.LABELLED):
        yield training_profile.silhouette_query(layout, features, centroids, table)
    yield training_seeds.sample_query(layout, features, 1000, 0.02, 7, table=training.LABELLED)
    for edges in ([], [18.5], [18.0, 1e-7, 65.0]):
        yield training_description.range_count_query(layout, numbers[1], edges)
    yield training_description.level_count_query(layout, levels)
    yield training_description.group_query(layout, numbers[0], 20)
    rule = {position: Interval(3.5, inf) for position in range(len(features))[:MAX_DEPTH]}
    rules = {0: {0: Interval(18.0, 1e22)}, **dict.fromkeys(range(1, len(centroids)), rule)}
    yield training_description.rule_query(layout, features, rules)
    yield training_description.typical_query(layout, 3)
    yield training.drop(layout, training.ROWS)
