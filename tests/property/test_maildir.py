from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from syncd.formats.line_ends import all_crlf, to_crlf, to_lf, without_cr
from syncd.formats.maildir.names import folder
from syncd.formats.maildir.stems import StemSet

NAMES = st.one_of(
    st.binary(max_size=400), st.lists(st.sampled_from([b"/", b".", b"=", b"2E", b"~", b" ", b"a"])).map(b"".join)
)
MAIL = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\n\r"])).map(b"".join)


@given(NAMES, NAMES)
def test_two_mailboxes_never_share_a_folder(one: bytes, other: bytes):
    same = one == other or one.upper() == other.upper() == b"INBOX"
    assert (folder(one) == folder(other)) == same


@given(NAMES)
def test_a_folder_is_one_harmless_name(mailbox: bytes):
    name = folder(mailbox)
    assert re.fullmatch(r"|\.(?!syncd-)[A-Za-z0-9_&+,. =~-]{1,199}", name)
    assert ".." not in name
    assert not name.endswith((".", " "))


@given(MAIL, st.integers(1, 5))
def test_line_ends_come_back_or_are_left_alone(data: bytes, size: int):
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    text = to_lf(data)
    assert all_crlf(chunks) == (text is not None)
    assert (text is None) == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", data))
    if text is not None:
        assert b"\r" not in text
        assert b"".join(without_cr(chunks)) == text
        assert b"".join(to_crlf([text[at : at + size] for at in range(0, len(text), size)])) == data


@given(st.lists(st.integers(0, 40).map("{:016x}00000000".format)))
def test_stems_are_new_once(stems: list[str]):
    known = StemSet(pack_at=7)
    seen: set[str] = set()
    for stem in stems:
        assert known.add(stem) == (stem[:16] not in seen)
        seen.add(stem[:16])
