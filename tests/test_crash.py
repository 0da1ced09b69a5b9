"""A killed process, and two at once: the published labels are the old ones or the new ones."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from sqlkmeans import Segmentation, open_database, run

KILLS = 60
CUSTOMERS = 2_000

SEGMENTATION = {
    "name": "customers",
    "source": "dbo.customer",
    "key": "customer_id",
    "features": ["income", "age"],
    "k": 4,
    "target": "dbo.customer_segment",
    "n_init": 2,
}


def run_file(path: str) -> None:
    """What the child process does."""
    with open_database(f"duckdb:///{path}") as database:
        run(Segmentation.create(**SEGMENTATION), database)


def make_customers(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA dbo")
        connection.execute(
            "CREATE TABLE dbo.customer AS SELECT range AS customer_id, "
            "20000 + 40000 * (range % 4) + hash(range) % 20000 AS income, "
            f"20.0 + hash(range + 1) % 45 AS age FROM range({CUSTOMERS})"
        )


def change_customers(path: Path, turn: int) -> None:
    """A third of the customers move elsewhere, some leave and some come."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE dbo.customer SET income = 20000 + 40000 * ((income // 40000)::int % 4) "
            "+ hash(customer_id + $turn) % 20000 WHERE customer_id % 3 = $turn % 3",
            {"turn": turn},
        )
        connection.execute(
            "DELETE FROM dbo.customer WHERE customer_id % 97 = $turn % 97", {"turn": turn}
        )
        connection.execute(
            "INSERT INTO dbo.customer SELECT 1000000 * $turn + range, 150000, 60 FROM range(20)",
            {"turn": turn},
        )


def labels(path: Path) -> list[tuple[int, int]]:
    """The published labels, once they are seen to agree with the history and the run log."""
    with duckdb.connect(str(path)) as connection:
        query = "SELECT customer_id, segment_id FROM dbo.customer_segment ORDER BY 1"
        published = connection.execute(query).fetchall()
        current = connection.execute(
            "SELECT customer_id, segment_id FROM dbo.customer_segment_history "
            "WHERE valid_to IS NULL ORDER BY 1"
        ).fetchall()
        model = connection.execute(
            "SELECT COUNT(*) FROM sqlkmeans.centroid JOIN sqlkmeans.segmentation "
            "ON run_id = active_run_id"
        ).fetchone()
        assert current == published, "the open history rows are not the published labels"
        assert model == (4 * 2,), "the active model is not whole"
        return published


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine its hundred runs take minutes
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_labels(tmp_path: Path) -> None:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # Loaded once: a kill while Python loads its libraries shows nothing.
        context.set_forkserver_preload(
            ["sqlkmeans.pipeline", "sqlkmeans.database.duckdb.database",
             "sqlkmeans.engines.local.engine", "sklearn.cluster", "tests.test_crash"]
        )  # fmt: skip
    path = tmp_path / "shop.duckdb"
    make_customers(path)
    run_file(str(path))

    def start() -> multiprocessing.process.BaseProcess:
        child = context.Process(target=run_file, args=(str(path),))
        child.start()
        return child

    start().join()  # the first one waits for the libraries

    def rehearse() -> list[tuple[int, int]]:
        """The labels that a run which nobody kills publishes from the same customers."""
        rehearsal = tmp_path / "rehearsal.duckdb"
        shutil.copy(path, rehearsal)
        run_file(str(rehearsal))
        return labels(rehearsal)

    moments = random.Random(0)
    kills, kept, published, turn = 0, 0, 0, 0
    duration = 0.0
    while kills < KILLS:
        if turn % 5 == 0:  # how long a run takes changes with what else the machine does
            change_customers(path, turn + KILLS)
            began = time.perf_counter()
            start().join()
            duration = time.perf_counter() - began
        turn += 1
        old = labels(path)
        change_customers(path, turn)
        new = rehearse()
        assert new != old

        # Until one is killed too late: each begins with what the killed ones before it left. A run
        # that nobody kills succeeds after each of them, on a copy.
        found = old
        while found == old and kills < KILLS:
            child = start()
            time.sleep(moments.uniform(0, 1.4 * duration))
            child.kill()
            child.join()
            kills += 1
            found = labels(path)
            assert found in (old, new), f"kill {kills} left something else"
            assert rehearse() == new, f"the run after kill {kills} did not succeed"
            kept += found == old
            published += found == new

        run_file(str(path))
        assert labels(path) == new
    # The moments were spread over the run: some kills came before its publication, some after.
    assert kept >= KILLS // 6
    assert published >= 1
    with duckdb.connect(str(path)) as connection:
        left = connection.execute("SELECT COUNT(*) FROM sqlkmeans.run WHERE status = 'running'")
        assert left.fetchone() == (0,)


def test_of_two_runs_at_once_one_publishes_and_the_other_exits_5(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    make_customers(path)
    definition = tmp_path / "shop.toml"
    definition.write_text(
        f'[database]\nurl = "duckdb:///{path.as_posix()}"\n[segmentation.customers]\n'
        'source = "dbo.customer"\nkey = "customer_id"\nfeatures = ["income", "age"]\nk = 4\n'
        'target = "dbo.customer_segment"\n'
    )
    command = [sys.executable, "-m", "sqlkmeans", "run", str(definition)]
    # A run is inside from its first statement to its last; a database held open is such a moment.
    holder = duckdb.connect(str(path))
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    holder.close()
    assert refused.returncode == 5, refused.stderr
    assert "another process" in refused.stderr
    with duckdb.connect(str(path)) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert tables == [("customer",)]

    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    codes = sorted(process.wait(timeout=60) for process in both)
    for process in both:
        process.communicate()
    assert codes in ([0, 5], [0, 0])  # 0 and 0 where one had ended before the other began
    assert len(labels(path)) == CUSTOMERS


@pytest.mark.parametrize("checkpoint", ["as it is", "killed before it"])
def test_a_first_run_that_is_killed_leaves_a_database_that_opens(
    tmp_path: Path, checkpoint: str
) -> None:
    path = tmp_path / "shop.duckdb"
    make_customers(path)
    code = (
        "import os\n"
        "from sqlkmeans import Segmentation, open_database\n"
        f"database = open_database('duckdb:///{path.as_posix()}')\n"
        "class Native:\n"
        "    def __getattr__(self, name): return getattr(native, name)\n"
        "    def execute(self, query, *given):\n"
        "        return None if query == 'CHECKPOINT' else native.execute(query, *given)\n"
        "native = database._native\n"
        f"if {checkpoint == 'killed before it'}: database._connection.native = Native()\n"
        "database.install()\n"
        f"segmentation = Segmentation.create(**{SEGMENTATION!r})\n"
        "database.store.start(segmentation, {'kind': 'fit', 'engine': 'local'})\n"
        "os._exit(9)\n"  # nothing is closed, as by a kill
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with open_database(f"duckdb:///{path.as_posix()}") as database:
        result = run(Segmentation.create(**SEGMENTATION), database)
    assert result.run_id > 1
    assert result.changed == CUSTOMERS
