"""Batches of one mailbox behind one another: which of them follow, and when each is done with."""

from __future__ import annotations

from syncd.engine.line import LINE_S, Line
from syncd.engine.pipe import Batch, Inlet, Pipe
from syncd.mail.message import Key, Receipt
from syncd.mail.outcome import Outcome, Verdict
from tests.unit.engine.conftest import Time
from tests.unit.engine.test_pipe import SENT, message, opened, taken


def filled(*, direct: bool = False) -> tuple[Pipe, Inlet, Line]:
    """A pipe with two batches of a mailbox and one of another, and the line that begins with the first."""
    pipe, inlet = opened(direct=direct)
    pipe.waiting = 9
    for key in (1, 2, 3):
        inlet.add(message(key), 1, 10)
        inlet.flush()
    inlet.enter(SENT)
    inlet.add(message(4), 1, 10)
    inlet.flush()
    return pipe, inlet, Line(pipe, taken(pipe))


def following(line: Line) -> Batch:
    batch = line.next()
    assert batch is not None
    return batch


def outcome(key: int, verdict: Verdict = Verdict.DELIVERED) -> Outcome:
    return Outcome(Key(key), verdict, Receipt(b"") if verdict is Verdict.DELIVERED else None)


def test_batches_of_the_mailbox_follow_and_no_others():
    _, _, line = filled()
    assert [message.key for message in following(line).messages] == [2]
    assert [message.key for message in following(line).messages] == [3]
    assert line.next() is None


def test_none_follows_where_a_destination_is_slow_or_labels_say_the_path():
    assert filled(direct=True)[2].next() is None
    pipe, _, line = filled()
    pipe.closed[0].messages[0].labels = ("work",)
    assert line.next() is None


def test_a_line_ends_for_others_that_wait_for_the_connection(at: Time):
    _, _, line = filled()
    at(seconds=LINE_S)
    assert line.next() is None


def test_a_batch_is_done_with_when_all_its_outcomes_are_known():
    pipe, inlet, line = filled()
    second, third = following(line), following(line)
    line.add(second, second.messages, second.masks, set())
    line.add(third, [], [0], set())
    assert inlet._unwritten == 3, "the first, the second, and the one that waits"
    line.see([outcome(1), outcome(2)])
    assert inlet._unwritten == 2
    pipe.written(line.first, durable=True)
    pipe.written(taken(pipe), durable=True)
    assert inlet.wait_written()


def test_what_has_no_outcome_at_the_end_is_not_durable():
    pipe, inlet, line = filled()
    second, third = following(line), following(line)
    line.add(second, second.messages, second.masks, set())
    line.see([outcome(2)])
    line.add(third, third.messages, third.masks, set())
    line.end()
    pipe.written(line.first, durable=True)
    pipe.written(taken(pipe), durable=True)
    assert not inlet.wait_written()
