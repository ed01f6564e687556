"""Several processes apply and schedule at the same time: a container for each of them is started at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

from syncd.db import due as due_times
from syncd.db.definitions import Definition
from syncd.db.due import Next
from tests.contract.conftest import Opener
from tests.support.ledger import Clock
from tests.support.service import Tables, definition

MANY = 300
TURNS = 5


def wanted(turn: int) -> list[Definition]:
    """In an order that has nothing to do with the order of due times."""
    return [
        definition(f"job {number * 7 % MANY}", text=f'"{number} {turn}"', schedule="hourly") for number in range(MANY)
    ]


def test_the_same_file_is_applied_twice_at_once(open_ledger: Opener) -> None:
    tables, start = [Tables(open_ledger()) for _ in range(3)], Barrier(3)

    def apply(mine: Tables) -> int:
        start.wait()
        return len(mine.apply(*wanted(0)).added)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(apply, tables)) == [0, 0, MANY]


def test_schedulers_and_apply_do_not_lock_each_other(open_ledger: Opener, at: Clock) -> None:
    """They met in a deadlock, and a scheduler that came too late broke off."""
    ours, theirs, others = (Tables(open_ledger()) for _ in range(3))
    ours.apply(*wanted(0), following=lambda it: at.now + timedelta(seconds=hash(it.job) % 1000))
    until = at.later(hours=1)
    start = Barrier(3)

    def apply() -> None:
        start.wait()
        for turn in range(1, 1 + TURNS):
            theirs.apply(*wanted(turn), following=lambda _: until + timedelta(hours=1))

    def schedule(mine: Tables) -> int:
        start.wait()
        found = 0
        while due_times.count_due(mine.database, until):
            queued, _ = due_times.queue_due(mine.database, until, lambda *_: Next(until + timedelta(hours=1)))
            found += len(queued)
        return found

    with ThreadPoolExecutor(3) as pool:
        applied = pool.submit(apply)
        scheduled = [pool.submit(schedule, mine) for mine in (ours, others)]
        applied.result()
        assert sum(it.result() for it in scheduled) == MANY
    assert len(ours.runs.history(limit=MANY + 1)) == MANY
