"""Routes follow the mail: a job that gets another name, or is taken apart, sends nothing again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from sqlalchemy import select

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.models import routes
from syncd.db.routing import DestinationSpec
from syncd.db.rows import AccountRow, JobRow, MailboxScope, RunScope
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.mail.mailbox import MAILDROP
from syncd.mail.outcome import Repeat
from tests.support.ledger import Bench, uids

ME = "me@example.org"


class Desk:
    """A source, two mail servers, and a configuration that changes from run to run."""

    def __init__(self, database: Database) -> None:
        self.catalog = Catalog(database)
        self.bench = Bench(database)
        self.database = database
        self.source = self.catalog.account("road", "pop3", "pop.example.net", "me")
        self.servers = {
            name: self.catalog.account(name, "smtp", f"{name}.example.org", "me") for name in ("relay", "other")
        }

    def retire(self, jobs: Mapping[str, Collection[tuple[str, str]]]) -> None:
        self.catalog.retire(
            {job: [(self.servers[to].fingerprint, target) for to, target in named] for job, named in jobs.items()}
        )

    def job(self, name: str, *named: tuple[str, str], source: AccountRow | None = None) -> MailboxScope:
        """Registered, with a run that has begun."""
        specs = [DestinationSpec("account", self.servers[to].id, target, Repeat.UNCERTAIN) for to, target in named]
        account = source or self.source
        row: JobRow = self.catalog.job(name, account.id, specs, removes=False)
        runs = Runs(self.database)
        run = runs.enqueue(row.id, "hand")
        assert run is not None
        claim = runs.claim(run, Holder.me("a test"))
        assert claim is not None
        runs.finish(claim, RunState.DONE, 0, {})
        scope = RunScope(claim.run_id, claim.generation, row.id, account.id, row.routes)
        return self.bench.known(scope, MAILDROP).scope

    def alone(self, name: str, *named: tuple[str, str]) -> MailboxScope:
        """The only job of the configuration."""
        self.retire({name: named})
        return self.job(name, *named)

    def send(self, scope: MailboxScope, verdicts: str, *names: str) -> None:
        """A run: what is listed is due, and gets these outcomes in order."""
        self.bench.ledger.uncertain.hold_predecessors(scope.run)
        rows = self.bench.work(scope, uids(*names))
        for row, verdict in zip(rows.values(), verdicts, strict=True):
            self.bench.sending(scope, *((row.key, route.id) for route in scope.routes))
            self.bench.commit(scope, row, verdict * len(scope.routes))

    def due(self, scope: MailboxScope, *names: str) -> list[bytes]:
        """What the next run would send of these."""
        self.bench.ledger.uncertain.hold_predecessors(scope.run)
        return list(self.bench.work(scope, uids(*names)))


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def test_a_renamed_job_sends_nothing_again(desk: Desk) -> None:
    before = desk.alone("forward", ("relay", ME))
    desk.send(before, "drl", "a", "b", "c")
    after = desk.alone("onward", ("relay", ME))
    assert [route.id for route in after.routes] == [route.id for route in before.routes]
    assert desk.bench.delivery_states(after) == {b"a": "D", b"b": "R", b"c": "L"}
    assert desk.due(after, "a", "b", "c", "new") == [b"new"]
    assert {row.job for row in desk.bench.ledger.problems()} == {"onward"}
    back = desk.alone("forward", ("relay", ME))
    assert desk.due(back, "a", "b", "c", "new") == [b"new"]


def test_a_recipient_in_other_letters_is_the_same(desk: Desk) -> None:
    before = desk.alone("forward", ("relay", ME))
    desk.send(before, "dd", "a", "b")
    after = desk.alone("forward", ("relay", "Me@Example.ORG"))
    assert desk.due(after, "a", "b") == []
    assert [(route.id, route.target) for route in after.routes] == [(before.routes[0].id, "Me@Example.ORG")]


@pytest.mark.parametrize("first", ["backup", "forward"])
def test_a_destination_that_goes_from_one_job_to_another(desk: Desk, first: str) -> None:
    desk.send(desk.alone("backup", ("relay", ME), ("relay", "you@example.org")), "dd", "a", "b")
    now = {"backup": [("relay", "you@example.org")], "forward": [("relay", ME)]}
    desk.retire(now)
    for name in sorted(now, key=lambda name: name != first):
        assert desk.due(desk.job(name, *now[name]), "a", "b") == []


def test_two_jobs_in_use_are_two_copies(desk: Desk) -> None:
    desk.retire({"one": [("relay", ME)], "two": [("relay", ME)]})
    desk.send(desk.job("one", ("relay", ME)), "d", "a")
    two = desk.job("two", ("relay", ME))
    assert desk.due(two, "a") == [b"a"]


def test_another_source_is_other_mail(desk: Desk) -> None:
    desk.send(desk.alone("forward", ("relay", ME)), "d", "a")
    other = desk.catalog.account("second", "pop3", "pop.example.com", "me")
    desk.retire({"second": [("relay", ME)]})
    assert desk.due(desk.job("second", ("relay", ME), source=other), "a") == [b"a"]


def test_another_account_to_the_same_recipient_is_for_a_person(desk: Desk) -> None:
    before = desk.alone("forward", ("relay", ME))
    desk.send(before, "drul", "a", "b", "c", "d")
    desk.bench.sending(before, *((row.key, row.route_id) for row in desk.bench.ledger.problems() if row.uid == b"d"))
    after = desk.alone("forward", ("other", "ME@example.org"))
    assert desk.due(after, "a", "b", "c", "d", "new") == [b"b", b"new"]
    assert desk.bench.delivery_states(after) == {b"a": "H", b"b": "P", b"c": "H", b"d": "H", b"new": "P"}
    held = [row for row in desk.bench.ledger.problems() if row.route_id == after.routes[0].id]
    assert [row.uid for row in held] == [b"a", b"c", b"d"]
    assert held[0].reason.startswith('it was given to this recipient before, by "relay" for job "forward"')
    desk.bench.ledger.decisions.retry([(held[0].key, held[0].route_id)])
    assert desk.due(after, "a", "b", "c", "d", "new") == [b"a", b"b", b"new"], "and is not held again"


def test_there_and_back_again(desk: Desk) -> None:
    """What the other server was given meanwhile is held, what was open before as well."""
    first = desk.alone("forward", ("relay", ME))
    desk.send(first, "dl", "a", "b")
    other = desk.alone("forward", ("other", ME))
    desk.bench.ledger.uncertain.hold_predecessors(other.run)
    rows = desk.bench.work(other, uids("a", "b", "c"))
    assert list(rows) == [b"b", b"c"]
    for row in rows.values():
        desk.bench.commit(other, row, "d")
    back = desk.alone("forward", ("relay", ME))
    assert desk.due(back, "a", "b", "c", "d") == [b"d"]
    assert desk.bench.delivery_states(back) == {b"a": "D", b"b": "H", b"c": "H", b"d": "P"}
    assert desk.bench.ledger.uncertain.hold_predecessors(back.run) == 0


def test_a_job_that_read_something_else_meanwhile(desk: Desk) -> None:
    """Its route is in use, for other mail: what it once sent of this source is still sent."""
    desk.send(desk.alone("forward", ("relay", ME)), "d", "a")
    other = desk.catalog.account("second", "pop3", "pop.example.com", "me")
    now = [("relay", ME)]
    desk.retire({"forward": now, "road": now})
    desk.job("forward", *now, source=other)
    road = desk.job("road", *now)
    assert desk.due(road, "a", "b") == [b"b"]
    assert desk.bench.delivery_states(road) == {b"a": "H", b"b": "P"}


def test_a_ledger_that_has_both_spellings(desk: Desk) -> None:
    scope = desk.alone("forward", ("relay", ME))
    with desk.database.write() as connection:
        known = connection.execute(select(routes)).one()._asdict()
        values = {**known, "id": known["id"] + 1, "slot": 1, "target": "ME@example.org", "enabled": False}
        connection.execute(routes.insert().values(values))
    for spelling in (ME, "ME@example.org", "mE@example.org"):
        (route,) = desk.alone("forward", ("relay", spelling)).routes
        assert route.target == spelling
    assert scope.routes[0].target == ME
