"""One connection at a time for each mailbox."""

from __future__ import annotations

import threading

from syncd.destinations.imap.claims import ALL, Claims

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
    assert claims.is_new("a", one)
    assert not claims.is_new("a", one)
    assert claims.is_new("a", other)
    assert claims.is_new("a", one)
    assert claims.is_new("b", one)
