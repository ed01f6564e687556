from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.db.rows import KnownMailbox, MailboxScope, RunScope, WorkRow
from syncd.db.states import MessageState
from syncd.engine.plan import Action, Rules, Visit, decide, plan, visit
from syncd.mail.listing import LineNumber
from syncd.mail.mailbox import MAILDROP, Epoch
from syncd.mail.message import Key, Uid

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPE = MailboxScope(RunScope(1, 1, 1, 1, ()), 1, MAILDROP, Epoch(1))
ARCHIVE, RELAY = 0b01, 0b10
RULES = Rules(NOW, message_octets=1000, archive_mask=ARCHIVE, usable_mask=ARCHIVE | RELAY)


def row(
    *,
    state: MessageState = MessageState.LISTED,
    octets: int = 10,
    attempts: int = 0,
    retry_at: datetime | None = None,
    pending: int = ARCHIVE | RELAY,
    delivered: int = 0,
    key: int = 1,
) -> WorkRow:
    return WorkRow(Key(key), LineNumber(1), Uid(b"u"), 1, octets, state, None, attempts, retry_at, pending, delivered)


# --- mailboxes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned", "is_open", "what"),
    [
        (True, False, Visit.SKIP),
        (True, True, Visit.LIST),  # a message is missing, or a delivery may go on
        (False, False, Visit.LIST),  # the token changed, there is none, or a destination is new
        (False, True, Visit.LIST),
    ],
)
def test_only_a_mailbox_that_is_as_it_was_planned_is_skipped(planned: bool, is_open: bool, what: Visit):  # noqa: FBT001
    assert visit(KnownMailbox(SCOPE, planned, is_open, 5)) is what


# --- messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "action"),
    [
        (row(), Action.FETCH),
        (row(pending=RELAY), Action.FETCH),
        (row(pending=0b100), None),  # a route that is left out
        (row(pending=RELAY, delivered=ARCHIVE), Action.BACKFILL),
        (row(pending=ARCHIVE, delivered=RELAY), Action.FETCH),  # a relay gives nothing back
        (row(octets=1000), Action.FETCH),
        (row(octets=1001), Action.TOO_LARGE),
        (row(octets=1001, pending=RELAY, delivered=ARCHIVE), Action.BACKFILL),
    ],
)
def test_a_message_that_never_failed(message: WorkRow, action: Action | None):
    assert decide(message, RULES) is action


UNFETCHABLE = MessageState.UNFETCHABLE


@pytest.mark.parametrize(
    ("message", "action"),
    [
        (row(state=UNFETCHABLE, attempts=1, retry_at=NOW), Action.FETCH_LAST),
        (row(state=UNFETCHABLE, attempts=1, retry_at=NOW + timedelta(seconds=1)), Action.LATER),
        (row(state=UNFETCHABLE, attempts=2), Action.PERSON),
        (row(state=UNFETCHABLE, attempts=1), Action.FETCH_LAST),  # it was too large, and the limit was raised
        (row(state=UNFETCHABLE, attempts=1, octets=1001), Action.PERSON),
        (row(state=UNFETCHABLE, attempts=1, octets=1001, retry_at=NOW), Action.TOO_LARGE),
    ],
)
def test_a_message_that_failed_before(message: WorkRow, action: Action):
    assert decide(message, RULES) is action


def test_a_chunk_keeps_its_order_and_leaves_out_what_is_not_to_be_done():
    rows = [row(key=1), row(key=2, pending=0b100), row(key=3, octets=1001)]
    assert [(action, it.key) for action, it in plan(rows, RULES)] == [(Action.FETCH, 1), (Action.TOO_LARGE, 3)]
