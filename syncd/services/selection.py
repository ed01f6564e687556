"""Why a message waits, in a word, and which waiting messages a person selects. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd.db.rows import ProblemKind
from syncd.db.states import DeliveryState

if TYPE_CHECKING:
    from syncd.db.rows import ProblemRow
    from syncd.mail.message import Key
    from syncd.settings.schema import Job


NOT_IN_USE: Final = "no job of the configuration delivers there"


class Why(StrEnum):
    """Why a message waits, in the words that `syncd errors` shows and that `retry` and `drop` take."""

    DEFERRED = "deferred"  # tried again by itself
    REJECTED = "rejected"
    LOOP = "loop"  # rejected by us, as it seems to go round; sent anyway only where a person names it
    HELD = "held"
    UNCERTAIN = "uncertain"  # it may have arrived: sent again, and perhaps there more than once
    UNSENT = "unsent"  # it surely did not arrive; tried again by itself
    UNFETCHABLE = "unfetchable"
    DAMAGED = "damaged"  # an archive cannot give it back
    KEPT = "kept"  # not removed at the source after something odd: `syncd run JOB --unfreeze`


# The kind of the problem and the state of the delivery decide together; without a line here, the state alone does.
_OF_KIND: Final[Mapping[tuple[ProblemKind | None, DeliveryState | None], Why]] = {
    (ProblemKind.FETCH, None): Why.UNFETCHABLE,
    (ProblemKind.KEPT, None): Why.KEPT,
    (ProblemKind.LOOP, DeliveryState.REJECTED): Why.LOOP,
    (ProblemKind.DAMAGED, DeliveryState.DELIVERED): Why.DAMAGED,
}
_OF_STATE: Final[Mapping[DeliveryState | None, Why]] = {
    DeliveryState.SENDING: Why.UNCERTAIN,  # of a run that broke off: the next run records it as uncertain
    DeliveryState.UNCERTAIN: Why.UNCERTAIN,
    DeliveryState.DELIVERED: Why.UNCERTAIN,  # it may be there more than once
    DeliveryState.DEFERRED: Why.DEFERRED,
    DeliveryState.REJECTED: Why.REJECTED,
    DeliveryState.HELD: Why.HELD,
}


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects messages: by number (as shown), by why they wait, by destination or recipient.

    A message must match all that is given; what is empty or None selects every message.
    """

    numbers: frozenset[int] = frozenset()
    whys: frozenset[Why] = frozenset()
    place: str | None = None  # an archive, an account, or a recipient

    def takes(self, row: ProblemRow, why: Why) -> bool:
        """Returns whether a message that waits for `why` is selected."""
        named = (not self.numbers or row.key in self.numbers) and (not self.whys or why in self.whys)
        return named and self.leads_to(row.destination, row.target)

    @property
    def names_messages(self) -> bool:
        """Returns whether messages are selected by number or by why they wait, instead of all that wait."""
        return bool(self.numbers or self.whys)

    @property
    def names_loops(self) -> bool:
        """Returns whether mail loops are selected as such, and not because everything is."""
        return bool(self.numbers) or Why.LOOP in self.whys

    def leads_to(self, destination: str | None, target: str) -> bool:
        """Returns whether this destination, or this recipient, is selected."""
        return (
            self.place is None or self.place == destination or (bool(target) and self.place.lower() == target.lower())
        )


class Chosen(NamedTuple):
    """A delivery, or a message, that is selected.

    If no job delivers there any more (not `in_use`) it can only be dropped. `done`: it is delivered, perhaps twice.
    """

    key: Key
    route_id: int
    why: Why
    in_use: bool
    done: bool


def why_of(row: ProblemRow) -> Why:
    """Returns why the message waits."""
    known = _OF_KIND.get((row.kind, row.delivery)) or _OF_STATE.get(row.delivery)
    return known or (Why.UNCERTAIN if row.uncertain else Why.UNSENT)


def in_use(jobs: Mapping[str, Job], row: ProblemRow) -> bool:
    """Returns whether a job of the configuration still delivers this message there; true without a destination."""
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
    """Returns whether the message is delivered and there: then it may only be there more than once."""
    return row.delivery is DeliveryState.DELIVERED and why_of(row) is not Why.DAMAGED
