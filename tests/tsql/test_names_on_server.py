"""The server's own training names segments as Python does, whatever they look like."""

from __future__ import annotations

import numpy as np
import pytest

from sqlkmeans.clustering.describing.naming import describe_everyone, name_segments
from sqlkmeans.clustering.describing.profile import FeatureProfile, SegmentProfile
from sqlkmeans.database.sqlserver.dialect import TSQL
from support.tsql_files import read
from support.tsql_server import Server

pytestmark = pytest.mark.sqlserver

#: Column, type and level of each feature; "flag" is a number of 0 and 1.
FEATURES = [
    ("income", "number", None), ("age_of_account", "number", None), ("recency", "number", None),
    ("flag", "number", None), ("member", "category", "0"), ("member", "category", "1"),
    ("home_city", "category", "Oslo"), ("home_city", "category", "Bergen"),
    ("home_city", "category", None), ("joined", "date", None),
]  # fmt: skip


def random_profiles(seed: int) -> list[SegmentProfile]:
    """Everyone and two to nine segments, of which some are much alike."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 10))
    used = rng.random(len(FEATURES)) < rng.choice([0.3, 0.6, 1.0])
    used[rng.integers(4)] = True
    if seed % 4 < 2:  # the same words for many
        used[:] = False
        used[[0, 1]] = True, bool(seed % 8)
    used[5] = used[4]
    used[7:9] = used[6]
    found: list[dict[str, FeatureProfile]] = [{} for _ in range(k + 1)]
    city = rng.dirichlet([1, 1, 1], k)
    member = np.round(rng.choice([0.0, 0.02, 0.3, 0.7, 1.0], k), 2)
    for (column, kind, level), is_used in zip(FEATURES, used):
        if not is_used:
            continue
        mean, deviation, low, high = 100.0, 20.0, 3.0, 250.0
        means = mean + deviation * rng.choice([-2.0, -1.1, -0.7, -0.2, 0.0, 0.3, 0.6, 1.6], k)
        if seed % 2:
            means = means + rng.normal(0, 0.3, k)
        if column == "flag":
            mean, means = 0.4, np.round(rng.choice([0.0, 0.1, 0.4, 0.8, 1.0], k), 2)
        elif column == "member":
            means = member if level == "1" else 1 - member
            mean = 0.4 if level == "1" else 0.6
        elif column == "home_city":
            mean = 1 / 3
            means = city[:, ["Oslo", "Bergen", None].index(level)]
        if column in ("flag", "member", "home_city"):
            deviation, low, high = (mean * (1 - mean)) ** 0.5, 0.0, 1.0
        name = column if kind != "category" else f"{column} = {level or '(other)'}"
        shown = (column, level or "other") if kind == "category" else None
        for index, value in enumerate([mean, *means.tolist()]):
            found[index][name] = FeatureProfile(
                value, deviation, low, value, high, 0, (value - mean) / deviation, kind, shown
            )
    sizes = sorted(rng.integers(5, 500, k).tolist(), reverse=True)
    return [
        SegmentProfile(size, size / sum(sizes), 1.0, features)
        for size, features in zip([sum(sizes), *sizes], found)
    ]


def named_on_server(server: Server, profiles: list[SegmentProfile]) -> list[tuple[str, str]]:
    procedure = read("procedures/label_rows.sql")
    columns = {(f"{c} = {lv or '(other)'}" if t == "category" else c): (c, t, lv)
               for c, t, lv in FEATURES}  # fmt: skip
    rows, features = [], []
    for index, profile in enumerate(profiles):
        for position, (name, f) in enumerate(profile.features.items(), start=1):
            rows.append(f"({index}, {position}, 1, {f.mean!r}, {f.deviation!r}, {f.min!r}, "
                        f"{f.median!r}, {f.max!r}, {f.importance!r})")  # fmt: skip
            if index == 0:
                column, kind, level = columns[name]
                shown = "NULL" if level is None else TSQL.literal(level)
                features.append(f"(7, {position}, N'', N'none', 1, 0, 1, {TSQL.literal(column)}, "
                                f"{TSQL.literal(kind)}, {shown})")  # fmt: skip
    clusters = [f"({i}, {i}, {p.size}, 1, 1, 1, 1)" for i, p in enumerate(profiles) if i]
    made = [
        procedure[start : procedure.index(");", start) + 2]
        for table in ("cluster", "profile", "named")
        for start in [procedure.index(f"CREATE TABLE #sqlkmeans_{table}\n")]
    ]
    found = server.rows(
        "SET NOCOUNT ON; DELETE FROM sqlkmeans.model_feature; INSERT INTO sqlkmeans.model_feature "
        "(run_id, position, feature, transform, weight, center, scale, source_column, type, level) "
        f"VALUES {', '.join(features)};\n{' '.join(made)}\n"
        "INSERT INTO #sqlkmeans_cluster (cluster, segment_id, size, within_ss, inertia, weight, "
        f"distance) VALUES {', '.join(clusters)}; INSERT INTO #sqlkmeans_profile VALUES "
        f"{', '.join(rows)}; EXECUTE sqlkmeans.train_names @run_id = 7, @active = 0, "
        "@segmentation = N'none'; SELECT n.name, n.description FROM #sqlkmeans_named AS n "
        "ORDER BY n.segment_id; DROP TABLE #sqlkmeans_cluster, #sqlkmeans_profile, "
        "#sqlkmeans_named;"
    )
    return [(name, description) for name, description in found]


@pytest.mark.parametrize("seed", range(25))
def test_the_server_names_segments_as_python_does(server: Server, seed: int) -> None:
    profiles = random_profiles(seed)
    assert named_on_server(server, profiles) == [
        describe_everyone(profiles[0]), *name_segments(profiles)
    ]  # fmt: skip
