"""The scripted IMAP server, seen by the standard library's client."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator

import pytest

from tests.fakes.imap import PASSWORD, USERNAME, FakeImap

MAIL = b"Subject: one\r\n\r\n{50} in the body\r\n"


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.box("INBOX").add(MAIL, flags=[b"\\Seen", b"$label"])
        server.box("INBOX").add(b"Subject: two\r\n\r\n")
        server.box('odd "name"').add(b"\r\n")
        server.box("parent", attributes=[b"\\Noselect"])
        yield server


@pytest.fixture
def client(server: FakeImap) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4(server.host, server.port)
    client.login(USERNAME, PASSWORD)
    yield client
    client.file.close()
    client.sock.close()


def test_lists_and_counts(server: FakeImap, client: imaplib.IMAP4) -> None:
    assert client.list()[1] == [
        b'() "/" "INBOX"',
        (b'() "/" {10}', b'odd "name"'),
        b"",
        b'(\\Noselect) "/" "parent"',
    ]
    assert client.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY)")[1] == [
        b'"INBOX" (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1)'
    ]
    assert client.status("parent", "(MESSAGES)")[0] == "NO"
    assert server.verbs() == ["CAPABILITY", "LOGIN", "LIST", "STATUS", "STATUS"]


def test_list_status_in_one_reply(server: FakeImap, client: imaplib.IMAP4) -> None:
    server.boxes = {b"INBOX": server.boxes[b"INBOX"]}
    typ, _ = client._simple_command("LIST", '""', '"*"', "RETURN (SUBSCRIBED STATUS (MESSAGES HIGHESTMODSEQ))")
    assert typ == "OK"
    assert client.untagged_responses["LIST"] == [b'(\\Subscribed) "/" "INBOX"']
    assert client.untagged_responses["STATUS"] == [b'"INBOX" (MESSAGES 2 HIGHESTMODSEQ 3)']


def test_serves_messages_in_sections_and_leaves_them_unseen(server: FakeImap, client: imaplib.IMAP4) -> None:
    assert client.select("INBOX", readonly=True) == ("OK", [b"2"])
    assert client.uid("FETCH", "1", "(FLAGS INTERNALDATE RFC822.SIZE)")[1] == [
        b'1 (UID 1 FLAGS (\\Seen $label) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE %d)' % len(MAIL)
    ]
    answer = client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
    assert answer[0] == (b"1 (UID 1 BODY[] {%d}" % len(MAIL), MAIL)
    assert client.uid("FETCH", "1", "(BODY.PEEK[HEADER])")[1][0][1] == b"Subject: one\r\n\r\n"
    assert client.uid("FETCH", "1", "(BODY.PEEK[]<3.4>)")[1][0] == (b"1 (UID 1 BODY[]<3> {4}", MAIL[3:7])
    assert b"\\Seen" not in server.box("INBOX").mail[1].flags
    client.uid("FETCH", "2", "(BODY[])")
    assert b"\\Seen" in server.box("INBOX").mail[1].flags


def test_the_last_message_is_always_in_a_range_with_a_star(server: FakeImap, client: imaplib.IMAP4) -> None:
    client.select("INBOX", readonly=True)
    assert client.uid("FETCH", "9:*", "(FLAGS)")[1] == [b"2 (UID 2 FLAGS ())"]
    assert client.uid("FETCH", "9", "(FLAGS)")[1] == [None]
    server.last_for_missing = True
    assert client.uid("FETCH", "9", "(FLAGS)")[1] == [b"2 (UID 2 FLAGS ())"]


def test_takes_literals_with_and_without_waiting(server: FakeImap, client: imaplib.IMAP4) -> None:
    client.send(b"X0 STATUS {10}\r\n")
    assert client.readline() == b"+ go on\r\n"
    client.send(b'odd "name" (MESSAGES)\r\n')
    assert client.readline() == b"* STATUS {10}\r\n"
    assert client.readline() == b'odd "name" (MESSAGES 1)\r\n'
    assert client.readline() == b"X0 OK done\r\n"
    client.send(b"X1 STATUS {5+}\r\nINBOX (MESSAGES)\r\nX2 NOOP\r\n")
    assert client.readline() == b'* STATUS "INBOX" (MESSAGES 2)\r\n'
    assert client.readline() == b"X1 OK done\r\n"
    assert client.readline() == b"X2 OK done\r\n"
    assert server.flights[-1] == 2


def test_scripted_replies_and_faults(server: FakeImap, client: imaplib.IMAP4) -> None:
    server.replies["EXAMINE INBOX"] = b"<tag> NO [SERVERBUG] not today\r\n"
    server.before["NOOP"] = b"* 3 EXISTS\r\n"
    server.breaks_off_at = {2}
    assert client._simple_command("EXAMINE", "INBOX") == ("NO", [b"[SERVERBUG] not today"])
    client.noop()
    assert client.response("EXISTS")[1] == [b"3"]
    client.select("INBOX")
    with pytest.raises(imaplib.IMAP4.abort):
        client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    assert server.connections == 1
