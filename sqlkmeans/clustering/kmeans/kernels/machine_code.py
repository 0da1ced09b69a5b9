"""Compiled loops that are kept on disk as machine code, and loaded without their compiler.

numba takes most of a second to load and 100 MB, and holds the interpreter meanwhile; llvmlite, on
which it stands, reads an object file in a twentieth of that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Where numba keeps what it has compiled, if people want it elsewhere.
FOLDER_VARIABLE = "NUMBA_CACHE_DIR"
_SOURCE = Path(__file__).with_name("loops.py")

#: Engines own the code that they have loaded.
_engines: list[Any] = []


def load(name: str, compile_it: Callable[[], tuple[str, bytes]]) -> int:
    """The address of a function, which is compiled where it is not on disk yet.

    Parameters
    ----------
    name : str
        Tells it from others that are made of the same source for this processor.
    compile_it : callable
        Returns its symbol and an object file. What it raises goes to the caller.
    """
    path = _path(name)
    found = None if path is None else _kept(path)
    if found is None:
        found = compile_it()
        if path is not None:
            _keep(path, *found)
    return _linked(*found)


def can_be_kept() -> bool:
    """Whether what is compiled is there for the next process."""
    return _folder() is not None


def target_machine() -> Any:
    """What makes and reads machine code for this processor, as numba has it."""
    llvm = _llvm()
    triple = llvm.get_process_triple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3,
        reloc="static" if triple.startswith("x86") else "default", codemodel="jitdefault",
        jit=True,
    )  # fmt: skip


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    # Older versions want it, and newer ones raise.
    with suppress(RuntimeError, AttributeError):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _linked(symbol: str, code: bytes) -> int:
    llvm = _llvm()
    empty = llvm.parse_assembly(f'target triple = "{llvm.get_process_triple()}"')
    engine = llvm.create_mcjit_compiler(empty, target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))


@cache
def _folder() -> Path | None:
    """As numba does: where people say, else beside the module, else among the user's own.

    None where it is not the user's alone: whoever can write there would have their code run.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    for folder in [Path(given)] if given else [_SOURCE.with_name("__pycache__"), *_of_the_user()]:
        with suppress(OSError):
            folder.mkdir(0o700, parents=True, exist_ok=True)
            if _is_the_users_own(folder.stat()):
                with tempfile.TemporaryFile(dir=folder):
                    return folder
    return None


def _is_the_users_own(found: os.stat_result) -> bool:
    """Whether nobody else can write it; Windows keeps others out of what is a user's by itself."""
    return sys.platform == "win32" or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _of_the_user() -> list[Path]:
    """The user's cache folder for this package, where there is a home."""
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        caches = os.path.expanduser("~/Library/Caches")
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # A home that is not known stays a tilde.
    return [Path(caches, "sqlkmeans")] if caches and os.path.isabs(caches) else []


@cache
def _made_for() -> str:
    """Source, compiler and processor: code that was made of or for others is not read."""
    llvm = _llvm()
    told = (
        _SOURCE.read_bytes(), metadata.version("numba"), metadata.version("llvmlite"),
        llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), sys.platform,
        ctypes.sizeof(ctypes.c_void_p),
    )  # fmt: skip
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _path(name: str) -> Path | None:
    folder = _folder()
    if folder is None:
        return None
    try:
        return folder / f"{name}-{_made_for()}.o"
    except OSError:  # the source is in an archive
        return None


def _kept(path: Path) -> tuple[str, bytes] | None:
    try:
        with path.open("rb") as file:
            if not _is_the_users_own(os.fstat(file.fileno())):
                return None
            digest, symbol, code = file.read().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(symbol + code).hexdigest().encode() != digest:
        return None
    return symbol.decode(), code


def _keep(path: Path, symbol: str, code: bytes) -> None:
    digest = hashlib.sha256(symbol.encode() + code).hexdigest().encode()
    # Whole or not at all: another process may be reading, or writing the same.
    with suppress(OSError):
        handle, written = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"\n".join([digest, symbol.encode(), code]))
            os.replace(written, path)
        except OSError:  # a full disk; on Windows, somebody who reads it
            os.unlink(written)
