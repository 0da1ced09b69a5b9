"""A run that the server does by itself, its lock and its run row included."""

from __future__ import annotations

from sqlkmeans.database.base import Database, RunsInside
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError
from sqlkmeans.progress import Progress


class ServerEngine:
    """SQL Server: Python inside it, or T-SQL."""

    def run(
        self, database: Database, segmentation: Segmentation, kind: str, progress: Progress
    ) -> tuple[int, dict[str, float]]:
        """Let it do a whole run.

        Parameters
        ----------
        database : Database
        segmentation : Segmentation
        kind : {"fit", "assign"}
        progress : Progress

        Returns
        -------
        run_id : int
        seconds : dict of str to float
            Of each step as the server has measured it; in total, what passed here.

        Raises
        ------
        DatabaseError
            If this is not SQL Server, or it stops.
        """
        if not isinstance(database, RunsInside):
            raise DatabaseError(
                f'{database.safe_url}: engine = "{segmentation.engine}" needs SQL Server; '
                'use "local"'
            )
        with progress.step("on the server"):
            run_id = database.run_inside(segmentation, kind)
        run = database.catalog.run(run_id) or {}
        steps = ("read", "fit", "assign", "publish")
        seconds = {step: float(run.get(f"seconds_{step}") or 0) for step in steps}
        return run_id, {**seconds, "total": progress.rounded()["total"]}
