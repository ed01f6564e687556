"""Makes the ledgers of tests cheap, as most tests have one of their own, and leaves out one wait.

* SQLAlchemy keeps what it made of a statement with the engine. A program has one engine; here all ledgers of a process
  share it, so that a statement is compiled once and not once in each test.
* A message that is absent from an IMAP mailbox is looked for a second time without a wait (`LATE_S` as shipped: 10 s).
* A commit does not wait for the disk: that is for machines that lose their power, and no test does that. Programs that
  tests start are as shipped. `SHIPPED` are the settings of a ledger in a program.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, create_mock_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

from syncd.db import database
from syncd.db.models import metadata
from syncd.destinations.imap import late

KEPT = 5_000  # statements; SQLAlchemy's 500 are for one program
SHIPPED = database._PRAGMAS
SHIPPED_LATE_S = late.LATE_S


def quicken(patch: pytest.MonkeyPatch) -> None:
    """Have this process be so."""
    compiled: LRUCache[Any, Any] = LRUCache(KEPT)
    dialects: dict[str, Dialect] = {}  # by name; a part of the key

    def shared(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options, execution_options={"compiled_cache": compiled})
        own = engine.dialect
        engine.dialect = dialects.get(own.name, own)
        event.listen(engine, "connect", lambda *_: dialects.setdefault(own.name, own))  # which it knows by then
        return engine

    patch.setattr(database, "create_engine", shared)
    patch.setattr(late, "LATE_S", 0.0)
    patch.setattr(metadata, "create_all", _create_all)
    patch.setattr(database, "_PRAGMAS", tuple(line.replace("=FULL", "=OFF") for line in SHIPPED))


def _create_all(connection: Connection, *, checkfirst: bool) -> None:
    assert connection.dialect.name == "sqlite"
    assert not checkfirst
    for statement in _schema():
        connection.exec_driver_sql(statement)


@cache
def _schema() -> list[str]:
    """The statements that `MetaData.create_all` executes."""
    statements: list[str] = []
    dialect = sqlite.dialect()
    engine = create_mock_engine(
        "sqlite://", lambda made, *_, **__: statements.append(str(made.compile(dialect=dialect)))
    )
    type(metadata).create_all(metadata, engine, checkfirst=False)
    return statements
