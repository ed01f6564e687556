"""Shows how a process of the service is: health and metrics over HTTP, its state to systemd, log lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from syncd import clock
from syncd.engine.events import Event, Noted
from syncd.engine.exit_codes import ExitCode
from syncd.telemetry import logs, systemd
from syncd.telemetry.health import Health, check_database
from syncd.telemetry.metrics import Metrics, make_metrics
from syncd.telemetry.server import Server

if TYPE_CHECKING:
    from jobs.schedule import Scheduler
    from jobs.worker import Worker
    from syncd.db.database import Database
    from syncd.services.serving import Ended

log = logs.get(__name__)

WITHIN_S: Final = 60.0  # far above what is usual: a busy machine is not to be taken for one that hangs
_GOOD: Final = frozenset({ExitCode.DONE, ExitCode.WAITING})


class Answering(Protocol):
    """A server, as `telemetry.server.Server`."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as they are bound."""
        ...

    def start(self) -> None:
        """Begin. Returns at once."""
        ...

    def stop(self) -> None:
        """End. Repeatable."""
        ...


MakeServer = Callable[[tuple[str, int], Health, Metrics], Answering]


class Observed:
    """The health, metrics and log lines of one process, from `start` to `stop`."""

    def __init__(self, database: Database, address: tuple[str, int] | None, make_server: MakeServer = Server) -> None:
        """`address`: where to listen; None: nowhere. Raises ConfigError where that cannot be.

        `make_server` makes what answers there: the small server, or the page, which answers the same and more.
        """
        self.health = Health()
        self._metrics = make_metrics(database, self.health)
        check_database(self.health, database)
        self._server = None if address is None else make_server(address, self.health, self._metrics)

    def start(self) -> None:
        """Begin to answer, and tell systemd that the service is there."""
        if self._server is not None:
            self._server.start()
            log.info("service.listens", address="{}:{}".format(*self._server.address))
        systemd.notify_ready()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()

    def expect(self, worker: Worker | None, scheduler: Scheduler | None) -> None:
        """Expect signs of life of the parts that this process has.

        A database that is away makes it unready and not dead: a new start would help nobody.
        """
        health = self.health
        if worker is not None:
            health.expect("sweep thread", WITHIN_S, at=lambda: worker.sweep.alive_at)
            health.expect("watch thread", WITHIN_S, at=lambda: worker.alive_at)
            health.expect("sweep", WITHIN_S, vital=False, at=lambda: worker.sweep.swept_at)
        if scheduler is not None:
            health.expect("leadership thread", WITHIN_S, at=lambda: scheduler.led_at)
            health.expect("schedule thread", WITHIN_S, at=lambda: scheduler.fired_at)
            health.expect("schedule", WITHIN_S, vital=False, at=lambda: _scheduled_at(scheduler))

    def look(self) -> None:
        """Tell systemd's watchdog if all parts are alive. To be called each second."""
        if systemd.watchdog_interval_s() is not None and not self.health.alive():
            systemd.notify_watchdog()

    def about(self, run_id: int, job: str, source: str) -> AbstractContextManager[object]:
        """Have log lines name the run, its job and account while it is worked on."""
        self.health.beat("claim")
        return logs.bound(run=run_id, job=job, account=source)

    def hear(self, event: Event) -> None:
        """Take an event of a run: a listener of the engine."""
        self._metrics.hear(event)
        if isinstance(event, Noted):
            log.warning("run.note", job=event.job, text=event.text)

    def ended(self, ended: Ended) -> None:
        """Note a slice that ended."""
        report = ended.report
        self.health.beat("run" if ended.closed else "slice")
        self._metrics.observe(report, closed=ended.closed)
        tell = log.info if report.exit_code in _GOOD or not ended.closed else log.warning
        tell(
            "run.finished" if ended.closed else "run.slice_ended",
            job=report.job,
            run=report.run_id,
            exit_code=int(report.exit_code),
            fetched=report.fetched,
            octets=report.fetched_octets,
            seconds=round(report.seconds, 2),
            **({"error": report.errors[0]} if report.errors else {}),
        )
        if ended.paused is not None:
            log.error("job.paused", job=report.job, why=ended.paused.name.lower())


def _scheduled_at(scheduler: Scheduler) -> float:
    """Returns when a scheduler last looked for what is due; one that stands by need not look."""
    return scheduler.looked_at if scheduler.leads else clock.monotonic()
