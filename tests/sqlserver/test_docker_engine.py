"""Where Docker answers, a SQL Server is started; where not, tests stay parallel and say why."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support import docker_engine


@pytest.fixture(autouse=True)
def no_engine_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests say themselves where Docker is."""
    pytest.importorskip("testcontainers.core.docker_client")
    for name in ("SQLKMEANS_TEST_URL", "PYTEST_XDIST_WORKER_COUNT", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@contextmanager
def engine_of(system: str) -> Iterator[str]:
    """The address of an engine that tells its version, and refuses all else."""

    class Engine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.endswith("/version")
            body = {"ApiVersion": "1.44", "Os": system} if known else {"message": "out of order"}
            answer = json.dumps(body).encode()
            self.send_response(200 if known else 500)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def in_one_process(pytestconfig: pytest.Config) -> Callable[[], bool]:
    """A function that asks whether pytest would run everything in one process."""
    return lambda: pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig) == 0


def why_there_is_no_server() -> str:
    """The reason of the skips, in a process that has not asked for a server yet."""
    script = (
        "from support import sqlserver_server; url, why = sqlserver_server.find(); print(url, why)"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


def test_an_engine_that_runs_linux_containers_can_run_a_server(
    monkeypatch: pytest.MonkeyPatch, in_one_process: Callable[[], bool]
) -> None:
    with engine_of("linux") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        assert docker_engine.trouble() == ""
        assert in_one_process()


def test_tests_that_leave_the_server_out_stay_parallel_whatever_docker_says(
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
    in_one_process: Callable[[], bool],
) -> None:
    with engine_of("linux") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        monkeypatch.setattr(pytestconfig.option, "markexpr", "not sqlserver and not slow")
        assert not in_one_process()


def test_an_engine_of_windows_containers_runs_no_server(
    monkeypatch: pytest.MonkeyPatch, in_one_process: Callable[[], bool]
) -> None:
    with engine_of("windows") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        assert docker_engine.trouble() == "Docker runs containers of windows, not of Linux"
        assert not in_one_process()


def test_without_an_engine_tests_are_parallel_and_the_skips_say_why(
    monkeypatch: pytest.MonkeyPatch, closed_port: str, in_one_process: Callable[[], bool]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", closed_port)
    assert not in_one_process()
    expected = "None SQLKMEANS_TEST_URL is not set, and Docker does not answer: "
    assert why_there_is_no_server().startswith(expected)


def test_an_engine_that_cannot_start_the_server_is_the_reason_of_the_skips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with engine_of("linux") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        said = why_there_is_no_server()
    assert "no container starts" in said
    assert "out of order" in said


def test_processes_side_by_side_do_not_start_a_server_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    with engine_of("linux") as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        assert "one database: run them in one process" in why_there_is_no_server()


def test_an_engine_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer" in docker_engine.trouble()
