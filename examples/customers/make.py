"""Make customers.csv: 20,000 customers of a shop, with what real files have.

Four kinds of customers, dates, cities, money with a long tail, missing values, yes/no and a text.

    python examples/customers/make.py [customers.csv]
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd


def customers(rows: int = 20_000, seed: int = 7) -> pd.DataFrame:
    """The customers; the same seed makes the same."""
    rng = np.random.default_rng(seed)
    # New ones, regulars, enthusiasts, and those who have not been here for long.
    kind = rng.choice(4, rows, p=[0.35, 0.35, 0.10, 0.20])
    of_kind = lambda *values: np.array(values)[kind]  # noqa: E731
    orders = rng.poisson(of_kind(2, 11, 38, 6)) + 1
    today = pd.Timestamp("2026-11-01")
    since = of_kind(150, 1400, 2100, 2600) * rng.uniform(0.4, 1.6, rows)
    last = np.minimum(of_kind(40, 45, 9, 700) * rng.lognormal(0, 0.5, rows), since)
    frame = pd.DataFrame({
        "customer_id": np.arange(rows) + 100_001,
        "city": rng.choice(["Oslo", "Bergen", "Trondheim", "Stavanger", "Tromsø"], rows,
                           p=[0.40, 0.22, 0.18, 0.12, 0.08]),
        "customer_since": (today - pd.to_timedelta(since.round(), unit="D")).date,
        "last_order": (today - pd.to_timedelta(last.round(), unit="D")).date,
        "orders": orders,
        "revenue": (orders * rng.lognormal(6.1, 0.45, rows)).round(2),
        "age": rng.normal(of_kind(31, 46, 43, 55), 9).clip(18, 95).round(),
        "newsletter": np.where(rng.random(rows) < of_kind(0.5, 0.4, 0.8, 0.15), "yes", "no"),
        "comment": [f"Wrote us on day {day}" for day in rng.integers(1, 5000, rows)],
    })  # fmt: skip
    frame.loc[rng.random(rows) < 0.04, "age"] = np.nan
    return frame.astype({"age": "Int64"})


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "customers.csv"
    customers().to_csv(path, index=False)
    print(f"{path}: 20,000 customers")
