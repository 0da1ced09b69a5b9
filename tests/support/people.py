"""Customers with everything that preparation has to deal with, and a model for them."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from support.tsql_server import Server

REFERENCE = datetime.date(2026, 1, 1)
CITIES = ["Oslo", "oslo", "Oslo ", "São Paulo", "Sao Paulo", "it's", "it''s", "", "ＯＳＬＯ", None,
          "Bergen", "Oslo."]  # fmt: skip
LEVELS = ["Oslo", "São Paulo", "it's"]
PLANS = [1, 2, 10, None]
JOINED = ["2025-12-31T23:59:59", "2026-01-01T00:00:00", "2024-02-29T12:00:00", None,
          "2031-05-05T00:00:00", "1990-01-01T00:00:00", "2020-06-30T06:00:00"]  # fmt: skip


def feature(name: str, column: str, **values: Any) -> dict[str, Any]:
    return {
        "feature": name, "source_column": column, "type": "number", "transform": "none",
        "weight": 1.0, "center": 0.25, "scale": 0.8, "fill": None, "level": None, "low": None,
        "high": None, "reference_date": None, **values,
    }  # fmt: skip


FEATURES = [
    feature("income", "income", transform="log1p", weight=2.0, center=10.5, scale=0.75,
            fill=1e9, low=1000.0, high=200_000.0),
    *(feature(f"home city = {level}", "home city", type="category", level=level, fill=fill)
      for level, fill in zip(LEVELS, (0.0, 1.0, 0.0))),
    feature("home city = (other)", "home city", type="category", fill=0.0),
    feature("joined", "joined", type="date", reference_date="2026-01-01", transform="log1p",
            fill=700.0, low=0.0, high=4000.0, center=6.0, scale=2.0),
    feature("plan_code = 1", "plan_code", type="category", level="1", fill=1.0, weight=3.0),
    feature("plan_code = (other)", "plan_code", type="category", fill=0.0, weight=3.0),
]  # fmt: skip
CENTROIDS = np.random.default_rng(7).normal(size=(4, len(FEATURES)))

DEFINE = """EXECUTE sqlkmeans.define_segmentation @segmentation = N'people',
@source = N'dbo.person', @key = N'person_id', @k_min = 3, @k_max = 6,
@target = N'dbo.person_segment', @missing = N'median', @winsorize = N'[0.01, 0.99]',
@sample_weight = N'orders', @min_share = 0.05, @guard = N'{"action": "refuse", "psi": 0.4}',
@features = N'[{"column": "income", "transform": "log1p", "weight": 2, "winsorize": [0, 0.95],
"unit": "1 000 \\u20ac"},
{"column": "home city", "type": "category", "min_frequency": 0.05, "max_categories": 3},
{"column": "joined", "type": "date", "transform": "log1p"},
{"column": "plan_code", "type": "category", "weight": 3}]';"""


def make_people(server: Server) -> list[tuple[Any, ...]]:
    """Every combination of what is awkward."""
    rng = np.random.default_rng(3)
    rows: list[tuple[Any, ...]] = []
    for city in CITIES:
        for joined in JOINED:
            income = [None, -5.0, 0.0, 1e7, *rng.uniform(500, 250_000, 3)][len(rows) % 7]
            plan = PLANS[len(rows) // 3 % len(PLANS)]
            rows.append((len(rows) + 1, income, city, joined, plan, len(rows) % 5))
    server.rows(
        "CREATE TABLE dbo.person (person_id bigint NOT NULL PRIMARY KEY, income float NULL, "
        "[home city] nvarchar(max) NULL, joined datetime2(3) NULL, plan_code int NULL, "
        "orders int NOT NULL);"
    )
    for row in rows:
        server.rows("INSERT INTO dbo.person VALUES (?, ?, ?, CAST(? AS datetime2(3)), ?, ?);",
                    *row)  # fmt: skip
    return rows


def own_values(row: tuple[Any, ...]) -> list[float]:
    """A row in its features' own units, NaN where missing: docs/tables.md, word by word."""
    _, income, city, joined, plan, _ = row
    values = []
    for f in FEATURES:
        given = {"income": income, "home city": city, "joined": joined,
                 "plan_code": None if plan is None else str(plan)}[f["source_column"]]  # fmt: skip
        if given is None:
            values.append(np.nan)
        elif f["type"] == "category":
            levels = [g["level"] for g in FEATURES if g["source_column"] == f["source_column"]]
            has = given == f["level"] if f["level"] is not None else given not in levels
            values.append(float(has))
        else:
            day = given and f["type"] == "date" and datetime.date.fromisoformat(given[:10])
            value = float((REFERENCE - day).days) if day else float(given)
            values.append(value if f["low"] is None else min(max(value, f["low"]), f["high"]))
    return values


def distances(rows: list[tuple[Any, ...]]) -> npt.NDArray[np.float64]:
    own = np.array([own_values(row) for row in rows])
    for j, f in enumerate(FEATURES):
        if f["fill"] is not None:
            own[np.isnan(own[:, j]), j] = (
                f["fill"] if f["low"] is None else min(f["fill"], f["high"])
            )
        if f["transform"] == "log1p":
            own[:, j] = np.log1p(own[:, j])
        own[:, j] = (own[:, j] - f["center"]) / (f["scale"] / f["weight"])
    return np.sqrt(((own[:, None, :] - CENTROIDS[None]) ** 2).sum(axis=2))


#: For each column, the bins of the fit: upper ends or levels.
UPPERS: dict[str, list[Any]] = {
    "income": [1000.0, 50_000.0, 120_000.0],
    "home city": ["São Paulo", "Oslo", "it's", "(other)"],
    "joined": [0.0, 365.0, 3000.0],
    "plan_code": ["1", "(other)"],
}


def bins_of(column: str, rows: list[tuple[Any, ...]]) -> list[int]:
    """How many rows are in each bin; the first is for missing values."""
    place = [f["source_column"] for f in FEATURES].index(column)
    counts = [0] * (len(UPPERS[column]) + 1 + isinstance(UPPERS[column][0], float))
    for row in rows:
        value = own_values(row)[place]
        if np.isnan(value):
            bin_number = 0
        elif isinstance(UPPERS[column][0], float):
            bin_number = 1 + sum(value > upper for upper in UPPERS[column])
        else:
            text = str(row[2] if column == "home city" else row[4])
            labels = UPPERS[column]
            bin_number = 1 + labels.index(text if text in labels else "(other)")
        counts[bin_number] += 1
    return counts


def fitted_bins(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows of ``feature_bin``, as a fit on these rows leaves them."""
    found = []
    for position, (column, uppers) in enumerate(UPPERS.items(), 1):
        ranged = isinstance(uppers[0], float)
        labels = ["missing", *(f"<= {u}" if ranged else u for u in uppers), *["more"] * ranged]
        for number, (label, customers) in enumerate(zip(labels, bins_of(column, rows))):
            upper = uppers[number - 1] if ranged and 0 < number <= len(uppers) else None
            found.append({"position": position, "bin": number, "feature": column, "label": label,
                          "upper": upper, "customers": customers})  # fmt: skip
    return found


def population_stability(before: list[int], now: list[int]) -> float:
    e, a = (np.maximum(np.array(counts) / sum(counts), 1e-4) for counts in (before, now))
    return float(((a - e) * np.log(a / e)).sum())


def publish(
    server: Server, rows: list[tuple[Any, ...]], fitted: list[tuple[Any, ...]] | None = None
) -> None:
    """A model with every kind of feature, and everyone in segment 1."""
    server.rows(DEFINE)
    run_id = server.value(
        "SET NOCOUNT ON; DECLARE @r bigint; EXECUTE sqlkmeans.start_run "
        "@segmentation = N'people', @run_id = @r OUTPUT; SELECT @r;"
    )
    server.rows(f"INSERT INTO sqlkmeans.staging_{run_id} (person_id, cluster, distance) "
                "SELECT person_id, 0, 1 FROM dbo.person;")  # fmt: skip
    k = len(CENTROIDS)
    tables = {
        "model_feature": [{**f, "position": j} for j, f in enumerate(FEATURES, 1)],
        "centroid": [
            {"segment_id": i + 1, "position": j + 1, "feature": f["feature"], "value": 0.0,
             "scaled_value": CENTROIDS[i, j]}
            for i in range(k) for j, f in enumerate(FEATURES)
        ],
        "segment": [
            {"segment_id": i, "name": f"name {i}", "name_source": "generated", "description": "",
             "size": 0, "share": 0.0, "within_ss": 0.0}
            for i in range(k + 1)
        ],
        "feature_bin": fitted_bins(rows if fitted is None else fitted),
    }  # fmt: skip
    publication = {
        "segment_ids": list(range(1, k + 1)), "model_run_id": run_id, "last_segment_id": k,
        "distance_tolerance": 0, "tables": tables,
        "run": {"rows": len(rows), "k": k,
                "mean_distance": float(distances(rows).min(axis=1).mean())},
    }  # fmt: skip
    server.rows("EXECUTE sqlkmeans.publish_run @run_id = ?, @publication = ?;",
                run_id, json.dumps(publication))  # fmt: skip
