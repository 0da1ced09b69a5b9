"""What `doctor` says of servers of every kind, from what they would answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sqlkmeans.database.base import Finding
from sqlkmeans.database.sqlserver import doctor as sqlserver_doctor
from sqlkmeans.database.sqlserver.errors import ServerError

#: The answer to the first question that holds a text; an exception is raised.
USUAL: dict[str, Any] = {
    "'ProductVersion'": ("16.0.4003.1", "Developer Edition (64-bit)", 3, "shop", "Latin1_General"),
    "compatibility_level": (160,),
    "OPENJSON": ("1",),
    "is_trustworthy_on": ("shop_owner", 0, 0, 1, "[shop]"),
    "snapshot_isolation_state": (1, 1),
    "sqlkmeans.version()": ("0.1.0",),
    "HAS_PERMS_BY_NAME": (1,),
    "USER_NAME()": ("etl",),
    "'IsAdvancedAnalyticsInstalled'": (1,),
    "external scripts enabled": (1,),
    "'EngineEdition'": (3,),
    "HAS_DBACCESS": (1, 4711),
    "dm_server_services": (1,),
}


class Answers:
    """A session with a server that has these answers, and remembers what it was asked."""

    def __init__(self, **changes: Any) -> None:
        self._answers = {**USUAL, **changes}
        self.asked: list[str] = []

    def guarded(self, query: str) -> list[tuple[Any, ...]]:
        self.asked.append(query)
        answer = next(answer for part, answer in self._answers.items() if part in query)
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def examine(**changes: Any) -> tuple[dict[str, Finding], Answers]:
    session = Answers(**changes)
    connector = SimpleNamespace(driver="mssqlpython", options={}, errors=(ServerError,))
    version = max(
        int(name.rpartition("/")[2][:4])
        for name in sqlserver_doctor.build_order()
        if name.startswith("migrations/")
    )
    findings = sqlserver_doctor.examine(session, connector, version)  # type: ignore[arg-type]
    return {finding.check: finding for finding in findings}, session


def test_a_server_that_has_everything_needs_nothing() -> None:
    findings, _ = examine()
    assert [f for f in findings.values() if f.ok is not True] == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [((None, 0, None, 0, "[shop]"), "ALTER AUTHORIZATION ON DATABASE::[shop]"),
     (("ada", 0, 0, 0, "[shop]"), "dbo is no login of this server"),
     (("sa", 1, 1, 1, "[shop]"), "SET TRUSTWORTHY OFF")],
)  # fmt: skip
def test_an_owner_whom_procedures_cannot_be_or_should_not_be_is_told(
    answer: tuple[Any, ...], words: str
) -> None:
    findings, _ = examine(is_trustworthy_on=answer)
    assert findings["owner"].ok is False
    assert words in findings["owner"].detail


def test_external_scripts_ask_for_no_permission() -> None:
    """The procedure that uses them runs as its owner."""
    findings, session = examine()
    assert findings["external scripts"].ok is True
    assert not any("ANY EXTERNAL SCRIPT" in query for query in session.asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [({"'IsAdvancedAnalyticsInstalled'": (0,)}, "no Machine Learning Services"),
     ({"external scripts enabled": (0,)}, "sp_configure 'external scripts enabled', 1")],
)  # fmt: skip
def test_missing_external_scripts_are_information(answer: dict[str, Any], words: str) -> None:
    finding = examine(**answer)[0]["external scripts"]
    assert finding.ok is None
    assert words in finding.detail


def test_express_has_no_agent_although_msdb_has_its_procedures() -> None:
    findings, session = examine(**{"'EngineEdition'": (4,)})
    agent = findings["SQL Server Agent"]
    assert agent.ok is None
    assert "Express has none" in agent.detail
    assert not any("dm_server_services" in query for query in session.asked)


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [({"dm_server_services": (0,)}, None, "start its service"),
     ({"HAS_DBACCESS": (0, None)}, None, "cron"),
     ({"dm_server_services": ServerError(300, "VIEW SERVER STATE was denied")}, None,
      "cannot be told")],
    ids=["stopped", "no msdb", "no permission"],
)  # fmt: skip
def test_an_agent_that_cannot_be_used_is_information(
    answer: dict[str, Any], ok: bool | None, words: str
) -> None:
    agent = examine(**answer)[0]["SQL Server Agent"]
    assert agent.ok is ok
    assert words in agent.detail


@pytest.mark.parametrize(
    ("level", "json", "ok", "words"),
    [(160, ("1",), True, "160"),
     (130, ("1",), True, "130"),
     (120, ServerError(208, "Invalid object name 'OPENJSON'"), False,
      "SET COMPATIBILITY_LEVEL = 130"),
     (120, ("1",), None, "needs 130")],
)  # fmt: skip
def test_a_compatibility_level_below_130_is_never_called_right(
    level: int, json: Any, ok: bool | None, words: str
) -> None:
    finding = examine(compatibility_level=(level,), OPENJSON=json)[0]["compatibility level"]
    assert finding.ok is ok
    assert words in finding.detail


def test_2016_without_its_service_pack_is_told() -> None:
    row = ("13.0.1601.5", "Standard Edition (64-bit)", 2, "shop", "Latin1_General")
    finding = examine(**{"'ProductVersion'": row})[0]["server"]
    assert finding.ok is False
    assert "Service Pack 1" in finding.detail
