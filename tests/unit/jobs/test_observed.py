"""What a process of the service shows of itself: signs of life of its parts, counts and log lines of its runs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.observed import WITHIN_S, Observed
from syncd import clock
from syncd.db.database import Database
from syncd.db.rows import Paused
from syncd.engine.events import MessageFailed, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.serving import Ended
from syncd.telemetry import logs, systemd
from syncd.telemetry.known import Known


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def observed(tmp_path: Path, now: list[float]) -> Iterator[Observed]:
    with Database.open(None, tmp_path) as database:
        yield Observed(database, None)


def a_worker(at: float) -> Any:
    return SimpleNamespace(alive_at=at, sweep=SimpleNamespace(alive_at=at, swept_at=at))


def a_scheduler(at: float, *, leads: bool) -> Any:
    return SimpleNamespace(led_at=at, fired_at=at, looked_at=at, leads=leads)


def unready(observed: Observed) -> set[str]:
    return {reason.part for reason in observed.health.ready()} - {"database", "scheduler"}


def test_a_process_whose_database_is_away_is_unready_and_not_dead(observed: Observed, now: list[float]) -> None:
    worker, scheduler = a_worker(now[0]), a_scheduler(now[0], leads=True)
    observed.expect(worker, scheduler)
    now[0] += WITHIN_S + 1
    worker.alive_at = worker.sweep.alive_at = scheduler.led_at = scheduler.fired_at = now[0]
    assert observed.health.alive() == []
    assert unready(observed) == {"sweep", "schedule"}


def test_a_scheduler_that_stands_by_is_alive_and_ready(observed: Observed, now: list[float]) -> None:
    scheduler = a_scheduler(now[0], leads=False)
    observed.expect(None, scheduler)
    now[0] += WITHIN_S + 1
    scheduler.led_at = scheduler.fired_at = now[0]
    assert observed.health.alive() == []
    assert unready(observed) == set()


@pytest.mark.parametrize("part", ["sweep thread", "watch thread", "leadership thread", "schedule thread"])
def test_a_thread_that_hangs_makes_it_dead_and_ends_the_watchdogs_patience(
    observed: Observed, now: list[float], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(systemd, "watchdog_interval_s", lambda: 1.0)
    monkeypatch.setattr(systemd, "notify_watchdog", lambda: told.append(True))
    worker, scheduler = a_worker(now[0]), a_scheduler(now[0], leads=True)
    observed.expect(worker, scheduler)
    observed.look()
    assert told == [True]
    now[0] += WITHIN_S + 1
    for name, (holder, field) in {
        "sweep thread": (worker.sweep, "alive_at"),
        "watch thread": (worker, "alive_at"),
        "leadership thread": (scheduler, "led_at"),
        "schedule thread": (scheduler, "fired_at"),
    }.items():
        if name != part:
            setattr(holder, field, now[0])
    assert [reason.part for reason in observed.health.alive()] == [part]
    observed.look()
    assert told == [True]


def test_runs_are_counted_once_and_logged(observed: Observed) -> None:
    stream = io.StringIO()
    with logs.set_up(logs.JSON, stream=stream, known=Known()):
        with observed.about(7, "road", "office"):
            observed.hear(MessageFailed("road", 1, "new", "rejected", "550 no"))
            logs.get("x").info("begun")
        observed.ended(Ended(RunReport("road", 7, fetched=2, fetched_octets=500), closed=False))
        failed = RunReport("road", 7, exit_code=ExitCode.SIGN_IN_REFUSED, errors=["the password was refused"])
        observed.ended(Ended(failed, closed=True, paused=Paused.SIGN_IN))
    metrics = observed._metrics.text().decode()
    assert 'syncd_runs_total{result="sign_in_refused"} 1.0' in metrics
    assert 'syncd_runs_total{result="done"} 0.0' in metrics
    assert "syncd_slices_total 2.0" in metrics
    assert 'syncd_errors_total{class="message_rejected"} 1.0' in metrics
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    first = lines.pop(0)
    assert (first["run"], first["job"], first["account"]) == (7, "road", "office")
    assert "account" not in lines[0]
    assert set(observed.health.ages()) == {"claim", "slice", "run"}
    assert [line["event"] for line in lines] == ["run.slice_ended", "run.finished", "job.paused"]
    assert (lines[1]["exit_code"], lines[1]["error"]) == (4, "the password was refused")
