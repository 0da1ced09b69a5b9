"""No customer stops a run for all others by a text, and texts stay texts in every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sqlkmeans.database import open_database
from sqlkmeans.definition import Segmentation
from sqlkmeans.pipeline import assign, run
from sqlkmeans.registry import load_model
from support.attacks import each
from support.engines import ENGINES

LEVELS = {
    "long": "x" * 101,
    "very long": "x" * 100_000,
    "long in UTF-16": "🚲" * 51,
    "the rest": "(other)",
    "missing": "missing",
    "missing in brackets": "(missing)",
    "empty": "",
    "blank": " ",
    "NULL": "NULL",
    "a quote": "'",
    "an injection": "'); DROP TABLE customer; --",
    "double quotes": '"x"',
    "a comment": "/* x",
    "a backslash": "\\",
    "a line break": "a\nGO\nb",
    "NUL": "a\x00b",
    "braces": "{0} {x} %s $(PATH) ${x}",
    "markup": "<script>alert(1)</script>[red]",
    "a parameter": "? $1 :x",
    "right to left": "\u202eabc",
    "nearly Oslo": "Oslo ",
    "decomposed": "Malmo\u0308",
}


def definition(engine: str, **more: Any) -> Segmentation:
    return Segmentation.create(
        name="shop", source="customer", key="id", k=2, n_init=2, target="segment", engine=engine,
        features=["x", {"column": "city", "type": "category"}], **more,
    )  # fmt: skip


@pytest.mark.parametrize("share", ["one customer", "every tenth"])
@each(LEVELS)
def test_a_level_stops_no_run_and_says_the_same_in_every_engine(attack: str, share: str) -> None:
    level, every = LEVELS[attack], {"one customer": 400, "every tenth": 10}[share]
    n = np.arange(400)
    cities = np.where(n % 3 == 0, "Oslo", "Bergen").tolist()
    for row in range(0, 400, every):
        cities[row] = level
    customers = pa.table({"id": n, "x": n % 2 * 500.0 + n % 7, "city": cities})
    found = {}
    for engine in ENGINES:
        with open_database("duckdb:///:memory:") as database:
            database.create_table("customer", customers, "id")
            result = run(definition(engine), database)
            assert result.changed == 400
            assert assign(definition(engine), database).changed == 0
            model = load_model("shop", database)
            assert model is not None
            labels = database.catalog.select("SELECT segment_id FROM segment ORDER BY id")
            rows = pa.table({"x": customers["x"], "city": customers["city"]})
            assert model.predict(rows.to_pandas()).tolist() == [label for (label,) in labels]
            found[engine] = model.preparation.names, [s.size for s in result.segments]
    assert all(one == found["local"] for one in found.values())
    own = (
        share == "every tenth"
        and len(level) <= 100
        and attack not in ("long in UTF-16", "the rest")
    )
    assert (f"city = {level}" in found["local"][0]) == (own or attack == "the rest")
