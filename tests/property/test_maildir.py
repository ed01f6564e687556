from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from syncd.formats.line_ends import all_crlf, to_crlf, to_lf, without_cr
from syncd.formats.maildir.layout import Layout, folder, path_of
from syncd.formats.maildir.stems import StemSet
from syncd.mail.mailbox import Path

OCTETS = st.binary(max_size=200).map(lambda octets: octets.decode("utf-8", "surrogateescape"))
LEVELS = st.one_of(OCTETS, st.text(max_size=100), st.lists(st.sampled_from([*"/.=~ a", "2E"])).map("".join))
PATHS = st.one_of(st.lists(LEVELS, max_size=4).map(tuple), st.just(("INBOX",)))
MAIL = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b"\n\r"])).map(b"".join)


LAYOUTS = st.sampled_from(Layout)


@given(PATHS, PATHS, LAYOUTS)
def test_two_mailboxes_never_share_a_folder(one: Path, other: Path, layout: Layout):
    assert (folder(one, layout) == folder(other, layout)) == (one == other)


@given(PATHS, LAYOUTS)
def test_a_folder_gives_its_path_back_unless_it_was_too_long(path: Path, layout: Layout):
    name = folder(path, layout)
    assert path_of(name, layout) == path or "=~" in name


@given(PATHS)
def test_a_folder_is_one_harmless_name(path: Path):
    name = folder(path)
    assert re.fullmatch(r"|\.(?!syncd-)[A-Za-z0-9_&+,. =~()\[\]-]{1,199}", name)
    assert ".." not in name
    assert not name.endswith((".", " "))


@given(PATHS)
def test_a_nested_folder_is_harmless_names(path: Path):
    name = folder(path, Layout.NESTED)
    for level in name.split("/") if name else ():
        assert re.fullmatch(r"[A-Za-z0-9_&+,. =~()\[\]-]{1,200}", level)
        assert not level.startswith((".", " "))
        assert not level.endswith((".", " "))
        assert level.lower() not in {"cur", "new", "tmp", "subscriptions"}


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
