"""A ledger with accounts, jobs and routes, and short ways to say what its tests do to it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Table, insert, select, update

from syncd import clock
from syncd.db import changed
from syncd.db.database import Database
from syncd.db.ledger import Ledger, RouteRow, Scope
from syncd.db.ledger.listing import ListingSession
from syncd.db.models import accounts, archives, deliveries, jobs, mailboxes, messages, problems, routes, runs
from syncd.db.rows import ListingReport, WorkRow
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.destinations.base import Outcome, Verdict
from syncd.errors import MessageRefused
from syncd.mail.message import Receipt
from syncd.sources.base import Listed, Totals

START = datetime(2026, 3, 1, 12, tzinfo=UTC)

Lines = Sequence[tuple[bytes, int]]  # uid, octets


def digest(octets: bytes) -> tuple[int, bytes, bytes]:
    """Octets, SHA-256 and header hash of a message, as the ledger takes them."""
    return len(octets), hashlib.sha256(octets).digest(), hashlib.sha256(octets[:9]).digest()[:8]


def uids(*names: str) -> list[tuple[bytes, int]]:
    """Lines of a listing; each message has ten octets."""
    return [(name.encode(), 10) for name in names]


@dataclass
class Bench:
    """A ledger under test. `fenced` counts the write transactions."""

    database: Database
    fenced: int = 0
    names: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.database, self._fence)

    def _fence(self, connection: Connection) -> None:
        assert connection.in_transaction()
        self.fenced += 1

    def insert(self, table: Table, **values: object) -> int:
        with self.database.write() as connection:
            key = connection.execute(insert(table).values(values)).inserted_primary_key
            assert key is not None
            return int(key[0])

    # --- what the catalog would do ---------------------------------------------------------------------

    def account(self) -> int:
        name = f"account-{next(self.names)}"
        values = {"name": name, "protocol": "pop3", "host": "h", "username": name, "fingerprint": name}
        return self.insert(accounts, uuid=uuid4().bytes, **values)

    def job(self, kinds: str = "a", *, account: int | None = None, epoch: int = 1) -> Scope:
        """A job with a route for each letter: "a" to an archive, "s" to an account; and a run of it."""
        account = account or self.account()
        name = f"job-{next(self.names)}"
        job = self.insert(jobs, name=name, account_id=account, enabled=True, removes=True)
        with self.database.read() as connection:
            known = select(mailboxes.c.id, mailboxes.c.epoch).where(mailboxes.c.account_id == account)
            mailbox = connection.execute(known).first()
        if mailbox is None:
            mailbox_id = self.insert(mailboxes, account_id=account, name=b"INBOX", epoch=epoch)
        else:
            mailbox_id, epoch = mailbox
        run = self.insert(runs, uuid=uuid4().bytes, job_id=job, state=1, trigger="hand", queued_at=0)
        scope = Scope(run, job, account, mailbox_id, epoch, ())
        for kind in kinds:
            scope = self.add_route(scope, kind)
        return scope

    def add_route(self, scope: Scope, kind: str) -> Scope:
        slot = len(scope.routes)
        name = f"place-{next(self.names)}"
        values: dict[str, object] = {"job_id": scope.job_id, "slot": slot, "enabled": True}
        if kind == "a":
            values["archive_id"] = self.insert(archives, uuid=uuid4().bytes, name=name, path="/a", format="packs")
        else:
            values["account_id"] = self.account()
        values["kind"] = "archive" if kind == "a" else "account"
        route = self.insert(routes, **values)
        return replace(scope, routes=(*scope.routes, RouteRow(route, slot, name, str(values["kind"]))))

    def change(self, table: Table, key: int, **values: object) -> None:
        with self.database.write() as connection:
            connection.execute(update(table).where(table.c.id == key).values(values))

    def refill(self, route: RouteRow) -> None:
        with self.database.write() as connection:
            archive_id = connection.execute(select(routes.c.archive_id).where(routes.c.id == route.id)).scalar_one()
            changed.reset(connection, archive_id)

    # --- what the engine would do ----------------------------------------------------------------------

    def listed(
        self, scope: Scope, lines: Lines, *, suspicious: bool = False, total: int | None = None
    ) -> ListingReport:
        """Record a listing; nothing else."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            return session.record(totals(lines, total), suspicious=suspicious)

    def work(self, scope: Scope, lines: Lines, page: int = 3) -> dict[bytes, WorkRow]:
        """Record a listing and read its work in pages; by uid and, from the second on, occurrence."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            report = session.record(totals(lines))
            rows = [] if report.unchanged else all_work(session, page)
        return {row.uid + (b"#%d" % row.occurrence if row.occurrence > 1 else b""): row for row in rows}

    def commit(self, scope: Scope, row: WorkRow, verdicts: str = "d", octets: bytes = b"octets", **facts: Any) -> None:
        """Fetched, and one outcome for each route whose bit is set, by letter: d(elivered), l(ater), r(ejected) …"""
        outcomes = []
        for route, letter in zip(scope.routes, verdicts, strict=False):
            if letter != "-":
                outcomes.append((route.id, outcome(row.key, letter, **facts)))
        self.ledger.commit(scope, [(row.key, *digest(octets))], outcomes, [])

    def sending(self, scope: Scope, *pairs: tuple[int, int]) -> None:
        """The last octets of these (key, route) are about to leave."""
        self.ledger.commit(scope, [], [(route, Outcome(key, Verdict.SENDING)) for key, route in pairs], [])

    def fail(self, scope: Scope, key: int, reason: str = "no such message") -> None:
        self.ledger.commit(scope, [], [], [(key, MessageRefused(reason))])

    def pull(self, scope: Scope, lines: Lines) -> ListingReport:
        """A whole run: everything due is fetched and delivered to every route that waits for it."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            report = session.record(totals(lines))
            for row in all_work(session):
                stored = [(row.key, *digest(row.uid + b"\r\n\r\n"))]
                due = [route for route in scope.routes if row.pending_mask & route.bit]
                self.ledger.commit(scope, stored, [(route.id, outcome(row.key)) for route in due], [])
        return report

    # --- what is so now --------------------------------------------------------------------------------

    def states(self, scope: Scope, *, epoch: int | None = None) -> dict[bytes, str]:
        """Uid → state of the message, in this epoch."""
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, messages.c.occurrence, messages.c.state)
                .where(messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == (epoch or scope.epoch))
                .order_by(messages.c.id)
            )
            return {
                bytes(uid) + (b"#%d" % nth if nth > 1 else b""): MessageState(state).name for uid, nth, state in found
            }

    def disposals(self, scope: Scope) -> dict[bytes, str]:
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, messages.c.disposal).where(messages.c.mailbox_id == scope.mailbox_id)
            )
            return {bytes(uid): Disposal(disposal).name for uid, disposal in found}

    def delivery_states(self, scope: Scope, *, epoch: int | None = None) -> dict[bytes, str]:
        """Uid → first letters of the states of its deliveries on the scope's routes, "." where there is none."""
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, messages.c.occurrence, deliveries.c.route_id, deliveries.c.state)
                .select_from(messages.outerjoin(deliveries, deliveries.c.message_id == messages.c.id))
                .where(messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == (epoch or scope.epoch))
            ).all()
        slots = {route.id: index for index, route in enumerate(scope.routes)}
        shown: dict[bytes, list[str]] = {}
        for uid, nth, route_id, state in found:
            name = bytes(uid) + (b"#%d" % nth if nth > 1 else b"")
            line = shown.setdefault(name, ["."] * len(slots))
            if route_id in slots:
                line[slots[route_id]] = LETTERS[DeliveryState(state)]
        return {name: "".join(line) for name, line in shown.items()}

    def troubles(self) -> dict[tuple[int, int], tuple[str, int, datetime | None]]:
        """(key, route) → reason, attempts, time of the next one."""
        with self.database.read() as connection:
            found = connection.execute(select(problems)).all()
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return {
            (row.message_id, row.route_id): (
                row.reason,
                row.attempts,
                None if row.retry_at is None else epoch + timedelta(microseconds=row.retry_at),
            )
            for row in found
        }


LETTERS = {
    DeliveryState.PENDING: "P",
    DeliveryState.SENDING: "S",
    DeliveryState.DELIVERED: "D",
    DeliveryState.DEFERRED: "L",
    DeliveryState.REJECTED: "R",
    DeliveryState.UNCERTAIN: "U",
    DeliveryState.HELD: "H",
    DeliveryState.SKIPPED: "K",
    DeliveryState.DROPPED: "X",
}
VERDICTS = {
    "d": Verdict.DELIVERED,
    "l": Verdict.DEFERRED,
    "r": Verdict.REJECTED,
    "u": Verdict.UNCERTAIN,
    "n": Verdict.NOT_SENT,
    "s": Verdict.SENDING,
}


def outcome(key: int, letter: str = "d", *, hint: str = "", retry_at: datetime | None = None) -> Outcome:
    """An outcome by its letter; all but "d" have the reason "because"."""
    receipt = Receipt(b"s" * 32, hint) if letter == "d" else None
    return Outcome(key, VERDICTS[letter], receipt, "" if letter == "d" else "because", retry_at)


def add(session: ListingSession, lines: Lines, chunk: int = 4) -> None:
    """Take in the lines in small chunks, numbered from 1."""
    listed = [Listed(number, uid, octets) for number, (uid, octets) in enumerate(lines, 1)]
    for start in range(0, len(listed), chunk):
        session.add(listed[start : start + chunk])


def totals(lines: Lines, messages: int | None = None) -> Totals:
    return Totals(len(lines) if messages is None else messages, sum(octets for _, octets in lines))


def all_work(session: ListingSession, page: int = 1000) -> list[WorkRow]:
    """Every page of work."""
    rows: list[WorkRow] = []
    while found := session.work(rows[-1].number if rows else 0, page):
        rows += found
    return rows


class Clock:
    """`clock.now` for tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def later(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now
