"""The IMAP source against real servers: everything in an account comes, octet for octet, and nothing there changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from syncd.sources.imap.account import ImapSource
from syncd.sources.imap.options import ImapOptions
from tests.contract.source_kit import mailboxes, opened
from tests.servers import courier, cyrus, mailutils
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.imap import FLAVOURS, ImapServer, Letter, Login, dovecot, fill, shown, signed_in
from tests.servers.mailutils import Mailutils
from tests.support import mail
from tests.support.accounts import filled, of_account, of_source

pytestmark = pytest.mark.servers
_users = itertools.count(1)
ODD = [
    Letter(b"Subject: flags\r\n\r\ntext\r\n", ("\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$label")),
    Letter(b"Subject: {50}\r\n\r\n)\r\na1 OK done\r\n* BYE\r\n.\r\n"),
    Letter(b"Subject: date\r\n\r\n" + b"line\r\n" * 20_000, (), "29-Feb-2004 23:59:59 -1200"),
    Letter(b"Subject: 8 bit \xe4\xf6\r\n\r\n\xff\xfe\r\n"),
]


class Place(NamedTuple):
    """A server, and how it calls mailboxes."""

    server: ImapServer
    prefix: str
    separator: str

    def name(self, *levels: str) -> str:
        return self.prefix + self.separator.join(levels)


@pytest.fixture(scope="module", params=[*FLAVOURS, "Cyrus", "Courier"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param in FLAVOURS:
        flavour = FLAVOURS[request.param]
        with dovecot(flavour) as server:
            yield Place(server, flavour.prefix, flavour.separator)
        return
    kind, module = {"Cyrus": (Cyrus, cyrus), "Courier": (Courier, courier)}[request.param]
    if reason := module.missing():
        pytest.skip(reason)
    with kind() as other:
        yield Place(other, "INBOX.", ".")


def source(login: Login, spool: Path) -> ImapSource:
    endpoint = Endpoint(
        login.host, login.port, "none", login.username, lambda: Secret(login.password), allow_insecure=True
    )
    return ImapSource(ImapOptions(endpoint, spool))


def test_everything_comes_with_flags_and_dates_and_nothing_changes(place: Place, tmp_path: Path) -> None:
    login = place.server.user(f"fetch{next(_users)}")
    small = [Letter(octets) for octets in mail.small(120, seed=3) if b"\x00" not in octets]
    names = [("Sent",), ("Projekte", "M&APw-ller & S&APY-hne".replace(" & ", " &- ")), ("A B", "c", "d")]
    fill(
        login,
        {"INBOX": [*ODD, *small], **{place.name(*levels): ODD[:number] for number, levels in enumerate(names, 1)}},
    )
    before, seen = shown(login), of_account(login, place.separator, place.prefix)
    assert sum(map(len, before.values())) == len(ODD) + len(small) + 6
    assert filled(of_source(source(login, tmp_path))) == filled(seen)
    assert shown(login) == before


def test_mailutils_gives_what_it_shows(tmp_path: Path) -> None:
    """Its dates are those of the moment, and UIDNEXT grows while nobody does anything: so octets and flags alone."""
    if reason := mailutils.missing():
        pytest.skip(reason)
    with Mailutils() as server:
        login = server.user("anna")
        letters = [Letter(letter.octets) for letter in ODD] + [Letter(octets) for octets in mail.small(20, seed=3)]
        fill(login, {"INBOX": letters, "Projekte/M&APw-ller": letters[:2]})
        seen, found = of_account(login, "/"), of_source(source(login, tmp_path))
    assert {path: {(held.octets, held.flags) for held in mailbox} for path, mailbox in filled(found).items()} == {
        path: {(held.octets, held.flags) for held in mailbox} for path, mailbox in filled(seen).items()
    }
    assert [len(mailbox) for mailbox in filled(found).values()] == [24, 2]


def test_tokens_stand_still_until_something_changes(place: Place, tmp_path: Path) -> None:
    login = place.server.user(f"token{next(_users)}")
    fill(login, {"INBOX": ODD[:2], place.name("Sent"): ODD[:1]})

    def tokens() -> dict[bytes, bytes]:
        with opened(source(login, tmp_path)) as session:
            return {mailbox.name: mailbox.contents for mailbox in mailboxes(session)}

    first = tokens()
    assert tokens() == first
    assert all(first.values())
    fill(login, {"INBOX": ODD[1:2]})
    second = tokens()
    assert {name for name in first if first[name] != second[name]} == {b"INBOX"}
    with signed_in(login) as client:
        client.select("INBOX")
        client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        client.expunge()
    assert tokens()[b"INBOX"] not in {first[b"INBOX"], second[b"INBOX"]}
