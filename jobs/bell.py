"""The bell wakes workers through the broker, from a thread of its own: the schedule never waits for a broker.

A broker that accepts and never answers keeps whoever asks it for 10 s, and due jobs would be queued that much later.
What is not rung within `queue.GRACE` is not rung at all: by then workers have found the run by themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Full, Queue
from typing import Final

from syncd import clock
from syncd.db.queue import GRACE

log = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000  # runs that wait to be announced; further ones are left to the workers' own looks

Ring = Callable[[int, str], None]


class Bell:
    """Calls `ring(run, site)` soon, in a thread that begins with the first call. Used from any thread."""

    def __init__(self, ring: Ring) -> None:
        """`ring` may block, and may raise what it likes."""
        self._ring = ring
        self._waiting: Queue[tuple[int, str, float]] = Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._away = False

    def __call__(self, run_id: int, site: str) -> None:
        """Have a run announced. Returns at once, and raises nothing."""
        try:
            self._waiting.put_nowait((run_id, site, clock.monotonic()))
        except Full:
            log.debug("bell.full: run %d is found without it", run_id)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_ringing, name="bell", daemon=True)
                self._thread.start()

    def _keep_ringing(self) -> None:
        while True:
            self._announce(*self._waiting.get())

    def _announce(self, run_id: int, site: str, asked_at: float) -> None:
        if clock.monotonic() - asked_at > GRACE.total_seconds():
            return
        try:
            self._ring(run_id, site)
        except Exception as error:  # noqa: BLE001  each transport has its own errors
            if not self._away:
                log.warning("broker.away: workers find what is due by themselves: %s", error)
            self._away = True
        else:
            if self._away:
                log.info("broker.back")
            self._away = False
