"""Apply: the jobs of a configuration become definitions in the database, where schedulers and workers read them.

Nothing is written for a job that is as it was. Jobs that the configuration does not have any more are disabled and keep
their history. Definitions of configurations with another name do not change.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from syncd import clock
from syncd.db import definitions
from syncd.db.catalog import Catalog
from syncd.services.agenda import first_due
from syncd.services.documents import Documents
from syncd.services.indexes import give_up
from syncd.services.wiring import owner, reached

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.db.definitions import Applied
    from syncd.settings.loaded import Loaded


def apply(loaded: Loaded, database: Database) -> Applied:
    """Write the definitions of a configuration. Repeatable. Raises LedgerError, StorageError."""
    whose = owner(loaded)
    wanted = list(Documents(loaded).definitions())
    Catalog(database, whose).retire(reached(loaded))
    give_up(loaded, database)
    return definitions.apply(database, whose, wanted, partial(first_due, whose.name, clock.now()))
