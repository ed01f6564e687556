"""Turns of the threads that write for one run: one at a time has the ledger, the report and the archives.

A destination with several connections has a thread for each. A thread gives its turn up while it waits for a server, or
for its connection, and takes it again before it commits: so the ledger has one writer, as with a single connection.
Nobody waits for a connection while it is his turn, or two threads would wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class Turn:
    """A context manager: the block is this thread's turn. Not to be entered twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let others have their turn while the block lasts."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
