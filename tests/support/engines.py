"""The engines that the shared tests run with.

A new one is among them by its line in ``sqlkmeans.names.ENGINES``, if it takes rows from every
database. Engines that run inside one kind of server are asked of there, and one that needs a
session of its own is a parameter with a mark, for parametrised tests only.
"""

from __future__ import annotations

from typing import Any

import pytest

from sqlkmeans import names
from sqlkmeans.engines import Engine, engine_of

#: The others find what this one finds.
FIRST = "local"
_FOUND = [name for name in names.ENGINES if isinstance(engine_of(name), Engine)]
#: Those that need nothing but the database.
ENGINES = [name for name in _FOUND if name not in names.SOURCES]
#: To parametrise with: all of them, and all but the first.
EVERY_ENGINE: list[Any] = [
    pytest.param(name, marks=getattr(pytest.mark, name)) if name in names.SOURCES else name
    for name in _FOUND
]
OTHERS = [engine for engine in EVERY_ENGINE if engine != FIRST]
