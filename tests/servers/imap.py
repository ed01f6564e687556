"""Private IMAP servers for tests: each kind with what it takes to reach it, and mail put in and read by imaplib.

    with dovecot(FLAVOURS["dot"]) as server:
        login = server.user("anna")
        fill(login, {"INBOX.Sent": [Letter(b"Subject: hi\\r\\n\\r\\n", ("\\\\Seen",))]})
        assert shown(login)["INBOX.Sent"][0].flags == {"\\\\Seen"}

`shown` looks by EXAMINE and BODY.PEEK[], so it changes nothing: not even \\Recent.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol

from tests.servers import config
from tests.servers.dovecot import Dovecot

DATE = "17-Jul-1996 02:44:25 -0700"
PASSWORD = "secret"
_BARE = {"imap_capability": "IMAP4rev1 ID"}
# what Dovecot 2.3 announces after sign-in, without QRESYNC
_NO_QRESYNC = {
    "imap_capability": "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT THREAD=REFERENCES MULTIAPPEND URL-PARTIAL"
    " CATENATE UNSELECT CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED I18NLEVEL=1 CONDSTORE ESEARCH ESORT SEARCHRES WITHIN"
    " CONTEXT=SEARCH LIST-STATUS BINARY MOVE SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW STATUS=SIZE SAVEDATE LITERAL+"
}


class Login(NamedTuple):
    """A user of a private server."""

    host: str
    port: int
    username: str
    password: str = PASSWORD


class Letter(NamedTuple):
    """A message to put into a mailbox."""

    octets: bytes
    flags: tuple[str, ...] = ()
    date: str = DATE


class Shown(NamedTuple):
    """A message as a server shows it."""

    uid: int
    octets: bytes
    flags: frozenset[str]
    date: str


class ImapServer(Protocol):
    """A server that makes users."""

    def user(self, name: str) -> Login:
        """A new user with an empty INBOX; the password is PASSWORD."""
        ...


# --- Dovecot, in several ways -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Flavour:
    """One way to set Dovecot up. `names` are what mailboxes are called there: prefix and separator."""

    separator: str = "/"
    prefix: str = ""
    store: str = "maildir"
    settings: Mapping[str, str] = field(default_factory=dict)
    blocks: str = ""

    def name(self, *levels: str) -> str:
        """The name of a mailbox on the wire, without modified UTF-7."""
        return self.prefix + self.separator.join(levels)


FLAVOURS = {
    "slash": Flavour(),
    "dot": Flavour(separator=".", prefix="INBOX."),
    "sdbox": Flavour(store="sdbox"),
    "sdbox dot": Flavour(separator=".", store="sdbox"),
    "bare": Flavour(settings=_BARE),
    "limit 2": Flavour(settings={"mail_max_userip_connections": "2"}),
    "no QRESYNC": Flavour(settings=_NO_QRESYNC),
}
QUOTA = Flavour(  # of 64 KiB for each user
    settings={"mail_plugins": "quota imap_quota"},
    blocks="plugin {\n  quota = maildir:User quota\n  quota_rule = *:storage=64K\n}\n",
)
_NAMESPACE = """
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Trash {{
    special_use = \\Trash
  }}
}}
"""


class DovecotImap:
    """Dovecot in one of its flavours (`ImapServer`)."""

    def __init__(self, server: Dovecot, flavour: Flavour) -> None:
        self.server = server
        self.flavour = flavour

    def user(self, name: str) -> Login:
        """A new user with an empty INBOX."""
        self.server.add_user(name, PASSWORD)
        return Login(self.server.host, self.server.imap_port, name)


@contextmanager
def dovecot(flavour: Flavour) -> Iterator[DovecotImap]:
    """A private Dovecot of this flavour."""
    binary = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    modern = binary is not None and config.version(binary) >= (2, 4)
    place = "~/Maildir" if flavour.store == "maildir" else f"~/{flavour.store}"
    store = (
        {"mail_driver": flavour.store, "mail_path": place} if modern else {"mail_location": f"{flavour.store}:{place}"}
    )
    blocks = _NAMESPACE.format(separator=flavour.separator, prefix=flavour.prefix) + flavour.blocks
    with Dovecot({**store, **flavour.settings}, blocks=blocks) as server:
        yield DovecotImap(server, flavour)


# --- mail in and out ---------------------------------------------------------------------------------------


@contextmanager
def signed_in(login: Login) -> Iterator[imaplib.IMAP4]:
    """The standard library's client, signed in."""
    client = imaplib.IMAP4(login.host, login.port, timeout=30)
    try:
        client.login(login.username, login.password)
        yield client
        client.logout()
    finally:
        with contextlib.suppress(OSError):
            client.shutdown()


def quoted(name: str | bytes) -> str:
    """A mailbox name as an argument; imaplib writes it as it is."""
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fill(login: Login, mailboxes: Mapping[str, Sequence[Letter]]) -> None:
    """Make mailboxes (names in modified UTF-7, as on the wire) and put mail into them."""
    with signed_in(login) as client:
        for name, letters in mailboxes.items():
            if name != "INBOX":
                answer = client.create(quoted(name))
                assert answer[0] == "OK" or b"EXISTS" in answer[1][0].upper(), (name, answer)
                client.subscribe(quoted(name))
            for letter in letters:
                answer = client.append(quoted(name), f"({' '.join(letter.flags)})", f'"{letter.date}"', letter.octets)
                assert answer[0] == "OK", (name, answer)


_LISTED = re.compile(rb'\((?P<attributes>[^)]*)\) (?:"(?:[^"\\]|\\.)*"|NIL) (?P<name>.*)')
_ITEMS = [
    re.compile(item) for item in (rb"\bUID (\d+)", rb"FLAGS \(([^)]*)\)", rb'INTERNALDATE "([^"]*)"')
]  # in any order


def names(client: imaplib.IMAP4) -> list[str]:
    """The names of all mailboxes that can be opened, as on the wire."""
    found = []
    for line in client.list()[1]:
        if not line:
            continue
        head, literal = line if isinstance(line, tuple) else (line, None)
        match = _LISTED.match(head)
        assert match, line
        if b"noselect" in match["attributes"].lower() or b"nonexistent" in match["attributes"].lower():
            continue
        name = literal if literal is not None else match["name"]
        if literal is None and name.startswith(b'"'):
            name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
        found.append(name.decode("latin-1"))
    return found


def shown(login: Login) -> dict[str, list[Shown]]:
    """Everything in an account, by mailbox (as named on the wire), in the order of UIDs. Changes nothing."""
    with signed_in(login) as client:
        return {name: messages_of(client, name) for name in names(client)}


def messages_of(client: imaplib.IMAP4, name: str) -> list[Shown]:
    """Everything in a mailbox, in the order of UIDs."""
    typ, exists = client.select(quoted(name), readonly=True)
    assert typ == "OK", (name, exists)
    if exists == [b"0"]:
        return []
    rows = client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")[1]
    found = []
    for row, tail in pairwise([*rows, b""]):
        if isinstance(row, tuple):
            beside = row[0] + (tail if isinstance(tail, bytes) else b"")
            uid, flags, date = (match[1].decode() for match in (item.search(beside) for item in _ITEMS) if match)
            found.append(Shown(int(uid), row[1], frozenset(flags.split()) - {"\\Recent"}, date))
    return sorted(found)
