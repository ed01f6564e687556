"""The ledger learns what an archive contains already: a new laptop does not start over.

An archive does not tell whether its messages were also sent by SMTP or LMTP. So where the ledger never saw a
listing of the mailbox, such deliveries are held: a person decides whether a whole mailbox is sent again.

An archive has each message under the id that it was fetched by. Where the server has renamed its messages since,
messages of earlier epochs are recognised by their octets, see `epochs`.

Places stream through a temporary table, a thousand to a transaction; each may come again without harm. No row is
taken back: a message that was fetched with other octets than the archive has under its id keeps its row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
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
from syncd.db.ledger.epochs import leave_behind
from syncd.db.ledger.mailboxes import register, rows_of
from syncd.db.ledger.outcomes import NEVER_FETCHED, WRITE
from syncd.db.ledger.scopes import named, of_named
from syncd.db.models import deliveries, extents, listings, mailboxes, messages, planned, problems, routes
from syncd.db.rows import MailboxScope, ProblemKind, RunScope
from syncd.db.states import DeliveryState, Disposal, MessageState, move, moved
from syncd.mail.mailbox import Epoch, Mailbox
from syncd.mail.message import Key, Origin
from syncd.mail.outcome import Place, Repeat

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

_OPEN: Final = (  # the archive proves that it was delivered, whatever was planned or feared; skipped and dropped stay
    DeliveryState.PENDING,
    DeliveryState.SENDING,
    DeliveryState.DEFERRED,
    DeliveryState.REJECTED,
    DeliveryState.UNCERTAIN,
    DeliveryState.HELD,
)

_identity = and_(
    messages.c.mailbox_id == _places.c.mailbox_id,
    messages.c.epoch == _places.c.epoch,
    messages.c.uid == _places.c.uid,
    messages.c.occurrence == _places.c.occurrence,
)
_identical = and_(_identity, messages.c.sha256 == _places.c.sha256)


def seed(
    database: Database, fence: Callable[[Connection], None], scope: RunScope, route_id: int, places: Iterator[Place]
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


_UNPLANNED: Final = select(routes.c.id).where(
    routes.c.id.in_(bindparam("routes", expanding=True)),
    or_(
        exists().where(extents.c.route_id == routes.c.id, extents.c.ask),
        ~exists().where(planned.c.route_id == routes.c.id, of_named(planned.c.mailbox_id)),
    ),
)


def unplanned(connection: Connection, scope: RunScope, route_ids: Collection[int]) -> set[int]:
    """Returns the routes for which no listing of the account was planned, or whose archive is to be asked again."""
    return set(connection.execute(_UNPLANNED, {"routes": list(route_ids), **named(scope)}).scalars())


def _take_in(connection: Connection, scope: RunScope, mailbox_ids: dict[bytes, int], chunk: Sequence[Place]) -> None:
    """Put a chunk into the temporary table; where it names a message twice, the last counts."""
    _know_mailboxes(connection, scope, mailbox_ids, [place.ref.origin for place in chunk])
    rows: dict[tuple[int, int, bytes, int], tuple[Any, ...]] = {}
    epochs: dict[int, Epoch] = {}
    for (origin, uid, occurrence), sha256, octets, header_hash, hint in chunk:
        mailbox_id = mailbox_ids[origin.mailbox]
        epochs[mailbox_id] = max(origin.epoch, epochs.get(mailbox_id, origin.epoch))
        rows[mailbox_id, origin.epoch, uid, occurrence] = (octets, sha256, header_hash, hint or None)
    for mailbox_id, epoch in epochs.items():
        _raise_epoch(connection, mailbox_id, epoch)
    connection.execute(delete(_places))
    many(connection, _ADD, [(*identity, *facts) for identity, facts in rows.items()])


def _know_mailboxes(
    connection: Connection, scope: RunScope, mailbox_ids: dict[bytes, int], origins: Sequence[Origin]
) -> None:
    """Register the mailboxes that are not in `mailbox_ids` yet, and add them."""
    new = {origin.mailbox: origin for origin in origins if origin.mailbox not in mailbox_ids}
    if not new:
        return
    known = rows_of(connection, scope.account_id, list(new))
    unknown = [
        Mailbox(name, origin.path, origin.use, origin.subscribed, validity=origin.epoch)
        for name, origin in new.items()
        if name not in known
    ]
    register(connection, scope.account_id, unknown)
    mailbox_ids.update({name: row.id for name, row in rows_of(connection, scope.account_id, list(new)).items()})


def _raise_epoch(connection: Connection, mailbox_id: int, epoch: Epoch) -> None:
    """A mailbox that was never listed here is in the highest epoch that the archive saw."""
    known = exists().where(listings.c.mailbox_id == mailbox_id)
    connection.execute(
        update(mailboxes).where(mailboxes.c.id == mailbox_id, mailboxes.c.epoch < epoch, ~known).values(epoch=epoch)
    )


def _know_messages(connection: Connection) -> None:
    """Rows for messages that have none; octets and state for those that were listed but never fetched."""
    facts = {name: _places.c[name] for name in ("octets", "sha256", "header_hash")}
    connection.execute(
        update(messages)
        .values(state=moved(messages.c.state, MessageState.FETCHED, only=NEVER_FETCHED), **facts)
        .where(_identity, messages.c.sha256.is_(None))
    )
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
    """The archive has the message, which proves its delivery."""
    route = literal(route_id, BigInteger)
    at = literal(int(clock.now().timestamp()), BigInteger)
    here = (deliveries.c.message_id == messages.c.id, deliveries.c.route_id == route_id)
    stored = select(messages.c.id).select_from(_places.join(messages, _identical))
    connection.execute(delete(problems).where(problems.c.message_id.in_(stored), problems.c.route_id == route_id))
    delivered = move(deliveries.c.state, DeliveryState.DELIVERED, only=_OPEN).values(at=at, receipt=_places.c.hint)
    known = changed(connection, delivered.where(*here, _identical))
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
    return known + added


def _hold_for_a_person(connection: Connection, scope: RunScope) -> None:
    """Hold deliveries, to servers that cannot be asked, of messages that a ledger before this one may have sent."""
    listed = exists().where(listings.c.mailbox_id == messages.c.mailbox_id)
    for route_id in _uncertain_routes(scope):
        unknown = (
            select(messages.c.id)
            .select_from(_places.join(messages, _identical))
            .outerjoin(deliveries, and_(deliveries.c.message_id == messages.c.id, deliveries.c.route_id == route_id))
            .where(or_(deliveries.c.message_id.is_(None), deliveries.c.state.in_(_MAY_BE_SENT)), ~listed)
        )
        _hold(connection, scope, route_id, connection.execute(unknown).scalars().all())  # at most a chunk


def hold_found(connection: Connection, scope: MailboxScope, found: Sequence[tuple[Key, datetime]]) -> int:
    """Hold messages that an archive had already and cannot enumerate: (key, stored there since).

    Messages that were there before the first listing of the mailbox in this ledger may have been sent by another
    ledger; later ones were stored by a run of ours that broke off before it sent them. How many deliveries are held.
    """
    begun = connection.execute(
        select(func.min(listings.c.at)).where(listings.c.mailbox_id == scope.mailbox_id)
    ).scalar_one()
    before = [key for key, since in found if to_microseconds(since + TICK) < begun]
    held = 0
    for route_id in _uncertain_routes(scope.run):
        for piece in pieces(before):
            unsent = select(deliveries.c.message_id).where(
                deliveries.c.message_id.in_(piece),
                deliveries.c.route_id == route_id,
                deliveries.c.state.in_(_MAY_BE_SENT),
            )
            held += _hold(connection, scope.run, route_id, connection.execute(unsent).scalars().all())
    return held


def _uncertain_routes(scope: RunScope) -> list[int]:
    return [route.id for route in scope.routes if route.repeat is Repeat.UNCERTAIN]


def _hold(connection: Connection, scope: RunScope, route_id: int, keys: Sequence[int]) -> int:
    """Hold these deliveries, whatever was planned for them; how many."""
    if not keys:
        return 0
    now = clock.now()
    for table in (deliveries, problems):
        connection.execute(delete(table).where(table.c.route_id == route_id, table.c.message_id.in_(keys)))
    many(connection, _HOLD, [(key, route_id, int(DeliveryState.HELD), int(now.timestamp())) for key in keys])
    at = to_microseconds(now)
    facts = (int(ProblemKind.DELIVERY), "", False, MAY_BE_SENT, 1, at, at, None, scope.run_id)
    many(connection, WRITE, [(key, route_id, *facts) for key in keys])
    return len(keys)
