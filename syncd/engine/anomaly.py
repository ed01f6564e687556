"""Listings that should not be believed at once (pure).

Absence is not evidence: a mailbox that turns up empty, or whose ids are all new, may be a restored server, a moved
account or a wrong user as well as a tidy owner. Copying goes on; removals from the mailbox wait for a person.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from syncd.db.rows import Freeze, Overlap


class Anomaly(NamedTuple):
    """A listing that looks wrong: `why` decides, `reason` is for people."""

    why: Freeze
    reason: str


EMPTY: Final = Anomaly(Freeze.EMPTY, "the mailbox is empty though it had messages at the last listing")
EMPTIED: Final = Anomaly(Freeze.EMPTY, "the mailbox has other messages, and none of the last listing")
RENAMED: Final = Anomaly(
    Freeze.RENAMED,
    "no unique-id of the last listing is there any more, but other messages are (server moved or rebuilt?)",
)
VALIDITY: Final = Anomaly(
    Freeze.VALIDITY, "UIDVALIDITY changed: the server numbers the messages of the mailbox from the start again"
)


def anomaly(seen: Overlap, *, validity_changed: bool | None = None, lifted: Freeze | None = None) -> Anomaly | None:
    """Judge a complete listing against what the ledger believed to be there.

    `validity_changed` is None for a source without UIDVALIDITY. Where ids are all new, a source with the same
    UIDVALIDITY shows that the mailbox was emptied; only a source without it may have renamed the messages.

    `lifted` is why removals were frozen, if a person lifts that freeze with this run: then they know that the mailbox
    is empty. Renaming once more is another event, whatever was lifted.
    """
    if not seen.present_before:
        return None
    if validity_changed:
        return VALIDITY
    if seen.in_both:
        return None
    if seen.listed and validity_changed is None:
        return RENAMED
    if lifted is Freeze.EMPTY:
        return None
    return EMPTIED if seen.listed else EMPTY
