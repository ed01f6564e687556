"""What a lease does when its database does not answer; the rest is in tests/contract."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from syncd import clock
from syncd.db.database import Database
from syncd.db.leases import LeaseSet, account_resource, archive_resource, job_resource
from syncd.db.models import leases
from syncd.db.renewal import RENEW_S, RETRY_S, renewer
from syncd.errors import Locked
from tests.support.ledger import Steps


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(None, tmp_path, busy_s=0.02) as opened:
        yield opened


def expires_at(database: Database) -> float:
    with database.read() as connection:
        return connection.execute(select(leases.c.expires_at)).scalar_one()


def test_resources_are_named_by_what_does_not_change() -> None:
    uuid = UUID(int=7)
    assert job_resource(7) == "job:7"
    assert account_resource(uuid) == "account:00000000-0000-0000-0000-000000000007"
    assert archive_resource(uuid) == "archive:00000000-0000-0000-0000-000000000007"


def test_a_ledger_that_is_closed_is_given_free(tmp_path: Path) -> None:
    """The renewer of its leases held it: each ledger that a process had opened stayed, with its statements."""
    with Database.open(None, tmp_path) as opened, LeaseSet.acquire(opened, ["job:road"], "a test"):
        kept = weakref.ref(opened)
    del opened
    gc.collect()
    assert kept() is None


def test_the_leases_of_a_process_are_renewed_together(database: Database) -> None:
    with LeaseSet.acquire(database, ["job:road"], "a test"):
        first = renewer(database, 60.0)
        gc.collect()
        assert renewer(database, 60.0) is first


def test_a_renewal_that_failed_is_tried_again(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    steps = Steps()
    with LeaseSet.acquire(database, ["job:road"], "a test", stopping=steps):
        steps.wait_for_pause()
        with database.write() as connection:
            connection.execute(leases.update().values(expires_at=1.0))
        with database.write():
            steps.go_on()
            steps.wait_for_pause()
        assert "lease.renewal_failed: the ledger" in caplog.text
        assert expires_at(database) == 1.0
        steps.go_on()
        steps.wait_for_pause()
        assert expires_at(database) > 1.0
    assert steps.pauses == [RENEW_S, RETRY_S, RENEW_S]


def test_the_thread_ends_when_the_lease_is_lost(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    steps = Steps()
    with LeaseSet.acquire(database, ["job:road"], "a test", stopping=steps) as mine:
        steps.wait_for_pause()
        with database.write() as connection:
            connection.execute(leases.update().values(generation=2))
        assert mine._renewer is not None
        thread = mine._renewer._thread
        assert thread is not None
        steps.go_on()
        thread.join()
    assert "lease.lost: another process took over job:road" in caplog.text


def test_past_the_deadline_a_check_says_why_it_cannot_renew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = LeaseSet.acquire(database, ["job:road"], "a test", renew_s=0)
    monkeypatch.setattr(clock, "boottime", lambda: 1e12)
    with database.write(), pytest.raises(Locked, match="in use by another process"):
        mine.check(0)


def test_giving_back_that_fails_is_logged_and_hides_nothing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mine = LeaseSet.acquire(database, ["job:road"], "a test", renew_s=0)
    with database.write(), pytest.raises(ZeroDivisionError), mine:
        raise ZeroDivisionError
    assert "lease.release_failed: the ledger" in caplog.text
