"""A process of the service: what lives in it, from its start to its orderly end.

    serve       scheduler and worker together     worker, scheduler: one of them     web: neither, the page alone

    SIGTERM, SIGINT   no run begins; messages in transfer may finish for 8 s, then their connections are cut;
                      all is written within 10 s, or 20 s where a server hangs. The second signal ends it at once
    SIGHUP            the configuration is read again, and applied; a wrong one is refused line by line. A thread of
                      its own does so, which nothing waits for; several signals that come meanwhile count as one
    a part that died  the process ends with EXIT_BROKEN, so that whoever started it starts it again

The process always ends by `os._exit`: a thread that waits for a server would keep the interpreter for minutes.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from jobs.errands import Errands
from jobs.indexing import Indexer
from jobs.observed import MakeServer, Observed
from syncd import clock
from syncd.db import workers
from syncd.db.holder import Holder
from syncd.db.leases import EXPIRY_S
from syncd.db.renewal import renewer
from syncd.errors import ConfigError, SyncdError
from syncd.services.indexes import purge_indexes
from syncd.services.notifier import make_notifier
from syncd.services.open_files import allow_for_service
from syncd.services.serving import Workshop
from syncd.services.workplace import Common, Running
from syncd.telemetry import systemd
from syncd.telemetry.known import KNOWN
from syncd.telemetry.server import Server

if TYPE_CHECKING:
    from jobs.schedule import Scheduler
    from jobs.worker import Worker
    from syncd.db.database import Database
    from syncd.services.notifier import Notifier
    from syncd.settings.loaded import LoadedService

log = logging.getLogger(__name__)

COLLECT_EVERY: Final = 10_000  # objects: a process that stays must not keep garbage for long
EXIT_BROKEN: Final = 70  # EX_SOFTWARE: a part of the service ended though nobody asked for it
EXIT_SECOND: Final = 130
TICK_S: Final = 0.5
DEADLINE_S: Final = 25.0  # for all of the end, where database or disk hang, too; systemd and compose wait for 30 s
STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of a process. `sites`: those whose archives are here; jobs without an archive belong to no site."""

    worker: bool = True
    scheduler: bool = True
    threads: int = 8
    sites: Sequence[str] = ()

    @property
    def served(self) -> list[str]:
        """Returns the sites that the worker serves; "" are jobs without one."""
        return ["", *dict.fromkeys(self.sites)]

    @property
    def name(self) -> str:
        """Returns what the database calls a process with these roles."""
        return "worker" if self.worker else "scheduler" if self.scheduler else "web"


class Process:
    """Runs until a signal ends it. To be used once, in the main thread."""

    def __init__(
        self,
        loaded: LoadedService,
        database: Database,
        roles: Roles,
        address: tuple[str, int] | None = None,
        *,
        reload: Callable[[], LoadedService | None] = lambda: None,
        duties: Sequence[Callable[[], None]] = (),
        make_server: MakeServer = Server,
    ) -> None:
        """Raises ConfigError where it cannot listen.

        `address`: where to answer questions about health; None: nowhere. `reload` reads the configuration again and
        applies it, and returns the settings; a SyncdError of it is logged. `duties`: what the leading scheduler does
        twice a minute, besides telling people. `make_server` makes what answers at `address`.
        """
        self._loaded = loaded
        self._database = database
        self._roles = roles
        self._reload = reload
        self._observed = Observed(database, address, make_server)
        self._duties = duties
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._stopping = False
        self._wanted = threading.Event()  # the configuration is to be read again, by the loader
        self._loader: threading.Thread | None = None  # from the first SIGHUP on
        self._me = _row(roles)
        self._notifier: Notifier | None = None
        self._workshop: Workshop | None = None
        self._indexer: Indexer | None = None
        self._errands: Errands | None = None
        self.worker: Worker | None = None
        self.scheduler: Scheduler | None = None

    def run(self) -> NoReturn:
        """Start everything, wait for the end. Ends the process."""
        gc.set_threshold(COLLECT_EVERY)
        allow_for_service(self._roles.threads)
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        code = EXIT_BROKEN
        try:
            with ExitStack() as stack:
                self._start(stack)
                self._observed.start()
                log.info("service.started")
                code = self._wait()
                self._stop(code)
        except SyncdError as error:
            log.error("service.failed: %s", error)  # noqa: TRY400  an expected error has no trace
        except Exception:
            log.exception("service.failed")
        logging.shutdown()
        os._exit(code)

    # --- inside ----------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number in STOP_SIGNALS and self._stopping:
            os._exit(EXIT_SECOND)
        self._stopping = self._stopping or number in STOP_SIGNALS
        self._signals.put(number)

    def _start(self, stack: ExitStack) -> None:
        from jobs.app import make_app, ring

        app = make_app(self._loaded.settings.broker_url)
        roles, service = self._roles, self._loaded.settings.service
        keeper = renewer(self._database, EXPIRY_S)
        if roles.worker:
            from jobs.worker import Worker

            common = stack.enter_context(Common(self._database, Running(), alone=True))
            hosts = self._loaded.settings.limits.hosts
            limits = {host.lower().rstrip("."): it.connections for host, it in hosts.items()}
            seen = self._observed
            purge = partial(purge_indexes, self._database)
            indexer = self._indexer = Indexer(lambda: workshop.running, purge) if service.search else None
            stored = indexer.changed if indexer else lambda _: None
            workshop = Workshop(self._loaded, common, limits, seen.hear, about=seen.about, stored=stored)
            self._workshop = workshop
            self.worker = Worker(app, workshop, roles.threads, roles.served, tell=self._observed.ended)
        keeper.stay(partial(workers.beat, worker=self._me))
        if self.worker is not None:
            self.worker.start()
        if self._indexer is not None:
            self._indexer.start()
        if roles.worker and self._loaded.settings.is_cluster:
            self._errands = Errands(self._database, lambda: self._loaded, roles.served)
            self._errands.start()
        if roles.scheduler:
            from jobs.bell import Bell
            from jobs.schedule import Scheduler

            self._notifier = make_notifier(self._loaded, self._database, KNOWN.blank)
            keep, duties = service.keep_history, (self._tell_people, *self._duties)
            self.scheduler = Scheduler(self._database, Bell(partial(ring, app)), keep, duties)
            self.scheduler.start()
        self._observed.expect(self.worker, self.scheduler)

    def _wait(self) -> int:
        """Handle signals until one of them ends the process; returns its exit code."""
        while True:
            if self.worker is not None and self.worker.failed.is_set():
                log.error("worker.ended: the part that takes messages from the broker ended by itself")
                return EXIT_BROKEN
            self._observed.look()
            numbers = self._received()
            if numbers & STOP_SIGNALS:
                return 0
            if numbers:
                self._wanted.set()
                if self._loader is None:
                    self._loader = threading.Thread(target=self._load_when_wanted, name="reload", daemon=True)
                    self._loader.start()

    def _received(self) -> set[int]:
        """Returns the signals that came, after waiting a moment for the first of them."""
        numbers = set()
        with suppress(Empty):
            numbers.add(self._signals.get(timeout=TICK_S))
            while True:
                numbers.add(self._signals.get_nowait())
        return numbers

    def _load_when_wanted(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            self._load_again()

    def _load_again(self) -> None:
        systemd.notify_reloading()
        try:
            loaded = self._reload()
            if loaded is not None:
                self._loaded = replace(self._loaded, environment=loaded.environment)
                if self._workshop is not None:
                    self._workshop.take_environment(loaded)
                if self._notifier is not None:
                    self._notifier = make_notifier(loaded, self._database, KNOWN.blank)
        except ConfigError as error:
            for line in str(error).splitlines():
                log.error("config.refused: %s", line)  # noqa: TRY400  the line says all
            log.error("config.kept: the configuration stays as it was")  # noqa: TRY400
        except SyncdError as error:
            log.error("config.not_applied: %s", error)  # noqa: TRY400
        except Exception:
            log.exception("config.not_applied")
        else:
            log.info("config.applied")
        if not self._stopping:
            systemd.notify_ready()

    def _tell_people(self) -> None:
        if self._notifier is not None:
            self._notifier.tick()

    def _stop(self, code: int) -> None:
        begun = clock.monotonic()
        last = threading.Timer(DEADLINE_S, os._exit, (code,))
        last.daemon = True
        last.start()
        log.info("service.stopping")
        systemd.notify_stopping()
        self._stopping = True
        if self._indexer is not None:
            self._indexer.stop()
        if self.worker is not None:
            self.worker.stop()
        if self.scheduler is not None:
            self.scheduler.stop()
        if self._errands is not None:
            self._errands.stop()
        if self.worker is not None and not self.worker.finish():
            log.warning("service.hung: a run did not end in time; another worker takes it over")
        with suppress(SyncdError):
            renewer(self._database, EXPIRY_S).stay(None)
            workers.remove(self._database, self._me.holder)
        self._observed.stop()
        log.info("service.stopped: after %.1f s", clock.monotonic() - begun)


def _row(roles: Roles) -> workers.Worker:
    """Returns this process as the database shows it."""
    served = tuple(roles.served) if roles.worker else ()
    return workers.Worker(
        Holder.me(roles.name), roles.name, served, roles.threads if roles.worker else 0, version("syncd")
    )
