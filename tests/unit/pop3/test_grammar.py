from __future__ import annotations

import pytest

from syncd.errors import RemoteProtocolError
from syncd.pop3 import grammar
from syncd.pop3.quirks import is_padded
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
        # P50
        (b" +OK", Status(ok=True, code="", text=b"")),
        (b"+OK\tx", Status(ok=True, code="", text=b"x")),
        (b"+oK   2  320 \t", Status(ok=True, code="", text=b"2  320")),
        (b"-err  [auth]  no ", Status(ok=False, code="AUTH", text=b" no")),
    ],
)
def test_a_status_line(line: bytes, expected: Status):
    assert grammar.status(line) == expected


@pytest.mark.parametrize(
    "line", [b"", b" ", b"+", b"+ OK", b"+OKAY", b"+ERR wrong password", b"OK", b"-ERROR", b"* OK"]
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
    assert grammar.challenge(b"+ c2FsdA==") == grammar.challenge(b"+ c2FsdA== \t") == Challenge(b"salt")
    assert grammar.challenge(b"+OK") is None
    with pytest.raises(RemoteProtocolError, match="no base64"):
        grammar.challenge(b"+ c2FsdA")


def test_a_drop_listing():
    assert grammar.drop_listing(b"2 320") == (2, 320)
    assert grammar.drop_listing(b"2 320 and more") == (2, 320)
    assert grammar.drop_listing(b" 2 \t 320 ") == (2, 320)
    for wrong in (b"", b"two 320", b"-1 0", b"1_0 0", b"9" * 30 + b" 1"):
        with pytest.raises(RemoteProtocolError, match="STAT answered"):
            grammar.drop_listing(wrong)


@pytest.mark.parametrize("octets", [b"", b" many", b" messages (320 octets)", b" -1", b" " + b"9" * 16])
def test_p51_a_drop_listing_without_octets(octets: bytes):
    assert grammar.drop_listing(b"2" + octets) == (2, None)


def test_scan_listings():
    assert grammar.scan_listings(b"1 120\r\n2 200 with more\r\n", 0) == [120, 200]
    assert grammar.scan_listings(b"3 0\r\n", 2) == [0]
    assert grammar.scan_listings(b"", 7) == []


@pytest.mark.parametrize(
    "rows",
    [
        b"1   120\r\n2   200\r\n",
        b"  1     120\r\n  2     200\r\n",
        b"1\t120\r\n2\t200\t\r\n",
        b"1 120 \r\n\r\n2 200  octets\r\n",
        b"\r\n1 120\r\n \r\n2 200\r\n\r\n",
    ],
)
def test_p50_columns_may_be_padded_and_lines_empty(rows: bytes):
    assert grammar.scan_listings(rows, 0) == [120, 200]
    assert grammar.unique_ids(rows.replace(b" octets", b""), 0) == [b"120", b"200"]
    assert is_padded(rows)


def test_p50_nothing_is_noted_of_a_listing_by_the_book():
    assert not is_padded(b"1 120\r\n2 200 with more\r\n")


@pytest.mark.parametrize(
    "wrong",
    [
        b"2 120\r\n",
        b"1 1\r\n3 1\r\n",
        b"1 1\r\n1 1\r\n",
        b"0 1\r\n",
        b"-1 1\r\n",
        b"9" * 30 + b" 1\r\n",
        b"x 1\r\n",
        b"1_ 2\r\n",
    ],
)
def test_a_scan_listing_out_of_order_is_refused(wrong: bytes):
    with pytest.raises(RemoteProtocolError, match="LIST does not go on with message 1"):
        grammar.scan_listings(wrong, 0)


@pytest.mark.parametrize("size", [b" -5", b" 1k", b"", b" ", b" ?", b" (null)", b" " + b"9" * 12, b" " + b"9" * 30])
def test_p51_a_size_that_is_no_number_is_unknown(size: bytes):
    assert grammar.scan_listings(b"1 17\r\n2" + size + b"\r\n", 0) == [17, None]


@pytest.mark.parametrize(
    ("word", "is_size"),
    [
        (b"-1", True),
        (b"?", True),
        (b"unknown", True),
        (b"1.2K", True),
        (b"", False),
        (b"uid-7", False),
        (b"octets", False),
    ],
)
def test_p31_p51_a_unique_id_in_the_place_of_a_size_is_no_unknown_size(word: bytes, is_size: bool):  # noqa: FBT001
    if is_size:
        assert grammar.scan_listings(b"1 " + word + b"\r\n", 0, sure=False) == [None]
    else:
        with pytest.raises(RemoteProtocolError, match="a size that is not a number"):
            grammar.scan_listings(b"1 " + word + b"\r\n", 0, sure=False)


@pytest.mark.parametrize(
    ("line", "listing", "unique"),
    [
        (b"+OK 3 120", True, False),
        (b"+OK  3   120 octets", True, False),
        (b"+OK 3 ?", True, False),
        (b"+OK 3 uid", False, True),
        (b"+ok\t3\tuid ", False, True),
        (b"+OK 120", False, False),
        (b"+OK 3", False, False),
        (b"+OK 3 messages (120 octets)", False, False),
        (b"+OK 3 octets", False, False),
        (b"+OK 13 120", False, False),
        (b"-ERR 3 120", False, False),
    ],
)
def test_p52_the_answers_that_show_which_message_they_are_about(line: bytes, listing: bool, unique: bool):  # noqa: FBT001
    answer = grammar.status(line)
    assert grammar.is_scan_listing(answer, 3) is listing
    assert grammar.is_unique_id(answer, 3, b"uid") is unique


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
