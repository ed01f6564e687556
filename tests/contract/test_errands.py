"""Errands as rows, on both databases: asked for, taken once, cancelled, forgotten; and what a process leaves behind."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from syncd.db import errands, history
from syncd.db.database import Database
from syncd.db.errands import DIED, Kind, State, Subject, Taken, Wanted
from syncd.db.holder import Holder
from tests.support.ledger import START

VERIFY = Subject("home", Kind.VERIFY, "road")
DRY = Subject("home", Kind.DRY_RUN, "road")
HOUR = timedelta(hours=1)
ME = Holder.me("errand")


def asked(database: Database, subject: Subject = VERIFY, **facts: object) -> bool:
    return errands.ask(database, Wanted(subject, "ann", **facts), START)  # type: ignore[arg-type]


def taken(database: Database, subject: Subject = VERIFY, holder: Holder = ME) -> Taken:
    assert asked(database, subject)
    found = errands.take(database, [subject.kind], "home", holder, START + HOUR)
    assert found is not None
    return found


def test_one_is_open_at_a_time_and_is_taken_once(database: Database) -> None:
    assert asked(database, read=True)
    assert not asked(database)
    assert asked(database, DRY)
    found = errands.newest(database, VERIFY)
    assert found is not None
    assert (found.state, found.read, found.asked_by, found.asked_at) == (State.QUEUED, True, "ann", START)
    assert errands.take(database, [Kind.VERIFY], "other", ME, START) is None
    assert errands.take(database, [Kind.VERIFY], ["", "host-a"], ME, START) is None  # not for a worker
    mine = errands.take(database, [Kind.VERIFY, Kind.ARCHIVE], "home", ME, START + HOUR)
    assert mine is not None
    assert (mine.kind, mine.name, mine.read) == (Kind.VERIFY, "road", True)
    assert errands.take(database, [Kind.VERIFY], "home", ME, START) is None
    assert errands.touch(database, mine, '{"octets":7}')
    found = errands.newest(database, VERIFY)
    assert found is not None
    assert (found.state, found.progress, found.began_at) == (State.RUNNING, '{"octets":7}', START + HOUR)


def test_the_newest_and_the_newest_with_a_result_are_kept(database: Database) -> None:
    for text in ('{"a":1}', '{"b":2}', None, None):
        mine = taken(database)
        reports = {"json": b"packed"} if text else {}
        state = State.DONE if text else State.FAILED
        errands.end(database, mine, state, START + 2 * HOUR, error="" if text else "no", result=text, reports=reports)
    newest, done = errands.newest(database, VERIFY), errands.newest_done(database, VERIFY)
    assert newest is not None
    assert done is not None
    assert (newest.state, newest.error, newest.ended_at) == (State.FAILED, "no", START + 2 * HOUR)
    assert done.result == '{"b":2}'
    assert errands.report(database, done.id, "json") == b"packed"
    assert errands.report(database, done.id, "md") is None
    history.purge(database, START + 90 * 24 * HOUR, 90 * 24 * HOUR)
    assert errands.newest(database, VERIFY) is not None
    history.purge(database, START + 91 * 24 * HOUR, 90 * 24 * HOUR)
    assert errands.newest(database, VERIFY) is None


def test_a_wish_to_cancel_reaches_who_does_it(database: Database) -> None:
    assert not errands.cancel(database, VERIFY, START)
    mine = taken(database)
    assert errands.cancel(database, VERIFY, START)
    assert not errands.touch(database, mine, "{}")
    errands.end(database, mine, State.CANCELLED, START, error="cancelled")
    assert not errands.touch(database, mine, "{}")
    errands.end(database, mine, State.DONE, START, result="{}")  # it is over
    found = errands.newest(database, VERIFY)
    assert found is not None
    assert (found.state, found.result) == (State.CANCELLED, None)
    assert asked(database)
    assert errands.cancel(database, VERIFY, START)
    assert errands.take(database, [Kind.VERIFY], "home", ME, START) is None


@pytest.mark.parametrize("how", ["ask", "cancel"])
def test_what_a_process_that_died_left_is_told_and_in_nobodys_way(database: Database, how: str) -> None:
    dead = Holder(**{**json.loads(str(ME)), "started": 1})
    mine = taken(database, holder=dead)
    found = errands.newest(database, VERIFY)
    assert found is not None
    assert (found.state, found.error) == (State.FAILED, DIED)
    assert asked(database) if how == "ask" else errands.cancel(database, VERIFY, START)
    errands.end(database, mine, State.DONE, START, result="{}")  # it was only frozen
    found = errands.newest(database, VERIFY)
    assert found is not None
    assert found.state is (State.QUEUED if how == "ask" else State.FAILED)


def test_a_worker_of_the_site_takes_it_with_its_settings(database: Database) -> None:
    assert asked(database, site="host-a", document="{}")
    assert not errands.any_waiting(database, ["", "host-b"])
    assert errands.any_waiting(database, ["", "host-a"])
    assert errands.take(database, [Kind.VERIFY], "home", ME, START) is None  # not for the page
    mine = errands.take(database, [Kind.VERIFY], ["", "host-a"], ME, START)
    assert mine is not None
    assert mine.document == "{}"
