"""What the server writes itself: texts, and the query that scores a row at its largest."""

from __future__ import annotations

import json

import pytest

from sqlkmeans.database.sqlserver.dialect import TSQL
from support.expansion import LIMIT, largest_expression
from support.models import wide_model
from support.tsql_server import Server

pytestmark = pytest.mark.sqlserver


@pytest.mark.parametrize(
    "value",
    ["it's", "", " a ", "a\nGO\r\n", "$(PATH) $ ( $$((", "Tromsø 東京 🚲\u2028\x85", "'\t'"],
)
def test_the_server_writes_a_text_as_python_does(server: Server, value: str) -> None:
    assert server.value("SELECT sqlkmeans.text_literal(?);", value) == TSQL.literal(value)
    assert server.value(f"SELECT {TSQL.literal(value)};") == value


def test_the_largest_queries_that_score_stay_under_half_of_the_limit(server: Server) -> None:
    model = wide_model(254, 50)
    features = [
        {"position": p, "feature": f.name, "transform": f.transform, "weight": f.weight,
         "center": f.center, "scale": f.scale, "fill": f.fill, "source_column": f.column,
         "type": f.type, "level": f.level, "low": f.low, "high": f.high,
         "reference_date": f.reference_date}
        for p, f in enumerate(model.preparation.features, start=1)
    ]  # fmt: skip
    columns = (
        "position int, feature nvarchar(400), transform nvarchar(16), weight float, center float, "
        "scale float, fill float, source_column nvarchar(128), type nvarchar(16), "
        "level nvarchar(400), low float, high float, reference_date date"
    )
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    server.rows(
        f"INSERT INTO sqlkmeans.model_feature (run_id, {names}) "
        f"SELECT 7, j.* FROM OPENJSON(?) WITH ({columns}) AS j;",
        json.dumps(features),
    )
    centroids = [
        {"id": i, "position": p, "value": value}
        for i, row in zip(model.segment_ids, model.centroids.tolist())
        for p, value in enumerate(row, start=1)
    ]
    server.rows(
        "INSERT INTO sqlkmeans.centroid (run_id, segment_id, position, feature, value, "
        "scaled_value) SELECT 7, j.id, j.position, N'', 0e0, j.[value] FROM OPENJSON(?) WITH "
        "(id int, position int, [value] float) AS j;", json.dumps(centroids),
    )  # fmt: skip
    function = server.value(
        "SET NOCOUNT ON; DECLARE @q nvarchar(max); EXECUTE sqlkmeans.scoring_text @run_id = 7, "
        "@row = 0, @query = @q OUTPUT; SELECT @q;"
    )
    assert 13_000 < largest_expression(function) < LIMIT // 2
    values, scaled = server.rows(
        "SET NOCOUNT ON; DECLARE @v nvarchar(max), @s nvarchar(max); EXECUTE "
        "sqlkmeans.scoring_text @run_id = 7, @row = 1, @values = @v OUTPUT, @scaled = @s OUTPUT; "
        "SELECT @v, @s;"
    )[0]
    made = ", ".join(f"z.z{p}" for p in range(1, 51))
    first = f"SELECT {made} INTO #p FROM t AS s CROSS APPLY (SELECT {values}) AS o\n{scaled}"
    assert 2_000 < largest_expression(first) < LIMIT // 2


@pytest.mark.parametrize(
    ("k", "features", "pairs"), [(50, 1, 1), (3, 375, 1), (8, 40, 1), (51, 1, 0), (254, 50, 0)]
)
def test_the_nearest_centroid_fits_into_an_expression_three_times(
    server: Server, k: int, features: int, pairs: int
) -> None:
    assert server.value("SELECT sqlkmeans.compares_in_pairs(?, ?);", k, features) == pairs
    nearest = server.value("SELECT sqlkmeans.nearest(?, ?);", k, features)
    size = largest_expression(f"SELECT n.cluster FROM #p AS r\n{nearest}")
    assert size > k * features * (k - 1 if pairs else 1) // k
    assert 3 * size < LIMIT
