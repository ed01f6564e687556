from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from syncd.imap.fetch import Asked, encode_items, instant
from syncd.imap.sets import UidSet
from syncd.imap.values import BODY, FetchItems
from tests.support.imap_samples import row


@pytest.mark.parametrize(
    ("items", "written"),
    [
        (FetchItems(), b"(UID)"),
        (FetchItems(flags=True, internal_date=True, size=True, modseq=True),
         b"(UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ)"),
        (FetchItems(body=True), b"(UID BODY.PEEK[])"),  # I75: never RFC822, never without PEEK
        (FetchItems(header=True), b"(UID BODY.PEEK[HEADER])"),  # I144: never HEADER.FIELDS
        (FetchItems(gmail_id=True, gmail_labels=True, email_id=True), b"(UID EMAILID X-GM-MSGID X-GM-LABELS)"),
    ],
)  # fmt: skip
def test_the_items_of_a_command(items: FetchItems, written: bytes):
    assert encode_items(items) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"17-Jul-1996 02:44:25 -0700", datetime(1996, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(hours=-7)))),
        (b" 1-jan-2024 00:00:00 +0530", datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
        (b"1-Jan-2024 00.00.00 +0000", datetime(2024, 1, 1, tzinfo=timezone(timedelta(0)))),
        (b"01-Jan-2024 1:02:03", datetime(2024, 1, 1, 1, 2, 3, tzinfo=timezone(timedelta(0)))),
        (b"31-Dec-2016 23:59:60 +0000", datetime(2016, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(0)))),
        (b"30-Dec-1899 00:00:00 +0000", datetime(1899, 12, 30, tzinfo=timezone(timedelta(0)))),
    ],
)
def test_i80_i143_dates_as_servers_write_them(text: bytes, expected: datetime):
    found = instant(text)
    assert found == expected
    assert found is not None
    assert found.utcoffset() == expected.utcoffset()


@pytest.mark.parametrize(
    "text",
    [b"", b"00-Jan-0000 00:00:00 +0000", b"31-Feb-2024 00:00:00 +0000", b"17-Juli-1996 02:44:25 +0200",
     b"Wed, 17 Jul 1996 02:44:25 -0700", b"17-Jul-1996 25:00:00 +0000", b"17-Jul-1996 02:44:25 +9900"],
)  # fmt: skip
def test_i80_i143_dates_that_there_cannot_be(text: bytes):
    assert instant(text) is None


def test_i71_i130_rows_are_answers_only_for_what_was_asked():
    asked = Asked(UidSet.parse(b"3:5,9"), FetchItems(body=True))
    assert not asked.wants(7)  # I130: nobody asked for it
    assert not asked.wants(0)  # I62: without a UID it may be any
    nine = row(9, 9, body=b"x", texts=BODY)
    assert asked.answer(nine) == nine
    assert not asked.wants(9)  # I71: twice
    nil = row(2, 4, texts=BODY)
    assert asked.answer(nil) == nil  # I72: NIL is an answer
    assert asked.missing == UidSet.of([3, 5])  # I64


def test_i71_what_is_said_of_a_message_in_several_responses_is_put_together():
    asked = Asked(UidSet.parse(b"3:5"), FetchItems(flags=True, size=True))
    assert asked.answer(row(3, 3, flags=("x",))) is None
    assert asked.answer(row(4, 4, flags=("y",))) is None
    assert asked.answer(row(3, 3, size=7)) == row(3, 3, flags=("x",), size=7)
    assert asked.rest() == [row(4, 4, flags=("y",))]
    assert asked.missing == UidSet.of([5])


def test_i71_the_later_word_counts():
    asked = Asked(UidSet.of([3]), FetchItems(body=True))
    assert asked.answer(row(3, 3, flags=("old",), email_id="E", labels=())) is None
    assert asked.answer(row(3, 3, flags=(), body=b"", texts=BODY)) == row(
        3, 3, flags=(), body=b"", texts=BODY, email_id="E", labels=()
    )


def test_lines_of_a_listing_are_answers_as_well():
    asked = Asked(UidSet.parse(b"3:9"), FetchItems(size=True))
    assert asked.answer(row(9, 9, flags=("x",))) is None
    lines = [row(3, 3, size=7), row(4, 4, size=8), row(4, 4, size=8), row(12, 12, size=1), row(9, 9, size=5)]
    answers = [lines[0], lines[1], row(9, 9, flags=("x",), size=5)]
    assert asked.answers(lines) == (answers, [lines[2], lines[3]])  # I71 twice, I130 not asked for
    assert asked.missing == UidSet.parse(b"5:8")


def test_lines_of_a_listing_do_not_answer_what_else_was_asked_for():
    asked = Asked(UidSet.parse(b"3"), FetchItems(body=True))
    assert asked.answers([row(3, 3, size=7)]) == ([], [])
    assert asked.answer(row(3, 3, body=b"x", texts=BODY)) == row(3, 3, size=7, body=b"x", texts=BODY)
