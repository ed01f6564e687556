"""Statements are compiled once in a process, not once in each test, most of which have a ledger of their own.

SQLAlchemy keeps what it made of a statement with the engine, and a program has one engine: here they share it. What is
executed, and where, stays as it is.
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

KEPT = 5_000  # statements; SQLAlchemy's 500 are for one program


def compile_once(patch: pytest.MonkeyPatch) -> None:
    """Have all ledgers of this process share what SQLAlchemy makes of their statements."""
    compiled: LRUCache[Any, Any] = LRUCache(KEPT)
    dialects: dict[str, Dialect] = {}  # by name; a part of the key

    def shared(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options, execution_options={"compiled_cache": compiled})
        own = engine.dialect
        engine.dialect = dialects.get(own.name, own)
        event.listen(engine, "connect", lambda *_: dialects.setdefault(own.name, own))  # which it knows by then
        return engine

    patch.setattr(database, "create_engine", shared)
    patch.setattr(metadata, "create_all", _create_all)


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
