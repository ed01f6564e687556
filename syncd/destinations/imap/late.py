"""Looks a second time before a message counts as absent: a server may carry out an APPEND after its session was lost.

A session is lost by our timeout, by the network or by the end of our process. The server may have received a whole
APPEND by then. It knows nothing of the loss and stores the message when its disk or its queue lets it. If the mailbox
was asked before that, the message was absent, was sent again, and was there twice without a record.

A message that is absent, or uncertain, therefore stays `sending` for LATE_S more. Then the mailbox is asked again.
Where messages have arrived meanwhile, the server is still at work on what it had received, and the wait is repeated.
The first look that finds nothing new counts. Nobody waits where each message was found, nor where the loss was long
ago.

A server that pauses for longer than LATE_S still doubles the message: IMAP has no command that tells what another
session has still to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

from syncd import clock
from syncd.mail.message import plain_hint
from syncd.mail.outcome import Intended, Outcome, Verdict

LATE_S: Final = 10.0  # a busy disk or a lock on a mailbox delays an APPEND for seconds; proxies hang up after some, too
LOOK_S: Final = 0.1  # so often a wait looks whether it is to end
AGAIN_S: Final = 60.0  # one wait in so long: a server that hangs up at one message after another costs a sixth more
RECENT: Final = timedelta(hours=1)  # since the intent was committed: the batch then takes minutes on a slow line
ENDED: Final = "the run ended while the message might still arrive"
_ABSENT: Final = frozenset({Verdict.NOT_SENT, Verdict.UNCERTAIN})

Taken = Callable[[Collection[str]], Collection[str]]  # hints → those that are receipts
Look = Callable[[Sequence[Intended], Taken], list[Outcome]]


class Late:
    """Asks on behalf of one connection, and keeps when it waited last."""

    def __init__(self) -> None:
        self._waited_at = -math.inf  # by `clock.monotonic`

    def ask(self, look: Look, intended: Sequence[Intended], taken: Taken, ends: Callable[[], bool]) -> list[Outcome]:
        """Returns an outcome for each message; SENDING for those that are absent where `ends` returned True.

        `look` asks the mailboxes. `ends` is asked every LOOK_S. Raises what `look` raises: then nothing is known.
        """
        known, left = _split(look(intended, taken), intended)
        may_wait = clock.monotonic() - self._waited_at >= AGAIN_S and any(_is_recent(one) for one, _ in left)
        arrives = True
        while may_wait and arrives and left:
            wanted = [one for one, _ in left]
            if not self._wait(ends):
                return known + [Outcome(one.key, Verdict.SENDING, reason=ENDED, intent=one.intent) for one in wanted]
            more, left = _split(look(wanted, _with_ours(taken, known)), wanted)
            known += more
            arrives = any(outcome.verdict is Verdict.DELIVERED for outcome in more)
        return known + [outcome for _, outcome in left]

    def _wait(self, ends: Callable[[], bool]) -> bool:
        """Wait for LATE_S; returns False where it ended before."""
        until = clock.monotonic() + LATE_S
        while (left := until - clock.monotonic()) > 0:
            if ends():
                return False
            clock.sleep(min(left, LOOK_S))
        self._waited_at = clock.monotonic()
        return True


def _is_recent(one: Intended) -> bool:
    """Returns whether a message may still be on its way; also where a clock was set back."""
    return one.since is None or clock.now() - one.since < RECENT


def _split(
    outcomes: Sequence[Outcome], intended: Sequence[Intended]
) -> tuple[list[Outcome], list[tuple[Intended, Outcome]]]:
    """Returns the outcomes that are final, and the messages that were not found, each with its outcome so far."""
    by_key = {one.key: one for one in intended if one.intent is not None}
    absent = [it for it in outcomes if it.verdict in _ABSENT and it.key in by_key]
    keys = {outcome.key for outcome in absent}
    return [it for it in outcomes if it.key not in keys], [(by_key[it.key], it) for it in absent]


def _with_ours(taken: Taken, known: Sequence[Outcome]) -> Taken:
    """Returns `taken` that counts also what was found just now and is not committed."""
    ours = {plain_hint(outcome.receipt.hint) for outcome in known if outcome.receipt is not None}
    return lambda hints: {*taken(hints), *ours.intersection(hints)}
