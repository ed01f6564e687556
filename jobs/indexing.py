"""Keeps search indexes up to date, in a thread of its own that gives way to runs.

An archive that a run has stored mail in is indexed once no run is under way in this process; a run that begins
meanwhile stops the work at its next batch. Where runs never pause, a batch is added every PATIENCE_S. What is left when
the process ends is added after the next run that stores something, or by a search of the command line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from syncd import clock
from syncd.errors import SyncdError

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between two looks at whether runs are under way, while an archive waits
PATIENCE_S: Final = 600.0
LOWEST: Final = 19  # nice


class Indexer:
    """The thread of the indexer, from `start` to `stop`."""

    def __init__(self, running: Callable[[], int]) -> None:
        """`running` tells how many runs are under way in this process."""
        self._running = running
        self._changed: dict[Path, float] = {}  # archives, and since when they wait
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="search-index", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch that is under way. Repeatable; does not wait."""
        self._ending.set()
        self._woken.set()

    def changed(self, archives: Iterable[Path]) -> None:
        """Note that mail was stored in archives. Any thread."""
        with self._lock:
            for path in archives:
                self._changed.setdefault(path, clock.monotonic())
        self._woken.set()

    def look(self) -> bool:
        """Index the archive that has waited longest, if runs leave room for it. Returns whether that was done."""
        with self._lock:
            path, since = next(iter(self._changed.items()), (None, 0.0))
            if path is None:
                self._woken.clear()
                return False
            if self._running() and clock.monotonic() - since < PATIENCE_S:
                return False
            del self._changed[path]
        if not self._index(path):
            self.changed([path])
        return True

    def _work(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)  # of this thread alone, on Linux
        while self._woken.wait() and not self._ending.is_set():
            if not self.look():
                self._ending.wait(LOOK_S)

    def _index(self, path: Path) -> bool:
        """Bring the index of an archive up to date; returns False where messages are left."""
        from syncd.services.archive import open_view
        from syncd.services.search import update

        try:
            with closing(open_view(None, str(path))) as view:
                done = update(view, go_on=lambda: not self._ending.is_set() and not self._running())
        except SyncdError as error:
            log.warning("search.not_indexed: %s: %s", path, error)
            return True
        except Exception:
            log.exception("search.not_indexed: %s", path)
            return True
        log.debug("search.indexed: %s: %d messages", path, done.messages)
        return done.left == 0
