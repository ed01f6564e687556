"""Removal at the source: only what everyone is done with, the intent first, and what freezes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from syncd.db.models import jobs, routes
from syncd.db.rows import Freeze, MailboxScope, ProblemKind, RemovalRow
from syncd.errors import Conflict, RemovalsFrozen
from tests.support.ledger import BEGIN, START, Bench, Clock, add, box, digest, totals, uids

AB = uids("a", "b")


def removable(bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]], **how: Any) -> list[RemovalRow]:
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        session.record(totals(lines))
        rows: list[RemovalRow] = []
        while page := session.removable(rows[-1].number if rows else BEGIN, 2, **how):
            rows += page
        return rows


def names(bench: Bench, scope: MailboxScope, lines: list[tuple[bytes, int]] = AB, **how: Any) -> list[bytes]:
    found: list[bytes] = [row.uid for row in removable(bench, scope, lines, **how)]
    due = bench.ledger.removals.due(scope.run, **how)
    assert due == ({scope.mailbox_id: len(found)} if found else {})
    return found


# --- who is done -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "done"), [("dd", True), ("d-", False), ("-d", False), ("dl", False), ("dr", False), ("rr", False)]
)
def test_every_route_of_the_job_must_be_done(bench: Bench, verdicts: str, *, done: bool) -> None:
    scope = bench.job("as")
    bench.commit(scope, bench.work(scope, uids("a"))[b"a"], verdicts)
    assert names(bench, scope, uids("a")) == ([b"a"] if done else [])


def test_a_row_says_what_is_verified(bench: Bench) -> None:
    scope = bench.job()
    bench.commit(scope, bench.work(scope, [(b"x", 1), (b"a", 12)])[b"a"], octets=b"Subject: x")
    (row,) = removable(bench, scope, [(b"a", 12), (b"x", 1)])
    _, sha256, header_hash = digest(b"Subject: x")
    assert (row.number, row.uid, row.octets, row.received) == (1, b"a", 12, 10)
    assert (bytes(row.header_hash), bytes(row.sha256)) == (header_hash, sha256)


def test_pages_come_in_the_order_of_the_listing(bench: Bench) -> None:
    scope = bench.job()
    lines = uids(*"edcba")
    bench.pull(scope, lines)
    assert [row.number for row in removable(bench, scope, lines)] == [1, 2, 3, 4, 5]
    assert names(bench, scope, lines) == [b"e", b"d", b"c", b"b", b"a"]


def test_another_job_that_has_not_seen_it_holds_it_back(bench: Bench) -> None:
    scope = bench.job()
    other = bench.job("s", account=scope.run.account_id)
    bench.pull(scope, AB)
    assert names(bench, scope) == []
    bench.listed(other, AB)
    assert names(bench, scope) == []
    assert list(bench.ledger.removals.waits(scope.run).values()) == [2]
    assert bench.ledger.removals.waits(scope.run, apart={other.run.job_id: {scope.mailbox_id}}) == {}
    assert bench.ledger.removals.waits(other.run) == {}, "it has delivered nothing itself"
    bench.pull(other, uids("a"))  # b is missing for it, and open
    bench.pull(other, AB)
    assert names(bench, scope) == [b"a", b"b"]
    assert bench.ledger.removals.waits(scope.run) == {}


def test_a_disabled_job_or_route_holds_nothing_back(bench: Bench) -> None:
    scope = bench.job("as")
    other = bench.job("s", account=scope.run.account_id)
    found = bench.work(scope, AB)
    for row in found.values():
        bench.commit(scope, row, "d-")
    assert names(bench, scope) == []
    bench.change(routes, scope.routes[1].id, enabled=False)
    assert names(bench, scope) == []
    bench.change(jobs, other.run.job_id, enabled=False)
    assert names(bench, scope) == [b"a", b"b"]


def test_a_disabled_job_removes_nothing(bench: Bench) -> None:
    scope = bench.job()
    bench.job("s", account=scope.run.account_id)
    bench.pull(scope, AB)
    bench.change(jobs, scope.run.job_id, enabled=False)
    assert names(bench, scope) == []


def test_only_what_is_listed_now(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    assert names(bench, scope, uids("b")) == [b"b"]


def test_age_counts_from_the_first_delivery(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "d-")
    at.later(days=10)
    bench.commit(scope, row, "-d")
    for days, expected in ((0, []), (1, [b"a"])):
        before = START + timedelta(days=days)
        assert names(bench, scope, uids("a"), delivered_before=before) == expected


def test_f69_time_that_a_clock_leapt_over_is_no_age(bench: Bench, at: Clock) -> None:
    scope, month = bench.job(), timedelta(days=30)
    assert bench.ledger.removals.old_enough(scope.run, month) == START - month
    at.later(days=39)
    assert bench.ledger.removals.old_enough(scope.run, month) == at.now - month
    at.later(days=1)
    assert bench.ledger.removals.old_enough(scope.run, month) == START - month  # in the middle of a run
    scope = bench.begin(scope)
    at.later(days=29)
    assert bench.ledger.removals.old_enough(scope.run, month) == START - month
    at.later(days=1)
    assert bench.ledger.removals.old_enough(scope.run, month) == at.now - month


def test_f69_runs_of_any_job_on_the_account_count_and_no_others(bench: Bench, at: Clock) -> None:
    scope, month = bench.job(), timedelta(days=30)
    other, elsewhere = bench.job(account=scope.run.account_id), bench.job()
    at.later(days=30)
    bench.begin(elsewhere)
    at.later(days=30)
    assert bench.ledger.removals.old_enough(scope.run, month) == START - month
    for _ in range(2):
        other = bench.begin(other)
        at.later(days=30)
    bench.begin(scope)
    assert bench.ledger.removals.old_enough(scope.run, month) == at.now - month


def test_equal_uids_are_removed_one_by_one(bench: Bench) -> None:
    scope = bench.job()
    lines = uids("x", "x")
    bench.commit(scope, bench.work(scope, lines)[b"x#2"])
    assert [row.number for row in removable(bench, scope, lines)] == [2]


# --- the order of steps ------------------------------------------------------------------------------------


def test_intent_act_and_receipt(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    keys = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.removals.mark_removing(scope, keys)
    assert bench.disposals(scope) == {b"a": "REMOVING", b"b": "REMOVING"}
    bench.ledger.removals.mark_removed(keys)
    assert bench.disposals(scope) == {b"a": "REMOVED", b"b": "REMOVED"}
    for _ in range(2):
        bench.listed(scope, [])
    assert bench.states(scope) == {b"a": "GONE", b"b": "GONE"}
    assert bench.ledger.removals.due(scope.run, None) == {}


@pytest.mark.parametrize("farewell", [False, True], ids=["lost", "read"])
@pytest.mark.parametrize("others", [[], uids("new")], ids=["unchanged", "changed"])
def test_what_the_server_kept_is_removed_again(
    bench: Bench, others: list[tuple[bytes, int]], *, farewell: bool
) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    bench.listed(scope, AB)
    keys = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.removals.mark_removing(scope, keys)
    if farewell:
        bench.ledger.removals.mark_removed(keys)
    again = [row.key for row in removable(bench, scope, AB + others)]
    assert again == keys
    bench.ledger.removals.mark_removing(scope, again)
    bench.ledger.removals.mark_removed(again)


def test_what_returns_after_its_removal_is_kept(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    keys = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.removals.mark_removing(scope, keys)
    bench.ledger.removals.mark_removed(keys)
    bench.listed(scope, [])
    bench.listed(scope, AB)
    assert bench.disposals(scope) == {b"a": "KEPT", b"b": "KEPT"}
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED"}


def test_removed_without_the_intent_is_a_conflict(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    keys = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.removals.mark_removing(scope, keys[:1])
    with pytest.raises(Conflict, match="REMOVED"):
        bench.ledger.removals.mark_removed(keys)
    assert bench.disposals(scope) == {b"a": "REMOVING", b"b": "KEPT"}


# --- frozen ------------------------------------------------------------------------------------------------


def test_nothing_is_removed_from_a_frozen_mailbox_until_a_person_lifts_it(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    keys = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.mailboxes.freeze(scope, Freeze.EMPTY, "the maildrop is empty")
    bench.ledger.mailboxes.freeze(scope, Freeze.EMPTY, "something else")
    assert bench.frozen(scope) == {b"INBOX": "the maildrop is empty"}
    assert removable(bench, scope, AB) == []
    assert bench.ledger.removals.due(scope.run, None) == {scope.mailbox_id: 2}
    with pytest.raises(RemovalsFrozen, match="the maildrop is empty"):
        bench.ledger.removals.mark_removing(scope, keys)
    bench.ledger.mailboxes.thaw(scope.run.account_id)
    assert bench.frozen(scope) == {}
    assert names(bench, scope) == [b"a", b"b"]


def test_a_message_that_is_kept_is_frozen_alone(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    first, second = removable(bench, scope, AB)
    bench.ledger.removals.mark_frozen(scope.run, [first.key], "another message under this id")
    assert names(bench, scope) == [b"b"]
    (problem,) = bench.ledger.problems(scope.run.job_id)
    assert (problem.kind, problem.uid, problem.reason, problem.retry_at) == (
        ProblemKind.KEPT,
        b"a",
        "another message under this id",
        None,
    )
    with pytest.raises(Conflict):
        bench.ledger.removals.mark_removing(scope, [first.key])
    bench.ledger.mailboxes.thaw(scope.run.account_id)
    assert names(bench, scope) == [b"a", b"b"]
    assert list(bench.ledger.problems()) == []
    assert second.uid == b"b"


def test_a_frozen_message_is_still_copied(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, AB)
    first, _ = removable(bench, scope, AB)
    bench.ledger.removals.mark_frozen(scope.run, [first.key], "cut short")
    wider = bench.add_route(scope, "s")
    found = bench.work(wider, AB)
    assert (found[b"a"].attempts, found[b"a"].retry_at) == (0, None)
    bench.commit(wider, found[b"a"], "-d")
    assert [problem.reason for problem in bench.ledger.problems()] == ["cut short"]
    bench.fail(wider, found[b"a"].key, "and now this")
    assert [problem.reason for problem in bench.ledger.problems()] == ["and now this"]


# --- several mailboxes -------------------------------------------------------------------------------------


def test_each_mailbox_is_frozen_by_itself(bench: Bench) -> None:
    """The trash is emptied daily, which must not freeze removals from the inbox."""
    scope = bench.job()
    trash = bench.mailbox(scope, box(b"Trash"))
    for each in (scope, trash):
        bench.pull(each, AB)
    keys = [row.key for row in removable(bench, trash, AB)]
    bench.ledger.mailboxes.freeze(trash, Freeze.EMPTY, "it is empty")
    (frozen,) = bench.ledger.mailboxes.frozen(scope.run.account_id)
    assert (frozen.mailbox_id, frozen.name, frozen.path) == (trash.mailbox_id, b"Trash", ("Trash",))
    assert (frozen.why, frozen.reason) == (Freeze.EMPTY, "it is empty")
    assert bench.ledger.removals.due(scope.run, None) == {scope.mailbox_id: 2, trash.mailbox_id: 2}
    assert removable(bench, trash, AB) == []
    with pytest.raises(RemovalsFrozen, match="it is empty"):
        bench.ledger.removals.mark_removing(trash, keys)
    inbox = [row.key for row in removable(bench, scope, AB)]
    bench.ledger.removals.mark_removing(scope, inbox)
    bench.ledger.removals.mark_removed(inbox)
    assert bench.ledger.removals.due(bench.job().run, None) == {}


def test_a_person_lifts_what_is_frozen_in_every_mailbox_of_the_account(bench: Bench) -> None:
    scope, stranger = bench.job(), bench.job()
    boxes = [bench.mailbox(scope, box(name)) for name in (b"INBOX", b"Sent", b"Trash")]
    for each in boxes:
        bench.pull(each, AB)
        first, _ = removable(bench, each, AB)
        bench.ledger.removals.mark_frozen(scope.run, [first.key], "cut short")
    bench.ledger.mailboxes.freeze(boxes[1], Freeze.RENAMED, "all ids are new")
    bench.ledger.mailboxes.freeze(stranger, Freeze.EMPTY, "it is empty")
    bench.ledger.mailboxes.thaw(scope.run.account_id)
    assert bench.frozen(scope) == {}
    assert bench.frozen(stranger) == {b"INBOX": "it is empty"}
    assert [[row.uid for row in removable(bench, each, AB)] for each in boxes] == [[b"a", b"b"]] * 3
    assert list(bench.ledger.problems()) == []


def test_a_job_that_does_not_read_a_mailbox_holds_nothing_back_there(bench: Bench) -> None:
    """A second job on the account read another mailbox alone, and nothing was ever removed."""
    scope = bench.job("a")
    bench.pull(scope, AB)
    other = bench.job("a", account=scope.run.account_id)
    assert names(bench, scope) == []
    assert names(bench, scope, apart={other.run.job_id: {scope.mailbox_id}}) == [b"a", b"b"]
    assert names(bench, scope, apart={other.run.job_id: {scope.mailbox_id + 1}}) == []
    assert names(bench, scope, apart={scope.run.job_id: {scope.mailbox_id}, other.run.job_id: {scope.mailbox_id}}) == []
