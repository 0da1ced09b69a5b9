"""One run of a segmentation: its lock, its checks, its row, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlkmeans.database.base import Database, Embedded, Sources
from sqlkmeans.database.checks import check_segmentation
from sqlkmeans.definition import Segmentation
from sqlkmeans.engines.base import ClusterLabels
from sqlkmeans.errors import DatabaseError, SqlKMeansError
from sqlkmeans.outcome import Fit
from sqlkmeans.progress import Progress
from sqlkmeans.publication import Publication
from sqlkmeans.registry import client_row, run_result
from sqlkmeans.result import RunResult

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run that has begun.

    Attributes
    ----------
    database : Database
    sources : Sources
        Where the rows are: the database, or beside it.
    segmentation : Segmentation
    run_id : int
    progress : Progress
    seen : dict
        What the run's row keeps of the changes that it is about to see.
    """

    database: Database
    sources: Sources
    segmentation: Segmentation
    run_id: int
    progress: Progress
    seen: Row = field(default_factory=dict)

    def stage(self, labels: ClusterLabels) -> None:
        """Hand labels to the database; nobody sees them yet."""
        labels.stage(self.database, self.segmentation, self.run_id)

    def overlap(self) -> list[tuple[int, int, int]]:
        """Customers that a published segment and a staged cluster share."""
        return self.database.labels.overlap(self.segmentation, self.run_id)

    def loading(self, segment_ids: list[int], fit: Fit) -> AbstractContextManager[object]:
        """Write staged labels where nobody sees them, while their rows are described; publish
        inside."""
        limits = fit.limits(segment_ids)
        return self.database.labels.loading(self.segmentation, self.run_id, segment_ids, limits)

    def publish(self, publication: Publication) -> None:
        """Make the staged labels visible."""
        seconds = self.progress.rounded()
        steps = {f"seconds_{step}": seconds[step] for step in ("read", "fit", "assign")}
        run = {**publication.run, **self.seen, **steps}
        self.database.labels.publish(self.segmentation, replace(publication, run=run))

    def result(self) -> RunResult:
        """What the run has to say, when it is published."""
        return run_result(self.database, self.run_id, self.progress.rounded())


@contextmanager
def job(
    database: Database,
    sources: Sources,
    segmentation: Segmentation,
    kind: str,
    progress: Progress,
    **row: Any,
) -> Iterator[Job]:
    """Lock, check, and a run row that tells how it ended.

    Parameters
    ----------
    database : Database
    sources : Sources
    segmentation : Segmentation
    kind : {"fit", "assign", "choose_k"}
    progress : Progress
    **row
        More columns of the run row.
    """
    open_files(database, segmentation)
    require_schema(database)
    with database.store.lock(segmentation.name):
        check_segmentation(database, segmentation, sources)
        row = {"kind": kind, "engine": segmentation.engine, **row, **client_row()}
        run_id = database.store.start(segmentation, row, sources.key_schema(segmentation))
        try:
            seen: Row = {}
            if kind != "choose_k":
                database.labels.prepare(segmentation, run_id)
            if segmentation.changed_by is not None and kind != "choose_k":
                # Before anything is read: what changes meanwhile is seen by the next run.
                mark = sources.high_water(segmentation)
                # It is the value of one customer, and of so few nothing is told.
                seen = {"high_water": mark if segmentation.smallest_group == 1 else None}
            yield Job(database, sources, segmentation, run_id, progress, seen)
        except BaseException as error:
            told = _without_rows(error) if segmentation.smallest_group > 1 else error
            database.store.fail(run_id, _in_words(told))
            if told is not error:
                raise told from None
            raise


def open_files(database: Database, segmentation: Segmentation) -> None:
    """Let a database in this process read the files that the definition names."""
    if isinstance(database, Embedded):
        database.open_files(segmentation.source)


def require_schema(database: Database) -> None:
    """Refuse a database without schema ``sqlkmeans``; one that makes it itself gets it."""
    if isinstance(database, Embedded):
        database.install()
    elif not database.schema_version():
        raise DatabaseError(
            "schema sqlkmeans is not in this database; `sqlkmeans install` makes it"
        )


def _without_rows(error: BaseException) -> BaseException:
    """The same without words of the database, which may quote the row that it stopped at."""
    ours = isinstance(error, SqlKMeansError)
    cause = error.__context__ if ours else error
    if not isinstance(cause, Exception) or isinstance(cause, SqlKMeansError):
        return error
    kind = type(error) if isinstance(error, SqlKMeansError) else DatabaseError
    told = kind(
        f"the database stopped ({type(cause).__name__}); what it says is not shown, because it may "
        "quote a row, and sample_rows = 0 lets none leave the database: run the source's SELECT "
        "there"
    )
    return told.with_traceback(error.__traceback__)


def _in_words(error: BaseException) -> str:
    if isinstance(error, SqlKMeansError):
        return str(error)
    return (
        "interrupted"
        if isinstance(error, KeyboardInterrupt)
        else f"{type(error).__name__}: {error}"
    )
