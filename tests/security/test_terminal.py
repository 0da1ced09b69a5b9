"""Whatever a row, a file or an argument holds, no output drives a terminal or forges a line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlkmeans.cli.output import Output
from sqlkmeans.words import visible, visible_json, visible_lines
from support.attacks import change, command, each

#: What a terminal obeys, and what makes a reader see another text than there is.
ESCAPES = {
    "colour": "\x1b[31m",
    "clear screen": "\x1b[2J\x1b[H",
    "title": "\x1b]0;evil\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "link": "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\",
    "control sequence of one character": "\x9b31m",
    "string of one character": "\x9d52;c;ZXZpbA==\x9c",
    "back over what stands there": "honest\b\b\b\b\b\bevil",
    "carriage return": "honest\revil",
    "a line of its own": "x\nError: all is lost",
    "a line of its own, in Unicode": "x\u2028Error: all is lost\u2029",
    "next line": "x\x85Error: all is lost",
    "right to left": "\u202egnp.exe",
    "isolates": "\u2066a\u2069\u200f",
    "no width": "Os\u200blo\ufeff",
    "tags": "\U000e0001\U000e0041",
    "delete": "a\x7fb",
}
ATTACKS = list(ESCAPES.values())


def hidden(text: str) -> list[str]:
    """Characters of an output that have no business there."""
    return [
        c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    ]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert not hidden(text)
    assert "\nError: all is lost" not in text
    return text


def test_levels_names_and_columns_of_a_run_are_shown_with_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    customers = pa.table(
        {
            "id": range(170),
            "x": [i % 17 * 100.0 + i % 3 for i in range(170)],
            "city": [ATTACKS[i % 17] for i in range(170)],
            **{f"c{attack}": [float(i * i % 7) for i in range(170)] for attack in ATTACKS[:5]},
        }
    )
    with duckdb.connect("shop.duckdb") as connection:
        connection.register("given", customers)
        connection.execute("CREATE TABLE customer AS FROM given")
    definition = {
        "source": "customer", "key": "id", "target": "segment", "k": 3, "n_init": 1,
        "features": ["x", {"column": "city", "type": "category"},
                     *(f"c{attack}" for attack in ATTACKS[:5])],
    }  # fmt: skip
    values = {"database": {"url": "duckdb:///shop.duckdb"}, "segmentation": {"shop": definition}}
    Path("shop.json").write_text(json.dumps(values), encoding="utf-8")
    assert command("run", "shop.json", "--json") == 0
    text = capsys.readouterr().out
    assert not hidden(text)
    features = json.loads(text)["segments"][0]["centroid"]
    assert {f"city = {attack}" for attack in ATTACKS} < set(features)
    for number, attack in enumerate(ATTACKS):
        level = attack.replace("'", "''")
        if number < 3:
            change(
                Path("shop.duckdb"),
                f"UPDATE sqlkmeans.segment SET name = '{level}' WHERE segment_id = {number + 1}",
            )
        change(
            Path("shop.duckdb"),
            "INSERT INTO sqlkmeans.run BY NAME SELECT * REPLACE "
            f"({100 + number} AS run_id, 'failed' AS status, '{level}' AS error) "
            "FROM sqlkmeans.run WHERE run_id = 1",
        )
    for arguments in (
        ["runs", "shop.json"], ["run", "shop.json", "--verbose"],
        ["choose-k", "shop.json", "--verbose"], ["explain", "shop.json", "1"],
        ["doctor", "shop.json"], ["rollback", "shop.json"], ["assign", "shop.json"],
        ["export-sql", "shop.json", "--json"], ["uninstall", "shop.json"],
    ):  # fmt: skip
        assert command(*arguments) == 0, arguments
        said(capsys)
        assert command(*arguments, "--json") == 0, arguments
        said(capsys)


@each(ATTACKS)
def test_arguments_come_back_with_escapes(
    attack: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = [
        ["explain", "shop.toml", attack],
        ["explain", attack, "1", "--url", "duckdb:///shop.duckdb"],
        ["runs", f"{attack}.toml"],
        ["runs", "--url", f"duckdb:///{attack}.duckdb"],
        ["runs", "--url", f"mssql+{attack}://h/d"],
        ["run", "shop.toml", "-s", attack],
        ["run", "shop.toml", "--engine", attack],
        ["run", "shop.toml", "--memory-limit", attack],
        ["rollback", "shop.toml", "--to", attack],
        [attack],
        ["run", f"--{attack}"],
    ]
    for arguments in quick:
        assert command(*arguments) in (2, 3, 4)
        said(capsys)
        assert command(*arguments, "--json") in (2, 3, 4)
        said(capsys)


@each(ATTACKS)
def test_a_definition_is_quoted_with_escapes(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "source": attack, "key": [attack, attack], "features": [{"column": 3, attack: 1}],
        "k": attack, "target": f"{attack};", "engine": attack, attack: attack,
    }  # fmt: skip
    path = tmp_path / "shop.json"
    path.write_text(json.dumps({"segmentation": {attack: values}, attack: 1}), encoding="utf-8")
    assert command("runs", str(path)) == 2
    said(capsys)
    assert command("runs", str(path), "--verbose") == 2
    said(capsys)


@each(ATTACKS)
def test_a_segment_gets_no_such_name(
    attack: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("rename", "shop.toml", "1", attack) == 2
    assert command("rename", "shop.toml", "1", "good", "--description", attack) == 2
    assert "no control or format characters" in said(capsys)


TEXTS = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Zl", "Zp"]),
        st.sampled_from("[]:\\"),
    ),
    max_size=40,
)


@given(text=TEXTS)
def test_no_output_holds_what_a_terminal_obeys(text: str, request: pytest.FixtureRequest) -> None:
    capsys: pytest.CaptureFixture[str] = request.getfixturevalue("capsys")
    output = Output()
    output.say(text)
    output.line(text)
    output.result({text: [text, {"nested": text}]})
    output.table([text, "n"], [[text, 1], [f"[red]{text}[/red] :smile:", 2.5]], title=text)
    captured = capsys.readouterr()
    assert not hidden(captured.out + captured.err)


@given(text=TEXTS)
def test_what_is_escaped_says_the_same(text: str) -> None:
    value: Any = {"a": text, text: 1}
    assert json.loads(visible_json(json.dumps(value, ensure_ascii=False))) == value
    assert visible(visible(text)) == visible(text)
    assert visible_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "text", ["Malmö", "naïve café", "顧客 一", "a\u00a0b", "👍", "R&D [x] :-)"]
)
def test_letters_of_all_scripts_stay(text: str) -> None:
    assert visible(text) == visible_lines(text) == visible_json(text) == text


def test_a_script_keeps_its_lines_on_a_terminal_and_is_exact_in_a_file(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "\x1b]52;c;ZXZpbA==\x07"
    change(shop, f"UPDATE sqlkmeans.segment SET name = '{name}' WHERE segment_id = 1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert command("export-sql", "shop.toml") == 0
    assert len(said(capsys).splitlines()) > 20
