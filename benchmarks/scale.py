"""Time and memory by the number of rows, on DuckDB, as whole processes.

    python benchmarks/scale.py [--rows 100000 1000000 10000000] [--limit 1GiB] [--write]

``sqlkmeans run`` segments customers with 4 features into 5 segments. The customers are made by
DuckDB in SQL. Seconds are those of the whole process, from its start to its exit. Memory is the
peak of what the process holds and could not drop (anonymous memory), and of all that is resident,
mapped files included, both sampled every 20 ms; a million rows cost the difference to a run on
1,000 rows, which is the interpreter and its libraries.

``--limit`` gives the run that ``--memory-limit``, and the kernel enforces it: the process runs in
a control group of its own (version 1 or 2, where this user may make one, or by systemd-run), which
is killed if it takes more. Its peak then counts the page cache of the files as well.

The inertia that a run prints must be the sum of the squared distances in its segment table, and
be linear in the rows: the customers of each size come from the same distribution.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZES = [100_000, 1_000_000, 10_000_000]
BASE_ROWS = 1_000
FEATURES = ["income", "age", "orders", "tenure"]
RESULTS = Path(__file__).parent / "results" / "scale.md"
GROUPS = Path("/sys/fs/cgroup")

# Four overlapping groups; normal deviates from pairs of uniform ones (Box & Muller, 1958).
CUSTOMERS = """
CREATE TABLE dbo.customer AS
SELECT i + 1 AS customer_id,
       exp(10.2 + 0.3 * g + 0.4 * sqrt(-2 * ln(u1)) * cos(2 * pi() * u2)) AS income,
       20 + 8 * g + 8 * sqrt(-2 * ln(u1)) * sin(2 * pi() * u2) AS age,
       floor(exp(0.5 * g + 0.7 * sqrt(-2 * ln(u3)) * cos(2 * pi() * u4))) AS orders,
       1 + 2 * g + 2 * abs(sqrt(-2 * ln(u3)) * sin(2 * pi() * u4)) AS tenure
FROM (SELECT i, CAST(hash(i) % 4 AS integer) AS g,
             1 - hash(i * 5 + 1) / pow(2, 64) AS u1, hash(i * 5 + 2) / pow(2, 64) AS u2,
             1 - hash(i * 5 + 3) / pow(2, 64) AS u3, hash(i * 5 + 4) / pow(2, 64) AS u4
      FROM range({rows}) AS r(i))
"""


@dataclass
class Measured:
    """One run: seconds, bytes, and what it published."""

    rows: int
    seconds: float
    anonymous: int
    resident: int
    group: int | None
    inertia: float
    spilled: bool
    steps: dict[str, float]


def make(path: Path, rows: int) -> None:
    """A database with so many customers, and a definition beside it."""
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA dbo")
        connection.execute(CUSTOMERS.format(rows=rows))
    path.with_suffix(".toml").write_text(
        f'[database]\nurl = "duckdb:///{path.as_posix()}"\n\n[segmentation.customers]\n'
        f'source = "dbo.customer"\nkey = "customer_id"\nfeatures = {json.dumps(FEATURES)}\n'
        'k = 5\ntarget = "dbo.customer_segment"\n'
    )


@contextmanager
def limited(limit: int | None) -> Iterator[tuple[list[str], Path | None]]:
    """Words to start a command with so that it may take no more, and its group's folder."""
    if limit is None:
        yield [], None
        return
    name = f"sqlkmeans-{os.getpid()}"
    for root, file in ((GROUPS / "memory", "memory.limit_in_bytes"), (GROUPS, "memory.max")):
        group = root / name
        try:
            group.mkdir()
            (group / file).write_text(str(limit))
        except OSError:
            continue
        try:
            enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
            yield ["sh", "-c", enter, "sh"], group
        finally:
            group.rmdir()
        return
    if shutil.which("systemd-run") is None:
        raise SystemExit("--limit needs a control group: run as root, or install systemd-run")
    yield ["systemd-run", "--user", "--scope", "--quiet", "-p", f"MemoryMax={limit}", "-p",
           "MemorySwapMax=0"], None  # fmt: skip


class Meter(threading.Thread):
    """Samples the memory of a process until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self.anonymous = self.resident = 0

    def run(self) -> None:
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            values = dict(line.split(":", 1) for line in lines)
            if "RssAnon" not in values:
                return
            self.anonymous = max(self.anonymous, 1024 * int(values["RssAnon"].split()[0]))
            self.resident = max(self.resident, 1024 * int(values["VmRSS"].split()[0]))
            time.sleep(0.02)


def measure(folder: Path, rows: int, limit: int | None) -> Measured:
    """Make customers and segment them."""
    path = folder / "scale.duckdb"
    make(path, rows)
    command = [sys.executable, "-m", "sqlkmeans", "run", str(path.with_suffix(".toml")), "--json"]
    if limit is not None:
        command += ["--memory-limit", str(limit)]
    with limited(limit) as (prefix, group):
        started = time.perf_counter()
        process = subprocess.Popen([*prefix, *command], stdout=subprocess.PIPE)
        meter = Meter(process.pid)
        meter.start()
        printed, _ = process.communicate()
        seconds = time.perf_counter() - started
        peak = _peak(group)
    if process.returncode:
        raise SystemExit(f"{rows:,} rows: the run ended with {process.returncode}")
    result = json.loads(printed)
    _check_inertia(path, result["inertia"], rows)
    path.unlink()
    return Measured(
        rows, seconds, meter.anonymous, meter.resident, peak, result["inertia"],
        any("kept in files" in warning for warning in result["warnings"]), result["seconds"],
    )  # fmt: skip


def _peak(group: Path | None) -> int | None:
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if group is not None and (group / name).exists():
            return int((group / name).read_text())
    return None


def _check_inertia(path: Path, inertia: float, rows: int) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        labels, squares = connection.execute(
            "SELECT COUNT(*), SUM(distance * distance) FROM dbo.customer_segment"
        ).fetchone()
    assert labels == rows, f"{labels:,} labels of {rows:,} rows"
    assert abs(squares - inertia) <= 1e-9 * inertia, f"inertia {inertia}, in the table {squares}"


def slope(found: list[Measured]) -> float:
    """Of the seconds by the rows, both as logarithms: 1 is linear."""
    x = [math.log(m.rows) for m in found]
    y = [math.log(m.seconds) for m in found]
    middle = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - middle[0]) * (b - middle[1]) for a, b in zip(x, y))
    return across / sum((a - middle[0]) ** 2 for a in x)


def table(found: list[Measured], base: Measured, command: str) -> str:
    """The results as a page."""
    import duckdb

    from sqlkmeans.clustering.kmeans.kernels import kernel

    mib = 2**20
    lines = [
        "# Time and memory by the number of rows", "", f"    {command}", "",
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}. Fit: {kernel.describe()}.", "",
        "| rows | seconds | a million rows | of these read, fit, assign, publish | anonymous | "
        "a million rows | resident | control group | rows in | inertia a row |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]  # fmt: skip
    for m in found:
        millions = m.rows / 1e6
        memory = (m.anonymous - base.anonymous) / mib / millions
        steps = ", ".join(f"{m.steps[name]:.1f}" for name in ("read", "fit", "assign", "publish"))
        group = "" if m.group is None else f"{m.group / mib:,.0f} MiB"
        lines.append(
            f"| {m.rows:,} | {m.seconds:.1f} | {m.seconds / millions:.2f} | {steps} | "
            f"{m.anonymous / mib:,.0f} MiB | {memory:,.0f} MiB | "
            f"{m.resident / mib:,.0f} MiB | {group} | "
            f"{'files' if m.spilled else 'memory'} | {m.inertia / m.rows:.5f} |"
        )
    if len(found) == 1:
        return "\n".join(lines) + "\n"
    lines += ["", f"Seconds grow with rows to the power {slope(found):.2f}"]
    large = [m for m in found if m.rows >= 1_000_000]
    if 1 < len(large) < len(found):
        lines[-1] += f", from 1,000,000 rows on to the power {slope(large):.2f}"
    lines[-1] += (
        f". On {base.rows:,} rows a run takes {base.seconds:.1f} s and "
        f"{base.anonymous / mib:,.0f} MiB."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory by the number of rows.")
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--limit", help="what the process may take, such as 1GiB")
    parser.add_argument("--folder", help="where the databases are made; default: TMPDIR")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name}")
    options = parser.parse_args()
    from sqlkmeans.memory import check_memory_limit

    limit = None if options.limit is None else check_memory_limit(options.limit)
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        base = measure(Path(folder), BASE_ROWS, limit)
        *smaller, largest = sorted(options.rows)
        for rows in smaller:
            measure(Path(folder), rows, limit)  # what is compiled for the first run is kept
        for rows in [*smaller, largest]:
            found.append(measure(Path(folder), rows, limit))
            print(f"{rows:,} rows: {found[-1].seconds:.1f} s", file=sys.stderr)
    a_row = [m.inertia / m.rows for m in found]
    assert max(a_row) <= 1.02 * min(a_row), f"inertia is not linear in the rows: {a_row}"
    page = table(found, base, "python benchmarks/scale.py " + " ".join(sys.argv[1:]))
    print(page)
    if options.write:
        RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
