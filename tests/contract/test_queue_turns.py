"""Who is next: a slice that ended lets others have their turn, and nobody asks in vain time after time."""

from __future__ import annotations

import pytest

from syncd.db.database import Database
from syncd.db.leases import EXPIRY_S
from syncd.db.queue import BUSY_S, NO_PERMIT_S
from tests.support.ledger import Clock
from tests.support.service import DONE, Tables


@pytest.fixture
def tables(database: Database, at: Clock) -> Tables:
    assert at.now
    return Tables(database)


def test_a_run_with_more_to_do_is_queued_behind_those_that_wait(tables: Tables, at: Clock) -> None:
    """Otherwise a few large mailboxes would keep all threads, slice after slice, and the others would wait for days."""
    large = tables.working(tables.job("large"))
    at.later(seconds=60)
    small = tables.queued(tables.job("small"))
    at.later(seconds=420)
    assert tables.queue.requeue(large)
    assert tables.waiting() == [small, large.claim.run_id]
    assert tables.queue.claim(large.claim.run_id) is not None  # at once, where a thread is free


@pytest.mark.parametrize("limits", [{}, {"pop.example.net": 1}])
def test_a_run_whose_worker_died_waits_while_it_cannot_be_claimed(
    tables: Tables, at: Clock, limits: dict[str, int]
) -> None:
    """Its account, or the only connection to its host, has gone to another job: a sweep must not try at each look."""
    user = {} if limits else {"user": "road"}
    dead = tables.working(tables.job("road", host="pop.example.net"))
    tables.die(dead)
    other = tables.claimed(tables.queued(tables.job("other", host="pop.example.net", **user)), limits)
    run_id = dead.claim.run_id
    assert tables.waiting() == [run_id]
    assert tables.queue.claim(run_id, limits) is None
    assert tables.waiting() == []
    tables.queue.finish(other, DONE)
    at.later(seconds=max(*BUSY_S, *NO_PERMIT_S))
    assert tables.waiting() == [run_id]
    assert tables.claimed(run_id, limits).claim.generation == dead.claim.generation + 1


def test_a_living_run_is_not_put_off_by_a_message_of_it(tables: Tables, at: Clock) -> None:
    working = tables.working(tables.job())
    assert tables.queue.claim(working.claim.run_id) is None
    assert tables.row(working.claim.run_id).not_before is None
    at.later(seconds=EXPIRY_S)
    tables.queue.finish(working, DONE)
