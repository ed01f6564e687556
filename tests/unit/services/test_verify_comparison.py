"""One message compared at both ends, and the ways in which octets differ."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from syncd.db.ledger.proof import Known
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.mail.alterations import ways
from syncd.mail.flags import Flags
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Uid
from syncd.services.verify.comparison import Fact, Original, Rules, compare, undelivered
from syncd.services.verify.copies import _with_lf, imap_rules
from syncd.services.verify.values import Status

MAIL = b"Subject: hi\r\nFrom: a@b.c\r\n\r\nbody\r\n"
AT = datetime(2026, 5, 1, tzinfo=UTC)
SENT = int(datetime(2019, 2, 1, tzinfo=UTC).timestamp())
ALTERED = "1:7 INBOX [altered by the destination]"
CONVERTED = "1:7 INBOX [altered by us: CRLF at the end of each line]"


def original(receipt: str = "1:7 INBOX") -> Original:
    return Original(len(MAIL), sha256(MAIL).digest(), None, len(MAIL), AT, receipt)


def fact(
    octets: int = len(MAIL), flags: Flags | None = (), date: int | None = SENT, digest: bytes | None = None
) -> Fact:
    return Fact(b"7", 1, octets, flags, date, digest)


@pytest.mark.parametrize(
    ("here", "there", "receipt", "status", "reason"),
    [
        (fact(), fact(), "", Status.EQUAL, ""),
        (fact(flags=None, date=None), fact(flags=("\\Seen",), date=5), "", Status.EQUAL, ""),
        (fact(), fact(flags=("\\Seen",)), "", Status.DIFFERENT, "flags: at the destination with \\Seen"),
        (fact(flags=("$Work",)), fact(), "", Status.DIFFERENT, "flags: at the destination without $Work"),
        (fact(flags=("$work",)), fact(flags=("$WORK",)), "", Status.EQUAL, ""),
        (fact(flags=("\\Deleted",)), fact(), "", Status.ALTERED, "copied without the mark"),
        (fact(date=SENT), fact(date=SENT + 1), "", Status.DIFFERENT, "00:00:01 UTC instead of 2019-02-01 00:00:00"),
        (fact(date=-5), fact(date=86400), "", Status.ALTERED, "altered by us: servers take no date before 1970"),
        (fact(date=SENT * 3), fact(date=int(AT.timestamp())), "", Status.ALTERED, "no date in the future"),
        (fact(), fact(octets=30), "", Status.DIFFERENT, "altered by the destination: 30 octets instead of 34"),
        (fact(), fact(octets=30), ALTERED, Status.ALTERED, "as recorded: 30 octets instead of 34"),
        (fact(), fact(), ALTERED, Status.ALTERED, "altered by the destination, as recorded"),
        (
            fact(),
            fact(octets=35),
            CONVERTED,
            Status.ALTERED,
            "altered by us: CRLF at the end of each line, as recorded: 35 octets",
        ),
        (fact(), fact(octets=30, flags=("\\Seen",)), ALTERED, Status.DIFFERENT, "with \\Seen"),
        (fact(), fact(digest=sha256(MAIL).digest()), "", Status.EQUAL, ""),
        (fact(), fact(digest=bytes(32)), "", Status.DIFFERENT, "other octets"),
        (fact(octets=35), fact(), "", Status.DIFFERENT, "the source lists it with 35 octets"),
        (fact(digest=bytes(32)), fact(), "", Status.DIFFERENT, "the source has other octets under its id"),
        (None, fact(flags=("\\Seen",)), "", Status.EQUAL, ""),
    ],
)
def test_a_message_at_both_ends(here: Fact | None, there: Fact, receipt: str, status: Status, reason: str) -> None:
    verdict = compare(original(receipt), here, there, imap_rules()).verdict
    assert verdict.status is status
    assert reason in verdict.reason
    assert bool(reason) == bool(verdict.reason)


@pytest.mark.parametrize(("octets", "same"), [(34, True), (17, True), (16, False), (35, False)])
def test_files_with_lf_have_between_half_of_the_octets_and_all_of_them(octets: int, *, same: bool) -> None:
    compared = compare(original(), fact(), fact(octets=octets), Rules(tells_octets=False, fits=_with_lf))
    assert (not compared.ways) is same


@pytest.mark.parametrize(
    ("delivery", "state", "status"),
    [
        (None, MessageState.LISTED, Status.WAITING),
        (DeliveryState.PENDING, MessageState.FETCHED, Status.WAITING),
        (DeliveryState.PENDING, MessageState.UNFETCHABLE, Status.UNFETCHABLE),
        (DeliveryState.SENDING, MessageState.FETCHED, Status.WAITING),
        (DeliveryState.DEFERRED, MessageState.FETCHED, Status.WAITING),
        (DeliveryState.REJECTED, MessageState.FETCHED, Status.REJECTED),
        (DeliveryState.HELD, MessageState.FETCHED, Status.HELD),
        (DeliveryState.UNCERTAIN, MessageState.FETCHED, Status.UNCERTAIN),
        (DeliveryState.SKIPPED, MessageState.LISTED, Status.SKIPPED),
        (DeliveryState.DROPPED, MessageState.FETCHED, Status.DROPPED),
    ],
)
def test_a_message_that_is_not_delivered(delivery: DeliveryState | None, state: MessageState, status: Status) -> None:
    known = Known(
        Key(1), Epoch(1), Uid(b"7"), 1, state, Disposal.KEPT, 34, None, None, None, delivery, None, "", "", ""
    )  # fmt: skip
    assert undelivered(known).status is status
    assert undelivered(known).reason
    why = undelivered(known._replace(reason="why", unfetchable="why" if status is Status.UNFETCHABLE else ""))
    assert why.reason == "why" or delivery is DeliveryState.SENDING


@pytest.mark.parametrize(
    ("before", "after", "way"),
    [
        (b"A: b\r\n\r\nc\r\n", b"A: b\n\nc\n", "line ends are others"),
        (b"A: \xe4\xf6\r\n\r\nc\r\n", b"A: XX\r\n\r\nc\r\n", "each 8-bit octet in the header became X"),
        (b"A: b\r\n\r\nc\0d\r\n", b"A: b\r\n\r\nc\x80d\r\n", "each NUL became 0x80"),
        (b"A: b\r\n\r\nc\0d\r\n", b"A: b\r\n\r\nc\r\n", "cut off at the first NUL"),
        (b"A: b\r\nStatus: RO\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n", "header fields are gone: Status"),
        (b"A: b\r\n\r\nc\r\n", b"X-UID: 7\r\nA: b\r\n\r\nc\r\n", "header fields came in: X-UID"),
        (b"A: b\r\n\r\nc\r\n", b"A: c\r\n\r\nc\r\n", "the header differs from octet 3 on"),
        (b"A: b\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n-- \r\nad\r\n", "octets were added at the end"),
        (b"A: b\r\n\r\nc\r\nd\r\n", b"A: b\r\n\r\nc\r\n", "3 octets are missing at the end"),
        (b"A: b\r\n\r\ncde\r\n", b"A: b\r\n\r\ncXe\r\n", "the body differs from octet 1 on"),
    ],
)
def test_i154_the_way_in_which_a_server_altered_a_message(before: bytes, after: bytes, way: str) -> None:
    assert ways(before, before) == ()
    [said] = ways(before, after)
    assert way in said
