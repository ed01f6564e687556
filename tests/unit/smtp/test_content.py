"""The forms of a message: line ends, stuffing, what is asked of it before it is sent, flat memory."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import pytest

from syncd.mail.body import CHUNK_OCTETS, MEMORY_CAP_OCTETS, Body, BodyWriter
from syncd.smtp.content import Content, Form
from tests.support import mail

PREFIX = b"Received: by x\r\n"

# What is given, what BDAT carries, what DATA carries
SAMPLES = [
    (b"", b"", b""),
    (b"a\r\n", b"a\r\n", b"a\r\n"),
    (b"a", b"a\r\n", b"a\r\n"),
    (b".\r\n", b".\r\n", b"..\r\n"),
    (b"..\r\n.", b"..\r\n.\r\n", b"...\r\n..\r\n"),
    (b"a\nb\n", b"a\r\nb\r\n", b"a\r\nb\r\n"),
    (b"a\rb\r", b"a\r\nb\r\n", b"a\r\nb\r\n"),
    (b"a\r\r\nb\n\r", b"a\r\n\r\nb\r\n\r\n", b"a\r\n\r\nb\r\n\r\n"),
    (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r.\rb\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\r\n.\rb\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"a\n.\r\nb\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
    (b"\0\xff\r\n", b"\0\xff\r\n", b"\0\xff\r\n"),
]


def wire(content: Content, form: Form) -> bytes:
    return b"".join(content.chunks(form))


@pytest.mark.parametrize(("octets", "text", "data"), SAMPLES)
def test_s14_the_forms(octets: bytes, text: bytes, data: bytes):
    content = Content(b"", Body.of(octets))
    assert wire(content, Form.BINARY) == octets
    assert wire(content, Form.TEXT) == text
    assert wire(content, Form.DATA) == data
    assert content.octets == content.octets_of(Form.TEXT) == len(text)
    assert content.octets_of(Form.BINARY) == len(octets)
    assert content.rewritten == (text != octets)


@pytest.mark.parametrize(("octets", "text", "data"), SAMPLES)
def test_a_prefix_is_only_put_before(octets: bytes, text: bytes, data: bytes):
    content = Content(PREFIX, Body.of(octets))
    assert wire(content, Form.BINARY) == PREFIX + octets
    assert wire(content, Form.TEXT) == PREFIX + text
    assert wire(content, Form.DATA) == PREFIX + data
    assert content.rewritten == (text != octets)


@pytest.mark.parametrize("name", mail.nasty())
def test_nasty_mail_keeps_its_octets_if_its_lines_end_as_they_should(name: str):
    octets = mail.nasty()[name]
    content = Content(PREFIX, Body.of(octets))
    assert (wire(content, Form.TEXT) == PREFIX + octets) == (not content.rewritten)
    assert wire(content, Form.DATA).replace(b"\r\n..", b"\r\n.") == wire(content, Form.TEXT)


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
@pytest.mark.parametrize("length", [997, 998, 999, 1000, 5000])
@pytest.mark.parametrize("before", [b"", b"x\r\n", b"text of a line\r\n" * 100])
def test_s16_lines_over_998_octets_are_found(before: bytes, length: int, end: bytes):
    for octets in (b"y" * length + end + b"z\r\n", b"y" * length):
        for cut in (0, 1, 500, 997, 998, 999, 1000, len(before)):
            whole = before + octets
            content = Content(whole[:cut], Body.of(whole[cut:]))
            assert content.long_lines == (length > 998), (cut, whole[:20])


def test_what_is_asked_before_it_is_sent():
    def about(octets: bytes) -> tuple[bool, bool]:
        content = Content(b"", Body.of(octets))
        return content.eight_bit, content.binary

    assert about(b"plain\r\n") == (False, False)
    assert about(b"gr\xc3\xbcn\r\n") == (True, False)
    assert about(b"NUL \0\r\n") == (False, True)
    assert about(b"bare\n") == (False, True)
    assert about(b"x" * 999 + b"\r\n") == (False, True)


def in_a_file(directory: Path, octets: bytes) -> Body:
    writer = BodyWriter(directory)
    writer.write(octets)
    body = writer.finish()
    assert body.data is None
    return body


@pytest.mark.parametrize("around", range(-3, 4))
@pytest.mark.parametrize("middle", [b"\r\n.\r\n", b"\r\n..", b"\n.\n", b"\r.\r", b"\r\r\n", b".", b"\r", b"\n"])
def test_s14_at_the_cut_between_two_chunks_of_a_file(tmp_path: Path, middle: bytes, around: int):
    octets = b"x" * (CHUNK_OCTETS + around) + middle + b"y" * MEMORY_CAP_OCTETS
    body = in_a_file(tmp_path, octets)
    whole = Content(PREFIX, Body.of(octets))
    content = Content(PREFIX, body)
    for form in Form:
        assert wire(content, form) == wire(whole, form)
    assert content.octets == whole.octets
    assert content.rewritten == whole.rewritten
    body.close()


@pytest.mark.parametrize("around", range(-6, 7))
@pytest.mark.parametrize("prefix", [b"", PREFIX])
def test_s14_a_dot_behind_a_line_end_that_is_cut_between_two_chunks_of_a_file(
    tmp_path: Path, prefix: bytes, around: int
):
    """All line ends are CRLF: the pieces are those of the file."""
    for middle in (b"\r\n.\r\nMAIL FROM:<evil@example.org>\r\n", b"\r\n..\r\n", b"\r\n.", b"\r\n\r\n.\r\n.\r\n.."):
        octets = b"x" * (CHUNK_OCTETS + around) + middle + b"y" * MEMORY_CAP_OCTETS + b"\r\n"
        body = in_a_file(tmp_path, octets)
        content = Content(prefix, body)
        assert not content.rewritten
        assert wire(content, Form.DATA) == (prefix + octets).replace(b"\r\n.", b"\r\n..")
        body.close()


@pytest.mark.parametrize("line", [b"x" * 70 + b"\r\n", b"." * 30 + b"\n"])
def test_memory_is_flat(tmp_path: Path, line: bytes):
    writer = BodyWriter(tmp_path)
    for _ in itertools.repeat(None, 64):
        writer.write(line * ((1 << 20) // len(line)))
    content = Content(PREFIX, writer.finish())
    tracemalloc.start()
    try:
        assert content.octets >= content.body.octets
        octets = sum(map(len, content.chunks(Form.DATA)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert octets >= content.octets
    assert peak < 4 << 20
    content.body.close()
