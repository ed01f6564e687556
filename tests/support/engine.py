"""The engine with a real ledger, mailboxes in memory and the destinations a test wants; no services, no settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast
from uuid import uuid4

from sqlalchemy import select

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger
from syncd.db.models import deliveries, messages, uncertain_outcomes
from syncd.db.routing import DestinationSpec
from syncd.db.rows import Freeze, RunScope
from syncd.db.runs import RunRow, Runs
from syncd.db.states import DeliveryState, RunState
from syncd.destinations.base import Archive, Destination
from syncd.engine.budget import Budget
from syncd.engine.context import Slice
from syncd.engine.events import Event, Noted, RunReport
from syncd.engine.job import Job, RemovalPolicy, Route
from syncd.engine.mapping import Paths, Rules
from syncd.engine.run import Run
from syncd.errors import ArchiveMissing
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.sources.base import Source
from tests.fakes.source import MemorySource

MESSAGE_OCTETS = 1 << 20


def mail(count: int) -> dict[bytes, bytes]:
    """Uid → octets."""
    return {b"uid%03d" % n: b"From: a@example.net\r\nSubject: mail %d\r\n\r\ntext\r\n" % n for n in range(1, count + 1)}


def source(engine: Engine) -> MemorySource:
    """The source of an engine that reads mailboxes in memory."""
    assert isinstance(engine.source, MemorySource)
    return engine.source


def _archive(destination: Destination) -> Archive | None:
    """The same destination, if it can be read back."""
    return cast("Archive", destination) if hasattr(destination, "read") else None


def _holder() -> Holder:
    """A process that is no more, so that the next run takes over what a test breaks off."""
    me = Holder.me("a test")
    return replace(me, started=me.started + 1)


@dataclass
class Engine:
    """One job; each `run` is a run of its own. Names of destinations are their routes' (archives come first)."""

    database: Database
    source: Source
    destinations: Mapping[str, Destination]
    hold: frozenset[str] = frozenset()
    brake: bool = True
    by_hand: bool = False
    selection: Selection = EVERYTHING
    removal: RemovalPolicy | None = None
    lifted: Mapping[int, Freeze] = field(default_factory=dict)
    rules: Mapping[str, Rules] = field(default_factory=dict)  # by destination
    budget: Budget = field(default_factory=Budget)
    slice: Slice = field(default_factory=Slice)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.database)
        self.ledger = Ledger(self.database, lambda _: None)
        self.runs = Runs(self.database)
        self.account = self.catalog.account("road", "memory", "host", "me")
        specs = [self._spec(name, destination) for name, destination in self.destinations.items()]
        self.row = self.catalog.job("job", self.account.id, specs, removes=self.removal is not None)
        self.routes = {route.name: route for route in self.row.routes}

    def _spec(self, name: str, destination: Destination) -> DestinationSpec:
        archive = _archive(destination)
        if archive is None:
            account = self.catalog.account(name, "smtp", f"{name}.example.net", "me")
            return DestinationSpec("account", account.id, f"{name}@example.net", destination.repeat)
        with suppress(ArchiveMissing):
            row = self.catalog.archive(name, f"/{name}", "packs", archive.identity())
            return DestinationSpec("archive", row.id, repeat=destination.repeat)
        archive.create(uuid4())
        return self._spec(name, archive)

    @staticmethod
    def take() -> None:
        """Takes the lease of an archive."""

    def prepare(self) -> Run:
        """A run that waits to be executed, by `finish`."""
        self.runs.enqueue(self.row.id, "hand")
        claim = self.runs.claim(self.open_run().id, _holder())
        assert claim is not None, "nobody else works on it"
        self.claim = claim
        scope = RunScope(claim.run_id, claim.generation, self.row.id, self.account.id, self.row.routes)
        self.scope = self.ledger.mailboxes.narrowed(scope, self.selection)
        job = Job(
            "job",
            self.row.id,
            self.account,
            self.source,
            tuple(self._route(name, destination) for name, destination in self.destinations.items()),
            MESSAGE_OCTETS,
            self.removal,
            self.brake,
            self.lifted,
            self.by_hand,
            self.selection,
        )
        return Run(job, self.scope, self.ledger, self.budget, self.events.append, lambda: None, self.slice)

    def _route(self, name: str, destination: Destination) -> Route:
        return Route(
            self.routes[name],
            name,
            destination,
            _archive(destination),
            paths=Paths(self.rules.get(name, Rules())),
            take=self.take,
            hold_uncertain=name in self.hold,
        )

    def run(self) -> RunReport:
        return self.finish(self.prepare())

    def finish(self, run: Run) -> RunReport:
        report = run.execute(before=self.claim.counts)
        self.runs.finish(self.claim, RunState.DONE, report.exit_code, report.counts(self.claim.counts))
        return report

    # --- what is so now --------------------------------------------------------------------------------

    def open_run(self) -> RunRow:
        """The row of the run that is under way."""
        row = self.runs.open_run(self.row.id)
        assert row is not None
        return row

    def notes(self) -> list[str]:
        """The notes so far."""
        return [event.text for event in self.events if isinstance(event, Noted)]

    def frozen(self) -> dict[bytes, Freeze]:
        """Mailbox → why its removals are frozen."""
        return {it.name: it.why for it in self.ledger.mailboxes.frozen(self.account.id)}

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

    def uncertain(self, name: str) -> Counter[bytes]:
        """Uid → recorded uncertain outcomes at one destination."""
        with self.database.read() as connection:
            found = connection.execute(
                select(messages.c.uid)
                .join(uncertain_outcomes, uncertain_outcomes.c.message_id == messages.c.id)
                .where(uncertain_outcomes.c.route_id == self.routes[name].id)
            )
            return Counter(bytes(uid) for (uid,) in found)


Make = Callable[..., Engine]
