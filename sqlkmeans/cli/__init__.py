"""The command line: a thin skin over the package."""

from sqlkmeans.cli.app import main

__all__ = ["main"]
