"""What a message waits for, in a word, and which of those that wait a person means. Nothing is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncd.db.rows import ProblemRow


class Why(StrEnum):
    """What a message waits for, in the words that `syncd errors` shows, and `retry` and `drop` take."""

    DEFERRED = "deferred"  # tried again by itself
    REJECTED = "rejected"
    HELD = "held"
    UNCERTAIN = "uncertain"  # it may have arrived: sent again, and perhaps there more than once
    UNSENT = "unsent"  # it surely did not arrive; tried again by itself
    UNFETCHABLE = "unfetchable"
    KEPT = "kept"  # not removed at the source after something odd: `syncd run JOB --unfreeze`


@dataclass(frozen=True, slots=True)
class Selector:
    """Which of them: by number (as shown) or by what they wait for, at one destination; all where nothing is said."""

    numbers: frozenset[int] = frozenset()
    whys: frozenset[Why] = frozenset()
    destination: str | None = None

    def takes(self, row: ProblemRow) -> bool:
        """Whether it is meant. A note on a removal never is: `syncd run JOB --unfreeze` is for that."""
        why = why_of(row)
        named = not (self.numbers or self.whys) or row.key in self.numbers or why in self.whys
        return named and why is not Why.KEPT and self.destination in {None, row.destination}


def why_of(row: ProblemRow) -> Why:
    """What a problem is about."""
    from syncd.db.states import DeliveryState

    if row.delivery is None:
        return Why.UNFETCHABLE if row.attempts else Why.KEPT
    known = {
        DeliveryState.DEFERRED: Why.DEFERRED,
        DeliveryState.REJECTED: Why.REJECTED,
        DeliveryState.HELD: Why.HELD,
    }
    return known.get(row.delivery, Why.UNCERTAIN if row.uncertain else Why.UNSENT)


def is_done(row: ProblemRow) -> bool:
    """Whether it was delivered: then it may only be there more than once."""
    from syncd.db.states import DeliveryState

    return row.delivery is DeliveryState.DELIVERED
