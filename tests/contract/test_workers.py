"""Processes of the service on both databases: who lives, and which sites are served."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import update

from syncd.db import workers
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import EXPIRY_S
from syncd.db.models import workers as rows
from syncd.db.renewal import Renewer
from syncd.db.workers import Worker


def process(role: str = "worker", sites: tuple[str, ...] = ("",), **facts: object) -> Worker:
    holder = dataclasses.replace(Holder.me(role), **facts)  # type: ignore[arg-type]  # as the caller says
    return Worker(holder, role, sites, 8, "1.0")


def beat(database: Database, *of: Worker) -> None:
    for worker in of:
        with database.write() as connection:
            workers.beat(connection, worker)


def age(database: Database, worker: Worker, seconds: float) -> None:
    with database.write() as connection:
        mine = update(rows).where(rows.c.holder == str(worker.holder))
        connection.execute(mine.values(seen_at=rows.c.seen_at - seconds))


def test_a_process_is_known_from_its_first_beat_until_it_ends(database: Database) -> None:
    assert workers.known(database) == []
    mine = process(sites=("", "host-a"))
    beat(database, mine)
    beat(database, mine)
    (known,) = workers.known(database)
    assert dataclasses.replace(known, age_s=0.0) == mine
    assert 0 <= known.age_s < EXPIRY_S
    assert known.lives
    workers.remove(database, mine.holder)
    assert workers.known(database) == []


def test_who_was_heard_of_last_is_first(database: Database) -> None:
    first, second = process(), process("scheduler", ())
    beat(database, first, second)
    age(database, second, 5)
    assert [it.role for it in workers.known(database)] == ["worker", "scheduler"]
    assert workers.living(workers.known(database), "scheduler")[0].holder == second.holder


@pytest.mark.parametrize("how", ["silent", "dead"])
def test_a_process_that_is_silent_or_dead_serves_nothing(database: Database, how: str) -> None:
    worker = process() if how == "silent" else process(started=1)
    beat(database, worker)
    if how == "silent":
        assert workers.serving(database, "") is not None
        age(database, worker, EXPIRY_S + 1)
    assert workers.serving(database, "") is None
    assert workers.living(workers.known(database), "worker") == []
    assert len(workers.known(database)) == 1


def test_a_process_elsewhere_lives_while_it_is_heard_of(database: Database) -> None:
    beat(database, process(host="elsewhere", started=1))
    assert workers.serving(database, "") is not None


def test_a_site_is_served_by_its_workers(database: Database) -> None:
    beat(database, process("scheduler", ("host-b",)), process(sites=("", "host-a")))
    assert workers.serving(database, "host-a") is not None
    assert workers.serving(database, "host-b") is None


def test_the_renewer_beats_for_its_process(database: Database) -> None:
    mine = process()
    renewer = Renewer(database, EXPIRY_S)
    renewer.stay(lambda connection: workers.beat(connection, mine))
    age(database, mine, 50)
    renewer.renew()
    assert workers.known(database)[0].age_s < 50
    renewer.stay(None)


def test_those_that_ended_without_a_word_are_forgotten_after_a_day(database: Database) -> None:
    old, new = process(), process()
    beat(database, old, new)
    age(database, old, workers.FORGET_S + 1)
    with database.write() as connection:
        workers.forget(connection)
    assert [it.holder for it in workers.known(database)] == [new.holder]
