"""A worker's run does not wait: it says when to go on, and that is no failure. A run by hand waits as before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from syncd import clock
from syncd.db.ledger import of_account, of_route
from syncd.db.rows import Cause, Suspension
from syncd.destinations.packs import PacksArchive
from syncd.engine.budget import RunRoom
from syncd.engine.context import SHORT_WAIT_S, Slice
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import RemovalPolicy
from syncd.errors import AuthRefused, ConnectionLost, LeaseHeld, Throttled
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Broken, Relay
from tests.support.engine import Engine, Make, mail, source
from tests.support.ledger import START
from tests.unit.engine.conftest import Time

AT_ONCE = RemovalPolicy(timedelta(0), confirmed=True)
LATER = START + timedelta(minutes=10)
HURRIED = Slice(patient=False)


def suspend(engine: Engine, subject: str, cause: Cause = Cause.SERVER) -> None:
    engine.ledger.suspensions.put(subject, Suspension(LATER, "421 come back later", cause, 1))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, at: Time) -> list[float]:
    """The seconds that were waited for."""
    waited: list[float] = []

    def pause(_: RunRoom, seconds: float) -> None:
        waited.append(seconds)
        at(seconds=seconds)

    monkeypatch.setattr(RunRoom, "pause", pause)
    return waited


def test_a_worker_waits_for_short_pauses_alone():
    assert Slice().waits(900)
    worker = Slice.lasting(480)
    assert worker.waits(SHORT_WAIT_S)
    assert not worker.waits(SHORT_WAIT_S + 1)


# --- the source --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.SERVER, Cause.SIGN_IN, Cause.REFUSED])
def test_a_suspended_account_is_not_contacted_before_its_time(make: Make, cause: Cause):
    engine = make(3, {"home": MemoryArchive()}, slice=HURRIED)
    suspend(engine, of_account(engine.account.id), cause)
    report = engine.run()
    assert (report.more, report.not_before) == (True, LATER)
    assert (report.exit_code, report.errors, source(engine).connects) == (ExitCode.DONE, [], 0)
    assert any("421 come back later" in note for note in engine.notes())


def test_a_server_that_throttles_is_asked_again_at_its_time(make: Make, at: Time):
    engine = make(3, {"home": MemoryArchive()}, slice=HURRIED)
    source(engine).failure = Throttled("-ERR [LOGIN-DELAY] wait", until=LATER)
    report = engine.run()
    assert (report.more, report.not_before, report.exit_code) == (True, LATER, ExitCode.DONE)
    source(engine).failure = None
    at(minutes=10)
    report = engine.run()
    assert (report.more, report.fetched) == (False, 3)


def test_a_time_that_is_over_means_at_once(make: Make):
    engine = make(3, {"home": MemoryArchive()}, slice=HURRIED)
    source(engine).failure = Throttled("try again", until=START)
    report = engine.run()
    assert (report.more, report.not_before) == (True, None)


def test_a_refused_sign_in_is_a_failure_once_and_then_a_time_to_wait_for(make: Make):
    """Only the server's own refusals count towards the pause of a job."""
    engine = make(3, {"home": MemoryArchive()}, slice=HURRIED)
    source(engine).failure = AuthRefused("535 no")
    report = engine.run()
    assert (report.more, report.exit_code) == (False, ExitCode.SIGN_IN_REFUSED)
    report = engine.run()
    assert (report.more, report.exit_code, source(engine).connects) == (True, ExitCode.DONE, 1)
    assert report.not_before is not None
    assert report.not_before > clock.now()


def test_a_destination_that_failed_is_told_though_the_source_asks_for_patience(make: Make):
    engine = make(3, {"home": MemoryArchive(), "new": Broken(ConnectionLost("away"))}, slice=HURRIED)
    suspend(engine, of_account(engine.account.id))
    report = engine.run()
    assert (report.more, report.exit_code) == (False, ExitCode.TEMPORARY)


# --- destinations ------------------------------------------------------------------------------------------


def test_a_suspended_destination_is_served_at_its_time_and_the_others_now(make: Make, at: Time):
    home, relay = MemoryArchive(), Relay()
    engine = make(3, {"home": home, "new": relay}, slice=HURRIED)
    suspend(engine, of_route(engine.routes["new"].id))
    for _ in range(2):  # also when nothing is new
        report = engine.run()
        assert (report.more, report.not_before) == (True, LATER)
        assert (report.exit_code, report.errors, report.poll_from) == (ExitCode.DONE, [], START)
        assert (home.copies, relay.opened) == (3, 0)
    at(minutes=10)
    report = engine.run()
    assert (report.more, sum(relay.copies.values())) == (False, 3)


def test_a_suspended_destination_that_lacks_nothing_asks_for_no_slice(make: Make):
    engine = make(0, {"home": MemoryArchive(), "new": Relay()}, slice=HURRIED)
    suspend(engine, of_route(engine.routes["new"].id))
    report = engine.run()
    assert (report.more, report.exit_code) == (False, ExitCode.DONE)


def test_the_only_destination_being_suspended_is_no_failure(make: Make):
    engine = make(3, {"new": Relay()}, slice=HURRIED)
    suspend(engine, of_route(engine.routes["new"].id))
    report = engine.run()
    assert (report.more, report.not_before, report.exit_code) == (True, LATER, ExitCode.DONE)
    assert (source(engine).connects, report.poll_from) == (0, None)


def test_a_destination_that_throttles_goes_on_at_its_time(make: Make):
    relay = Relay(["accept", "throttle"])
    relay.until = LATER
    engine = make(3, {"home": MemoryArchive(), "new": relay}, slice=HURRIED)
    report = engine.run()
    assert (report.more, report.not_before, report.exit_code) == (True, LATER, ExitCode.DONE)
    assert report.delivered == {"home": 3, "new": 1}
    assert relay.patience_s == SHORT_WAIT_S


def test_by_hand_a_throttle_ends_with_the_code_for_later(make: Make):
    relay = Relay(["accept", "throttle"])
    relay.until = LATER
    report = make(3, {"home": MemoryArchive(), "new": relay}).run()
    assert (report.more, report.exit_code) == (False, ExitCode.TEMPORARY)
    assert relay.patience_s > SHORT_WAIT_S


def test_a_source_that_wants_a_pause_is_not_asked_before_though_only_a_destination_waits(make: Make, at: Time):
    engine = make(3, {"home": MemoryArchive(), "new": Relay()}, slice=HURRIED)
    suspend(engine, of_route(engine.routes["new"].id))
    source(engine).pause_s = 300.0
    report = engine.run()
    assert (report.not_before, report.poll_from) == (LATER, at.now + timedelta(seconds=300))


# --- the pause between two sign-ins ------------------------------------------------------------------------


def test_removal_after_a_pause_is_for_the_next_slice_which_begins_with_it(make: Make, at: Time, waits: list[float]):
    """Listing before it would begin the pause anew, and nothing would ever be removed."""
    engine = make(3, {"home": MemoryArchive()}, removal=AT_ONCE, slice=HURRIED)
    there = source(engine)
    there.pause_s = 900.0
    first = engine.run()
    assert (first.more, first.removed, first.removals_put_off) == (True, 0, 3)
    assert first.not_before == at.now + timedelta(seconds=900)
    at(seconds=900)
    run = engine.prepare()
    report = run.execute(before=first.counts())
    assert (report.more, report.exit_code, report.removed, there.mail) == (False, ExitCode.DONE, 3, {})
    assert (there.connects, waits) == (2, [])
    counts = report.counts(first.counts())
    assert (counts["listed"], counts["fetched"], counts["removals_put_off"]) == (3, 3, 0)


def test_by_hand_the_pause_is_waited_for(make: Make, waits: list[float]):
    engine = make(3, {"home": MemoryArchive()}, removal=AT_ONCE)
    source(engine).pause_s = 600.0
    report = engine.run()
    assert (report.more, report.removed, waits) == (False, 3, [600.0])


def test_a_short_pause_is_waited_for(make: Make, waits: list[float]):
    engine = make(3, {"home": MemoryArchive()}, removal=AT_ONCE, slice=HURRIED)
    source(engine).pause_s = SHORT_WAIT_S
    report = engine.run()
    assert (report.more, report.removed, waits) == (False, 3, [SHORT_WAIT_S])


def test_a_slice_that_ends_early_leaves_the_pause_to_the_server(make: Make, at: Time):
    engine = make(3, {"home": MemoryArchive()})
    there = source(engine)
    there.pause_s = 300.0
    engine.slice = Slice(stop=lambda: len(there.fetched) >= 1, patient=False)
    report = engine.run()
    assert (report.more, report.not_before) == (True, at.now + timedelta(seconds=300))
    assert there.fetched == list(mail(1))


# --- archives that another process writes to ---------------------------------------------------------------


def held() -> None:
    raise LeaseHeld('archive "home" is held by another worker')


def test_an_archive_in_use_elsewhere_is_waited_for_without_a_thread(make: Make, monkeypatch: pytest.MonkeyPatch):
    engine = make(3, {"home": MemoryArchive()}, slice=HURRIED)
    monkeypatch.setattr(Engine, "take", staticmethod(held))
    report = engine.run()
    assert (report.more, report.exit_code, source(engine).fetched) == (True, ExitCode.DONE, [])
    assert report.not_before is not None
    assert timedelta(seconds=5) <= report.not_before - clock.now() <= timedelta(seconds=15)


def test_by_hand_an_archive_in_use_elsewhere_ends_the_run_before_anything_is_fetched(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    engine = make(3, {"home": MemoryArchive()})
    monkeypatch.setattr(Engine, "take", staticmethod(held))
    report = engine.run()
    assert (report.more, report.exit_code, source(engine).fetched) == (False, ExitCode.HELD, [])


def test_a_poll_that_finds_nothing_new_neither_opens_nor_leases_an_archive(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    engine = make(3, {"home": PacksArchive(tmp_path / "home")}, slice=HURRIED)
    assert engine.run().fetched == 3
    monkeypatch.setattr(Engine, "take", staticmethod(held))
    monkeypatch.setattr(PacksArchive, "open", lambda _: held())
    report = engine.run()
    assert (report.exit_code, report.unchanged) == (ExitCode.DONE, True)
