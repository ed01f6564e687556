"""The text of a message: encodings, charsets, HTML; nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.mail.mime.fields import decoded, described
from syncd.mail.mime.structure import structure
from syncd.mail.mime.text import html_text, text_of, undone
from tests.support import mail


def of(header: bytes, body: bytes) -> str:
    return text_of(structure([header + b"\r\n\r\n" + body]))


def test_encodings_and_charsets_are_undone() -> None:
    plain = b"Content-Type: text/plain; charset="
    assert of(plain + b"iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable", b"Gr=FC=DFe=\r\n!") == "Grüße!"
    assert of(plain + b"utf-8\r\nContent-Transfer-Encoding: BASE64", b"R3LD\r\nvMOfZQ==\r\n") == "Grüße"
    assert of(plain + b'"koi8-r"', "Привет".encode("koi8-r")) == "Привет"
    assert of(plain + b"us-ascii", "Grüße".encode()) == "Grüße"
    assert of(plain + b"utf-8", b"Gr\xfc\xdfe") == "Grüße"


@pytest.mark.parametrize("charset", ["", "x-unknown", "zip", "hex", "idna", "punycode", "a" * 500, "\x00", "\u2028"])
def test_a_charset_that_is_none_raises_nothing(charset: str) -> None:
    assert decoded(b"caf\xe9", charset) == "café"


def test_utf_7_makes_no_half_characters() -> None:
    assert decoded(b"a+2AA-b", "utf-7").encode() == "a\ufffdb".encode()


def test_of_alternatives_the_longest_counts() -> None:
    parts = b"--b\r\n\r\nHello\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hello <i>world</i>\r\n--b--\r\n"
    assert of(b"Content-Type: multipart/alternative; boundary=b", parts) == "Hello world"
    assert of(b"Content-Type: multipart/mixed; boundary=b", parts) == "Hello\nHello world"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("a<b>b</b>c &amp; &#228;&nbsp;d", "abc & ä d"),
        ("<style>p { color: red }</style><script>alert(1)</script>x<!-- hidden --> y", "x y"),
        ("2 < 3 and <unclosed", "2 < 3 and"),
        ("<head><title>t</title></head><body>text", "text"),
        ("<td>one</td><td>two</td>", "one\ntwo"),
        ("<script>never ends", ""),
    ],
)  # fmt: skip
def test_html_becomes_text(html: str, text: str) -> None:
    assert html_text(html) == text


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "8bit", "x-uuencode", ""]))
def test_no_encoding_raises(octets: bytes, encoding: str) -> None:
    undone(octets, encoding)


@given(st.text(alphabet="<>!-/ascript\"'&#; ", max_size=200))
def test_no_html_raises_or_leaves_a_script(html: str) -> None:
    assert "<script>" not in html_text(html)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b'attachment; filename="a b.pdf"', "a b.pdf"),
        (b"attachment; filename=a.pdf; x=y", "a.pdf"),
        (b"attachment; filename*=utf-8'de'M%C3%BCller.pdf", "Müller.pdf"),
        (b"attachment; filename*1*=%BCller.pdf; filename*0*=iso-8859-1''M", "M¼ller.pdf"),
        (b'attachment; filename*0="one "; filename*1="two"', "one two"),
        (b'attachment; filename="=?utf-8?Q?M=C3=BCller?="', "Müller"),
        (b'attachment; filename="never closed', "never closed"),
        (b'attachment; filename="a\\"b"', 'a"b'),
        (b"attachment", ""),
        (b"", ""),
        (b";;;=;=*;*=", ""),
    ],
)
def test_names_of_files(field: bytes, name: str) -> None:
    assert described({b"content-disposition": field}).name == name


@given(st.binary(max_size=200))
def test_no_field_raises(field: bytes) -> None:
    described({b"content-type": field, b"content-disposition": field, b"content-transfer-encoding": field})


def test_a_media_type_that_is_none_is_plain_text() -> None:
    assert described({b"content-type": b"<script>"}).kind == "text/plain"
    assert described({b"content-type": b"TEXT/Html; charset=x"}).kind == "text/html"


@pytest.mark.parametrize("name", mail.samples())
def test_samples_have_text(name: str) -> None:
    assert len(text_of(structure([mail.samples()[name]]))) > 50
