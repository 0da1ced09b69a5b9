"""The engines that the shared tests run with.

A new one is among them by its line in ``sqlkmeans.names.ENGINES``, if it takes rows from every
database. Engines that run inside one kind of server are asked of there.
"""

from __future__ import annotations

from sqlkmeans import names
from sqlkmeans.engines import Engine, engine_of

#: The others find what this one finds.
FIRST = "local"
ENGINES = [name for name in names.ENGINES if isinstance(engine_of(name), Engine)]
OTHERS = [name for name in ENGINES if name != FIRST]
