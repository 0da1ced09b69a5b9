"""Whether Docker could run a SQL Server here, asked before anything else is loaded."""

from __future__ import annotations

import threading

#: Seconds for an answer. An engine that runs gives one in milliseconds.
PATIENCE = 5


def trouble() -> str:
    """Why no SQL Server's container can be started here; empty where one can.

    The engine is the one that Testcontainers would use: ``DOCKER_HOST``, Docker's current context,
    or the socket or pipe where an engine usually listens.
    """
    try:
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        return "testcontainers is not installed"
    said: list[str] = []

    def ask() -> None:
        try:
            system = DockerClient(timeout=PATIENCE).client.version()["Os"]
        except Exception as error:  # whatever stands in the way, from pipes to certificates
            said.append(f"Docker does not answer: {str(error)[:200]}")
        else:
            linux = system == "linux"
            said.append("" if linux else f"Docker runs containers of {system}, not of Linux")

    # A thread that nobody waits for at the end: a name that no server resolves, or a tunnel that
    # asks for a password, keeps the client longer than its own timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return said[0] if said else f"Docker does not answer within {PATIENCE} s"
