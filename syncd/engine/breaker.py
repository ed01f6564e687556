"""The circuit breaker of a destination (pure): when everything is refused, no message is to blame.

A blocked account, a sender that may not send, a recipient that is no more: a server refuses all that comes, with a
permanent code (5xx) that means "never again" for each message. After LIMIT refusals of one kind, with none accepted in
between, the destination is stopped as a whole, and those refused in this run are pending again. Refusals of earlier
runs count: a job that sends one message a day is stopped as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from syncd.destinations.base import Outcome, Verdict

LIMIT: Final = 10  # as many as a spam filter seldom refuses in a row, and few enough to look through by hand


@dataclass(frozen=True, slots=True)
class Tripped:
    """Why the breaker tripped: the messages that were refused alike, and what was said of the last of them.

    `number`: with those of earlier runs.
    """

    keys: tuple[int, ...]
    reason: str
    number: int


class Breaker:
    """Sees every outcome of one destination in one run, in their order."""

    def __init__(self, limit: int = LIMIT, past: Callable[[Collection[int]], Sequence[str]] = lambda _: ()) -> None:
        """`limit` 0: it never trips. `past` is asked once, with the keys seen now, what else was refused in a row."""
        self.limit = limit
        self.accepted = False  # something was, in this run
        self.tripped: Tripped | None = None
        self._past = past
        self._before: Sequence[str] | None = None
        self._refused: dict[str, list[int]] = defaultdict(list)  # by kind, since the last that was accepted

    def see(self, outcomes: Sequence[Outcome]) -> None:
        """Take note; `tripped` tells what came of it. One that has tripped goes on collecting that kind."""
        for outcome in outcomes:
            if outcome.verdict is Verdict.DELIVERED:
                self.accepted, self.tripped = True, None
                self._before = ()
                self._refused.clear()
            elif outcome.verdict is Verdict.REJECTED and outcome.refusal:
                if self._before is None:
                    self._before = self._past([one.key for one in outcomes]) if self.limit else ()
                self._refuse(outcome, self._before)

    def _refuse(self, outcome: Outcome, before: Sequence[str]) -> None:
        alike = self._refused[outcome.refusal]
        alike.append(outcome.key)
        number = len(alike) + sum(outcome.refusal in reason for reason in before)
        if 0 < self.limit <= number:
            self.tripped = Tripped(tuple(alike), outcome.reason, number)
