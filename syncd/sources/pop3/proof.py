"""What may be believed of the last answers when a session breaks off (pure).

Answers are held back until a check proves them (see `pop3_stream`). When none comes any more, sizes can: a body with
exactly the octets that LIST gave, where no other message has as many, is that message, and so is each before it. For
had commands been swallowed before, a later message would stand in its place; had answers come twice, an earlier one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from syncd.errors import SyncdError, TimedOut
from syncd.mail.body import Body
from syncd.pop3.values import OutOfStep, Status
from syncd.sources.base import Wanted
from syncd.sources.pop3.stream import Stream

Answered = tuple[Wanted, Body | Status]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was received whole, what ended the session, and whether it was pipelining."""

    proven: deque[Answered]
    culprit: Wanted | None
    lost_step: bool


def broken_off(stream: Stream, held: deque[Answered], error: SyncdError) -> Verdict:
    """Judge an `error` in the stream. What is proven is taken out of `held`."""
    answers, culprit, following = list(held), stream.unanswered(), stream.following()
    if isinstance(error, OutOfStep):  # what came behind the last one is no reply: it was cut (P18)
        culprit = answers.pop()[0] if answers else None
        following = [culprit, *following] if culprit is not None else following
    sure = fitting(answers, following)
    suspects = len(answers) - sure
    proven = deque(held.popleft() for _ in range(sure))
    ran_dry = isinstance(error, TimedOut) and (suspects > 0 or stream.unanswered() is None)  # fewer replies than asked
    if suspects and stream.pipelined:  # perhaps it went wrong before; one at a time, only one can be meant
        culprit = None
    return Verdict(proven, culprit, stream.pipelined and (ran_dry or isinstance(error, OutOfStep)))


def fitting(answers: Sequence[Answered], following: Iterable[Wanted]) -> int:
    """How many of the first answers are proven by sizes; `following` was asked for after them."""
    fits = 0
    for one, answer in answers:
        if isinstance(answer, Body) and answer.octets != one.octets:
            break
        fits += 1
    sizes = Counter(one.octets for one in chain((one for one, _ in answers), following))
    for number in range(fits, 0, -1):
        one, answer = answers[number - 1]
        if isinstance(answer, Body) and sizes[one.octets] == 1:
            return number
    return 0


def swapped(answers: Iterable[Answered]) -> bool:
    """Whether bodies came in another order than asked for: their sizes are those that LIST gave, not in its order."""
    odd = [(one.octets, body.octets) for one, body in answers if isinstance(body, Body) and body.octets != one.octets]
    return bool(odd) and sorted(listed for listed, _ in odd) == sorted(got for _, got in odd)


def close_all(held: Iterable[Answered]) -> None:
    """Close the bodies that nobody gets."""
    for _, answer in held:
        if isinstance(answer, Body):
            answer.close()
