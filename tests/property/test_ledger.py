"""Random histories of jobs, servers and time: the ledger against a model of a few dictionaries."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd import clock
from syncd.db.database import Database
from syncd.db.ledger import ListingSession
from syncd.db.ledger.backoff import DELIVERY
from syncd.db.rows import MailboxScope, WorkRow
from syncd.errors import MessageRefused
from syncd.mail.listing import Totals
from syncd.mail.mailbox import INBOX, Epoch
from syncd.mail.message import MessageRef, Origin, Uid
from syncd.mail.outcome import Place
from tests.support.ledger import START, Bench, add, all_work, digest, outcome, totals, with_routes

Name = tuple[bytes, int]  # uid, occurrence

UIDS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
MAILDROPS = st.lists(UIDS, max_size=6)
FATES = st.sampled_from(["d", "d", "d", "l", "r", "n", "fail", "-"])  # of a message on a route that waits for it
STEPS = st.sampled_from(["run", "run", "run", "run", "mail", "mail", "time", "seed", "toggle", "widen"])
TIMES = st.sampled_from([0, 60, 3600, 86400])


@dataclass
class Known:
    """What the model knows of a message."""

    state: str = "LISTED"
    fetched: bool = False
    failed: int = 0
    deliveries: dict[int, str] = field(default_factory=dict)  # route → letter, as in Bench.delivery_states
    attempts: Counter[int] = field(default_factory=Counter)
    retry: dict[int, datetime | None] = field(default_factory=dict)


class Model:
    """The rules of listings and outcomes, written down once more in the plainest way."""

    def __init__(self) -> None:
        self.messages: dict[Name, Known] = {}
        self.listed = False
        self.now = START

    def record(self, listed: list[bytes], routes: list[int], *, complete: bool) -> tuple[int, int, int, int]:
        """New, returned, missing, gone."""
        self.listed = True
        seen: Counter[bytes] = Counter()
        names: list[Name] = []
        for uid in listed:
            seen[uid] += 1
            names.append((uid, seen[uid]))
        new = returned = missing = gone = 0
        for name in names:
            if name not in self.messages:
                self.messages[name] = Known()
                new += 1
            known = self.messages[name]
            if known.state in {"MISSING", "GONE"}:
                known.state = "FETCHED" if known.fetched else "UNFETCHABLE" if known.failed else "LISTED"
                returned += 1
            for route in routes:
                known.deliveries.setdefault(route, "P")
        unfetched = [name for name in names if self.messages[name].state == "LISTED"]
        for name, known in self.messages.items():
            if known.state == "MISSING" and known.fetched and len(unfetched) > new:
                continue  # it may be one of those under another name
            if complete and name not in names and known.state != "GONE":
                gone += known.state == "MISSING"
                missing += known.state != "MISSING"
                known.state = "GONE" if known.state == "MISSING" else "MISSING"
        return new, returned, missing, gone

    def due(self, known: Known, route: int) -> bool:
        when = known.retry.get(route)
        if known.deliveries.get(route) == "P":
            return when is None or when <= self.now
        return known.deliveries.get(route) == "L" and when is not None and when <= self.now

    def take(self, known: Known, route: int, fate: str) -> None:
        known.fetched = True
        known.failed = 0
        if known.state in {"LISTED", "UNFETCHABLE"}:
            known.state = "FETCHED"
        if fate == "-":
            return
        known.deliveries[route] = {"d": "D", "l": "L", "r": "R", "n": "P"}[fate]
        if fate == "d":
            known.attempts.pop(route, None)
            known.retry.pop(route, None)
            return
        known.attempts[route] += 1
        tries = known.attempts[route]
        backoff = self.now + DELIVERY[tries - 1] if tries <= len(DELIVERY) else None
        known.retry[route] = {"l": backoff, "r": None, "n": self.now}[fate]

    def fail(self, known: Known) -> None:
        known.failed += 1
        if known.state == "LISTED":
            known.state = "UNFETCHABLE"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One for all examples, each has an account of its own."""
    directory: Path = tmp_path_factory.mktemp("ledger")
    with Database.open(None, directory) as opened:
        yield opened


class History:
    """An account with two jobs, and the model beside it."""

    def __init__(self, database: Database, draw: Any) -> None:
        self.bench = Bench(database, names=_serial)
        first = self.bench.job("as")
        self.scopes = [first, self.bench.job("a", account=first.run.account_id)]
        self.model = Model()
        self.server: list[bytes] = []
        self.draw = draw

    def run(self) -> None:
        """Record a listing with one of the jobs and make outcomes of some of its work; everything is compared."""
        draw, model = self.draw, self.model
        which = draw(st.sampled_from([0, 0, 0, 1]), label="job")
        scope = self.scopes[which]
        kind = draw(st.sampled_from(["sure"] * 5 + ["suspicious", "incomplete"]), label="listing")
        routes = [route.id for route in scope.routes if route.enabled]
        lines = [(uid, 10) for uid in self.server]
        before = {name: known.state for name, known in model.messages.items()}
        with self.bench.ledger.listing(scope) as session:
            add(session, lines)
            if draw(st.booleans(), label="overlap"):
                self.check_overlap(session, before)
            said = totals(lines) if kind != "incomplete" else Totals(len(lines) + 1, 0)
            report = session.record(said, suspicious=kind == "suspicious")
            expected = model.record(self.server, routes, complete=kind == "sure")
            assert (report.new, report.returned, report.missing, report.gone) == expected
            assert (report.listed, report.known) == (len(lines), len(lines) - report.new)
            assert report.overlap == report.known - report.returned
            self.check(scope)
            due = self.check_work(scope, session, routes)
            if report.unchanged:
                assert expected == (0, 0, 0, 0)
                assert not due
            for row in due:
                self.outcome(scope, row)
        self.check(scope)

    def check_overlap(self, session: ListingSession, before: dict[Name, str]) -> None:
        present = {name for name, state in before.items() if state not in {"MISSING", "GONE"}}
        seen = Counter(self.server)
        both = {(uid, nth) for uid, nth in present if nth <= seen[uid]}
        assert session.overlap() == (len(self.server), len(present), len(both))

    def check_work(self, scope: MailboxScope, session: ListingSession, routes: list[int]) -> list[WorkRow]:
        model = self.model
        bits = {route.id: route.bit for route in scope.routes}
        rows = all_work(session, page=2)
        expected = {}
        seen: Counter[bytes] = Counter()
        for number, uid in enumerate(self.server, 1):
            seen[uid] += 1
            known = model.messages[uid, seen[uid]]
            pending = sum(bits[route] for route in routes if model.due(known, route))
            delivered = sum(bits[route] for route in routes if known.deliveries[route] == "D")
            if pending:
                expected[number] = (uid, seen[uid], known.state, known.failed, pending, delivered, known.fetched)
        assert {
            row.number: (
                row.uid,
                row.occurrence,
                row.state.name,
                row.attempts,
                row.pending_mask,
                row.delivered_mask,
                row.sha256 is not None,
            )
            for row in rows
        } == expected
        return rows

    def outcome(self, scope: MailboxScope, row: WorkRow) -> None:
        known = self.model.messages[row.uid, row.occurrence]
        waiting = [route for route in scope.routes if row.pending_mask & route.bit]
        fates = [self.draw(FATES, label=f"fate of {row.uid!r}") for _ in waiting]
        if "fail" in fates:
            self.bench.ledger.commit(scope.run, [], [], [(row.key, MessageRefused("no"))])
            self.model.fail(known)
            return
        outcomes = [
            (route.id, outcome(row.key, fate)) for route, fate in zip(waiting, fates, strict=True) if fate != "-"
        ]
        self.bench.ledger.commit(scope.run, [(row.key, *digest(row.uid * 10))], outcomes, [])
        for route, fate in zip(waiting, fates, strict=True):
            self.model.take(known, route.id, fate)

    def seed(self) -> None:
        """The archive of the first job turns out to hold something."""
        scope = self.scopes[0]
        route = scope.routes[0].id
        found = self.draw(st.lists(UIDS, max_size=3, unique=True), label="seeds")
        origin = Origin(_ACCOUNT, "x", INBOX, Epoch(1))
        places = [Place(MessageRef(origin, Uid(uid), 1), *reordered(uid), "") for uid in found]
        self.bench.ledger.archives.seed(scope.run, route, iter(places))
        accounts = [each.id for each in scope.routes if each.kind == "account"]
        for uid in found:
            known = self.model.messages.setdefault((uid, 1), Known(state="FETCHED"))
            known.fetched = True
            known.state = "FETCHED" if known.state in {"LISTED", "UNFETCHABLE"} else known.state
            known.deliveries[route] = "D"
            known.retry.pop(route, None)
            known.attempts.pop(route, None)
            if not self.model.listed:  # a ledger before this one may have sent it
                known.deliveries |= {account: "H" for account in accounts if account not in known.deliveries}

    def toggle(self) -> None:
        """A destination is taken out of the configuration, or comes back."""
        which = self.draw(st.integers(0, 1), label="job")
        index = self.draw(st.integers(0, len(self.scopes[which].routes) - 1), label="route")
        routes = list(self.scopes[which].routes)
        routes[index] = replace(routes[index], enabled=not routes[index].enabled)
        self.scopes[which] = with_routes(self.scopes[which], *routes)

    def widen(self) -> None:
        """A job gets one more destination."""
        which = self.draw(st.integers(0, 1), label="job")
        self.scopes[which] = self.bench.add_route(self.scopes[which], "s")

    def check(self, scope: MailboxScope) -> None:
        """Every message has exactly one row, in the state of the model, and the accounts agree."""
        model, bench = self.model, self.bench
        shown = {uid + (b"#%d" % nth if nth > 1 else b""): known for (uid, nth), known in model.messages.items()}
        assert bench.states(scope) == {name: known.state for name, known in shown.items()}
        for each in self.scopes:
            assert bench.delivery_states(each) == {
                name: "".join(known.deliveries.get(route.id, ".") for route in each.routes)
                for name, known in shown.items()
            }
        accounts = bench.ledger.accounting(scope.run)
        assert {state.name: count for state, count in accounts.messages.items()} == Counter(
            known.state for known in model.messages.values()
        )
        groups = accounts.due + accounts.waiting_time + accounts.waiting_person + accounts.final
        assert groups == len(model.messages)


def reordered(uid: bytes) -> tuple[bytes, int, bytes]:
    """SHA-256, octets and header hash: the order of a Place."""
    octets, sha256, header_hash = digest(uid * 10)  # as long as its lines say
    return sha256, octets, header_hash


NOT_TOLD = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # the fixture is set anew by each example
_serial = itertools.count(1)
_ACCOUNT = UUID(int=1)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_the_ledger_agrees_with_the_model(database: Database, monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    history = History(database, data.draw)
    monkeypatch.setattr(clock, "now", lambda: history.model.now)
    history.server = data.draw(MAILDROPS, label="maildrop")
    for step in data.draw(st.lists(STEPS, min_size=2, max_size=12), label="steps"):
        match step:
            case "mail":
                history.server = data.draw(MAILDROPS, label="maildrop")
            case "time":
                history.model.now += timedelta(seconds=data.draw(TIMES, label="seconds"))
            case "run":
                history.run()
            case "seed":
                history.seed()
            case "toggle":
                history.toggle()
            case _:
                history.widen()
