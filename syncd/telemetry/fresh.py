"""A value that takes a moment to get, such as figures of the database: kept for seconds, and never waited for long.

A database that hangs must not take the threads of health checks with it. One thread at a time asks; callers wait for it
for so long and no longer, and then learn that there is no answer. A thread that hangs stays the only one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, Generic, TypeVar

from syncd import clock
from syncd.errors import TimedOut

T = TypeVar("T")

AGE_S: Final = 3.0  # of a value that is given again: probes and scrapes may come from several places at once
WAIT_S: Final = 4.0  # for an answer; those who probe give up after 5 s or 10 s


class Fresh(Generic[T]):
    """Gets a value by `ask` when it is wanted and the last one is older than `age_s`. Any thread may call `get`."""

    def __init__(self, what: str, ask: Callable[[], T], *, age_s: float = AGE_S, wait_s: float = WAIT_S) -> None:
        """`what` names the value in errors and threads."""
        self._what = what
        self._ask = ask
        self._age_s = age_s
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._latest: _Answer[T] | None = None
        self._asking: _Answer[T] | None = None

    def get(self) -> T:
        """Returns the value. Raises what `ask` raises, and TimedOut where it takes too long."""
        answer = self._answer()
        if not answer.done.wait(self._wait_s):
            raise TimedOut(f"{self._what} did not come within {self._wait_s:g} s")
        return answer.value()

    def _answer(self) -> _Answer[T]:
        with self._lock:
            if self._asking is not None and not self._asking.done.is_set():
                return self._asking
            if self._latest is not None and clock.monotonic() - self._latest.at < self._age_s:
                return self._latest
            answer = self._latest = self._asking = _Answer()
            answer.at = clock.monotonic()
        threading.Thread(target=copy_context().run, args=(answer.fill, self._ask), name=self._what, daemon=True).start()
        return answer


class _Answer(Generic[T]):
    """The outcome of asking once. `at`: when it was asked for, by the monotonic clock."""

    def __init__(self) -> None:
        self.at = 0.0
        self.done = threading.Event()
        self._result: list[T] = []
        self._error: Exception | None = None

    def fill(self, ask: Callable[[], T]) -> None:
        """Ask; whatever happens is kept for whoever waits."""
        try:
            self._result.append(ask())
        except Exception as error:  # noqa: BLE001 (it is raised where the value is wanted)
            self._error = error
        finally:
            self.done.set()

    def value(self) -> T:
        """Returns the result. Raises the error."""
        if self._error is not None:
            raise self._error
        return self._result[0]
