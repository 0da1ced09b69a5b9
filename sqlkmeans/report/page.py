"""One self-contained HTML page about a segmentation as it is published now."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sqlkmeans._version import __version__
from sqlkmeans.clustering.describing.naming import feature_titles
from sqlkmeans.clustering.describing.profile import EVERYONE
from sqlkmeans.database import Database, open_places, tables
from sqlkmeans.files import check_place, write_file
from sqlkmeans.registry import load_segmentation
from sqlkmeans.report import flow, k_scores
from sqlkmeans.report import scatter as scattering
from sqlkmeans.report.described import described_columns, deviations, differences, is_sure
from sqlkmeans.report.distributions import distributions
from sqlkmeans.report.facts import Facts, Row, read_facts
from sqlkmeans.report.marks import Mark, marks
from sqlkmeans.report.queries import queries
from sqlkmeans.report.scales import decimals_for, number, percent, points, signed

#: Segments beside each other in a table of profiles: more would not fit a printed page.
COLUMNS = 6
#: Features that a segment's own table shows, and the difference from which one is shown.
DRIVERS, NOTABLE = 4, 0.1
#: Population stability index from which a feature's spread has shifted, and has shifted a lot
#: (Siddiqi, Credit Risk Scorecards, 2006).
SHIFTED, SHIFTED_A_LOT = 0.1, 0.25


@dataclass(frozen=True)
class WrittenReport:
    """Where a report is, and what it is about.

    Attributes
    ----------
    file : pathlib.Path
    segmentation : str
    run_id : int
        The newest published run.
    """

    file: Path
    segmentation: str
    run_id: int


def write_report(
    name: str,
    database: Database,
    file: str | Path | None = None,
    *,
    samples: bool = True,
    failed: bool = False,
    spark: object = None,
) -> WrittenReport:
    """Write the page of a segmentation.

    Parameters
    ----------
    name : str
        The segmentation.
    database : Database
    file : path-like, optional
        By default ``<name>.html`` in the working directory. One that is there is replaced, as a
        whole.
    samples : bool, default=True
        Without them, the page holds no single customer: no scatter, no typical customers,
        no outliers, and distributions from the profiles.
    failed : bool, default=False
        Whether attempts that failed stand among the runs.
    spark : pyspark.sql.SparkSession, optional
        Where source or target are Spark's.

    Returns
    -------
    WrittenReport

    Raises
    ------
    DefinitionError
        If no segmentation of that name was ever run, or the file cannot be written.
    DataError
        If none of its runs was published.
    """
    path = Path(file) if file is not None else Path(f"{_file_name(name)}.html")
    check_place(path)
    segmentation = load_segmentation(database, name)
    with open_places(segmentation, database, spark, from_file=False) as (there, sources):
        facts = read_facts(there, name, sources, samples=samples, failed=failed)
    return WrittenReport(write_file(path, render(facts)), name, facts.run["run_id"])


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in " -_." else "_" for c in name)


def render(facts: Facts) -> str:
    """The page's HTML."""
    by_id = marks(facts.segments)
    in_order = list(by_id.values())
    titles = feature_titles(facts.features, facts.segmentation.units)
    k = len(in_order)
    script, style = (_shipped(name) for name in ("report.js", "report.css"))
    return _environment().get_template("report.html.j2").render(
        facts=facts,
        segmentation=facts.segmentation,
        run=facts.run,
        described=facts.described,
        warnings=json.loads(facts.run["warnings"] or "[]"),
        titles=dict(zip((f["feature"] for f in facts.features), titles)),
        marks=by_id,
        drivers={mark.segment_id: _drivers(facts, mark) for mark in in_order},
        typical=_typical(facts),
        described_columns=(columns := described_columns(facts)),
        differences={mark.segment_id: differences(columns, mark.segment_id) for mark in in_order},
        blocks=[in_order[i : i + COLUMNS] for i in range(0, len(in_order), COLUMNS)],
        decimals={
            feature["position"]: _decimals(facts, feature) for feature in facts.features
        },
        scatter=scattering.scatter(facts, in_order, titles),
        distributions=distributions(facts),
        flow=flow.flow_picture(facts.movement.flows) if facts.movement.flows else None,
        flow_marks={**marks(_named(facts.movement.names_before)), **by_id},
        k=k,
        lines=k_scores.score_lines(facts.choice, k) if facts.choice else [],
        about_k=_about_k(facts, k),
        queries=queries(facts),
        version=__version__,
        written_at=datetime.now(timezone.utc),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sqlkmeans.report"),
        # Names, descriptions and SQL come from people: nothing of them is markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, percent=percent, signed=signed, moment=_moment, tint=_tint, shift=_shift,
        values=_values, points=points, sure=is_sure, deviations=deviations,
    )  # fmt: skip
    environment.globals.update(
        fact=fact, cited=cited, EVERYONE=EVERYONE, box=scattering, flow_box=flow, line_box=k_scores
    )
    return environment


def _shipped(name: str) -> str:
    return resources.files("sqlkmeans.report").joinpath("templates", name).read_text("utf-8")


# Numbers that say where they come from


def cited(row: Row, table: str, column: str) -> Markup:
    """Attributes that name the column and the row of a number: ``segment.size 1 2``."""
    source = f"{table}.{column} {' '.join(str(row[key]) for key in tables.TABLES[table].key)}"
    return Markup('data-value="{}" data-q="{}"').format(row[column], source)


def fact(
    row: Row, table: str, column: str, how: str = "number", decimals: int | None = None
) -> Markup:
    """A number of a table as the page shows it, with its exact value and where it comes from."""
    value = row[column]
    if value is None:
        return Markup('<span class="none">–</span>')
    write = {"number": number, "percent": percent, "signed": signed, "points": points}[how]
    text = write(value) if decimals is None else write(value, decimals)
    return Markup("<data {}>{}</data>").format(cited(row, table, column), text)


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _values(text: str) -> str:
    """A key as ``typical_customer`` keeps it, a JSON list of texts."""
    return ", ".join(json.loads(text))


def _tint(importance: float) -> str:
    """How far above or below everyone, as a class of the style sheet."""
    size = sum(abs(importance) >= limit for limit in (0.25, 0.75, 1.5))
    return f"t{'above' if importance > 0 else 'below'}{size}" if size else ""


def _shift(psi: float) -> str:
    if psi >= SHIFTED_A_LOT:
        return "shifted a lot"
    return "shifted" if psi >= SHIFTED else "stable"


# Parts of the page


@dataclass(frozen=True)
class Driver:
    """A feature that sets a segment apart: rows of ``model_feature`` and ``segment_feature``."""

    feature: Row
    here: Row
    everyone: Row


def _drivers(facts: Facts, mark: Mark) -> list[Driver]:
    """The features in which a segment differs most from everyone; at least one."""

    def each() -> Iterator[Driver]:
        for feature in facts.shown:
            position = feature["position"]
            here = facts.profiles.get((mark.segment_id, position))
            everyone = facts.profiles.get((EVERYONE, position))
            if here is not None and everyone is not None:
                yield Driver(feature, here, everyone)

    ranked = sorted(each(), key=lambda driver: -abs(driver.here["importance"]))
    notable = [driver for driver in ranked if abs(driver.here["importance"]) >= NOTABLE]
    return (notable or ranked[:1])[:DRIVERS]


def _about_k(facts: Facts, k: int) -> str:
    """Why the page has another k than the scores speak for; empty where it has not."""
    choice = facts.choice
    model_run, asked = facts.run["model_run_id"], facts.segmentation.k
    if choice is None or choice.run["run_id"] == model_run:
        return ""
    best = choice.recommendation.get("recommended_k")
    if best == k:
        return ""
    found = f"those scores speak for {best}" if best else "those scores speak for no k"
    if asked == "auto":
        return f"This page has {k} segments, which run {model_run} chose; {found}."
    change = f'k = {best}, or k = "auto",' if best else "Another k"
    return (
        f"This page has {k} segments, because its definition says k = {asked}; {found}. "
        f"{change} in the definition takes effect with the next run."
    )


def _typical(facts: Facts) -> dict[int, list[Row]]:
    return {mark: facts.typical.get(mark, []) for mark in marks(facts.segments)}


def _decimals(facts: Facts, feature: Row) -> int:
    """One number of decimals for all of a feature's means, so that they align."""
    means = [
        row["mean"]
        for (_, position), row in facts.profiles.items()
        if position == feature["position"]
    ]
    return decimals_for(means)


def _named(names: dict[int, str]) -> list[dict[str, Any]]:
    return [{"segment_id": i, "name": name} for i, name in names.items() if i != EVERYONE]
