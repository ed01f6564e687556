"""What tells of one process of the service, put together from its settings."""

from __future__ import annotations

import http.client
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import clock
from syncd.db.database import Database
from syncd.db.leases import LEADER, LeaseSet
from syncd.db.rows import Paused
from syncd.engine.events import MessageFailed, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import ConfigError
from syncd.services.serving import Ended
from syncd.settings.load import load, load_service
from syncd.telemetry import logs
from syncd.telemetry.service import Telemetry, start_log
from tests.contract.test_channels import CONFIGURATION, OK, FakeWeb

SETTINGS = """
database_url = "postgresql://syncd:d4tabase-secret@127.0.0.1/syncd"
broker_url = "redis://:br0ker-secret@127.0.0.1:1/0"
[service]
listen = "127.0.0.1:0"
log = "json"
[notify]
webhook = "https://example.org/services/h00k-secret"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "syncd.toml"
    found.write_text(SETTINGS)
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(None, tmp_path) as opened:
        yield opened


def ask(telemetry: Telemetry, path: str) -> tuple[int, bytes]:
    assert telemetry.address is not None
    connection = http.client.HTTPConnection(*telemetry.address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_process_tells_of_itself_and_of_its_runs(file: Path, database: Database, tmp_path: Path) -> None:
    loaded, log = load_service(file, environment={}), tmp_path / "log"
    with start_log(loaded, log):
        telemetry = Telemetry(loaded, database)
        looked_at = [clock.monotonic()]
        telemetry.expect("sweep", 30, lambda: looked_at[0])
        telemetry.start()
        try:
            assert [json.loads(ask(telemetry, "/readyz")[1])["reasons"][0]["part"]] == ["scheduler"]
            with LeaseSet.acquire(database, [LEADER], "scheduling", renew_s=0):
                telemetry.health.check("scheduler", lambda: "")
                assert ask(telemetry, "/readyz")[0] == 200
            telemetry.listen(MessageFailed("road", 1, "new", "rejected", "550 no"))
            telemetry.tell(Ended(RunReport("road", 7, fetched=2, fetched_octets=500), closed=False))
            failed = RunReport(
                "road", 7, exit_code=ExitCode.SIGN_IN_REFUSED, errors=["redis://:br0ker-secret@x refused"]
            )
            telemetry.tell(Ended(failed, closed=True, paused=Paused.SIGN_IN))
            metrics = ask(telemetry, "/metrics")[1].decode()
            looked_at[0] -= 60
            assert ask(telemetry, "/healthz")[0] == 503
        finally:
            telemetry.stop()
            telemetry.stop()
        logging.getLogger("kombu").warning(
            "cannot reach redis://:br0ker-secret@127.0.0.1:1/0 d4tabase-secret h00k-secret"
        )
    for line in (
        'syncd_runs_total{result="sign_in_refused"} 1.0',
        'syncd_octets_total{job="road",what="fetched"} 500.0',
        'syncd_errors_total{class="message_rejected"} 1.0',
        'syncd_beat_age_seconds{part="sweep"}',
        "syncd_database_up 1.0",
    ):
        assert line in metrics
    text = log.read_text()
    assert "-secret" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines][:4] == ["http.listens", "slice.ended", "run.ended", "job.paused"]
    assert {line["run"] for line in lines[1:4]} == {7}
    assert (lines[2]["exit_code"], lines[2]["error"], lines[3]["why"]) == (4, "redis://:…@x refused", "sign_in")


def test_a_process_that_listens_nowhere(file: Path, database: Database) -> None:
    file.write_text(SETTINGS.replace("127.0.0.1:0", ""))
    telemetry = Telemetry(load_service(file, environment={}), database)
    telemetry.start()
    assert telemetry.address is None
    telemetry.stop()


def test_a_port_that_is_taken_ends_the_start(file: Path, database: Database) -> None:
    first = Telemetry(load_service(file, environment={}), database)
    assert first.address is not None
    file.write_text(SETTINGS.replace(":0", f":{first.address[1]}"))
    with pytest.raises(ConfigError, match="another program listens there"):
        Telemetry(load_service(file, environment={}), database)
    first.stop()


def test_people_are_told_by_a_scheduler_that_reads_no_accounts(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "syncd.toml"
    with FakeWeb(OK) as web:
        file.write_text(CONFIGURATION.format(port=1, web=web.url) + '\n[service]\nlisten = ""\n')
        telemetry = Telemetry(load_service(file, environment={}), database)
        assert [channel.name for channel in telemetry._notifier._channels] == ["email", "webhook"]
        (duty,) = telemetry.duties
        duty()
        assert telemetry._notifier.wait(60)
        assert web.requests[0].startswith(b"GET /ping ")
        file.write_text(file.read_text().replace('username = "user"', 'user = "user"'))
        telemetry.reload(load_service(file, environment={}))
        assert [channel.name for channel in telemetry._notifier._channels] == ["webhook"]
        assert "notify.no_mail: the configuration is wrong: " in caplog.text


def test_a_log_for_people_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "syncd.toml").write_text("")
    stream = io.StringIO()
    with start_log(load(tmp_path / "syncd.toml", environment={}), tmp_path / "log", verbose=True):
        logs.get("x").debug("begun", n=1)
    stream.write((tmp_path / "log").read_text())
    assert "begun" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
