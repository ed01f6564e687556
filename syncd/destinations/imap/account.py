"""A connection to an IMAP account that mail is put into: signed in, kept from batch to batch, for all routes.

It knows what the account's mailboxes are called and which special uses they have, as of its sign-in, and what it made
since. No mailbox is open while it appends (Courier refuses APPEND to one that the session has examined, I137), but for
one that takes MANY messages, each with an APPEND of its own: see `filling`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from syncd.auth.sasl import Credentials
from syncd.destinations.imap.claims import Claims
from syncd.destinations.imap.quotas import NO_LIMIT, Left
from syncd.errors import Cancelled, Refused, SyncdError
from syncd.imap.client import Client, Deadlines, Pending
from syncd.imap.names import path_of
from syncd.imap.quirks import Quirks
from syncd.imap.signin import CHOICES, sign_in
from syncd.imap.values import MailboxRow, MailboxStatus, Namespaces, Selected
from syncd.mail import mailbox
from syncd.mail.body import Spool
from syncd.mail.mailbox import INBOX
from syncd.net.endpoint import Endpoint
from syncd.net.transport import Transport

MANY: Final = 50  # messages for one mailbox
FILED_BY_USE: Final = frozenset({"\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"})  # RFC 6154; others are views


@dataclass(frozen=True, slots=True)
class ImapAccountOptions:
    """An account. `endpoint.auth` is one of `signin.CHOICES`. Raises ConfigError for names that IMAP does not know."""

    endpoint: Endpoint
    spool: Path  # the folder for long messages that are read back after a crash
    message_octets: int = 2 << 30
    pipelining: bool = True  # False: one command at a time
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        self.endpoint.check("IMAP", CHOICES)


@dataclass(slots=True)
class Target:
    """A mailbox of the account as this session knows it.

    `following` is UIDNEXT, or a number below it that no message of an earlier append of this connection has. It is
    `stale` when others may have put mail there since. `takes` are the flags that it takes, see `append.sendable`. With
    `asked=False` nobody has asked yet. `roots`: its quota roots. `full_at`: so many octets were over the quota.
    `closed` says why nothing is put there for now; empty where that is not known.
    """

    name: bytes
    validity: int
    following: int
    stale: bool = False
    takes: frozenset[str] | None = None
    asked: bool = False
    append_limit: int = NO_LIMIT
    roots: tuple[bytes, ...] = ()
    full_at: int | None = None
    closed: str = ""

    @property
    def has_own_quota(self) -> bool:
        """Returns whether a quota root is for this mailbox alone, as at Cyrus: it has the mailbox's name."""
        return self.name in self.roots and self.name != INBOX


class ImapAccount:
    """Serves one thread at a time; any thread may `cancel`."""

    def __init__(self, options: ImapAccountOptions, quirks: Quirks | None = None, claims: Claims | None = None) -> None:
        """`claims` are common to all connections to the account."""
        self.options = options
        self.claims = claims or Claims()
        self.uses: dict[str, mailbox.Path] = {}  # special use → the path that has it here
        self.names: set[bytes] = set()  # of all mailboxes
        self.targets: dict[bytes, Target] = {}  # that this session has looked at
        self.left: dict[bytes, Left] = {}  # quota root → what it has left
        self.made: dict[mailbox.Path, bytes] = {}  # the name that a path has here, where it is known to be there
        self.namespaces = Namespaces()
        self.delimiter = b""
        self.takes_several = False  # several messages in a command (MULTIAPPEND), as of the last sign-in
        self.spool = Spool(options.spool)
        self._quirks = quirks or Quirks()
        self._has_uidplus = False  # as of the last sign-in
        self._client: Client | None = None
        self.filled = b""  # the mailbox that `filling` has opened, or asked to open
        self.select_tells = True  # SELECT of a mailbox that is open tells how many have come, as far as is known
        self._transport: Transport | None = None
        self._adopting = threading.Lock()

    @property
    def address(self) -> str:
        """Returns host and port, for messages."""
        return f"{self.options.endpoint.host}:{self.options.endpoint.port}"

    @property
    def tells_uids(self) -> bool:
        """Returns whether the server names the UIDs of what it takes (UIDPLUS), and no wrong ones."""
        return self._has_uidplus and not self.misleads

    @property
    def misleads(self) -> bool:
        """Returns whether the server has named UIDs that cannot be right, on any connection (I169)."""
        return "I169" in self._quirks.noted

    def note_wrong_uids(self) -> None:
        """Trust no UIDs that the server names any more, on any connection."""
        self._quirks.note("I169", self.address)

    def client(self) -> Client:
        """Returns the connection, signed in, its capabilities known; connects if there is none. Raises SyncdError.

        No mailbox is open.
        """
        client = self._connected()
        if self.filled:
            self.filled = b""
            client.unselect()
        return client

    def filling(self, name: bytes, messages: int) -> Client:
        r"""Returns the connection to put so many messages into a mailbox.

        The mailbox is opened where each takes an APPEND of its own and they are MANY: Dovecot, Courier and mailutils
        look through it again for each message otherwise. It is not for a few, as this takes the mark `\Recent` away.
        """
        if self.takes_several or (messages < MANY and name != self.filled):
            return self.client()
        client = self._connected()
        if name != self.filled:
            self.filled = name
            client.select(name)  # after a no, too, mail may be put there
        return client

    def counted(self, name: bytes) -> Callable[[], MailboxStatus | None]:
        """Ask for UIDVALIDITY and UIDNEXT; returns what waits for the answer, None where there is none.

        STATUS is not for a mailbox that is open (I140). So one that is filled is opened again, which costs less than
        to leave it, and expunges nothing. Where that does not tell (Courier has no UIDNEXT then) it is left.
        """
        if name != self.filled or not self.select_tells:
            return self.client().status(name).wait
        client = self._connected()
        return partial(self._told, client, client.select(name))

    def leave(self) -> None:
        """Leave the mailbox that was filled. A connection that is lost by then is given up without an error."""
        if self.filled:
            try:
                self.client().session.flush()
            except Cancelled:
                raise
            except SyncdError:
                self.drop()  # all that was sent is answered: whoever is next connects again

    def renew(self) -> Client:
        """Returns a connection that answers; for the beginning of a run, as servers end sessions that say nothing."""
        if self._client is not None:
            try:
                self._client.noop().wait()
            except Cancelled:
                raise
            except SyncdError:
                self.drop()
        return self.client()

    def drop(self) -> None:
        """Give the connection up, because it is lost or out of step. Repeatable."""
        client, self._client, self.filled = self._client, None, b""
        self.targets.clear()
        self.made.clear()
        if client is not None:
            client.close()

    def cancel(self) -> None:
        """From any thread: end the wait for the server by Cancelled. Another connection may follow."""
        with self._adopting:
            if self._transport is not None:
                self._transport.cancel()

    def close(self) -> None:
        """LOGOUT, and hang up. Repeatable."""
        if self._client is not None:
            self._client.logout(wait=False)
            self._client.transport.end_well()
        self.drop()

    # --- inside --------------------------------------------------------------------------------------

    def _told(self, client: Client, opened: Pending[Selected]) -> MailboxStatus | None:
        try:
            selected = opened.wait()
        except Refused:
            if client.over:
                raise
            return None
        return MailboxStatus(uid_validity=selected.uid_validity, uid_next=selected.uid_next)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> Client:
        endpoint = self.options.endpoint
        password = endpoint.password()
        transport = Transport(endpoint.host, endpoint.port, endpoint.proxy)
        with self._adopting:
            self._transport = transport
        options = self.options
        client = Client(
            transport, options.deadlines, options.message_octets, self._quirks, may_pipeline=options.pipelining
        )
        try:
            client.open(endpoint.tls if endpoint.security == "tls" else None)
            transport.abort_unless_ended()
            if endpoint.security == "starttls":
                client.starttls(endpoint.tls)
            credentials = Credentials(endpoint.username, password, endpoint.host, endpoint.port, endpoint.authzid)
            with endpoint.signing_in():
                sign_in(client.session, endpoint.auth, credentials, allow_insecure=endpoint.allow_insecure)
            self._look(client)
        except BaseException:
            client.close()
            raise
        return client

    def _look(self, client: Client) -> None:
        """Learn capabilities, namespaces and mailboxes in two flights at most."""
        if not client.capabilities.known:
            client.capability().wait()
        self._has_uidplus = "UIDPLUS" in client.capabilities
        self.takes_several = "MULTIAPPEND" in client.capabilities
        client.id({"name": "syncd"})
        namespaces = client.namespace()
        rows = [row for chunk in client.mailboxes(status=False) for row in chunk]
        try:
            self.namespaces = namespaces.wait()
        except Refused:
            self.namespaces = Namespaces()
        self.delimiter = _delimiter(self.namespaces, rows)
        self.names = {row.name for row in rows if row.selectable}
        uses: dict[str, mailbox.Path] = {}
        for row in rows:
            if row.use in FILED_BY_USE and row.selectable:
                uses.setdefault(row.use, path_of(row, self.namespaces, utf8=client.session.utf8))
        self.uses.update(uses)  # others may look at it meanwhile
        for use in self.uses.keys() - uses.keys():
            del self.uses[use]


def _delimiter(namespaces: Namespaces, rows: list[MailboxRow]) -> bytes:
    """Returns what separates the levels of the user's own mailboxes; empty where names have one level."""
    if namespaces.personal and namespaces.personal[0].delimiter:
        return namespaces.personal[0].delimiter
    return next((row.delimiter for row in rows if row.delimiter), b"")
