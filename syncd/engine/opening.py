"""Opens a destination in a thread of its own, while the reader signs in to the source."""

from __future__ import annotations

import contextvars
import threading

from syncd.engine.job import Route


class Opening:
    """A destination that is being opened: `wait` for it in the thread that uses it then."""

    def __init__(self, route: Route) -> None:
        """Begin."""
        self._route = route
        self._error: BaseException | None = None
        bound = contextvars.copy_context()  # so that log lines carry run and job as well
        self._thread = threading.Thread(target=bound.run, args=(self._open,), name=f"open {route.name}", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until it is open. Raises what `Destination.open` raises, Cancelled after its `stop`."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _open(self) -> None:
        try:
            open_now(self._route)
        except BaseException as error:  # noqa: BLE001  raised where somebody can judge it
            self._error = error


def open_now(route: Route) -> None:
    """Open a destination. Raises what `Destination.open` raises."""
    with route.lock:
        route.destination.open()
