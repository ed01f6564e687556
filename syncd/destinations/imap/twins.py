"""Mailboxes of one job whose names differ in nothing but case: at some servers they are one mailbox (I41).

Such a server says ALREADYEXISTS to CREATE for the second of them, and then answers to either name. So the name of a
twin counts as made only where LIST has it as it is spelt; see `targets`.
"""

from __future__ import annotations

import threading

from syncd.mail.mailbox import Path


class Twins:
    """The paths of a job that were noted, common to all connections. For any thread."""

    def __init__(self) -> None:
        self._noted: dict[str, dict[str, Path]] = {}  # key in lower case → key → path
        self._lock = threading.Lock()

    def note(self, key: str, path: Path) -> None:
        """Take a path in. `key` is equal for paths that are one mailbox at every server."""
        with self._lock:
            self._noted.setdefault(key.casefold(), {}).setdefault(key, path)

    def other(self, key: str) -> Path:
        """Returns the path of another mailbox that differs in nothing but case; an empty path where there is none."""
        with self._lock:
            found = self._noted.get(key.casefold(), {})
            return next((path for other, path in found.items() if other != key), ())
