"""Renewals and the commits of runs do not wait for each other on PostgreSQL; on SQLite one writes at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from syncd.db.leases import EXPIRY_S, LeaseSet, fence_of
from syncd.db.renewal import Renewer
from tests.contract.conftest import ENGINES, Opener

RUNS = 4


@pytest.mark.parametrize("database_url", ENGINES[1:], indirect=True)
def test_a_renewal_does_not_wait_for_a_transaction_of_a_run(open_ledger: Opener) -> None:
    database = open_ledger()
    lease_set = LeaseSet.acquire(database, ["job:7"], "a test", renew_s=0)
    renewer = Renewer(database, EXPIRY_S)
    renewer.add(lease_set)
    with database.write() as connection:
        lease_set.fence(connection)
        renewer.renew()  # within the time for which a lock is waited for
        lease_set.fence(connection)
    renewer.drop(lease_set)


def test_renewals_and_commits_meet_in_no_deadlock(open_ledger: Opener) -> None:
    """A renewal locked leases in any order, and a commit one after the other: under load no renewal came through."""
    database = open_ledger()
    archives = [LeaseSet.acquire(database, [f"archive:{n}"], "a test", renew_s=0) for n in range(RUNS)]
    jobs = [LeaseSet.acquire(database, [f"account:{n}", f"job:{n}"], "a test", renew_s=0) for n in range(RUNS)]
    renewer, over = Renewer(database, EXPIRY_S), Event()
    renewer._sets = {*archives, *jobs}

    def commit(number: int) -> int:
        commits = 0
        while not over.is_set():
            with database.write() as connection:
                fence_of([jobs[number], archives[number], archives[0]])(connection)
            commits += 1
        return commits

    with ThreadPoolExecutor(RUNS) as pool:
        working = [pool.submit(commit, number) for number in range(RUNS)]
        try:
            for _ in range(30):
                renewer.renew()
        finally:
            over.set()
        assert all(it.result() for it in working)
