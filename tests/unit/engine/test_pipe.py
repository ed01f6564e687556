from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from syncd.db.rows import MailboxScope, RunScope
from syncd.engine.budget import Budget
from syncd.engine.pipe import (
    BATCH_MESSAGES,
    BATCH_OCTETS,
    BATCH_SECONDS,
    DIRECT_MOST,
    DIRECT_QUICK_S,
    MAX_WAITING,
    Batch,
    Inlet,
    Pipe,
)
from syncd.errors import Cancelled, ConnectionLost, MessageRefused
from syncd.mail.body import Body
from syncd.mail.mailbox import INBOX, MAILDROP, Epoch, Mailbox
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from tests.unit.engine.conftest import Time

ORIGIN = Origin(UUID(int=1), "road", INBOX, Epoch(1))
SCOPE = MailboxScope(RunScope(1, 1, 1, 1, ()), 1, MAILDROP, Epoch(1))
SENT = replace(SCOPE, mailbox_id=2, mailbox=Mailbox(b"Sent", ("Sent",)))


def message(key: int, octets: int = 10) -> Message:
    body = Body.of(b"x")
    body.octets = octets  # the pipe only looks at the figure
    return Message(Key(key), MessageRef(ORIGIN, Uid(b"%d" % key), 1), body)


def opened(*, direct: bool = False) -> tuple[Pipe, Inlet]:
    """A pipe and a reader's way in, at its mailbox."""
    pipe = Pipe(direct=direct)
    inlet = pipe.inlet(Budget().room())
    inlet.enter(SCOPE)
    return pipe, inlet


def taken(pipe: Pipe) -> Batch:
    batch = pipe.next()
    assert batch is not None
    return batch


def keys(pipe: Pipe) -> list[int]:
    return [m.key for m in taken(pipe).messages]


def test_a_batch_closes_at_its_number_of_messages():
    pipe, inlet = opened()
    for key in range(BATCH_MESSAGES + 1):
        inlet.add(message(key), 1, 10)
    assert keys(pipe) == list(range(BATCH_MESSAGES))
    inlet.end()
    assert keys(pipe) == [BATCH_MESSAGES]
    assert pipe.next() is None


def test_a_batch_never_grows_over_its_octets_and_a_larger_message_travels_alone():
    pipe, inlet = opened()
    for key, octets in enumerate([BATCH_OCTETS - 5, 6, BATCH_OCTETS + 1, 1]):
        inlet.add(message(key, octets), 1, octets)
        if key == 1:
            assert keys(pipe) == [0]
    inlet.end()
    assert [keys(pipe), keys(pipe), keys(pipe)] == [[1], [2], [3]]


def test_a_batch_closes_when_its_oldest_message_has_waited(at: Time):
    pipe, inlet = opened()
    inlet.add(message(1), 1, 10)
    looked: list[int] = []

    def meanwhile() -> None:
        looked.append(1)
        at(seconds=BATCH_SECONDS / 2)

    inlet.patience = lambda: 0.0  # type: ignore[method-assign]  # nobody waits by the wall clock
    batch = pipe.next(meanwhile)
    assert batch is not None
    assert ([m.key for m in batch.messages], len(looked)) == ([1], 2)


def test_p39_for_a_slow_destination_batches_are_small_while_it_is_slow(at: Time):
    """S22: a POP3 session must not stand still for ten minutes while a mail server takes its time."""
    pipe, inlet = opened(direct=True)
    sizes = []
    for seconds in (0.1, 0.1, 0.1, 0.1, 2 * DIRECT_QUICK_S, 0.1, 0.1):
        for key in range(DIRECT_MOST):
            inlet.add(message(key), 1, 10)
            if pipe.upcoming() is not None:
                break
        batch = taken(pipe)
        sizes.append(len(batch.messages))
        at(seconds=seconds)
        pipe.written(batch, durable=True)
    assert sizes == [16, 32, 64, DIRECT_MOST, DIRECT_MOST, 16, 32]


def test_the_reader_waits_while_too_many_batches_are_waiting(monkeypatch: pytest.MonkeyPatch):
    pipe, inlet = opened()
    for key in range(MAX_WAITING):
        inlet.add(message(key), 1, 10)
        inlet.flush()
    inlet.add(message(99), 1, 10)
    may_go_on: list[bool] = []
    real = pipe.change.wait_for

    def wait_for(predicate: Callable[[], bool]) -> bool:
        may_go_on.append(predicate())
        return real(predicate)

    monkeypatch.setattr(pipe.change, "wait_for", wait_for)
    blocked = threading.Thread(target=inlet.flush)
    blocked.start()
    while not may_go_on:
        pass
    assert may_go_on == [False]
    assert keys(pipe) == [0]
    blocked.join(5)
    assert not blocked.is_alive()


def test_the_readers_error_comes_after_its_last_batch():
    pipe, inlet = opened()
    inlet.add(message(1), 1, 10)
    inlet.end(ConnectionLost("cut"))
    assert keys(pipe) == [1]
    with pytest.raises(ConnectionLost):
        pipe.next()


def test_written_means_durable_only_when_every_batch_was():
    for verdicts, expected in [([True, True], True), ([True, False], False), ([False, True], False)]:
        pipe, inlet = opened()
        for key in range(2):
            inlet.add(message(key), 1, 10)
            inlet.flush()
        for durable in verdicts:
            pipe.written(taken(pipe), durable=durable)
        assert inlet.wait_written() is expected


def test_failures_travel_in_batches_too():
    pipe, inlet = opened()
    error = MessageRefused("no")
    inlet.fail(Key(7), error)
    inlet.end()
    batch = pipe.next()
    assert batch is not None
    assert batch.failures == [(7, error)]


def test_a_writer_that_stops_tells_the_reader_and_closes_what_waits():
    pipe, inlet = opened()
    inlet.add(message(1), 1, 10)
    inlet.flush()
    inlet.add(message(2), 1, 10)
    pipe.stop()
    with pytest.raises(Cancelled):
        inlet.flush()
    with pytest.raises(Cancelled):
        inlet.wait_written()
    inlet.end(Cancelled("stopped"))
    with pytest.raises(Cancelled):
        pipe.next()


# --- mailboxes and readers ---------------------------------------------------------------------------------


def test_a_batch_is_of_one_mailbox():
    pipe, inlet = opened()
    inlet.add(message(1), 1, 10)
    inlet.enter(SENT)
    inlet.fail(Key(2), MessageRefused("no"))
    inlet.end()
    batches = [taken(pipe), taken(pipe)]
    assert [batch.scope for batch in batches] == [SCOPE, SENT]
    assert [len(batch.messages) for batch in batches] == [1, 0]
    assert pipe.next() is None


def test_a_mailbox_without_messages_makes_no_batch():
    pipe, inlet = opened()
    inlet.enter(SENT)
    inlet.enter(SCOPE)
    inlet.end()
    assert pipe.next() is None


def test_an_inlet_counts_what_was_handed_over():
    pipe, inlet = opened()
    inlet.add(message(1, 10), 1, 12)
    inlet.add(message(2, 20), 1, 22)
    assert (inlet.messages, inlet.octets) == (0, 0)
    inlet.flush()
    assert (inlet.messages, inlet.octets) == (2, 30)
    pipe.stop()


def test_readers_wait_for_their_own_batches_alone():
    pipe = Pipe()
    one, other = pipe.inlet(Budget().room()), pipe.inlet(Budget().room())
    one.enter(SCOPE)
    other.enter(SENT)
    one.add(message(1), 1, 10)
    one.flush()
    other.add(message(2), 1, 10)
    other.flush()
    pipe.written(taken(pipe), durable=True)
    assert one.wait_written()
    pipe.written(taken(pipe), durable=False)
    assert (one.wait_written(), other.wait_written()) == (True, False)


def test_the_end_is_when_every_reader_has_ended():
    pipe = Pipe()
    one, other = pipe.inlet(Budget().room()), pipe.inlet(Budget().room())
    one.end(ConnectionLost("cut"))
    other.enter(SENT)
    other.add(message(2), 1, 10)
    other.flush()
    assert keys(pipe) == [2]
    other.end()
    with pytest.raises(ConnectionLost):
        pipe.next()


def test_several_writers_get_batches_of_different_mailboxes():
    pipe = Pipe(takers=2)
    one, other = pipe.inlet(Budget().room()), pipe.inlet(Budget().room())
    one.enter(SCOPE)
    other.enter(SENT)
    for key in (1, 2):
        one.add(message(key), 1, 10)
        one.flush()
    other.add(message(3), 1, 10)
    other.flush()
    first, second = taken(pipe), taken(pipe)
    assert [batch.messages[0].key for batch in (first, second)] == [1, 3]
    assert pipe.upcoming() is None
    pipe.written(first, durable=True)
    assert keys(pipe) == [2]
    pipe.stop()
