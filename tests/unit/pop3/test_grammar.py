from __future__ import annotations

import pytest

from syncd.errors import RemoteProtocolError
from syncd.pop3 import grammar
from syncd.pop3.values import Capabilities, Challenge, Status


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"+OK", Status(ok=True, code="", text=b"")),
        (b"+OK ", Status(ok=True, code="", text=b"")),
        (b"+OK 2 320", Status(ok=True, code="", text=b"2 320")),
        (b"+ok small letters", Status(ok=True, code="", text=b"small letters")),
        (b"-ERR", Status(ok=False, code="", text=b"")),
        (
            b"-ERR [IN-USE] Do you have another POP session?",
            Status(ok=False, code="IN-USE", text=b"Do you have another POP session?"),
        ),
        (b"-ERR [sys/temp] later", Status(ok=False, code="SYS/TEMP", text=b"later")),
        (b"-ERR [AUTH]", Status(ok=False, code="AUTH", text=b"")),
        (b"-ERR [not a code] text", Status(ok=False, code="", text=b"[not a code] text")),
        (b"-ERR see [AUTH]", Status(ok=False, code="", text=b"see [AUTH]")),
    ],
)
def test_a_status_line(line: bytes, expected: Status):
    assert grammar.status(line) == expected


@pytest.mark.parametrize(
    "line", [b"", b"+", b"+OKAY", b"+ERR wrong password", b"OK", b" +OK", b"+OK\tx", b"-ERROR", b"* OK"]
)
def test_p28_nothing_else_is_a_status(line: bytes):
    with pytest.raises(RemoteProtocolError, match="expected \\+OK or -ERR"):
        grammar.status(line)


def test_what_a_server_said_is_shown_escaped_and_short():
    with pytest.raises(RemoteProtocolError) as caught:
        grammar.status(b"\x1b[2J\xff" + b"x" * 5000)
    assert "\\x1b[2J\\xff" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_challenge():
    assert grammar.challenge(b"+ ") == grammar.challenge(b"+") == Challenge(b"")
    assert grammar.challenge(b"+ c2FsdA==") == Challenge(b"salt")
    assert grammar.challenge(b"+OK") is None
    with pytest.raises(RemoteProtocolError, match="no base64"):
        grammar.challenge(b"+ c2FsdA")


def test_a_drop_listing():
    assert grammar.drop_listing(b"2 320") == (2, 320)
    assert grammar.drop_listing(b"2 320 and more") == (2, 320)
    for wrong in (b"", b"2", b"two 320", b"-1 0", b"1_0 0", b"9" * 30 + b" 1", b"1 " + b"9" * 30, b"1 " + b"9" * 16):
        with pytest.raises(RemoteProtocolError, match="STAT answered"):
            grammar.drop_listing(wrong)


def test_scan_listings():
    assert grammar.scan_listings(b"1 120\r\n2 200 with more\r\n", 0) == [120, 200]
    assert grammar.scan_listings(b"3 0\r\n", 2) == [0]
    assert grammar.scan_listings(b"", 7) == []


@pytest.mark.parametrize(
    "wrong",
    [
        b"2 120\r\n",
        b"1 1\r\n3 1\r\n",
        b"1 1\r\n1 1\r\n",
        b"0 1\r\n",
        b"-1 1\r\n",
        b"9" * 30 + b" 1\r\n",
        b"1\r\n",
        b"x 1\r\n",
        b"\r\n",
        b"1_ 2\r\n",
    ],
)
def test_a_scan_listing_out_of_order_is_refused(wrong: bytes):
    with pytest.raises(RemoteProtocolError, match="LIST does not go on with message 1"):
        grammar.scan_listings(wrong, 0)


@pytest.mark.parametrize("size", [b"-5", b"1k", b"", b"9" * 12, b"9" * 30])
def test_p16_a_size_must_be_a_number_that_fits(size: bytes):
    with pytest.raises(RemoteProtocolError, match="no number"):
        grammar.scan_listings(b"1 " + size + b"\r\n", 0)


def test_p02_p04_unique_ids_are_opaque():
    long = (bytes(range(0x21, 0x7F)) * 11)[: grammar.MAX_UNIQUE_ID_OCTETS]
    rows = b"1 whqtswO00WBw418f9t5JxYwZ\r\n2 \r\n3\r\n4 <a b@c>\t\xff\0\n\x0b\r\n5 " + long + b"\r\n"
    assert grammar.unique_ids(rows, 0) == [b"whqtswO00WBw418f9t5JxYwZ", b"", b"", b"<a b@c>\t\xff\0\n\x0b", long]


def test_p04_a_unique_id_that_is_far_too_long_is_refused():
    with pytest.raises(RemoteProtocolError, match="a unique-id of 1025 octets, more than 1024: “xxx") as caught:
        grammar.unique_ids(b"1 a\r\n2 " + b"x" * 1025 + b"\r\n", 0)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "wrong",
    [
        b"2 a\r\n",
        b"1 a\r\n3 b\r\n",
        b"1 a\r\n1 b\r\n",
        b"0 a\r\n",
        b"-1 a\r\n",
        b"+1 a\r\n",
        b"01x a\r\n",
        b"9" * 30 + b" a\r\n",
        b"a 1\r\n",
        b"\r\n",
    ],
)
def test_a_unique_id_out_of_order_is_refused(wrong: bytes):
    with pytest.raises(RemoteProtocolError, match="UIDL does not go on with message 1"):
        grammar.unique_ids(wrong, 0)


def test_capabilities():
    found = grammar.capabilities(b"TOP\r\nSASL PLAIN login\r\nExpire 60 user\r\n\r\nIMPLEMENTATION \x1bx\r\n")
    assert found == Capabilities(("TOP", "SASL PLAIN login", "Expire 60 user", "IMPLEMENTATION \\x1bx"))
    assert "TOP" in found
    assert "UIDL" not in found
    assert found.mechanisms == ("PLAIN", "LOGIN")
    assert found.arguments("EXPIRE") == ("60", "USER")
    assert Capabilities().mechanisms == ()


def test_a_timestamp():
    assert (
        grammar.timestamp(b"POP3 server ready <1896.697170952@dbc.mtview.ca.us>")
        == b"<1896.697170952@dbc.mtview.ca.us>"
    )
    assert grammar.timestamp(b"ready < not one >") is None
