"""What a message waits for, in a word, and which of those that wait a person means. Nothing is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncd.db.rows import ProblemRow
    from syncd.settings.schema import Job


class Why(StrEnum):
    """What a message waits for, in the words that `syncd errors` shows, and `retry` and `drop` take."""

    DEFERRED = "deferred"  # tried again by itself
    REJECTED = "rejected"
    LOOP = "loop"  # rejected by us, as it seems to go round; sent all the same only where a person names it
    HELD = "held"
    UNCERTAIN = "uncertain"  # it may have arrived: sent again, and perhaps there more than once
    UNSENT = "unsent"  # it surely did not arrive; tried again by itself
    UNFETCHABLE = "unfetchable"
    DAMAGED = "damaged"  # an archive cannot give it back
    KEPT = "kept"  # not removed at the source after something odd: `syncd run JOB --unfreeze`


@dataclass(frozen=True, slots=True)
class Selector:
    """Which of them: these numbers (as shown), waiting for one of these, at one destination or recipient.

    All of what is said must be so; what is not said is not asked for.
    """

    numbers: frozenset[int] = frozenset()
    whys: frozenset[Why] = frozenset()
    place: str | None = None  # an archive, an account, or a recipient

    def takes(self, row: ProblemRow, why: Why) -> bool:
        """Whether a row that waits for `why` is meant."""
        named = (not self.numbers or row.key in self.numbers) and (not self.whys or why in self.whys)
        return named and self.leads_to(row.destination, row.target)

    @property
    def knows_of_loops(self) -> bool:
        """Whether loops are meant for themselves, and not because everything is."""
        return bool(self.numbers) or Why.LOOP in self.whys

    def leads_to(self, destination: str | None, target: str) -> bool:
        """Whether this is the destination that is meant, or the recipient."""
        return (
            self.place is None or self.place == destination or (bool(target) and self.place.lower() == target.lower())
        )


class Chosen(NamedTuple):
    """A row that is meant. Where no job leads there any more (not `in_use`) it can only be dropped."""

    key: int
    route_id: int
    why: Why
    in_use: bool
    done: bool


def why_of(row: ProblemRow) -> Why:
    """What a problem is about."""
    from syncd.db.states import DeliveryState
    from syncd.destinations.base import LOOP

    if row.delivery is None:
        return Why.UNFETCHABLE if row.attempts else Why.KEPT
    if row.delivery is DeliveryState.SENDING:
        return Why.UNCERTAIN
    if row.delivery is DeliveryState.DELIVERED and not row.uncertain:
        return Why.DAMAGED
    if row.delivery is DeliveryState.REJECTED and row.reason.startswith(LOOP):
        return Why.LOOP
    known = {
        DeliveryState.DEFERRED: Why.DEFERRED,
        DeliveryState.REJECTED: Why.REJECTED,
        DeliveryState.HELD: Why.HELD,
    }
    return known.get(row.delivery, Why.UNCERTAIN if row.uncertain else Why.UNSENT)


def in_use(jobs: Mapping[str, Job], row: ProblemRow) -> bool:
    """Whether a job of the configuration still takes this message there; what is about no destination is."""
    if row.job is None:
        return True
    job = jobs.get(row.job)
    return (
        job is not None
        and job.source == row.account
        and any(
            to.to == row.destination
            and (not row.target or row.target.lower() in {it.lower() for it in to.recipient or ()})
            for to in job.destinations
        )
    )


def is_done(row: ProblemRow) -> bool:
    """Whether it was delivered, and is there: then it may only be there more than once."""
    from syncd.db.states import DeliveryState

    return row.delivery is DeliveryState.DELIVERED and why_of(row) is not Why.DAMAGED
