"""Metrics of a process of the service, in the text format of Prometheus.

    counters    what this process did since it began: fed with the reports and events of its runs
    figures     what the database knows of all processes (`db.figures`): asked for when somebody reads the metrics
    beats       the seconds since parts of this process did their work last (`health`)
    process     memory, processor time, open files

Each process of a cluster is read by itself. Sum the counters over processes; take the figures from any one.

Time series are bounded: the first 500 jobs are named, further ones are counted under the name "(others)".
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.db.figures import NAMED_JOBS, Figures, figures
from syncd.db.rows import Paused
from syncd.engine.events import Event, MessageFailed, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import SyncdError
from syncd.settings.quiet import late_since
from syncd.telemetry.fresh import Fresh

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.telemetry.health import Health

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHERS: Final = "(others)"  # no job can be called so

RESULTS: Final = {code: code.name.lower() for code in ExitCode}
_GOOD: Final = frozenset({ExitCode.DONE, ExitCode.WAITING, ExitCode.INTERRUPTED})  # no error of a run
_DIRECTIONS: Final = {"fetched": "fetched", "backfilled": "backfilled", "removed": "removed"}  # fields of a report

# Name, help, labels. The values of every series begin with the process.
_COUNTERS: Final = (
    ("syncd_runs", "Runs that ended in this process, by result (the name of the exit code).", ("result",)),
    ("syncd_slices", "Slices of runs that this process worked on.", ()),
    ("syncd_run_seconds", "Time that this process spent on runs.", ()),
    ("syncd_messages", "Messages of a job by what was done: fetched, delivered, backfilled, removed.", ("job", "what")),
    ("syncd_octets", "Octets of a job that were fetched.", ("job", "what")),
    ("syncd_errors", "Errors by class: of runs by exit code, of messages by how they failed.", ("class",)),
)


class Metrics:
    """The metrics of one process. `observe` and `hear` may come from any thread."""

    def __init__(
        self, ask: Callable[[], Figures] | None = None, health: Health | None = None, named_jobs: int = NAMED_JOBS
    ) -> None:
        """`ask` gets the figures of the database; without it only this process is told of."""
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name, _, _ in _COUNTERS}
        self._jobs: set[str] = set()
        self._named_jobs = named_jobs
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collected(self._counters))
        if ask is not None:
            fresh = Fresh("figures of the database", ask)
            self._registry.register(_Collected(lambda: _from_database(fresh)))
        if health is not None:
            self._registry.register(_Collected(lambda: _from_health(health)))
        ProcessCollector(registry=self._registry)
        for code in (ExitCode.DONE, ExitCode.FAILED):  # so that a rate can be told from the first run on
            self._counts["syncd_runs"][(RESULTS[code],)] = 0

    def observe(self, report: RunReport, *, closed: bool = True) -> None:
        """Count a report of one slice. The run is over with it if it is `closed`; otherwise it has another slice."""
        with self._lock:
            job = self._name(report.job)
            self._counts["syncd_slices"][()] += 1
            self._counts["syncd_run_seconds"][()] += report.seconds  # type: ignore[assignment]  # a Counter of floats
            for field, what in _DIRECTIONS.items():
                self._add("syncd_messages", (job, what), getattr(report, field))
            self._add("syncd_messages", (job, "delivered"), sum(report.delivered.values()))
            self._add("syncd_octets", (job, "fetched"), report.fetched_octets)
            if closed:
                self._counts["syncd_runs"][(RESULTS[report.exit_code],)] += 1
            if closed and report.exit_code not in _GOOD:
                self._counts["syncd_errors"][(RESULTS[report.exit_code],)] += 1

    def hear(self, event: Event) -> None:
        """Count what an event of a run tells: a listener of the engine."""
        if isinstance(event, MessageFailed):
            with self._lock:
                self._counts["syncd_errors"][(f"message_{event.why}",)] += 1

    def count(self, kind: str) -> None:
        """Count an error of the process itself by its class, such as "broker" or "database"."""
        with self._lock:
            self._counts["syncd_errors"][(kind,)] += 1

    def text(self) -> bytes:
        """Returns the metrics in Prometheus's text format. Waits for the database for some seconds at most."""
        return generate_latest(self._registry)

    def _add(self, name: str, labels: tuple[str, ...], number: int) -> None:
        if number:
            self._counts[name][labels] += number

    def _name(self, job: str) -> str:
        if job in self._jobs:
            return job
        if len(self._jobs) >= self._named_jobs:
            return OTHERS
        self._jobs.add(job)
        return job

    def _counters(self) -> Iterator[Metric]:
        with self._lock:
            values = {name: list(counts.items()) for name, counts in self._counts.items()}
        for name, text, labels in _COUNTERS:
            family = CounterMetricFamily(name, text, labels=labels)
            for label_values, number in values[name]:
                family.add_metric(label_values, number)
            yield family
        info = GaugeMetricFamily("syncd_info", "1, with the version of the program.", labels=("version",))
        info.add_metric((version("syncd"),), 1)
        yield info


def make_metrics(database: Database, health: Health) -> Metrics:
    """Returns the metrics of a process that works with a database."""
    return Metrics(partial(figures, database, late_since), health)


class _Collected(Collector):
    """Metrics that are made when somebody reads them."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """Yields them."""
        return self._collect()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"syncd_{name}", text, value=value)


def _by(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(f"syncd_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _from_health(health: Health) -> Iterator[Metric]:
    ages = (((part,), age) for part, age in sorted(health.ages().items()))
    yield _by("beat_age_seconds", "Time since a part of this process did its work last.", ("part",), ages)
    yield _gauge("alive", "1 while all vital parts of this process go on.", float(not health.alive()))


def _from_database(fresh: Fresh[Figures]) -> Iterator[Metric]:
    try:
        found = fresh.get()
    except SyncdError:  # it is told as a metric, and by /readyz in words
        yield _gauge("database_up", "1 if the database answers.", 0)
        return
    yield _gauge("database_up", "1 if the database answers.", 1)
    yield from _queue(found)
    yield from _jobs(found)


def _queue(found: Figures) -> Iterator[Metric]:
    open_runs = ((("queued",), found.queued), (("running",), found.running))
    yield _by("open_runs", "Runs that are queued or running, of all processes.", ("state",), open_runs)
    yield _gauge("queue_wait_seconds", "How long a run waits already that may begin.", found.oldest_ready_s)
    yield _gauge("schedule_lag_seconds", "How long a due time has passed that was not queued.", found.overdue_s)
    yield _gauge("scheduler_leads", "1 if a scheduler leads.", float(found.leads))
    living = (((role,), count) for role, count in sorted(found.living.items()))
    yield _by("processes", "Processes of the service that live, by role.", ("role",), living)


def _jobs(found: Figures) -> Iterator[Metric]:
    paused = (((why.name.lower(),), found.paused.get(why, 0)) for why in Paused)
    yield _gauge("jobs", "Jobs that were applied.", found.jobs)
    yield _by("jobs_paused", "Jobs that are paused, by reason.", ("why",), paused)
    yield _gauge("jobs_in_trouble", "Jobs whose last run did not end well.", found.in_trouble)
    yield _gauge("jobs_late", "Jobs that had no success for longer than their late_after.", found.late)
    yield _gauge("lateness_seconds", "How late the latest job is; 0 if none is late.", found.latest_s)
    if found.oldest_success is not None:
        age = (found.at - found.oldest_success).total_seconds()
        yield _gauge("oldest_success_age_seconds", "The greatest age of a last success, of all scheduled jobs.", age)
    labels = ("configuration", "job")
    ages = (
        ((job.configuration, job.job), (found.at - job.succeeded_at).total_seconds())
        for job in found.named
        if job.succeeded_at is not None
    )
    yield _by("last_success_age_seconds", "Time since the last success of a job.", labels, ages)
    late = (((job.configuration, job.job), job.late_s) for job in found.named)
    yield _by("job_late_seconds", "How late a job is; 0 if it is not.", labels, late)
