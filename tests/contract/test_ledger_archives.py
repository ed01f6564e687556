"""What the ledger knows of an archive's extent.

It grows with what was delivered. An archive that is filled again is to be asked first what it has.
"""

from __future__ import annotations

from uuid import uuid4

import pytest

from syncd.db.catalog import Catalog
from syncd.db.ledger import Ledger
from syncd.db.routing import DestinationSpec
from syncd.db.rows import MailboxScope
from syncd.errors import Conflict
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict
from tests.support.ledger import Bench, uids


def grow(ledger: Ledger, scope: MailboxScope, grown: dict[int, int]) -> None:
    ledger.commit(scope.run, [], [], [], grown=grown)


def test_an_extent_only_grows(bench: Bench) -> None:
    scope = bench.job("aa")
    first, second = (route.id for route in scope.routes)
    assert bench.ledger.archives.extents([first, second]) == {}
    grow(bench.ledger, scope, {first: 100})
    grow(bench.ledger, scope, {first: 90, second: 5_000_000_000})
    assert bench.ledger.archives.extents([first, second]) == {first: 100, second: 5_000_000_000}
    assert bench.ledger.archives.extents([second]) == {second: 5_000_000_000}


def test_it_is_committed_with_what_was_delivered_or_not_at_all(bench: Bench) -> None:
    scope = bench.job("a")
    (route,) = scope.routes
    row = bench.work(scope, uids("a"))[b"a"]
    outcome = (route.id, Outcome(row.key, Verdict.DELIVERED))
    with pytest.raises(Conflict):
        bench.ledger.commit(
            scope.run, [], [(route.id, Outcome(Key(10_000), Verdict.DELIVERED))], [], grown={route.id: 7}
        )
    assert bench.ledger.archives.extents([route.id]) == {}
    bench.ledger.commit(scope.run, [], [outcome], [], grown={route.id: 7})
    assert bench.ledger.archives.extents([route.id]) == {route.id: 7}


def test_an_archive_to_be_filled_again_is_asked_once_more_what_it_holds(bench: Bench) -> None:
    scope = bench.job("aa")
    first, second = scope.routes
    bench.listed(scope, uids("a"))
    grow(bench.ledger, scope, {first.id: 100, second.id: 100})
    assert bench.ledger.archives.unplanned(scope.run, [first.id]) == set()
    bench.refill(first)
    assert bench.ledger.archives.extents([first.id, second.id])[second.id] == 100
    assert bench.ledger.archives.to_ask([first.id, second.id]) == {first.id}
    assert bench.ledger.archives.unplanned(scope.run, [first.id, second.id]) == {first.id}
    grow(bench.ledger, scope, {first.id: 80})
    assert bench.ledger.archives.extents([first.id]) == {first.id: 80}
    assert bench.ledger.archives.to_ask([first.id, second.id]) == set()
    assert bench.ledger.archives.unplanned(scope.run, [first.id]) == set()


def test_an_empty_archive_was_asked_already(bench: Bench) -> None:
    """A run that was killed before its first delivery seeded its ledger again, with sizes that no server lists."""
    scope = bench.job()
    (route,) = scope.routes
    bench.listed(scope, uids("a"))
    grow(bench.ledger, scope, {route.id: 0})
    assert bench.ledger.archives.unplanned(scope.run, [route.id]) == set()
    bench.refill(route)
    grow(bench.ledger, scope, {route.id: 0})
    assert bench.ledger.archives.unplanned(scope.run, [route.id]) == set()


def test_another_archive_in_the_place_of_the_old_one_has_none(bench: Bench) -> None:
    catalog = Catalog(bench.database)
    account = catalog.account("road", "pop3", "pop.example.net", "me")
    archive = catalog.archive("home", "/mail/home", "packs", uuid4())
    (route,) = catalog.job("backup", account.id, [DestinationSpec("archive", archive.id)], removes=False).routes
    ledger = Ledger(bench.database, lambda _: None)
    grow(ledger, bench.job(), {route.id: 100})
    catalog.archive("home", "/mail/home", "packs", uuid4(), refill=True)
    assert ledger.archives.extents([route.id]).get(route.id, 0) == 0
    assert ledger.archives.to_ask([route.id]) == {route.id}
