"""The parts of the process that every page and every answer of the API needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event
from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection  # FastAPI reads the types of what depends on it

from syncd.services.errands.runner import Runner
from syncd.services.pace import Paces
from syncd.services.wiring import owner

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import Loaded
    from syncd.telemetry.server import Answer

MAX_FILES: Final = 8  # of mail that are sent at a time; each holds an archive open, and some MiB
Ring = Callable[[int, str], None]  # wakes a worker for a run, by its id and its site


def _quiet(_run_id: int, _site: str) -> None:
    """Workers look by themselves every few seconds."""


@dataclass(slots=True)
class Site:
    """The page of one process. `loaded` is replaced when the configuration is read again; read it once a request."""

    database: Database
    loaded: Loaded
    answers: Mapping[str, Callable[[], Answer]] = field(default_factory=dict)  # path → health or metrics
    ring: Ring = _quiet
    paces: Paces = field(default_factory=Paces)
    sending: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_FILES))  # one for each file
    stopping: Event = field(default_factory=Event)  # streams end when it is set
    errands: Runner = field(init=False)

    def __post_init__(self) -> None:
        """Make what does errands; it begins when it is woken."""
        self.errands = Runner(
            self.database,
            lambda _: self.loaded,
            lambda: owner(self.loaded).name,
            lambda: self.loaded.settings.state_directory,
        )


def site_of(request: HTTPConnection) -> Site:
    """Returns the site that a request came to."""
    site: Site = request.app.state.site
    return site
