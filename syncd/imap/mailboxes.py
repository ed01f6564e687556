"""The list of mailboxes with what is known of each, in as few round trips as the server allows.

    LIST-STATUS             one command                                     (RFC 5819, RFC 5258, RFC 6154; I166)
    LIST-EXTENDED           LIST with subscriptions, then STATUS of each, STATUS_WINDOW in flight
    neither                 LIST and LSUB, then STATUS of each, in the same way

Only `LIST "" "*"` is asked: servers differ in what they make of references and of names in patterns (I128).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from syncd.errors import Throttled
from syncd.imap.encoder import Word, can_carry
from syncd.imap.events import Event, Listing, StatusRow
from syncd.imap.session import Command, Session
from syncd.imap.values import (
    Capabilities,
    MailboxRow,
    MailboxStatus,
    Verb,
)
from syncd.mail.mailbox import INBOX

CHUNK_ROWS = 1000
STATUS_WINDOW = 100  # I166: commands in flight
_ALL = (Word(b'""'), Word(b'"*"'))


def status_items(capabilities: Capabilities, *, size: bool = False, limit: bool = False) -> Word:
    """Returns what STATUS is asked for: only what the server knows (I140). `limit`: the APPENDLIMIT of the mailbox.

    MAILBOXID only where nothing else shows that a mailbox was made again (I116): Cyrus 3.6.1 gives octets from anywhere
    in its memory for it, others each time.
    """
    items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
    if "CONDSTORE" in capabilities or "QRESYNC" in capabilities:
        items.append(b"HIGHESTMODSEQ")
    elif "OBJECTID" in capabilities:
        items.append(b"MAILBOXID")
    if size and ("STATUS=SIZE" in capabilities or "IMAP4REV2" in capabilities):
        items.append(b"SIZE")
    if limit and "APPENDLIMIT" in capabilities:  # without a value: each mailbox has its own (RFC 7889 §3)
        items.append(b"APPENDLIMIT")
    return Word(b"(" + b" ".join(items) + b")")


def same_name(one: bytes, other: bytes) -> bool:
    """Returns whether two names of one server are equal: octets, but INBOX in any case (I36)."""
    return one == other or (one.upper() == INBOX and other.upper() == INBOX)


def mailboxes(session: Session, *, status: bool = True, size: bool = False) -> Iterator[list[MailboxRow]]:
    """Yields every mailbox once, in chunks of at most CHUNK_ROWS; see `client.Client.mailboxes`."""
    yield from _Mailboxes(session, status=status, size=size).chunks()


def ask_status(session: Session, name: bytes, items: Word) -> tuple[Command, list[MailboxStatus]]:
    """Queue STATUS of a mailbox. Returns the command, and where its answer will be."""
    told: list[MailboxStatus] = []

    def take(event: Event) -> bool:
        mine = isinstance(event, StatusRow) and not told and same_name(event.name, name)
        if mine and isinstance(event, StatusRow):
            told.append(event.status)
        return mine

    return session.ask(Verb.STATUS, name, items, take=take), told


def told_by(session: Session, command: Command, told: list[MailboxStatus]) -> MailboxStatus | None:
    """Returns the answer to a STATUS that has ended. I140: what came before a BAD is not believed. Raises Throttled."""
    assert command.status is not None, "it has ended"
    if command.status.ok:
        return told[0] if told else None
    refused = session.refused(command, "the server does not tell what a mailbox has")
    if isinstance(refused, Throttled):
        raise refused
    return None


class _Mailboxes:
    def __init__(self, session: Session, *, status: bool, size: bool) -> None:
        self._session = session
        self._status = status
        self._size = size
        self._names: set[bytes] = set()  # each is given once
        self._waiting: dict[bytes, MailboxRow] = {}  # for their STATUS, or for subscriptions
        self._ready: list[MailboxRow] = []  # to be handed out
        self._subscribed: set[bytes] = set()
        self._with_status = False  # LIST gives STATUS as well …
        self._with_subscriptions = False  # … or tells what is subscribed

    def chunks(self) -> Iterator[list[MailboxRow]]:
        yield from self._read(self._ask())
        if not self._with_subscriptions:
            for name, row in self._waiting.items():
                self._waiting[name] = row._replace(subscribed=name in self._subscribed)
        if self._status and not self._with_status:
            yield from self._ask_each()
        self._ready.extend(self._waiting.values())
        yield from self._full(1)

    # --- LIST ----------------------------------------------------------------------------------------

    def _ask(self) -> list[Command]:
        """Queue the commands; the last of them gives the list."""
        session, capabilities = self._session, self._session.capabilities
        self._with_status = self._status and capabilities.has_list_status
        self._with_subscriptions = capabilities.has_list_extended
        commands = []
        if not capabilities.known:  # I102
            commands.append(session.ask(Verb.CAPABILITY))
        if not self._with_subscriptions:
            commands.append(session.ask(Verb.LSUB, *_ALL, take=self._take))
        options = self._options(capabilities)
        arguments = [*_ALL, Word(b"RETURN (" + b" ".join(options) + b")")] if options else _ALL
        return [*commands, session.ask(Verb.LIST, *arguments, take=self._take)]

    def _options(self, capabilities: Capabilities) -> list[bytes]:
        options = []
        if self._with_subscriptions:
            options.append(b"SUBSCRIBED")
            if "SPECIAL-USE" in capabilities:
                options.append(b"SPECIAL-USE")
        if self._with_status:
            options.append(b"STATUS " + status_items(capabilities, size=self._size))
        return options

    def _read(self, commands: list[Command]) -> Iterator[list[MailboxRow]]:
        """Read the list while it comes. A refused LSUB only means that nothing is known of subscriptions."""
        session, listing = self._session, commands[-1]
        session.flush()
        while any(command.status is None for command in commands):
            session.step()
            yield from self._full(CHUNK_ROWS)
        assert listing.status is not None, "all have ended"
        if listing.status.ok:
            return
        raise session.refused(listing, "the server gives no list of mailboxes")

    def _take(self, event: Event) -> bool:
        if isinstance(event, Listing):
            self._list(event)
            return True
        if isinstance(event, StatusRow) and self._with_status:
            row = self._waiting.pop(event.name, None)
            if row is not None:
                self._ready.append(row._replace(status=event.status))
            return row is not None
        return False

    def _list(self, event: Listing) -> None:
        row = event.row
        if event.verb is Verb.LSUB:
            self._subscribed.add(row.name)
            return
        if row.name in self._names:
            return
        self._names.add(row.name)
        if self._with_subscriptions:
            row = row._replace(subscribed="\\subscribed" in row.attributes)
        waits = row.selectable and self._status
        if waits or not self._with_subscriptions:
            self._waiting[row.name] = row
        else:
            self._ready.append(row)

    def _full(self, least: int) -> Iterator[list[MailboxRow]]:
        """Yields what is ready in chunks, while there are `least`."""
        while len(self._ready) >= least:
            chunk, self._ready = self._ready[:CHUNK_ROWS], self._ready[CHUNK_ROWS:]
            yield chunk

    # --- STATUS --------------------------------------------------------------------------------------

    def _ask_each(self) -> Iterator[list[MailboxRow]]:
        """Ask for the STATUS of each mailbox, STATUS_WINDOW in flight."""
        session = self._session
        items = status_items(session.capabilities, size=self._size)
        asked: deque[tuple[MailboxRow, Command, list[MailboxStatus]]] = deque()
        waiting, self._waiting = [*self._waiting.values()], {}
        for row in waiting:
            if not row.selectable or not can_carry(row.name):
                self._ready.append(row)
                continue
            asked.append((row, *ask_status(session, row.name, items)))
            if len(asked) == STATUS_WINDOW:
                for _ in range(STATUS_WINDOW // 2):  # so the server never runs out of commands
                    self._answered(*asked.popleft())
                yield from self._full(CHUNK_ROWS)
        while asked:
            self._answered(*asked.popleft())
        yield from self._full(CHUNK_ROWS)

    def _answered(self, row: MailboxRow, command: Command, told: list[MailboxStatus]) -> None:
        self._session.finish(command)
        self._ready.append(row._replace(status=told_by(self._session, command, told)))
