"""Errands that wait for a worker of a site: a thread of the worker looks for them every few seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from jobs.trouble import Trouble
from syncd.db import errands as rows
from syncd.errors import LedgerError, StorageError

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.services.errands.runner import Runner
    from syncd.settings.loaded import LoadedService

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0


class Errands:
    """The thread that looks, from `start` to `stop`. What errands stand on is loaded when there is one."""

    def __init__(self, database: Database, loaded: Callable[[], LoadedService], sites: Sequence[str]) -> None:
        self._database = database
        self._loaded = loaded
        self._sites = sites
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, name="errands", daemon=True)
        self._runner: Runner | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, and what is under way with it. Repeatable."""
        self._ending.set()
        if self._runner is not None:
            self._runner.stop()

    def _look(self) -> None:
        trouble = Trouble(log, "errands")
        while not self._ending.wait(EVERY_S):
            try:
                if rows.any_waiting(self._database, self._sites):
                    self._wake()
            except (LedgerError, StorageError) as error:
                trouble.tell(error)
            except Exception:
                log.exception("errands.failed")
            else:
                trouble.over()

    def _wake(self) -> None:
        if self._runner is None:
            from syncd.services.documents import settings_of
            from syncd.services.errands.runner import Runner

            self._runner = Runner(
                self._database,
                lambda document: settings_of(document or "", self._loaded()),
                lambda: self._sites,
                lambda: self._loaded().settings.state_directory,
            )
        self._runner.wake()
