r"""Responses become events: each sample is read whole, one octet at a time, and with octets behind that must remain."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.errors import RemoteProtocolError, StateError
from syncd.imap.connection import (
    MAX_LINE_OCTETS,
    MAX_LITERAL_OCTETS,
    MAX_UNREAD_LINES,
    WHOLE_OCTETS,
    Connection,
)
from syncd.imap.events import (
    Event,
    Exists,
    Found,
    Literal,
    NoGreeting,
    OutOfStep,
    Rows,
    Tagged,
    Text,
    TooLong,
    Unknown,
    Vanished,
)
from syncd.imap.tokens import MAX_NESTING
from syncd.imap.values import (
    BODY,
    HEADER,
    Code,
    FetchRow,
    Kind,
    Status,
    Verb,
)
from tests.support.imap import greeted, in_pieces, joined, octet_by_octet, whole
from tests.support.imap_samples import SAMPLES, row

Feed = Callable[[Connection, bytes], list[Event]]


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(("octets", "events"), SAMPLES, ids=lambda value: value if isinstance(value, bytes) else "")
def test_a_response(octets: bytes, events: list[Event], feed: Feed):
    connection = greeted(Verb.NOOP, Verb.UID_FETCH)
    assert feed(connection, octets) == events
    assert not connection.in_response


@pytest.mark.parametrize(("octets", "events"), SAMPLES, ids=lambda value: value if isinstance(value, bytes) else "")
def test_what_stands_behind_a_response_remains(octets: bytes, events: list[Event]):
    connection = greeted(Verb.NOOP, Verb.UID_FETCH)
    assert whole(connection, octets + b"* 1 FETCH (UID 5 BODY[] {3}\r\na") == events
    assert connection.in_response
    assert whole(connection, b"bc)\r\n") == [row(1, 5, body=b"abc", texts=BODY)]


# --- long literals ---------------------------------------------------------------------------------

LONG = bytes(range(256)) * 2048  # 512 KiB


def test_lines_of_a_listing_come_together():
    lines = [b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (seq, seq + 5, 100 * seq) for seq in range(1, 500)]
    octets = b"".join(lines) + b"* 500 FETCH (FLAGS () UID 505 RFC822.SIZE 1)\r\n* 3 EX"
    connection = greeted(Verb.UID_FETCH)
    connection.buffer.target()[: len(octets)] = octets
    connection.buffer.received(len(octets))
    rows = [row(seq, seq + 5, size=100 * seq) for seq in range(1, 500)]
    assert connection.next_event() == Rows(rows)
    assert connection.next_event() == row(500, 505, flags=(), size=1)
    assert connection.next_event() is None
    assert whole(connection, b"ISTS\r\n") == [Exists(3)]


def test_a_line_of_a_listing_is_no_greeting():
    with pytest.raises(NoGreeting):
        whole(Connection(1 << 20), b"* 1 FETCH (UID 1 RFC822.SIZE 2)\r\n")


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
def test_a_long_body_comes_in_pieces(piece: int):
    octets = b"* 2 FETCH (FLAGS (x) BODY[] {%d}\r\n%s UID 7)\r\n* 3 EXISTS\r\n" % (len(LONG), LONG)
    connection = greeted()
    events = in_pieces(connection, (octets[at : at + piece] for at in range(0, len(octets), piece)))
    assert max(len(event.octets) for event in events if isinstance(event, Text)) < WHOLE_OCTETS + (128 << 10)
    assert joined(events) == [
        Literal(row(2, flags=("x",)), BODY, len(LONG)),
        Text(LONG, last=True),
        row(2, 7, flags=("x",), texts=BODY),
        Exists(3),
    ]


def test_a_long_literal_that_nobody_asked_for_comes_in_pieces_too():
    octets = b"* 2 FETCH (RFC822.TEXT {%d}\r\n%s UID 7)\r\n" % (len(LONG), LONG)
    assert joined(whole(greeted(), octets)) == [Literal(row(2), 0, len(LONG)), Text(LONG, last=True), row(2, 7)]


def test_two_long_literals_in_one_response():
    octets = b"* 2 FETCH (UID 7 BODY[HEADER] {%d}\r\n%s BODY[] {%d}\r\n%s)\r\n" % (len(LONG), LONG, len(LONG), LONG)
    assert joined(whole(greeted(), octets)) == [
        Literal(row(2, 7), HEADER, len(LONG)),
        Text(LONG, last=True),
        Literal(row(2, 7, texts=HEADER), BODY, len(LONG)),
        Text(LONG, last=True),
        row(2, 7, texts=HEADER | BODY),
    ]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_longest_body_that_comes_whole(extra: int):
    body = LONG[: WHOLE_OCTETS + extra]
    events = whole(greeted(), b"* 2 FETCH (UID 7 BODY[] {%d}\r\n%s)\r\n" % (len(body), body))
    assert (events == [row(2, 7, body=body, texts=BODY)]) == (extra <= 0)


def test_long_items_around_a_body():
    flags = b" ".join(b"k%05d" % number for number in range(5000))
    octets = b"* 2 FETCH (FLAGS (%s) BODY[] {%d}\r\n%s UID 7 FLAGS (%s))\r\n" % (
        flags, WHOLE_OCTETS, LONG[:WHOLE_OCTETS], flags,
    )  # fmt: skip
    [event] = whole(greeted(), octets)
    assert isinstance(event, FetchRow)
    assert event.body == LONG[:WHOLE_OCTETS]
    assert len(event.flags or ()) == 5000


def test_i79_a_body_over_the_limit_is_refused_before_it_comes():
    connection = greeted(Verb.UID_FETCH, limit=1000)
    with pytest.raises(TooLong, match="sends 4294967295 octets in one message, more than the limit of 1000"):
        whole(connection, b"* 2 FETCH (UID 7 BODY[] {4294967295}\r\n")


# --- long lines of numbers -------------------------------------------------------------------------


def found(events: list[Event]) -> list[int]:
    ranges = [one for event in events if isinstance(event, Found | Vanished) for one in event.ranges]
    return [number for first, last in ranges for number in range(first, last + 1)]


@pytest.mark.parametrize("piece", [997, 60000])
@pytest.mark.parametrize(
    ("before", "between"),
    [
        (b"* SEARCH ", b" "),
        (b"* VANISHED (EARLIER) ", b","),
        (b"* VANISHED ", b","),
        (b'* ESEARCH (TAG "a1") UID COUNT 50000 ALL ', b","),
        (b"* ESEARCH ALL ", b","),
    ],
)
def test_i27_a_line_of_numbers_of_any_length(before: bytes, between: bytes, piece: int):
    numbers = list(range(1, 100_000, 2))
    octets = before + between.join(b"%d" % number for number in numbers) + b"\r\n* 3 EXISTS\r\n"
    events = in_pieces(greeted(), (octets[at : at + piece] for at in range(0, len(octets), piece)))
    assert found(events) == numbers
    assert events[-1] == Exists(3)
    tags = {event.tag for event in events if isinstance(event, Found)}
    assert tags <= {"a1"} if b"TAG" in before else tags <= {""}


def test_i27_numbers_that_end_with_a_modseq():
    numbers = list(range(1, 100_000, 2))
    octets = b"* SEARCH " + b" ".join(b"%d" % number for number in numbers) + b" (MODSEQ 917162500)\r\n"
    assert found(whole(greeted(), octets)) == numbers


# --- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        b"* LIST () " + b"x" * MAX_LINE_OCTETS,
        b"* SEARCH " + b"x" * MAX_LINE_OCTETS,
        b"* SEARCH " + b"9" * (MAX_LINE_OCTETS + 1),
        b"* VANISHED " + b"(" * MAX_LINE_OCTETS,
        b"a1 OK " + b"x" * MAX_LINE_OCTETS,
        b"* " + b"x" * MAX_LINE_OCTETS,
        b"x" * MAX_LINE_OCTETS + b"x",
    ],
    ids=lambda octets: octets[:12],
)
def test_an_endless_line_ends_the_session(octets: bytes):
    with pytest.raises(RemoteProtocolError, match=rf"a line of more than {MAX_LINE_OCTETS} octets"):
        whole(greeted(Verb.NOOP), octets)


def test_i79_nesting_is_bounded():
    deep = b"(" * MAX_NESTING + b")" * MAX_NESTING
    assert whole(greeted(), b"* XYZZY " + deep + b"\r\n") == [Unknown("XYZZY")]
    with pytest.raises(RemoteProtocolError, match=f"lists nested more than {MAX_NESTING} deep"):
        whole(greeted(), b"* XYZZY (" + deep + b")\r\n")


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (b'* LIST () "/" {%d}\r\n' % (MAX_LITERAL_OCTETS + 1), f"a literal of {MAX_LITERAL_OCTETS + 1} octets"),
        (b'* LIST () "/" {99999999999999999999}\r\n', "a literal of 99999999999999999999 octets"),
        (b"* 1 FETCH (BODY[] {99999999999999999999}\r\n", "a literal of 99999999999999999999 octets"),
        (b"* X " + (b"{60000}\r\n" + b"x" * 60000 + b" ") * 20, "a response of more than 1048576 octets"),
        (b'* X "' + b"\r\n" * 5000, "a quoted string without its end"),
        (b"* LIST (\r\n", "a list without its end in “LIST \\(”"),
        (b"* LIST ) a\r\n", "the end of a list that has not begun"),
        (b"* LIST () a\r\n", "LIST cannot be read in “\\(\\(\\) a\\)”"),
        (b'* LIST () "/" (a)\r\n', "a name cannot be read"),
        (b'* LIST x "/" a\r\n', "LIST cannot be read"),
        (b"* SEARCH 2 x\r\n", "a number cannot be read"),
        (b"* SEARCH 9999999999999999999999\r\n", "a number cannot be read"),
        (b"* ESEARCH ALL 1:3 ALL 4\r\n", "ESEARCH cannot be read"),
        (b"* ESEARCH UID ALL\r\n", "ESEARCH cannot be read"),
        (b"* VANISHED 1:*\r\n", "a set of numbers cannot be read"),
        (b"* VANISHED (EARLIER) (1)\r\n", "a set of numbers cannot be read"),
        (b"* 9999999999999999999 EXISTS\r\n", "a number cannot be read"),
        (b"* 2 FETCH\r\n", "FETCH without a list of items for message 2"),
        (b"* 2 FETCH (UID 7) x\r\n", "FETCH without a list of items"),
        (b'* "x" 2\r\n', "a response cannot be read"),
        (b"* 2 FETCH (UID 7 BODY[] {6}\r\nab\r\n)\r\n* 3 EXISTS\r\n", "a list without its end"),  # I134
    ],
)  # fmt: skip
def test_what_cannot_be_read_ends_the_session(octets: bytes, error: str):
    with pytest.raises(RemoteProtocolError, match=error):
        whole(greeted(Verb.UID_FETCH), octets)


@pytest.mark.parametrize("line", [b"", b"*", b"* ", b"x", b"a7 OK done", b"a1 PERHAPS", b"OK", b"\x00", b"a1"])
def test_i30_lines_that_are_no_response_are_passed_over_but_not_for_ever(line: bytes):
    connection = greeted(Verb.NOOP)
    assert whole(connection, (line + b"\r\n") * MAX_UNREAD_LINES + b"a1 OK x\r\n") == [
        Tagged("a1", Verb.NOOP, Status(Kind.OK, text=b"x"))
    ]
    assert connection.counts.unread == MAX_UNREAD_LINES
    with pytest.raises(OutOfStep, match="more than 20 lines that answer nothing"):
        whole(connection, line + b"\r\n")


# --- greetings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"* OK ready\r\n", Status(Kind.OK, text=b"ready")),
        (b"* OK [CAPABILITY IMAP4rev1] x\r\n", Status(Kind.OK, Code("CAPABILITY", b"IMAP4rev1"), b"x")),
        (b"* PREAUTH hello\r\n", Status(Kind.PREAUTH, text=b"hello")),
        (b"* BYE too many\r\n", Status(Kind.BYE, text=b"too many")),
    ],
)
def test_a_greeting(octets: bytes, expected: Status, feed: Feed):
    assert feed(Connection(1000), octets) == [expected]


@pytest.mark.parametrize(
    "octets",
    [b"+OK POP3\r\n", b"220 " * 99, b"220 smtp\r\n", b"* NO x\r\n", b"* CAPABILITY x\r\n", b"* OK\n* OK\n", b"\x15"],
)  # fmt: skip
def test_what_is_no_greeting(octets: bytes):
    with pytest.raises(NoGreeting):
        whole(Connection(1000), octets)


def test_a_server_that_stops_within_what_is_no_greeting():
    connection = Connection(1000)
    assert whole(connection, b"220 smtp") == []
    with pytest.raises(NoGreeting, match="got “220 smtp”"):
        connection.check_greeting()


def test_a_server_that_ends_lines_with_lf_is_told_so():
    with pytest.raises(NoGreeting, match=r"ends lines with LF alone \(RFC 3501 §2.2 wants CRLF\)"):
        whole(Connection(1000), b"* OK ready\n")


# --- commands --------------------------------------------------------------------------------------


def test_ends_of_commands_come_in_any_order():
    connection = greeted(Verb.NOOP, Verb.LIST, Verb.STATUS)
    events = whole(connection, b"a2 OK x\r\n")
    assert events == [Tagged("a2", Verb.LIST, Status(Kind.OK, text=b"x"))]
    assert connection.in_flight == 2
    assert connection.waiting_for is Verb.NOOP
    assert connection.sent(Verb.NOOP) == "a4"


def test_i168_lf_alone_ends_the_answer_to_authenticate_and_nothing_else():
    connection = greeted(Verb.AUTHENTICATE)
    assert octet_by_octet(connection, b"a1 OK\n") == [Tagged("a1", Verb.AUTHENTICATE, Status(Kind.OK))]
    assert not connection.in_response
    connection.sent(Verb.NOOP)
    assert octet_by_octet(connection, b"a2 OK\n") == []


def test_i105_bad_replies_are_counted():
    connection = greeted(Verb.NOOP, Verb.NOOP)
    whole(connection, b"a1 BAD x\r\na2 NO x\r\n")
    assert connection.counts.bad == 1


def test_bye_is_kept():
    connection = greeted(Verb.NOOP)
    whole(connection, b"* BYE [UNAVAILABLE] down\r\n")
    assert connection.closing == Status(Kind.BYE, Code("UNAVAILABLE"), b"down")
    with pytest.raises(StateError):
        connection.sent(Verb.NOOP)


def test_tls_begins_only_with_an_empty_buffer():
    connection = greeted(Verb.STARTTLS)
    with pytest.raises(StateError):
        connection.check_quiet()
    whole(connection, b"a1 OK go\r\n")
    connection.check_quiet()
    whole(connection, b"* CAPABILITY")
    with pytest.raises(RemoteProtocolError, match="octets in clear after its reply to STARTTLS: “\\* CAPABILITY”"):
        connection.check_quiet()


def test_a_secret_that_the_server_repeats_is_not_shown():
    connection = greeted(Verb.LOGIN)
    connection.redaction.learn(b"open sesame")
    [event] = whole(connection, b"a1 BAD unknown command: open sesame\r\n")
    assert isinstance(event, Tagged)
    assert b"sesame" not in event.status.text
    with pytest.raises(OutOfStep) as error:
        whole(connection, b"open sesame\r\n" * 30)
    assert "sesame" not in str(error.value)
