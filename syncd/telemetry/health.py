"""Health of a process of the service: its parts say that they go on, and checks say whether it can do its work.

    health.expect("sweep", within_s=30)        a part that must beat at least so often
    health.beat("sweep")                       in its loop, or else
    health.expect("sweep", 30, at=lambda: t)   the monotonic time of its last beat, which it keeps itself
    health.check("broker", lambda: reason)     "" where all is well; asked with each /readyz

`alive` judges the beats alone, by the monotonic clock: a process whose loop hangs is to be started again, and one whose
database is away is not. `ready` judges beats and checks. A part is young for `within_s` after `expect`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd import clock
from syncd.db import figures
from syncd.errors import SyncdError, printable
from syncd.telemetry.fresh import Fresh

if TYPE_CHECKING:
    from syncd.db.database import Database

MAX_REASON: Final = 500  # characters

Check = Callable[[], str]  # returns what is wrong, for people; "" where all is well


class Reason(NamedTuple):
    """Something that is wrong. `part` is a constant name, `text` for people."""

    part: str
    text: str


class _Part:
    __slots__ = ("_read", "at", "beats", "vital", "within_s")

    def __init__(self, within_s: float | None, *, vital: bool, read: Callable[[], float] | None = None) -> None:
        self.within_s = within_s
        self.vital = vital
        self.at = clock.monotonic()
        self.beats = 0
        self._read = read

    @property
    def keeps_time(self) -> bool:
        """Returns whether it keeps the time of its last beat itself."""
        return self._read is not None

    def age(self, now: float) -> float:
        """Returns the seconds since its last beat, or since it was expected first."""
        return now - (self.at if self._read is None else self._read())


class Health:
    """The health of one process. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}
        self._checks: dict[str, Fresh[str]] = {}

    def expect(self, part: str, within_s: float, *, vital: bool = True, at: Callable[[], float] | None = None) -> None:
        """Expect a beat of `part` at least every `within_s`. One that is not `vital` matters to readiness alone.

        `at` is for a part that keeps the time of its last beat itself, by the monotonic clock.
        """
        with self._lock:
            self._parts[part] = _Part(within_s, vital=vital, read=at)

    def beat(self, part: str) -> None:
        """Note that `part` has just done its work. A part that nobody expects is only shown by the metrics."""
        with self._lock:
            found = self._parts.setdefault(part, _Part(None, vital=False))
            found.at = clock.monotonic()
            found.beats += 1

    def forget(self, part: str) -> None:
        """Expect nothing of `part` any more. Repeatable."""
        with self._lock:
            self._parts.pop(part, None)

    def check(self, part: str, check: Check) -> None:
        """Ask `check` when readiness is asked for. It may take its time, and may raise SyncdError."""
        with self._lock:
            self._checks[part] = Fresh(f"{part} check", check)

    def ages(self) -> dict[str, float]:
        """Returns the seconds since the last beat of each part that has beaten."""
        now = clock.monotonic()
        with self._lock:
            return {name: part.age(now) for name, part in self._parts.items() if part.beats or part.keeps_time}

    def alive(self) -> list[Reason]:
        """Returns the vital parts that hang; none if all is well."""
        return self._hanging(vital_only=True)

    def ready(self) -> list[Reason]:
        """Returns what keeps this process from its work; nothing if all is well. Takes some seconds at most."""
        with self._lock:
            checks = list(self._checks.items())
        reasons = self._hanging(vital_only=False)
        for part, check in checks:
            text = _ask(check)
            if text:
                reasons.append(Reason(part, printable(text, MAX_REASON)))
        return reasons

    def _hanging(self, *, vital_only: bool) -> list[Reason]:
        now = clock.monotonic()
        with self._lock:
            return [
                Reason(
                    name, f"nothing was heard of it for {part.age(now):.0f} s; at most {part.within_s:g} s are usual"
                )
                for name, part in self._parts.items()
                if part.within_s is not None and part.age(now) > part.within_s and (part.vital or not vital_only)
            ]


def check_database(health: Health, database: Database) -> None:
    """Have readiness ask whether the database answers with the right schema, and whether a scheduler leads."""

    def answers() -> str:
        with database.read() as connection:
            if not figures.schema_is_right(connection):
                return "the database has the schema of another version of syncd"
        return ""

    def leads() -> str:
        with database.read() as connection:
            return "" if figures.leads(connection) else "no scheduler leads: nothing new is queued"

    health.check("database", answers)
    health.check("scheduler", leads)


def _ask(check: Fresh[str]) -> str:
    try:
        return check.get()
    except SyncdError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 (a check that fails says that something is wrong)
        return f"{type(error).__name__}: {error}"
