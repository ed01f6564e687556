"""The threads of a process that do errands: one for what takes moments, one for what may read for hours.

A thread is there only while there is something to do. Each TICK_S it says in the row that it lives and how far it is,
and learns whether somebody cancelled it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncd import clock, crash
from syncd.db import errands as rows
from syncd.db.errands import Kind, State, Taken
from syncd.db.holder import Holder
from syncd.errors import LedgerError, StorageError, SyncdError
from syncd.services.errands.work import Outcome, Task, do
from syncd.services.words import plain

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.load import Loaded

log = logging.getLogger(__name__)

KINDS_TOGETHER: Final = ((Kind.DRY_RUN, Kind.ACCOUNT), (Kind.ARCHIVE, Kind.VERIFY))
TICK_S: Final = 2.0
STOP_S: Final = 2.0
RETRY_S: Final = 2.0  # between two attempts at writing what was found
ATTEMPTS: Final = 5
CANCELLED: Final = "cancelled"
STOPPED: Final = "the service was stopped meanwhile; begin it again"


class Runner:
    """Does the errands of one process. `wake` has it look for some; thread-safe."""

    def __init__(
        self,
        database: Database,
        settings: Callable[[str | None], Loaded],
        mine: Callable[[], str | Sequence[str]],
        directory: Callable[[], Path],
    ) -> None:
        """`settings`: those of a row's document, or without one of this process; may raise SyncdError.

        `mine` as in `db.errands.take`; `directory`: the state directory, for traces of bugs.
        """
        self._database = database
        self._settings = settings
        self._mine = mine
        self._directory = directory
        self._series = [_Series(self, kinds) for kinds in KINDS_TOGETHER]

    def wake(self) -> None:
        """Look for errands. Returns at once."""
        for one in self._series:
            one.wake()

    def stop(self) -> None:
        """End what is under way, within STOP_S. Repeatable."""
        for one in self._series:
            one.stop()
        end = clock.monotonic() + STOP_S
        for one in self._series:
            one.join(max(0.0, end - clock.monotonic()))

    def join(self, seconds: float) -> bool:
        """Wait until nothing is under way; returns False where something is after so long."""
        waited = [one.join(seconds) for one in self._series]
        return all(waited)

    # --- used by the threads -----------------------------------------------------------------------------

    def take(self, kinds: Sequence[Kind]) -> Taken | None:
        """Take what has waited longest; None also where the database is away."""
        try:
            return rows.take(self._database, kinds, self._mine(), Holder.me("errand"), clock.now())
        except (LedgerError, StorageError) as error:
            log.warning("errand.not_taken: %s", error)
        except Exception:
            log.exception("errand.not_taken")
        return None

    def do(self, taken: Taken, task: Task) -> None:
        """Do an errand, and write what became of it. Never raises SyncdError."""
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(taken, task, over), name="errand-tick", daemon=True)
        ticker.start()
        outcome, error = Outcome({}), ""
        try:
            outcome = do(taken.kind, self._settings(taken.document), taken.name, task, read=taken.read)
            error = outcome.error
        except SyncdError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001  a bug is told where the result would stand
            error = crash.line(failure, crash.keep(failure, self._directory(), f'errand for "{taken.name}"'))
        finally:
            over.set()
            ticker.join()
        state = State.FAILED if error else State.DONE
        if task.why and error:
            error, state = task.why, State.CANCELLED if task.why == CANCELLED else State.FAILED
        self._end(taken, state, error, outcome)

    def _end(self, taken: Taken, state: State, error: str, outcome: Outcome) -> None:
        text = json.dumps(outcome.result, default=plain) if outcome.result else None
        for attempt in range(ATTEMPTS):
            try:
                now = clock.now()
                rows.end(self._database, taken, state, now, error=error, result=text, reports=outcome.reports)
            except (LedgerError, StorageError) as failure:
                log.warning("errand.end_not_written: %s", failure)
                if attempt < ATTEMPTS - 1:
                    clock.sleep(RETRY_S)
            else:
                return

    def _tick(self, taken: Taken, task: Task, over: threading.Event) -> None:
        while not over.wait(TICK_S):
            with suppress(SyncdError):  # a database that is away may be back with the next tick
                if not rows.touch(self._database, taken, json.dumps(task.progress)):
                    task.stop(CANCELLED)


class _Series:
    """Kinds of errands that are done one after another."""

    def __init__(self, runner: Runner, kinds: Sequence[Kind]) -> None:
        self._runner = runner
        self._kinds = kinds
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task = Task()
        self._again = False
        self._ending = False

    def wake(self) -> None:
        with self._lock:
            self._again = True
            if self._thread is None and not self._ending:
                self._thread = threading.Thread(target=self._work, name="errands", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._ending = True
            task = self._task
        task.stop(STOPPED)

    def join(self, seconds: float) -> bool:
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while self._begin():
            taken = self._runner.take(self._kinds)
            if taken is not None:
                with self._lock:
                    self._again = True
                self._runner.do(taken, self._task)

    def _begin(self) -> bool:
        """Returns whether there may be something to do; otherwise this thread ends."""
        with self._lock:
            if self._ending or not self._again:
                self._thread = None
                return False
            self._again = False
            self._task = Task()
            return True
