"""The IMAP client against real servers: what it reads is what the standard library's client is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import AuthRefused, MailboxRefused
from syncd.imap.client import Client, Deadlines
from syncd.imap.sets import UidSet
from syncd.imap.signin import sign_in
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems
from syncd.mail.body import BodyWriter, Spool
from syncd.mail.mailbox import path_of
from syncd.net.transport import Transport
from syncd.secret import Secret
from tests.servers import courier, cyrus
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.imap import FLAVOURS, ImapServer, Letter, Login, Shown, dovecot, fill, shown

pytestmark = pytest.mark.servers

LONG = b"Subject: long\r\n\r\n" + b"0123456789abcdef" * 4 * 5 + b"\r\n" + (b"y" * 76 + b"\r\n") * 8000
MAIL = [
    Letter(b"Subject: one\r\n\r\n{50}\r\n.\r\nFrom here\r\n", ("\\Seen", "\\Flagged", "$label")),
    Letter(LONG, ("\\Answered",), "01-Jan-2020 00:00:00 +0000"),
    *(Letter(b"Subject: %d\r\n\r\n%d\r\n" % (number, number)) for number in range(30)),
]
LEVELS = {"dot": ("INBOX.", "."), "cyrus": ("INBOX.", "."), "courier": ("INBOX.", ".")}


@pytest.fixture(scope="module", params=["slash", "dot", "bare", "sdbox", "cyrus", "courier"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[ImapServer, str]]:
    kind = request.param
    if kind in FLAVOURS:
        with dovecot(FLAVOURS[kind]) as private:
            yield private, kind
        return
    if reason := {"cyrus": cyrus, "courier": courier}[kind].missing():
        pytest.skip(reason)
    with {"cyrus": Cyrus, "courier": Courier}[kind]() as other:
        yield other, kind


@contextmanager
def connected(login: Login) -> Iterator[Client]:
    with closing(Client(Transport(login.host, login.port), Deadlines(), 1 << 30)) as client:
        client.open(None)
        yield client


@contextmanager
def inside(login: Login, auth: str = "auto") -> Iterator[tuple[Client, str]]:
    with connected(login) as client:
        credentials = Credentials(login.username, Secret(login.password), login.host, login.port)
        yield client, sign_in(client.session, auth, credentials, allow_insecure=True)
        client.logout()


def read(client: Client, name: bytes, spool: Path) -> list[Shown]:
    """All messages of a mailbox, by a listing and three commands in flight."""
    client.examine(name)
    items = FetchItems(flags=True, size=True)
    listed = {row.uid: row for rows in client.rows(UidSet.everything(), items) for row in rows}
    assert client.selected is not None
    assert client.selected.exists == len(listed)
    stream = client.bodies(FetchItems(flags=True, internal_date=True, body=True), lambda *_: BodyWriter(Spool(spool)))
    uids = sorted(listed)
    for start in range(0, len(uids), 11):
        stream.ask(UidSet.of(uids[start : start + 11]))
    found = []
    while stream.in_flight:
        event = stream.next()
        if isinstance(event, Answered):
            assert not event.missing
            assert event.refused is None
            continue
        assert event.body is not None
        assert event.body.octets == listed[event.row.uid].size
        flags = frozenset(event.row.flags or ())
        assert flags == set(listed[event.row.uid].flags or ())
        found.append(
            Shown(event.row.uid, b"".join(event.body.chunks()), flags, (event.row.internal_date or b"").decode())
        )
    return sorted(found)


def test_reads_what_is_there_and_changes_nothing(server: tuple[ImapServer, str], tmp_path: Path):
    private, kind = server
    prefix, delimiter = LEVELS.get(kind, ("", "/"))
    deep = prefix + delimiter.join(["Projekte", "M&APw-ller"])
    login = private.user("anna")
    fill(login, {"INBOX": MAIL, deep: MAIL[:3], f"{prefix}empty": []})
    before = shown(login)
    with inside(login) as (client, _):
        client.enable("CONDSTORE")
        rows = [row for chunk in client.mailboxes() for row in chunk]
        boxes = {row.name.decode(): row for row in rows if row.selectable}
        assert set(boxes) == set(before)
        messages = {name: row.status.messages for name, row in boxes.items() if row.status is not None}
        assert messages == {name: len(mail) for name, mail in before.items()}
        row = boxes[deep]
        assert row.subscribed
        assert path_of(row.name, row.delimiter)[-2:] == ("Projekte", "Müller")
        assert {name: read(client, name.encode(), tmp_path) for name in boxes} == before
        client.unselect().wait()
        assert client.selected is None
    assert shown(login) == before


def test_searches_and_refusals(server: tuple[ImapServer, str]):
    private, _ = server
    login = private.user("berta")
    fill(login, {"INBOX": MAIL[:3]})
    with inside(login) as (client, _way):
        with pytest.raises(MailboxRefused):
            client.examine(b"INBOX.nowhere").wait()
        pending = client.noop()
        with pytest.raises(MailboxRefused):  # a literal, which Courier must ask for
            client.examine("INBOX.nirgendwö".encode()).wait()
        assert pending.done
        client.examine(b"INBOX").wait()
        assert len(client.uid_search().wait()) == 3
        assert len(client.uid_search(b"SEEN").wait()) == 1
        assert list(client.rows(UidSet.of([4_000_000_000]), FetchItems(size=True))) == []  # I64, I130
        client.noop().wait()


MECHANISMS = {"auto", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"}
OFFERED = {"courier": {"auto", "login"}, "cyrus": MECHANISMS}  # what is set up in the fixtures


def test_every_mechanism_that_is_offered(server: tuple[ImapServer, str]):
    private, kind = server
    login = private.user("carla")
    for auth in sorted(OFFERED.get(kind, MECHANISMS)):
        with inside(login, auth) as (client, way):
            assert auth == "auto" or auth.upper() in way
            client.noop().wait()


def test_a_wrong_password(server: tuple[ImapServer, str]):
    private, _ = server
    login = private.user("dora")._replace(password="wrong")
    with pytest.raises(AuthRefused), inside(login, "login"):
        pass
