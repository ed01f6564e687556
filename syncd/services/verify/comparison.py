"""Compares one message: as the source shows it now, as the ledger has it, as the destination shows it (pure).

What the ledger recorded of the octets counts, for it is what was received; flags and dates are in the ledger nowhere,
so the source as it is now is compared. What a destination cannot keep is taken off by its rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from syncd.db.ledger.proof import Known
from syncd.db.states import DeliveryState, MessageState
from syncd.errors import printable
from syncd.mail.flags import DELETED, Flags
from syncd.services.verify.values import Status, Verdict

SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = ((datetime(*day, tzinfo=UTC) - _EPOCH) // SECOND for day in ((1, 1, 2), (9999, 12, 30)))
NOT_ALTERED: Final = ""
HOW: Final = "by the destination: "  # before what a receipt says of the way
BY_US: Final = "by us: "
UNMARKED: Final = "altered by us: it is marked as deleted at the source, and copied without the mark"


class Fact(NamedTuple):
    """A message as one end shows it. None: that end does not tell. `date` counts whole seconds since 1970.

    `problem` says why it could not be read, where that was asked for.
    """

    uid: bytes
    number: int
    octets: int
    flags: Flags | None = None
    date: int | None = None
    sha256: bytes | None = None
    problem: str = ""


class Original(NamedTuple):
    """What the ledger has of a message that was delivered; see `db.ledger.proof.Known`."""

    octets: int | None
    sha256: bytes | None
    header_hash: bytes | None
    listed_octets: int
    at: datetime | None
    receipt: str

    @classmethod
    def of(cls, known: Known) -> Original:
        """Returns it of a row."""
        return cls(known.octets, known.sha256, known.header_hash, known.listed_octets, known.at, known.receipt)


class Kept(NamedTuple):
    """A date as a destination keeps it, within so many seconds, and the rule that changed it; "" where none did."""

    date: int
    slack: int = 0
    rule: str = NOT_ALTERED


def _same_flags(flags: Flags) -> Flags:
    return flags


def _same_date(date: int, _delivered: datetime | None) -> Kept:
    return Kept(date)


@dataclass(frozen=True, slots=True)
class Rules:
    """The changes that a destination makes by a stated rule; by default none.

    With `tells_octets=False` it does not show how many octets a message had. `fits` tells whether so many may be its,
    which are shown for a message that is not read. `altered` tells by a receipt's hint who changed the octets, such as
    "by the destination"; "" is nobody.
    """

    flags: Callable[[Flags], Flags] = _same_flags
    date: Callable[[int, datetime | None], Kept] = _same_date
    tells_octets: bool = True
    fits: Callable[[int, int], bool] = int.__eq__
    altered: Callable[[str], str] = lambda _: ""


NO_RULES: Final = Rules()


class Compared(NamedTuple):
    """The ways in which a message differs, and those that are recorded or by a rule.

    With `octets=True` the octets are others, recorded or not.
    """

    ways: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    octets: bool = False

    @property
    def verdict(self) -> Verdict:
        """Returns the status."""
        if self.ways:
            return Verdict(Status.DIFFERENT, "; ".join((*self.ways, *self.notes)))
        return Verdict(Status.ALTERED, "; ".join(self.notes)) if self.notes else Verdict(Status.EQUAL)


def undelivered(known: Known) -> Verdict:
    """Returns what becomes of a message that a destination does not have yet, or never gets."""
    state = known.delivery
    if state in _FINAL:
        status, reason = _FINAL[state]
        return Verdict(status, known.reason or reason)
    if known.state is MessageState.UNFETCHABLE or known.unfetchable:
        return Verdict(Status.UNFETCHABLE, known.unfetchable or "it could not be fetched")
    if state is DeliveryState.SENDING:
        return Verdict(Status.WAITING, "a run sends it now, or broke off when it did; the next run finds out")
    return Verdict(Status.WAITING, known.reason or "the next run delivers it")


_FINAL: Final = {
    DeliveryState.REJECTED: (Status.REJECTED, "the destination rejected it"),
    DeliveryState.HELD: (Status.HELD, "it waits for a person"),
    DeliveryState.UNCERTAIN: (Status.UNCERTAIN, "nobody knows whether it arrived"),
    DeliveryState.DROPPED: (Status.DROPPED, "a person gave it up"),
    DeliveryState.SKIPPED: (Status.SKIPPED, "a rule of the job leaves it out, or there is nothing in it"),
}


def changed_at_source(known: Original, here: Fact) -> str:
    """Returns why the source does not show the message that was copied under its id; empty where it does."""
    if here.problem:
        return f"the source does not give it: {here.problem}"
    if here.sha256 is not None and known.sha256 is not None:
        return "" if here.sha256 == known.sha256 else "the source has other octets under its id than were copied"
    if here.octets == known.listed_octets:
        return ""
    return f"the source lists it with {here.octets:,} octets, and listed it with {known.listed_octets:,} before"


def compare(known: Original, here: Fact | None, there: Fact, rules: Rules, how: str = "") -> Compared:
    """Compare a message that is at both ends; `here` is None where the source does not show it.

    `how` says in what way the octets differ, for those who know.
    """
    ways, notes = [], []
    if here is not None and (why := changed_at_source(known, here)):
        ways.append(why)
    octets = "; ".join(filter(None, (_octets(known, there, rules), how)))
    recorded = rules.altered(known.receipt)
    if octets and recorded and not recorded.startswith(HOW):
        notes.append(f"altered {recorded}, as recorded: {octets}")
    elif recorded:
        notes.append(f"altered {recorded}, as recorded")
    elif octets:
        ways.append(f"altered by the destination: {octets}")
    if there.problem:
        ways.append(f"the destination does not give it: {there.problem}")
    if here is not None:
        ways += _flags(here.flags, there.flags, rules)
        notes += _unmarked(here.flags, there.flags, rules)
        way, note = _date(here.date, there.date, known.at, rules)
        ways += way
        notes += note
    return Compared(tuple(ways), tuple(notes), bool(octets) or bool(recorded))


def _octets(known: Original, there: Fact, rules: Rules) -> str:
    if known.octets is None or known.sha256 is None:
        return ""
    if there.sha256 is not None:
        if there.sha256 == known.sha256:
            return ""
        return "other octets" if there.octets == known.octets else _instead(there.octets, known.octets)
    return "" if rules.fits(there.octets, known.octets) else _instead(there.octets, known.octets)


def _instead(there: int, octets: int) -> str:
    return f"{there:,} octets instead of {octets:,}"


def _flags(here: Flags | None, there: Flags | None, rules: Rules) -> list[str]:
    if here is None or there is None or rules.flags(here) == there:
        return []
    wanted, found = ({flag.lower(): flag for flag in flags} for flags in (rules.flags(here), there))
    lost = [flag for lower, flag in wanted.items() if lower not in found]
    more = [flag for lower, flag in found.items() if lower not in wanted]
    parts = [
        f"{word} {' '.join(map(printable, flags))}" for word, flags in (("without", lost), ("with", more)) if flags
    ]
    return [f"flags: at the destination {' and '.join(parts)}"] if parts else []


def _unmarked(here: Flags | None, there: Flags | None, rules: Rules) -> list[str]:
    r"""Returns a note of a message that lost the mark \Deleted by the rule of its job."""
    if here is None or there is None or DELETED not in here or DELETED in {*there, *rules.flags(here)}:
        return []
    return [UNMARKED]


def _date(here: int | None, there: int | None, delivered: datetime | None, rules: Rules) -> tuple[list[str], list[str]]:
    if here is None or there is None:
        return [], []
    kept = rules.date(here, delivered)
    if abs(there - kept.date) > kept.slack:
        return [f"date: {told(there)} instead of {told(here)}"], []
    return [], [f"date: {told(there)} instead of {told(here)}, {kept.rule}"] if kept.rule else []


def seconds(date: datetime | None) -> int | None:
    """Returns a date as whole seconds since 1970."""
    return None if date is None else (date - _EPOCH) // SECOND


def date_of(number: int) -> datetime:
    """Returns so many seconds since 1970 as a date."""
    return _EPOCH + min(max(number, _FIRST), _LAST) * SECOND


def told(date: int) -> str:
    """Returns a date for people."""
    return f"{date_of(date):%Y-%m-%d %H:%M:%S} UTC"
