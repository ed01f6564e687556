"""The mailboxes of an account: registered as they are listed, compared with what is known, frozen.

A mailbox is its account and its name (the server's octets). Path, special use and subscription are facts about it that
may change. The table `planned` says from which contents the deliveries of each route were planned, so that a mailbox
whose token is unchanged need not be opened. The table `became` says which mailbox of an account it is at a destination.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, insert, select, update

from syncd import clock
from syncd.db.bulk import number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.ledger import work
from syncd.db.ledger.scopes import enabled
from syncd.db.models import became, mailboxes, messages, planned
from syncd.db.rows import Became, Freeze, FrozenMailbox, KnownMailbox, MailboxScope, RunScope
from syncd.db.states import MessageState
from syncd.errors import printable
from syncd.mail.mailbox import Epoch, Mailbox

FIRST_EPOCH: Final = Epoch(1)  # where the ledger counts generations
_NOT_GONE: Final = messages.c.state != number(MessageState.GONE)  # word for word the condition of ix_messages_present
_IS_MISSING: Final = messages.c.state == number(MessageState.MISSING)  # and of ix_messages_missing
_NAMED: Final = select(mailboxes).where(
    mailboxes.c.account_id == bindparam("account"), mailboxes.c.name.in_(bindparam("names", expanding=True))
)
_PRESENT: Final = (
    select(messages.c.mailbox_id, func.count().label("present"))
    .where(messages.c.mailbox_id.in_(bindparam("mailboxes", expanding=True)), _NOT_GONE)
    .group_by(messages.c.mailbox_id)
)
_ALL: Final = select(mailboxes.c.id).where(mailboxes.c.account_id == bindparam("account"))
_SAME_BECAME: Final = (
    became.c.mailbox_id == bindparam("of"),
    became.c.route_id == bindparam("to"),
    became.c.label == bindparam("by"),
)
_UNBECOME: Final = delete(became).where(*_SAME_BECAME)
_BECOME: Final = insert(became).values(mailbox_id=bindparam("of"), route_id=bindparam("to"), label=bindparam("by"))


# --- known and listed ----------------------------------------------------------------------------------


def rows_of(connection: Connection, account_id: int, names: Sequence[bytes]) -> dict[bytes, Row[Any]]:
    """Name → row, of those mailboxes that are known."""
    found: dict[bytes, Row[Any]] = {}
    for piece in pieces(names):
        rows = connection.execute(_NAMED, {"account": account_id, "names": piece})
        found.update({bytes(row.name): row for row in rows})
    return found


def differs(row: Row[Any] | None, mailbox: Mailbox) -> bool:
    """Returns whether a listed mailbox is to be registered, or its facts are to be updated."""
    return row is None or (row.path, row.use, row.subscribed) != _facts(mailbox)


def register(connection: Connection, account_id: int, listed: Sequence[Mailbox]) -> None:
    """Register mailboxes that are new, and update the facts about those that are known."""
    known = rows_of(connection, account_id, [mailbox.name for mailbox in listed])
    for mailbox in listed:
        path, use, subscribed = _facts(mailbox)
        facts = {"path": path, "use": use, "subscribed": subscribed}
        row = known.get(mailbox.name)
        if row is None:
            epoch = FIRST_EPOCH if mailbox.validity is None else mailbox.validity
            connection.execute(insert(mailboxes).values(account_id=account_id, name=mailbox.name, epoch=epoch, **facts))
        elif differs(row, mailbox):
            connection.execute(update(mailboxes).where(mailboxes.c.id == row.id).values(**facts))


def compare(
    connection: Connection, scope: RunScope, listed: Sequence[Mailbox], known: dict[bytes, Row[Any]]
) -> list[KnownMailbox]:
    """Each listed mailbox beside its row, all of which are there."""
    ids = [known[mailbox.name].id for mailbox in listed]
    present = _present(connection, ids)
    planned_with = _planned(connection, scope, ids) if any(mailbox.contents for mailbox in listed) else {}
    open_ids = set[int]()  # a mailbox without a token is always listed
    if planned_with:
        open_ids = _with_open_deliveries(connection, scope, ids) | _with_missing(connection, ids)
    found = []
    for mailbox in listed:
        row = known[mailbox.name]
        same = mailbox.validity is None or mailbox.validity == row.epoch
        found.append(
            KnownMailbox(
                scope=MailboxScope(scope, row.id, mailbox, Epoch(row.epoch)),
                planned=same and bool(mailbox.contents) and planned_with.get(row.id) == {mailbox.contents},
                is_open=row.id in open_ids,
                present=present.get(row.id, 0),
            )
        )
    return found


def find(connection: Connection, scope: RunScope) -> dict[int, MailboxScope]:
    """Every mailbox of the account that is known, by id, in its present epoch."""
    rows = connection.execute(select(mailboxes).where(mailboxes.c.account_id == scope.account_id))
    return {row.id: MailboxScope(scope, row.id, _mailbox(row), Epoch(row.epoch)) for row in rows}


def unlisted(connection: Connection, scope: RunScope, seen: Collection[int]) -> list[MailboxScope]:
    """Mailboxes with messages that are not gone, and that are not among those `seen`."""
    account = {"account": scope.account_id}
    if not set(connection.execute(_ALL, account).scalars()).difference(seen):
        return []
    filled = _ALL.where(exists().where(messages.c.mailbox_id == mailboxes.c.id, _NOT_GONE))
    ids = set(connection.execute(filled, account).scalars()).difference(seen)
    return [one for key, one in sorted(find(connection, scope).items()) if key in ids]


def find_became(connection: Connection, account_id: int, route_id: int) -> dict[tuple[bytes, str], Became]:
    """Name and label → what a mailbox of the account became at the destination of a route."""
    rows = connection.execute(
        select(mailboxes.c.name, became.c.label, became.c.path, became.c.by_use)
        .join(mailboxes, mailboxes.c.id == became.c.mailbox_id)
        .where(became.c.route_id == route_id, mailboxes.c.account_id == account_id)
    )
    return {(bytes(row.name), row.label): Became(tuple(json.loads(row.path)), row.by_use) for row in rows}


def become(connection: Connection, route_id: int, decided: Mapping[tuple[int, str], Became]) -> None:
    """Note what mailboxes, by id and label, become at the destination of a route."""
    rows = [
        {"of": key, "to": route_id, "by": label, "path": json.dumps(path), "by_use": by_use}
        for (key, label), (path, by_use) in decided.items()
    ]
    connection.execute(_UNBECOME, rows)
    connection.execute(_BECOME, rows)


# --- freezes -------------------------------------------------------------------------------------------


def freeze(connection: Connection, mailbox_id: int, why: Freeze, reason: str) -> None:
    """Freeze removals from a mailbox. A mailbox that is frozen keeps its first reason."""
    connection.execute(
        update(mailboxes)
        .where(mailboxes.c.id == mailbox_id, mailboxes.c.frozen_at.is_(None))
        .values(frozen_at=to_microseconds(clock.now()), frozen_why=why, frozen_reason=printable(reason))
    )


def thaw(connection: Connection, mailbox_ids: Collection[int]) -> None:
    """Lift the freezes of these mailboxes."""
    for piece in pieces(list(mailbox_ids)):
        connection.execute(
            update(mailboxes)
            .where(mailboxes.c.id.in_(piece), mailboxes.c.frozen_at.is_not(None))
            .values(frozen_at=None, frozen_why=None, frozen_reason=None)
        )


def frozen(connection: Connection, account_id: int) -> list[FrozenMailbox]:
    """The frozen mailboxes of an account, in the order of their names."""
    rows = connection.execute(
        select(mailboxes)
        .where(mailboxes.c.account_id == account_id, mailboxes.c.frozen_at.is_not(None))
        .order_by(mailboxes.c.name)
    )
    return [
        FrozenMailbox(row.id, bytes(row.name), _path(row), Freeze(row.frozen_why), row.frozen_reason) for row in rows
    ]


def frozen_reason(connection: Connection, mailbox_id: int) -> str | None:
    """Why no message is removed from a mailbox; None if it is not frozen."""
    row = connection.execute(
        select(mailboxes.c.frozen_reason).where(mailboxes.c.id == mailbox_id, mailboxes.c.frozen_at.is_not(None))
    ).first()
    return None if row is None else str(row.frozen_reason)


# --- inside --------------------------------------------------------------------------------------------


def _facts(mailbox: Mailbox) -> tuple[str, str, bool]:
    return json.dumps(mailbox.path), mailbox.use, mailbox.subscribed


def _path(row: Row[Any]) -> tuple[str, ...]:
    return tuple(json.loads(row.path))


def _mailbox(row: Row[Any]) -> Mailbox:
    return Mailbox(bytes(row.name), _path(row), row.use, row.subscribed)


def _present(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Mailbox → messages present."""
    present: dict[int, int] = {}
    for piece in pieces(ids):
        rows = connection.execute(_PRESENT, {"mailboxes": piece})
        present.update({row.mailbox_id: row.present for row in rows})
    return present


def _with_missing(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Returns the mailboxes that miss messages."""
    missing: set[int] = set()
    for piece in pieces(ids):
        some = select(messages.c.mailbox_id).where(messages.c.mailbox_id.in_(piece), _IS_MISSING).distinct()
        missing.update(connection.execute(some).scalars())
    return missing


def _with_open_deliveries(connection: Connection, scope: RunScope, ids: Collection[int]) -> set[int]:
    """Returns the mailboxes with a delivery of the job that may still change by itself; there are few of them."""
    found: set[int] = set(connection.execute(work.open_mailboxes(scope)).scalars())
    return found.intersection(ids)


def _planned(connection: Connection, scope: RunScope, ids: Sequence[int]) -> dict[int, set[bytes]]:
    """Mailbox → the contents that the routes of the job were planned with, empty where one was not planned."""
    wanted = [route.id for route in enabled(scope)]
    found: dict[int, list[bytes]] = {}
    for piece in pieces(ids):
        rows = connection.execute(
            select(planned.c.mailbox_id, planned.c.contents).where(
                planned.c.mailbox_id.in_(piece), planned.c.route_id.in_(wanted)
            )
        )
        for mailbox_id, contents in rows:
            found.setdefault(mailbox_id, []).append(bytes(contents))
    return {key: set(contents) for key, contents in found.items() if len(contents) == len(wanted)}
