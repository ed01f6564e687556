"""The server gives every message another id: known messages are recognised by their octets."""

from __future__ import annotations

import pytest

from syncd.db.ledger import Stored
from syncd.db.rows import Freeze, MailboxScope
from syncd.errors import Conflict
from tests.support.ledger import BEGIN, FIRST, Bench, Clock, add, all_work, digest, outcome, totals, uids, was

OLD = uids("a", "b", "c")
NEW = uids("x", "y", "z")


def renamed(bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]]) -> MailboxScope:
    """A first run after the server renamed its messages, up to the fetch."""
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        assert session.overlap().in_both == 0
        bumped = session.bump_epoch(Freeze.RENAMED, "all names are new")
        assert session.scope == bumped
        report = session.record(totals(lines), suspicious=True)
        assert (report.new, report.missing) == (len(lines), 0)
    return bumped


def stored(
    bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]], octets: dict[bytes, bytes]
) -> list[Stored]:
    """What would be fetched now, with the octets of these (old) names."""
    return [(row.key, *digest(octets[row.uid])) for row in bench.work(scope, lines).values() if row.uid in octets]


# --- a new epoch -------------------------------------------------------------------------------------------


def test_a_new_epoch_freezes_removals(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, NEW)
    assert bumped.epoch == 2
    assert bench.ledger.mailboxes.current(scope) == bumped
    assert bench.frozen(scope) == {b"INBOX": "all names are new"}
    assert bench.states(bumped) == {b"x": "LISTED", b"y": "LISTED", b"z": "LISTED"}
    assert set(bench.states(scope, epoch=1).values()) == {"FETCHED"}


def test_overlap_begins_again_with_the_epoch(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, NEW)
    with bench.ledger.listing(bumped) as session:
        add(session, uids("x", "y", "new"))
        assert session.overlap() == (3, 3, 2)


def test_what_the_new_names_do_not_cover_goes_its_way(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, NEW)
    bench.listed(bumped, NEW)
    assert set(bench.states(scope, epoch=1).values()) == {"MISSING"}
    bench.listed(bumped, NEW)
    assert set(bench.states(scope, epoch=1).values()) == {"GONE"}


def test_an_epoch_begins_once(bench: Bench) -> None:
    scope = bench.job()
    with bench.ledger.listing(scope) as one, bench.ledger.listing(scope) as other:
        one.bump_epoch(Freeze.RENAMED, "first")
        with pytest.raises(Conflict):
            other.bump_epoch(Freeze.RENAMED, "second")


# --- recognised --------------------------------------------------------------------------------------------


def test_known_octets_are_not_delivered_again(bench: Bench) -> None:
    scope = bench.job("as")
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, uids("x", "y", "z", "fresh"))
    lines = uids("x", "y", "z", "fresh")
    batch = stored(bench, bumped, lines, {b"x": was(b"c"), b"y": was(b"a"), b"z": was(b"b"), b"fresh": b"fresh"})
    known = bench.ledger.rebind(bumped, batch)
    assert known == {batch[0][0]: 0b11, batch[1][0]: 0b11, batch[2][0]: 0b11}
    assert bench.states(bumped) == {b"x": "FETCHED", b"y": "FETCHED", b"z": "FETCHED", b"fresh": "LISTED"}
    assert bench.delivery_states(bumped) == {b"x": "DD", b"y": "DD", b"z": "DD", b"fresh": "PP"}
    assert set(bench.states(scope, epoch=1).values()) == {"GONE"}
    assert set(bench.work(bumped, lines)) == {b"fresh"}
    one, two = (route.id for route in scope.routes)
    fresh = batch[3]
    bench.ledger.commit(bumped.run, batch, [(one, outcome(fresh[0])), (two, outcome(fresh[0]))], [])
    assert bench.listed(bumped, lines).unchanged


def test_each_route_inherits_what_became_of_it(bench: Bench) -> None:
    scope = bench.job("aass")
    (row,) = bench.work(scope, uids("a")).values()
    bench.sending(scope, (row.key, scope.routes[3].id))
    bench.commit(scope, row, "dlru", octets=was(b"a"), hint="here")
    bumped = renamed(bench, scope, uids("x"))
    batch = stored(bench, bumped, uids("x"), {b"x": was(b"a")})
    ((key, *_),) = batch
    assert bench.ledger.rebind(bumped, batch) == {key: 0b1101}
    assert bench.delivery_states(bumped) == {b"x": "DPRU"}
    assert bench.delivery_states(bumped, epoch=1) == {b"a": "DKRU"}  # the new one waits for the second route
    troubles = bench.troubles()
    assert {about for about in troubles if about[0] == key} == {(key, route.id) for route in scope.routes[2:]}
    (lacking,) = bench.ledger.backfill(bumped.run, FIRST, 10)
    assert (lacking.uid, lacking.hints) == (b"x", {scope.routes[0].id: "here"})


def test_what_another_job_did_is_inherited_too(bench: Bench) -> None:
    scope = bench.job()
    other = bench.job("s", account=scope.run.account_id)
    bench.pull(scope, OLD)
    bench.pull(other, OLD)
    bumped = renamed(bench, scope, NEW)
    bench.ledger.rebind(bumped, stored(bench, bumped, NEW, {b"x": was(b"a")}))
    theirs = bench.ledger.mailboxes.current(other)
    assert set(bench.work(theirs, NEW)) == {b"y", b"z"}
    assert bench.delivery_states(theirs)[b"x"] == "D"


def test_equal_copies_are_bound_one_to_one(bench: Bench) -> None:
    scope = bench.job()
    lines = uids("a", "b")
    for row in bench.work(scope, lines).values():
        bench.commit(scope, row, octets=b"the same")
    bumped = renamed(bench, scope, NEW)
    batch = stored(bench, bumped, NEW, dict.fromkeys([b"x", b"y", b"z"], b"the same"))
    known = bench.ledger.rebind(bumped, batch)
    assert set(known) == {batch[0][0], batch[1][0]}
    assert bench.states(scope, epoch=1) == {b"a": "GONE", b"b": "GONE"}
    assert bench.ledger.rebind(bumped, batch) == {}
    assert bench.delivery_states(bumped) == {b"x": "D", b"y": "D", b"z": "P"}


def test_octets_and_digest_must_both_agree(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, uids("a"))
    bumped = renamed(bench, scope, uids("x"))
    ((key, octets, sha256, header_hash),) = stored(bench, bumped, uids("x"), {b"x": was(b"a")})
    assert bench.ledger.rebind(bumped, [(key, octets + 1, sha256, header_hash)]) == {}
    assert bench.ledger.rebind(bumped, [(key, octets, sha256[::-1], header_hash)]) == {}
    assert set(bench.ledger.rebind(bumped, [(key, octets, sha256, header_hash)])) == {key}


@pytest.mark.parametrize("listings", [0, 1, 3])
def test_binding_goes_on_in_later_runs(bench: Bench, listings: int) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, NEW)
    bench.ledger.rebind(bumped, stored(bench, bumped, NEW, {b"x": was(b"a")}))
    for _ in range(listings):  # the first run broke off; these take the old rows for missing, then gone
        bench.listed(bumped, NEW)
    assert len(bench.ledger.rebind(bumped, stored(bench, bumped, NEW, {b"y": was(b"b"), b"z": was(b"c")}))) == 2
    assert bench.work(bumped, NEW) == {}


def test_binding_goes_on_after_a_person_lifted_the_freeze(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    bumped = renamed(bench, scope, NEW)
    bench.ledger.mailboxes.thaw(scope.run.account_id)
    assert len(bench.ledger.rebind(bumped, stored(bench, bumped, NEW, {b"x": was(b"a")}))) == 1


def test_two_renamings_in_a_row(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    second = renamed(bench, scope, NEW)
    bench.ledger.rebind(second, stored(bench, second, NEW, {b"x": was(b"a")}))
    third = renamed(bench, second, OLD)  # the old names again, in an epoch of their own
    assert third.epoch == 3
    batch = stored(bench, third, OLD, {uid: was(uid) for uid, _ in OLD})
    assert len(bench.ledger.rebind(third, batch)) == 3
    assert bench.states(third) == {b"a": "FETCHED", b"b": "FETCHED", b"c": "FETCHED"}
    assert bench.work(third, OLD) == {}


def test_what_was_long_gone_is_not_bound(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    for _ in range(2):
        bench.listed(scope, uids("b", "c"))
    bumped = renamed(bench, scope, NEW)
    assert bench.ledger.rebind(bumped, stored(bench, bumped, NEW, {b"x": was(b"a")})) == {}


def test_no_epoch_no_binding(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, uids("a"))
    lines = uids("a", "copy")
    fenced = bench.fenced
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        session.record(totals(lines))
        (row,) = all_work(session)
        assert bench.ledger.rebind(scope, [(row.key, *digest(was(b"a")))]) == {}
    assert bench.fenced == fenced + 1  # the listing's alone


# --- some of them ------------------------------------------------------------------------------------------


def test_p06_f17_a_message_that_is_missing_is_known_under_another_name(bench: Bench) -> None:
    """Of fifty messages 49 were renamed and one was not: 49 were sent again."""
    scope = bench.job("as")
    bench.pull(scope, OLD)
    lines = uids("a", "y", "z")
    batch = stored(bench, scope, lines, {b"y": was(b"c"), b"z": was(b"new")})
    assert bench.ledger.rebind(scope, batch) == {batch[0][0]: 0b11}
    assert bench.states(scope) == {
        b"a": "FETCHED",
        b"b": "MISSING",
        b"c": "GONE",
        b"y": "FETCHED",
        b"z": "LISTED",
    }
    assert bench.delivery_states(scope)[b"y"] == "DD"


def test_p06_binding_goes_on_after_a_run_that_broke_off(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    lines = uids("a", "y", "z")
    for _ in range(3):
        bench.listed(scope, lines)
    assert len(bench.ledger.rebind(scope, stored(bench, scope, lines, {b"y": was(b"b"), b"z": was(b"c")}))) == 2


def test_a_copy_of_what_we_removed_is_a_message_of_its_own(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, uids("a"))
    with bench.ledger.listing(scope) as session:
        add(session, uids("a"))
        session.record(totals(uids("a")))
        keys = [row.key for row in session.removable(BEGIN, 10)]
    bench.ledger.removals.mark_removing(scope, keys)
    bench.ledger.removals.mark_removed(keys)
    assert bench.ledger.rebind(scope, stored(bench, scope, uids("b"), {b"b": was(b"a")})) == {}


def test_a_copy_of_what_is_there_is_a_message_of_its_own(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, OLD)
    lines = [*OLD, (b"d", 10)]
    assert bench.ledger.rebind(scope, stored(bench, scope, lines, {b"d": was(b"a")})) == {}


def test_large_batches(bench: Bench, at: Clock) -> None:
    scope = bench.job()
    count = 1200
    bench_lines = uids(*(f"old{number}" for number in range(count)))
    rows = bench.work(scope, bench_lines, page=1000)
    route = scope.routes[0].id
    batch = [(row.key, *digest(b"same" if row.number % 3 == 0 else row.uid)) for row in rows.values()]
    bench.ledger.commit(scope.run, batch, [(route, outcome(row.key)) for row in rows.values()], [])
    lines = uids(*(f"new{number}" for number in range(count)))
    bumped = renamed(bench, scope, lines)
    fetched = list(bench.work(bumped, lines, page=2000).values())
    found = [(new.key, *old[1:]) for new, old in zip(fetched, batch, strict=True)]
    assert len(bench.ledger.rebind(bumped, found)) == count
    assert set(bench.states(scope, epoch=1).values()) == {"GONE"}
    assert set(bench.delivery_states(bumped).values()) == {"D"}
    assert at.now
