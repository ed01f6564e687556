"""The IMAP client against a scripted server: verbs, flights, streams, what is passed over and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import (
    MailboxRefused,
    StateError,
)
from syncd.imap.client import Client, Deadlines
from syncd.imap.sets import UidSet
from syncd.imap.signin import sign_in
from syncd.imap.stream import Answered, Arrived, FetchStream
from syncd.imap.values import FetchItems, MailboxRow, MailboxStatus, ModSeq, UidValidity
from syncd.mail.body import BodyWriter, Spool
from syncd.net.transport import Transport
from syncd.secret import Secret
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap

BODIES = FetchItems(flags=True, internal_date=True, body=True)
LIMIT = 1 << 30


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


@contextmanager
def connected(server: FakeImap, deadlines: Deadlines | None = None) -> Iterator[Client]:
    with closing(Client(Transport(server.host, server.port), deadlines or Deadlines(), LIMIT)) as client:
        client.open(None)
        yield client


@contextmanager
def inside(server: FakeImap, deadlines: Deadlines | None = None) -> Iterator[Client]:
    with connected(server, deadlines) as client:
        credentials = Credentials(USERNAME, Secret(PASSWORD), server.host, server.port)
        sign_in(client.session, "auto", credentials, allow_insecure=True)
        server.flights.clear()
        server.commands.clear()
        yield client


def rows(client: Client) -> list[MailboxRow]:
    return [row for chunk in client.mailboxes() for row in chunk]


def read(stream: FetchStream) -> list[Arrived | Answered]:
    found = []
    while stream.in_flight:
        found.append(stream.next())
    return found


def octets(events: list[Arrived | Answered]) -> dict[int, bytes | None]:
    return {
        event.row.uid: None if event.body is None else b"".join(event.body.chunks())
        for event in events
        if isinstance(event, Arrived)
    }


# --- mailboxes -------------------------------------------------------------------------------------


def status(messages: int, following: int, modseq: int | None = None) -> MailboxStatus:
    return MailboxStatus(messages, following, UidValidity(1), None if modseq is None else ModSeq(modseq))


@pytest.fixture
def boxes(server: FakeImap) -> None:
    server.box("INBOX").add(b"a\r\n", b"b\r\n")
    server.box("parent", attributes=[b"\\Noselect"])
    server.box('Sent "x"', attributes=[b"\\Sent"], subscribed=False).add(b"c\r\n")


@pytest.mark.usefixtures("boxes")
def test_i166_list_status_is_one_command_in_one_flight_with_what_is_queued(server: FakeImap):
    with inside(server) as client:
        enabled, namespaces, identity = client.enable("CONDSTORE", "X-NO"), client.namespace(), client.id({"name": "x"})
        found = {row.name: row for row in rows(client)}
        assert enabled.done
        assert enabled.wait() == {"CONDSTORE"} == client.enabled
        assert namespaces.wait().personal[0].delimiter == b"/"
        assert identity.wait() == {"name": "fake"}
    assert server.flights == [4]
    assert list(found) == [b"INBOX", b"parent", b'Sent "x"']
    assert found[b"INBOX"].status == status(2, 3, 3)
    assert found[b"parent"].status is None
    assert not found[b"parent"].selectable
    assert found[b'Sent "x"'].use == "\\Sent"
    assert [row.subscribed for row in found.values()] == [True, True, False]


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("told", [True, False])
def test_i102_a_bare_server_is_asked_for_each_mailbox_in_flight(server: FakeImap, told: bool):  # noqa: FBT001
    server.capabilities, server.inside = BARE, BARE if told else None
    with inside(server) as client:
        found = {row.name: row for row in rows(client)}
    assert server.flights == [2 if told else 3, 2]
    assert found[b"INBOX"].status == status(2, 3)
    assert found[b'Sent "x"'].status == status(1, 2)
    assert not found[b'Sent "x"'].subscribed
    assert found[b"INBOX"].subscribed


def test_many_mailboxes_without_list_status(server: FakeImap):
    server.inside = tuple(name for name in EXTENDED if name != "LIST-STATUS")
    for number in range(250):
        server.box(f"box {number}").add(b"x")
    server.replies['STATUS "box 7" (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)'] = b"<tag> NO broken\r\n"
    with inside(server) as client:
        found = {row.name: row.status for row in rows(client)}
    assert len(found) == 251
    assert [name for name, told in found.items() if told is None] == [b"box 7"]
    assert max(server.flights) <= 100
    assert server.verbs() == ["LIST"] + ["STATUS"] * 251


def test_i140_a_status_that_ends_with_bad_is_not_believed(server: FakeImap):
    server.replies["STATUS"] = b"* STATUS INBOX (MESSAGES 7)\r\n<tag> BAD no such item\r\n"
    with inside(server) as client:
        assert client.status(b"INBOX").wait() is None


# --- opening ---------------------------------------------------------------------------------------


def test_opening_and_listing_leave_together(server: FakeImap):
    server.box("a b", validity=9).add(b"x" * 7, b"y" * 9)
    with inside(server) as client:
        opened = client.examine(b"a b")
        found = [row for chunk in client.rows(UidSet.everything(), FetchItems(size=True)) for row in chunk]
        assert opened.wait() is client.selected
    assert server.flights == [2]
    assert [(row.uid, row.size) for row in found] == [(1, 7), (2, 9)]


def test_what_is_told_of_a_mailbox(server: FakeImap):
    server.box("x", validity=9).add(b"x")
    with inside(server) as client:
        opened = client.examine(b"x").wait()
        assert (opened.exists, opened.uid_validity, opened.uid_next, opened.modseq) == (1, 9, 2, 2)
        assert opened.read_only
        server.before["NOOP"] = b"* 1 EXPUNGE\r\n* 5 EXISTS\r\n* OK [HIGHESTMODSEQ 7] x\r\n"
        client.noop().wait()
        assert (opened.exists, opened.expunged, opened.modseq) == (5, 1, 7)
        client.unselect().wait()
        assert client.selected is None


def test_a_mailbox_that_cannot_be_opened_is_alone_with_it(server: FakeImap):
    with inside(server) as client:
        client.examine(b"INBOX").wait()
        with pytest.raises(MailboxRefused, match="does not open a mailbox: “NO \\[NONEXISTENT\\] no such mailbox”"):
            client.examine(b"nowhere").wait()
        assert client.selected is None
        with pytest.raises(MailboxRefused, match="CR, LF or NUL in its name"):
            client.examine(b"a\nb")
        assert client.examine(b"INBOX").wait().exists == 0


@pytest.mark.parametrize("reading", [True, False])
def test_leaving_a_mailbox_expunges_nothing(server: FakeImap, reading: bool):  # noqa: FBT001
    server.inside = BARE
    with inside(server) as client:
        (client.examine if reading else client.select)(b"INBOX").wait()
        client.unselect().wait()
    assert server.verbs() == ["EXAMINE", "CLOSE"] if reading else ["SELECT", "EXAMINE", "CLOSE"]


def test_a_mailbox_that_is_still_open_for_writing_is_not_closed(server: FakeImap) -> None:
    """CLOSE would remove what is marked as deleted; a no to EXAMINE may leave it open for writing, also later on."""
    server.inside = ("IMAP4rev1",)
    with inside(server) as client:
        client.select(b"INBOX").wait()
        server.replies["EXAMINE INBOX"] = b"<tag> NO [SERVERBUG] not now\r\n"
        for _ in range(2):
            client.unselect().wait()
    assert server.verbs() == ["SELECT", "EXAMINE", "EXAMINE"]


@pytest.mark.parametrize("extended", [True, False])
def test_searching(server: FakeImap, extended: bool):  # noqa: FBT001
    server.inside = EXTENDED if extended else BARE
    server.box("INBOX").add(b"x", b"y", b"z")
    with inside(server) as client:
        client.examine(b"INBOX").wait()
        assert client.uid_search().wait() == UidSet.of([1, 2, 3])
        server.replies["UID SEARCH"] = b'* ESEARCH (TAG "<tag>") UID ALL 2:5,9\r\n<tag> OK x\r\n'
        assert client.uid_search(b"UNSEEN").wait() == UidSet.parse(b"2:5,9")
    assert server.commands[-1] == f"UID SEARCH {'RETURN (ALL) ' if extended else ''}UNSEEN"


# --- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid_last", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_i71_i133_messages_in_any_order_long_ones_on_disk(
    server: FakeImap,
    tmp_path: Path,
    uid_last: bool,  # noqa: FBT001
    backwards: bool,  # noqa: FBT001
):
    mail = [b"Subject: %d\r\n\r\n" % number + b"x" * number * 90_000 for number in range(30)]
    server.box("INBOX").add(*mail, flags=[b"\\Seen"])
    server.uid_last, server.backwards = uid_last, backwards
    spool = Spool(tmp_path)
    made: list[tuple[int, int]] = []

    def new_body(uid: int, octets: int) -> BodyWriter:
        made.append((uid, octets))
        return BodyWriter(spool)

    with inside(server) as client:
        client.examine(b"INBOX").wait()
        stream = client.bodies(BODIES, new_body)
        for uids in (b"1:10", b"11:29", b"30,77"):
            stream.ask(UidSet.parse(uids))
        events = read(stream)
        with pytest.raises(StateError):
            stream.next()
    assert octets(events) == dict(enumerate(mail, 1))
    assert made
    assert all(octets > 256 << 10 for _, octets in made)
    assert {uid for uid, _ in made} == {0} if uid_last else set(range(4, 31)) >= {uid for uid, _ in made}
    ends = [event for event in events if isinstance(event, Answered)]
    assert [end.missing.encode() for end in ends] == [b"", b"", b"77"]
    arrived = [event for event in events if isinstance(event, Arrived)]
    assert all(event.row.flags == ("\\Seen",) and event.row.internal_date for event in arrived)
    assert not any("Seen" in command for command in server.commands)
