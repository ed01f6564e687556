"""What tells of one process of the service: log, health, metrics, notices, put together from its settings.

with start_log(loaded, file) as log:                 before anything else
telemetry = Telemetry(loaded, database)          binds the port: one that is taken ends the start here
telemetry.expect("sweep", 30, lambda: sweep.swept_at)
telemetry.start()
... listen=telemetry.listen, tell=telemetry.tell, duties=telemetry.duties ...
telemetry.stop()
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.services.notifier import Notifier, make_notifier
from syncd.telemetry import logs
from syncd.telemetry.health import Health, check_database
from syncd.telemetry.known import KNOWN
from syncd.telemetry.metrics import make_metrics
from syncd.telemetry.server import Server

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.engine.events import Event
    from syncd.services.serving import Ended
    from syncd.settings.loaded import LoadedService

_log = logs.get(__name__)


def start_log(loaded: LoadedService, file: Path | None = None, *, verbose: bool = False) -> logs.Logs:
    """Begin the log that the settings ask for; secrets that they hold already are known to it. Raises StorageError."""
    settings = loaded.settings
    KNOWN.learn_url(settings.database_url)
    for url in (settings.broker_url, settings.notify.webhook, settings.notify.ping_url):
        if url is not None:
            KNOWN.learn(url.secret)
    level = logging.DEBUG if verbose else logging.INFO
    return logs.set_up(settings.service.log.value, file=file, level=level)


class Telemetry:
    """Tells of one process. `listen` and `tell` may come from any thread."""

    def __init__(self, loaded: LoadedService, database: Database) -> None:
        """Raises ConfigError where the process cannot listen as its settings say."""
        self._database = database
        self.health = Health()
        check_database(self.health, database)
        self.metrics = make_metrics(database, self.health)
        address = loaded.settings.service.address
        self._server = None if address is None else Server(address, self.health, self.metrics)
        self._notifier: Notifier = make_notifier(loaded, database, KNOWN.blank)

    @property
    def address(self) -> tuple[str, int] | None:
        """Returns host and port that are listened at."""
        return None if self._server is None else self._server.address

    @property
    def duties(self) -> tuple[Callable[[], None], ...]:
        """Returns what the scheduler that leads is to call every half minute or so."""
        return (self._tell_people,)

    def expect(self, part: str, within_s: float, at: Callable[[], float], *, vital: bool = True) -> None:
        """Expect work of a part of the process at least every `within_s`; `at`: the monotonic time of its last."""
        self.health.expect(part, within_s, vital=vital, at=at)

    def start(self) -> None:
        """Begin to answer."""
        if self._server is not None:
            self._server.start()
            host, port = self._server.address
            _log.info("http.listens", host=host, port=port)

    def stop(self) -> None:
        """Answer no more. Repeatable."""
        if self._server is not None:
            self._server.stop()

    def reload(self, loaded: LoadedService) -> None:
        """Tell people as newly read settings say. Where to listen stays as it was."""
        self._notifier = make_notifier(loaded, self._database, KNOWN.blank)

    def listen(self, event: Event) -> None:
        """Count what an event of a run tells."""
        self.metrics.hear(event)

    def tell(self, ended: Ended) -> None:
        """Count and log a run that was worked on, or a slice of it."""
        report = ended.report
        self.metrics.observe(report, closed=ended.closed)
        if ended.closed:
            self.health.beat("run")
        with logs.bound(run=report.run_id, job=report.job):
            write = _log.debug if report.unchanged and not report.exit_code else _log.info
            write(
                "run.ended" if ended.closed else "slice.ended",
                exit_code=int(report.exit_code),
                fetched=report.fetched,
                octets=report.fetched_octets,
                delivered=sum(report.delivered.values()),
                seconds=round(report.seconds, 1),
                **({"error": report.errors[0]} if report.errors else {}),
            )
            if ended.paused is not None:
                _log.warning("job.paused", why=ended.paused.name.lower())

    def _tell_people(self) -> None:
        self._notifier.tick()
