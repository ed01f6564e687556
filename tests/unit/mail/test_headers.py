from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.mail.headers import DATED, FIELD_CAP_OCTETS, HEADER_CAP_OCTETS, decode, fields, header, sent_at


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_every_kind_of_line_end_and_folding(end: bytes) -> None:
    start = end.join([b"From: a@example.net", b"Subject: one", b"\ttwo", b"  three", b"", b"Subject: body"])
    assert fields(start, ["subject", "from"]) == {"subject": "one two three", "from": "a@example.net"}


def test_the_first_field_of_a_name_counts_and_names_have_no_case() -> None:
    assert fields(b"SUBJECT : first\nsubject: second\n\n", ["subject"]) == {"subject": "first"}


def test_what_is_no_field_is_passed_over() -> None:
    assert fields(b"From nobody Mon Sep 17\nno colon here\n: nameless\nSubject: x\n", ["subject"]) == {"subject": "x"}


def test_a_body_is_not_a_header() -> None:
    assert fields(b"\nSubject: x\n", ["subject"]) == {}
    assert fields(b"", ["subject"]) == {}


def test_an_endless_header_is_read_as_far_as_the_cap() -> None:
    filler = b"X-Filler: " + b"x" * 90 + b"\n"
    start = filler * (HEADER_CAP_OCTETS // len(filler) + 1) + b"Subject: too far\n\n"
    assert fields(start, ["subject"]) == {}


def test_a_field_folded_without_end_is_cut() -> None:
    start = b"Subject: start\n" + b" more\n" * 10_000
    assert len(fields(start, ["subject"])["subject"]) <= FIELD_CAP_OCTETS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?utf-8?Q?caf=C3=A9?=", "café"),
        (b"=?ISO-8859-1?B?Y2Fm6Q==?= =?utf-8?q?_au_lait?=", "café au lait"),
        (b"plain =?utf-8?Q?mixed?= plain", "plain mixed plain"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "café"),
        (b"=?x-unknown?Q?abc?=", "=?x-unknown?Q?abc?="),
        (b"=?utf-8?B?SGk?= unpadded", "Hi unpadded"),
        (b"=?utf-8?B?", "=?utf-8?B?"),
        (b"  much \t  room ", "much room"),
    ],
)
def test_decoding(value: bytes, text: str) -> None:
    assert decode(value) == text


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-7", "idna", "punycode", "rot13", "unknown-8bit"])
@pytest.mark.parametrize("word", ["\\xff=FF", "=", "=D8=00", "a" * 70])
def test_decoding_never_raises(charset: str, word: str) -> None:
    assert isinstance(decode(f"=?{charset}?Q?{word}?=".encode()), str)
    assert isinstance(decode(f"=?{charset}?B?{word}?=".encode()), str)


def test_the_header_ends_at_the_first_empty_line() -> None:
    assert header(b"A: b\r\nC: d\r\n\r\nbody\r\n\r\n") == b"A: b\r\nC: d\r\n"
    assert header(b"\r\nbody") == b""
    assert header(b"A: b\nno end") == b"A: b\nno end"


def test_dates() -> None:
    assert sent_at({"date": "Thu, 1 Jan 2026 12:00:00 +0000"}) == datetime(2026, 1, 1, 12, tzinfo=UTC)
    offset = sent_at({"date": "1 Jan 2026 12:00 -0500"})
    assert offset is not None
    assert offset.utcoffset() == timedelta(hours=-5)
    for nonsense in ({}, {"date": ""}, {"date": "yesterday"}, {"date": "99 Foo 99999 99:99:99 +9999999"}):
        assert sent_at(nonsense) is None


@pytest.mark.parametrize("date", ["1 Jan 0101 00:00 +1400", "31 Dec 9999 23:59 -1400", "1 Jan 1899 00:00 +0000"])
def test_a_date_that_no_other_zone_has_is_none(date: str) -> None:
    """One such message in an archive, and `syncd errors` ended in an OverflowError."""
    assert sent_at({"date": date}) is None


@pytest.mark.parametrize(
    ("date", "received", "said"),
    [
        ("", "from a by b; Mon, 2 Mar 2026 10:00:00 +0100 (CET)", datetime(2026, 3, 2, 9, tzinfo=UTC)),
        ("yesterday", "from a (x; 1 Jan 2001) by b; 2 Mar 2026 10:00 +0000", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("1 Jan 1899 00:00 +0000", "by b; 2 Mar 2026 10:00 -0000", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("1 Jan 2026 12:00 +0000", "by b; 2 Mar 2026 10:00 +0000", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("", "by b; 31 Dec 9999 23:59 -1400", None),
        ("", "2 Mar 2026 10:00 +0000 without a semicolon", None),
        ("", "by b;", None),
    ],
)
def test_the_top_received_field_stands_in_for_the_date(date: str, received: str, said: datetime | None) -> None:
    start = f"Received: {received}\r\nReceived: by c; 1 Jan 2001 00:00 +0000\r\nDate: {date}\r\n\r\n".encode()
    assert sent_at(fields(start, DATED)) == said
