"""A run from start to end: what it reports, and how it ends."""

from __future__ import annotations

import pytest

from syncd.engine.events import PhaseBegan, RunFinished, RunStarted
from syncd.engine.exit_codes import ExitCode
from syncd.errors import ArchiveMissing, ConnectionLost, MessageRefused, StorageError
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Broken, Relay
from tests.support.engine import Make, mail, source


def test_a_dry_run_says_what_would_be_done_and_fetches_nothing(make: Make):
    home, relay = MemoryArchive(), Relay()
    engine = make(3, {"home": home, "new": relay})
    report = engine.prepare().execute(dry_run=True)
    assert (report.run_id, report.exit_code, report.to_fetch, report.fetched) == (0, ExitCode.DONE, 3, 0)
    assert (home.copies, relay.opened, source(engine).fetched) == (0, 0, [])
    assert [session.ended for session in source(engine).sessions] == ["finished"]


def test_a_dry_run_says_what_would_be_read_from_an_archive(make: Make):
    relay = Relay()
    engine = make(3, {"home": MemoryArchive(), "new": relay})
    relay.failure = ConnectionLost("not now")
    engine.run()
    report = engine.prepare().execute(dry_run=True)
    assert (report.to_fetch, report.to_backfill, report.backfilled) == (0, 3, 0)


def test_its_phases_and_its_end_are_told(make: Make):
    engine = make(3, {"home": MemoryArchive(), "new": Relay()})
    report = engine.run()
    first, *_, last = engine.events
    assert first == RunStarted("job", engine.scope.run_id)
    assert last == RunFinished("job", report)
    phases = [event.phase for event in engine.events if isinstance(event, PhaseBegan)]
    assert phases == ["connecting", "listing", "fetching", "backfilling"]


@pytest.mark.parametrize("failure", [StorageError("the disk is full"), ConnectionLost("away")])
def test_a_destination_that_cannot_be_opened_is_left_out(make: Make, failure: StorageError):
    home = MemoryArchive()
    engine = make(3, {"home": home, "new": Broken(failure)})
    report = engine.run()
    assert (report.exit_code, report.errors) == (ExitCode.TEMPORARY, [f"new: {failure}"])
    assert (home.copies, engine.states("new")) == (3, {"PENDING": list(mail(3))})
    assert engine.notes() == [f"new is left out for the rest of this run: {failure}"]


def test_an_error_that_reaches_the_run_ends_it(make: Make):
    home = MemoryArchive()
    engine = make(3, {"home": home, "new": Broken(ArchiveMissing("another archive stands there"))})
    report = engine.run()
    assert (report.exit_code, report.errors) == (ExitCode.STOPPED, ["another archive stands there"])
    assert (home.copies, source(engine).connects) == (0, 0)


def test_the_first_error_is_why_the_run_ended(make: Make):
    engine = make(3, {"home": MemoryArchive(), "new": Broken(ConnectionLost("away"))})
    source(engine).failure = ConnectionLost("no connection to the server")
    report = engine.run()
    assert report.errors == ["no connection to the server", "new: away"]


def test_what_cannot_be_fetched_is_tried_later(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    source(engine).broken = {mail(3)[b"uid002"]}
    report = engine.run()
    assert (report.exit_code, report.fetched, report.waiting_time) == (ExitCode.TEMPORARY, 2, 1)
    (told,) = engine.ledger.problems()
    assert (told.uid, told.reason) == (b"uid002", str(MessageRefused("“-ERR cannot open”")))


def test_a_cancelled_run_says_so_and_keeps_what_it_has(make: Make):
    home = MemoryArchive()
    engine = make(3, {"home": home})
    run = engine.prepare()
    run.cancel()
    assert engine.finish(run).exit_code is ExitCode.INTERRUPTED
    assert engine.run().fetched == 3
