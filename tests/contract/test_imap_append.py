"""CREATE, SUBSCRIBE and APPEND against a scripted server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import ConnectionLost
from syncd.imap.append import Append, appended
from syncd.imap.client import Client, Deadlines
from syncd.imap.signin import sign_in
from syncd.imap.values import Kind
from syncd.mail.body import Body
from syncd.net.transport import Transport
from syncd.secret import Secret
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_store import DATE

MULTI = (*EXTENDED, "MULTIAPPEND")
ODD = [b"A: 1\r\n\r\n{5}", b"A: 2\r\n\r\n.\r\n\x00\xff\n", b"A: 3\r\n\r\n" + b"x" * 300_000]


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server
        assert not server.violations


@contextmanager
def inside(server: FakeImap) -> Iterator[Client]:
    with closing(Client(Transport(server.host, server.port), Deadlines(), 1 << 30)) as client:
        client.open(None)
        credentials = Credentials(USERNAME, Secret(PASSWORD), server.host, server.port)
        sign_in(client.session, "auto", credentials, allow_insecure=True)
        client.capability().wait()
        server.commands.clear()
        yield client


def letters(octets: list[bytes]) -> list[Append]:
    return [Append(Body.of(one), (b"\\Seen",)) for one in octets]


def test_a_mailbox_is_made_and_subscribed_to(server: FakeImap) -> None:
    with inside(server) as client:
        assert client.create(b"Sent").wait().ok
        assert client.create(b"Sent").wait().code.name == "ALREADYEXISTS"
        assert client.subscribe(b"Sent").wait().ok
        assert not client.subscribe(b"Nowhere").wait().ok
    assert server.box("Sent").subscribed


def test_a_special_use_is_asked_for_where_the_server_takes_it(server: FakeImap) -> None:
    with inside(server) as client:
        assert client.create(b"Sent", "\\Sent").wait().ok
    server.inside = (*EXTENDED, "CREATE-SPECIAL-USE")
    with inside(server) as client:
        assert client.create(b"Trash", "\\Trash").wait().ok
    assert server.commands == ["CREATE Trash (USE (\\Trash))"]
    assert server.box("Trash").attributes == [b"\\Trash"]


@pytest.mark.parametrize("announced", [BARE, ("IMAP4rev1", "LITERAL-"), EXTENDED, MULTI])
def test_octets_arrive_as_they_are(server: FakeImap, announced: tuple[str, ...]) -> None:
    server.inside = announced
    with inside(server) as client:
        pending = [client.append(b"INBOX", [one]) for one in letters(ODD)]
        assert all(each.wait().ok for each in pending)
    assert [mail.octets for mail in server.box("INBOX").mail] == ODD
    assert [mail.flags for mail in server.box("INBOX").mail] == [[b"\\Seen"]] * 3
    assert server.box("INBOX").mail[0].date == DATE


def test_several_in_one_command_have_one_receipt(server: FakeImap) -> None:
    server.inside = MULTI
    server.box("INBOX").add(b"before")
    with inside(server) as client:
        status = client.append(b"INBOX", letters(ODD)).wait()
        receipt = appended(status, 3)
    assert receipt is not None
    assert receipt.uids == (2, 3, 4)
    assert server.verbs() == ["APPEND"]


def test_i158_a_no_before_the_literal_keeps_the_session(server: FakeImap) -> None:
    server.inside = BARE
    server.before_literal = lambda line: b"<tag> NO [OVERQUOTA] full\r\n" if b"{300008}" in line else None
    with inside(server) as client:
        answers = [client.append(b"INBOX", [one]).wait() for one in letters(ODD)]
        assert [answer.kind for answer in answers] == [Kind.OK, Kind.OK, Kind.NO]
        client.noop().wait()
    assert len(server.box("INBOX").mail) == 2


def test_answers_are_acknowledged_at_once_before_a_literal(server: FakeImap, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for it sends the request for the literal behind the answer to the message before."""
    server.inside = BARE
    at_once: list[int] = []
    acknowledge = Transport.acknowledge

    def see(transport: Transport) -> None:
        acknowledge(transport)
        assert transport._socket is not None
        at_once.append(transport._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))

    with inside(server) as client:
        monkeypatch.setattr(Transport, "acknowledge", see)
        pending = [client.append(b"INBOX", [one]) for one in letters(ODD)]
        assert all(each.wait().ok for each in pending)
    assert at_once == [1, 1, 1]


def test_a_connection_that_is_lost_in_a_literal_stores_nothing(server: FakeImap) -> None:
    server.loses_literal = 0
    with inside(server) as client, pytest.raises(ConnectionLost):
        client.append(b"INBOX", letters(ODD)[:1]).wait()
    assert not server.box("INBOX").mail


def test_a_lost_reply_says_nothing_of_what_is_stored(server: FakeImap) -> None:
    server.loses_reply_to = {"APPEND"}
    with inside(server) as client, pytest.raises(ConnectionLost):
        client.append(b"INBOX", letters(ODD)[:1]).wait()
    assert len(server.box("INBOX").mail) == 1
