"""The demo: customers, segments, a picture, and what to try next."""

from __future__ import annotations

from pathlib import Path

from sqlkmeans import pipeline
from sqlkmeans.cli.output import Output
from sqlkmeans.database import Database, open_database
from sqlkmeans.definition import Segmentation
from sqlkmeans.demo import definition_text, demo_segmentation, load_customers
from sqlkmeans.files import write_file
from sqlkmeans.job import require_schema
from sqlkmeans.report.plots import SAMPLE_ROWS, check_picture, scatter
from sqlkmeans.result import RunResult

DEFINITION_FILE = Path("demo.toml")


def show(
    output: Output,
    *,
    database: str,
    url: str | None,
    customers: int,
    clusters: int,
    seed: int,
    plot: str,
    engine: str,
) -> None:
    """Run the demo and print what came out."""
    check_picture(plot)
    target_url = url or f"duckdb:///{Path(database).as_posix()}"
    segmentation = demo_segmentation(clusters, engine)
    with open_database(target_url, create=True) as opened:
        output.say_what_stays(opened)
        require_schema(opened)
        with output.progress().step("customers"):
            made = load_customers(opened, customers, clusters, seed)
        result = pipeline.run(segmentation, opened, output.progress())
        output.run(result)
        with output.after_result():
            picture = _draw(opened, segmentation, result, plot)
    if output.as_json:
        return
    where = database if url is None else opened.safe_url
    output.say(f"{'Made' if made else 'Used'} {customers:,} customers in {where}.")
    output.say(f"Picture: {picture}")
    if url is None and opened.stays:
        with output.after_result():
            _suggest(output, database, target_url, clusters)


def _draw(database: Database, segmentation: Segmentation, result: RunResult, plot: str) -> Path:
    sample = database.labels.sample(segmentation, segmentation.columns, SAMPLE_ROWS)
    shown = min(SAMPLE_ROWS, result.rows)
    title = f"{result.rows:,} customers in {result.k} segments ({shown:,} shown)"
    x, y = segmentation.columns
    return scatter(sample, result.segments, x, y, plot, title=title)


def _suggest(output: Output, database: str, url: str, clusters: int) -> None:
    text = definition_text(url, clusters)
    if not DEFINITION_FILE.exists():
        write_file(DEFINITION_FILE, text)
    output.say()
    output.say("Query it, in Python (pip has installed duckdb):")
    output.say(f"    import duckdb; duckdb.connect({database!r}).sql(")
    output.say('        "SELECT segment_name, COUNT(*), AVG(income) FROM dbo.customer "')
    output.say('        "JOIN dbo.customer_segment_named USING (customer_id) GROUP BY ALL").show()')
    if DEFINITION_FILE.read_text(encoding="utf-8") == text:
        output.say("Try next:")
        output.say(f"    sqlkmeans run {DEFINITION_FILE}      the same again: the ids stay")
        output.say(f"    sqlkmeans runs {DEFINITION_FILE}     every run and how it went")
        output.say(f'    sqlkmeans rename {DEFINITION_FILE} 1 "my best customers"')
