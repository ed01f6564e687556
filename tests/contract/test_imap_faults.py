"""The IMAP client against a server that breaks off, refuses, invents and floods: one clear error, and flat memory."""

from __future__ import annotations

import logging
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import (
    Cancelled,
    ConnectionLost,
    Refused,
    RemoteProtocolError,
    SyncdError,
    Throttled,
    TimedOut,
    WrongService,
)
from syncd.imap.client import Client, Deadlines
from syncd.imap.events import TooLong
from syncd.imap.sets import UidSet
from syncd.imap.signin import sign_in
from syncd.imap.stream import Answered, Arrived, FetchStream
from syncd.imap.values import FetchItems
from syncd.mail.body import BodyWriter, Spool
from syncd.net.transport import Transport
from syncd.secret import Secret
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap

BODIES = FetchItems(flags=True, body=True)
MAIL = [b"Subject: %d\r\n\r\n" % number + b"x" * 5000 * number for number in range(1, 6)]
LONG = b"Subject: long\r\n\r\n" + b"y" * 400_000
MOST_OCTETS = 24 << 20  # of memory: the buffer of a connection, a response of a MiB as tokens
SOON = Deadlines(reply=0.3, listing=0.3, body=0.3, greeting=0.3, quiet=1.0)


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.box("INBOX").add(*MAIL, LONG)
        yield server


@contextmanager
def inside(server: FakeImap, deadlines: Deadlines | None = None, limit: int = 1 << 30) -> Iterator[Client]:
    with closing(Client(Transport(server.host, server.port), deadlines or Deadlines(), limit)) as client:
        client.open(None)
        credentials = Credentials(USERNAME, Secret(PASSWORD), server.host, server.port)
        sign_in(client.session, "auto", credentials, allow_insecure=True)
        yield client


def opened(client: Client, path: Path, *asked: bytes) -> FetchStream:
    client.examine(b"INBOX").wait()
    stream = client.bodies(BODIES, lambda *_: BodyWriter(Spool(path)))
    for uids in asked:
        stream.ask(UidSet.parse(uids))
    return stream


def read(stream: FetchStream) -> tuple[dict[int, bytes | None], list[Answered]]:
    found: dict[int, bytes | None] = {}
    ends = []
    while stream.in_flight:
        event = stream.next()
        if isinstance(event, Answered):
            ends.append(event)
        else:
            found[event.row.uid] = None if event.body is None else b"".join(event.body.chunks())
    return found, ends


def visit(client: Client) -> None:
    list(client.mailboxes())
    client.examine(b"INBOX").wait()
    list(client.rows(UidSet.everything(), FetchItems(size=True)))


# --- messages --------------------------------------------------------------------------------------


def test_i64_i73_a_message_without_a_row_is_missing(server: FakeImap, tmp_path: Path):
    server.leaves_out = {2}
    with inside(server) as client:
        found, [end] = read(opened(client, tmp_path, b"1:4"))
    assert found == {1: MAIL[0], 3: MAIL[2], 4: MAIL[3]}
    assert end.missing == UidSet.of([2])
    assert end.refused is None


def test_i74_rows_before_a_no_count_and_the_session_goes_on(server: FakeImap, tmp_path: Path):
    server.refuses = {3}
    with inside(server) as client:
        found, ends = read(opened(client, tmp_path, b"1:4", b"5"))
    assert found == {1: MAIL[0], 2: MAIL[1], 5: MAIL[4]}
    assert [end.missing for end in ends] == [UidSet.of([3, 4]), UidSet()]
    assert type(ends[0].refused) is Refused


def test_i130_a_message_that_nobody_asked_for_is_no_answer(server: FakeImap, tmp_path: Path):
    server.last_for_missing = True
    with inside(server) as client:
        found, ends = read(opened(client, tmp_path, b"99", b"1"))
        assert found == {1: MAIL[0]}
        assert ends[0].missing == UidSet.of([99])
        assert "I130" in client.session.quirks.noted
        assert [row for rows in client.rows(UidSet.of([77]), FetchItems(size=True)) for row in rows] == []


@pytest.mark.parametrize("body", [b"NIL", b'""', b"{0}\r\n"])
def test_i72_i131_nil_and_empty_are_told_apart_and_left_to_the_caller(server: FakeImap, tmp_path: Path, body: bytes):
    server.replies["UID FETCH"] = b"* 1 FETCH (UID 1 BODY[] %b)\r\n<tag> OK [EXPUNGEISSUED] x\r\n" % body
    with inside(server) as client:
        found, [end] = read(opened(client, tmp_path, b"1"))
    assert found == {1: None if body == b"NIL" else b""}
    assert not end.missing


@pytest.mark.parametrize("uid_last", [False, True])
@pytest.mark.parametrize("uid", [2, 6])
def test_i132_a_connection_that_breaks_inside_a_message(
    server: FakeImap,
    tmp_path: Path,
    uid: int,
    uid_last: bool,  # noqa: FBT001
):
    server.breaks_off_at, server.uid_last = {uid}, uid_last
    with inside(server) as client:
        stream = opened(client, tmp_path, b"1:6")
        before = [stream.next() for _ in range(1, uid)]
        assert [event.row.uid for event in before if isinstance(event, Arrived)] == list(range(1, uid))
        with pytest.raises(ConnectionLost, match="no complete answer to UID FETCH came"):
            stream.next()
        losing = client.session.losing()
        assert losing is not None
        assert losing.uid == (0 if uid_last else uid)
        assert losing.seq == uid
        stream.close()
    assert list(tmp_path.iterdir()) == []


def test_i79_a_message_over_the_limit_ends_the_session_before_it_comes(server: FakeImap, tmp_path: Path):
    with inside(server, limit=100_000) as client:
        stream = opened(client, tmp_path, b"6")
        with pytest.raises(TooLong, match="raise message_octets to take it; the session was closed"):
            stream.next()


def test_giving_up_reads_off_what_is_under_way(server: FakeImap, tmp_path: Path):
    with inside(server) as client:
        stream = opened(client, tmp_path, b"1:6")
        stream.next()
        stream.close()
        stream.close()
        client.noop().wait()
        found, _ = read(opened(client, tmp_path, b"6"))
        assert found == {6: LONG}


def test_a_listing_that_is_given_up_leaves_the_session_usable(server: FakeImap):
    server.box("INBOX").add(*[b"x"] * 2500)
    with inside(server) as client:
        client.examine(b"INBOX").wait()
        rows = client.rows(UidSet.everything(), FetchItems(size=True))
        assert len(next(rows)) == 1000
        rows.close()
        assert len(client.uid_search().wait()) == 2506


def test_one_command_at_a_time_where_that_is_wanted(server: FakeImap, tmp_path: Path):
    transport = Transport(server.host, server.port)
    with closing(Client(transport, Deadlines(), 1 << 30, may_pipeline=False)) as client:
        client.open(None)
        credentials = Credentials(USERNAME, Secret(PASSWORD), server.host, server.port)
        sign_in(client.session, "auto", credentials, allow_insecure=True)
        pending = client.namespace(), client.enable("CONDSTORE")
        found, _ = read(opened(client, tmp_path, b"1", b"2:3", b"6"))
        assert pending[1].wait() == {"CONDSTORE"}
    assert set(found) == {1, 2, 3, 6}
    assert set(server.flights) == {1}


# --- the session -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"* BYE Session expired\r\n", ConnectionLost),
        (b"* BYE [UNAVAILABLE] going down\r\n", Refused),
        (b"<tag> BAD Request is throttled. Suggested Backoff Time: 5000 milliseconds\r\n", Throttled),  # I10
        (b"<tag> NO [LIMIT] NOOP Rate limit hit\r\n* BYE\r\n", Throttled),  # I15
    ],
)
def test_a_server_that_has_enough(server: FakeImap, said: bytes, kind: type[SyncdError]):
    server.before["NOOP"] = said.replace(b"<tag>", b"a3")
    server.hangs_up_on.add("LOGOUT")
    server.replies["NOOP"] = b""
    with inside(server, Deadlines(reply=30)) as client:
        with pytest.raises(kind) as error:
            client.noop().wait()
        assert type(error.value) is kind
        client.logout()


def test_a_server_that_says_goodbye_and_does_not_hang_up(server: FakeImap):
    server.replies["NOOP"] = b"* BYE that is it\r\n"
    with inside(server) as client:
        with pytest.raises(ConnectionLost, match="the server ended the session: “BYE that is it”"):
            client.noop().wait()
        assert client.over
        with pytest.raises(ConnectionLost, match="ended the session"):
            client.noop().wait()


def test_i20_i30_i02_what_is_passed_over(server: FakeImap):
    server.before["NOOP"] = b"\r\nwhat is this\r\n* OK [CAPABILITY IMAP4rev1 X] new\r\n* 7 EXISTS\r\n* XYZZY ()\r\n"
    with inside(server) as client:
        client.noop().wait()
        assert client.capabilities.names == ("IMAP4REV1", "X")
        assert "I30" in client.session.quirks.noted


def test_i09_a_server_that_slows_us_down_is_noted(server: FakeImap):
    server.replies["NOOP"] = b"<tag> OK Success [THROTTLED]\r\n"
    with inside(server) as client:
        client.noop().wait()
        assert client.session.throttled == 1


def test_an_alert_is_told_once(server: FakeImap, caplog: pytest.LogCaptureFixture):
    """Its text stood in a field that the command line does not show; Courier says it with each mailbox."""
    server.replies["NOOP"] = b"* OK [ALERT] Mailbox moves on Sunday\x07\r\n<tag> OK x\r\n"
    with inside(server) as client, caplog.at_level(logging.WARNING):
        client.noop().wait()
        client.noop().wait()
        server.replies["NOOP"] = b"* OK [ALERT] another\r\n<tag> OK x\r\n"
        client.noop().wait()
        address = client.session.address
    assert [record.getMessage() for record in caplog.records] == [
        f"{address}: the server says: Mailbox moves on Sunday\\x07",
        f"{address}: the server says: another",
    ]


def test_i105_bad_commands_are_counted(server: FakeImap):
    server.replies["NOOP"] = b"<tag> BAD no\r\n"
    with inside(server) as client:
        for _ in range(3):
            with pytest.raises(Refused):
                client.noop().wait()
        assert client.session.bad == 3
        assert "I105" in client.session.quirks.noted


@pytest.mark.parametrize(
    ("greeting", "kind", "said"),
    [
        (b"+OK POP3 ready\r\n", WrongService, "a POP3 server answers here, not IMAP"),
        (b"220 mx ESMTP\r\n", WrongService, "an SMTP server answers here, not IMAP"),
        (b"* OK ready\n", WrongService, "ends lines with LF alone"),
        (b"* BYE too many connections\r\n", Refused, "the server does not take the connection: “BYE too many"),
        (b"", TimedOut, "no greeting came within 0.3 s"),
    ],
)
def test_greetings(server: FakeImap, greeting: bytes, kind: type[SyncdError], said: str):
    server.greeting = greeting
    with pytest.raises(kind, match=said), inside(server, SOON):
        pass


@pytest.mark.parametrize("verb", ["CAPABILITY", "AUTHENTICATE", "LIST", "EXAMINE", "UID FETCH"])
def test_i31_a_server_that_hangs_is_given_up(server: FakeImap, verb: str):
    server.hangs_on.add(verb)
    with pytest.raises(TimedOut, match=r"no complete answer to .* came within 0.3 s"), inside(server, SOON) as client:
        visit(client)


def test_i31_octets_that_drip_in_do_not_prolong_a_wait(server: FakeImap):
    server.drip_s, server.drips_on = 0.02, "LIST"
    with pytest.raises(TimedOut), inside(server, SOON) as client:
        list(client.mailboxes())


def test_a_session_is_cancelled_from_another_thread(server: FakeImap):
    server.hangs_on.add("NOOP")
    with inside(server) as client:

        def cancel() -> None:
            server.hanging.wait(10)
            client.transport.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(Cancelled):
            client.noop().wait()
        thread.join()
        with pytest.raises(Cancelled):
            client.noop().wait()


@pytest.mark.parametrize("after", [0, 1, 5, 17, 40, 80, 150, 300, 600, 5000])
def test_a_cut_anywhere_is_an_error(server: FakeImap, tmp_path: Path, after: int):
    begin = 250  # the end of the sign-in
    server.cut_after = begin + after
    with pytest.raises((ConnectionLost, RemoteProtocolError)), inside(server) as client:
        read(opened(client, tmp_path, b"1:6"))


# --- hostile servers -------------------------------------------------------------------------------

FLOODS = {
    "an endless line": b"* LIST () " + b"x" * 3_000_000,
    "an endless greeting of a row": b"* 1 FETCH (UID " + b"1" * 3_000_000,
    "endless nesting": b"* X " + b"(" * 3_000_000,
    "a row of lists": b"* X " + b"() " * 20_000 + b"\r\n",
    "an endless number": b"* SEARCH " + b"1" * 3_000_000,
    "literals without end": b"* X " + (b"{60000}\r\n" + b"x" * 60_000 + b" ") * 60,
    "empty literals without end": b"* X " + b"{0}\r\n " * 400_000,
    "a literal in quotes": b'* X "{50}" ' + b'"' * 3_000_000,
    "a literal of 4 GB": b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\n" + b"x" * 3_000_000,
    "a literal of 10^20": b"* LIST () {100000000000000000000}\r\n",
    "a literal in a name": b'* LIST () "/" {3000000}\r\n' + b"x" * 3_000_000,
    "lines that are nothing": b"nothing\r\n" * 200_000,
    "empty lines": b"\r\n" * 1_000_000,
    "half a row": b"* 1 FETCH (UID 1 BODY[] {10}\r\nab",
    "half a body": b"* 1 FETCH (UID 1 BODY[] {900000}\r\n" + b"x" * 800_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_hostile_server_costs_little_and_ends_with_one_line(server: FakeImap, tmp_path: Path, flood: str):
    server.before["UID FETCH"] = FLOODS[flood]
    server.hangs_up_on.add("UID FETCH")
    server.on["UID FETCH"] = lambda _: b""
    with inside(server, Deadlines(listing=0.5, body=0.5), limit=1 << 20) as client:
        stream = opened(client, tmp_path, b"1:6")
        server.hangs_up_on.clear()
        tracemalloc.start()
        try:
            with pytest.raises((RemoteProtocolError, ConnectionLost, TimedOut)) as error:
                read(stream)
            assert tracemalloc.get_traced_memory()[1] < MOST_OCTETS
        finally:
            tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_untagged_data_without_end_costs_no_memory(server: FakeImap):
    server.before["NOOP"] = b"* 1 FETCH (UID 7 FLAGS (x) BODY[] {3}\r\nabc)\r\n* XYZZY (a b)\r\n* 5 EXISTS\r\n" * 3000
    with inside(server) as client:
        tracemalloc.start()
        try:
            client.noop().wait()
            assert tracemalloc.get_traced_memory()[1] < 8 << 20  # the fake's own octets among them
        finally:
            tracemalloc.stop()


def test_a_listing_with_gaps_everywhere_costs_little_memory(server: FakeImap):
    rows = b"".join(b"* %d FETCH (UID %d RFC822.SIZE 9)\r\n" % (number, 3 * number) for number in range(1, 10_001))
    server.replies["UID FETCH"] = reply = rows + b"a4 OK x\r\n"
    with inside(server) as client:
        client.examine(b"INBOX").wait()
        tracemalloc.start()
        try:
            found = sum(len(rows) for rows in client.rows(UidSet.everything(), FetchItems(size=True)))
            assert tracemalloc.get_traced_memory()[1] < len(reply) + (1 << 20)  # the fake sends a copy
        finally:
            tracemalloc.stop()
    assert found == 10_000
