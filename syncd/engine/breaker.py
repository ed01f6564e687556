"""The circuit breaker of a destination (pure): when everything is refused, no message is to blame.

A blocked account, a sender that may not send, a limit that is said in unknown words: a server refuses all that comes,
with a permanent code (5xx) that means "never again" for each message, or with a temporary one. After LIMIT refusals
with one code, with none accepted in between, the destination is stopped as a whole, and the messages refused in this
run are pending again. Permanent refusals of earlier runs count: a job that sends one message a day is stopped as well.

A run that has fewer messages is judged at its end: SMALL refusals are enough if they are all alike and nothing was
accepted. A refusal about a recipient or one message has no code (`Outcome.code`), and does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict

LIMIT: Final = 10  # as many as a spam filter seldom refuses in a row, and few enough to look through by hand
SMALL: Final = 3  # … and as many as a small queue has, if nothing else was sent

Past = Callable[[Collection[Key]], Sequence[str]]  # keys of this run → codes of other refusals in a row


@dataclass(frozen=True, slots=True)
class Tripped:
    """The reason to stop: the messages that were refused alike, and the words of the last refusal.

    `number` counts refusals of earlier runs as well.
    """

    keys: tuple[Key, ...]
    reason: str
    number: int


class Breaker:
    """Sees every outcome of one destination in one run, in their order."""

    def __init__(self, limit: int = LIMIT, past: Past = lambda _: ()) -> None:
        """With `limit=0` it never trips. `past` is asked once, at the first refusal of the run."""
        self.limit = limit
        self.accepted = False  # something was, in this run
        self.tripped: Tripped | None = None
        self._past = past
        self._before: Sequence[str] | None = None
        self._reason = ""  # of the last refusal
        self._refused: dict[str, list[Key]] = defaultdict(list)  # by code, since the last message that was accepted

    def see(self, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes in; `tripped` says what came of it. Once tripped, it goes on collecting that code."""
        for outcome in outcomes:
            if outcome.verdict is Verdict.DELIVERED:
                self.accepted, self.tripped = True, None
                self._before = ()
                self._refused.clear()
            elif outcome.verdict is Verdict.REJECTED and outcome.code:
                if self._before is None:
                    self._before = self._past([seen.key for seen in outcomes]) if self.limit else ()
                self._refuse(outcome, self._before)
            elif outcome.verdict is Verdict.DEFERRED and outcome.code and not self.accepted:
                self._refuse(outcome, ())  # where some are accepted, a message that is deferred is tried again

    def finish(self) -> None:
        """Take in that nothing more comes in this run; `tripped` says what came of it."""
        if self.limit and not self.accepted and self.tripped is None and len(self._refused) == 1:
            (alike,) = self._refused.values()
            if len(alike) >= SMALL:
                self._trip(alike, len(alike))

    def _refuse(self, outcome: Outcome, before: Sequence[str]) -> None:
        alike = self._refused[outcome.code]
        alike.append(outcome.key)
        self._reason = outcome.reason
        number = len(alike) + before.count(outcome.code)
        if 0 < self.limit <= number:
            self._trip(alike, number)

    def _trip(self, alike: Sequence[Key], number: int) -> None:
        self.tripped = Tripped(tuple(alike), self._reason, number)
