"""Names as RFC 3501 §5.1.3 has them, as servers send them all the same, and back."""

from __future__ import annotations

import pytest

from syncd.mail import utf7

PAIRS = [
    (b"INBOX", "INBOX"),
    (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),  # the example of the RFC
    (b"Entw&APw-rfe", "Entwürfe"),
    (b"R&-D", "R&D"),
    (b"&-&-", "&&"),
    (b"&2D3cqQ-", "💩"),
    (b"a&AAA-b&AA0ACg-", "a\x00b\r\n"),
    (b"", ""),
]


@pytest.mark.parametrize(("name", "text"), PAIRS)
def test_a_name_is_decoded_and_encoded(name: bytes, text: str):
    assert utf7.decode(name) == text
    assert utf7.encode(text) == name
    assert utf7.text_of(name) == text


@pytest.mark.parametrize(
    "name",
    [
        b"R&D",  # a bare "&"
        b"&",
        b"&AOQ",  # never shifted back
        b"&AGE-",  # ASCII in base64
        b"&AOQ-&APY-",  # two runs where one belongs
        b"&AOR-",  # bits beyond the last character
        b"&AOQA-",  # half a character
        b"&2D0-",  # half a pair
        b"&AOQ=-",  # padding
        b"&AO Q-",
        b"&AO/Q-",  # "/" is written as ","
        "Entwürfe".encode(),
        b"Entw\xfcrfe",
        b"a\tb",
        b"a\x7fb",
    ],
)
def test_a_name_that_is_no_modified_utf7_keeps_its_octets(name: bytes):
    with pytest.raises(ValueError):
        utf7.decode(name)
    text = utf7.text_of(name)
    assert text.encode("utf-8", "surrogateescape") == name
    assert utf7.text_of(utf7.octets_of(text)) == text


def test_octets_that_are_no_text_come_back():
    assert utf7.octets_of(utf7.text_of(b"Entw\xfcrfe")) == b"Entw\xfcrfe"
    assert utf7.octets_of(utf7.text_of(b"a\xff\xfe", utf8=True), utf8=True) == b"a\xff\xfe"


def test_with_utf8_an_ampersand_is_an_ampersand():
    assert utf7.text_of(b"R&D &AOQ-", utf8=True) == "R&D &AOQ-"
    assert utf7.octets_of("R&D ü", utf8=True) == "R&D ü".encode()
