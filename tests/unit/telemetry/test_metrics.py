"""The metrics of a process: counted from reports and events, and asked of the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncd.db.figures import Figures, JobFigures
from syncd.db.rows import Paused
from syncd.engine.events import MessageFailed, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import LedgerError
from syncd.telemetry.health import Health
from syncd.telemetry.metrics import OTHERS, Metrics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found
            assert not sample.name.endswith("_created")
            found[key] = sample.value
    return found


def report(job: str = "road", code: ExitCode = ExitCode.DONE) -> RunReport:
    return RunReport(
        job, exit_code=code, seconds=1.5, fetched=3, fetched_octets=500, delivered={"home": 3, "new": 2}, removed=1
    )


def test_reports_of_runs_are_counted():
    metrics = Metrics()
    metrics.observe(report(), closed=False)
    metrics.observe(report())
    metrics.observe(report(code=ExitCode.SIGN_IN_REFUSED))
    metrics.observe(report(code=ExitCode.INTERRUPTED))
    found = samples(metrics)
    assert found["syncd_slices_total",] == 4
    assert found["syncd_run_seconds_total",] == 6
    runs = {key[1]: value for key, value in found.items() if key[0] == "syncd_runs_total"}
    assert runs == {"done": 1, "failed": 0, "sign_in_refused": 1, "interrupted": 1}
    assert found["syncd_messages_total", "road", "fetched"] == 12
    assert found["syncd_messages_total", "road", "delivered"] == 20
    assert found["syncd_messages_total", "road", "removed"] == 4
    assert ("syncd_messages_total", "road", "backfilled") not in found
    assert found["syncd_octets_total", "road", "fetched"] == 2000
    assert {key[1]: value for key, value in found.items() if key[0] == "syncd_errors_total"} == {"sign_in_refused": 1}


def test_errors_of_messages_and_of_the_process_are_counted_by_class():
    metrics = Metrics()
    metrics.hear(MessageFailed("road", 1, "new", "rejected", "550 no"))
    metrics.hear(MessageFailed("road", 2, "new", "rejected", "551 no"))
    metrics.count("broker")
    found = samples(metrics)
    assert found["syncd_errors_total", "message_rejected"] == 2
    assert found["syncd_errors_total", "broker"] == 1


def test_time_series_are_bounded():
    metrics = Metrics(named_jobs=2)
    for number in range(5):
        metrics.observe(report(f"job{number}"))
    metrics.observe(report("job0"))
    found = samples(metrics)
    fetched = {key[1]: value for key, value in found.items() if key[0] == "syncd_octets_total"}
    assert fetched == {"job0": 1000, "job1": 500, OTHERS: 1500}


def test_the_memory_of_the_process_is_told_and_nothing_is_registered_for_all():
    from prometheus_client import REGISTRY

    before = {family.name for family in REGISTRY.collect()}
    found = samples(Metrics())
    assert found["process_resident_memory_bytes",] > 1_000_000
    assert {family.name for family in REGISTRY.collect()} == before


def test_figures_of_the_database():
    figures = Figures(
        at=NOW,
        queued=2,
        running=1,
        oldest_ready_s=4.5,
        overdue_s=0.25,
        jobs=3,
        paused={Paused.SIGN_IN: 1},
        in_trouble=1,
        late=1,
        latest_s=60,
        oldest_success=NOW - timedelta(hours=2),
        named=(
            JobFigures("home", "road", NOW - timedelta(minutes=5), 0),
            JobFigures("work", "road", NOW - timedelta(hours=2), 60),
            JobFigures("work", 'odd "name"\\', None, 0),
        ),
        leads=True,
        living={"worker": 3, "scheduler": 2},
    )
    found = samples(Metrics(lambda: figures))
    assert found["syncd_database_up",] == 1
    assert found["syncd_open_runs", "queued"] == 2
    assert found["syncd_open_runs", "running"] == 1
    assert found["syncd_queue_wait_seconds",] == 4.5
    assert found["syncd_schedule_lag_seconds",] == 0.25
    assert found["syncd_scheduler_leads",] == 1
    assert found["syncd_processes", "worker"] == 3
    assert found["syncd_jobs",] == 3
    assert found["syncd_jobs_paused", "sign_in"] == 1
    assert found["syncd_jobs_paused", "person"] == 0
    assert found["syncd_jobs_in_trouble",] == 1
    assert found["syncd_jobs_late",] == 1
    assert found["syncd_lateness_seconds",] == 60
    assert found["syncd_oldest_success_age_seconds",] == 7200
    assert found["syncd_last_success_age_seconds", "home", "road"] == 300
    assert found["syncd_last_success_age_seconds", "work", "road"] == 7200
    assert ("syncd_last_success_age_seconds", "work", 'odd "name"\\') not in found
    assert found["syncd_job_late_seconds", "work", 'odd "name"\\'] == 0


def test_a_database_that_does_not_answer_is_a_metric():
    def away() -> Figures:
        raise LedgerError("the ledger does not answer")

    metrics = Metrics(away)
    metrics.observe(report())
    found = samples(metrics)
    assert found["syncd_database_up",] == 0
    assert found["syncd_slices_total",] == 1
    assert ("syncd_jobs",) not in found


def test_beats_of_the_process(monkeypatch: pytest.MonkeyPatch):
    seconds = [100.0]
    monkeypatch.setattr("syncd.clock.monotonic", lambda: seconds[0])
    health = Health()
    health.expect("sweep", within_s=10)
    health.beat("sweep")
    health.beat("claim")
    seconds[0] += 8
    health.beat("claim")
    assert samples(Metrics(health=health))["syncd_alive",] == 1
    seconds[0] += 4
    found = samples(Metrics(health=health))
    assert found["syncd_beat_age_seconds", "sweep"] == 12
    assert found["syncd_beat_age_seconds", "claim"] == 4
    assert found["syncd_alive",] == 0
