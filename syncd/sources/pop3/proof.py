"""Judges which of the last answers can be believed when a session breaks off (pure).

Answers wait until a check proves them (see `stream`). When no check is answered any more, sizes can prove them: a body
with exactly the octets that LIST gave, which LIST gave for no other message, is that message, and so is each before
it. If the server had swallowed commands before, a later message would stand in its place; if it had answered twice,
an earlier one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from syncd.errors import SyncdError, TimedOut
from syncd.mail.body import Body
from syncd.mail.listing import Wanted
from syncd.pop3.values import OutOfStep, Status
from syncd.sources.pop3.stream import Stream

Answered = tuple[Wanted, Body | Status]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answers that are proven, the message that ended the session, and whether pipelining did."""

    proven: deque[Answered]
    culprit: Wanted | None
    lost_step: bool


def broken_off(stream: Stream, unproven: deque[Answered], error: SyncdError) -> Verdict:
    """Judge an `error` in the stream. Takes the answers that are proven out of `unproven`."""
    answers, culprit, following = list(unproven), stream.unanswered(), stream.following()
    if isinstance(error, OutOfStep):  # what came behind the last one is no reply: it was cut (P18)
        culprit = answers.pop()[0] if answers else None
        following = [culprit, *following] if culprit is not None else following
    sure = fitting(answers, following)
    suspects = len(answers) - sure
    proven = deque(unproven.popleft() for _ in range(sure))
    ran_dry = isinstance(error, TimedOut) and (suspects > 0 or stream.unanswered() is None)  # fewer replies than asked
    if suspects and stream.pipelined:  # perhaps it went wrong before; one at a time, only one can be meant
        culprit = None
    return Verdict(proven, culprit, stream.pipelined and (ran_dry or isinstance(error, OutOfStep)))


def fitting(answers: Sequence[Answered], following: Iterable[Wanted]) -> int:
    """Returns how many of the first answers are proven by sizes; `following` was asked for after them."""
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
    """Tells whether bodies came in another order than asked for: with the sizes that LIST gave, in another order."""
    odd = [(one.octets, body.octets) for one, body in answers if isinstance(body, Body) and body.octets != one.octets]
    return bool(odd) and sorted(listed for listed, _ in odd) == sorted(got for _, got in odd)


def close_all(unproven: Iterable[Answered]) -> None:
    """Close the bodies that nobody gets."""
    for _, answer in unproven:
        if isinstance(answer, Body):
            answer.close()
