"""Every error that people are meant to see, each with all the problems found and an exit code."""

from __future__ import annotations

from collections.abc import Iterable

from sqlkmeans.words import without_passwords

#: As many problems are told, and as much of each; a definition can have thousands of mistakes.
MOST_PROBLEMS, MOST_CHARACTERS = 20, 2_000


class SqlKMeansError(Exception):
    """The job failed.

    Parameters
    ----------
    problems : str or iterable of str
        Everything that is wrong, one sentence each: what was given, what is allowed. After the
        first 20 the rest is counted.

    Attributes
    ----------
    problems : list of str
    exit_code : int
        What the command line exits with.
    """

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        listed = [problems] if isinstance(problems, str) else list(problems)
        # Whatever was given may be quoted in them: a URL under a wrong key is one.
        self.problems = [_shortened(without_passwords(text)) for text in listed[:MOST_PROBLEMS]]
        if len(listed) > MOST_PROBLEMS:
            self.problems.append(f"and {len(listed) - MOST_PROBLEMS:,} more")
        super().__init__("\n".join(self.problems))

    def to_json(self) -> dict[str, object]:
        """The object that ``--json`` prints for a failure."""
        return {"error": {"code": self.exit_code, "problems": self.problems}}


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… ({len(text) - MOST_CHARACTERS:,} characters more)"


class DefinitionError(SqlKMeansError):
    """A definition or an argument is wrong."""

    exit_code = 2


class DataError(SqlKMeansError):
    """The rows cannot be clustered as they are."""

    exit_code = 3


class NoRows(DataError):
    """The source has none."""


class DatabaseError(SqlKMeansError):
    """The database cannot be reached, or refused what was asked."""

    exit_code = 4


class LockedError(SqlKMeansError):
    """Another run holds the lock."""

    exit_code = 5
