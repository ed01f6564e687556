"""Work on runs as a worker does: what people ask meanwhile, how a slice ends, and what is in the row afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from syncd import clock
from syncd.crash import CRASH_FILE
from syncd.db import control
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import LeaseSet, archive_resource
from syncd.db.models import documents, leases, runs
from syncd.db.queue import CANCELLED, MAX_REFUSALS
from syncd.db.rows import Paused
from syncd.db.runs import RunRow, Runs
from syncd.db.states import RunState
from syncd.engine.events import Event, RunFinished
from syncd.engine.exit_codes import ExitCode
from syncd.errors import AuthRefused, Conflict, ConnectFailed, LeaseHeld, LedgerError
from syncd.services import serving, slices
from syncd.services.apply import apply
from syncd.services.serving import Ended, Workshop
from syncd.services.wiring import open_ledger, owner
from syncd.services.workplace import Common, Running
from syncd.settings.load import Loaded, load
from syncd.sources.growth import Growth
from tests.fakes.source import MemorySource
from tests.support.engine import mail

JOB = """
[accounts.{name}]
protocol = "pop3"
host = "{name}.example.net"
username = "me"
password = "env:P"
[jobs.{name}]
source = "{name}"
destinations = ["home"]
{more}
"""


class Source(MemorySource):
    """A mailbox that calls `at[n]` before the nth message of its life is fetched."""

    def __init__(self, number: int) -> None:
        super().__init__(mail(number), stops=True)
        self.at: dict[int, Callable[[], object]] = {}
        self.bodies = 0

    def body(self, octets: bytes, growth: Growth) -> Any:
        self.bodies += 1
        self.at.get(self.bodies, int)()
        self.check()
        return super().body(octets, growth)


class Site:
    """A ledger with applied jobs, one worker's workshop, and mailboxes in memory."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.sources = {"road": Source(3), "other": Source(2)}
        self.events: list[Event] = []
        patch.setattr(slices, "open_source", lambda _loaded, name, *_, **__: self.sources[name])
        self.loaded = self.configure()
        self.database: Database = open_ledger(self.loaded)
        self.common = Common(self.database, Running())
        self.workshop = self.another()
        self.apply()

    def configure(self, more: str = "", environment: Mapping[str, str] | None = None) -> Loaded:
        jobs = "".join(JOB.format(name=name, more=more) for name in self.sources)
        head = 'name = "home"\nstate_directory = "state"\n[archives]\nhome = { path = "home", format = "maildir" }\n'
        (self.directory / "syncd.toml").write_text(head + jobs)
        return load(self.directory / "syncd.toml", environment={"P": "secret"} if environment is None else environment)

    def another(self, **more: Any) -> Workshop:
        return Workshop(self.loaded, self.common, {}, self.events.append, **more)

    def apply(self, more: str = "") -> None:
        self.loaded = self.configure(more)
        apply(self.loaded, self.database)

    def job_id(self, job: str = "road") -> int:
        row = Catalog(self.database, owner(self.loaded)).find_job(job)
        assert row is not None
        return row.id

    def queue(self, job: str = "road", trigger: str = "schedule") -> int:
        run_id = Runs(self.database).enqueue(self.job_id(job), trigger)
        assert run_id is not None
        return run_id

    def row(self, run_id: int) -> RunRow:
        row = Runs(self.database).find(run_id)
        assert row is not None
        return row

    def work(self, run_id: int | None = None) -> Ended:
        ended = self.workshop.work(self.queue() if run_id is None else run_id)
        assert ended is not None
        return ended

    def letters(self) -> int:
        return len(
            [it for it in self.directory.rglob("home/**/*") if it.is_file() and it.parent.name in {"new", "cur"}]
        )

    def owned(self) -> list[str]:
        with self.database.read() as connection:
            return [row.resource for row in connection.execute(leases.select().where(leases.c.holder != ""))]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, monkeypatch)
    yield made
    made.common.__exit__()
    made.database.close()


# --- to the end ------------------------------------------------------------------------------------------------


def test_a_run_is_worked_on_to_its_end(site: Site) -> None:
    run_id = site.queue()
    ended = site.work(run_id)
    assert (ended.closed, ended.report.exit_code, ended.report.run_id) == (True, ExitCode.DONE, run_id)
    row = site.row(run_id)
    assert (row.state, row.exit_code, row.counts["fetched"], row.slices) == (RunState.DONE, 0, 3, 1)
    assert (site.letters(), site.owned(), site.workshop.running) == (3, [], 0)
    assert [event for event in site.events if isinstance(event, RunFinished)] == [RunFinished("road", ended.report)]
    assert site.workshop.work(run_id) is None


def test_a_run_that_finds_nothing_new_is_idle(site: Site) -> None:
    first, second, by_hand = site.queue(), None, None
    site.work(first)
    second = site.queue()
    site.work(second)
    by_hand = site.queue(trigger="hand")
    site.work(by_hand)
    with site.database.read() as connection:
        idle = {row.id: row.idle for row in connection.execute(runs.select())}
    assert idle == {first: False, second: True, by_hand: False}


def test_secrets_are_read_anew_for_each_run(site: Site) -> None:
    """The settings of a document are kept, and what its references name is not."""
    seen: list[tuple[object, object]] = []

    def open_source(loaded: Loaded, name: str, *more: Any, **_: Any) -> Any:
        seen.append((loaded.secrets, more))
        return site.sources[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "open_source", open_source)
        site.work()
        site.work()
    assert seen[0][0] is not seen[1][0]


# --- what people ask -------------------------------------------------------------------------------------------


def ask(site: Site, what: Callable[[], object]) -> Callable[[], None]:
    def asked() -> None:
        what()
        site.workshop.watch()

    return asked


def test_variables_are_read_again_with_the_configuration(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in `.env` was the old one until the service was started again."""
    used: list[str] = []

    def noted(loaded: Loaded, name: str, *_: Any, **__: Any) -> Any:
        used.append(loaded.environment["P"])
        return site.sources[name]

    monkeypatch.setattr(slices, "open_source", noted)
    site.work()
    site.workshop.take_environment(site.configure(environment={"P": "another"}))
    site.work()
    assert used == ["secret", "another"]


def test_cancel_stops_a_run_within_a_message(site: Site) -> None:
    run_id = site.queue()
    site.sources["road"].at[2] = ask(site, lambda: control.cancel(site.database, run_id))
    ended = site.work(run_id)
    assert (ended.closed, ended.report.exit_code) == (True, ExitCode.INTERRUPTED)
    row = site.row(run_id)
    assert (row.state, row.exit_code) == (RunState.STOPPED, 130)
    assert site.sources["road"].cancelled
    assert len(site.sources["road"].fetched) == 2
    site.sources["road"] = Source(3)
    assert site.work().report.exit_code is ExitCode.DONE
    assert site.letters() == 3


def test_cancel_before_there_is_anything_to_stop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = site.queue()
    registered = site.workshop._registered

    def slowly(*known: Any) -> Any:
        control.cancel(site.database, run_id)
        site.workshop.watch()
        return registered(*known)

    monkeypatch.setattr(site.workshop, "_registered", slowly)
    assert site.work(run_id).report.exit_code is ExitCode.INTERRUPTED
    assert (site.row(run_id).state, site.sources["road"].fetched) == (RunState.STOPPED, [])


def test_cancel_that_the_watch_has_not_seen_when_the_slice_ends(site: Site) -> None:
    run_id = site.queue()

    def cancelled() -> None:
        control.cancel(site.database, run_id)
        site.workshop.stop()

    site.sources["road"].at[1] = cancelled
    ended = site.work(run_id)
    assert (ended.closed, ended.report.exit_code) == (True, ExitCode.INTERRUPTED)
    assert (site.row(run_id).state, site.row(run_id).message) == (RunState.STOPPED, CANCELLED)


def test_pause_ends_the_slice_softly_and_the_run_goes_on_later(site: Site) -> None:
    run_id, job_id = site.queue(), site.job_id()
    site.sources["road"].at[1] = ask(site, lambda: control.pause(site.database, job_id))
    ended = site.work(run_id)
    assert (ended.closed, site.sources["road"].cancelled) == (False, False)
    row = site.row(run_id)
    assert (row.state, site.owned()) == (RunState.QUEUED, [])
    assert row.not_before is not None
    assert row.not_before <= clock.now(), "its turn, when the job is resumed"
    done = row.counts["fetched"]
    assert 1 <= done < 3
    assert site.letters() == done
    assert site.workshop.work(run_id) is None
    control.resume(site.database, job_id)
    assert site.work(run_id).report.exit_code is ExitCode.DONE
    row = site.row(run_id)
    assert (row.state, row.slices, row.counts["fetched"], site.letters()) == (RunState.DONE, 2, 3, 3)
    assert sorted(site.sources["road"].fetched) == sorted(set(site.sources["road"].fetched))


def test_a_slice_that_is_over_is_followed_by_another(site: Site) -> None:
    site.workshop = site.another(slice_s=0.0)
    run_id = site.queue()
    assert not site.work(run_id).closed
    assert (site.row(run_id).state, site.letters()) == (RunState.QUEUED, 0)
    site.workshop = site.another()
    assert site.work(run_id).closed
    assert (site.row(run_id).slices, site.letters()) == (2, 3)


# --- the worker stops ------------------------------------------------------------------------------------------


def test_stop_ends_runs_softly_and_nothing_begins_any_more(site: Site) -> None:
    run_id, other = site.queue(), site.queue("other")
    site.sources["road"].at[1] = site.workshop.stop
    assert not site.work(run_id).closed
    assert site.row(run_id).state is RunState.QUEUED
    assert site.workshop.work(other) is None
    assert site.row(other).state is RunState.QUEUED
    assert site.workshop.wait(0)


def test_what_takes_too_long_is_cut_and_queued_again(site: Site) -> None:
    """The server hangs in the middle of a message; a cut ends the wait, as a closed socket does."""
    source, hangs = site.sources["road"], threading.Event()
    cancel = source.cancel

    def cut() -> None:
        cancel()
        hangs.set()

    source.cancel = cut  # type: ignore[method-assign]
    began = threading.Event()

    def hang() -> None:
        began.set()
        assert hangs.wait(60)

    source.at[2] = hang
    run_id = site.queue()
    found: list[Ended | None] = []
    thread = threading.Thread(target=lambda: found.append(site.workshop.work(run_id)))
    thread.start()
    assert began.wait(60)
    site.workshop.stop()
    assert not site.workshop.wait(0)
    site.workshop.cut()
    assert site.workshop.wait(60)
    thread.join(60)
    (ended,) = found
    assert ended is not None
    assert not ended.closed
    row = site.row(run_id)
    assert (row.state, row.message, site.owned()) == (RunState.QUEUED, "", [])
    site.sources["road"] = Source(3)
    site.workshop = site.another()
    site.work(run_id)
    assert site.letters() == 3


# --- what is in the way ----------------------------------------------------------------------------------------


def test_an_archive_that_another_process_writes_to_puts_the_run_off(site: Site) -> None:
    site.work()
    archive = Catalog(site.database, owner(site.loaded)).find_archive("home")
    assert archive is not None
    with LeaseSet.acquire(site.database, [archive_resource(archive.uuid)], "a test", renew_s=0):
        assert site.work().closed, "it found nothing to write"
        site.sources["road"] = Source(4)
        run_id = site.queue()
        before = clock.now()
        assert not site.work(run_id).closed
    row = site.row(run_id)
    assert (row.state, row.exit_code, row.message) == (RunState.QUEUED, None, "")
    assert row.not_before is not None
    assert before < row.not_before < before + timedelta(minutes=1)
    assert site.owned() == []


def test_a_server_that_asks_for_patience_is_left_until_then(site: Site) -> None:
    site.sources["road"].failure = ConnectFailed("road: refused")
    run_id = site.queue()
    ended = site.work(run_id)
    assert (ended.closed, ended.report.exit_code) == (True, ExitCode.TEMPORARY)
    assert (site.row(run_id).state, site.row(run_id).exit_code) == (RunState.FAILED, 5)
    assert control.pauses(site.database, [site.job_id()]) == {}


def test_refused_sign_ins_pause_the_job_at_last(site: Site) -> None:
    found = []
    for _ in range(MAX_REFUSALS):
        site.sources["road"] = Source(3)
        site.sources["road"].failure = AuthRefused("road: no such user or password")
        run_id = site.queue(trigger="hand")  # by schedule it would wait, as the sign-in was refused just now
        ended = site.work(run_id)
        assert ended.report.exit_code is ExitCode.SIGN_IN_REFUSED
        found.append(ended.paused)
    assert found == [*[None] * (MAX_REFUSALS - 1), Paused.SIGN_IN]
    site.apply('schedule = "every hour"')
    assert control.pauses(site.database, [site.job_id()]) == {}


def test_a_bug_ends_the_run_and_no_other(site: Site) -> None:
    def bug() -> None:
        raise AssertionError("a bug")

    site.sources["road"].connect = bug  # type: ignore[method-assign,assignment]
    run_id = site.queue()
    ended = site.work(run_id)
    assert (ended.closed, ended.report.exit_code) == (True, ExitCode.FAILED)
    row = site.row(run_id)
    assert (row.state, row.exit_code, "a bug" in row.message) == (RunState.FAILED, 1, True)
    assert "a bug" in (site.directory / "state" / CRASH_FILE).read_text()
    assert CRASH_FILE in row.message
    assert (site.owned(), site.workshop.running) == ([], 0)
    assert site.work(site.queue("other")).report.exit_code is ExitCode.DONE


def test_a_definition_that_is_gone_is_told_in_the_row(site: Site) -> None:
    run_id = site.queue()
    claimed = site.workshop.queue.claim(run_id)
    assert claimed is not None
    site.workshop.queue.requeue(claimed)
    site.apply('schedule = "every hour"')
    with site.database.write() as connection:
        connection.execute(documents.delete().where(documents.c.digest == claimed.digest))
    assert site.work(run_id).report.exit_code is ExitCode.CONFIG_INVALID
    assert "syncd apply" in site.row(run_id).message


def test_a_password_that_cannot_be_read_is_told_in_the_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    site.loaded = site.configure(environment={})
    site.workshop = site.another()
    run_id = site.queue()
    assert site.work(run_id).report.exit_code is ExitCode.CONFIG_INVALID
    assert site.row(run_id).state is RunState.FAILED


def test_a_run_of_a_job_that_reads_another_account_now_waits_for_its_lease(site: Site) -> None:
    """The claim took the lease of the account that the ledger knew."""
    site.work()
    text = (site.directory / "syncd.toml").read_text()
    (site.directory / "syncd.toml").write_text(text.replace('source = "road"', 'source = "other"'))
    site.loaded = load(site.directory / "syncd.toml", environment={"P": "secret"})
    apply(site.loaded, site.database)
    run_id = site.queue()
    assert site.workshop.work(run_id) is None
    row = site.row(run_id)
    assert (row.state, site.sources["other"].connects) == (RunState.QUEUED, 0)
    with site.database.write() as connection:
        connection.execute(runs.update().where(runs.c.id == run_id).values(not_before=None))
    assert site.work(run_id).report.fetched == 2


# --- other processes -------------------------------------------------------------------------------------------


def test_a_run_that_was_taken_over_is_left_to_its_new_owner(site: Site) -> None:
    run_id = site.queue()

    def overtaken() -> None:
        with site.database.write() as connection:
            values = {"generation": 9, "holder": str(Holder.me("another"))}
            connection.execute(runs.update().where(runs.c.id == run_id).values(values))

    site.sources["road"].at[2] = overtaken
    assert site.workshop.work(run_id) is None
    row = site.row(run_id)
    assert (row.state, row.generation) == (RunState.RUNNING, 9)
    assert [event for event in site.events if isinstance(event, RunFinished)] == []


def test_an_end_that_cannot_be_written_does_not_keep_the_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away at that moment: the leases are not renewed any more, so the run is taken over."""
    run_id = site.queue()

    def away(*_: object) -> None:
        raise LedgerError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(site.workshop.queue, "finish", away)
        patch.setattr(serving, "PATIENCE_S", 0.0)
        with pytest.raises(LedgerError):
            site.workshop.work(run_id)
    assert (site.row(run_id).state, site.workshop.running) == (RunState.RUNNING, 0)
    assert site.workshop.queue.waiting([""], 5) == []
    with site.database.write() as connection:
        connection.execute(leases.update().values(expires_at=1.0))
    assert [it.run_id for it in site.workshop.queue.waiting([""], 5)] == [run_id]
    assert site.work(run_id).report.exit_code is ExitCode.DONE
    assert (site.row(run_id).slices, site.letters()) == (2, 3)


@pytest.mark.parametrize("method", ["finish", "requeue", "put_off"])
def test_an_end_is_written_once_the_database_is_back(site: Site, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Otherwise a database that is restarted three times had the job paused: as one that kills its workers."""
    run_id, write, tries = site.queue(), getattr(site.workshop.queue, method), 0

    def away_twice(*given: Any, **more: Any) -> object:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise LedgerError("the database is away")
        return write(*given, **more)

    def in_use(*_: object) -> None:
        raise LeaseHeld("the archive is in use")

    monkeypatch.setattr(serving, "RETRY_S", 0.0)
    monkeypatch.setattr(site.workshop.queue, method, away_twice)
    if method == "put_off":
        monkeypatch.setattr(site.workshop, "_slice", in_use)
    workshop = site.workshop
    if method == "requeue":
        workshop = site.another(slice_s=-1.0)
        monkeypatch.setattr(workshop.queue, method, away_twice)
    ended = workshop.work(run_id)
    assert tries == 3
    assert site.row(run_id).state is (RunState.DONE if method == "finish" else RunState.QUEUED)
    assert (ended is None) == (method == "put_off")
    assert (site.owned(), workshop.running) == ([], 0)
    with site.database.read() as connection:
        assert connection.execute(select(runs.c.deaths).where(runs.c.id == run_id)).scalar_one() == 0


def test_a_stop_of_the_service_does_not_wait_for_the_database(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        site.workshop.stop()
        raise LedgerError("the database is away")

    monkeypatch.setattr(site.workshop.queue, "finish", away)
    with pytest.raises(LedgerError):
        site.workshop.work(site.queue())


def test_a_run_that_a_thread_of_ours_still_works_on_is_not_begun_again(site: Site) -> None:
    """Its leases ran out while the database was away, and the sweep finds it."""
    run_id = site.queue()
    found: list[object] = []

    def swept() -> None:
        with site.database.write() as connection:
            connection.execute(leases.update().values(expires_at=1.0))
        found.append(site.workshop.work(run_id))

    site.sources["road"].at[2] = swept
    assert site.work(run_id).report.exit_code is ExitCode.DONE
    assert (found, site.row(run_id).slices) == ([None], 1)


def test_two_that_write_the_same_at_once_go_on_one_after_the_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL tells of a deadlock, or of a row that somebody else has written first: that is no failure."""
    run_id = site.queue()

    def deadlock(*_: object) -> None:
        raise Conflict("two writers met")

    with monkeypatch.context() as patch:
        patch.setattr(site.workshop, "_registered", deadlock)
        assert site.workshop.work(run_id) is None
    row = site.row(run_id)
    assert (row.state, row.not_before is not None, site.owned()) == (RunState.QUEUED, True, [])


def test_a_stop_waits_for_a_claim_that_is_being_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the process would end with a run that is its own, and count as a death of a worker."""
    claim = site.workshop.queue.claim
    waited: list[bool] = []

    def slowly(*given: Any) -> Any:
        site.workshop.stop()
        waited.append(site.workshop.wait(0))
        return claim(*given)

    monkeypatch.setattr(site.workshop.queue, "claim", slowly)
    run_id = site.queue()
    assert not site.work(run_id).closed
    assert waited == [False]
    assert (site.row(run_id).state, site.workshop.wait(0)) == (RunState.QUEUED, True)
