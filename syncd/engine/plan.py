"""Decides what a run does with each mailbox and each message: pure functions over what the ledger knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from syncd.db.rows import KnownMailbox, WorkRow
from syncd.db.states import MessageState
from syncd.mail.mailbox import Mailbox


class Visit(Enum):
    """The decision about a mailbox that the source lists."""

    SKIP = "skip"  # nothing changed and nothing is left to do: no command is sent for it
    LIST = "list"


def visit(known: KnownMailbox) -> Visit:
    """Decide about one mailbox.

    A missing message keeps its mailbox open: a second listing without it shows that it is gone, although the source's
    token stands still.
    """
    return Visit.SKIP if known.planned and not known.is_open else Visit.LIST


class Would(StrEnum):
    """The plan of a run for a mailbox, as people are told before it."""

    FETCH = "fetch all of it"
    LOOK = "list it and fetch what is new"
    NOTHING = "nothing: it is as it was"
    RECORD = "note that it is empty"
    MAKE = "make it (empty), unless it is there"
    LEFT_OUT = "leave it out"
    REFUSE = "refuse it: another one would become the same mailbox"


def would(known: KnownMailbox, *, makes: bool) -> Would:
    """Returns what a run does with a mailbox that the job reads; `makes` as in `would_at_first`."""
    if visit(known) is Visit.SKIP:
        return Would.NOTHING
    if known.present:
        return Would.LOOK
    return would_at_first(known.scope.mailbox, makes=makes)


def would_at_first(mailbox: Mailbox, *, makes: bool) -> Would:
    """Returns the same for a mailbox of which nothing is known. With `makes=True` an account gets a mailbox for it."""
    if mailbox.messages != 0:
        return Would.FETCH
    return Would.MAKE if makes else Would.RECORD


class Action(Enum):
    """The decision about a message that has an open delivery."""

    FETCH = "fetch"
    FETCH_LAST = "fetch last"  # it failed before, and may end the session: after all others, and alone
    BACKFILL = "backfill"  # an archive has it: it is read there, not fetched again
    TOO_LARGE = "too large"
    LATER = "later"  # the server could not serve it; its time has not come
    PERSON = "person"  # the server could not serve it, again and again; or it is noted as too large


@dataclass(frozen=True, slots=True)
class Rules:
    """The values that a plan depends on besides listing and ledger."""

    now: datetime
    message_octets: int  # a larger message is not fetched
    archive_mask: int  # bits of the routes that can be read back, be it in another run
    usable_mask: int  # bits of the routes that take deliveries in this run


def decide(row: WorkRow, rules: Rules) -> Action | None:
    """Decide about one message; None where its open deliveries are all on routes left out of this run."""
    if not row.pending_mask & rules.usable_mask:
        return None
    if row.delivered_mask & rules.archive_mask:
        return Action.BACKFILL
    failed = row.state is MessageState.UNFETCHABLE
    if row.octets > rules.message_octets:
        return Action.PERSON if failed and row.retry_at is None else Action.TOO_LARGE
    if failed and row.retry_at is None and row.attempts > 1:  # a single failure is of a size: the limit was raised
        return Action.PERSON
    if failed and row.retry_at is not None and row.retry_at > rules.now:
        return Action.LATER
    return Action.FETCH_LAST if failed else Action.FETCH


def plan(rows: Iterable[WorkRow], rules: Rules) -> Iterator[tuple[Action, WorkRow]]:
    """Decide for a chunk, in its order."""
    for row in rows:
        action = decide(row, rules)
        if action is not None:
            yield action, row
