"""How far a run is: in its report, and in its row, where others look."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Connection

from syncd.db.ledger import Ledger
from syncd.db.rows import Progress, RunScope
from syncd.engine.budget import Budget
from syncd.engine.context import Context
from syncd.engine.events import Event, Noted, Planned, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.progress import WRITE_S, Done, KeyRanges, Recorder
from syncd.errors import LeaseLost
from syncd.mail.message import Key
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.support.engine import Make, mail, source
from tests.unit.engine.conftest import Time

SCOPE = RunScope(1, 1, 1, 1, ())


class Bench:
    """A recorder over a ledger that only notes what is written."""

    def __init__(self, **report: Any) -> None:
        self.ledger = Mock(spec=Ledger)
        self.heard: list[Event] = []
        self.report = RunReport("job", **report)
        job = Mock()
        job.name, job.routes = "job", ()
        self.context = Context(job, SCOPE, self.ledger, Budget().room(), self.heard.append, self.report)
        self.recorder = Recorder(self.context)

    @property
    def written(self) -> list[Progress]:
        """The progress written in transactions of its own."""
        return [call.args[1] for call in self.ledger.report.call_args_list]

    @property
    def committed(self) -> list[Progress | None]:
        """The progress written with each commit."""
        return [call.kwargs["progress"] for call in self.ledger.commit.call_args_list]


def test_what_is_told_is_heard_at_once_and_reported_when_the_writer_looks():
    bench = Bench()
    event = Planned("job", 9, 3, 3, 30, listed_octets=90, mailboxes=2, mailboxes_opened=1)
    bench.context.tell(event)
    assert (bench.heard, bench.report.listed) == ([event], 0)
    bench.recorder.take_in()
    report = bench.report
    assert (report.listed, report.listed_octets, report.new, report.to_fetch, report.to_fetch_octets) == (
        9,
        90,
        3,
        3,
        30,
    )
    assert (report.mailboxes, report.mailboxes_opened, report.unchanged) == (2, 1, False)


def test_a_note_with_an_exit_code_is_an_error_of_the_run():
    bench = Bench()
    bench.context.note("something")
    bench.context.note("Sent: in use", ExitCode.TEMPORARY)
    bench.recorder.take_in()
    assert (bench.report.errors, bench.recorder.codes) == (["Sent: in use"], [ExitCode.TEMPORARY])


def test_a_commit_takes_along_the_counts_as_they_are_after_it():
    bench = Bench(fetched=5, delivered={"home": 5})
    bench.context.begin("fetching")
    bench.context.note("look here")
    bench.recorder.commit([], [], [], Done(2, 20, {"home": 2, "new": 1}))
    (progress,) = bench.committed
    assert progress is not None
    assert (progress.phase, progress.notes) == ("fetching", ("look here",))
    counts = {name: progress.counts[name] for name in ("fetched", "fetched_octets")}
    assert counts == {"fetched": 7, "fetched_octets": 20}
    assert (progress.counts["delivered to home"], progress.counts["delivered to new"]) == (7, 1)
    assert (bench.report.fetched, bench.report.delivered) == (7, {"home": 7, "new": 1})
    bench.recorder.commit([], [], [], Done())
    assert bench.committed[-1] is not None
    assert bench.committed[-1].notes == ()  # once


def test_a_commit_that_fails_counts_nothing_and_keeps_the_notes():
    bench = Bench()
    bench.ledger.commit.side_effect = LeaseLost("another run")
    bench.context.note("look here")
    with pytest.raises(LeaseLost):
        bench.recorder.commit([], [], [], Done(2, 20, {"home": 2}))
    assert (bench.report.fetched, bench.report.delivered) == (0, {})
    bench.recorder.finish()
    assert [progress.notes for progress in bench.written] == [("look here",)]


def test_a_destination_that_commits_each_message_writes_progress_once_in_a_while(at: Time):
    bench = Bench()
    for _ in range(3):
        bench.recorder.commit([], [], [], Done(delivered={"new": 1}), paced=True)
    at(seconds=WRITE_S)
    bench.recorder.commit([], [], [], Done(delivered={"new": 1}), paced=True)
    *quick, last = bench.committed
    assert quick == [None] * 3
    assert last is not None
    assert last.counts["delivered to new"] == 4


def test_a_run_that_waits_writes_what_is_new_after_a_second(at: Time):
    bench = Bench()
    bench.context.begin("connecting")
    bench.recorder.idle()
    assert bench.written == []
    at(seconds=WRITE_S)
    bench.recorder.idle()
    at(seconds=WRITE_S)
    bench.recorder.idle()  # nothing is new
    assert [progress.phase for progress in bench.written] == ["connecting"]


def test_at_the_end_only_notes_are_written():
    bench = Bench()
    bench.context.begin("listing")
    bench.recorder.finish()
    assert bench.written == []
    bench.context.note("look here")
    bench.recorder.finish()
    assert [progress.notes for progress in bench.written] == [("look here",)]


def test_a_dry_run_has_no_row(at: Time):
    bench = Bench(dry_run=True)
    bench.context.note("look here")
    bench.recorder.commit([], [], [], Done())
    at(seconds=WRITE_S)
    bench.context.note("and here")
    bench.recorder.idle()
    assert (bench.committed, bench.written) == ([None], [])


def test_counts_of_earlier_slices_are_added_to_what_was_done_and_not_to_what_was_found():
    report = RunReport("job", listed=10, fetched=3, removed=1, waiting_time=2, delivered={"home": 3})
    before = {"listed": 9, "fetched": 4, "removed": 0, "waiting_time": 7, "delivered to home": 4, "delivered to old": 1}
    counts = report.counts(before)
    assert {name: counts[name] for name in before} == {
        "listed": 10,
        "fetched": 7,
        "removed": 1,
        "waiting_time": 2,
        "delivered to home": 7,
        "delivered to old": 1,
    }
    assert "run_id" not in counts


# --- in the row --------------------------------------------------------------------------------------------


def test_whoever_looks_sees_counts_and_phase_of_a_run_under_way(make: Make):
    engine = make(30, {"home": MemoryArchive(), "new": Relay()})
    seen: list[tuple[str, int, int]] = []

    def look() -> None:
        row = engine.open_run()
        seen.append((row.phase, row.counts["fetched"], row.counts["delivered to home"]))

    source(engine).on_finish = look
    engine.run()
    assert seen == [("fetching", 30, 30)]


def test_notes_are_in_the_row_of_their_run(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    engine.run()
    source(engine).mail = {}
    engine.run()
    notes = engine.runs.notes([engine.claim.run_id])
    assert [note.text for note in notes[engine.claim.run_id]] == engine.notes()
    assert "is empty" in engine.notes()[0]


def test_a_poll_that_finds_nothing_new_writes_nothing(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    engine.run()
    fenced: list[Connection] = []
    engine.ledger = Ledger(engine.database, fenced.append)
    report = engine.run()
    assert (report.unchanged, fenced) == (True, [])


def test_progress_of_a_run_that_was_taken_over_is_refused(make: Make):
    engine = make(3, {"home": MemoryArchive()})
    run = engine.prepare()
    engine.prepare()  # the first owner is dead: generation + 1
    assert run.execute().exit_code is ExitCode.HELD
    report = engine.run()
    assert (report.exit_code, engine.states("home")) == (ExitCode.DONE, {"DELIVERED": list(mail(3))})


def test_noted_events_say_which_are_errors():
    assert Noted("job", "text").exit_code is ExitCode.DONE


def test_keys_that_follow_one_another_are_a_range_and_any_order_will_do():
    keys = KeyRanges()
    for part in ([5, 6, 7], [8, 20], [1], [9]):
        keys.update(map(Key, part))
    assert [key for key in range(25) if Key(key) in keys] == [1, 5, 6, 7, 8, 9, 20]
    assert Key(6) in keys
    assert Key(4) not in KeyRanges()
