"""The workplace has what the runs of one configuration work with; `Common` is what all runs of a process share.

`Common`: database, memory, open archives, connections to mail servers and their quirks. A command has one workplace; a
worker has one for each definition that it works on lately. `Running` knows what is under way, and ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, Self

from syncd.engine.budget import Budget
from syncd.engine.writer import STOPPED
from syncd.errors import Cancelled
from syncd.services.destinations import Destinations, Shared
from syncd.services.registry import Registry

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.services.wiring import Known
    from syncd.settings.load import Loaded

TICK_S: Final = 0.2  # between two looks at the clock while waiting: a person does not notice


class Cancellable(Protocol):
    """A run, or a source that is signed in to."""

    def cancel(self) -> None:
        """Stop within a moment; from any thread, repeatable."""
        ...


class Running:
    """Everything under way in this process. Once cancelled, nothing begins any more."""

    def __init__(self) -> None:
        self.rows: dict[int, Cancellable] = {}  # the runs that are worked on, by hand, by their numbers
        self._under_way: set[Cancellable] = set()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Returns whether a person asked to stop."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop all of it within a moment. Repeatable; may come from a signal handler."""
        self._cancelled.set()
        for each in tuple(self._under_way):
            each.cancel()

    def check(self) -> None:
        """Raise Cancelled if nothing may begin any more."""
        if self._cancelled.is_set():
            raise Cancelled(STOPPED)

    def pause(self, seconds: float) -> None:
        """Wait for so long, or for TICK_S if that is shorter. Raises Cancelled."""
        self._cancelled.wait(min(seconds, TICK_S))
        self.check()

    @contextmanager
    def during(self, each: Cancellable) -> Iterator[None]:
        """Have `cancel` end this while the block lasts."""
        self._under_way.add(each)
        try:
            if self._cancelled.is_set():
                each.cancel()
            yield
        finally:
            self._under_way.discard(each)


class Common:
    """The parts that all runs of one process share. A context manager: at its end they are closed and given back."""

    def __init__(self, database: Database, running: Running, *, alone: bool = False) -> None:
        """`alone`: see `destinations.Shared`."""
        self.database = database
        self.running = running
        self.budget = Budget()
        self.shared = Shared(alone=alone)
        self.quirks: Known = {}  # what servers have shown themselves to do, by host, port and username

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.shared.close()


class Workplace:
    """The parts that runs of one configuration work with. A context manager: at its end it gives back what it took."""

    def __init__(
        self,
        loaded: Loaded,
        common: Common,
        *,
        dry_run: bool = False,
        refill: Collection[str] = (),
        registry: Registry | None = None,
    ) -> None:
        """`refill`: the archives that a person wants to have filled again. `registry`: one that looked before."""
        self.loaded = loaded
        self.common = common
        self.database = common.database
        self.running = common.running
        self.budget = common.budget
        self.quirks = common.quirks
        self.dry_run = dry_run
        self.registry = registry or Registry(loaded, self.database, refill=refill)
        self.destinations = Destinations(
            loaded, self.database, self.registry, common.shared, dry_run=dry_run, refill=refill
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.destinations.close()
