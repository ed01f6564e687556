"""A listing against the ledger: the statements, each over all messages at once.

The listing is in `scratch`, a temporary table of the session's own connection. It is matched to message rows
(see `matching`); lines without a message are new, messages without a line are absent. No loop over messages runs in
Python, so a hundred thousand cost no memory.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Join,
    LargeBinary,
    MetaData,
    Select,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)

from syncd.db.bulk import changed, number
from syncd.db.ledger.scopes import is_open, of
from syncd.db.models import ABOUT_MESSAGE, deliveries, jobs, messages, problems, routes
from syncd.db.rows import MailboxScope, ProblemKind
from syncd.db.states import DeliveryState, Disposal, MessageState, move
from syncd.errors import LedgerError

_ID = BigInteger().with_variant(Integer(), "sqlite")

scratch = Table(
    "scratch",
    MetaData(),
    Column("number", _ID, primary_key=True, autoincrement=False),
    Column("uid", LargeBinary, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("occurrence", Integer, nullable=False, server_default=text("1")),
    Column("message_id", BigInteger),
    Column("suspicion", Integer, nullable=False, server_default=text("0")),  # matching.Suspicion
    prefixes=["TEMPORARY"],
)
Index("ix_scratch_message_id", scratch.c.message_id)  # without it each absent message is looked for in every line

ADD = insert(scratch).values(number=bindparam("number"), uid=bindparam("uid"), octets=bindparam("octets"))

MAILBOX = bindparam("mailbox", type_=BigInteger)
EPOCH = bindparam("epoch_here", type_=BigInteger)  # not the name of a column: SQLAlchemy would set that

ABSENT = (MessageState.MISSING, MessageState.GONE)
LEAVING = (Disposal.REMOVING, Disposal.REMOVED)
_NOT_GONE = messages.c.state != number(MessageState.GONE)  # word for word the condition of ix_messages_present
IS_MISSING = messages.c.state == number(MessageState.MISSING)  # and of ix_messages_missing
_has_failed = exists().where(
    problems.c.message_id == messages.c.id,
    problems.c.route_id == ABOUT_MESSAGE,
    problems.c.kind == number(ProblemKind.FETCH),
)
_RETURNS = (  # what a message becomes that is listed again, and of which messages that holds
    (MessageState.FETCHED, messages.c.sha256.is_not(None)),
    (MessageState.UNFETCHABLE, and_(messages.c.sha256.is_(None), _has_failed)),
    (MessageState.LISTED, and_(messages.c.sha256.is_(None), ~_has_failed)),
)


_RETURNED = messages.c.state.in_(ABSENT)
_KEPT = messages.c.disposal.in_(LEAVING)
_RESIZED = messages.c.listed_octets != scratch.c.octets
_HERE = (messages.c.epoch == EPOCH, messages.c.state != number(MessageState.MISSING))
_STAYS = messages.c.disposal.not_in([number(state) for state in LEAVING])
_BEFORE = select(func.count()).where(messages.c.mailbox_id == MAILBOX, _NOT_GONE, *_HERE, _STAYS)
_ROWS = select(func.count(scratch.c.message_id.distinct()))
_MISSES = select(messages.c.id).where(messages.c.mailbox_id == MAILBOX, IS_MISSING).limit(1)


def matched() -> Join:
    """Lines of the listing with their messages."""
    return scratch.join(messages, messages.c.id == scratch.c.message_id)


_SHOWN = select(func.count()).select_from(matched()).where(_NOT_GONE, *_HERE)
_COUNTED = select(
    func.count(case((_RETURNED, 1))), func.count(case((_KEPT, 1))), func.count(case((_RESIZED, 1)))
).select_from(matched())
_UNFETCHED = select(func.count()).select_from(matched()).where(messages.c.state == number(MessageState.LISTED))
_NOT_SHOWN = (
    select(messages.c.id)
    .select_from(messages.outerjoin(scratch, scratch.c.message_id == messages.c.id))
    .where(messages.c.mailbox_id == MAILBOX, scratch.c.number.is_(None))
)
_VANISHES = move(messages.c.state, MessageState.GONE, only=(MessageState.MISSING,))
_ALL_VANISH = _VANISHES.where(messages.c.id.in_(_NOT_SHOWN.where(IS_MISSING)))
_SOME_VANISH = _VANISHES.where(
    messages.c.id.in_(_NOT_SHOWN.where(IS_MISSING, or_(messages.c.epoch != EPOCH, messages.c.sha256.is_(None))))
)
_ARE_MISSED = (
    move(messages.c.state, MessageState.MISSING)
    .values(absent_since=bindparam("listing", type_=BigInteger))
    .where(messages.c.id.in_(_NOT_SHOWN.where(_NOT_GONE, ~IS_MISSING)))
)


def here(scope: MailboxScope) -> dict[str, int]:
    """Returns the parameters MAILBOX and EPOCH."""
    return {"mailbox": scope.mailbox_id, "epoch_here": scope.epoch}


def present(connection: Connection, scope: MailboxScope) -> tuple[int, int]:
    """Returns how many messages of this epoch the listing should show, and how many of those present before it shows.

    A message that we removed, or were about to remove when a run broke off, should not be there: its absence is no
    surprise.
    """
    before = connection.execute(_BEFORE, here(scope)).scalar_one()
    return before, connection.execute(_SHOWN, {"epoch_here": scope.epoch}).scalar_one()


def insert_new(connection: Connection, scope: MailboxScope) -> int:
    """A row for every line without a message; the number of them."""
    values = {
        "mailbox_id": literal(scope.mailbox_id, BigInteger),
        "epoch": literal(scope.epoch, BigInteger),
        "uid": scratch.c.uid,
        "occurrence": scratch.c.occurrence,
        "state": number(MessageState.LISTED),
        "disposal": number(Disposal.KEPT),
        "listed_octets": scratch.c.octets,
    }
    new = select(*values.values()).where(scratch.c.message_id.is_(None)).order_by(scratch.c.number)
    return changed(connection, insert(messages).from_select(list(values), new))


def plan_deliveries(connection: Connection, scope: MailboxScope) -> None:
    """A pending delivery for every listed message × enabled route of the job that has none."""
    wanted = [route.id for route in scope.routes if route.enabled]
    missing = (
        select(scratch.c.message_id, routes.c.id, number(DeliveryState.PENDING))
        .select_from(scratch)
        .join(routes, routes.c.id.in_(wanted))
        .outerjoin(
            deliveries, and_(deliveries.c.message_id == scratch.c.message_id, deliveries.c.route_id == routes.c.id)
        )
        .where(deliveries.c.message_id.is_(None))
    )
    connection.execute(insert(deliveries).from_select(["message_id", "route_id", "state"], missing))


def take_back(connection: Connection) -> int:
    """Messages that are listed although they were absent, or should have been removed; the number of the first kind.

    The size listed is that of the last listing.
    """
    back, stayed, other_size = connection.execute(_COUNTED).one()
    if stayed:
        back_again = move(messages.c.disposal, Disposal.KEPT, only=LEAVING).values(absent_since=None)
        connection.execute(back_again.where(_is_shown))
    for state, which in _RETURNS if back else ():
        listed = move(messages.c.state, state, only=ABSENT).values(absent_since=None)
        connection.execute(listed.where(which, _is_shown))
    if other_size:
        connection.execute(
            update(messages)
            .values(listed_octets=scratch.c.octets)
            .where(messages.c.id == scratch.c.message_id, _RESIZED)
        )
    return back


def mark_absent(connection: Connection, scope: MailboxScope, listing_id: int, *, new: int) -> tuple[int, int]:
    """Messages that this complete listing does not show: absent for the first time → MISSING, again → GONE; counts.

    A fetched message stays MISSING while other messages of the account wait to be fetched, besides the `new` ones of
    this listing: any of them may be that message under another id, or moved to another mailbox, see `epochs`.
    """
    if connection.execute(_UNFETCHED).scalar_one() > new or _waits_elsewhere(connection, scope):
        gone = changed(connection, _SOME_VANISH, here(scope))
    else:
        gone = changed(connection, _ALL_VANISH, {"mailbox": scope.mailbox_id})
    missing = changed(connection, _ARE_MISSED, {"mailbox": scope.mailbox_id, "listing": listing_id})
    return missing, gone


def presence(mailbox_id: ColumnElement[int]) -> tuple[Select[int], Select[int]]:
    """Returns the statements that count the messages of a mailbox, of any epoch: all that are present, the missing."""
    here = messages.c.mailbox_id == mailbox_id
    all_of_it = select(func.count()).select_from(messages)
    return all_of_it.where(here, _NOT_GONE), all_of_it.where(here, IS_MISSING)


def check_accounts(connection: Connection, listed: int) -> None:
    """Full accounting: every line of the listing has a row of its own. Raises LedgerError."""
    rows = connection.execute(_ROWS).scalar_one()
    if rows != listed:
        raise LedgerError(
            f"the server lists {listed:,} messages, and the ledger has rows for {rows:,} of them: nothing of this"
            " listing was recorded. If the next run says so, too, it is a fault of this program: please report it"
        )


_is_shown = messages.c.id.in_(select(scratch.c.message_id).where(scratch.c.message_id.is_not(None)))


def _waits_elsewhere(connection: Connection, scope: MailboxScope) -> bool:
    """Returns whether a message is missing here, and messages of another mailbox of the account wait to be fetched."""
    if connection.execute(_MISSES, {"mailbox": scope.mailbox_id}).first() is None:
        return False
    in_use = (
        select(routes.c.id)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .where(jobs.c.account_id == scope.run.account_id, jobs.c.enabled, routes.c.enabled)
    )
    elsewhere = exists().where(
        messages.c.id == deliveries.c.message_id,
        messages.c.state == number(MessageState.LISTED),
        messages.c.mailbox_id != scope.mailbox_id,
        of(scope.run),
    )
    waiting = select(deliveries.c.message_id).where(deliveries.c.route_id.in_(in_use), is_open, elsewhere).limit(1)
    return connection.execute(waiting).first() is not None
