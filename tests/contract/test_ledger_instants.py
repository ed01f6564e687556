"""A clock that was years ahead for one run: nothing waits longer from now than its own rule allows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from syncd.db.instants import SLACK
from syncd.db.ledger import of_account
from syncd.db.ledger.sent import sent_since
from syncd.db.models import runs
from syncd.db.rows import Cause, Suspension
from syncd.db.runs import Runs
from tests.contract.test_ledger_sent import account_of
from tests.support.ledger import START, Bench, Clock, uids

AHEAD = pytest.mark.parametrize(
    "ahead", [timedelta(hours=2), timedelta(days=30), timedelta(days=4000)], ids=["zone", "month", "years"]
)
HOUR = timedelta(hours=1)


@AHEAD
@pytest.mark.parametrize("letter", "ln")
def test_a_delivery_that_was_put_off_then_is_due(bench: Bench, at: Clock, ahead: timedelta, letter: str) -> None:
    scope = bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    at.now = START + ahead
    bench.sending(scope, (row.key, scope.routes[0].id))
    bench.commit(scope, row, letter)
    at.now = START + timedelta(minutes=2)
    assert list(bench.work(scope, uids("a"))) == [b"a"]
    assert bench.ledger.accounting(scope.run).due == 1
    told = [problem.retry_at for problem in bench.ledger.problems()]
    assert told in ([at.now], [])


@AHEAD
def test_a_message_that_could_not_be_fetched_then_is_tried(bench: Bench, at: Clock, ahead: timedelta) -> None:
    scope = bench.job()
    row = bench.work(scope, uids("a"))[b"a"]
    at.now = START + ahead
    bench.fail(scope, row.key)
    at.now = START + timedelta(minutes=2)
    (found,) = bench.work(scope, uids("a")).values()
    assert found.retry_at is not None
    assert found.retry_at <= at.now
    accounts = bench.ledger.accounting(scope.run)
    assert (accounts.due, accounts.waiting_time) == (1, 0)


def test_one_that_waits_for_a_person_goes_on_waiting(bench: Bench, at: Clock) -> None:
    scope = bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    at.now = START + timedelta(days=4000)
    bench.sending(scope, (row.key, scope.routes[0].id))
    bench.commit(scope, row, "r")
    at.now = START
    assert bench.ledger.accounting(scope.run).waiting_person == 1


def test_clocks_may_differ_a_little(bench: Bench, at: Clock) -> None:
    scope = bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    at.now = START + SLACK
    bench.sending(scope, (row.key, scope.routes[0].id))
    bench.commit(scope, row, "l")
    at.now = START
    assert bench.work(scope, uids("a")) == {}


@AHEAD
@pytest.mark.parametrize("cause", list(Cause))
def test_a_suspension_of_then_is_over(bench: Bench, at: Clock, ahead: timedelta, cause: Cause) -> None:
    if ahead < timedelta(days=1) and cause is not Cause.SIGN_IN:
        pytest.skip("so far ahead its rule may have set it")
    subject = of_account(7)
    until = START + ahead + HOUR
    bench.ledger.suspensions.put(subject, Suspension(until, "no", cause, tries=1))
    assert bench.ledger.suspensions.find([subject])[subject].until == at.now
    at.now = START + ahead
    assert bench.ledger.suspensions.find([subject])[subject].until == (
        until if cause is not Cause.SIGN_IN else at.now
    ), "fifteen minutes are what its rule allows"


@pytest.mark.parametrize("days", [30, 4000])
def test_a_run_that_was_put_off_then_may_begin(bench: Bench, at: Clock, days: int) -> None:
    scope = bench.job()
    queue = Runs(bench.database)
    bench.change(runs, scope.run.run_id, state=2)
    run_id = queue.enqueue(scope.run.job_id, "hand", not_before=START + timedelta(days=days))
    row = queue.open_run(scope.run.job_id)
    assert run_id is not None
    assert row is not None
    assert row.not_before == at.now


def test_what_was_sent_then_uses_up_no_limit(bench: Bench, at: Clock) -> None:
    scope = bench.job("s")
    row = bench.work(scope, uids("a"))[b"a"]
    at.now = START + timedelta(days=4000)
    bench.sending(scope, (row.key, scope.routes[0].id))
    bench.commit(scope, row, "d")
    at.now = START
    assert sent_since(bench.database, account_of(bench, scope.routes[0].id), START.timestamp() - 86_400, 10) == []
