"""Messages under new ids: when a server renames all of them, or some, and how known messages are recognised.

`bump` begins an epoch of the mailbox: removals there freeze, and messages that were fetched in earlier epochs become
candidates (disposal FROZEN: the partial index over it finds them). So are fetched messages that are missing now,
anywhere in the account, unless we removed them. `rebind` is asked with each batch that was fetched: a new message with
the octets of a candidate takes over what became of it, so that it is not delivered twice; the candidate becomes GONE,
and deliveries that it still waited for are skipped, as the new row waits for them. Equal copies are bound one to one,
the oldest first.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import BigInteger, Connection, and_, bindparam, delete, exists, insert, select, update

from syncd.db.bulk import many, number, pieces
from syncd.db.ledger.comparison import IS_MISSING, LEAVING
from syncd.db.ledger.mailboxes import freeze
from syncd.db.ledger.outcomes import CLEAR, Stored, store
from syncd.db.models import deliveries, intents, mailboxes, messages, problems, uncertain_outcomes
from syncd.db.rows import Freeze, MailboxScope
from syncd.db.states import DeliveryState, Disposal, MessageState, move, moved
from syncd.errors import Conflict
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key

Head = tuple[Key, int, bytes]  # key, octets as listed, header_hash
_STILL_OPEN: Final = (DeliveryState.PENDING, DeliveryState.DEFERRED)  # what the new row has to do itself

_FROZEN = messages.c.disposal == number(Disposal.FROZEN)  # word for word the condition of ix_messages_frozen
_EPOCH: Final = messages.c.epoch + number(0)  # a sum, so that SQLite takes the small index and not that of all uids
_HERE: Final = messages.c.mailbox_id == mailboxes.c.id
_CANDIDATES: Final = (  # two kinds, each found by an index of its own: of another epoch, and missing in the present one
    and_(_HERE, _FROZEN, mailboxes.c.epoch != _EPOCH),
    and_(
        _HERE,
        IS_MISSING,
        mailboxes.c.epoch == _EPOCH,
        messages.c.sha256.is_not(None),
        messages.c.disposal.not_in([number(state) for state in LEAVING]),
    ),
)
_WITH_CANDIDATES: Final = tuple(  # mailboxes of an account: one look into a small index for each of them
    select(mailboxes.c.id).where(mailboxes.c.account_id == bindparam("account", type_=BigInteger), exists().where(kind))
    for kind in _CANDIDATES
)
_DROP = delete(deliveries).where(
    deliveries.c.message_id == bindparam("new"), deliveries.c.route_id == bindparam("route")
)
_INHERIT = insert(deliveries).values({column.name: bindparam(column.name) for column in deliveries.c})
_INHERIT_PROBLEM = (
    update(problems)
    .values(message_id=bindparam("new"))
    .where(problems.c.message_id == bindparam("old"), problems.c.route_id == bindparam("route"))
)
_INHERIT_INTENT = (  # with the state `sending`: the new row is what the destination is asked about
    update(intents)
    .values(message_id=bindparam("new"))
    .where(intents.c.message_id == bindparam("old"), intents.c.route_id == bindparam("route"))
)
_INHERIT_UNCERTAIN = (
    update(uncertain_outcomes)
    .values(message_id=bindparam("new"))
    .where(uncertain_outcomes.c.message_id == bindparam("old"))
)
_SKIP = move(deliveries.c.state, DeliveryState.SKIPPED, only=(*_STILL_OPEN, DeliveryState.SENDING)).where(
    deliveries.c.message_id == bindparam("old")
)
_RETIRE = (
    move(messages.c.state, MessageState.GONE)
    .values(disposal=moved(messages.c.disposal, Disposal.KEPT))
    .where(messages.c.id == bindparam("old"))
)


def check(connection: Connection, scope: MailboxScope) -> None:
    """Raise Conflict when the mailbox has another epoch than the scope: its rows would be written twice."""
    epoch = current(connection, scope).epoch
    if epoch != scope.epoch:
        raise Conflict(f"the mailbox is in epoch {epoch} by now, this run began in {scope.epoch}; run again")


def current(connection: Connection, scope: MailboxScope) -> MailboxScope:
    """The scope in its mailbox's epoch."""
    epoch = connection.execute(select(mailboxes.c.epoch).where(mailboxes.c.id == scope.mailbox_id)).scalar_one()
    return replace(scope, epoch=epoch)


def bump(
    connection: Connection, scope: MailboxScope, why: Freeze | None, reason: str, to: Epoch | None = None
) -> MailboxScope:
    """Begin another epoch: `to` (UIDVALIDITY), or the next number. Returns the scope to go on with.

    Removals at the mailbox freeze, except with `why=None`: then nothing of it was known. An epoch that the mailbox had
    before may return.
    """
    check(connection, scope)
    bumped = replace(scope, epoch=Epoch(scope.epoch + 1) if to is None else to)
    connection.execute(update(mailboxes).where(mailboxes.c.id == scope.mailbox_id).values(epoch=bumped.epoch))
    if why is not None:
        freeze(connection, scope.mailbox_id, why, reason)
    leave_behind(connection, scope.mailbox_id)
    return bumped


def leave_behind(connection: Connection, mailbox_id: int) -> None:
    """Messages of other epochs of the mailbox that were fetched, and are not gone, may be bound again."""
    epoch = select(mailboxes.c.epoch).where(mailboxes.c.id == mailbox_id).scalar_subquery()
    connection.execute(
        move(messages.c.disposal, Disposal.FROZEN).where(
            messages.c.mailbox_id == mailbox_id,
            messages.c.state != number(MessageState.GONE),
            messages.c.epoch != epoch,
            messages.c.sha256.is_not(None),
        )
    )


def any_candidate(connection: Connection, scope: MailboxScope) -> bool:
    """Returns whether the account has messages that may be bound again."""
    return any(_where_candidates_are(connection, scope))


def rebind(connection: Connection, scope: MailboxScope, stored: Sequence[Stored]) -> dict[Key, int]:
    """Bind known messages; see `Ledger.rebind`."""
    pairs = _pair(connection, scope, stored)
    if not pairs:
        return {}
    store(connection, [row for row in stored if row[0] in pairs])
    inherited = _inherit(connection, pairs)
    olds = [(old,) for old in pairs.values()]
    many(connection, _SKIP, olds)
    many(connection, _RETIRE, olds)
    many(connection, _INHERIT_UNCERTAIN, list(pairs.items()))
    bits = {route.id: route.bit for route in scope.routes}
    return {new: sum(bits.get(route_id, 0) for route_id in inherited[new]) for new in pairs}


def recognise(connection: Connection, scope: MailboxScope, heads: Sequence[Head]) -> dict[Key, int]:
    """Bind messages that were not fetched, by size and header; see `Ledger.recognise`."""
    texts: dict[tuple[int, bytes], set[bytes]] = defaultdict(set)
    columns = (messages.c.octets, messages.c.header_hash, messages.c.sha256)
    places = _where_candidates_are(connection, scope)
    for piece in pieces(heads):
        same = messages.c.header_hash.in_({header for _, _, header in piece})
        for kind, mailbox_ids in zip(_CANDIDATES, places, strict=True):
            candidates = select(*columns).where(mailboxes.c.id.in_(mailbox_ids), kind, same)
            for octets, header, sha256 in connection.execute(candidates) if mailbox_ids else ():
                texts[octets, bytes(header)].add(bytes(sha256))
    stored = [
        (key, octets, sha256, header)
        for key, octets, header in heads
        if len(found := texts[octets, header]) == 1
        for sha256 in found
    ]
    return rebind(connection, scope, stored)


def _where_candidates_are(connection: Connection, scope: MailboxScope) -> list[list[int]]:
    """Returns the mailboxes of the account with candidates, for each of the two kinds: few or none."""
    account = {"account": scope.run.account_id}
    return [list(connection.execute(query, account).scalars()) for query in _WITH_CANDIDATES]


def _pair(connection: Connection, scope: MailboxScope, stored: Sequence[Stored]) -> dict[Key, Key]:
    """Messages never fetched before → the candidates that they are."""
    known: dict[tuple[int, bytes], deque[Key]] = defaultdict(deque)
    fresh: set[int] = set()
    columns = (messages.c.id, messages.c.octets, messages.c.sha256)
    places = _where_candidates_are(connection, scope)
    for piece in pieces(stored):
        same = messages.c.sha256.in_({sha256 for _, _, sha256, _ in piece})
        for kind, mailbox_ids in zip(_CANDIDATES, places, strict=True):
            candidates = select(*columns).where(mailboxes.c.id.in_(mailbox_ids), kind, same).order_by(messages.c.id)
            for old, octets, sha256 in connection.execute(candidates) if mailbox_ids else ():
                if old not in known[octets, bytes(sha256)]:
                    known[octets, bytes(sha256)].append(old)
        unknown = select(messages.c.id).where(messages.c.id.in_([row[0] for row in piece]), messages.c.sha256.is_(None))
        fresh.update(connection.execute(unknown).scalars())
    return {
        key: known[octets, sha256].popleft()
        for key, octets, sha256, _ in stored
        if key in fresh and known[octets, sha256]
    }


def _inherit(connection: Connection, pairs: dict[Key, Key]) -> dict[Key, list[int]]:
    """Copy what became of the old rows to the new ones; new key → routes on which nothing is left to do."""
    heirs = {old: new for new, old in pairs.items()}
    done: dict[Key, list[int]] = defaultdict(list)
    rows, troubles = [], []
    for piece in pieces(list(heirs)):
        what = select(deliveries).where(
            deliveries.c.message_id.in_(piece), deliveries.c.state.not_in([number(state) for state in _STILL_OPEN])
        )
        for old, route_id, *rest in connection.execute(what):
            rows.append((heirs[old], route_id, *rest))
            troubles.append((heirs[old], old, route_id))
            done[heirs[old]].append(route_id)
    mine = [(new, route_id) for new, route_id, *_ in rows]
    many(connection, _DROP, mine)
    many(connection, CLEAR, mine)
    many(connection, _INHERIT, rows)
    many(connection, _INHERIT_PROBLEM, troubles)
    many(connection, _INHERIT_INTENT, troubles)
    return done
