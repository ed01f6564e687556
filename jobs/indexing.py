"""Keeps search indexes up to date, in a thread of its own that gives way to runs.

An archive that a run has stored mail in is indexed once no run is under way in this process; a run that begins
meanwhile stops the work at its next batch. Where runs never pause, a batch is added every PATIENCE_S. What is left when
the process ends is added after the next run that stores something, or by a search of the command line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.errors import SyncdError

if TYPE_CHECKING:
    from syncd.services.indexes import Indexes

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0  # between two looks at whether runs are under way, while an archive waits
PATIENCE_S: Final = 600.0
LOWEST: Final = 19  # nice
PURGE_S: Final = 3_600.0  # between two looks for indexes that nobody has any more


def _nothing() -> None:
    """Files of indexes go with their archives."""


class Indexer:
    """The thread of the indexer, from `start` to `stop`."""

    def __init__(self, running: Callable[[], int], purge: Callable[[], object] = _nothing) -> None:
        """`running` tells how many runs are under way in this process; `purge` removes indexes of former archives."""
        self._running = running
        self._purge = purge
        self._purged: float | None = None
        self._changed: dict[Path, tuple[float, Indexes]] = {}  # archives, since when they wait, where their indexes are
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

    def changed(self, archives: Mapping[Path, Indexes]) -> None:
        """Note that mail was stored in archives, whose indexes are there. Any thread."""
        with self._lock:
            for path, indexes in archives.items():
                self._changed.setdefault(path, (clock.monotonic(), indexes))
        self._woken.set()

    def look(self) -> bool:
        """Index the archive that has waited longest, if runs leave room for it. Returns whether that was done."""
        with self._lock:
            waiting = next(iter(self._changed.items()), None)
            if waiting is None:
                self._woken.clear()
                return False
            path, (since, indexes) = waiting
            if self._running() and clock.monotonic() - since < PATIENCE_S:
                return False
            del self._changed[path]
        if not self._index(path, indexes):
            self.changed({path: indexes})
        return True

    def tidy(self) -> None:
        """Remove indexes of former archives, where that was not done for a while."""
        if self._purged is not None and clock.monotonic() - self._purged < PURGE_S:
            return
        self._purged = clock.monotonic()
        try:
            self._purge()
        except SyncdError as error:
            log.warning("search.not_purged: %s", error)

    def _work(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)  # of this thread alone, on Linux
        while not self._ending.is_set():
            self.tidy()
            if self._woken.wait(PURGE_S) and not self._ending.is_set() and not self.look():
                self._ending.wait(LOOK_S)

    def _index(self, path: Path, indexes: Indexes) -> bool:
        """Bring the index of an archive up to date; returns False where messages are left."""
        from syncd.services.archive import open_view
        from syncd.services.search import update

        try:
            with closing(open_view(None, str(path))) as view:
                done = update(view, indexes, go_on=lambda: not self._ending.is_set() and not self._running())
        except SyncdError as error:
            log.warning("search.not_indexed: %s: %s", path, error)
            return True
        except Exception:
            log.exception("search.not_indexed: %s", path)
            return True
        log.debug("search.indexed: %s: %d messages", path, done.messages)
        return done.left == 0
