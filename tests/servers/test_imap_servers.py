"""The private IMAP servers themselves: each starts, keeps octets, flags and dates, and shows what its tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import courier, cyrus
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.imap import FLAVOURS, DovecotImap, ImapServer, Letter, dovecot, fill, quoted, shown, signed_in

pytestmark = pytest.mark.servers
MAIL = [
    Letter(b"Subject: one\r\n\r\n.\r\nFrom here\r\n", ("\\Seen", "\\Flagged", "$label")),
    Letter(b"Subject: two\r\n\r\nthe last line\r\n", (), "01-Jan-2020 00:00:00 +0000"),
]


@pytest.fixture(scope="module", params=FLAVOURS)
def server(request: pytest.FixtureRequest) -> Iterator[DovecotImap]:
    with dovecot(FLAVOURS[request.param]) as server:
        yield server


@pytest.fixture(scope="module", params=["cyrus", "courier"])
def other(request: pytest.FixtureRequest) -> Iterator[ImapServer]:
    kind: type[Cyrus | Courier] = {"cyrus": Cyrus, "courier": Courier}[request.param]
    if reason := {"cyrus": cyrus, "courier": courier}[request.param].missing():
        pytest.skip(reason)
    with kind() as server:
        yield server


def test_keeps_mail_in_mailboxes(server: DovecotImap) -> None:
    keeps_mail(server, server.flavour.name("Projekte", "M&APw-ller", "2019"), server.flavour.name("Sent"))


def test_other_servers_keep_mail_in_mailboxes(other: ImapServer) -> None:
    keeps_mail(other, "INBOX.Projekte.M&APw-ller.2019", "INBOX.Sent")


def keeps_mail(server: ImapServer, deep: str, sent: str) -> None:
    login = server.user("anna")
    fill(login, {"INBOX": MAIL, deep: MAIL[:1], sent: []})
    found = shown(login)
    assert {name for name, mail in found.items() if mail} == {"INBOX", deep}
    assert [(mail.octets, mail.flags) for mail in found["INBOX"]] == [(it.octets, set(it.flags)) for it in MAIL]
    assert shown(login) == found


def test_announces_what_its_flavour_says(server: DovecotImap) -> None:
    login, flavour = server.user("berta"), server.flavour
    with signed_in(login) as client:
        capabilities = set(client.capability()[1][0].decode().split())
        [root] = client.list(quoted(""), quoted(""))[1]
    assert f'"{flavour.separator}"' in str(root)
    if flavour is FLAVOURS["bare"]:
        assert capabilities == {"IMAP4rev1", "ID"}
    elif flavour is FLAVOURS["no QRESYNC"]:
        assert "QRESYNC" not in capabilities
        assert "CONDSTORE" in capabilities
    else:
        assert {"QRESYNC", "LIST-STATUS", "SPECIAL-USE"} <= capabilities
