"""Our fields before every kind of first octets: as a table of what leaves."""

from __future__ import annotations

import pytest

from syncd.destinations.smtp.opening import LOOK_OCTETS, Opening, opening

OURS = b"Received: by me.example\r\nX-Syncd-Id: x\r\n"
FROM = b"From me@example.org  Tue May 10 14:55:10 2016\r\n"
HEADER = b"From: a@example.net\r\nSubject: visible\r\n\r\nbody\r\n"
AS_MAILBOX_LINE = "mbox line kept as X-Mailbox-Line"
AS_FIRST_LINE = "first line kept as X-Syncd-First-Line"
AS_TEXT = "empty line put before the text, which has no header"


def sent(message: bytes) -> bytes:
    """The octets that leave for a message, without our own fields."""
    found = opening(OURS, message[:LOOK_OCTETS])
    assert found.prefix.startswith(OURS)
    return found.prefix.removeprefix(OURS) + message[found.skip :]


@pytest.mark.parametrize(
    "message",
    [
        HEADER,
        b"Subject : old style\r\n\r\nbody\r\n",
        b"",
        b"x",
        b"\r\n",
        b"\r\nonly a body\r\n",
        b"\nonly a body\n",
        b"\r\n leading space in a body\r\n",
        b"\r\nFrom the second line on\r\n",
        b"plain first line\r\nmore\r\n",
        b"plain first line\r\n folded\r\nSubject: in the text\r\n\r\nmore\r\n",
        b": no name\r\nSubject: x\r\n\r\nbody\r\n",
        b"\0Subject: x\r\n\r\nbody\r\n",
        b"\xef\xbb\xbfFrom: a@example.net\r\nSubject: x\r\n\r\nbody\r\n",
        "Größe: x\r\nSubject: y\r\n\r\nbody\r\n".encode(),
        b"\xff\xfe\x00\x01",
        b"\x0bvertical tab\r\n",
        b"\xa0no-break space\r\n",
        b"FROM x\r\nSubject: y\r\n\r\n",
        b"From : a@example.net\r\nSubject: old style\r\n\r\n",
        b"From\tx\r\nSubject: y\r\n\r\n",
        b"> From x\r\nSubject: y\r\n\r\n",
        b"From without a line end",
        b"Never: ends\r\n" * (LOOK_OCTETS // 8),
    ],
)
def test_other_first_octets_are_left_as_they_are(message: bytes):
    assert opening(OURS, message[:LOOK_OCTETS]) == Opening(OURS)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("quotes", [b"", b">", b">>>"])
def test_a_from_line_before_a_header_becomes_a_field(quotes: bytes, line_end: bytes):
    message = (quotes + FROM + HEADER).replace(b"\r\n", line_end)
    assert sent(message) == b"X-Mailbox-Line: " + message
    assert opening(OURS, message).note == AS_MAILBOX_LINE


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (FROM + b">" + FROM + HEADER, b"X-Mailbox-Line: " + FROM + b"X-Mailbox-Line: >" + FROM + HEADER),
        (FROM + b"\r\nonly a body\r\n", b"X-Mailbox-Line: " + FROM + b"\r\nonly a body\r\n"),
        (FROM + b"\tfolded\r\n" + HEADER, b"X-Mailbox-Line: " + FROM + b"\tfolded\r\n" + HEADER),
        (FROM + b"Subject : x\r\n\r\n", b"X-Mailbox-Line: " + FROM + b"Subject : x\r\n\r\n"),
    ],
)
def test_several_from_lines_and_what_may_follow(message: bytes, expected: bytes):
    assert sent(message) == expected
    assert opening(OURS, message).note == AS_MAILBOX_LINE


@pytest.mark.parametrize(
    "message",
    [
        b" ",
        b"\t\r\n",
        b" indented first line\r\nsecond line\r\n",
        b"\tfirst\r\nsecond\r\n",
        b" first\r\n second\r\n\r\nthird\r\n",
        b" first\r\nsecond\r\nSubject: in the text\r\n\r\nmore\r\n",
        b"  \r\n\r\nbody\r\n",
        b"\tfirst\r\nFrom a letter\r\n",
        b" x" * LOOK_OCTETS,
        b" folded\r\n" * LOOK_OCTETS,
        b"From here on it is text\r\nmore text\r\n",
        b">From a quotation\r\nmore text\r\n",
        FROM + b" indented\r\ntext\r\n",
        FROM + FROM,
    ],
)
def test_a_text_that_a_field_would_swallow_is_text(message: bytes):
    assert sent(message) == b"\r\n" + message
    assert opening(OURS, message[:LOOK_OCTETS]).note == AS_TEXT


@pytest.mark.parametrize("lines", [b"\tby mx.example.net; Tue, 10 May 2016\r\n", b" a\r\n\tb\r\n", b" \r\n"])
def test_a_header_whose_first_line_is_lost_stays_a_header(lines: bytes):
    assert sent(lines + HEADER) == b"X-Syncd-First-Line:" + lines + HEADER
    assert opening(OURS, lines + HEADER).note == AS_FIRST_LINE


@pytest.mark.parametrize("message", [HEADER, FROM + HEADER, b" text\r\n", b""])
def test_without_fields_of_ours_nothing_is_done(message: bytes):
    assert opening(b"", message) == Opening(b"")
