"""Full accounting: every message is in exactly one group; and the list of problems."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from syncd.db.ledger.backoff import DELIVERY, FETCH
from syncd.db.ledger.problems import PAGE
from syncd.db.rows import Accounting, Freeze, MailboxScope, ProblemKind
from syncd.db.states import DeliveryState, MessageState
from syncd.errors import MessageRefused
from syncd.mail.message import Key
from tests.support.ledger import Bench, Clock, uids, with_routes


def counted(bench: Bench, scope: MailboxScope) -> tuple[int, int, int, int]:
    """Due, time, person, final; and that nothing is left out."""
    found = bench.ledger.accounting(scope.run)
    groups = (found.due, found.waiting_time, found.waiting_person, found.final)
    assert sum(groups) == sum(found.messages.values())
    return groups


def test_nothing(bench: Bench) -> None:
    assert bench.ledger.accounting(bench.job().run) == Accounting({}, {}, 0, 0, 0, 0, 0)


def test_states_are_counted(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    lines = uids(*"abcdef")
    found = bench.work(scope, lines)
    bench.commit(scope, found[b"a"], "dd")
    bench.commit(scope, found[b"b"], "dl")
    bench.commit(scope, found[b"c"], "dr")
    bench.commit(scope, found[b"d"], "d-")
    bench.fail(scope, found[b"e"].key)
    accounts = bench.ledger.accounting(scope.run)
    assert accounts.messages == {MessageState.FETCHED: 4, MessageState.UNFETCHABLE: 1, MessageState.LISTED: 1}
    assert accounts.deliveries == {
        DeliveryState.DELIVERED: 5,
        DeliveryState.DEFERRED: 1,
        DeliveryState.REJECTED: 1,
        DeliveryState.PENDING: 5,
    }
    assert (accounts.listed, accounts.undelivered) == (6, 0)
    assert counted(bench, scope) == (2, 2, 1, 1)  # d f, b e, c, a
    at.later(minutes=5)
    assert counted(bench, scope) == (4, 0, 1, 1)


@pytest.mark.parametrize(
    ("verdicts", "group"),
    [("dd", 3), ("d-", 0), ("--", 0), ("dl", 1), ("ll", 1), ("rl", 1), ("rd", 2), ("rr", 2), ("r-", 0), ("l-", 0)],
)
def test_a_message_is_in_the_first_group_that_fits(bench: Bench, at: Clock, verdicts: str, group: int) -> None:
    scope = bench.job("as")
    bench.commit(scope, bench.work(scope, uids("a"))[b"a"], verdicts)
    assert counted(bench, scope)[group] == 1
    assert at.now


def test_a_delivery_whose_outcome_is_not_known(bench: Bench) -> None:
    scope = bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    bench.sending(scope, (row.key, scope.routes[0].id))
    assert counted(bench, scope) == (1, 0, 0, 0)  # the next run records it
    bench.commit(scope, row, "u")
    assert counted(bench, scope) == (0, 0, 1, 0)


def test_deferred_until_a_person_says_so(bench: Bench, at: Clock) -> None:
    scope = bench.job()
    row = bench.work(scope, uids("a"))[b"a"]
    for _ in range(len(DELIVERY) + 1):
        bench.commit(scope, row, "l")
    assert counted(bench, scope) == (0, 0, 1, 0)
    at.later(days=1000)
    assert counted(bench, scope) == (0, 0, 1, 0)


def test_unfetchable(bench: Bench, at: Clock) -> None:
    scope = bench.job()
    row = bench.work(scope, uids("a"))[b"a"]
    bench.fail(scope, row.key)
    assert counted(bench, scope) == (0, 1, 0, 0)
    at.later(minutes=5)
    assert counted(bench, scope) == (1, 0, 0, 0)
    for _ in FETCH:
        bench.fail(scope, row.key)
    assert counted(bench, scope) == (0, 0, 1, 0)


def test_an_archive_makes_up_for_a_server_that_refuses(bench: Bench) -> None:
    scope = bench.job("as")
    row = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, row, "d-")
    bench.fail(scope, row.key)
    assert counted(bench, scope) == (1, 0, 0, 0)


def test_missing_waits_for_the_next_listing_and_gone_is_final(bench: Bench) -> None:
    scope = bench.job()
    bench.listed(scope, uids("a", "b"))
    bench.listed(scope, uids("a"))
    assert counted(bench, scope) == (1, 1, 0, 0)
    assert bench.ledger.accounting(scope.run).listed == 1
    bench.listed(scope, uids("a"))
    assert counted(bench, scope) == (1, 0, 0, 1)
    assert bench.ledger.accounting(scope.run).messages == {MessageState.LISTED: 1, MessageState.GONE: 1}


def test_gone_but_in_an_archive_is_still_to_be_delivered(bench: Bench) -> None:
    scope = bench.job("as")
    bench.commit(scope, bench.work(scope, uids("a", "b"))[b"a"], "d-")
    for _ in range(2):
        bench.listed(scope, [])
    assert counted(bench, scope) == (1, 0, 0, 1)


def test_pairs_without_a_row_show(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, uids("a", "b"))
    wider = bench.add_route(scope, "s")
    assert bench.ledger.accounting(wider.run).undelivered == 2
    assert counted(bench, wider) == (2, 0, 0, 0)
    off = with_routes(wider, wider.routes[0], replace(wider.routes[1], enabled=False))
    assert counted(bench, off) == (0, 0, 0, 2)


def test_another_epoch_is_another_account(bench: Bench) -> None:
    scope = bench.job()
    bench.pull(scope, uids("a", "b"))
    with bench.ledger.listing(scope) as session:
        bumped = session.bump_epoch(Freeze.RENAMED, "x")
    bench.listed(bumped, uids("c"), suspicious=True)
    assert bench.ledger.accounting(bumped.run).listed == 1
    assert counted(bench, bumped) == (1, 0, 0, 0)


# --- queues ------------------------------------------------------------------------------------------------


def test_a_queue_is_what_goes_on_by_itself_at_a_mail_server(bench: Bench, at: Clock) -> None:
    scope = bench.job("ass")
    one, two = (route.name for route in scope.routes[1:])
    assert bench.ledger.queues(scope.run) == {}
    found = bench.work(scope, uids(*"abcde"))
    assert bench.ledger.queues(scope.run) == {one: 5, two: 5}
    bench.commit(scope, found[b"a"], "ddd")
    bench.commit(scope, found[b"b"], "dlr")
    bench.sending(scope, (found[b"c"].key, scope.routes[1].id))
    bench.commit(scope, found[b"c"], "du-")
    assert bench.ledger.queues(scope.run) == {one: 3, two: 3}
    for _ in range(len(DELIVERY)):
        bench.commit(scope, found[b"b"], "-l-")
    assert bench.ledger.queues(scope.run) == {one: 2, two: 3}
    assert at.now


def test_two_recipients_at_one_mail_server_have_one_queue(bench: Bench) -> None:
    scope = bench.job("ss")
    both = with_routes(scope, *(replace(route, name="relay") for route in scope.routes))
    bench.listed(both, uids("a", "b"))
    assert bench.ledger.queues(both.run) == {"relay": 4}


def test_a_message_that_is_gone_is_in_a_queue_only_if_an_archive_has_it(bench: Bench) -> None:
    scope = bench.job("as")
    bench.commit(scope, bench.work(scope, uids("a", "b"))[b"a"], "d-")
    for _ in range(2):
        bench.listed(scope, [])
    assert bench.ledger.queues(scope.run) == {scope.routes[1].name: 1}


def test_a_problem_of_a_delivery_is_noticed(bench: Bench) -> None:
    scope, other = bench.job("s"), bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    assert not bench.ledger.any_problem(scope.run)
    bench.commit(scope, row, "r")
    assert bench.ledger.any_problem(scope.run)
    assert not bench.ledger.any_problem(other.run)
    bench.ledger.decisions.drop([(row.key, scope.routes[0].id)], scope.run.job_id)
    assert not bench.ledger.any_problem(scope.run)


# --- problems ----------------------------------------------------------------------------------------------


def test_problems_say_what_where_and_when(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    found = bench.work(scope, uids("a", "x"))
    first = at.now
    bench.fail(scope, found[b"a"].key, "-ERR [SYS/TEMP] try later")
    last = at.later(minutes=5)
    bench.fail(scope, found[b"a"].key, "-ERR [SYS/TEMP] try later")
    bench.commit(scope, found[b"x"], "dr")
    fetch, delivery = bench.ledger.problems(scope.run.job_id)
    assert (fetch.key, fetch.mailbox, fetch.uid, fetch.occurrence) == (found[b"a"].key, b"INBOX", b"a", 1)
    assert (fetch.job, fetch.destination, fetch.delivery) == (None, None, None)
    assert (fetch.kind, delivery.kind) == (ProblemKind.FETCH, ProblemKind.DELIVERY)
    assert (fetch.message, fetch.reason) == (MessageState.UNFETCHABLE, "-ERR [SYS/TEMP] try later")
    assert (fetch.attempts, fetch.first_at, fetch.last_at) == (2, first, last)
    assert fetch.retry_at == last + timedelta(hours=1)
    assert fetch.account.startswith("account-")
    assert (delivery.uid, delivery.reason, delivery.retry_at) == (b"x", "because", None)
    assert (delivery.message, delivery.delivery) == (MessageState.FETCHED, DeliveryState.REJECTED)
    assert delivery.job is not None
    assert delivery.job.startswith("job-")
    assert delivery.destination is not None
    assert delivery.destination.startswith("account-")


def test_problems_of_one_job(bench: Bench) -> None:
    scope = bench.job("a")
    other = bench.job("a", account=scope.run.account_id)
    elsewhere = bench.job("a")
    for each, name in ((scope, "a"), (other, "a"), (elsewhere, "b")):
        bench.commit(each, bench.work(each, uids(name))[name.encode()], "l")
    bench.fail(scope, Key(1))
    here, there, far = (each.routes[0].name for each in (scope, other, elsewhere))
    assert [row.destination for row in bench.ledger.problems(scope.run.job_id)] == [None, here]
    assert [row.destination for row in bench.ledger.problems(other.run.job_id)] == [None, there]
    assert [row.destination for row in bench.ledger.problems(elsewhere.run.job_id)] == [far]
    assert len(list(bench.ledger.problems())) == 4


def test_problems_of_many_messages_come_in_pages(bench: Bench) -> None:
    scope = bench.job()
    lines = uids(*(f"{number:05}" for number in range(2 * PAGE)))
    keys = [row.key for row in bench.work(scope, lines, page=5000).values()]
    bench.ledger.commit(scope.run, [], [], [(key, MessageRefused("no")) for key in keys])
    assert [row.key for row in bench.ledger.problems(scope.run.job_id)] == keys


def test_a_message_that_is_gone_has_no_problem_of_its_own(bench: Bench) -> None:
    scope = bench.job()
    bench.fail(scope, bench.work(scope, uids("a"))[b"a"].key)
    for _ in range(2):
        bench.listed(scope, [])
    assert list(bench.ledger.problems()) == []
