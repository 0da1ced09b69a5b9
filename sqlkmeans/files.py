"""Files that commands write: whole or not at all, and never through somebody else's link."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlkmeans.errors import DefinitionError


def write_file(path: str | Path, content: str | bytes, *, replace: bool = True) -> Path:
    """Write a file whole; see :func:`opened_file`.

    Parameters
    ----------
    path : path-like
    content : str or bytes
        Text is written as UTF-8, with its line breaks as they are.
    replace : bool, default=True
        Whether a file that is there may be replaced.

    Raises
    ------
    DefinitionError
        If it cannot be written, or something else is there: a link, a folder, a device.
    """
    with opened_file(path, replace=replace) as file:
        file.write(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )
    return Path(path)


@contextmanager
def opened_file(path: str | Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside its place, under a name that nobody can guess, and put it there at the
    end; after an error it is gone.

    Parameters and errors are those of :func:`write_file`.
    """
    path = Path(path)
    try:
        _check_place(path, replace)
        beside = path.with_name(f".{secrets.token_hex(8)}.tmp")
        # As open() would make it, but never one that is there already.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(beside, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.replace(beside, path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be written: {error.strerror or error}") from None
    except ValueError as error:
        if "\0" not in str(path):
            raise
        raise DefinitionError(f"{str(path)!r} given; allowed: a file's path") from error


def check_place(path: str | Path, *, replace: bool = True) -> None:
    """Refuse a place where :func:`write_file` could not write, before the work is done.

    Raises
    ------
    DefinitionError
    """
    path = Path(path)
    try:
        _check_place(path, replace)
        if not path.parent.is_dir():
            raise DefinitionError(f"{path}: cannot be written: there is no folder {path.parent}")
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be written: {error.strerror}") from None
    except ValueError:  # a NUL
        raise DefinitionError(f"{str(path)!r} given; allowed: a file's path") from None
    if not os.access(path.parent, os.W_OK):
        raise DefinitionError(
            f"{path}: cannot be written: you may write no file in folder {path.parent}"
        )


def _check_place(path: Path, replace: bool) -> None:
    try:
        there = path.lstat().st_mode
    except FileNotFoundError:
        if not path.name:
            raise DefinitionError(f"{path}: allowed: a file's path") from None
        return
    if not stat.S_ISREG(there):
        kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}
        what = kinds.get(stat.S_IFMT(there), "no ordinary file")
        raise DefinitionError(f"{path}: is {what}, and is not written to; name a file")
    if not replace:
        raise DefinitionError(f"{path}: is there already; add --force to replace it")
