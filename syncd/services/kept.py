"""Parts that runs share: made when the first run takes one, closed when the last one gives it back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """Something that is given back when nobody uses it."""

    def close(self) -> None:
        """Give it back. Repeatable."""
        ...


Part = TypeVar("Part", bound=Closable)
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Entry(Generic[Part]):
    part: Part
    users: int = 0


class Kept(Generic[Key, Part]):
    """Parts by their keys. Used from any thread."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry[Part]] = {}
        self._lock = threading.RLock()

    def take(self, key: Key, make: Callable[[], Part]) -> Part:
        """Returns the part of this key, made if there is none. What `make` raises passes through."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(make())
            entry.users += 1
            return entry.part

    def give_back(self, key: Key) -> None:
        """Say that one user less has it. The last one closes it."""
        with self._lock:
            entry = self._entries[key]
            entry.users -= 1
            if not entry.users:
                self._close([key])

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
