"""Matches the lines of a listing to messages: by unique-id, occurrence and size, and which matches are suspect.

A unique-id should name one message for good (RFC 1939 §7). Some servers use one again for another message, start
counting from 1 again, or show an empty id for every message. So a line is suspect if its size was never seen with its
id, or if its message was absent or removed by us meanwhile: a session then asks the server for the header (`suspects`,
`judge`). Where the server cannot tell, a suspect line of another size counts as a new message, which is fetched, and
is recognised by its octets if it is not new; a suspect line of the same size keeps its message.

Everything is done by statements over all lines, see `comparison`. They are made once: an account may have thousands of
mailboxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, case, exists, func, null, or_, select, update

from syncd.db.bulk import many, number
from syncd.db.ledger.comparison import ABSENT, EPOCH, LEAVING, MAILBOX, here, matched, scratch
from syncd.db.models import messages
from syncd.db.rows import MailboxScope, SuspectLine
from syncd.mail.listing import LineNumber


class Suspicion(IntEnum):
    """Says how sure it is that a line has the message that it was matched to."""

    NONE = 0
    SLIGHT = 1  # the size fits
    GRAVE = 2  # the size differs
    CONFIRMED = 3  # the server has shown the same header


_UNMATCHED: Final = scratch.c.message_id.is_(None)
_FITS: Final = or_(
    messages.c.sha256.is_(None), messages.c.listed_octets == scratch.c.octets, messages.c.octets == scratch.c.octets
)
_absent: Final = case((messages.c.state.in_([number(state) for state in ABSENT]), number(1)), else_=number(0))
_SAME: Final = (
    update(scratch)
    .values(suspicion=number(Suspicion.CONFIRMED))
    .where(scratch.c.number == bindparam("line", type_=scratch.c.number.type))
)
_OTHER: Final = (
    update(scratch)
    .values(message_id=null(), suspicion=number(Suspicion.NONE))
    .where(scratch.c.number == bindparam("line"))
)


_OF_EPOCH: Final = and_(messages.c.mailbox_id == MAILBOX, messages.c.epoch == EPOCH)
_KEY: Final = select(messages.c.id).where(
    _OF_EPOCH, messages.c.uid == scratch.c.uid, messages.c.occurrence == scratch.c.occurrence
)
_IDENTIFY: Final = update(scratch).values(message_id=_KEY.scalar_subquery()).where(_UNMATCHED)
_IDENTIFY_FITTING: Final = (
    update(scratch).values(message_id=_KEY.where(_FITS, _absent == 0).scalar_subquery()).where(_UNMATCHED)
)
_LEFT: Final = (
    select(scratch.c.number).where(_UNMATCHED, exists().where(_OF_EPOCH, messages.c.uid == scratch.c.uid)).limit(1)
)
_SUSPECTS: Final = (
    select(messages.c.id, scratch.c.number, scratch.c.uid, scratch.c.octets, messages.c.header_hash)
    .select_from(matched())
    .where(
        scratch.c.number > bindparam("after"),
        scratch.c.suspicion.in_([number(Suspicion.SLIGHT), number(Suspicion.GRAVE)]),
    )
    .order_by(scratch.c.number)
    .limit(bindparam("limit"))
)
_GIVE_UP: Final = update(scratch).values(message_id=None).where(scratch.c.suspicion == number(Suspicion.GRAVE))
_DOUBLED: Final = select(scratch.c.uid).group_by(scratch.c.uid).having(func.count() > 1).limit(1)
_HIGHEST: Final = (
    select(messages.c.uid).where(_OF_EPOCH).order_by(func.length(messages.c.uid).desc(), messages.c.uid.desc()).limit(1)
)


def _suspecting(why: ColumnElement[bool]) -> Update:
    """Returns the statement that makes each line suspect whose message was fetched and is of this kind."""
    of_kind = exists().where(messages.c.id == scratch.c.message_id, messages.c.sha256.is_not(None), why)
    return (
        update(scratch)
        .values(suspicion=number(Suspicion.SLIGHT))
        .where(scratch.c.suspicion == number(Suspicion.NONE), of_kind)
    )


_SUSPECT_RETURNED: Final = _suspecting(or_(_absent == 1, messages.c.disposal.in_([number(it) for it in LEAVING])))
_SUSPECT_FETCHED: Final = _suspecting(messages.c.header_hash.is_not(None))


def _renumbering() -> Update:
    """Returns the statement that gives each line without a message an occurrence that no message has."""
    taken = (
        select(messages.c.uid, func.max(messages.c.occurrence).label("most"))
        .where(
            messages.c.mailbox_id == MAILBOX,
            or_(messages.c.epoch == EPOCH, messages.c.epoch < 0),  # see `removal.mark_missing`
            messages.c.uid.in_(select(scratch.c.uid).where(_UNMATCHED)),
        )
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
    return update(scratch).values(occurrence=new.c.occurrence).where(scratch.c.number == new.c.number)


_RENUMBER: Final = _renumbering()


# Leftover lines are paired by a size (None: any), with messages that were present, or with absent ones too.
_ATTEMPTS: Final = (
    (messages.c.listed_octets, False),
    (messages.c.octets, False),
    (messages.c.listed_octets, True),
    (messages.c.octets, True),
    (None, True),
)


def match(connection: Connection, scope: MailboxScope) -> None:
    """Find the message of every line of a fresh listing; note which matches are suspect."""
    _number_doubled(connection)
    connection.execute(_IDENTIFY_FITTING, here(scope))
    for size, absent in _ATTEMPTS:
        if connection.execute(_LEFT, here(scope)).first() is None:
            break
        _pair(connection, scope, size, absent=absent)
    connection.execute(_SUSPECT_RETURNED)


def identify(connection: Connection, scope: MailboxScope) -> None:
    """Write the key of its message beside every line that has one by uid and occurrence, and shows none yet."""
    connection.execute(_IDENTIFY, here(scope))


def forget(connection: Connection) -> None:
    """The epoch changed: no match holds any more."""
    connection.execute(update(scratch).values(message_id=None, suspicion=number(Suspicion.NONE)))


def suspects(connection: Connection, after_number: int, limit: int) -> list[SuspectLine]:
    """The next suspect lines, at most `limit`."""
    rows = connection.execute(_SUSPECTS, {"after": after_number, "limit": limit})
    return [SuspectLine(*row) for row in rows]


def judge(connection: Connection, same: Sequence[LineNumber], other: Sequence[LineNumber]) -> None:
    """Lines with the header of their message, and lines with another header.

    If there is any of the second kind, the ids of this server are worth little: all other lines become suspect.
    """
    for statement, lines in ((_SAME, same), (_OTHER, other)):
        many(connection, statement, [(line,) for line in lines])
    if other:
        connection.execute(_SUSPECT_FETCHED)


def highest_uid(connection: Connection, scope: MailboxScope) -> int | None:
    """Returns the highest uid that was ever seen in this epoch of the mailbox, where uids are decimal numbers."""
    uid = connection.execute(_HIGHEST, here(scope)).scalar()
    digits = b"" if uid is None else bytes(uid)
    return int(digits) if digits.isdigit() else None


def distrust(connection: Connection) -> None:
    """Make every line suspect whose message was fetched."""
    connection.execute(_SUSPECT_FETCHED)


def decide(connection: Connection, scope: MailboxScope) -> None:
    """Decide: a line that is still gravely suspect is a new message, with an occurrence that no message has."""
    connection.execute(_GIVE_UP)
    connection.execute(_RENUMBER, here(scope))


def _number_doubled(connection: Connection) -> None:
    """Count the occurrences of a uid that the server gives to several messages (RFC 1939 §7 allows it)."""
    if connection.execute(_DOUBLED).first() is None:
        return
    counted = func.row_number().over(partition_by=scratch.c.uid, order_by=scratch.c.number)
    ranks = select(scratch.c.number, counted.label("rank")).subquery()
    connection.execute(
        update(scratch).values(occurrence=ranks.c.rank).where(scratch.c.number == ranks.c.number, ranks.c.rank > 1)
    )


def _pair(connection: Connection, scope: MailboxScope, size: ColumnElement[Any] | None, *, absent: bool) -> None:
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
    suspicion = (
        number(Suspicion.NONE)
        if size is not None
        else case((other.c.sha256.is_(None), 0), else_=number(Suspicion.GRAVE))
    )
    found = (
        select(one.c.number, other.c.id, other.c.occurrence, suspicion.label("suspicion"))
        .select_from(one.join(other, both))
        .subquery("found")
    )
    values: dict[str, Any] = {
        "message_id": found.c.id,
        "occurrence": found.c.occurrence,
        "suspicion": found.c.suspicion,
    }
    connection.execute(update(scratch).values(values).where(scratch.c.number == found.c.number))


def _of_epoch(scope: MailboxScope) -> ColumnElement[bool]:
    return and_(messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == scope.epoch)
