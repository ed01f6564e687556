"""A worker: Celery's consumer and pool of threads, the sweep, and the watch over what runs. One for each process.

    message from the broker ─┐
    sweep finds a waiting run ┴─▶ a thread of Celery's pool ─▶ `Workshop.work`, one slice

Celery brings messages and threads. Time limits, retries, results and control are ours, in the database: on its pool of
threads they do nothing, or would live in the broker.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from celery.worker import WorkController, state

from jobs.app import queue_of
from jobs.sweep import Sweep
from jobs.tasks import register
from jobs.trouble import Trouble
from syncd import clock
from syncd.errors import SyncdError
from syncd.services.serving import Ended, Workshop

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

WATCH_S: Final = 1.0  # a wish to cancel or to pause is seen within two seconds
SOFT_S: Final = 8.0  # messages in transfer may take so long when the worker stops
CUT_S: Final = 2.0  # then their connections are cut, and all is written within this time
HUNG_S: Final = 10.0  # where a server hangs, further time until the process ends anyway


class Worker:
    """Works on runs until `stop`. `start` returns at once."""

    def __init__(
        self,
        app: Celery,
        workshop: Workshop,
        threads: int,
        sites: Sequence[str],
        *,
        tell: Callable[[Ended], None] = lambda _: None,
    ) -> None:
        """`tell` is called with each run that was worked on, in its thread."""
        self._app = app
        self._workshop = workshop
        self._threads = threads
        self._sites = sites
        self._tell = tell
        self._handed: set[int] = set()  # given to the pool by the sweep, and not begun or ended yet
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.failed = threading.Event()  # Celery's consumer ended though nobody asked for it
        self.sweep = Sweep(workshop.queue, sites, self._free, self._hand_over)
        self.alive_at = clock.monotonic()  # of the watch, whether or not the database answered
        self._task = register(app, self._work)
        self._controller: Any = None  # Celery has no types for it

    def start(self) -> None:
        """Begin to take runs."""
        state.should_stop = None  # of an earlier worker in this process
        self._app.conf.task_queues = [queue_of(site) for site in self._sites]
        self._controller = WorkController(
            app=self._app,
            pool_cls="threads",
            concurrency=self._threads,
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            hostname=f"syncd@{socket.gethostname()}.{os.getpid()}",
            loglevel="WARNING",
            quiet=True,
        )
        threading.Thread(target=self._consume, name="celery", daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self.sweep.start()

    def stop(self) -> None:
        """Begin nothing any more, and have each run end softly. Returns at once; repeatable."""
        self._stopping.set()
        self._workshop.stop()
        self.sweep.stop()

    def finish(self) -> bool:
        """Wait until all runs under way have ended, and cut those that take too long; whether all have ended."""
        if self._workshop.wait(SOFT_S):
            return True
        self._workshop.cut()
        return self._workshop.wait(CUT_S + HUNG_S)

    # --- threads ---------------------------------------------------------------------------------------

    def _work(self, run_id: int) -> None:
        """Work on a run, in a thread of the pool. What fails here is found again by a sweep."""
        given_back = True
        try:
            ended = self._workshop.work(run_id)
            if ended is not None:
                given_back = not ended.closed
                self._tell(ended)
        except SyncdError as error:
            log.warning("run.not_ended: run %d: %s", run_id, error)
        except Exception:
            log.exception("run.not_ended: run %d", run_id)
        finally:
            with self._lock:
                self._handed.discard(run_id)
            self.sweep.wake(given_back=given_back)

    def _free(self) -> int:
        with self._lock:
            return 0 if self._pool is None else self._threads - max(self._workshop.running, len(self._handed))

    def _hand_over(self, run_id: int) -> None:
        pool = self._pool
        with self._lock:
            if pool is None or run_id in self._handed:
                return
            self._handed.add(run_id)
        try:
            pool.apply_async(self._task.run, (run_id,))
        except BaseException:  # it has ended: the process stops
            with self._lock:
                self._handed.discard(run_id)
            raise

    @property
    def _pool(self) -> Any:
        return getattr(self._controller, "pool", None)

    def _consume(self) -> None:
        try:
            self._controller.start()
        except Exception:
            log.exception("worker.failed")
        finally:
            if not self._stopping.is_set():
                self.failed.set()

    def _watch(self) -> None:
        trouble = Trouble(log, "watch")
        while not self._stopping.wait(WATCH_S):
            try:
                self._workshop.watch()
            except SyncdError as error:
                trouble.tell(error)
            except Exception:
                log.exception("watch.failed")
            else:
                trouble.over()
            self.alive_at = clock.monotonic()
