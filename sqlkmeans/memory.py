"""How much memory a run may take, and amounts of it in words."""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

#: The interpreter, its libraries and a chunk's worth of work take half of it.
LEAST_LIMIT = 512 * 2**20

_OWN_GROUPS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
#: Where each version of cgroups keeps a group, its limit, and what of its use cannot be dropped.
_VERSIONS = {
    "": (_CGROUPS, "memory.max", "anon"),
    "memory": (_CGROUPS / "memory", "memory.limit_in_bytes", "total_rss"),
}


def parse_bytes(text: str) -> int:
    """A number of bytes from text such as ``1GiB``, ``512 MB`` or ``1.5GiB``.

    Raises
    ------
    ValueError
        If it is not one.
    """
    match = _AMOUNT.fullmatch(text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is no amount of memory")
    return int(float(match[1]) * unit)


def check_memory_limit(value: Any) -> int:
    """A ``memory_limit`` as people give it, as a number of bytes.

    Raises
    ------
    ValueError
        With what was given and what is allowed.
    """
    try:
        limit = parse_bytes(value) if isinstance(value, str) else value
    except (ValueError, OverflowError):
        limit = None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < LEAST_LIMIT:
        shown = f'"{value}"' if isinstance(value, str) else str(value)
        raise ValueError(
            f'{shown} given; allowed: an amount of memory such as "1GiB" or "800 MB", or a number '
            f"of bytes; {in_words(LEAST_LIMIT)} or more"
        )
    return limit


def in_words(amount: float) -> str:
    """An amount of bytes for people: ``1.5 GiB``."""
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024 or unit == "GiB":
            break
    return f"{amount:.4g} {unit}" if amount < 1000 else f"{amount:,.0f} {unit}"


def free_memory() -> int:
    """Bytes that this process could still take: of the machine's, and of its control group's."""
    import psutil

    free = [int(psutil.virtual_memory().available)]
    try:
        groups = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        groups = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        for version, where in _VERSIONS.items():
            if version in controllers.split(","):
                free += _free_in_groups(path, *where)
    return max(0, min(free))


def _free_in_groups(path: str, root: Path, limit: str, used: str) -> list[int]:
    """What is free in a control group and in those that it is in.

    A container may not see its own path, but its group as the root.
    """
    parts = Path(path.lstrip("/")).parts
    free = []
    for depth in range(len(parts) + 1):
        group = root.joinpath(*parts[:depth])
        try:
            allowed = (group / limit).read_text(encoding="utf-8").strip()
            lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        if allowed != "max":
            counted = dict(line.split() for line in lines)
            free.append(int(allowed) - int(counted.get(used, 0)))
    return free


def release_unused() -> None:
    """Give back to the system what has been freed and is kept for later, where that can be done."""
    import pyarrow as pa

    for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
        pool.release_unused()
    if sys.platform == "linux":
        # Not with every C library.
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)
