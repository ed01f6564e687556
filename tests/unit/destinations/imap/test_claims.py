"""One connection at a time for each mailbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.claims import ALL, Claims
from syncd.destinations.imap.existing import Existing, Taken
from syncd.destinations.imap.route import ImapDestination
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict
from tests.contract.destination_kit import message

WAIT_S = 30.0  # only a test that fails waits so long


def tried(claims: Claims, keys: frozenset[str]) -> tuple[threading.Event, threading.Thread]:
    """Another connection that wants mailboxes."""
    has = threading.Event()

    def claim() -> None:
        with claims.of(keys):
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
        account = cast(ImapAccount, SimpleNamespace(claims=claims, drop=lambda: None, made={}, uses={}))
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
