"""Listings that should not be believed at once (pure).

Absence is not evidence: a maildrop that turns up empty, or whose unique-ids are all new, may be a
restored server, a moved account or a wrong user as well as a tidy owner. Copying goes on; removals
wait for a person.
"""

from __future__ import annotations

from enum import Enum

from syncd.db.ledger import Overlap


class Anomaly(Enum):
    """What looks wrong; the value is told to the person."""

    EMPTY = "the maildrop is empty though it held messages at the last listing"
    RENAMED = "no unique-id of the last listing is there any more, but other messages are (server moved or rebuilt?)"


def anomaly(seen: Overlap, lifted: str | None = None) -> Anomaly | None:
    """Judge a complete listing against what the ledger believed to be there.

    `lifted` is the reason of a freeze that a person lifts with this run: they know that the maildrop is empty. Names
    that are all new once more are another event.
    """
    if not seen.present_before or seen.in_both:
        return None
    if seen.listed:
        return Anomaly.RENAMED
    return None if lifted == Anomaly.EMPTY.value else Anomaly.EMPTY
