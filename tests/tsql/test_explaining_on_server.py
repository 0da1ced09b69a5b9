"""The function that explains a row, made by the server and by the client, on a live server."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from sqlkmeans.clustering.describing.remedy import smallest_changes, steps_from_rows
from sqlkmeans.clustering.preparation.raw_rows import raw_rows
from sqlkmeans.tsql.explaining import explaining_function
from sqlkmeans.tsql.scoring import scoring_function
from support.people import make_people, publish
from support.tsql_server import Server, load_model

pytestmark = pytest.mark.sqlserver

COLUMNS = ["income", "home city", "joined", "plan_code"]
PEOPLE = (
    "SELECT c.person_id, CAST(c.income AS float), c.[home city], CAST(c.joined AS date), "
    "CAST(c.plan_code AS nvarchar(10)) FROM dbo.person AS c WHERE c.person_id % 5 = 1 "
    "AND (c.income > -1 OR c.income IS NULL) ORDER BY c.person_id;"
)
EXPLAINED = (
    "SELECT e.position, e.feature, e.segment_id, e.runner_up_id, e.contribution, e.new_value, "
    "e.new_date, e.new_level, e.difference, e.new_segment_id, e.new_segment_name "
    "FROM {}(?, ?, ?, ?) AS e ORDER BY e.position;"
)
SCORED = "SELECT n.segment_id FROM sqlkmeans.assign_people(?, ?, ?, ?) AS n;"


@pytest.fixture
def people(server: Server) -> Server:
    publish(server, make_people(server))
    return server


def explained(server: Server, row: tuple[Any, ...], function: str) -> list[tuple[Any, ...]]:
    return server.rows(EXPLAINED.format(function), *row)


def test_the_change_applied_and_scored_again_is_in_the_named_segment_as_python_says(
    people: Server,
) -> None:
    model = load_model(people, "people")
    # Incomes are whole numbers, as far as the run knows.
    people.rows(
        "UPDATE sqlkmeans.segment_feature SET [min] = 1, [max] = 9, median = 2.5 "
        "WHERE position = 1;"
    )
    steps = steps_from_rows(
        dict(zip(("position", "min", "max", "median"), row))
        for row in people.rows(
            "SELECT position, [min], [max], median FROM sqlkmeans.segment_feature;"
        )
    )
    people.rows(scoring_function("dbo.assign_by_client", model))
    people.rows(explaining_function("dbo.explain_by_client", "dbo.assign_by_client", model, steps))
    moved = set()
    for _, *row in people.rows(PEOPLE):
        raw, texts = raw_rows(
            {name: [value] for name, value in zip(COLUMNS, row)}, model.preparation.types
        )
        wanted = smallest_changes(model.preparation, model.centroids, raw[0], texts, steps)
        found = explained(people, row, "sqlkmeans.explain_people")
        assert len(found) == len(wanted)
        [(own,)] = people.rows(SCORED, *row)
        assert {line[2] for line in found} == {own}
        assert sum(line[4] for line in found) == pytest.approx(1)
        for line, change in zip(found, wanted):
            *_, new_value, new_date, new_level, difference, segment_id, name = line
            new = next((v for v in (new_value, new_date, new_level) if v is not None), None)
            if change is None:
                assert (new, difference, segment_id, name) == (None, None, None, None)
                continue
            value = date.fromisoformat(change.value) if new_date else change.value
            assert new == value if isinstance(value, str | date) else new == pytest.approx(value)
            assert segment_id == model.segment_ids[change.segment]
            assert difference == pytest.approx(change.difference)
            column = COLUMNS.index(model.preparation.features[line[0] - 1].column)
            [(again,)] = people.rows(SCORED, *row[:column], new, *row[column + 1 :])
            assert again == segment_id != own
            moved.add(model.preparation.features[line[0] - 1].type)
        by_client = explained(people, row, "dbo.explain_by_client")
        assert [line[:4] for line in by_client] == [line[:4] for line in found]
        assert [line[5:] for line in by_client] == [line[5:] for line in found]
    assert moved == {"number", "date", "category"}


def test_a_row_without_a_segment_has_nothing_to_explain(people: Server) -> None:
    people.rows("UPDATE sqlkmeans.model_feature SET fill = NULL;")
    people.rows("EXECUTE sqlkmeans.rename_segment @segmentation = N'people', @segment_id = 2, "
                "@name = N'best';")  # fmt: skip
    assert explained(people, (None, "Oslo", "2025-01-01", "1"), "sqlkmeans.explain_people") == []
    lines = explained(people, (50_000.0, "Oslo", "2025-01-01", "1"), "sqlkmeans.explain_people")
    assert "best" in {line[-1] for line in lines}, "it knows the new name"


def test_what_a_run_makes_goes_with_the_segmentation(people: Server) -> None:
    assert {"assign_people", "explain_people"} <= people.objects()
    people.rows("EXECUTE sqlkmeans.drop_segmentation @segmentation = N'people', @execute = 1;")
    assert not {"assign_people", "explain_people"} & people.objects()
