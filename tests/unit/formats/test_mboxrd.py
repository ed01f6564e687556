from __future__ import annotations

import mailbox
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.formats import mboxrd
from syncd.formats.line_ends import all_crlf

PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b">", b">>", b"From ", b"F", b"Fr", b"Fro", b"From", b" ", b"x", b"\0"]
)
MAIL = st.lists(PIECES, max_size=40).map(b"".join) | st.binary(max_size=200)


@pytest.mark.parametrize(
    ("plain", "quoted"),
    [
        (b"", b""),
        (b"From a\n", b">From a\n"),
        (b">From a\n", b">>From a\n"),
        (b"x\nFrom a\n>>From b\n", b"x\n>From a\n>>>From b\n"),
        (b"x From a\nFrom: b\n> From c\nFROM d\n", b"x From a\nFrom: b\n> From c\nFROM d\n"),
        (b"x\rFrom a", b"x\rFrom a"),  # a line starts after LF
        (b"x\r\nFrom a", b"x\r\n>From a"),
    ],
)
def test_quoting(plain: bytes, quoted: bytes) -> None:
    assert mboxrd.quote(plain) == quoted
    assert mboxrd.unquote(quoted) == plain


@pytest.mark.parametrize(
    ("data", "stored", "crlf"),
    [
        (b"", b"", True),
        (b"a\r\nFrom b\r\n", b"a\n>From b\n", True),
        (b"a\nb\n", b"a\nb\n", False),
        (b"a\r\nb\n", b"a\r\nb\n", False),
        (b"a\rb\r\n", b"a\rb\r\n", False),
        (b"\n\r", b"\n\r", False),
        (b"a\r\n\r", b"a\r\n\r", False),
    ],
)
def test_forms(data: bytes, stored: bytes, *, crlf: bool) -> None:
    assert mboxrd.encode(data) == (stored, crlf)
    assert mboxrd.decode(stored, crlf=crlf) == data


@given(MAIL)
def test_from_is_found_wherever_blocks_end(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mboxrd, "_BLOCK_OCTETS", 7)
        in_blocks = mboxrd.quote(data)
    assert in_blocks == re.sub(rb"(^|\n)(?=>*From )", rb"\1>", data)


@given(MAIL)
def test_decode_undoes_encode(data: bytes) -> None:
    stored, crlf = mboxrd.encode(data)
    assert mboxrd.decode(stored, crlf=crlf) == data
    assert crlf == (data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n"))


@given(MAIL, st.integers(1, 9))
def test_a_stream_gives_the_same_at_every_boundary(data: bytes, size: int) -> None:
    stored, crlf = mboxrd.encode(data)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert all_crlf(pieces) == crlf
    assert b"".join(mboxrd.encode_stream(pieces, crlf=crlf)) == stored
    pieces = [stored[at : at + size] for at in range(0, len(stored), size)]
    assert b"".join(mboxrd.decode_stream(pieces, crlf=crlf)) == data


def test_a_long_run_of_quote_marks_is_not_held_in_memory() -> None:
    chunks = [b">" * 1000] * 50 + [b"From x\n"]
    longest = 0
    for piece in mboxrd.encode_stream(chunks, crlf=False):
        longest = max(longest, len(piece))
    assert longest <= 1010
    assert b"".join(mboxrd.encode_stream(chunks, crlf=False)) == b">" * 50_001 + b"From x\n"


@given(st.lists(MAIL, max_size=8))
def test_any_mbox_reader_finds_as_many_messages(tmp_path_factory: pytest.TempPathFactory, mails: list[bytes]) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "any.mbox"
    line = mboxrd.from_line(0.0)
    records = []
    for stored, _ in map(mboxrd.encode, mails):
        records += [line, stored, mboxrd.separator(stored)]
    path.write_bytes(b"".join(records))
    box = mailbox.mbox(path, create=False)
    try:
        assert len(box) == len(mails)
    finally:
        box.close()


def test_the_from_line_is_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert (
        mboxrd.from_line(datetime(2026, 11, 3, 1, 5, 9, tzinfo=east))
        == b"From MAILER-DAEMON Mon Nov  2 23:05:09 2026\n"
    )
    assert mboxrd.from_line(datetime(1, 1, 1, tzinfo=UTC)) == b"From MAILER-DAEMON Mon Jan  1 00:00:00 1\n"
    assert mboxrd.from_line(0.0) == b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ((), b""),
        (("$Junk",), b""),
        (("\\Seen",), b"Status: RO\n"),
        (("\\Flagged",), b"Status: O\nX-Status: F\n"),
        (("\\SEEN", "\\Draft", "\\Answered", "\\Deleted"), b"Status: RO\nX-Status: ADT\n"),
    ],
)
def test_flags_in_an_mbox(flags: tuple[str, ...], fields: bytes):
    assert mboxrd.status_fields(flags) == fields
