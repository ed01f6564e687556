"""The life of a run's row: queued, claimed, taken over, closed. `syncd run` never leaves one queued."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import LeaseSet, account_resource, archive_resource, job_resource
from syncd.db.models import archives, runs
from syncd.db.runs import RunRow, Runs
from syncd.db.states import RunState
from syncd.destinations.packs import PacksArchive
from syncd.engine.events import Event, Noted, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.run import Run
from syncd.errors import DiskFull
from syncd.services import slices
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from syncd.services.workplace import Running
from syncd.settings.load import Loaded, load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail


class Bench:
    """One account in one archive, and the rows of its runs."""

    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.directory = directory
        self.server = server
        self.events: list[Event] = []
        self.configure()

    def configure(self, host: str = "127.0.0.1") -> None:
        (self.directory / "syncd.toml").write_text(
            f'state_directory = "state"\n[archives]\nhome = {{ path = "home" }}\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "{host}"\nport = {self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            '[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
        )

    def loaded(self, password: str = PASSWORD) -> Loaded:
        return load(self.directory / "syncd.toml", environment={"PASSWORD": password})

    def runner(self, password: str = PASSWORD, **options: Any) -> RunsByHand:
        self.events.clear()
        return RunsByHand(self.loaded(password), [], RunOptions(**options), self.events.append)

    def run(self, password: str = PASSWORD, **options: Any) -> RunReport:
        [report] = self.runner(password, **options).execute()
        return report

    def database(self) -> Database:
        return open_ledger(self.loaded())

    def rows(self) -> list[RunRow]:
        """The oldest first."""
        with self.database() as database:
            return Runs(database).history()[::-1]

    def states(self) -> list[tuple[RunState, int | None]]:
        return [(row.state, row.exit_code) for row in self.rows()]

    def queue(self, not_before: datetime | None = None) -> int:
        """A run of the job, which is known, as another process queues it."""
        with self.database() as database:
            job = Catalog(database).find_job("backup")
            assert job is not None
            run_id = Runs(database).enqueue(job.id, "schedule", not_before=not_before)
            assert run_id is not None
            return run_id

    def die(self, **counts: int) -> int:
        """A run whose process died when it had done so much; its leases are as it left them."""
        run_id = self.queue()
        me = Holder.me("a run")
        dead = replace(me, started=me.started + 1)
        with self.database() as database:
            claim = Runs(database).claim(run_id, dead)
            assert claim is not None
            with database.write() as connection:
                connection.execute(runs.update().where(runs.c.id == run_id).values(counts=json.dumps(counts)))
        return run_id


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(list(mail.small(3, seed=1))) as server:
        yield Bench(tmp_path, server)


@pytest.fixture
def known(bench: Bench) -> Bench:
    """The job has run once, with nothing in the mailbox."""
    bench.server.messages, messages = [], bench.server.messages
    bench.server.uids, uids = [], bench.server.uids
    assert bench.run().exit_code is ExitCode.DONE
    bench.server.messages, bench.server.uids = messages, uids
    return bench


def test_a_run_is_queued_claimed_and_closed_with_its_counts(bench: Bench) -> None:
    report = bench.run()
    [row] = bench.rows()
    assert (row.state, row.exit_code, row.trigger, row.slices) == (RunState.DONE, 0, "here", 1)
    assert (report.run_id, row.counts["fetched"], row.counts["delivered to home"]) == (row.id, 3, 3)
    assert (row.phase, row.message) == ("", "")


def test_a_run_that_is_queued_already_is_worked_off_by_hand(known: Bench) -> None:
    run_id = known.queue()
    assert known.run().run_id == run_id
    assert known.states() == [(RunState.DONE, 0)] * 2
    assert known.rows()[-1].trigger == "schedule"


def test_a_run_of_a_dead_process_is_taken_over_with_its_row_and_its_counts(known: Bench) -> None:
    run_id = known.die(fetched=10, fetched_octets=1000, new=10, listed=7)
    report = known.run()
    assert (report.run_id, report.fetched) == (run_id, 3)
    row = known.rows()[-1]
    assert (row.id, row.state, row.slices, row.generation) == (run_id, RunState.DONE, 2, 2)
    assert (row.counts["fetched"], row.counts["new"], row.counts["listed"]) == (13, 13, 3)
    assert len(known.rows()) == 2


def test_a_run_of_a_living_process_is_left_to_it(known: Bench) -> None:
    run_id = known.queue()
    with known.database() as database, LeaseSet.acquire(database, [job_resource(1)], "a test") as lease:
        claim = Runs(database).claim(run_id, lease.holder)
        assert claim is not None
        report = known.run()
        assert (report.exit_code, len(known.rows())) == (ExitCode.HELD, 2)
        assert f" by process {os.getpid()} on " in report.errors[0]
        assert known.rows()[-1].state is RunState.RUNNING
        Runs(database).finish(claim, RunState.DONE, 0, {})


def test_who_lost_its_run_closes_nothing(known: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen past its leases it wakes up when another process has taken the run over."""
    execute = Run.execute

    def overtaken(self: Run, **more: object) -> RunReport:
        report = execute(self, **more)  # type: ignore[arg-type]
        with known.database() as database, database.write() as connection:
            connection.execute(runs.update().where(runs.c.id == report.run_id).values(generation=9))
        return report

    monkeypatch.setattr(Run, "execute", overtaken)
    report = known.run()
    assert report.exit_code is ExitCode.HELD
    assert "took over" in report.errors[-1]
    assert known.rows()[-1].state is RunState.RUNNING


# --- not before a time -------------------------------------------------------------------------------------------


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting moves the clock, and takes no time. The seconds that were waited for."""
    waited: list[float] = []
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=sum(waited)))
    monkeypatch.setattr(Running, "pause", lambda _, seconds: waited.append(seconds))
    return waited


def test_a_run_that_may_begin_within_a_minute_is_waited_for(known: Bench, ahead: list[float]) -> None:
    known.queue(clock.now() + timedelta(seconds=60))
    report = known.run()
    assert (report.exit_code, report.fetched, sum(ahead)) == (ExitCode.DONE, 3, 60)
    assert any("may not begin before" in event.text for event in known.events if isinstance(event, Noted))


def test_a_run_that_may_begin_later_is_closed(known: Bench, ahead: list[float]) -> None:
    known.queue(clock.now() + timedelta(seconds=61))
    report = known.run()
    assert (report.exit_code, ahead) == (ExitCode.TEMPORARY, [])
    assert "may not begin before" in report.errors[0]
    assert known.states()[-1] == (RunState.FAILED, 5)
    assert known.rows()[-1].message == report.errors[0]
    assert known.run().fetched == 3


def test_waiting_ends_when_it_is_cancelled(known: Bench) -> None:
    known.queue(clock.now() + timedelta(seconds=50))
    runner = known.runner()
    noted = threading.Event()
    runner._listen = lambda event: noted.set() if isinstance(event, Noted) else None
    reports: list[RunReport] = []
    thread = threading.Thread(target=lambda: reports.extend(runner.execute()))
    thread.start()
    assert noted.wait(60)
    runner.cancel()
    thread.join(60)
    assert [report.exit_code for report in reports] == [ExitCode.INTERRUPTED]
    assert known.states()[-1] == (RunState.STOPPED, 130)


# --- nothing stays queued ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["job", "account", "archive"])
def test_a_lease_that_another_process_has_closes_the_run(known: Bench, what: str) -> None:
    with known.database() as database:
        account = Catalog(database).find_account("road")
        archive = Catalog(database).find_archive("home")
        assert account is not None
        assert archive is not None
        resource = {
            "job": job_resource(1),
            "account": account_resource(account.uuid),
            "archive": archive_resource(archive.uuid),
        }[what]
        with LeaseSet.acquire(database, [resource], "a test"):
            report = known.run()
    assert report.exit_code is ExitCode.HELD
    assert known.states()[-1] == (RunState.FAILED, 10)
    assert f" by process {os.getpid()} on " in known.rows()[-1].message


def test_an_archive_that_is_missing_is_told_by_the_run(known: Bench) -> None:
    (known.directory / "home").rename(known.directory / "gone")
    report = known.run()
    assert known.states()[-1] == (RunState.STOPPED, 7)
    assert known.rows()[-1].message == report.errors[0]


def test_an_account_that_changed_is_told_by_the_run(bench: Bench) -> None:
    bench.run()
    bench.configure("localhost")
    report = bench.run()
    assert bench.states()[-1] == (RunState.STOPPED, 7)
    assert "--rebind" in report.errors[0]


def test_a_failure_is_told_by_the_run_that_a_dead_process_left(known: Bench) -> None:
    run_id = known.die(fetched=10)
    (known.directory / "home").rename(known.directory / "gone")
    known.run()
    row = known.rows()[-1]
    assert (row.id, row.state, row.exit_code, row.counts) == (run_id, RunState.STOPPED, 7, {"fetched": 10})


@pytest.mark.parametrize(
    ("password", "state", "code"),
    [("wrong", RunState.FAILED, 4), ("", RunState.FAILED, 6)],
)
def test_a_secret_that_does_not_do_is_told_by_the_run(known: Bench, password: str, state: RunState, code: int) -> None:
    report = known.run(password)
    assert known.states()[-1] == (state, code)
    assert known.rows()[-1].message == report.errors[0]


def test_an_archive_that_cannot_be_made_is_told_by_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskFull("no space left for the test")

    with monkeypatch.context() as patch:
        patch.setattr(PacksArchive, "create", full)
        assert bench.run().exit_code is ExitCode.TEMPORARY
    [row] = bench.rows()
    assert (row.state, row.exit_code, row.message) == (RunState.FAILED, 5, "no space left for the test")
    with bench.database() as database, database.read() as connection:
        assert connection.execute(archives.select()).one().made == 0
    assert bench.run().fetched == 3


@pytest.mark.parametrize("where", ["Work.execute", "Runs"])
def test_a_bug_leaves_nothing_queued(bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """After the claim, and before it."""

    def bug(*_: object) -> None:
        raise AssertionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(f"syncd.services.slices.{where}", bug)
        report = bench.run()
    assert (report.exit_code, "a bug" in report.errors[0]) == (ExitCode.FAILED, True)
    [row] = bench.rows()
    assert (row.state, row.exit_code, row.message) == (RunState.FAILED, 1, slices.BUG)
    assert bench.run().exit_code is ExitCode.DONE


def test_a_job_that_the_ledger_does_not_know_leaves_no_row(bench: Bench) -> None:
    bench.configure()
    config = bench.directory / "syncd.toml"
    config.write_text(
        config.read_text().replace('source = "road"', 'source = "far"') + '[archives.far]\npath = "far"\n'
    )
    assert bench.run().exit_code is ExitCode.STOPPED
    assert bench.rows() == []


def test_a_dry_run_leaves_no_row_and_closes_none(known: Bench) -> None:
    run_id = known.queue(clock.now() + timedelta(hours=1))
    before = known.rows()
    report = known.run(dry_run=True)
    assert (report.exit_code, report.to_fetch, report.run_id) == (ExitCode.DONE, 3, 0)
    assert known.rows() == before
    assert before[-1].id == run_id


def test_a_run_that_another_process_closed_meanwhile_gets_another_row(
    known: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the same row, found the leases taken by us, and closed it before we claimed it."""
    acquire = LeaseSet.acquire

    def closes(database: Database, resources: list[str], what: str) -> LeaseSet:
        lease = acquire(database, resources, what)
        if job_resource(1) in resources and len(known.rows()) == 2:
            Runs(database).close(known.rows()[-1].id, RunState.FAILED, 10, "taken by another process")
        return lease

    monkeypatch.setattr(LeaseSet, "acquire", closes)
    report = known.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 3)
    assert known.states() == [(RunState.DONE, 0), (RunState.FAILED, 10), (RunState.DONE, 0)]
