"""Commands to octets, and what no command may carry."""

from __future__ import annotations

import base64

import pytest

from syncd.errors import LocalProtocolError
from syncd.smtp import encoder
from syncd.smtp.values import Capabilities, Envelope, Verb

ALL = Capabilities(("SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME"))
NONE = Capabilities()


def envelope(sender: str = "me@example.org", *recipients: str, **more: object) -> Envelope:
    return Envelope(sender, recipients or ("you@example.org",), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("to", "announced", "line"),
    [
        (envelope(), ALL, b"MAIL FROM:<me@example.org>\r\n"),
        (envelope(""), ALL, b"MAIL FROM:<>\r\n"),
        (envelope(size=70), ALL, b"MAIL FROM:<me@example.org> SIZE=70\r\n"),
        (envelope(size=70, eight_bit=True, envid="a+b"), NONE, b"MAIL FROM:<me@example.org>\r\n"),
        (envelope(eight_bit=True), ALL, b"MAIL FROM:<me@example.org> BODY=8BITMIME\r\n"),
        (envelope("ü@example.org", smtputf8=True), ALL, "MAIL FROM:<ü@example.org> SMTPUTF8\r\n".encode()),
        (envelope(smtputf8=True), NONE, b"MAIL FROM:<me@example.org>\r\n"),
        (envelope(envid="a+b=c d"), ALL, b"MAIL FROM:<me@example.org> ENVID=a+2Bb+3Dc+20d\r\n"),
        (envelope('"a b"@[IPv6:::1]'), ALL, b'MAIL FROM:<"a b"@[IPv6:::1]>\r\n'),
    ],
)
def test_s11_s13_s32_parameters_are_sent_where_they_are_announced(to: Envelope, announced: Capabilities, line: bytes):
    assert encoder.mail(to, announced) == line


def test_binarymime_takes_the_place_of_8bitmime():
    line = encoder.mail(envelope(eight_bit=True), ALL, binary=True)
    assert line == b"MAIL FROM:<me@example.org> BODY=BINARYMIME\r\n"


@pytest.mark.parametrize("to", [envelope("ü@example.org", smtputf8=True), envelope("me@example.org", "ü@example.org")])
def test_s13_addresses_that_are_not_ascii_need_smtputf8(to: Envelope):
    with pytest.raises(LocalProtocolError, match="SMTPUTF8"):
        encoder.mail(to, NONE)
    with pytest.raises(LocalProtocolError):
        encoder.mail(envelope("me@example.org", "ü@example.org"), ALL)


EVIL = ["\r", "\n", "\0", "\r\n", "\x7f", ">", "<", " ", "> SIZE=1", ">\r\nRSET", '"', "@", ",", "\u2028", "\\"]


@pytest.mark.parametrize("octets", EVIL)
@pytest.mark.parametrize("form", ["{}me@example.org", "me{}@example.org", "me@exam{}ple.org", "me@example.org{}"])
def test_b36_an_address_never_becomes_a_command_or_a_parameter(form: str, octets: str):
    address = form.format(octets)
    with pytest.raises(LocalProtocolError) as caught:
        encoder.rcpt(address, envelope(smtputf8=True))
    assert address not in str(caught.value)


def test_b36_what_is_quoted_is_a_part_of_the_address():
    assert encoder.rcpt('"a> SIZE=1,@<b\\""@x', envelope()) == b'RCPT TO:<"a> SIZE=1,@<b\\""@x>\r\n'
    for octet in ['"', "\r", "\n", "\0", "\x7f", "\\"]:
        with pytest.raises(LocalProtocolError):
            encoder.rcpt(f'"a{octet}"@x', envelope())


@pytest.mark.parametrize("address", ["", "@a,@b:c@d", "a@b@c", "a@[1.2.3.4", "a@", "@b", "a b@c"])
def test_what_is_no_address(address: str):
    with pytest.raises(LocalProtocolError, match="SMTP cannot carry an address"):
        encoder.rcpt(address, envelope())


def test_every_command_refuses_controls():
    for octet in "\r\n\0\x1b":
        with pytest.raises(LocalProtocolError, match="an argument of EHLO contains"):
            encoder.command(Verb.EHLO, f"a{octet}b")


def test_a_command_line_has_512_octets_at_most():
    rest = len(b"RCPT TO:<@x>\r\n")
    assert len(encoder.rcpt("a" * (512 - rest) + "@x", envelope())) == 512
    with pytest.raises(LocalProtocolError, match="a line of 513 octets, over the limit of 512"):
        encoder.rcpt("a" * (513 - rest) + "@x", envelope())


def test_an_envid_has_100_characters_at_most():
    assert encoder.mail(envelope(envid="=" * 100), ALL).endswith(b"+3D\r\n")
    with pytest.raises(LocalProtocolError, match="ENVID of more than 100"):
        encoder.mail(envelope(envid="a" * 101), ALL)


def test_s17_bdat():
    assert encoder.bdat(1000, last=False) == b"BDAT 1000\r\n"
    assert encoder.bdat(0, last=True) == b"BDAT 0 LAST\r\n"


def test_s20_the_initial_response_goes_along_where_it_fits():
    assert encoder.auth("PLAIN", b"\0a\0b") == b"AUTH PLAIN AGEAYg==\r\n"
    assert encoder.auth("EXTERNAL", b"") == b"AUTH EXTERNAL =\r\n"
    assert encoder.auth("LOGIN", None) == b"AUTH LOGIN\r\n"
    longest = b"x" * 372  # 496 octets of base64, 12 of command, 3 of space and CRLF
    whole = encoder.auth("XOAUTH2", longest)
    assert len(whole) == 511
    assert base64.b64decode(whole.split()[2]) == longest
    assert encoder.auth("XOAUTH2", longest + b"xyz") == b"AUTH XOAUTH2\r\n"


def test_b28_a_line_of_an_exchange_has_12288_octets_at_most():
    assert len(encoder.response(b"x" * 9213)) == 12286
    with pytest.raises(LocalProtocolError, match="has 12290 octets, and the limit is 12288"):
        encoder.response(b"x" * 9216)
