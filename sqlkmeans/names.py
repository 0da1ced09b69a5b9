"""The engines and the databases that there are, and where each is found."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Name, and the class that is it; a module is imported when its engine is asked for.
ENGINES = {
    "local": "sqlkmeans.engines.local.engine:LocalEngine",
    "pushdown": "sqlkmeans.engines.pushdown.engine:PushdownEngine",
    "spark": "sqlkmeans.engines.pushdown.engine:PushdownEngine",
    "in_database": "sqlkmeans.engines.server.engine:ServerEngine",
    "tsql": "sqlkmeans.engines.server.engine:ServerEngine",
}

#: Engines whose rows are not in the database that has the labels, and who reads them.
SOURCES = {
    "spark": "sqlkmeans.database.spark.sources:open_sources",
}

#: The same of what has their labels, where the target is beside the database too.
LABELS = {
    "spark": "sqlkmeans.database.spark.lake:open_labels",
}

#: What gives a session of such an engine, by the definition.
SESSIONS = {
    "spark": "sqlkmeans.database.spark.session:session_of",
}

#: The same of a database: the first part of its URL.
DATABASES = {
    "duckdb": "sqlkmeans.database.duckdb.database:DuckDBDatabase",
    "mssql": "sqlkmeans.database.sqlserver.database:SQLServerDatabase",
}
#: What URLs look like, for people.
URL_FORMS = "duckdb:///file.duckdb, mssql+mssqlpython://…, mssql+pyodbc://…"


def find(place: str) -> Any:
    """What stands at ``module:name``."""
    module, name = place.split(":")
    return getattr(import_module(module), name)
