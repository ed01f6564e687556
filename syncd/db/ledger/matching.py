"""Which line of a listing is which message: by unique-id, occurrence and size, and what is doubtful about it.

A unique-id should name one message for good (RFC 1939 §7). Some servers use one again for another message, count from 1
anew, or have none to give and show an empty one for all. So a line whose size was never seen with its id is in doubt,
and so is one whose message was absent or removed by us meanwhile: whoever has a session asks the server for the
header (`doubtful`, `settle`). Where it cannot tell, a line of another size is of a new message, which is fetched and
recognised by its octets if it is none after all; and one of the same size is what it was.

Everything is done by statements over all lines, see `comparison`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, exists, func, null, or_, select, update

from syncd.db.bulk import many, number
from syncd.db.ledger.comparison import ABSENT, LEAVING, matched, scratch
from syncd.db.models import messages
from syncd.db.rows import DoubtfulLine, Scope


class Doubt(IntEnum):
    """Of a line that has a message."""

    NONE = 0
    SLIGHT = 1  # the size fits
    GRAVE = 2  # it does not
    SETTLED = 3  # the server has shown that header


_UNMATCHED: Final = scratch.c.message_id.is_(None)
_FITS: Final = or_(
    messages.c.sha256.is_(None), messages.c.listed_octets == scratch.c.octets, messages.c.octets == scratch.c.octets
)
_absent: Final = case((messages.c.state.in_([number(state) for state in ABSENT]), number(1)), else_=number(0))
_SAME: Final = (
    update(scratch)
    .values(doubt=number(Doubt.SETTLED))
    .where(scratch.c.number == bindparam("line", type_=scratch.c.number.type))
)
_OTHER: Final = (
    update(scratch).values(message_id=null(), doubt=number(Doubt.NONE)).where(scratch.c.number == bindparam("line"))
)


# What leftover lines are paired by: a size (None: any), with messages that were present, or with absent ones too.
_ATTEMPTS: Final = (
    (messages.c.listed_octets, False),
    (messages.c.octets, False),
    (messages.c.listed_octets, True),
    (messages.c.octets, True),
    (None, True),
)


def match(connection: Connection, scope: Scope) -> None:
    """Find the message of every line, of a fresh listing; note what is doubtful."""
    _number_doubled(connection)
    identify(connection, scope, _FITS, _absent == 0)
    named = exists().where(_of_epoch(scope), messages.c.uid == scratch.c.uid)
    left = select(scratch.c.number).where(_UNMATCHED, named).limit(1)
    for size, absent in _ATTEMPTS:
        if connection.execute(left).first() is None:
            break
        _pair(connection, scope, size, absent=absent)
    _doubt(connection, or_(_absent == 1, messages.c.disposal.in_([number(state) for state in LEAVING])))


def identify(connection: Connection, scope: Scope, *conditions: ColumnElement[bool]) -> None:
    """Write the key of its message beside every line that has one by uid and occurrence, and shows none yet."""
    key = select(messages.c.id).where(
        _of_epoch(scope),
        messages.c.uid == scratch.c.uid,
        messages.c.occurrence == scratch.c.occurrence,
        *conditions,
    )
    connection.execute(update(scratch).values(message_id=key.scalar_subquery()).where(_UNMATCHED))


def forget(connection: Connection) -> None:
    """The epoch changed: no match holds any more."""
    connection.execute(update(scratch).values(message_id=None, doubt=number(Doubt.NONE)))


def doubtful(connection: Connection, after_number: int, limit: int) -> list[DoubtfulLine]:
    """The next lines in doubt, at most `limit`."""
    rows = connection.execute(
        select(scratch.c.number, scratch.c.uid, scratch.c.octets, messages.c.header_hash)
        .select_from(matched())
        .where(scratch.c.number > after_number, scratch.c.doubt.in_([number(Doubt.SLIGHT), number(Doubt.GRAVE)]))
        .order_by(scratch.c.number)
        .limit(limit)
    )
    return [DoubtfulLine(*row) for row in rows]


def settle(connection: Connection, same: list[int], other: list[int]) -> None:
    """Lines, by number, that are the messages they seemed to be; and those that are not.

    If there are any of those the ids of this server are worth little: all lines that were not asked about are in doubt.
    """
    for statement, lines in ((_SAME, same), (_OTHER, other)):
        many(connection, statement, [(line,) for line in lines])
    if other:
        _doubt(connection, messages.c.header_hash.is_not(None))


def decide(connection: Connection, scope: Scope) -> None:
    """The end of all doubt: who is not what it seemed is new, and gets an occurrence that nobody has."""
    connection.execute(update(scratch).values(message_id=None).where(scratch.c.doubt == number(Doubt.GRAVE)))
    taken = (
        select(messages.c.uid, func.max(messages.c.occurrence).label("most"))
        .where(_of_epoch(scope), messages.c.uid.in_(select(scratch.c.uid).where(_UNMATCHED)))
        .group_by(messages.c.uid)
        .subquery("taken")
    )
    rank = func.row_number().over(partition_by=scratch.c.uid, order_by=scratch.c.number)
    new = (
        select(scratch.c.number, (taken.c.most + rank).label("occurrence"))
        .select_from(scratch.join(taken, taken.c.uid == scratch.c.uid))
        .where(_UNMATCHED)
        .subquery("new")
    )
    connection.execute(update(scratch).values(occurrence=new.c.occurrence).where(scratch.c.number == new.c.number))


def _number_doubled(connection: Connection) -> None:
    """Count the occurrences of a uid that the server gives to several messages (RFC 1939 §7 allows it)."""
    doubled = select(scratch.c.uid).group_by(scratch.c.uid).having(func.count() > 1).limit(1)
    if connection.execute(doubled).first() is None:
        return
    counted = func.row_number().over(partition_by=scratch.c.uid, order_by=scratch.c.number)
    ranks = select(scratch.c.number, counted.label("rank")).subquery()
    connection.execute(
        update(scratch).values(occurrence=ranks.c.rank).where(scratch.c.number == ranks.c.number, ranks.c.rank > 1)
    )


def _pair(connection: Connection, scope: Scope, size: ColumnElement[Any] | None, *, absent: bool) -> None:
    """Give lines that have no message one of the same uid that has no line, and the same `size`; for None any size.

    In the order of lines and occurrences; those that were present before come first, without `absent` they alone.
    """
    of_line: list[ColumnElement[Any]] = [scratch.c.uid]
    of_message: list[ColumnElement[Any]] = [messages.c.uid]
    if size is not None:
        of_line, of_message = [*of_line, scratch.c.octets], [*of_message, size]
    line_rank = func.row_number().over(partition_by=of_line, order_by=scratch.c.number)
    lines = select(scratch.c.number, scratch.c.uid, scratch.c.octets, line_rank.label("nth")).where(_UNMATCHED)
    free_rank = func.row_number().over(partition_by=of_message, order_by=(_absent, messages.c.occurrence))
    columns = (messages.c.id, messages.c.uid, messages.c.occurrence, messages.c.sha256)
    sized = messages.c.listed_octets if size is None else size
    free = select(*columns, sized.label("size"), free_rank.label("nth")).where(
        _of_epoch(scope),
        messages.c.uid.in_(select(scratch.c.uid).where(_UNMATCHED)),
        ~exists().where(scratch.c.message_id == messages.c.id),
        *([] if absent else [_absent == 0]),
    )
    one, other = lines.subquery("one"), free.subquery("other")
    both = and_(other.c.uid == one.c.uid, other.c.nth == one.c.nth)
    if size is not None:
        both = and_(both, other.c.size == one.c.octets)
    doubt = number(Doubt.NONE) if size is not None else case((other.c.sha256.is_(None), 0), else_=number(Doubt.GRAVE))
    found = (
        select(one.c.number, other.c.id, other.c.occurrence, doubt.label("doubt"))
        .select_from(one.join(other, both))
        .subquery("found")
    )
    values: dict[str, Any] = {"message_id": found.c.id, "occurrence": found.c.occurrence, "doubt": found.c.doubt}
    connection.execute(update(scratch).values(values).where(scratch.c.number == found.c.number))


def _doubt(connection: Connection, why: ColumnElement[bool]) -> None:
    """Slight doubt of every line whose message was fetched and is of this kind."""
    of_kind = exists().where(messages.c.id == scratch.c.message_id, messages.c.sha256.is_not(None), why)
    connection.execute(
        update(scratch).values(doubt=number(Doubt.SLIGHT)).where(scratch.c.doubt == number(Doubt.NONE), of_kind)
    )


def _of_epoch(scope: Scope) -> ColumnElement[bool]:
    return and_(messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == scope.epoch)
