"""From a URL, or the file of an embedded database, to a database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from sqlkmeans.database.base import Database, Opening, Sources
from sqlkmeans.definition import Segmentation
from sqlkmeans.embedded import embedded_path
from sqlkmeans.errors import DefinitionError
from sqlkmeans.names import DATABASES, LABELS, SESSIONS, SOURCES, URL_FORMS, find


def open_database(
    url: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    files: Sequence[str] = (),
    from_file: bool = False,
) -> Database:
    """Open the database at a SQLAlchemy URL.

    Parameters
    ----------
    url : str or path-like
        A URL, or the file of an embedded database: ``duckdb:///shop.duckdb`` or ``shop.duckdb``.
    create : bool, default=False
        Make an embedded database's file where there is none.
    read_only : bool, default=False
        Open an embedded database for reading only, beside other readers.
    files : sequence of str, default=()
        Paths of the .csv and .parquet files that sources will name: an embedded database reaches
        no others. `run`, `assign` and `choose_k` add those of their segmentation.
    from_file : bool, default=False
        Whether the URL stands in a file that may be from others: then it loads registered drivers
        only, and gets a password from outside only for an encrypted connection to a server whose
        certificate is checked.

    Raises
    ------
    DefinitionError
        If the URL is not one of the forms allowed.
    DatabaseError
        If the database cannot be reached.
    LockedError
        If another process has the embedded database's file.
    """
    backend = _backend(url)
    if backend not in DATABASES:
        raise DefinitionError(f"the URL's dialect {backend!r} given; allowed: {URL_FORMS}")
    opening = Opening(create=create, read_only=read_only, files=files, from_file=from_file)
    database: Database = find(DATABASES[backend]).open(os.fspath(url), opening)
    return database


def open_sources(
    segmentation: Segmentation, database: Database, session: object = None
) -> AbstractContextManager[Sources]:
    """Where the engine of a segmentation has its rows: in the database, or beside it.

    Parameters
    ----------
    segmentation : Segmentation
    database : Database
    session : object, optional
        What the engine works in, where the caller has one: a SparkSession.

    Raises
    ------
    DefinitionError
        If a session is given and the engine has no use for it.
    """
    place = SOURCES.get(segmentation.engine)
    if place is not None:
        sources: AbstractContextManager[Sources] = find(place)(segmentation, database, session)
        return sources
    if session is not None:
        raise DefinitionError(
            f'a session given with engine = "{segmentation.engine}"; allowed: with '
            f"{', '.join(SOURCES)}"
        )
    return nullcontext(database)


@contextmanager
def open_places(
    segmentation: Segmentation,
    database: Database,
    session: object = None,
    *,
    from_file: bool = True,
) -> Iterator[tuple[Database, Sources]]:
    """The database, with the labels of a segmentation wherever they are, and where its rows are.

    Parameters
    ----------
    segmentation : Segmentation
    database : Database
    session : object, optional
        As :func:`open_sources` takes it.
    from_file : bool, default=True
        Whether the definition is the user's own. One that the database tells of itself opens
        nothing but what the given session reaches: it may be from somebody else.

    Raises
    ------
    DefinitionError
        As :func:`open_sources` does, and if the database takes no labels of such a target.
    """
    if session is None and from_file and segmentation.lake_target:
        session = find_session(segmentation)
    with ExitStack() as opened:
        if segmentation.lake_target:
            there = find(LABELS[segmentation.engine])(segmentation, database, session)
            database = opened.enter_context(there)
        if session is None and not from_file:
            yield database, database
        else:
            yield database, opened.enter_context(open_sources(segmentation, database, session))


def find_session(segmentation: Segmentation) -> object:
    """The session that the user's own definition names, or that is there; None without a use."""
    place = SESSIONS.get(segmentation.engine)
    return None if place is None else find(place)(segmentation)


def _backend(url: str | os.PathLike[str]) -> str:
    # Read here: to load SQLAlchemy, which DuckDB has no other use for, delays every command.
    if embedded_path(url) is not None:
        return "duckdb"
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return str(make_url(os.fspath(url)).get_backend_name())
    except (ArgumentError, ValueError):
        # The text is not shown: what cannot be parsed may hold a password anywhere.
        raise DefinitionError(f"the database URL cannot be read; allowed: {URL_FORMS}") from None
