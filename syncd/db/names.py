"""Names belong to a configuration: what it calls an account or an archive, another configuration may call otherwise.

Several configurations can share a ledger. An account or archive has one row, whoever uses it, and a name for each
configuration that does. A configuration whose file was moved, or that got a name of its own, takes over the names that
it had; so does one whose former file is not there any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update
from sqlalchemy.sql.elements import KeyedColumnElement

from syncd.db.models import names

Kind = Literal["account", "archive"]


def _every(_: str) -> bool:
    return True


class Owner(NamedTuple):
    """A configuration: its name in the ledger, and whether it speaks for another one, which is over."""

    name: str = ""
    speaks_for: Callable[[str], bool] = _every


class Shared(NamedTuple):
    """An account or archive that another configuration uses as well, and what that one calls it."""

    kind: Kind
    name: str
    configuration: str
    called: str


class Found(NamedTuple):
    """The owner of a name: the id of its row, and the configuration that the name is from."""

    target: int
    configuration: str


def find(connection: Connection, owner: Owner, kind: Kind, name: str) -> Found | None:
    """Returns what a configuration calls `name`: by its own names, else by those that it may take over."""
    rows = connection.execute(
        select(names.c.target, names.c.configuration)
        .where(names.c.kind == kind, names.c.name == name)
        .order_by(names.c.configuration != owner.name, names.c.configuration)
    )
    found = (Found(*row) for row in rows)
    return next((it for it in found if it.configuration == owner.name or owner.speaks_for(it.configuration)), None)


def give(connection: Connection, owner: Owner, kind: Kind, target: int, name: str) -> None:
    """Call a row `name`, and nothing else. Another row of that name is set aside: it is called otherwise now."""
    known = find(connection, owner, kind, name)
    if known is not None:
        renamed = {"configuration": owner.name, "name": name if known.target == target else f"{name}~{known.target}"}
        was = (names.c.configuration == known.configuration, names.c.kind == kind, names.c.name == name)
        connection.execute(update(names).where(*was).values(renamed))
    mine = (names.c.configuration == owner.name, names.c.kind == kind, names.c.target == target)
    connection.execute(delete(names).where(*mine, names.c.name != name))
    if known is None or known.target != target:
        values = {"configuration": owner.name, "kind": kind, "name": name, "target": target}
        connection.execute(insert(names).values(values))


def called(kind: Kind, target: KeyedColumnElement[Any], configuration: KeyedColumnElement[Any]) -> ColumnElement[Any]:
    """Returns what a configuration calls a row, for a statement; null where it has no name for it."""
    return (
        select(func.min(names.c.name))
        .where(names.c.kind == kind, names.c.target == target, names.c.configuration == configuration)
        .scalar_subquery()
    )


def shared(connection: Connection, owner: Owner) -> list[Shared]:
    """Returns what other configurations, that are not over, use as well."""
    other = names.alias("other")
    rows = connection.execute(
        select(names.c.kind, names.c.name, other.c.configuration, other.c.name)
        .join(other, and_(other.c.kind == names.c.kind, other.c.target == names.c.target))
        .where(names.c.configuration == owner.name, other.c.configuration != owner.name)
        .order_by(names.c.kind, names.c.name, other.c.configuration)
    )
    return [found for found in (Shared(*row) for row in rows) if not owner.speaks_for(found.configuration)]


def users(connection: Connection, kind: Kind, target: int) -> list[tuple[str, str]]:
    """Returns each configuration that has a name for a row, with that name."""
    found = select(names.c.configuration, names.c.name).where(names.c.kind == kind, names.c.target == target)
    return [(row.configuration, row.name) for row in connection.execute(found.order_by(names.c.configuration))]
