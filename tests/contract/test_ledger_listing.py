"""Listings: what is new, absent, returned, doubled, unchanged; and what they leave to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from syncd.db.ledger import Ledger, comparison, matching
from syncd.db.models import listings, messages, planned
from syncd.db.rows import Freeze, MailboxScope, Overlap, Progress
from syncd.db.states import MessageState
from syncd.errors import Conflict, LeaseLost, LedgerError
from syncd.mail.listing import LineNumber, Totals
from tests.support.ledger import BEGIN, START, Bench, Clock, add, all_work, totals, uids, with_routes

ABC = uids("a", "b", "c")


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job()


def rows(bench: Bench) -> int:
    with bench.database.read() as connection:
        return connection.execute(select(func.count()).select_from(listings)).scalar_one()


# --- new, absent, returned ---------------------------------------------------------------------------------


def test_the_first_listing_is_all_new(bench: Bench, scope: MailboxScope) -> None:
    report = bench.listed(scope, ABC)
    assert (report.listed, report.new, report.known, report.overlap, report.unchanged) == (3, 3, 0, 0, False)
    assert bench.states(scope) == {b"a": "LISTED", b"b": "LISTED", b"c": "LISTED"}
    assert bench.delivery_states(scope) == {b"a": "P", b"b": "P", b"c": "P"}


def test_a_message_is_gone_after_two_complete_listings_without_it(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    first = bench.listed(scope, uids("a", "c"))
    assert (first.known, first.overlap, first.missing, first.gone) == (2, 2, 1, 0)
    assert bench.states(scope)[b"b"] == "MISSING"
    second = bench.listed(scope, uids("a", "c"))
    assert (second.missing, second.gone) == (0, 1)
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "GONE", b"c": "FETCHED"}
    with bench.database.read() as connection:
        since = connection.execute(select(messages.c.absent_since).where(messages.c.uid == b"b")).scalar_one()
    assert since == first.id


@pytest.mark.parametrize("absences", [1, 2, 3])
def test_what_returns_is_the_message_it_was(bench: Bench, scope: MailboxScope, absences: int) -> None:
    bench.pull(scope, ABC)
    for _ in range(absences):
        bench.listed(scope, uids("a", "c"))
    report = bench.listed(scope, ABC)
    assert (report.new, report.known, report.overlap, report.returned) == (0, 3, 2, 1)
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED", b"c": "FETCHED"}
    assert bench.work(scope, ABC) == {}


def test_nothing_is_gone_for_good_while_something_listed_before_was_not_fetched(
    bench: Bench, scope: MailboxScope
) -> None:
    """That may be the same message under another name, if a run broke off."""
    bench.pull(scope, uids("a"))
    for _ in range(3):
        bench.listed(scope, uids("x"))
    assert bench.states(scope) == {b"a": "MISSING", b"x": "LISTED"}
    bench.pull(scope, uids("x"))
    bench.listed(scope, uids("x"))
    assert bench.states(scope) == {b"a": "GONE", b"x": "FETCHED"}


def test_what_was_never_fetched_returns_as_it_was(bench: Bench, scope: MailboxScope) -> None:
    found = bench.work(scope, ABC)
    bench.fail(scope, found[b"a"].key)
    bench.listed(scope, [])
    assert set(bench.states(scope).values()) == {"MISSING"}
    bench.listed(scope, ABC)
    assert bench.states(scope) == {b"a": "UNFETCHABLE", b"b": "LISTED", b"c": "LISTED"}


@pytest.mark.parametrize("how", [{"suspicious": True}, {"total": 3}])
def test_an_unsure_listing_takes_nothing_for_absent(bench: Bench, scope: MailboxScope, how: dict[str, Any]) -> None:
    bench.pull(scope, ABC)
    for _ in range(3):
        report = bench.listed(scope, uids("a", "d"), **how)
        assert (report.missing, report.gone, report.unchanged) == (0, 0, False)
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED", b"c": "FETCHED", b"d": "LISTED"}


def test_after_an_unsure_listing_the_same_as_before_is_not_unchanged(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    bench.listed(scope, ABC)
    bench.pull(scope, uids("d"))  # everything else is missing now
    bench.listed(scope, uids("e"), suspicious=True)
    report = bench.listed(scope, uids("d"))
    assert not report.unchanged
    assert bench.states(scope)[b"e"] == "MISSING"


def test_the_listed_size_follows_the_server_until_the_message_is_fetched(bench: Bench, scope: MailboxScope) -> None:
    bench.listed(scope, [(b"a", 10), (b"b", 10)])
    assert bench.listed(scope, [(b"a", 11), (b"b", 10)]).new == 0
    assert sizes(bench) == {b"a": 11, b"b": 10}


def test_an_empty_maildrop(bench: Bench, scope: MailboxScope) -> None:
    assert bench.listed(scope, []).listed == 0
    assert bench.listed(scope, []).unchanged
    bench.pull(scope, ABC)
    assert bench.listed(scope, []).missing == 3


# --- doubled uids ------------------------------------------------------------------------------------------


def test_equal_uids_are_told_apart_by_their_occurrence(bench: Bench, scope: MailboxScope) -> None:
    lines = uids("x", "a", "x", "x")
    assert bench.listed(scope, lines).new == 4
    assert set(bench.work(scope, lines)) == {b"x", b"x#2", b"x#3", b"a"}
    bench.pull(scope, lines)
    report = bench.listed(scope, uids("x", "a", "x"))
    assert (report.new, report.known, report.missing) == (0, 3, 1)
    assert bench.states(scope) == {b"x": "FETCHED", b"a": "FETCHED", b"x#2": "FETCHED", b"x#3": "MISSING"}
    assert bench.listed(scope, uids("x", "x", "x", "x")).new == 1


def test_uids_may_contain_anything(bench: Bench, scope: MailboxScope) -> None:
    odd = [b"\0", b"", b"\xff" * 70, b"'; DROP TABLE messages; --", b"%s?:a", b"a b", b"A", b"a", b"a\0"]
    lines = [(uid, 1) for uid in odd]
    assert bench.pull(scope, lines).new == len(odd)
    assert set(bench.states(scope)) == set(odd)
    assert bench.listed(scope, lines).unchanged


# --- uids that are used again ------------------------------------------------------------------------------


def sizes(bench: Bench) -> dict[bytes, int]:
    """Uid → size as listed."""
    with bench.database.read() as connection:
        found = connection.execute(select(messages.c.uid, messages.c.occurrence, messages.c.listed_octets)).all()
    return {bytes(uid) + (b"#%d" % nth if nth > 1 else b""): octets for uid, nth, octets in found}


def suspected(
    bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]], *others: int
) -> tuple[list[LineNumber], list[LineNumber]]:
    """Record a listing; the server says that of the suspect lines `others` are other messages. Returns these lines."""
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        first = [line.number for line in session.suspects(BEGIN, 100)]
        session.judge([line for line in first if line not in others], [line for line in first if line in others])
        then = [line.number for line in session.suspects(BEGIN, 100)]
        session.judge(then, [])
        assert session.suspects(BEGIN, 100) == []
        session.record(totals(lines))
    return first, then


def fetched(bench: Bench, scope: MailboxScope, *lines: tuple[bytes, int]) -> None:
    """Everything is fetched, with as many octets as it was listed with, and delivered."""
    for row in bench.work(scope, lines).values():
        bench.commit(scope, row, octets=b"%d" % row.octets + b"x" * (row.octets - 2))


def test_p05_a_uid_used_for_another_message_is_a_new_message(bench: Bench, scope: MailboxScope) -> None:
    """It was taken for the one that was known, and never fetched."""
    fetched(bench, scope, (b"a", 10), (b"b", 10))
    again = [(b"a", 20), (b"b", 10)]
    assert suspected(bench, scope, again, 1) == ([1], [2])
    assert bench.states(scope) == {b"a": "MISSING", b"b": "FETCHED", b"a#2": "LISTED"}
    fetched(bench, scope, *again)
    assert [bench.listed(scope, again).unchanged for _ in range(2)] == [False, True]
    assert bench.states(scope) == {b"a": "GONE", b"b": "FETCHED", b"a#2": "FETCHED"}
    for more in ([(b"c", 10)], [(b"c", 10), (b"d", 10)]):
        fetched(bench, scope, *again, *more)
    assert bench.states(scope)[b"a#2"] == "FETCHED"
    assert b"a#3" not in bench.states(scope)


def test_p05_where_the_server_cannot_tell_it_is_fetched(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, (b"a", 10))
    assert set(bench.work(scope, [(b"a", 20)])) == {b"a#2"}


def test_p05_the_same_message_with_another_size_is_known(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, (b"a", 10), (b"b", 10))
    assert suspected(bench, scope, [(b"a", 12), (b"b", 10)]) == ([1], [])
    assert sizes(bench) == {b"a": 12, b"b": 10}
    assert set(bench.states(scope).values()) == {"FETCHED"}
    assert suspected(bench, scope, [(b"a", 10), (b"b", 10)]) == ([], [])  # as it was received


def test_p05_a_counter_that_begins_again(bench: Bench, scope: MailboxScope) -> None:
    """All twenty were known by name, and none was fetched."""
    old = [(b"%d" % number, 10 + number % 3) for number in range(1, 21)]
    fetched(bench, scope, *old)
    for _ in range(2):
        bench.listed(scope, [])
    everything = list(range(1, 21))
    assert suspected(bench, scope, [(uid, 11) for uid, _ in old], *everything) == (everything, [])
    assert sum(state == "LISTED" for state in bench.states(scope).values()) == 20


def test_p05_one_that_is_another_message_makes_all_of_them_suspect(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, (b"1", 10), (b"2", 10), (b"3", 10))
    assert suspected(bench, scope, [(b"1", 10), (b"2", 10), (b"3", 11)], 3) == ([3], [1, 2])


def test_p05_what_we_removed_and_is_listed_again_is_looked_at(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, (b"1", 10), (b"2", 10))
    with bench.ledger.listing(scope) as session:
        add(session, [(b"1", 10), (b"2", 10)])
        session.record(totals([(b"1", 10), (b"2", 10)]))
        keys = [row.key for row in session.removable(BEGIN, 1)]
    bench.ledger.removals.mark_removing(scope, keys)
    bench.ledger.removals.mark_removed(keys)
    assert suspected(bench, scope, [(b"1", 10), (b"2", 10), (b"3", 10)], 1) == ([1], [2])
    assert bench.states(scope)[b"1#2"] == "LISTED"


def test_p02_blank_ids_are_told_apart_by_size(bench: Bench, scope: MailboxScope) -> None:
    """One was deleted elsewhere, a new one came: the new one took the place of a known one."""
    fetched(bench, scope, (b"", 10), (b"", 20), (b"", 30))
    now = [(b"", 20), (b"", 30), (b"", 40)]
    assert suspected(bench, scope, now, 3) == ([3], [1, 2])
    assert bench.states(scope) == {b"": "MISSING", b"#2": "FETCHED", b"#3": "FETCHED", b"#4": "LISTED"}
    fetched(bench, scope, *now)
    assert [bench.listed(scope, now).unchanged for _ in range(2)] == [False, True]
    assert suspected(bench, scope, now[::-1]) == ([], [])
    assert set(bench.states(scope).values()) == {"GONE", "FETCHED"}


def test_p03_equal_ids_and_sizes_are_one_as_good_as_the_other(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, *[(b"x", 10)] * 3)
    assert suspected(bench, scope, [(b"x", 10)] * 2) == ([], [])
    assert bench.states(scope) == {b"x": "FETCHED", b"x#2": "FETCHED", b"x#3": "MISSING"}


def test_new_messages_under_a_uid_in_use_get_occurrences_of_their_own(bench: Bench, scope: MailboxScope) -> None:
    fetched(bench, scope, (b"x", 10), (b"x", 20))
    bench.listed(scope, [(b"x", 20)])
    assert set(bench.work(scope, [(b"x", 20), (b"x", 30), (b"x", 40)])) == {b"x#3", b"x#4"}


def test_in_an_equal_listing_no_line_is_suspect(bench: Bench, scope: MailboxScope) -> None:
    bench.listed(scope, [])
    fetched(bench, scope, (b"1", 10))
    with bench.ledger.listing(scope) as session:
        add(session, [(b"1", 10)])
        assert session.suspects(BEGIN, 10) == []


# --- unchanged ---------------------------------------------------------------------------------------------


def test_an_unchanged_listing_writes_nothing(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    before, transactions = rows(bench), bench.fenced
    report = bench.listed(scope, ABC)
    assert (report.unchanged, report.listed, report.known, report.overlap) == (True, 3, 3, 3)
    assert (report.new, report.missing, report.gone, report.returned) == (0, 0, 0, 0)
    assert report.id is None
    assert (rows(bench), bench.fenced) == (before, transactions)


@pytest.mark.parametrize(
    "other",
    [uids("a", "c", "b"), [(b"a", 10), (b"b", 10), (b"c", 11)], uids("a", "b"), uids("a", "b", "c", "c"), uids("abc")],
    ids=["order", "size", "fewer", "more", "joined"],
)
def test_a_listing_that_differs_at_all_is_not_unchanged(
    bench: Bench, scope: MailboxScope, other: list[tuple[bytes, int]]
) -> None:
    bench.pull(scope, ABC)
    bench.listed(scope, ABC)
    assert not bench.listed(scope, other).unchanged


def test_the_boundaries_of_chunks_mean_nothing(bench: Bench, scope: MailboxScope) -> None:
    lines = uids(*"abcdefg")
    bench.pull(scope, lines)
    for chunk in (1, 3, 100):
        with bench.ledger.listing(scope) as session:
            add(session, lines, chunk)
            assert session.record(totals(lines)).unchanged


def test_a_missing_message_is_seen_to_before_anything_is_unchanged(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    assert [bench.listed(scope, uids("a")).unchanged for _ in range(3)] == [False, False, True]
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "GONE", b"c": "GONE"}


@pytest.mark.parametrize("verdict", ["n", "l", "u"])
def test_open_deliveries_keep_a_listing_from_being_unchanged(bench: Bench, scope: MailboxScope, verdict: str) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    bench.sending(scope, (row.key, scope.routes[0].id))
    bench.commit(scope, row, verdict)
    assert not bench.listed(scope, uids("a")).unchanged


@pytest.mark.parametrize("verdict", ["d", "r"])
def test_deliveries_that_are_done_do_not(bench: Bench, scope: MailboxScope, verdict: str) -> None:
    bench.commit(scope, bench.work(scope, uids("a"))[b"a"], verdict)
    assert bench.listed(scope, uids("a")).unchanged


def test_a_delivery_that_is_being_sent_keeps_a_listing_from_being_unchanged(bench: Bench, scope: MailboxScope) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    bench.sending(scope, (row.key, scope.routes[0].id))
    assert not bench.listed(scope, uids("a")).unchanged


def test_an_unfetchable_message_comes_up_when_its_time_has_come(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    bench.fail(scope, row.key)
    again = bench.work(scope, uids("a"))[b"a"]
    assert (again.state, again.attempts) == (MessageState.UNFETCHABLE, 1)
    assert again.retry_at is not None
    assert again.retry_at > at.now


def test_open_work_of_what_is_gone_does_not_count(bench: Bench, scope: MailboxScope) -> None:
    bench.listed(scope, uids("a"))
    for _ in range(2):
        bench.listed(scope, [])
    assert bench.listed(scope, []).unchanged


def test_a_new_route_gets_every_listed_message(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    bench.listed(scope, uids("a", "b"))  # c is missing
    wider = bench.add_route(scope, "s")
    report = bench.listed(wider, uids("a", "b"))
    assert (report.unchanged, report.new) == (False, 0)
    assert bench.delivery_states(wider) == {b"a": "DP", b"b": "DP", b"c": "D."}
    found = bench.work(wider, uids("a", "b"))
    assert {uid: (row.pending_mask, row.delivered_mask) for uid, row in found.items()} == {b"a": (2, 1), b"b": (2, 1)}
    assert all(row.sha256 for row in found.values())


def test_a_route_that_comes_back_gets_what_it_missed(bench: Bench, scope: MailboxScope) -> None:
    wide = bench.add_route(scope, "s")
    bench.pull(wide, uids("a"))
    bench.pull(scope, uids("a", "b"))
    assert bench.delivery_states(wide) == {b"a": "DD", b"b": "D."}
    assert bench.listed(scope, uids("a", "b")).unchanged
    assert not bench.listed(wide, uids("a", "b")).unchanged
    assert bench.delivery_states(wide) == {b"a": "DD", b"b": "DP"}


def test_a_disabled_route_gets_nothing(bench: Bench) -> None:
    scope = bench.job("as")
    off = with_routes(scope, scope.routes[0], replace(scope.routes[1], enabled=False))
    bench.pull(off, ABC)
    assert set(bench.delivery_states(scope).values()) == {"D."}
    assert bench.listed(off, ABC).unchanged


def test_a_job_without_routes_keeps_account(bench: Bench) -> None:
    scope = bench.job("")
    assert bench.pull(scope, ABC).new == 3
    assert bench.listed(scope, ABC).unchanged


# --- several jobs on one account ---------------------------------------------------------------------------


def test_a_second_job_uses_the_rows_there_are(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job("s", account=scope.run.account_id)
    bench.pull(scope, ABC)
    report = bench.pull(other, ABC)
    assert (report.new, report.known, report.unchanged) == (0, 3, False)
    assert bench.delivery_states(other) == {b"a": "D", b"b": "D", b"c": "D"}
    assert bench.delivery_states(scope) == {b"a": "D", b"b": "D", b"c": "D"}


def test_jobs_in_turn_both_see_that_nothing_changed(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job("s", account=scope.run.account_id)
    for _ in range(2):
        bench.pull(scope, ABC)
        bench.pull(other, ABC)
    for _ in range(3):
        assert bench.listed(scope, ABC).unchanged
        assert bench.listed(other, ABC).unchanged


def test_what_one_job_saw_the_other_has_to_catch_up_with(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job("s", account=scope.run.account_id)
    bench.pull(scope, ABC)
    bench.pull(other, ABC)
    more = uids("a", "b", "c", "d")
    bench.pull(scope, more)
    assert bench.listed(scope, more).unchanged
    report = bench.listed(other, more)
    assert (report.unchanged, report.new) == (False, 0)
    assert bench.delivery_states(other)[b"d"] == "P"


def test_accounts_do_not_see_each_other(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job()
    bench.pull(scope, ABC)
    assert bench.pull(other, ABC).new == 3
    bench.listed(other, [])
    assert set(bench.states(scope).values()) == {"FETCHED"}
    assert bench.listed(scope, ABC).unchanged


# --- overlap -----------------------------------------------------------------------------------------------


def overlap(bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]]) -> Overlap:
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        return session.overlap()


def test_overlap_compares_with_what_was_present(bench: Bench, scope: MailboxScope) -> None:
    assert overlap(bench, scope, ABC) == (3, 0, 0)
    bench.pull(scope, ABC)
    assert overlap(bench, scope, ABC) == (3, 3, 3)
    assert overlap(bench, scope, uids("x", "y")) == (2, 3, 0)
    assert overlap(bench, scope, []) == (0, 3, 0)
    bench.listed(scope, uids("a", "b"))
    assert overlap(bench, scope, uids("b", "c", "d")) == (3, 2, 1)  # c was missing, so it was not present
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED", b"c": "MISSING"}


def test_what_we_removed_is_not_expected(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    with bench.ledger.listing(scope) as session:
        add(session, ABC)
        session.record(totals(ABC))
        keys = [row.key for row in session.removable(BEGIN, 10)]
    bench.ledger.removals.mark_removing(scope, keys)
    bench.ledger.removals.mark_removed(keys[:2])
    assert overlap(bench, scope, []) == (0, 0, 0)


def test_overlap_first_and_record_then_agree(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a", "x", "x"))
    with bench.ledger.listing(scope) as session:
        add(session, uids("x", "b", "x", "x"))
        assert session.overlap() == (4, 3, 2)
        report = session.record(Totals(4, 40))
    assert (report.new, report.known, report.overlap, report.missing) == (2, 2, 2, 1)


def test_a_distrusted_empty_maildrop_is_distrusted_again(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, ABC)
    for _ in range(2):
        with bench.ledger.listing(scope) as session:
            assert session.overlap() == (0, 3, 0)
            assert not session.record(Totals(0, 0), suspicious=True).unchanged


# --- work --------------------------------------------------------------------------------------------------


def test_work_comes_in_pages_in_the_order_of_the_listing(bench: Bench, scope: MailboxScope) -> None:
    lines = uids(*"hgfedcba")
    bench.pull(scope, uids("g", "d"))
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        session.record(totals(lines))
        assert [row.number for row in session.work(BEGIN, 3)] == [1, 3, 4]
        assert [row.number for row in session.work(4, 3)] == [6, 7, 8]
        assert session.work(8, 3) == []
        row = session.work(BEGIN, 1)[0]
    assert (row.uid, row.occurrence, row.octets, row.state) == (b"h", 1, 10, MessageState.LISTED)
    assert (row.sha256, row.attempts, row.retry_at, row.pending_mask, row.delivered_mask) == (None, 0, None, 1, 0)


def test_masks_say_which_routes_wait(bench: Bench, at: Clock) -> None:
    scope = bench.job("aas")
    row = bench.work(scope, uids("a"))[b"a"]
    assert (row.pending_mask, row.delivered_mask) == (0b111, 0)
    bench.commit(scope, row, "dl-")
    row = bench.work(scope, uids("a"))[b"a"]
    assert (row.pending_mask, row.delivered_mask) == (0b100, 0b001)
    at.later(minutes=5)
    row = bench.work(scope, uids("a"))[b"a"]
    assert (row.pending_mask, row.delivered_mask) == (0b110, 0b001)


@pytest.mark.parametrize("verdict", ["n", "l"])
def test_a_time_that_is_set_is_kept(bench: Bench, scope: MailboxScope, at: Clock, verdict: str) -> None:
    row = bench.work(scope, uids("a"))[b"a"]
    retry_at = at.later(hours=3)
    at.now = START
    bench.commit(scope, row, verdict, retry_at=retry_at)
    assert bench.work(scope, uids("a")) == {}
    at.now = retry_at
    assert set(bench.work(scope, uids("a"))) == {b"a"}


def test_outlook_counts_what_will_be_fetched(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    lines = [(b"a", 10), (b"big", 5000), (b"c", 30), (b"d", 40), (b"e", 50)]
    found = bench.work(scope, lines)
    bench.commit(scope, found[b"a"], "d-")  # an archive can give it
    bench.commit(scope, found[b"c"], "-d")  # the account cannot
    bench.fail(scope, found[b"d"].key)
    for minutes, expected in ((0, (2, 80)), (5, (3, 120))):
        at.later(minutes=minutes)
        with bench.ledger.listing(scope) as session:
            add(session, lines)
            session.record(totals(lines))
            assert session.outlook(4999) == expected


# --- safety ------------------------------------------------------------------------------------------------


def test_inv2_a_listing_that_is_not_accounted_for_is_not_recorded(
    bench: Bench, scope: MailboxScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.listed(scope, uids("a"))
    monkeypatch.setattr(matching, "decide", lambda *_: None)
    monkeypatch.setattr(matching, "identify", lambda *_: None)
    monkeypatch.setattr(matching, "_pair", lambda *_, **__: None)
    monkeypatch.setattr(comparison, "insert_new", lambda *_: 1)
    with pytest.raises(LedgerError, match="lists 2 messages, and the ledger has rows for 1 of them"):
        bench.listed(scope, uids("a", "b"))
    monkeypatch.undo()
    assert bench.states(scope) == {b"a": "LISTED"}
    assert bench.listed(scope, uids("a", "b")).new == 1


def test_a_stale_epoch_is_refused(bench: Bench, scope: MailboxScope) -> None:
    bench.listed(scope, ABC)
    with bench.ledger.listing(scope) as session:
        newer = session.bump_epoch(Freeze.RENAMED, "renamed")
    with pytest.raises(Conflict, match="epoch 2"):
        bench.listed(scope, ABC)
    assert bench.listed(newer, ABC).new == 3


def test_the_fence_comes_before_every_write(bench: Bench, scope: MailboxScope) -> None:
    bench.listed(scope, ABC)
    assert bench.fenced == 1

    def lost(_: object) -> None:
        raise LeaseLost("taken over")

    bench.ledger = Ledger(bench.database, lost)
    for act in (
        lambda: bench.listed(scope, uids("d")),
        lambda: bench.ledger.commit(scope.run, [], [], []),
        lambda: bench.ledger.mailboxes.freeze(scope, Freeze.EMPTY, "x"),
        lambda: bench.ledger.report(scope.run, Progress("fetching", {})),
        lambda: bench.ledger.removals.mark_removing(scope, []),
        lambda: bench.ledger.removals.mark_removed([]),
        lambda: bench.ledger.removals.mark_frozen(scope.run, [], "x"),
        lambda: bench.ledger.mailboxes.thaw(scope.run.account_id),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert set(bench.states(scope)) == {b"a", b"b", b"c"}
    assert bench.frozen(scope) == {}


def test_a_listing_that_fails_leaves_nothing(bench: Bench, scope: MailboxScope) -> None:
    with pytest.raises(RuntimeError), bench.ledger.listing(scope) as session:  # noqa: PT012
        add(session, ABC)
        raise RuntimeError("connection lost")
    assert bench.states(scope) == {}
    assert rows(bench) == 0


def test_the_writer_commits_while_the_reader_reads_on(bench: Bench, scope: MailboxScope) -> None:
    with bench.ledger.listing(scope) as session:
        add(session, ABC)
        session.record(totals(ABC))
        first = session.work(BEGIN, 1)[0]
        bench.commit(scope, first)
        assert [row.uid for row in all_work(session)] == [b"b", b"c"]


def plans(bench: Bench) -> dict[int, tuple[int, bytes]]:
    """Route → listing and contents that it was planned from."""
    with bench.database.read() as connection:
        return {row.route_id: (row.listing_id, bytes(row.contents)) for row in connection.execute(select(planned))}


def test_it_is_noted_which_routes_were_planned_from_a_listing(bench: Bench) -> None:
    scope = bench.job("as")
    report = bench.listed(scope, ABC)
    assert report.id is not None
    with bench.database.read() as connection:
        digest = bytes(connection.execute(select(listings.c.digest)).scalar_one())
    assert plans(bench) == {route.id: (report.id, digest) for route in scope.routes}
    narrow = with_routes(scope, scope.routes[0])
    second = bench.listed(narrow, uids("a"))
    assert second.id is not None
    assert {route: listing for route, (listing, _) in plans(bench).items()} == dict(
        zip((route.id for route in scope.routes), (second.id, report.id), strict=True)
    )


@pytest.mark.parametrize("how", [{"suspicious": True}, {"total": 9}])
def test_an_unsure_listing_is_no_plan_to_rely_on(bench: Bench, scope: MailboxScope, how: dict[str, Any]) -> None:
    bench.listed(scope, ABC, **how)
    assert [contents for _, contents in plans(bench).values()] == [b""]


def test_a_route_that_is_planned_from_older_contents_is_planned_again(bench: Bench) -> None:
    """Whatever the mailbox shows: the same lines may have been others in between."""
    scope = bench.job("as")
    bench.pull(scope, ABC)
    narrow = with_routes(scope, scope.routes[0])
    bench.pull(narrow, uids("d"))
    bench.pull(narrow, ABC)
    bench.pull(narrow, ABC)
    assert bench.listed(narrow, ABC).unchanged
    assert bench.listed(scope, ABC).unchanged  # the digest of what both were planned from


def test_what_stays_missing_is_not_counted_again(bench: Bench) -> None:
    """Others wait to be fetched, and one of them may be it under another name."""
    scope = bench.job()
    bench.pull(scope, [(b"a", 10)])
    assert bench.listed(scope, [(b"b", 10)]).missing == 1
    for _ in range(2):
        report = bench.listed(scope, [(b"b", 10)])
        assert (report.missing, report.gone) == (0, 0)
        assert bench.states(scope) == {b"a": "MISSING", b"b": "LISTED"}
