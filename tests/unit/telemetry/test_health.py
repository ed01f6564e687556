"""Beats of parts and checks: what keeps a process from being alive, or ready."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from syncd import clock
from syncd.db.database import Database
from syncd.db.leases import LEADER, LeaseSet
from syncd.errors import LedgerError
from syncd.telemetry import fresh
from syncd.telemetry.health import Health, Reason, check_database


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    return seconds


def parts(reasons: list[Reason]) -> list[str]:
    return [reason.part for reason in reasons]


def test_a_part_that_beats_is_alive_and_one_that_hangs_is_not(now: list[float]):
    health = Health()
    health.expect("sweep", within_s=30)
    now[0] += 30
    assert health.alive() == []
    now[0] += 1
    (reason,) = health.alive()
    assert reason == ("sweep", "nothing was heard of it for 31 s; at most 30 s are usual")
    health.beat("sweep")
    assert health.alive() == health.ready() == []
    now[0] += 31
    health.forget("sweep")
    health.forget("sweep")
    assert health.alive() == []


def test_a_part_that_is_not_vital_matters_to_readiness_alone(now: list[float]):
    health = Health()
    health.expect("scheduler", within_s=30, vital=False)
    now[0] += 31
    assert health.alive() == []
    assert parts(health.ready()) == ["scheduler"]


def test_a_part_that_keeps_the_time_of_its_beats_itself(now: list[float]):
    health, swept_at = Health(), [100.0]
    health.expect("sweep", within_s=30, at=lambda: swept_at[0])
    now[0] += 31
    assert parts(health.alive()) == ["sweep"]
    assert health.ages() == {"sweep": 31.0}
    swept_at[0] = 120.0
    assert health.alive() == []
    assert health.ages() == {"sweep": 11.0}


def test_parts_that_nobody_expects_are_only_shown(now: list[float]):
    health = Health()
    health.expect("sweep", within_s=30)
    health.beat("bell")
    now[0] += 1000
    health.beat("sweep")
    assert health.ages() == {"bell": 1000.0, "sweep": 0.0}
    assert health.ready() == []


def test_checks_are_asked_for_readiness(now: list[float]):
    health, reasons = Health(), {"broker": ""}
    health.check("broker", lambda: reasons["broker"])
    assert health.ready() == []
    reasons["broker"] = "refused\r\nthe connection"
    assert health.ready() == []
    now[0] += fresh.AGE_S
    assert health.ready() == [("broker", "refused\\r\\nthe connection")]
    assert health.alive() == []


def test_a_check_that_fails_says_that_something_is_wrong():
    def away() -> str:
        raise LedgerError("the ledger does not answer")

    def wrong() -> str:
        raise ValueError("oops")

    health = Health()
    health.check("database", away)
    health.check("odd", wrong)
    assert health.ready() == [("database", "the ledger does not answer"), ("odd", "ValueError: oops")]


def test_the_database_the_schema_and_a_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fresh, "AGE_S", 0.0)
    with Database.open(None, tmp_path) as database:
        health = Health()
        check_database(health, database)
        assert health.ready() == [("scheduler", "no scheduler leads: nothing new is queued")]
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        health = Health()
        check_database(health, database)
        with LeaseSet.acquire(database, [LEADER], "scheduling", renew_s=0):
            assert health.ready() == [("database", "the database has the schema of another version of syncd")]
