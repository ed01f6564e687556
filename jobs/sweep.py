"""The sweep: looks every few seconds for runs that nobody took, and gives them to the threads of this process.

It finds runs whose time came, runs whose message was lost, and runs whose worker died. So the broker makes a start
quicker, and is never needed for one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from jobs.trouble import Trouble
from syncd import clock
from syncd.db.queue import Queue
from syncd.errors import LedgerError, StorageError

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0  # a person who asks for a run waits no longer than this
SOONEST_S: Final = 0.25  # between two looks while something is due within EVERY_S


class Sweep:
    """The thread of the sweep, from `start` to `stop`."""

    def __init__(
        self, queue: Queue, sites: Sequence[str], free: Callable[[], int], hand_over: Callable[[int], None]
    ) -> None:
        """`free`: the number of threads without work; `hand_over` gives a run to one of them."""
        self._queue = queue
        self._sites = sites
        self._free = free
        self._hand_over = hand_over
        self._woken = threading.Event()
        self._more = True  # runs may wait that the last look did not hand over
        self._ending = threading.Event()
        self._trouble = Trouble(log, "sweep")
        self._thread = threading.Thread(target=self._sweep, name="sweep", daemon=True)
        self.swept_at = clock.monotonic()  # the last look that came to its end
        self.alive_at = self.swept_at  # the same, also where the database did not answer

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Repeatable; does not wait."""
        self._ending.set()
        self._woken.set()

    def wake(self, *, given_back: bool = False) -> None:
        """A thread is free: look now if runs may wait for one, or if one was given back.

        Otherwise the next look is soon enough. A look after each of thousands of short runs costs a tenth of them.
        """
        if self._more or given_back:
            self._woken.set()

    def _sweep(self) -> None:
        pause = 0.0
        while not self._ending.is_set():
            self._woken.wait(pause)
            if self._ending.is_set():
                return
            self._woken.clear()
            pause = self._look()
            self.alive_at = clock.monotonic()

    def _look(self) -> float:
        """Hand over what is found; returns the time until the next look."""
        self._more = True  # until this look has told: a thread that becomes free meanwhile has it repeated
        try:
            free = self._free()
            if free <= 0:  # the thread that becomes free wakes us: until then thousands of runs may wait
                self.swept_at = clock.monotonic()
                return EVERY_S
            found = self._queue.waiting(self._sites, free)
            for waiting in found:
                self._hand_over(waiting.run_id)
            self._more = len(found) >= free
            ready = self._queue.next_ready(self._sites)
        except (LedgerError, StorageError) as error:
            self._trouble.tell(error)
            return EVERY_S
        except Exception:
            log.exception("sweep.failed")
            return EVERY_S
        self._trouble.over()
        self.swept_at = clock.monotonic()
        if ready is None:
            return EVERY_S
        return min(EVERY_S, max(SOONEST_S, (ready - clock.now()).total_seconds()))
