from __future__ import annotations

import pytest

from syncd.errors import LocalProtocolError
from syncd.imap.encoder import MAX_COMMAND_OCTETS, Word, authenticate, can_carry, command, identity, quoted
from syncd.imap.values import Verb


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        (b"INBOX", b"INBOX"),
        (b"a.b/c-d+e&AOQ-", b"a.b/c-d+e&AOQ-"),
        (b"", b'""'),
        (b"nil", b'"nil"'),  # else it would be read as NIL
        (b"a b", b'"a b"'),
        (b'say "a\\b"', b'"say \\"a\\\\b\\""'),
        (b"[Gmail]/Sent", b'"[Gmail]/Sent"'),
        (b"a*", b'"a*"'),
        (b"a%(", b'"a%("'),
        (b"\x7f", b'"\x7f"'),
    ],
)
def test_an_astring(argument: bytes, written: bytes):
    assert command(Verb.EXAMINE, argument) == [b"EXAMINE " + written + b"\r\n"]


def test_octets_that_no_string_carries_go_as_a_literal_that_is_asked_for():
    assert command(Verb.LOGIN, "Käthe".encode(), b"a\xffb c") == [
        b"LOGIN {6}\r\n",
        b"K\xc3\xa4the {5}\r\n",
        b"a\xffb c\r\n",
    ]


def test_i21_a_literal_that_need_not_be_asked_for():
    assert command(Verb.LOGIN, b"x", b"\xff" * 5, literal_octets=5) == [b"LOGIN x {5+}\r\n\xff\xff\xff\xff\xff\r\n"]
    assert len(command(Verb.LOGIN, b"x", b"\xff" * 6, literal_octets=5)) == 2


def test_a_long_string_goes_as_a_literal():
    assert command(Verb.LOGIN, b"x", b"a b" * 400) == [b"LOGIN x {1200}\r\n", b"a b" * 400 + b"\r\n"]


def test_utf8_in_quotes_where_the_server_takes_it():
    assert command(Verb.EXAMINE, "Körbe".encode(), utf8=True) == ['EXAMINE "Körbe"\r\n'.encode()]
    assert len(command(Verb.EXAMINE, b"\xff", utf8=True)) == 2


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"])
def test_what_imap_cannot_carry_is_refused_and_not_shown(octet: bytes):
    secret = b"open" + octet + b"sesame"
    assert not can_carry(secret)
    with pytest.raises(LocalProtocolError, match="LOGIN contains CR, LF or NUL") as error:
        command(Verb.LOGIN, b"x", secret)
    assert "sesame" not in str(error.value)
    with pytest.raises(LocalProtocolError):
        command(Verb.UID_FETCH, Word(secret))


def test_words_go_as_they_are():
    assert command(Verb.UID_FETCH, Word(b"1:5"), Word(b"(UID)")) == [b"UID FETCH 1:5 (UID)\r\n"]


def test_an_identity():
    assert identity({"name": "syncd", "x": 'a"b'}) == b'("name" "syncd" "x" "a\\"b")'
    assert identity(None) == b"NIL"
    with pytest.raises(LocalProtocolError):
        quoted(b"\xff")


@pytest.mark.parametrize(
    ("initial", "sasl_ir", "written"),
    [
        (b"abc", True, b"AUTHENTICATE PLAIN YWJj\r\n"),
        (b"", True, b"AUTHENTICATE PLAIN =\r\n"),
        (b"abc", False, b"AUTHENTICATE PLAIN\r\n"),
        (None, True, b"AUTHENTICATE PLAIN\r\n"),
        (b"a" * MAX_COMMAND_OCTETS, True, b"AUTHENTICATE PLAIN\r\n"),
    ],
)
def test_the_initial_response(initial: bytes | None, sasl_ir: bool, written: bytes):  # noqa: FBT001
    assert authenticate("PLAIN", initial, sasl_ir=sasl_ir) == [written]
