"""When a mailbox is asked a second time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from syncd import clock
from syncd.destinations.imap import late
from syncd.destinations.imap.late import AGAIN_S, LOOK_S, RECENT, Late, Taken
from syncd.mail.message import Key, Receipt
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict
from tests.support.ledger import START
from tests.support.quick import SHIPPED_LATE_S

INTENT = Intent(b"INBOX", 1, 1)


class Server:
    """Answers each look with the next of these verdicts, by key, under a clock that moves while somebody sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.verdicts: list[dict[int, Verdict]] = []
        self.asked: list[list[int]] = []
        self.ours: list[set[str]] = []  # hints that count as other messages' receipts
        patch.setattr(late, "LATE_S", SHIPPED_LATE_S)
        patch.setattr(clock, "now", lambda: START)
        patch.setattr(clock, "monotonic", lambda: self.seconds)
        patch.setattr(clock, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def look(self, intended: Sequence[Intended], taken: Taken) -> list[Outcome]:
        self.asked.append([one.key for one in intended])
        self.ours.append({*taken([f"1:{number} INBOX" for number in range(1, 5)])})
        verdicts = self.verdicts.pop(0)
        return [
            Outcome(one.key, verdicts[one.key], _receipt(one) if verdicts[one.key] is Verdict.DELIVERED else None)
            for one in intended
        ]


def _receipt(one: Intended) -> Receipt:
    return Receipt(one.sha256, f"1:{one.key} INBOX")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def intended(*keys: int, age: timedelta = timedelta()) -> list[Intended]:
    return [Intended(Key(key), 5, b"sha", b"header", INTENT, START - age) for key in keys]


def asked(server: Server, late: Late, wanted: Sequence[Intended], *, over: bool = False) -> dict[int, Verdict]:
    outcomes = late.ask(server.look, wanted, {"1:4 INBOX"}.intersection, lambda: over)
    return {outcome.key: outcome.verdict for outcome in outcomes}


@pytest.mark.parametrize("verdict", [Verdict.NOT_SENT, Verdict.UNCERTAIN])
def test_only_what_is_absent_is_asked_for_again_and_found_messages_are_no_candidates(
    server: Server, verdict: Verdict
) -> None:
    server.verdicts = [{1: Verdict.DELIVERED, 2: verdict}, {2: Verdict.DELIVERED}]
    assert asked(server, Late(), intended(1, 2)) == {1: Verdict.DELIVERED, 2: Verdict.DELIVERED}
    assert server.asked == [[1, 2], [2]]
    assert server.ours == [{"1:4 INBOX"}, {"1:1 INBOX", "1:4 INBOX"}]
    assert server.seconds == pytest.approx(SHIPPED_LATE_S)


def test_as_long_as_messages_arrive_the_server_is_at_work_on_the_others(server: Server) -> None:
    here, absent = Verdict.DELIVERED, Verdict.NOT_SENT
    server.verdicts = [
        dict.fromkeys((1, 2, 3), absent),
        {1: here, 2: absent, 3: absent},
        {2: here, 3: absent},
        {3: absent},
    ]
    assert asked(server, Late(), intended(1, 2, 3)) == {1: here, 2: here, 3: absent}
    assert server.asked == [[1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert server.seconds == pytest.approx(3 * SHIPPED_LATE_S)


@pytest.mark.parametrize("verdict", [Verdict.DELIVERED, Verdict.SENDING])
def test_nobody_waits_where_nothing_is_absent(server: Server, verdict: Verdict) -> None:
    server.verdicts = [{1: verdict}]
    assert asked(server, Late(), intended(1)) == {1: verdict}
    assert not server.seconds


@pytest.mark.parametrize(("age", "looks"), [(RECENT, 1), (RECENT - timedelta(seconds=1), 2), (-RECENT, 2)])
def test_nobody_waits_long_after_the_loss(server: Server, age: timedelta, looks: int) -> None:
    server.verdicts = [{1: Verdict.NOT_SENT}] * looks
    assert asked(server, Late(), intended(1, age=age)) == {1: Verdict.NOT_SENT}
    assert len(server.asked) == looks


def test_session_after_session_that_is_lost_costs_one_wait_a_minute(server: Server) -> None:
    late = Late()
    for seconds, looks in ((0.0, 2), (1.0, 1), (AGAIN_S - 2.0, 1), (1.0, 2)):
        server.seconds += seconds
        server.asked.clear()
        server.verdicts = [{1: Verdict.NOT_SENT}] * looks
        assert asked(server, late, intended(1)) == {1: Verdict.NOT_SENT}
        assert len(server.asked) == looks


def test_the_end_of_a_run_ends_the_wait_and_decides_nothing(server: Server) -> None:
    server.verdicts = [{1: Verdict.DELIVERED, 2: Verdict.NOT_SENT}]
    assert asked(server, Late(), intended(1, 2), over=True) == {1: Verdict.DELIVERED, 2: Verdict.SENDING}
    assert server.seconds < LOOK_S
