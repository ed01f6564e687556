"""Removes search indexes from the database: of one archive, and of all that a configuration does not have any more.

An index of a million messages is removed in steps, each a short transaction, the archive's own row last: whoever stops
in between has lost nothing, and the next one goes on. Before that it is noted as given up, so nobody uses half of it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, select, text, true, update

from syncd.db.database import Database
from syncd.db.names import Owner
from syncd.db.search.tables import search_archives, search_mailboxes, search_places

STEP: Final = 5_000  # messages
NONE: Final = 0  # version of an index that is being removed
_SOME: Final = text(
    "DELETE FROM search_messages WHERE archive_id = :archive AND id IN"
    " (SELECT id FROM search_messages WHERE archive_id = :archive ORDER BY id LIMIT :step) RETURNING id"
)


def remove(database: Database, configuration: str, name: str) -> None:
    """Remove the index of an archive, if there is one."""
    mine = and_(search_archives.c.configuration == configuration, search_archives.c.name == name)
    _give_up(database, mine)
    _remove(database, mine)


def give_up(database: Database, owner: Owner, archives: Collection[str]) -> None:
    """Note that the indexes of a configuration are of no use, but for those of `archives`; `purge` removes them.

    Indexes of a configuration that it speaks for become its own, where it has none of that name.
    """
    row = search_archives.c
    with database.read() as connection:
        rows = connection.execute(select(row.id, row.configuration, row.name, row.version)).all()
    mine = [it for it in rows if it.configuration == owner.name]
    others = [it for it in rows if it.configuration != owner.name and owner.speaks_for(it.configuration)]
    wanted = set(archives).difference(it.name for it in mine)
    adopted = {it.name: it.id for it in others if it.name in wanted and it.version != NONE}
    gone = {it.id for it in mine if it.name not in archives} | {it.id for it in others} - set(adopted.values())
    over = [it.id for it in rows if it.id in gone and it.version != NONE]
    if adopted or over:
        with database.write() as connection:
            ours = update(search_archives).where(row.id.in_(list(adopted.values())))
            connection.execute(ours.values(configuration=owner.name))
            connection.execute(update(search_archives).where(row.id.in_(over)).values(version=NONE))


def purge(database: Database) -> int:
    """Remove all that was given up; returns how many indexes."""
    return _remove(database, true())


def _give_up(database: Database, which: ColumnElement[bool]) -> None:
    with database.write() as connection:
        connection.execute(update(search_archives).where(which).values(version=NONE))


def _remove(database: Database, which: ColumnElement[bool]) -> int:
    with database.read() as connection:
        numbers = list(
            connection.execute(select(search_archives.c.id).where(which, search_archives.c.version == NONE)).scalars()
        )
    for number in numbers:
        while _some(database, number):
            pass
    return len(numbers)


def _some(database: Database, number: int) -> bool:
    """Remove some messages, or the rest of the index where there are none; returns whether there may be more."""
    with database.write() as connection:
        archive = search_archives.c.id == number
        if connection.execute(select(search_archives.c.id).where(archive).with_for_update()).first() is None:
            return False
        gone = list(connection.execute(_SOME, {"archive": number, "step": STEP}).scalars())
        if gone:
            here = search_places.c.archive_id == number, search_places.c.message.between(min(gone), max(gone))
            connection.execute(delete(search_places).where(*here))
            return True
        connection.execute(delete(search_places).where(search_places.c.archive_id == number))
        connection.execute(delete(search_mailboxes).where(search_mailboxes.c.archive_id == number))
        connection.execute(delete(search_archives).where(archive))
        return False
