"""What an archive holds already, told to the ledger: a new laptop does not start over.

Whether it was also sent on, by SMTP or LMTP, no archive tells. So where the ledger never saw a listing of the mailbox,
such deliveries are held: sending a whole mailbox again is for a person to say.

An archive has each message under the name that it was fetched by. Where the server has renamed its messages since, what
came in earlier epochs is recognised by its octets, see `epochs`.

Places stream through a temporary table, a thousand to a transaction; each may come again without harm. Nothing is
taken back: a message that was fetched with other octets than the archive has under its name keeps its row as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from syncd import clock
from syncd.db.bulk import changed, many, number, pieces
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.ledger import archives as extents
from syncd.db.ledger.epochs import leave_behind
from syncd.db.ledger.outcomes import WRITE
from syncd.db.models import deliveries, listings, mailboxes, messages, problems
from syncd.db.routing import last_listing
from syncd.db.rows import Scope
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.destinations.base import Place

CHUNK: Final = 1000  # places in one transaction
TICK: Final = timedelta(seconds=10)  # disks have coarse clocks, other machines have clocks of their own

_places = Table(
    "places",
    MetaData(),
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("uid", LargeBinary, primary_key=True),
    Column("occurrence", Integer, primary_key=True, autoincrement=False),
    Column("octets", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("header_hash", LargeBinary, nullable=False),
    Column("hint", Text),
    prefixes=["TEMPORARY"],
)
_ADD: Final = insert(_places).values({column.name: bindparam(column.name) for column in _places.c})
_HOLD: Final = insert(deliveries).values({name: bindparam(name) for name in ("message_id", "route_id", "state", "at")})
MAY_BE_SENT: Final = (
    "the archive has this message, but the ledger is new, or an older copy: it may have been sent before;"
    " `syncd retry` sends it, `syncd drop` leaves it"
)
_MAY_BE_SENT: Final = (DeliveryState.PENDING, DeliveryState.DEFERRED)
_CLOSED: Final = (DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.DROPPED)  # seeding changes nothing

_identity = and_(
    messages.c.mailbox_id == _places.c.mailbox_id,
    messages.c.epoch == _places.c.epoch,
    messages.c.uid == _places.c.uid,
    messages.c.occurrence == _places.c.occurrence,
)
_identical = and_(_identity, messages.c.sha256 == _places.c.sha256)


def seed(
    database: Database, fence: Callable[[Connection], None], scope: Scope, route_id: int, places: Iterator[Place]
) -> int:
    """Take in `places`; how many deliveries on the route are known to be done only since now."""
    seeded = 0
    mailbox_ids: dict[bytes, int] = {}
    with database.session() as session:
        with database.read(session) as connection:
            _places.create(connection, checkfirst=False)
        while chunk := list(islice(places, CHUNK)):
            with database.write(session) as connection:
                fence(connection)
                _take_in(connection, scope, mailbox_ids, chunk)
                _know_messages(connection)
                seeded += _know_deliveries(connection, route_id)
                _hold_for_a_person(connection, scope)
        if mailbox_ids:
            with database.write(session) as connection:
                fence(connection)
                for mailbox_id in mailbox_ids.values():
                    leave_behind(connection, mailbox_id)
    return seeded


def is_unknown(connection: Connection, scope: Scope, route_id: int) -> bool:
    """Whether no listing of the mailbox was planned for the route so far.

    Also if its archive is to be filled again.
    """
    if extents.find(connection, [route_id]).get(route_id) == extents.ASK:
        return True
    return not last_listing(connection, scope.mailbox_id, route_id)


def _take_in(connection: Connection, scope: Scope, mailbox_ids: dict[bytes, int], chunk: Sequence[Place]) -> None:
    """Put a chunk into the temporary table; where it names a message twice, the last counts."""
    rows: dict[tuple[int, int, bytes, int], tuple[Any, ...]] = {}
    epochs: dict[int, int] = {}
    for (origin, uid, occurrence), sha256, octets, header_hash, hint in chunk:
        if origin.mailbox not in mailbox_ids:
            mailbox_ids[origin.mailbox] = _mailbox(connection, scope.account_id, origin.mailbox, origin.epoch)
        mailbox_id = mailbox_ids[origin.mailbox]
        epochs[mailbox_id] = max(origin.epoch, epochs.get(mailbox_id, 0))
        rows[mailbox_id, origin.epoch, uid, occurrence] = (octets, sha256, header_hash, hint or None)
    for mailbox_id, epoch in epochs.items():
        _raise_epoch(connection, mailbox_id, epoch)
    connection.execute(delete(_places))
    many(connection, _ADD, [(*identity, *facts) for identity, facts in rows.items()])


def _mailbox(connection: Connection, account_id: int, name: bytes, epoch: int) -> int:
    here = select(mailboxes.c.id).where(mailboxes.c.account_id == account_id, mailboxes.c.name == name)
    known: int | None = connection.execute(here).scalar()
    if known is None:
        connection.execute(insert(mailboxes).values(account_id=account_id, name=name, epoch=epoch))
        known = connection.execute(here).scalar_one()
    return known


def _raise_epoch(connection: Connection, mailbox_id: int, epoch: int) -> None:
    """A mailbox that was never listed here is in the highest epoch that the archive saw."""
    listed = exists().where(listings.c.mailbox_id == mailbox_id)
    connection.execute(
        update(mailboxes).where(mailboxes.c.id == mailbox_id, mailboxes.c.epoch < epoch, ~listed).values(epoch=epoch)
    )


def _know_messages(connection: Connection) -> None:
    """Rows for messages that have none; octets and state for those that were listed but never fetched."""
    fetched = case(
        (messages.c.state.in_([MessageState.LISTED, MessageState.UNFETCHABLE]), number(MessageState.FETCHED)),
        else_=messages.c.state,
    )
    facts = {name: _places.c[name] for name in ("octets", "sha256", "header_hash")}
    connection.execute(update(messages).values(state=fetched, **facts).where(_identity, messages.c.sha256.is_(None)))
    facts["listed_octets"] = _places.c.octets  # another size in the next listing may mean that the uid was used again
    values = {
        **{name: _places.c[name] for name in ("mailbox_id", "epoch", "uid", "occurrence")},
        "state": number(MessageState.FETCHED),
        "disposal": number(Disposal.KEPT),
        **facts,
    }
    unknown = (
        select(*values.values()).select_from(_places.outerjoin(messages, _identity)).where(messages.c.id.is_(None))
    )
    connection.execute(insert(messages).from_select(list(values), unknown))


def _know_deliveries(connection: Connection, route_id: int) -> int:
    """The archive's having a message is the proof of its delivery, whatever was planned or feared."""
    route = literal(route_id, BigInteger)
    at = literal(int(clock.now().timestamp()), BigInteger)
    here = (deliveries.c.message_id == messages.c.id, deliveries.c.route_id == route_id)
    held = select(messages.c.id).select_from(_places.join(messages, _identical))
    connection.execute(delete(problems).where(problems.c.message_id.in_(held), problems.c.route_id == route_id))
    planned = changed(
        connection,
        update(deliveries)
        .values(state=number(DeliveryState.DELIVERED), at=at, receipt=_places.c.hint)
        .where(*here, _identical, deliveries.c.state.not_in(_CLOSED)),
    )
    values = {
        "message_id": messages.c.id,
        "route_id": route,
        "state": number(DeliveryState.DELIVERED),
        "at": at,
        "receipt": _places.c.hint,
    }
    joined = _places.join(messages, _identical).outerjoin(deliveries, and_(*here))
    unplanned = select(*values.values()).select_from(joined).where(deliveries.c.message_id.is_(None))
    added = changed(connection, insert(deliveries).from_select(list(values), unplanned))
    return planned + added


def _hold_for_a_person(connection: Connection, scope: Scope) -> None:
    """Deliveries to accounts of messages that a ledger before this one may have sent."""
    listed = exists().where(listings.c.mailbox_id == messages.c.mailbox_id)
    for route_id in _to_accounts(scope):
        unknown = (
            select(messages.c.id)
            .select_from(_places.join(messages, _identical))
            .outerjoin(deliveries, and_(deliveries.c.message_id == messages.c.id, deliveries.c.route_id == route_id))
            .where(or_(deliveries.c.message_id.is_(None), deliveries.c.state.in_(_MAY_BE_SENT)), ~listed)
        )
        _hold(connection, scope, route_id, connection.execute(unknown).scalars().all())  # at most a chunk


def hold_found(connection: Connection, scope: Scope, found: Sequence[tuple[int, datetime]]) -> int:
    """The same for messages of an archive that tells of them only when they are fetched: (key, there since when).

    What was there before the first listing of the mailbox in this ledger, another ledger knew; what came after it was
    stored by a run of ours that broke off before it sent anything on. How many deliveries are held.
    """
    begun = connection.execute(
        select(func.min(listings.c.at)).where(listings.c.mailbox_id == scope.mailbox_id)
    ).scalar_one()
    before = [key for key, since in found if to_microseconds(since + TICK) < begun]
    held = 0
    for route_id in _to_accounts(scope):
        for piece in pieces(before):
            planned = select(deliveries.c.message_id).where(
                deliveries.c.message_id.in_(piece),
                deliveries.c.route_id == route_id,
                deliveries.c.state.in_(_MAY_BE_SENT),
            )
            held += _hold(connection, scope, route_id, connection.execute(planned).scalars().all())
    return held


def _to_accounts(scope: Scope) -> list[int]:
    return [route.id for route in scope.routes if route.kind == "account"]


def _hold(connection: Connection, scope: Scope, route_id: int, keys: Sequence[int]) -> int:
    """Hold these deliveries, whatever was planned for them; how many."""
    if not keys:
        return 0
    now = clock.now()
    for table in (deliveries, problems):
        connection.execute(delete(table).where(table.c.route_id == route_id, table.c.message_id.in_(keys)))
    many(connection, _HOLD, [(key, route_id, DeliveryState.HELD, int(now.timestamp())) for key in keys])
    at = to_microseconds(now)
    many(connection, WRITE, [(key, route_id, MAY_BE_SENT, 1, at, at, None, scope.run_id) for key in keys])
    return len(keys)
