"""Notes of mail programs become flags and come off; notes of ours come off exactly, whatever the message is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.formats.mbox import fields
from syncd.formats.mbox.fields import Form


@pytest.mark.parametrize(
    ("notes", "flags"),
    [
        (b"Status: RO\nX-Status: AF\nX-Keywords: $Work la   \nX-UID: 7\n", "\\Answered \\Flagged \\Seen $Work la"),
        (b"Status: O\n", ""),
        (b"X-Mozilla-Status: 1003\nX-Mozilla-Keys: $label1\n", "\\Answered \\Seen $Forwarded $label1"),
        (b"X-Mozilla-Status: 0004\nX-Mozilla-Status2: 00000000\n", "\\Flagged"),
        (b"X-Mozilla-Status: 0008\n", "\\Deleted"),
        (b"X-Mozilla-Status: none\n", ""),
        (b"status: r\nX-STATUS: D\n", "\\Deleted"),
    ],
)  # fmt: skip
def test_notes_of_other_programs(notes: bytes, flags: str) -> None:
    for header in (notes + b"Subject: x\n", b"Subject: x\n" + notes, b"A: b\n" + notes + b"Subject: x\n"):
        assert set(fields.flags(header)) == set(flags.split())
        assert fields.without_notes(header).replace(b"A: b\n", b"") == b"Subject: x\n"


def test_other_fields_stay() -> None:
    header = b"X-Status-Report: no\nStatus-Code: 1\nReceived: a\n Status: RO\nX-Statuses: 2\n"
    assert fields.without_notes(header) == header
    assert fields.flags(header) == ()


@given(
    st.sets(st.sampled_from(["\\Seen", "\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "$Work", "grün"])),
    st.booleans(),
    st.booleans(),
    st.sampled_from(
        [b"", b"X-Status: A\n", b"X-Keywords: b\n", b"X-Syncd-Form: raw\n", b"Status: RO\n", b"Subject: x\n"]
    ),
)
def test_ours_come_off_exactly(flags: set[str], raw: bool, ended: bool, start: bytes) -> None:  # noqa: FBT001
    written = fields.written(tuple(flags), Form(raw, ended), start)
    found = fields.ours(written + start)
    assert found is not None
    assert (set(found.flags), found.form, found.octets) == (flags, Form(raw, ended), len(written))
    assert found.marked is (raw or not ended or start not in {b"", b"A: b\n", b"Subject: x\n"})


def test_flags_that_are_no_word_are_left_out() -> None:
    found = fields.ours(fields.written(("two words", "line\nend", "\\Odd", ""), Form(), b""))
    assert found is not None
    assert found.flags == ()


@pytest.mark.parametrize(
    ("start", "header"),
    [
        (b"A: b\n\nbody\n\n", b"A: b\n"),
        (b"A: b\r\n\r\nbody\r\n\r\n", b"A: b\r\n"),
        (b"\nbody\n", b""),
        (b"A: b\nC: d", b"A: b\n"),
        (b"", b""),
    ],
)
def test_where_a_header_ends(start: bytes, header: bytes) -> None:
    assert fields.split(start) == (header, start[len(header) :])
