"""`syncd doctor` with databases and brokers behind sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.services import doctor_machine
from syncd.services.doctor import examine
from syncd.services.findings import Check, verdict
from syncd.settings.load import load
from syncd.settings.urls import parse_broker
from tests.contract.conftest import Opener
from tests.servers.redis import Redis, missing


def broker(url: str) -> Check:
    check = Check("broker")
    doctor_machine.broker(check, parse_broker(url))
    return check


def test_the_database_is_looked_at(open_ledger: Opener, database_url: str | None, tmp_path: Path) -> None:
    open_ledger().close()
    file = tmp_path / "syncd.toml"
    url = "" if database_url is None else f'database_url = "{database_url}"\n'
    file.write_text(f'state_directory = "{tmp_path}/state"\n{url}')
    checks = list(examine(load(file, environment={})))
    assert [it.name for it in checks] == ["versions", "database", "broker", "disk", "service", "jobs"]
    assert [finding for it in checks for finding in it.findings if finding.wrong] == []
    assert ("SQLite 3." if database_url is None else "PostgreSQL 1") in checks[1].facts[0]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    check = broker(f"{scheme}://:p%40ssword@127.0.0.1:{port}/")
    (finding,) = check.findings
    assert finding.code is ExitCode.TEMPORARY
    assert finding.text.startswith(f"the broker {scheme}://:…@127.0.0.1:{port}/ does not answer: ")
    assert "ssword" not in finding.text
    assert verdict([check]) is ExitCode.TEMPORARY


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_says_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "BROKER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check = broker(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
    assert len(check.findings) == 1
    assert "does not answer" in check.findings[0].text


@pytest.mark.servers
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_broker_that_answers() -> None:
    with Redis() as server:
        check = broker(server.url)
    assert check.findings == []
    assert check.facts == [f"{server.url} answers"]
