"""The engine with a real ledger, a maildrop in memory and the destinations a test wants; no services, no settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import select

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger, Scope
from syncd.db.models import deliveries, doubts, messages
from syncd.db.routing import DestinationSpec
from syncd.db.runs import Runs
from syncd.db.states import DeliveryState, RunState
from syncd.destinations.base import Archive, Destination
from syncd.engine.budget import Budget
from syncd.engine.events import Event, RunReport
from syncd.engine.job import Job, RemovalPolicy, Route
from syncd.engine.run import Run
from syncd.errors import ArchiveMissing
from syncd.mail.message import INBOX
from syncd.sources.base import Source
from tests.fakes.source import MemorySource

MESSAGE_OCTETS = 1 << 20


def mail(count: int) -> dict[bytes, bytes]:
    """Uid → octets."""
    return {b"uid%03d" % n: b"From: a@example.net\r\nSubject: mail %d\r\n\r\ntext\r\n" % n for n in range(1, count + 1)}


def source(engine: Engine) -> MemorySource:
    """The maildrop of an engine whose source is one in memory."""
    assert isinstance(engine.source, MemorySource)
    return engine.source


@dataclass
class Engine:
    """One job; each `run` is a run of its own. Names of destinations are their routes' (archives come first)."""

    database: Database
    source: Source
    destinations: Mapping[str, Destination]
    hold: frozenset[str] = frozenset()
    brake: bool = True
    by_hand: bool = False
    removal: RemovalPolicy | None = None
    lifted: str | None = None
    budget: Budget = field(default_factory=Budget)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.database)
        self.ledger = Ledger(self.database, lambda _: None)
        self.account = self.catalog.account("road", "memory", "host", "me")
        specs = [self._spec(name, destination) for name, destination in self.destinations.items()]
        self.row = self.catalog.job("job", self.account.id, specs, removes=self.removal is not None)
        self.routes = {route.name: route for route in self.row.routes}

    def _spec(self, name: str, destination: Destination) -> DestinationSpec:
        if not hasattr(destination, "read"):
            account = self.catalog.account(name, "smtp", f"{name}.example.net", "me")
            return DestinationSpec("account", account.id, f"{name}@example.net")
        archive: Archive = destination
        with suppress(ArchiveMissing):
            archive.identity()
            row = self.catalog.archive(name, f"/{name}", "packs", archive.identity())
            assert row is not None
            return DestinationSpec("archive", row.id)
        archive.create(uuid4())
        return self._spec(name, archive)

    def prepare(self) -> Run:
        """A run that waits to be executed, by `finish`."""
        run_id = Runs(self.database).start(self.row.id, "hand", Holder.me("a test"))
        mailbox = self.catalog.mailbox(self.account.id, INBOX)
        self.scope = Scope(run_id, self.row.id, self.account.id, mailbox.id, mailbox.epoch, self.row.routes)
        job = Job(
            "job",
            self.row.id,
            self.account,
            mailbox,
            self.source,
            tuple(self._route(name, destination) for name, destination in self.destinations.items()),
            MESSAGE_OCTETS,
            self.removal,
            self.brake,
            self.lifted,
            self.by_hand,
        )
        return Run(job, self.scope, self.ledger, self.budget, self.events.append, lambda: None)

    def _route(self, name: str, destination: Destination) -> Route:
        archive: Archive | None = destination if hasattr(destination, "read") else None
        return Route(self.routes[name], name, destination, archive, hold_uncertain=name in self.hold)

    def run(self) -> RunReport:
        return self.finish(self.prepare())

    def finish(self, run: Run) -> RunReport:
        report = run.execute(run_id=self.scope.run_id)
        Runs(self.database).finish(self.scope.run_id, RunState.DONE, report.exit_code, {})
        return report

    def states(self, name: str) -> dict[str, list[bytes]]:
        """State of a delivery → uids, of one destination."""
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid, deliveries.c.state)
                .join(deliveries, deliveries.c.message_id == messages.c.id)
                .where(deliveries.c.route_id == self.routes[name].id)
                .order_by(messages.c.id)
            ).all()
        states: dict[str, list[bytes]] = {}
        for uid, state in found:
            states.setdefault(DeliveryState(state).name, []).append(bytes(uid))
        return states

    def doubts(self, name: str) -> Counter[bytes]:
        """Uid → recorded uncertain outcomes at one destination."""
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid)
                .join(doubts, doubts.c.message_id == messages.c.id)
                .where(doubts.c.route_id == self.routes[name].id)
            )
            return Counter(bytes(uid) for (uid,) in found)


Make = Callable[..., Engine]
