"""Who may work on what, on both databases. Time passes by moving `expires_at`; nothing waits for a clock."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from syncd import clock
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.database_time import database_now
from syncd.db.holder import Holder
from syncd.db.leases import (
    EXPIRY_S,
    LeaseSet,
    account_resource,
    archive_resource,
    fence_of,
    job_resource,
    mailboxes_resource,
    relay_resource,
)
from syncd.db.models import accounts, leases
from syncd.db.renewal import RENEW_S
from syncd.db.routing import DestinationSpec
from syncd.errors import LeaseHeld, LeaseLost, LedgerError, Locked
from tests.contract.conftest import ENGINES, Opener
from tests.support.ledger import Steps

JOB = job_resource(7)
HOUR_S = 3600.0


def take(database: Database, *resources: str, what: str = "a test", expiry_s: float = HOUR_S) -> LeaseSet:
    """Leases without a renewing thread, that last however slow this machine is."""
    return LeaseSet.acquire(database, resources or [JOB], what, expiry_s=expiry_s, renew_s=0)


def row(database: Database, resource: str = JOB) -> tuple[int, str, float]:
    with database.read() as connection:
        generation, holder, expires_at = connection.execute(
            select(leases.c.generation, leases.c.holder, leases.c.expires_at).where(leases.c.resource == resource)
        ).one()
    return generation, holder, expires_at


def expire(database: Database, expires_at: float = 1.0) -> None:
    """Let the database's clock run past every lease."""
    with database.write() as connection:
        connection.execute(update(leases).values(expires_at=expires_at))


def hand_to(database: Database, **facts: Any) -> None:
    """Let somebody else hold every lease: this process, but for `facts`."""
    holder = dataclasses.replace(Holder.me("a test"), **facts)
    with database.write() as connection:
        connection.execute(update(leases).values(holder=str(holder)))


def write(database: Database, fenced: LeaseSet) -> None:
    """A transaction that writes before it asks."""
    with database.write() as connection:
        connection.execute(update(accounts).values(host="written"))
        fenced.fence(connection)


def host(database: Database) -> str:
    """The host that the last writer left in the ledger."""
    with database.read() as connection:
        return str(connection.execute(select(accounts.c.host)).scalar_one())


def database_time(database: Database) -> float:
    """Seconds by the clock that decides about leases."""
    with database.read() as connection:
        return float(connection.execute(select(database_now(connection))).scalar_one())


# --- taking --------------------------------------------------------------------------------------------


def test_a_lease_lasts_for_a_minute_of_the_databases_time(database: Database) -> None:
    before = database_time(database)
    with LeaseSet.acquire(database, [JOB], "a test", renew_s=0):
        generation, holder, expires_at = row(database)
        assert generation == 1
        assert Holder.parse(holder).pid == os.getpid()
        assert before + 60 <= expires_at <= database_time(database) + 60


def test_generations_only_grow(database: Database) -> None:
    seen = []
    for _ in range(3):
        with take(database):
            seen.append(row(database)[0])
        seen.append(row(database)[0])
    assert seen == sorted(set(seen))


def test_what_is_held_is_refused_and_says_by_whom(database: Database) -> None:
    with take(database, what='run of job "road"') as mine, pytest.raises(LeaseHeld) as caught:
        take(database)
    since = Holder.parse(str(mine.holder)).describe().rpartition(", since ")[2]
    host = os.uname().nodename
    line = f'job "7" is in use by process {os.getpid()} on {host}, since {since}; run again when that has ended'
    assert str(caught.value) == line


def test_what_is_held_is_named_as_in_the_configuration(database: Database) -> None:
    catalog = Catalog(database)
    account = catalog.account("office", "pop3", "pop.example.net", "me")
    archive = catalog.archive("home", "/mail", "packs", uuid4())
    job = catalog.job("road", account.id, [DestinationSpec("archive", archive.id)], removes=False)
    by = f"by process {os.getpid()} on {os.uname().nodename}"
    for resource, name in [
        (account_resource(account.uuid), f'account "office" is in use {by} (a test), since '),
        (archive_resource(archive.uuid), f'archive "home" is being written to {by}, since '),
        (archive_resource(uuid := uuid4()), f'archive "{uuid}" is being written to {by}, since '),
        (job_resource(job.id), f'job "road" is in use {by}, since '),
        (relay_resource(account.id), f'account "office" is being used to send mail {by}, since '),
        (mailboxes_resource(account.id), f'account "office" is being filled {by}, since '),
    ]:
        with take(database, resource, what="a test"), pytest.raises(LeaseHeld, match=f"^{re.escape(name)}"):
            take(database, resource)


def test_all_or_nothing(database: Database) -> None:
    with take(database, "job:2"):
        with pytest.raises(LeaseHeld):
            take(database, "job:1", "job:2", "job:3")
        take(database, "job:1", "job:3").release()


def test_named_twice_is_taken_once(database: Database) -> None:
    with take(database, JOB, JOB) as mine, database.write() as connection:
        mine.fence(connection)


def test_of_many_that_come_at_once_one_gets_it(database: Database) -> None:
    def attempt(number: int) -> LeaseSet | None:
        try:
            return take(database, *sorted([JOB, "job:9"], reverse=bool(number % 2)))
        except LeaseHeld:
            return None

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(attempt, range(8)))
    assert len([each for each in got if each is not None]) == 1


# --- giving back ---------------------------------------------------------------------------------------


def test_what_is_given_back_is_free(database: Database) -> None:
    mine = take(database)
    mine.release()
    mine.release()
    take(database).release()


def test_a_late_write_after_giving_back_is_refused(database: Database) -> None:
    mine = take(database)
    mine.release()
    with pytest.raises(LeaseLost), database.write() as connection:
        mine.fence(connection)


def test_giving_back_does_not_touch_what_somebody_else_has_by_now(database: Database) -> None:
    mine = take(database)
    expire(database)
    with take(database):
        before = row(database)
        mine.release()
        assert row(database) == before


# --- owners that are gone ------------------------------------------------------------------------------

A_DAY_PASSES = "a day passes"
OWNER = """
import sys
from pathlib import Path
from sqlalchemy import update
from syncd import clock
from syncd.db.database import Database
from syncd.db.leases import LeaseSet
from syncd.db.models import accounts
from syncd.errors import LeaseLost

database = Database.open(sys.argv[1] or None, Path(sys.argv[2]))
mine = LeaseSet.acquire(database, ["job:7"], "a child", expiry_s=3600.0, renew_s=0)
boottime = clock.boottime
print("held", flush=True)
for line in sys.stdin:
    if line.strip() == "a day passes":
        clock.boottime = lambda: boottime() + 86400
        print("passed", flush=True)
        continue
    try:
        mine.check(0.01)
        with database.write() as connection:
            mine.fence(connection)
            connection.execute(update(accounts).values(host=line.strip()))
        print("written", flush=True)
    except LeaseLost as error:
        print(f"lost: {error}", flush=True)
"""


class Child:
    """Another process that holds the job's lease and writes when it is told to."""

    def __init__(self, database_url: str | None, state: Path) -> None:
        arguments = [database_url or "", str(state)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.read() == "held"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def write(self, reason: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{reason}\n")
        self.process.stdin.flush()
        return self.read()


@contextmanager
def child(database_url: str | None, state: Path) -> Iterator[Child]:
    running = Child(database_url, state)
    with running.process:
        try:
            yield running
        finally:
            running.process.kill()


def test_a_dead_owner_on_this_machine_is_replaced_at_once(
    database: Database, database_url: str | None, tmp_path: Path
) -> None:
    with child(database_url, tmp_path / "state") as owner:
        with pytest.raises(LeaseHeld, match=f"is in use by process {owner.process.pid} on "):
            take(database)
        owner.process.kill()
        os.waitid(os.P_PID, owner.process.pid, os.WEXITED | os.WNOWAIT)  # ended, but still a zombie
        with take(database):
            assert row(database)[0] == 2


@pytest.mark.parametrize("facts", [{"host": "elsewhere"}, {"boot": "another"}, {"boot": ""}])
def test_an_owner_elsewhere_is_replaced_when_the_lease_ran_out(database: Database, facts: dict[str, Any]) -> None:
    take(database)
    hand_to(database, started=1, **facts)
    with pytest.raises(LeaseHeld):
        take(database)
    expire(database)
    take(database).release()


def test_a_clock_that_went_back_does_not_keep_a_lease_for_years(database: Database) -> None:
    take(database)
    hand_to(database, host="elsewhere")
    expire(database, database_time(database) + 86400)
    take(database).release()


# --- keeping -------------------------------------------------------------------------------------------


def test_renewing_moves_the_expiry_ahead(database: Database) -> None:
    with take(database, "job:9", JOB) as mine:
        expire(database)
        before = database_time(database)
        mine.renew()
        for resource in (JOB, "job:9"):
            assert before + HOUR_S <= row(database, resource)[2] <= database_time(database) + HOUR_S


def test_the_thread_renews(database: Database) -> None:
    steps = Steps()
    with LeaseSet.acquire(database, [JOB], "a test", stopping=steps):
        steps.wait_for_pause()
        for _ in range(2):
            expire(database)
            steps.go_on()
            steps.wait_for_pause()
            assert row(database)[2] > 1.0
    assert steps.pauses == [RENEW_S] * 3


class Boottime:
    """`clock.boottime` for tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "boottime", lambda: self.now)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Boottime:
    return Boottime(monkeypatch)


def test_the_check_costs_nothing_before_the_deadline(
    database: Database, boot: Boottime, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = take(database, expiry_s=EXPIRY_S)
    monkeypatch.setattr(mine, "renew", lambda: pytest.fail("renewed before the deadline"))
    mine.check(5)
    boot.now += 54
    mine.check(5)


def test_past_the_deadline_the_check_renews_on_the_spot(
    database: Database, boot: Boottime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with take(database, expiry_s=EXPIRY_S) as mine:
        expire(database)
        boot.now += 3600  # the machine slept for an hour
        mine.check(5)
        assert row(database)[2] > 1.0
        boot.now += 54
        monkeypatch.setattr(mine, "renew", lambda: pytest.fail("the deadline did not move"))
        mine.check(5)


def test_a_margin_that_a_fresh_lease_cannot_give(database: Database, boot: Boottime) -> None:
    with take(database, expiry_s=EXPIRY_S) as mine, pytest.raises(LeaseLost, match="our leases end within 61 s"):
        mine.check(61)
    assert boot.now == 1000


def test_who_was_replaced_never_writes_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Catalog(database).account("office", "pop3", "pop.example.net", "me")
    mine = take(database, "job:1", "job:2")
    expire(database)
    with take(database, "job:2"):
        lost = r"another process took over job:2 from us while we were not heard of: this run stops here"
        with pytest.raises(LeaseLost, match=lost):
            mine.renew()
        with pytest.raises(LeaseLost, match=lost):
            write(database, mine)
        monkeypatch.setattr(clock, "boottime", lambda: 1e12)
        with pytest.raises(LeaseLost, match=lost):
            mine.check(5)
    assert host(database) == "pop.example.net"


def test_one_fence_for_several_sets(database: Database) -> None:
    with take(database, "job:1") as first, take(database, "job:2") as second:
        fence = fence_of([first, second])
        with database.write() as connection:
            fence(connection)
        second.release()
        with pytest.raises(LeaseLost, match="job:2"), database.write() as connection:
            fence(connection)


def test_nobody_takes_over_between_the_fence_and_the_commit(
    database: Database, database_url: str | None, tmp_path: Path
) -> None:
    mine = take(database)
    expire(database)
    with Database.open(database_url, tmp_path / "state", busy_s=0.05) as thief:
        with database.write() as connection:
            mine.fence(connection)
            with pytest.raises(Locked):
                take(thief)
        with take(thief), pytest.raises(LeaseLost):
            mine.renew()


# --- frozen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ENGINES[1:], indirect=True)
def test_who_is_frozen_between_the_fence_and_the_commit_is_replaced(database: Database, open_ledger: Opener) -> None:
    """PostgreSQL kept its locks until it woke up; those of a machine that vanished, for two hours."""
    mine, other = take(database), open_ledger()
    expire(database)

    def is_replaced_in_a_transaction() -> None:
        limit = "idle_in_transaction_session_timeout"
        with database.write() as connection:
            mine.fence(connection)
            assert connection.exec_driver_sql(f"SHOW {limit}").scalar_one() == f"{EXPIRY_S / 60:g}min"
            connection.exec_driver_sql(f"SET {limit} = 1")  # millisecond: no test waits for a minute
            take(other)
            mine.fence(connection)

    with pytest.raises(LedgerError, match=r"^the ledger postgresql"):  # it has closed the connection
        is_replaced_in_a_transaction()
    with pytest.raises(LeaseLost):
        mine.renew()


@pytest.mark.crash
def test_frozen_past_its_lease_and_replaced_a_process_never_writes(
    database: Database, database_url: str | None, tmp_path: Path
) -> None:
    Catalog(database).account("office", "pop3", "pop.example.net", "me")
    with child(database_url, tmp_path / "state") as owner:
        assert owner.write("before") == "written"
        owner.process.send_signal(signal.SIGSTOP)
        expire(database)
        with take(database):
            owner.process.send_signal(signal.SIGCONT)
            assert owner.write(A_DAY_PASSES) == "passed"
            assert owner.write("after").startswith("lost: another process took over job:7")
    assert host(database) == "before"


@pytest.mark.crash
def test_frozen_past_its_lease_and_missed_by_nobody_a_process_goes_on(
    database: Database, database_url: str | None, tmp_path: Path
) -> None:
    Catalog(database).account("office", "pop3", "pop.example.net", "me")
    with child(database_url, tmp_path / "state") as owner:
        owner.process.send_signal(signal.SIGSTOP)
        expire(database)
        owner.process.send_signal(signal.SIGCONT)
        assert owner.write(A_DAY_PASSES) == "passed"
        assert owner.write("after") == "written"
        assert host(database) == "after"
        with pytest.raises(LeaseHeld):
            take(database)


def test_another_process_sees_the_same_leases(database: Database, open_ledger: Opener) -> None:
    other = open_ledger()
    with take(database), pytest.raises(LeaseHeld):
        take(other)
    take(other).release()
