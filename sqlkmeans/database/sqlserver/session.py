"""One connection to SQL Server: statements, procedures, and errors of statements in a TRY block."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlkmeans.database.sqlserver.errors import ServerError

_MARK = "sqlkmeans: error"


class Session:
    """One connection. What goes wrong comes as the driver's own error or ServerError.

    Attributes
    ----------
    native : object
        The driver's connection.
    driver : str
    spoiled : bool
        Whether nobody should use it again.
    """

    def __init__(self, native: Any, driver: str) -> None:
        self.native = native
        self.driver = driver
        self.spoiled = False

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last result set there is."""
        cursor = self.native.cursor()
        try:
            if self.driver == "pyodbc" and parameters:
                cursor.setinputsizes([_size(value) for value in parameters])
            cursor.execute(statement, *([tuple(parameters)] if parameters else []))
            found: list[tuple[Any, ...]] = []
            while True:
                if cursor.description:
                    found = [tuple(row) for row in cursor.fetchall()]
                # An error of a later statement shows only when its result is asked for.
                if not cursor.nextset():
                    return found
        finally:
            cursor.close()

    def guarded(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The same for statements that stand in a TRY block, with the server's error number."""
        found = self.rows(
            f"BEGIN TRY\n{statement}\nEND TRY\nBEGIN CATCH\n"
            "IF XACT_STATE() <> 0 ROLLBACK TRANSACTION;\n"
            f"SELECT N'{_MARK}', ERROR_NUMBER(), ERROR_MESSAGE();\nEND CATCH;",
            parameters,
        )
        if len(found) == 1 and len(found[0]) == 3 and found[0][0] == _MARK:
            raise ServerError(int(found[0][1]), str(found[0][2]))
        return found

    def call(self, procedure: str, output: str | None = None, **parameters: Any) -> tuple[Any, ...]:
        """Call a procedure of schema sqlkmeans.

        Parameters
        ----------
        procedure : str
        output : str, optional
            A bigint OUTPUT parameter that is wanted instead of the procedure's own last row.
        **parameters
            Left out where None.

        Returns
        -------
        tuple
            The last row; empty where there is none.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        texts = [f"@{name} = ?" for name in given]
        before, after = "SET NOCOUNT ON;", ""
        if output is not None:
            before += " DECLARE @output bigint;"
            texts.append(f"@{output} = @output OUTPUT")
            after = " SELECT @output;"
        found = self.guarded(
            f"{before} EXECUTE sqlkmeans.{procedure} {', '.join(texts)};{after}",
            list(given.values()),
        )
        return found[-1] if found else ()

    def close(self) -> None:
        """End the session and what it holds. May be called twice; never fails."""
        # A broken connection cannot be closed any better.
        with suppress(Exception):
            self.native.close()


def _size(value: Any) -> tuple[int, int, int] | None:
    """Long texts as nvarchar(max); left to itself, pyodbc asks the server where they begin."""
    import pyodbc

    return (pyodbc.SQL_WVARCHAR, 0, 0) if isinstance(value, str) and len(value) > 2000 else None
