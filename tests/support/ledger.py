"""A ledger with accounts, jobs and routes, and short ways to say what its tests do to it."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Table, insert, select, update

from syncd import clock
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.ledger import Ledger, ListingSession
from syncd.db.ledger.archives import reset
from syncd.db.models import accounts, archives, deliveries, jobs, mailboxes, messages, problems, routes, runs
from syncd.db.rows import KnownMailbox, ListingReport, MailboxScope, RouteRow, RunScope, WorkRow
from syncd.db.states import DeliveryState, Disposal, MessageState, RunState
from syncd.errors import MessageRefused
from syncd.mail.listing import LineNumber, Listed, Totals
from syncd.mail.mailbox import INBOX, Epoch, Mailbox
from syncd.mail.message import Key, Receipt, Uid
from syncd.mail.outcome import Outcome, Repeat, Verdict

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGIN = LineNumber(0)  # before the first line of a listing
FIRST = Key(0)  # before the first message of a ledger

Lines = Sequence[tuple[bytes, int]]  # uid, octets


def digest(octets: bytes) -> tuple[int, bytes, bytes]:
    """Octets, SHA-256 and header hash of a message, as the ledger takes them."""
    return len(octets), hashlib.sha256(octets).digest(), hashlib.sha256(octets[:9]).digest()[:8]


def was(name: bytes) -> bytes:
    """The octets that `Bench.pull` stores of a message of this name."""
    return name + b"\r\n\r\n"


def uids(*names: str) -> list[tuple[bytes, int]]:
    """Lines of a listing; each message has ten octets."""
    return [(name.encode(), 10) for name in names]


def box(name: bytes = INBOX, **facts: Any) -> Mailbox:
    """A mailbox as a source lists it."""
    return Mailbox(name, (name.decode(),), **facts)


def with_routes(scope: MailboxScope, *routes_: RouteRow) -> MailboxScope:
    """The same scope for these routes."""
    return replace(scope, run=replace(scope.run, routes=routes_))


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

    # --- what catalog and queue would do ---------------------------------------------------------------

    def account(self) -> int:
        name = f"account-{next(self.names)}"
        values = {"name": name, "protocol": "pop3", "host": "h", "username": name, "fingerprint": name}
        return self.insert(accounts, uuid=uuid4().bytes, **values)

    def job(self, kinds: str = "a", *, account: int | None = None, epoch: int = 1) -> MailboxScope:
        """A job with a route for each letter, and a run of it that works on the mailbox INBOX.

        Letters: "a" to an archive; "s" to an account that leaves deliveries uncertain, "q" to one that can be asked.
        """
        account = account or self.account()
        job = self.insert(jobs, name=f"job-{next(self.names)}", account_id=account, enabled=True, removes=True)
        run = RunScope(self._run(job), 1, job, account, ())
        scope = self.mailbox(run, box(), epoch=epoch)
        for kind in kinds:
            scope = self.add_route(scope, kind)
        return scope

    def mailbox(self, run: RunScope | MailboxScope, mailbox: Mailbox, *, epoch: int = 1) -> MailboxScope:
        """A mailbox of the account, known from now on."""
        run = run.run if isinstance(run, MailboxScope) else run
        with self.database.read() as connection:
            here = (mailboxes.c.account_id == run.account_id, mailboxes.c.name == mailbox.name)
            known = connection.execute(select(mailboxes.c.id, mailboxes.c.epoch).where(*here)).first()
        if known is not None:
            return MailboxScope(run, known.id, mailbox, Epoch(known.epoch))
        listed = mailbox if epoch == 1 else mailbox._replace(validity=Epoch(epoch))
        fenced = self.fenced
        scope = replace(self.known(run, listed).scope, mailbox=mailbox)
        self.fenced = fenced  # what a test counts comes later
        return scope

    def known(self, run: RunScope | MailboxScope, mailbox: Mailbox) -> KnownMailbox:
        """The ledger's knowledge of a mailbox that a source lists."""
        (known,) = self.ledger.mailboxes.known(run.run if isinstance(run, MailboxScope) else run, [mailbox])
        return known

    def add_route(self, scope: MailboxScope, kind: str) -> MailboxScope:
        slot = len(scope.routes)
        name = f"place-{next(self.names)}"
        repeat = {"a": Repeat.SAFE, "s": Repeat.UNCERTAIN, "q": Repeat.ASKED}[kind]
        values: dict[str, object] = {"job_id": scope.run.job_id, "slot": slot, "enabled": True, "repeat": repeat.value}
        if kind == "a":
            facts = {"path": "/a", "format": "packs", "made": True}
            values["archive_id"] = self.insert(archives, uuid=uuid4().bytes, name=name, **facts)
        else:
            values["account_id"] = self.account()
        values["kind"] = "archive" if kind == "a" else "account"
        route = RouteRow(self.insert(routes, **values), slot, name, str(values["kind"]), repeat=repeat)
        return with_routes(scope, *scope.routes, route)

    def begin(self, scope: MailboxScope) -> MailboxScope:
        """The next run of the job begins now."""
        self.change(runs, scope.run.run_id, state=RunState.DONE)
        return replace(scope, run=replace(scope.run, run_id=self._run(scope.run.job_id)))

    def _run(self, job: int) -> int:
        at = to_microseconds(clock.now())
        values = {"state": RunState.RUNNING, "trigger": "hand", "queued_at": at, "started_at": at, "generation": 1}
        return self.insert(runs, uuid=uuid4().bytes, job_id=job, **values)

    def change(self, table: Table, key: int, **values: object) -> None:
        with self.database.write() as connection:
            connection.execute(update(table).where(table.c.id == key).values(values))

    def refill(self, route: RouteRow) -> None:
        with self.database.write() as connection:
            archive_id = connection.execute(select(routes.c.archive_id).where(routes.c.id == route.id)).scalar_one()
            reset(connection, archive_id)

    # --- what the engine would do ----------------------------------------------------------------------

    def listed(
        self, scope: MailboxScope, lines: Lines, *, suspicious: bool = False, total: int | None = None
    ) -> ListingReport:
        """Record a listing; nothing else."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            return session.record(totals(lines, total), suspicious=suspicious)

    def work(self, scope: MailboxScope, lines: Lines, page: int = 3) -> dict[bytes, WorkRow]:
        """Record a listing and read its work in pages; by uid and, from the second on, occurrence."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            report = session.record(totals(lines))
            rows = [] if report.unchanged else all_work(session, page)
        return {row.uid + (b"#%d" % row.occurrence if row.occurrence > 1 else b""): row for row in rows}

    def commit(
        self, scope: MailboxScope, row: WorkRow, verdicts: str = "d", octets: bytes = b"octets", **facts: Any
    ) -> None:
        """Fetched, and one outcome for each route whose bit is set, by letter: d(elivered), l(ater), r(ejected) …"""
        outcomes = []
        for route, letter in zip(scope.routes, verdicts, strict=False):
            if letter != "-":
                outcomes.append((route.id, outcome(row.key, letter, **facts)))
        self.ledger.commit(scope.run, [(row.key, *digest(octets))], outcomes, [])

    def sending(self, scope: MailboxScope, *pairs: tuple[Key, int]) -> None:
        """The last octets of these (key, route) are about to leave."""
        self.ledger.commit(scope.run, [], [(route, Outcome(key, Verdict.SENDING)) for key, route in pairs], [])

    def fail(self, scope: MailboxScope, key: Key, reason: str = "no such message") -> None:
        self.ledger.commit(scope.run, [], [], [(key, MessageRefused(reason))])

    def pull(self, scope: MailboxScope, lines: Lines) -> ListingReport:
        """A whole visit: everything due is fetched and delivered to every route that waits for it."""
        with self.ledger.listing(scope) as session:
            add(session, lines)
            report = session.record(totals(lines))
            for row in all_work(session):
                stored = [(row.key, *digest(was(row.uid)))]
                due = [route for route in scope.routes if row.pending_mask & route.bit]
                self.ledger.commit(scope.run, stored, [(route.id, outcome(row.key)) for route in due], [])
        return report

    # --- what is so now --------------------------------------------------------------------------------

    def states(self, scope: MailboxScope, *, epoch: int | None = None) -> dict[bytes, str]:
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

    def disposals(self, scope: MailboxScope) -> dict[bytes, str]:
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, messages.c.disposal).where(messages.c.mailbox_id == scope.mailbox_id)
            )
            return {bytes(uid): Disposal(disposal).name for uid, disposal in found}

    def delivery_states(self, scope: MailboxScope, *, epoch: int | None = None) -> dict[bytes, str]:
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
        return {
            (row.message_id, row.route_id): (
                row.reason,
                row.attempts,
                None if row.retry_at is None else from_microseconds(row.retry_at),
            )
            for row in found
        }

    def frozen(self, scope: MailboxScope) -> dict[bytes, str]:
        """Mailbox → why its removals are frozen."""
        return {it.name: it.reason for it in self.ledger.mailboxes.frozen(scope.run.account_id)}


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


def outcome(
    key: Key,
    letter: str = "d",
    *,
    hint: str = "",
    retry_at: datetime | None = None,
    code: str = "",
    loop: bool = False,
) -> Outcome:
    """An outcome by its letter; all but "d" have the reason "because"."""
    receipt = Receipt(b"s" * 32, hint) if letter == "d" else None
    return Outcome(key, VERDICTS[letter], receipt, "" if letter == "d" else "because", retry_at, code, loop)


def add(session: ListingSession, lines: Lines, chunk: int = 4) -> None:
    """Take in the lines in small chunks, numbered from 1."""
    listed = [Listed(LineNumber(number), Uid(uid), octets) for number, (uid, octets) in enumerate(lines, 1)]
    for start in range(0, len(listed), chunk):
        session.add(listed[start : start + chunk])


def totals(lines: Lines, messages: int | None = None) -> Totals:
    return Totals(len(lines) if messages is None else messages, sum(octets for _, octets in lines))


def all_work(session: ListingSession, page: int = 1000) -> list[WorkRow]:
    """Every page of work."""
    rows: list[WorkRow] = []
    while found := session.work(rows[-1].number if rows else BEGIN, page):
        rows += found
    return rows


class Steps(threading.Event):
    """The pauses of a thread that renews leases: each ends when a test says so. `pauses` are their seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self._reached, self._over = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        self._reached.release()
        self._over.acquire()
        return self.is_set()

    def set(self) -> None:
        super().set()
        self._over.release()

    def wait_for_pause(self) -> None:
        """Until the thread has done what it does and pauses."""
        assert self._reached.acquire(timeout=300), "the thread does not come to its next pause"

    def go_on(self) -> None:
        """The pause is over."""
        self._over.release()


class Clock:
    """`clock.now` for tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def later(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now
