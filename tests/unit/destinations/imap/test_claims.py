"""Which connections have which mailbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.claims import ALL, Claim, Claims, LooksFor
from syncd.destinations.imap.existing import Existing, Taken
from syncd.destinations.imap.route import ImapDestination
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict
from tests.contract.destination_kit import message
from tests.support.processes import wait_for

WAIT_S = 30.0  # only a test that fails waits so long


def tried(
    claims: Claims, keys: frozenset[str], sharer: object | None = None
) -> tuple[threading.Event, threading.Thread]:
    """Another connection that wants mailboxes."""
    has = threading.Event()

    def claim() -> None:
        with claims.of(keys, sharer):
            has.set()

    thread = threading.Thread(target=claim)
    thread.start()
    return has, thread


def test_a_mailbox_is_had_by_one_connection_at_a_time() -> None:
    claims = Claims()
    with claims.of({"a", "b"}):
        other, thread = tried(claims, frozenset({"c"}))
        assert other.wait(WAIT_S), "another mailbox is free"
        thread.join(WAIT_S)
        same, waiting = tried(claims, frozenset({"b", "c"}))
        everything, last = tried(claims, ALL)
        assert not same.is_set()
        assert not everything.is_set()
    assert same.wait(WAIT_S)
    assert everything.wait(WAIT_S)
    waiting.join(WAIT_S)
    last.join(WAIT_S)


def test_connections_that_share_have_a_mailbox_together() -> None:
    claims, ours = Claims(), object()
    with claims.of({"a"}, ours):
        same, thread = tried(claims, frozenset({"a"}), ours)
        assert same.wait(WAIT_S)
        thread.join(WAIT_S)
        threads = [tried(claims, frozenset({"a"}), sharer) for sharer in (None, object())]
        assert not any(has.is_set() for has, _ in threads)
    for has, thread in threads:
        assert has.wait(WAIT_S)
        thread.join(WAIT_S)


def let_go(claim: Claim, done: threading.Event) -> None:
    """Let another connection end when this one waits for it."""
    wait_for(lambda: claim.waits)
    done.set()


def waiting(claims: Claims) -> int:
    return sum(not claim.held for claim in claims._line)


def test_claims_are_served_in_the_order_in_which_they_came() -> None:
    """Otherwise those that share would keep all others out for as long as there is mail."""
    claims, ours = Claims(), object()
    with claims.of({"a"}, ours):
        stranger, first = tried(claims, frozenset({"a"}))
        wait_for(lambda: waiting(claims) == 1)
        later, second = tried(claims, frozenset({"a"}), ours)
        free, third = tried(claims, frozenset({"b"}))
        assert free.wait(WAIT_S)
        third.join(WAIT_S)
        wait_for(lambda: waiting(claims) == 2)
        assert not stranger.is_set()
        assert not later.is_set()
    assert stranger.wait(WAIT_S)
    assert later.wait(WAIT_S)
    for thread in (first, second):
        thread.join(WAIT_S)


def test_one_of_those_that_share_gets_a_mailbox_alone_when_the_others_are_done() -> None:
    claims, ours = Claims(), object()
    events: list[str] = []
    begun, done = threading.Event(), threading.Event()

    def other() -> None:
        with claims.of({"a"}, ours):
            begun.set()
            done.wait(WAIT_S)
            claims.note("a", [7])
            events.append("stored")

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(WAIT_S)
    with claims.of({"a"}, ours) as claim:
        threading.Thread(target=let_go, args=(claim, done)).start()
        claim.alone(LooksFor.REFUSED)
        events.append("alone")
        assert 7 in claims.ours(claim, "a"), "what the others stored is known"
        late, last = tried(claims, frozenset({"a"}), ours)
        wait_for(lambda: waiting(claims) == 1)
        assert not late.is_set()
    assert late.wait(WAIT_S)
    assert events == ["stored", "alone"]
    with claims.of({"a"}, ours) as claim:
        assert not claims.ours(claim, "a"), "no intent of this claim is older"
    thread.join(WAIT_S)
    last.join(WAIT_S)


def test_those_that_want_a_mailbox_alone_get_it_one_after_the_other() -> None:
    claims, ours = Claims(), object()
    together, at_work = threading.Barrier(3), []

    def one() -> None:
        with claims.of({"a"}, ours) as claim:
            together.wait(WAIT_S)
            claim.alone(LooksFor.REFUSED)
            at_work.append(claim)
            assert len(at_work) == 1
            at_work.remove(claim)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_who_looks_for_what_is_stored_for_sure_goes_before_who_looks_for_what_was_refused() -> None:
    """Otherwise a refused message would be given the copy of an equal one that was taken."""
    claims, ours = Claims(), object()
    order: list[LooksFor] = []
    begun = threading.Barrier(3)

    def one(looks_for: LooksFor) -> None:
        with claims.of({"a"}, ours) as claim:
            begun.wait(WAIT_S)
            claim.alone(looks_for)
            order.append(looks_for)

    threads = [threading.Thread(target=one, args=(looks_for,)) for looks_for in LooksFor]
    with claims.of({"a"}, ours) as claim:
        for thread in threads:
            thread.start()
        begun.wait(WAIT_S)
        wait_for(lambda: sum(other.waits is not None for other in claims._line) == 2)
        assert claim.waits is None
    for thread in threads:
        thread.join(WAIT_S)
    assert order == [LooksFor.TAKEN, LooksFor.REFUSED]


def test_a_claim_that_waited_does_not_join_one_that_came_later_and_is_alone() -> None:
    """Labels: a batch may have several mailboxes. It waited for one of them while another has the other one."""
    claims, ours = Claims(), object()
    first = claims.of({"c"}, ours)
    first.__enter__().alone(LooksFor.REFUSED)
    both, thread = tried(claims, frozenset({"a", "c"}), ours)
    wait_for(lambda: waiting(claims) == 1)
    with claims.of({"a"}, ours) as last:
        last.alone(LooksFor.REFUSED)
        first.__exit__(None, None, None)
        free, other = tried(claims, frozenset({"c"}), object())
        wait_for(lambda: waiting(claims) == 2)
        assert not both.is_set()
        assert not free.is_set()
    assert both.wait(WAIT_S)
    thread.join(WAIT_S)
    other.join(WAIT_S)


def test_a_mailbox_is_new_after_somebody_asked_what_is_there() -> None:
    claims, ours, one = Claims(), object(), object()
    with claims.of({"a"}, ours):
        claims.is_new("a", one)
    with claims.of(ALL):
        pass  # another connection finds a message of its own that came late
    with claims.of({"a"}, ours):
        assert claims.is_new("a", one)


def test_one_uid_is_not_told_of_two_messages() -> None:
    claims, ours = Claims(), object()
    with claims.of({"a"}, ours) as one, claims.of({"a"}, ours):
        assert claims.note("a", [5, 6])
        assert not claims.note("a", [6, 7])
        assert 7 not in claims.ours(one, "a")
        assert claims.note("a", [7])


def test_uids_with_gaps_cost_no_more_than_others() -> None:
    """Each is noted by itself, where a stranger puts mail between ours."""
    claims = Claims()
    with claims.of({"a"}) as claim:
        for uid in range(2, 200_000, 2):
            claims.note("a", [uid])
        ours = claims.ours(claim, "a")
    assert (len(ours), 4 in ours, 5 in ours) == (99_999, True, False)


@pytest.mark.parametrize(("tells_uids", "takes_several"), [(True, True), (True, False), (False, True)])
def test_a_mailbox_is_shared_where_uids_can_be_relied_on(*, tells_uids: bool, takes_several: bool) -> None:
    """A server without MULTIAPPEND, Courier, tells wrong UIDs when several connections fill a mailbox."""
    account = cast(ImapAccount, SimpleNamespace(tells_uids=tells_uids, takes_several=takes_several))
    assert ImapDestination(account, sharer=object()).shares_mailboxes() == (tells_uids and takes_several)
    assert not ImapDestination(account).shares_mailboxes()
    assert not ImapDestination(account, sharer=object(), existing=Existing()).shares_mailboxes()


def test_a_mailbox_that_several_write_to_is_new_to_each() -> None:
    claims, ours, one, other = Claims(), object(), object(), object()
    with claims.of({"a"}, ours):
        assert not claims.is_new("a", one)
        with claims.of({"a"}, ours):
            assert claims.is_new("a", other)
    with claims.of({"a"}, ours):
        assert claims.is_new("a", other), "the first one wrote there, too"
    with claims.of({"a"}, ours):
        assert not claims.is_new("a", other)


def test_a_mailbox_is_new_to_a_connection_after_another_one_wrote_to_it() -> None:
    claims, one, other = Claims(), object(), object()
    assert not claims.is_new("a", one), "what it has seen of it holds"
    assert not claims.is_new("a", one)
    assert claims.is_new("a", other)
    assert claims.is_new("a", one)
    assert not claims.is_new("b", one)


def test_nobody_else_asks_before_the_answer_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise two runs could take one message for theirs, where theirs are equal."""
    claims = Claims()
    monkeypatch.setattr("syncd.destinations.imap.ask.ask", lambda *_: [])
    destination = ImapDestination(cast(ImapAccount, SimpleNamespace(claims=claims, drop=lambda: None)))
    groups = destination.ask(list, lambda _: ())
    assert next(groups) == []
    other, thread = tried(claims, ALL)
    assert not other.is_set()
    assert list(groups) == []
    assert other.wait(WAIT_S)
    thread.join(WAIT_S)


def test_nobody_else_recognises_a_message_before_the_first_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise two runs could take one message for theirs, which another program has put there."""
    claims, receipts = Claims(), set[str]()

    def recognise(_account: object, _target: object, messages: Sequence[Message], taken: Taken) -> list[Outcome]:
        return [] if taken(["1:7 INBOX"]) else [Outcome(messages[0].key, Verdict.DELIVERED)]

    monkeypatch.setattr("syncd.destinations.imap.targets.target", lambda *_, **__: Target(b"INBOX", 1, 8))
    existing = cast(Existing, SimpleNamespace(recognise=recognise))

    def begun() -> Iterator[Sequence[Outcome]]:
        shown = {"claims": claims, "made": {}, "targets": {}, "uses": {}, "tells_uids": True, "takes_several": True}
        account = cast(ImapAccount, SimpleNamespace(**shown, drop=lambda: None))
        return ImapDestination(account, existing=existing).recognise([message(1, b"mail")], receipts.intersection)

    groups, others, at_work = begun(), begun(), threading.Event()
    assert len(next(groups)) == 1
    found: list[Sequence[Outcome]] = []

    def another_run() -> None:
        at_work.set()
        found.extend(others)

    thread = threading.Thread(target=another_run)
    thread.start()
    at_work.wait(WAIT_S)
    assert found == []
    receipts.add("1:7 INBOX")  # the first run commits
    assert list(groups) == []
    thread.join(WAIT_S)
    assert found == []
