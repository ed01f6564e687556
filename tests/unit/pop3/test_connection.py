"""Every sample is read three ways: whole, one octet at a time, and with octets behind it that must remain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import pytest

from syncd.errors import RemoteProtocolError, StateError
from syncd.pop3.connection import MAX_LINE_OCTETS, PART_OCTETS, WHOLE_OCTETS, Connection
from syncd.pop3.values import (
    AUTH,
    CAPA,
    GREETING,
    LIST,
    QUIT,
    RETR,
    STAT,
    UIDL,
    USER,
    Challenge,
    Event,
    NoGreeting,
    Status,
    Text,
    Verb,
)
from tests.fakes.pop3 import delivered, stuffed
from tests.support import mail

LIMIT = 1 << 31
OK = Status(ok=True, code="", text=b"")

Feed = Callable[[Connection, bytes], list[Event]]


def begun(*verbs: Verb, limit: int = LIMIT) -> Connection:
    """After the greeting, with these commands in flight."""
    connection = Connection(limit)
    assert whole(connection, b"+OK\r\n") == [OK]
    for verb in verbs:
        connection.sent(verb)
    return connection


def whole(connection: Connection, octets: bytes) -> list[Event]:
    return in_pieces(connection, [octets])


def octet_by_octet(connection: Connection, octets: bytes) -> list[Event]:
    return in_pieces(connection, (octets[i : i + 1] for i in range(len(octets))))


def in_pieces(connection: Connection, pieces: Iterable[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        rest = piece
        while rest:
            target = connection.buffer.target()
            step = min(len(target), len(rest))
            target[:step] = rest[:step]
            connection.buffer.received(step)
            rest = rest[step:]
            while connection.waiting_for is not None and (event := connection.next_event()) is not None:
                events.append(event)
    return events


def joined(events: list[Event]) -> list[Event]:
    """The same events, the pieces of each text put together: how it is cut is not part of the promise."""
    result: list[Event] = []
    pieces = b""
    for event in events:
        if isinstance(event, Text):
            pieces += event.octets
            if event.last:
                result.append(Text(pieces, last=True))
                pieces = b""
        else:
            result.append(event)
    assert not pieces
    return result


SAMPLES: list[tuple[str, tuple[Verb, ...], bytes, list[Event]]] = [
    ("stat", (STAT,), b"+OK 2 320\r\n", [Status(ok=True, code="", text=b"2 320")]),
    ("refused", (USER,), b"-ERR [SYS/TEMP] x\r\n", [Status(ok=False, code="SYS/TEMP", text=b"x")]),
    ("challenge", (AUTH,), b"+ \r\n+ eA==\r\n+OK\r\n", [Challenge(b""), Challenge(b"x"), OK]),
    ("capa", (CAPA,), b"+OK list follows\r\nTOP\r\nUIDL\r\n.\r\n", [Text(b"TOP\r\nUIDL\r\n", last=True)]),
    ("capa unknown", (CAPA,), b"-ERR what?\r\n", [Status(ok=False, code="", text=b"what?")]),
    ("empty listing", (LIST,), b"+OK\r\n.\r\n", [Text(b"", last=True)]),
    (
        "flight",
        (STAT, LIST, UIDL),
        b"+OK 1 5\r\n+OK\r\n1 5\r\n.\r\n+OK\r\n1 a\r\n.\r\n",
        [Status(ok=True, code="", text=b"1 5"), Text(b"1 5\r\n", last=True), Text(b"1 a\r\n", last=True)],
    ),
    ("body", (RETR,), b"+OK 120 octets\r\nA: b\r\n\r\ntext\r\n.\r\n", [Text(b"A: b\r\n\r\ntext\r\n", last=True)]),
    ("body, status in small letters", (RETR,), b"+ok\r\nx\r\n.\r\n", [Text(b"x\r\n", last=True)]),
    ("empty body", (RETR,), b"+OK\r\n.\r\n", [Text(b"", last=True)]),
    ("body of an empty line", (RETR,), b"+OK\r\n\r\n.\r\n", [Text(b"\r\n", last=True)]),
    ("P19 dot without its twin", (RETR,), b"+OK\r\n.x\r\n..\r\n...\r\n.\r\n", [Text(b"x\r\n.\r\n..\r\n", last=True)]),
    ("P21 NUL", (RETR,), b"+OK\r\na\0b\r\n.\r\n", [Text(b"a\0b\r\n", last=True)]),
    ("P22 bare", (RETR,), b"+OK\r\na\n.\nb\r.\rc\n.\r\nd\r\n.\r\n", [Text(b"a\n.\nb\r.\rc\n.\r\nd\r\n", last=True)]),
    ("CR before CRLF", (RETR,), b"+OK\r\nx\r\r\n.\r\n", [Text(b"x\r\r\n", last=True)]),
    (
        "P24 one refused among others",
        (RETR, RETR, RETR),
        b"+OK\r\na\r\n.\r\n-ERR poison\r\n+OK\r\nb\r\n.\r\n",
        [Text(b"a\r\n", last=True), Status(ok=False, code="", text=b"poison"), Text(b"b\r\n", last=True)],
    ),
]


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(("verbs", "octets", "events"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES])
class TestSamples:
    def test_they_are_read(self, verbs: tuple[Verb, ...], octets: bytes, events: list[Event], feed: Feed):
        connection = begun(*verbs)
        assert joined(feed(connection, octets)) == events
        assert connection.in_flight == 0
        assert len(connection.buffer) == 0

    def test_what_follows_remains(self, verbs: tuple[Verb, ...], octets: bytes, events: list[Event], feed: Feed):
        connection = begun(*verbs)
        assert joined(feed(connection, octets + b"+OK behind\r\n")) == events
        assert connection.buffer.peek(100) == b"+OK behind\r\n"


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize("name", mail.nasty())
def test_nasty_mail_comes_out_as_it_went_in(name: str, feed: Feed):
    message = mail.nasty()[name]
    assert joined(feed(begun(RETR), b"+OK\r\n" + stuffed(message))) == [Text(delivered(message), last=True)]


def test_bodies_up_to_2_mib_come_whole_and_longer_ones_in_pieces():
    line = b"." + b"x" * 70 + b"\r\n"
    for octets in (WHOLE_OCTETS - 100, 3 * WHOLE_OCTETS):
        message = line * (octets // len(line))
        events = whole(begun(RETR), b"+OK\r\n" + stuffed(message))
        assert joined(events) == [Text(message, last=True)]
        assert (len(events) == 1) == (octets < WHOLE_OCTETS)
        assert all(isinstance(event, Text) and len(event.octets) <= WHOLE_OCTETS + 2 * PART_OCTETS for event in events)


@pytest.mark.parametrize("line_end", [b"", b"\r", b"\n", b"\r."])
def test_p20_a_line_without_end_is_no_trouble_in_a_body(line_end: bytes):
    message = (b"x" * 1000 + line_end) * 5000
    assert joined(whole(begun(RETR), b"+OK\r\n" + stuffed(message))) == [Text(delivered(message), last=True)]


@pytest.mark.parametrize("shift", range(12))
def test_dot_lines_at_the_cut_between_two_pieces(shift: int):
    message = b"x" * shift + b"\r\n.\r\n..\r\n\r\n" * (3 * WHOLE_OCTETS // 11)
    assert joined(whole(begun(RETR), b"+OK\r\n" + stuffed(message))) == [Text(message, last=True)]


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(
    "line", [b"hello\r\n", b"\x80\x81", b"* OK IMAP4\r\n", b"220 smtp\r\n", b"+OKAY\r\n", b"x" * 64]
)
def test_what_is_no_greeting_is_refused_with_its_beginning(line: bytes, feed: Feed):
    with pytest.raises(NoGreeting, match="expected \\+OK or -ERR") as caught:
        feed(Connection(LIMIT), line)
    assert line.startswith(caught.value.octets)


@pytest.mark.parametrize(
    ("start", "right"), [(b"", True), (b"+", True), (b"-er", True), (b"+OK x", True), (b"220 a", False)]
)
def test_a_greeting_that_stops_before_its_line_ends_is_judged_when_asked(start: bytes, right: bool):  # noqa: FBT001
    connection = Connection(LIMIT)
    assert whole(connection, start) == []
    with contextlib.nullcontext() if right else pytest.raises(NoGreeting):
        connection.check_greeting()


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_p50_empty_lines_and_blanks_before_a_reply_are_passed_over(feed: Feed):
    connection = begun(STAT, LIST, RETR, USER)
    octets = b"\r\n+OK 1 5\r\n \t\r\n\r\n +ok\r\n1 5\r\n.\r\n\r\n+OK\tx\r\n\r\na\r\n.\r\n\r\n-ERR no\r\n"
    assert joined(feed(connection, octets)) == [
        Status(ok=True, code="", text=b"1 5"),
        Text(b"1 5\r\n", last=True),
        Text(b"\r\na\r\n", last=True),  # inside a message they are text
        Status(ok=False, code="", text=b"no"),
    ]
    assert connection.passed == 5


def test_p50_an_empty_line_behind_the_last_reply_is_no_desync():
    connection = begun(STAT)
    assert whole(connection, b"+OK 0 0\r\n\r\n") == [Status(ok=True, code="", text=b"0 0")]
    connection.sent(QUIT)
    assert whole(connection, b"+OK\r\n") == [OK]


def test_p50_empty_lines_without_end_are_cut_off():
    with pytest.raises(RemoteProtocolError, match="more than 1000 empty lines"):
        whole(begun(STAT), b"\r\n" * 2000)


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_p52_lines_that_are_no_status_can_be_passed_over(feed: Feed):
    connection = begun(STAT)
    connection.passes_over = True
    assert feed(connection, b"1 120\r\n2 200\r\n.\r\n+OK\r\n") == [OK]
    assert connection.passed == 3


def test_p28_plus_err_is_no_success():
    with pytest.raises(RemoteProtocolError, match="in reply to USER: expected \\+OK or -ERR, got “\\+ERR wrong”"):
        whole(begun(USER), b"+ERR wrong\r\n")


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize("greeting", [b"+OK ready\n", b"+OK ready\nmore\r\n"])
def test_p23_lf_alone_is_refused(greeting: bytes, feed: Feed):
    with pytest.raises(RemoteProtocolError, match="ends lines with LF alone"):
        feed(Connection(LIMIT), greeting)


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_p18_a_dot_that_was_not_stuffed_puts_the_session_out_of_step(feed: Feed):
    connection = begun(RETR, RETR)
    with pytest.raises(RemoteProtocolError, match="in reply to RETR"):
        feed(connection, b"+OK\r\nA: b\r\n.\r\nthe rest\r\n.\r\n+OK\r\nx\r\n.\r\n")


def test_p18_the_same_when_nothing_else_is_in_flight():
    connection = begun(RETR)
    assert whole(connection, b"+OK\r\nA: b\r\n.\r\nthe rest\r\n.\r\n") == [Text(b"A: b\r\n", last=True)]
    with pytest.raises(RemoteProtocolError, match="in reply to no command: unexpected “the rest"):
        connection.sent(QUIT)


@pytest.mark.parametrize("verb", [GREETING, STAT])
def test_an_endless_status_line_is_cut_off(verb: Verb):
    connection = Connection(LIMIT) if verb is GREETING else begun(verb)
    with pytest.raises(RemoteProtocolError, match="a line of more than 65536 octets"):
        whole(connection, b"+OK " + b"x" * (MAX_LINE_OCTETS + 1))


def test_an_endless_line_in_a_listing_is_cut_off():
    with pytest.raises(RemoteProtocolError, match="a line of more than 65536 octets"):
        whole(begun(UIDL), b"+OK\r\n1 a\r\n2 " + b"x" * (MAX_LINE_OCTETS + 100))


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_more_octets_than_the_limit_end_the_session(feed: Feed):
    message = b"x" * 60 + b"\r\n"
    assert feed(begun(RETR, limit=62), b"+OK\r\n" + stuffed(message)) == [Text(message, last=True)]
    with pytest.raises(RemoteProtocolError, match="limit of 61 octets in one message; raise message_octets"):
        feed(begun(RETR, limit=61), b"+OK\r\n" + stuffed(message))


def test_a_message_without_end_is_stopped_at_the_limit():
    connection = begun(RETR, limit=4 << 20)
    with pytest.raises(RemoteProtocolError, match="limit of 4194304 octets"):
        in_pieces(connection, [b"+OK\r\n", *[b"x" * 100_000] * 100])


def test_the_limit_is_for_messages_not_for_listings():
    rows = b"".join(b"%d 1\r\n" % n for n in range(1, 100))
    assert joined(whole(begun(LIST, limit=10), b"+OK\r\n" + rows + b".\r\n")) == [Text(rows, last=True)]


def test_before_tls_nothing_may_be_outstanding_or_left():
    connection = begun(STAT)
    with pytest.raises(StateError):
        connection.check_quiet()
    whole(connection, b"+OK 0 0\r\n")
    connection.check_quiet()
    whole(connection, b"+OK injected\r\n")
    with pytest.raises(RemoteProtocolError, match="the server sent octets in clear after its reply to STLS"):
        connection.check_quiet()
