"""`syncd run` as a client of the service: whom it waits for, and for how long."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import clock
from syncd.db import workers
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.db.workers import Worker
from syncd.engine.events import Event, Noted, RunFinished, RunStarted
from syncd.engine.exit_codes import ExitCode
from syncd.errors import LedgerError
from syncd.services.apply import apply
from syncd.services.asking import GONE_S, RunsByService, served
from syncd.settings.load import Loaded, load

CONFIG = """
name = "home"
state_directory = "state"
database_url = "postgresql://syncd@db.example.net/syncd"
broker_url = "redis://127.0.0.1:1/0"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:P"
[archives.home]
path = "home"
site = "host-a"
[jobs.road]
source = "road"
destinations = ["home"]
"""


class Service:
    """A database with an applied job; what happens between two looks of a client is a list of acts."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        (directory / "syncd.toml").write_text(CONFIG)
        self.loaded: Loaded = load(directory / "syncd.toml", environment={"P": "secret"})
        self.database = Database.open(None, directory / "state")
        apply(self.loaded, self.database)
        self.events: list[Event] = []
        self.acts: list[Callable[[], object]] = []
        self.now = 1000.0
        patch.setattr(clock, "monotonic", lambda: self.now)
        self.client = RunsByService(self.loaded, self.database, ["road"], self.events.append)
        patch.setattr(self.client._cancelled, "wait", self.wait)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        if self.acts:
            self.acts.pop(0)()
        return False

    def worker(self, *sites: str) -> Worker:
        return Worker(Holder.me("worker"), "worker", ("", *sites), 8, "1")

    def lives(self, worker: Worker) -> None:
        with self.database.write() as connection:
            workers.beat(connection, worker)

    def dies(self, worker: Worker) -> None:
        workers.remove(self.database, worker.holder)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def closes(self) -> None:
        runs = Runs(self.database)
        claim = runs.claim(runs.history()[0].id, Holder.me("work"))
        assert claim is not None
        runs.finish(claim, RunState.DONE, 0, {})


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(tmp_path, monkeypatch)
    yield made
    made.database.close()


def test_who_serves_a_job(service: Service) -> None:
    assert not served(service.loaded, service.database, ["road"])
    service.lives(service.worker())
    assert not served(service.loaded, service.database, ["road"]), "its archive is elsewhere"
    service.lives(dataclasses.replace(service.worker("host-a"), role="scheduler"))
    assert not served(service.loaded, service.database, ["road"])
    service.lives(service.worker("host-a"))
    assert served(service.loaded, service.database, ["road"])
    assert not served(service.loaded, service.database, ["road", "unknown"])


def test_a_client_waits_for_half_a_minute_for_a_worker_of_the_site(service: Service) -> None:
    """Any other worker made it wait for ever."""
    service.lives(service.worker("host-b"))
    (report,) = service.client.execute()
    assert report.exit_code is ExitCode.TEMPORARY
    assert "the service has ended" in report.errors[0]
    assert GONE_S <= service.now - 1000.0 < GONE_S + 5
    assert [type(event) for event in service.events] == [RunFinished]
    assert Runs(service.database).history()[0].state is RunState.QUEUED


def test_two_short_absences_of_the_service_are_not_one_long_one(service: Service) -> None:
    """The second absence ended the client at once, as it was counted from the first."""
    worker = service.worker("host-a")
    service.acts = [
        int,
        lambda: service.lives(worker),
        lambda: service.pause(GONE_S * 2),
        lambda: service.dies(worker),
        int,
        lambda: service.lives(worker),
        service.closes,
    ]
    (report,) = service.client.execute()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])


def test_the_start_of_a_run_is_told_once(service: Service) -> None:
    """It was told at each look until the server had answered."""
    service.lives(service.worker("host-a"))
    runs = Runs(service.database)

    def begins() -> None:
        claim = runs.claim(runs.history()[0].id, Holder.me("work"))
        assert claim is not None
        service.acts += [int, int, lambda: runs.finish(claim, RunState.DONE, 0, {})]

    service.acts = [int, begins]
    service.client.execute()
    assert [type(event) for event in service.events] == [RunStarted, RunFinished]


def test_a_database_that_is_away_for_a_moment_ends_no_client(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.lives(service.worker("host-a"))
    known = workers.known
    away = {True}

    def asked(database: Database) -> list[Worker]:
        if away:
            raise LedgerError("the database is away")
        return known(database)

    monkeypatch.setattr(workers, "known", asked)
    service.acts = [int, lambda: service.pause(GONE_S - 5), away.clear, service.closes]
    (report,) = service.client.execute()
    assert report.exit_code is ExitCode.DONE


def test_a_database_that_stays_away_is_told(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Database) -> list[Worker]:
        raise LedgerError("the database is away")

    monkeypatch.setattr(workers, "known", away)
    with pytest.raises(LedgerError, match="is away"):
        service.client.execute()
    assert service.now - 1000.0 > GONE_S


def test_a_client_says_that_the_service_does_not_know_the_latest_change(service: Service, tmp_path: Path) -> None:
    text = (tmp_path / "syncd.toml").read_text()
    (tmp_path / "syncd.toml").write_text(text.replace('username = "me"', 'username = "me"\npipelining = false', 1))
    service.lives(service.worker("host-a"))
    changed = load(tmp_path / "syncd.toml", environment={"P": "secret"})
    client = RunsByService(changed, service.database, ["road"], service.events.append)
    client._asked("road")
    (note,) = service.events
    assert isinstance(note, Noted)
    assert "syncd apply" in note.text
