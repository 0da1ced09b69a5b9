"""GO separates batches; everything that only looks like GO does not."""

from __future__ import annotations

import pytest

from sqlkmeans.database.sqlserver.script import batches, install_script, uninstall_script


def test_lines_go_separate_batches() -> None:
    assert batches("SELECT 1\nGO\nSELECT 2\ngo\n") == ["SELECT 1", "SELECT 2"]


def test_a_script_without_go_is_one_batch() -> None:
    assert batches("SELECT 1;\nSELECT 2;") == ["SELECT 1;\nSELECT 2;"]


def test_go_with_a_number_repeats_its_batch() -> None:
    assert batches("INSERT\nGO 3\nSELECT 1") == ["INSERT"] * 3 + ["SELECT 1"]


def test_batches_without_a_statement_are_left_out() -> None:
    assert batches("-- nothing\nGO\n/* nor /* here */ */\nGO\nSELECT 1\nGO\n\n") == ["SELECT 1"]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert batches("\ufeffSELECT 1\r\nGO\r\nSELECT 2\r\n") == ["SELECT 1", "SELECT 2"]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'a\nGO\nb'",
        "SELECT N'it''s\nGO\n'",
        "/* one\nGO\ntwo */ SELECT 1",
        "/* nested /* one */\nGO\n*/ SELECT 1",
        "SELECT 1 AS [a\nGO\nb]",
        "SELECT 1 AS [a]]\nGO\nb]",
        'SELECT 1 AS "a\nGO\nb"',
        "SELECT 1 AS go_on\nGOTO_LABEL:",
        "SELECT 1 -- a ' quote\n, 2",
    ],
)
def test_go_inside_something_else_separates_nothing(text: str) -> None:
    assert batches(text) == [text]


def test_a_quote_in_a_comment_opens_no_text() -> None:
    assert batches("-- don't\nSELECT 1\nGO\n-- can't\nSELECT 2") == [
        "-- don't\nSELECT 1",
        "-- can't\nSELECT 2",
    ]
    assert batches("/* don't */ SELECT 1\nGO\nSELECT 2") == ["/* don't */ SELECT 1", "SELECT 2"]


def test_the_installer_splits_into_batches_that_start_a_statement() -> None:
    found = batches(install_script())
    assert len(found) > 60
    for batch in found:
        assert batch.count("ALTER PROCEDURE") <= 1


def test_the_uninstaller_can_be_told_only_to_show() -> None:
    assert "@execute bit = 1;" in uninstall_script()
    assert "@execute bit = 0;" in uninstall_script(execute=False)
