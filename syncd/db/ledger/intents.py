"""Intents: where messages are about to be put, for destinations that can be asked for them after a crash (IMAP, mbox).

An intent is written in the transaction that makes its delivery `sending`, and goes with the outcome that says what
became of it. One that is left behind by an uncertain outcome is replaced when the message is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from syncd.db.bulk import many, number, pieces
from syncd.db.ledger.scopes import is_open, of
from syncd.db.models import deliveries, intents, messages, routes
from syncd.db.rows import RunScope
from syncd.db.states import DeliveryState
from syncd.mail.message import ALTERED, Key, plain_hint
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict

_WRITE: Final = insert(intents).values({column.name: bindparam(column.name) for column in intents.c})
_CLEAR: Final = delete(intents).where(
    intents.c.message_id == bindparam("key"), intents.c.route_id == bindparam("route")
)


def write(connection: Connection, outcomes: Sequence[tuple[int, Outcome]]) -> None:
    """Write the intents of what is `sending`, and clear those of what has ended. Told twice is told once."""
    told = [(route_id, outcome) for route_id, outcome in outcomes if outcome.intent is not None]
    if not told:
        return
    many(connection, _CLEAR, [(outcome.key, route_id) for route_id, outcome in told])
    rows = [
        (outcome.key, route_id, *outcome.intent)
        for route_id, outcome in told
        if outcome.verdict is Verdict.SENDING and outcome.intent is not None
    ]
    many(connection, _WRITE, rows)


def find(connection: Connection, scope: RunScope, route_id: int) -> list[Intended]:
    """See `Ledger.intents`."""
    mine = and_(intents.c.message_id == messages.c.id, intents.c.route_id == route_id)
    found = (
        select(messages.c.id, messages.c.octets, messages.c.sha256, messages.c.header_hash, deliveries.c.at)
        .add_columns(intents.c.place, intents.c.validity, intents.c.following)
        .join(deliveries, deliveries.c.message_id == messages.c.id)
        .outerjoin(intents, mine)
        .where(
            deliveries.c.route_id == route_id,
            deliveries.c.state == number(DeliveryState.SENDING),
            is_open,  # then ix_deliveries_open serves
            of(scope),
        )
        .order_by(messages.c.id)
    )
    return [
        Intended(
            Key(row.id),
            row.octets,
            row.sha256,
            row.header_hash,
            None if row.place is None else Intent(row.place, row.validity, row.following),
            datetime.fromtimestamp(row.at, UTC),
        )
        for row in connection.execute(found)
    ]


def receipts(connection: Connection, account_id: int, hints: Collection[str]) -> set[str]:
    """See `Ledger.intents`. Reads every delivery to the account: to be asked after a crash only."""
    ours = select(routes.c.id).where(routes.c.account_id == account_id)
    told = select(deliveries.c.receipt).where(deliveries.c.route_id.in_(ours))
    noted = connection.execute(told.where(deliveries.c.receipt.contains(ALTERED))).scalars()
    found = {plain_hint(hint) for hint in noted}.intersection(hints)
    for piece in pieces(sorted(hints)):
        found.update(connection.execute(told.where(deliveries.c.receipt.in_(piece))).scalars())
    return found
