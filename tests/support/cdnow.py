"""The CDNOW example as its page has it made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

CDNOW = Path(__file__).parents[2] / "examples" / "cdnow"


def load_cdnow(database: Path) -> None:
    """Make the database with the example's load.py."""
    spec = importlib.util.spec_from_file_location("cdnow_load", CDNOW / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load(str(database))
