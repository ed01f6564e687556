"""Connections to the database: how many there are, which are used again, and what becomes of one that was closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from syncd.db.database import Database
from syncd.db.ledger import listing
from syncd.mail.listing import Totals
from tests.contract.conftest import ENGINES, Opener
from tests.support.ledger import Bench, add

SIZE = 2
MANY = 20  # more than are kept


class Connects:
    """Counts the connections that are made."""

    def __init__(self, database: Database) -> None:
        database.engine.dispose()
        self.made = 0
        event.listen(database.engine, "connect", self._count)

    def _count(self, *_: object) -> None:
        self.made += 1


@pytest.fixture
def small(database_url: str | None, tmp_path: Path) -> Iterator[Database]:
    with Database.open(database_url, tmp_path / "state", pool_size=SIZE) as opened:
        yield opened


def busy(database: Database, threads: int) -> int:
    """Have so many threads use a connection at once; returns how many did, at most."""
    here, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        nonlocal here, most
        gate.wait()
        for _ in range(5):
            with database.read() as connection:
                with lock:
                    here += 1
                    most = max(most, here)
                connection.execute(text("SELECT 1"))
                with lock:
                    here -= 1

    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    gate.wait()
    for thread in started:
        thread.join()
    return most


def test_a_pool_of_a_size_never_has_more_connections(small: Database) -> None:
    connects = Connects(small)
    assert busy(small, 4 * SIZE) <= SIZE
    assert connects.made <= SIZE


def test_without_a_size_nobody_waits(database: Database) -> None:
    connects = Connects(database)
    inside = threading.Barrier(MANY)

    def work() -> None:
        with database.read():
            inside.wait()

    started = [threading.Thread(target=work) for _ in range(MANY)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert connects.made == MANY


@pytest.mark.parametrize("database_url", ENGINES[1:], indirect=True)
def test_a_connection_that_the_server_closed_is_replaced(database: Database, open_ledger: Opener) -> None:
    connects = Connects(database)
    with database.read() as connection:
        mine = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with open_ledger().write() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
    with database.write() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != mine
    assert connects.made == 2


@pytest.mark.parametrize("database_url", ENGINES[1:], indirect=True)
def test_a_server_that_has_vanished_is_given_up_within_a_minute(database: Database) -> None:
    """TCP would send what was not confirmed again for a quarter of an hour, and a thread of a worker wait for it."""
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert 0 < int(driver.info.get_parameters()["tcp_user_timeout"]) < 60_000


def test_a_listing_that_is_taken_in_uses_a_connection_of_the_pool(bench: Bench) -> None:
    """Each listing made a connection of its own: on PostgreSQL that costs more than all its statements."""
    scope, connects = bench.job(), Connects(bench.database)
    for number in range(1, 5):
        bench.pull(scope, [(b"%d" % uid, 10) for uid in range(number)])
    assert connects.made == 2  # one for the listing, one for commits meanwhile


def test_a_long_listing_takes_its_file_along(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_TIDIED", 2)
    scope, connects = bench.job(), Connects(bench.database)
    for number in range(1, 5):
        bench.pull(scope, [(b"%d" % uid, 10) for uid in range(number)])
    assert connects.made == 3


def test_after_an_error_the_temporary_table_is_gone(bench: Bench) -> None:
    scope = bench.job()

    def fail() -> None:
        with bench.ledger.listing(scope) as session:
            add(session, [(b"a", 10)])
            session.record(Totals(1, 10))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with bench.ledger.listing(scope) as session:
        add(session, [(b"a", 10), (b"b", 10)])
        assert session.record(Totals(2, 20)).new == 1


@pytest.mark.parametrize("kept", [0, 3, 1000])
def test_lines_are_the_same_wherever_they_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(listing, "MOST_KEPT", kept)
    scope = bench.job()
    lines = [(b"%d" % uid, 10 + uid) for uid in range(10)]
    for new in (10, 0):
        with bench.ledger.listing(scope) as session:
            add(session, lines, 2)
            assert session.overlap().listed == 10
            assert session.record(Totals(10, sum(octets for _, octets in lines))).new == new
