"""The parts of a message: where they are, however the octets arrive, and that nothing costs too much."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.mail.mime.structure import KEEP_OCTETS, MAX_DEPTH, MAX_PARTS, Structure, structure
from syncd.mail.mime.text import MAX_TEXT, text_of
from tests.support import mail

SAMPLES = mail.samples()
PIECES = [
    b"--a", b"--b", b"--", b"\r\n", b"\n", b"text", b" ", b"\r", b"\xff", b"Content-Type: message/rfc822",
    b"Content-Type: multipart/x; boundary=a", b"Content-Type: multipart/x; boundary=b",
]  # fmt: skip


def kinds(found: Structure) -> list[tuple[int, str]]:
    return [(part.depth, part.what.kind) for part in found.parts]


def test_parts_are_ranges_of_the_message() -> None:
    data = SAMPLES["forwarded.eml"]
    found = structure([data])
    assert kinds(found) == [
        (0, "multipart/mixed"), (1, "text/plain"), (1, "message/rfc822"),
        (2, "multipart/alternative"), (3, "text/plain"), (3, "text/html"),
    ]  # fmt: skip
    html = found.parts[5]
    assert data[html.start : html.end].startswith(b"<p>")
    assert b"--" not in data[html.start : html.end]
    assert not found.cut


def test_attachments_have_names() -> None:
    found = structure([SAMPLES["attachment.eml"]])
    assert [(part.what.name, part.is_attachment) for part in found.parts if part.is_leaf] == [
        ("", False), ("order.csv", True), ("Zeichnung für Platte.png", True),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize("name", SAMPLES)
def test_chunks_make_no_difference(name: str, size: int) -> None:
    data = SAMPLES[name]
    whole, pieces = structure([data]), structure(data[at : at + size] for at in range(0, len(data), size))
    assert pieces == whole


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_whatever_comes_parts_lie_within_the_message_and_each_other(words: list[bytes]) -> None:
    data = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"".join(words)
    found = structure([data])
    assert structure(bytes([octet]) for octet in data).parts[0].what == found.parts[0].what
    for part in found.parts:
        assert 0 <= part.start <= part.end <= len(data)
        if part.parent is not None:
            above = found.parts[part.parent]
            assert above.start <= part.start
            assert part.end <= above.end
    text_of(found)


@pytest.mark.parametrize("name", mail.nasty())
def test_odd_messages_have_a_structure(name: str) -> None:
    data = mail.nasty()[name]
    found = structure([data])
    assert found.parts[0].what.kind == "text/plain"
    assert found.parts[0].end == len(data)


def test_ten_thousand_parts_are_cut() -> None:
    part = b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    found = structure([b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", *[part] * 10_000])
    assert found.cut
    assert len(found.parts) == MAX_PARTS
    assert text_of(found).count("hello") == MAX_PARTS - 1


def test_deep_nesting_ends() -> None:
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(100))
    found = structure([head + b"\r\ninside\r\n"])
    assert max(part.depth for part in found.parts) == MAX_DEPTH
    forwarded = structure([b"Content-Type: message/rfc822\r\n\r\n" * 1_000 + b"inside"])
    assert max(part.depth for part in forwarded.parts) == MAX_DEPTH


def test_a_hundred_megabytes_of_html_stay_out_of_memory() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"Content-Type: text/html\r\n\r\n"
        yield from (b"<p>hello <b>" * 20_000 for _ in range(440))

    tracemalloc.start()
    try:
        text = text_of(structure(chunks()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(text) == MAX_TEXT
    assert peak < 16 * KEEP_OCTETS
