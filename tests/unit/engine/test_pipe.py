from __future__ import annotations

import threading
from uuid import UUID

import pytest

from syncd import clock
from syncd.engine import pipe as pipe_module
from syncd.engine.pipe import (
    BATCH_MESSAGES,
    BATCH_OCTETS,
    BATCH_SECONDS,
    DIRECT_MOST,
    DIRECT_QUICK_S,
    MAX_WAITING,
    Pipe,
)
from syncd.errors import Cancelled, ConnectionLost, MessageRefused
from syncd.mail.body import Body
from syncd.mail.message import INBOX, Message, MessageRef, Origin

ORIGIN = Origin(UUID(int=1), "road", INBOX, 1)


def message(key: int, octets: int = 10) -> Message:
    body = Body.of(b"x")
    body.octets = octets  # the pipe only looks at the figure
    return Message(key, MessageRef(ORIGIN, b"%d" % key, 1), body)


def keys(pipe: Pipe) -> list[int]:
    batch = pipe.next()
    assert batch is not None
    return [m.key for m in batch.messages]


def test_a_batch_closes_at_its_number_of_messages():
    pipe = Pipe()
    for key in range(BATCH_MESSAGES + 1):
        pipe.add(message(key), 1, 10)
    assert keys(pipe) == list(range(BATCH_MESSAGES))
    pipe.end()
    assert keys(pipe) == [BATCH_MESSAGES]
    assert pipe.next() is None


def test_a_batch_never_grows_over_its_octets_and_a_larger_message_travels_alone():
    pipe = Pipe()
    for key, octets in enumerate([BATCH_OCTETS - 5, 6, BATCH_OCTETS + 1, 1]):
        pipe.add(message(key, octets), 1, octets)
        if key == 1:
            assert keys(pipe) == [0]
    pipe.end()
    assert [keys(pipe), keys(pipe), keys(pipe)] == [[1], [2], [3]]


def test_a_batch_closes_when_its_oldest_message_has_waited(monkeypatch: pytest.MonkeyPatch):
    instants = iter([100.0, 100.5, 100.0 + BATCH_SECONDS, 100.0 + BATCH_SECONDS])
    monkeypatch.setattr(clock, "monotonic", lambda: next(instants))
    monkeypatch.setattr(pipe_module.threading.Condition, "wait", lambda *_: True)
    pipe = Pipe()
    pipe.add(message(1), 1, 10)
    assert keys(pipe) == [1]


def test_p39_for_a_slow_destination_batches_are_small_while_it_is_slow(monkeypatch: pytest.MonkeyPatch):
    """S22: a POP3 session must not stand still for ten minutes while a mail server takes its time."""
    pipe = Pipe(direct=True)
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    sizes = []
    for seconds in (0.1, 0.1, 0.1, 0.1, 2 * DIRECT_QUICK_S, 0.1, 0.1):
        for key in range(DIRECT_MOST):
            pipe.add(message(key), 1, 10)
            if pipe.upcoming() is not None:
                break
        sizes.append(len(keys(pipe)))
        now[0] += seconds
        pipe.settle(durable=True)
    assert sizes == [16, 32, 64, DIRECT_MOST, DIRECT_MOST, 16, 32]


def test_the_reader_waits_while_too_many_batches_are_waiting():
    pipe = Pipe()
    for key in range(MAX_WAITING):
        pipe.add(message(key), 1, 10)
        pipe.flush()
    pipe.add(message(99), 1, 10)
    blocked = threading.Thread(target=pipe.flush)
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    assert keys(pipe) == [0]
    blocked.join(5)
    assert not blocked.is_alive()


def test_the_readers_error_comes_after_its_last_batch():
    pipe = Pipe()
    pipe.add(message(1), 1, 10)
    pipe.end(ConnectionLost("cut"))
    assert keys(pipe) == [1]
    with pytest.raises(ConnectionLost):
        pipe.next()


def test_settled_means_durable_only_when_every_batch_was():
    for verdicts, expected in [([True, True], True), ([True, False], False), ([False, True], False)]:
        pipe = Pipe()
        for key in range(2):
            pipe.add(message(key), 1, 10)
            pipe.flush()
        for durable in verdicts:
            pipe.next()
            pipe.settle(durable=durable)
        assert pipe.wait_settled() is expected


def test_failures_travel_in_batches_too():
    pipe = Pipe()
    error = MessageRefused("no")
    pipe.fail(7, error)
    pipe.end()
    batch = pipe.next()
    assert batch is not None
    assert batch.failures == [(7, error)]


def test_a_writer_that_stops_tells_the_reader_and_closes_what_waits():
    pipe = Pipe()
    pipe.add(message(1), 1, 10)
    pipe.flush()
    pipe.add(message(2), 1, 10)
    pipe.stop()
    with pytest.raises(Cancelled):
        pipe.flush()
    with pytest.raises(Cancelled):
        pipe.wait_settled()
    pipe.end(Cancelled("stopped"))
    with pytest.raises(Cancelled):
        pipe.next()
