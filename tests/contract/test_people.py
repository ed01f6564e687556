"""Users, sessions, tokens, attempts to sign in, and what the page shows at a glance, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update

from syncd.db import board, control, people
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.ledger import Ledger, of_account, of_route
from syncd.db.models import definitions
from syncd.db.people import FREE, LONGEST_WAIT_S, Role
from syncd.db.rows import Suspension
from tests.support.ledger import START
from tests.support.service import HOME, Tables

HOUR = timedelta(hours=1)


def due(database: Database, job_id: int, at: datetime) -> None:
    with database.write() as connection:
        mine = update(definitions).where(definitions.c.job_id == job_id)
        connection.execute(mine.values(next_due=to_microseconds(at)))


def test_users_sessions_and_tokens(database: Database) -> None:
    assert not people.any_user(database)
    assert people.add_user(database, "ann", Role.OPERATOR, "hash", START)
    assert not people.add_user(database, "ann", Role.ADMIN, "other", START)
    found = people.password_of(database, "ann")
    assert found is not None
    ann, password = found
    assert (ann.role, password, ann.signed_in_at) == (Role.OPERATOR, "hash", None)
    people.begin_session(database, b"1" * 32, ann.id, START, START + HOUR)
    assert people.user_of_session(database, b"1" * 32, START) == ann._replace(signed_in_at=START)
    assert people.user_of_session(database, b"1" * 32, START + HOUR) is None
    assert people.user_of_session(database, b"2" * 32, START) is None
    assert people.add_token(database, "robot", b"3" * 32, Role.READER, START, START + HOUR)
    assert not people.add_token(database, "robot", b"4" * 32, Role.READER, START, None)
    held = people.token_of(database, b"3" * 32, START)
    assert held is not None
    assert people.known_tokens(database) == [held]
    assert people.token_of(database, b"3" * 32, START + HOUR) is None
    assert people.remove_token(database, "robot")
    assert not people.remove_token(database, "robot")
    assert people.remove_user(database, "ann")  # with an open session
    assert not people.remove_user(database, "ann")
    assert people.known_users(database) == []


def test_the_first_user_is_made_once_with_any_set_up_token(database: Database) -> None:
    assert people.add_setup_token(database, b"1" * 32, START, START + HOUR)
    assert people.add_setup_token(database, b"2" * 32, START, START + HOUR)  # another process of the page
    assert not people.add_first_user(database, b"3" * 32, "eve", "hash", START)
    assert not people.add_first_user(database, b"1" * 32, "eve", "hash", START + HOUR)
    assert people.add_first_user(database, b"2" * 32, "ann", "hash", START)
    assert not people.add_first_user(database, b"1" * 32, "eve", "hash", START)
    assert not people.add_setup_token(database, b"4" * 32, START, START + HOUR)
    assert [(it.name, it.role) for it in people.known_users(database)] == [("ann", Role.ADMIN)]


def test_attempts_wait_longer_and_longer(database: Database) -> None:
    now, waits = START, []
    for _ in range(FREE + 12):
        again = people.attempt(database, ["user ann", "address 1"], now)
        if again is not None:
            waits.append(round((again - now).total_seconds()))
            now = again
            assert people.attempt(database, ["user ann"], now) is None
    assert waits[:4] == [1, 2, 4, 8]
    assert max(waits) <= LONGEST_WAIT_S
    people.succeeded(database, ["user ann"])
    assert people.attempt(database, ["user ann"], now) is None


def test_suspensions_have_the_names_of_their_configuration(database: Database) -> None:
    tables = Tables(database)
    job_id = tables.job("road")
    ledger = Ledger(database, lambda _: None)
    row = Catalog(database, HOME).find_job("road")
    assert row is not None
    assert row.id == job_id
    ledger.suspensions.put(of_account(row.account_id), Suspension(START + HOUR, "too many sign-ins"))
    ledger.suspensions.put(of_route(99), Suspension(START + HOUR, "of a route that is not there"))
    found = board.suspended(database, HOME.name, START)
    assert [(it.name, it.job, it.until, it.reason) for it in found] == [
        ("road", "", START + HOUR, "too many sign-ins")
    ]  # fmt: skip
    assert board.suspended(database, HOME.name, START + HOUR) == []
    assert board.suspended(database, "other", START) == []
    assert board.waiting(database, HOME.name) == (0, 0)
    assert board.waiting(database, HOME.name).is_whole


def test_what_is_due_next_and_the_pulse_of_jobs(database: Database) -> None:
    tables = Tables(database)
    first = tables.job("road", schedule="every 15 minutes")
    second = tables.job("lane", schedule="every 15 minutes")
    tables.job("by-hand")
    due(database, first, START + HOUR)
    due(database, second, START)
    assert board.coming(database, HOME.name, 1) == ([("lane", START)], 2)
    assert board.coming(database, "other", 1) == ([], 0)
    before = board.pulse(database, HOME.name)
    control.pause(database, second)
    assert board.coming(database, HOME.name, 5) == ([("road", START + HOUR)], 1)
    assert board.pulse(database, HOME.name) != before
    control.resume(database, second)
    assert board.pulse(database, HOME.name) == before
