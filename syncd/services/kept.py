"""Parts that runs share, made when the first run takes one, and closed some time after the last gave it back.

A part that is spent (it was taken from us) is closed as soon as nobody uses it, and made again for the next user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from syncd import clock


class Closable(Protocol):
    """Something that is given back when nobody uses it."""

    def close(self) -> None:
        """Give it back. Repeatable."""
        ...


Part = TypeVar("Part", bound=Closable)
Key = TypeVar("Key", bound=Hashable)

MAX_IDLE: Final = 16  # parts that nobody uses and that are kept for a while: an open archive takes 2 MiB


@dataclass(slots=True)
class _Entry(Generic[Part]):
    part: Part
    users: int = 0
    idle_since: float = 0.0  # by `clock.monotonic`, while there is no user


class Kept(Generic[Key, Part]):
    """Parts by their keys. With `linger_s=0` a part is closed as soon as nobody uses it. Used from any thread."""

    def __init__(self, linger_s: float = 0.0, spent: Callable[[Part], bool] = lambda _: False) -> None:
        self._linger_s = linger_s
        self._spent = spent
        self._entries: dict[Key, _Entry[Part]] = {}
        self._lock = threading.RLock()

    def take(self, key: Key, make: Callable[[], Part]) -> Part:
        """Returns the part of this key, made if there is none. What `make` raises passes through.

        It may be spent while others use it; then give it back, and try again later.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and not entry.users and self._spent(entry.part):
                self._close([key])
                entry = None
            if entry is None:
                entry = self._entries[key] = _Entry(make())
            entry.users += 1
            return entry.part

    def give_back(self, key: Key) -> None:
        """Say that one user less has it."""
        with self._lock:
            entry = self._entries[key]
            entry.users -= 1
            entry.idle_since = clock.monotonic()
        self.close_idle()

    def close_idle(self) -> None:
        """Close the parts that nobody has used for the time that they linger, and all idle ones but MAX_IDLE."""
        before = clock.monotonic() - self._linger_s
        with self._lock:
            idle = [(entry.idle_since, key) for key, entry in self._entries.items() if not entry.users]
            idle.sort(key=lambda pair: pair[0])
            surplus = len(idle) - MAX_IDLE
            over = [
                key
                for number, (since, key) in enumerate(idle)
                if since <= before or number < surplus or self._spent(self._entries[key].part)
            ]
            self._close(over)

    def close(self) -> None:
        """Close all of them, in use or not. Repeatable."""
        with self._lock:
            self._close(list(self._entries))

    def _close(self, keys: list[Key]) -> None:
        failure: Exception | None = None
        for key in keys:
            try:
                self._entries.pop(key).part.close()
            except Exception as error:  # noqa: BLE001  the others are closed first
                failure = failure or error
        if failure is not None:
            raise failure
