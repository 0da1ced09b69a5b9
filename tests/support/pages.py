"""What is on a page, and what the newer tables may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import duckdb

from sqlkmeans.database import Database, open_database

#: Elements of HTML that have no end.
VOID = {"meta", "link", "br", "hr", "img", "input"}


@dataclass
class Cited:
    """A number of the page: where it comes from, its exact value, and what is shown."""

    source: str
    value: str
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A page, parsed strictly: every element that opens is closed."""

    html: str
    numbers: list[Cited] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, Cited | None]] = []
        self.feed(self.html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        cited = None
        if "data-q" in given:
            cited = Cited(str(given["data-q"]), str(given["data-value"]))
            self.numbers.append(cited)
        if tag not in VOID:
            self._open.append((tag, cited))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        self.text += " " if tag in ("td", "th", "dt", "dd", "li", "text") else ""
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] not in ("script", "style"):
            self.text += data
        for _, cited in self._open:
            if cited is not None:
                cited.text += data

    @property
    def words(self) -> str:
        """The page's text, with one space between words."""
        return " ".join(self.text.split())

    def script_data(self) -> dict:
        """What the scatter is drawn from."""
        start = self.html.index('id="scatter-data">') + len('id="scatter-data">')
        return json.loads(self.html[start : self.html.index("</script>", start)])


Write = Callable[..., Page]


def opened(shop: Path) -> Database:
    return open_database(f"duckdb:///{shop.as_posix()}")


def fill_newer_tables(shop: Path, run_id: int, segment_ids: list[int], features: list[str]) -> None:
    """What a choice of k stores, made up; and what a run says of itself, in known numbers."""
    with duckdb.connect(str(shop)) as connection:
        definition = connection.execute(
            "UPDATE sqlkmeans.run SET compared_run_id = 1, psi = 0.281, centroid_shift = 0.43, "
            "mean_distance = 0.917, warnings = ? WHERE run_id = ? RETURNING definition",
            [json.dumps(["income has drifted"]), run_id],
        ).fetchone()[0]
        connection.execute(
            "UPDATE sqlkmeans.segment SET rule = 'income <= 60000', rule_precision = 0.953, "
            "rule_coverage = 0.912, silhouette = 0.44, centroid_shift = 0.1 * segment_id "
            "WHERE run_id = ? AND segment_id > 0",
            [run_id],
        )
        for table in ("typical_customer", "feature_drift"):
            connection.execute(f"DELETE FROM sqlkmeans.{table} WHERE run_id = ?", [run_id])
        for segment_id in segment_ids:
            connection.execute(
                "INSERT INTO sqlkmeans.typical_customer VALUES (?, ?, 1, ?, 0.0317)",
                [run_id, segment_id, json.dumps([f"KEY-{segment_id}", "x"])],
            )
        for position, feature in enumerate(features, start=1):
            connection.execute(
                "INSERT INTO sqlkmeans.feature_drift VALUES (?, ?, ?, ?, 12.5, 1234.5, 0.02, 0.01)",
                [run_id, position, feature, 0.281 / position],
            )
        choice = connection.execute(
            "INSERT INTO sqlkmeans.run (run_id, segmentation, kind, status, engine, definition, "
            "recommendation, started_at, sqlkmeans_version) SELECT (SELECT max(run_id) + 1 FROM "
            "sqlkmeans.run), segmentation, 'choose_k', 'finished', engine, ?, ?, started_at, "
            "sqlkmeans_version FROM sqlkmeans.run WHERE run_id = ? RETURNING run_id",
            [
                definition,
                json.dumps({"structure": True, "recommended_k": 3, "reason": "3 is best."}),
                run_id,
            ],
        ).fetchone()[0]
        for k in range(2, 7):
            connection.execute(
                "INSERT INTO sqlkmeans.k_score "
                "VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, NULL, NULL, ?, ?, ?)",
                [choice, k, 900 / k, 0.6 - 0.04 * abs(k - 3), 0.61, 400.0 - k, 0.31 * k, 0.013,
                 0.97, 0.5 / k, k == 3],
            )  # fmt: skip
