"""Blocking IMAP: a session and the protocol's verbs as methods.

    client.open(tls); client.starttls(tls)
    sign_in(client.session, …)                                       `signin.py`
    enabled = client.enable("CONDSTORE")                             queued …
    for rows in client.mailboxes(): …                                … and sent in one flight with LIST
    opened = client.examine(b"INBOX"); stream = client.bodies(…)     `stream.py`
    client.logout()

Verbs that return a Pending are queued: they leave in one flight when any answer is waited for. A session costs round
trips: none is spent that the server or its state does not call for. Reconnecting is the caller's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from syncd.errors import MailboxRefused, Refused, RemoteProtocolError, TransportError, Unsupported
from syncd.imap import encoder
from syncd.imap.append import Append, checked, encode
from syncd.imap.encoder import Word, can_carry
from syncd.imap.events import (
    Enabled,
    Event,
    Found,
    Identity,
    QuotaRoots,
    QuotaTold,
)
from syncd.imap.mailboxes import ask_status, mailboxes, same_name, status_items, told_by
from syncd.imap.quirks import Quirks
from syncd.imap.refusals import refusal
from syncd.imap.session import Command, Session
from syncd.imap.sets import UidSet
from syncd.imap.state import note
from syncd.imap.stream import FetchStream, NewBody, RowStream
from syncd.imap.values import (
    Capabilities,
    FetchItems,
    Kind,
    MailboxRow,
    MailboxStatus,
    Namespaces,
    Quota,
    Selected,
    Status,
    Verb,
)
from syncd.imap.wire import Deadlines
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport

__all__ = ["Client", "Deadlines", "Pending"]

T = TypeVar("T")


class Pending(Generic[T]):
    """The answer to a command that is queued or in flight."""

    def __init__(self, session: Session, command: Command | None, result: Callable[[], T]) -> None:
        """`result` makes the answer when the command has ended; without a command it is known already."""
        self._session = session
        self._command = command
        self._result = result

    @property
    def done(self) -> bool:
        """Returns whether `wait` would return at once."""
        return self._command is None or self._command.status is not None

    def wait(self) -> T:
        """Returns the answer; waits for it. Repeatable. Raises Refused and what a session raises."""
        if self._command is not None:
            self._session.finish(self._command)
        return self._result()


class Client:
    """A session with a server, as verbs.

    Its methods, and `Pending.wait`, raise TransportError, RemoteProtocolError and Cancelled, after which the session
    can only be closed, and Refused, after which it goes on. Refused and Throttled also come for a session that the
    server has ended (BYE); `over` tells.
    """

    def __init__(
        self,
        transport: Transport,
        deadlines: Deadlines,
        max_message_octets: int,
        quirks: Quirks | None = None,
        *,
        may_pipeline: bool = True,
    ) -> None:
        """`quirks` holds what is known about the server; pass the same object to each client of an account.

        With `may_pipeline=False` commands leave one at a time.
        """
        self.session = Session(transport, deadlines, max_message_octets, quirks, may_pipeline=may_pipeline)
        self.transport = transport
        self.address = transport.address
        self._to_write = b""  # the mailbox that was last asked for, if for writing: its answer may be on its way

    @property
    def capabilities(self) -> Capabilities:
        """Returns what the server announced last."""
        return self.session.capabilities

    @property
    def greeting(self) -> Status:
        """Returns the server's greeting."""
        return self.session.greeting

    @property
    def enabled(self) -> frozenset[str]:
        """Returns the extensions that ENABLED has named (I103), in capitals."""
        return self.session.enabled

    @property
    def selected(self) -> Selected | None:
        """Returns what is known of the mailbox that is open."""
        return self.session.selected

    @property
    def over(self) -> bool:
        """Returns whether the server has ended the session."""
        return self.session.over

    # --- the session ---------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, begin TLS at once if `tls` is given, read the greeting.

        Raises Refused, WrongService, and Unsupported for a server that has signed somebody in already (I04): it is not
        known who, and TLS could no longer begin.
        """
        session = self.session
        session.open(tls)
        if session.greeting.kind is Kind.BYE:
            raise refusal(self.address, "the server does not take the connection", Verb.GREETING, session.greeting)
        if session.greeting.kind is Kind.PREAUTH:
            raise Unsupported(
                f"{self.address}: the server says that somebody is signed in already (PREAUTH), so we can neither "
                "begin TLS nor sign in, and do not go on; ask the operator of the server",
                command=Verb.GREETING.value,
            )

    def starttls(self, tls: TlsPolicy) -> None:
        """Begin TLS by STARTTLS (RFC 3501 §6.2.1), or raise. What was announced in clear is forgotten (I02)."""
        session = self.session
        if not self.capabilities.known:
            self.capability().wait()
        if "STARTTLS" not in self.capabilities:
            raise Unsupported(
                f"{self.address}: the server does not announce STARTTLS, and we do not sign in without TLS; "
                'try security = "tls", which has a port of its own, usually 993',
                command=Verb.STARTTLS.value,
            )
        command = session.ask(Verb.STARTTLS)
        if not session.finish(command).ok:
            raise session.refused(command, "the server refuses STARTTLS, and we do not sign in without TLS")
        session.start_tls(tls)

    def logout(self, *, wait: bool = True) -> None:
        """Say LOGOUT (RFC 3501 §6.1.3); nothing depends on the answer. Raises only Cancelled."""
        with contextlib.suppress(TransportError, RemoteProtocolError, Refused):
            command = self.session.ask(Verb.LOGOUT)
            if wait:
                self.session.finish(command)
            else:
                self.session.flush()

    def close(self) -> None:
        """Drop the connection. Repeatable."""
        self.transport.close()

    # --- queued verbs --------------------------------------------------------------------------------

    def capability(self) -> Pending[Capabilities]:
        """Ask for the list of capabilities (RFC 3501 §6.1.1)."""
        command = self.session.ask(Verb.CAPABILITY)
        return self._pending(command, lambda: self.capabilities, "the server does not tell its capabilities")

    def id(self, fields: Mapping[str, str] | None) -> Pending[dict[str, str]]:
        """Tell who we are, and hear who the server is (RFC 2971). I19: a server that refuses it gives no fields."""
        told: dict[str, str] = {}

        def take(event: Event) -> bool:
            if isinstance(event, Identity):
                told.update(event.fields)
            return isinstance(event, Identity)

        if "ID" not in self.capabilities:
            return Pending(self.session, None, lambda: told)
        return Pending(self.session, self.session.ask(Verb.ID, encoder.identity(fields), take=take), lambda: told)

    def enable(self, *names: str) -> Pending[frozenset[str]]:
        """Enable those of `names` that the server announces (RFC 5161); before the first EXAMINE (I104).

        Returns those that the server names as enabled (I103).
        """
        named: set[str] = set()

        def take(event: Event) -> bool:
            if isinstance(event, Enabled):
                named.update(event.names)
                self.session.enabled |= frozenset(event.names)
            return isinstance(event, Enabled)

        known = [Word(name.encode()) for name in names if name in self.capabilities]
        if not known or "ENABLE" not in self.capabilities:
            return Pending(self.session, None, lambda: frozenset(named))
        return Pending(self.session, self.session.ask(Verb.ENABLE, *known, take=take), lambda: frozenset(named))

    def namespace(self) -> Pending[Namespaces]:
        """Ask for the namespaces (RFC 2342). Those of a server that refuses, or does not know it, are empty (I121).

        A server that has not told its capabilities is asked as well: it is in one flight with CAPABILITY (I102).
        """
        told = [Namespaces()]

        def take(event: Event) -> bool:
            if isinstance(event, Namespaces):
                told[0] = event
            return isinstance(event, Namespaces)

        announced = "NAMESPACE" in self.capabilities or "IMAP4REV2" in self.capabilities
        if self.capabilities.known and not announced:
            return Pending(self.session, None, lambda: told[0])
        return Pending(self.session, self.session.ask(Verb.NAMESPACE, take=take), lambda: told[0])

    def status(self, name: bytes, *, size: bool = False, limit: bool = False) -> Pending[MailboxStatus | None]:
        """Ask what a mailbox has (RFC 3501 §6.3.10); not for the one that is open (I140). None where it is refused."""
        command, told = ask_status(self.session, name, status_items(self.capabilities, size=size, limit=limit))
        return Pending(self.session, command, lambda: told_by(self.session, command, told))

    def quotas(self, name: bytes) -> Pending[dict[bytes, Quota]]:
        """Ask for the quotas of a mailbox, by their roots (RFC 9208 §4.1.2); none where the server does not tell."""
        roots: list[bytes] = []
        told: dict[bytes, Quota] = {}

        def take(event: Event) -> bool:
            if isinstance(event, QuotaRoots) and same_name(event.name, name):
                roots.extend(event.roots)
                return True
            if isinstance(event, QuotaTold):
                told[event.root] = event.quota
            return isinstance(event, QuotaTold)

        if "QUOTA" not in self.capabilities:
            return Pending(self.session, None, lambda: told)
        command = self.session.ask(Verb.GETQUOTAROOT, name, take=take)
        return Pending(self.session, command, lambda: {root: told[root] for root in roots if root in told})

    def examine(self, name: bytes) -> Pending[Selected]:
        """Open a mailbox for reading (RFC 3501 §6.3.2). Raises MailboxRefused."""
        return self._open(Verb.EXAMINE, name)

    def select(self, name: bytes) -> Pending[Selected]:
        """Open a mailbox for reading and writing (RFC 3501 §6.3.1). Raises MailboxRefused."""
        return self._open(Verb.SELECT, name)

    def unselect(self) -> Pending[None]:
        """Leave the mailbox that is open; nothing is expunged.

        Without UNSELECT (RFC 3691) it is opened for reading first, so that CLOSE expunges nothing (RFC 3501 §6.4.2).
        The answer to that is waited for: after a no there is no CLOSE, as it may still be open for writing.
        """
        if "UNSELECT" in self.capabilities or "IMAP4REV2" in self.capabilities:
            return self._leave(Verb.UNSELECT)
        if name := self._to_write:
            try:
                self.examine(name).wait()
            except Refused:
                if self.over:
                    raise
                self._to_write = name
                return Pending(self.session, None, lambda: None)
        return self._leave(Verb.CLOSE)

    def close_mailbox(self) -> Pending[None]:
        """Expunge what is marked as deleted and leave the mailbox (RFC 3501 §6.4.2)."""
        return self._leave(Verb.CLOSE)

    def uid_search(self, criteria: bytes = b"ALL") -> Pending[UidSet]:
        """Search in the mailbox that is open (RFC 3501 §6.4.4), by ESEARCH where the server has it (RFC 4731)."""
        ranges: list[tuple[int, int]] = []
        extended = "ESEARCH" in self.capabilities or "IMAP4REV2" in self.capabilities

        def take(event: Event) -> bool:
            mine = isinstance(event, Found) and event.uids and event.tag in {"", command.tag}
            if mine and isinstance(event, Found):
                ranges.extend(event.ranges)
            return mine

        arguments = [Word(b"RETURN (ALL)"), Word(criteria)] if extended else [Word(criteria)]
        command = self.session.ask(Verb.UID_SEARCH, *arguments, take=take)
        return self._pending(command, lambda: self._uids(ranges), "the server does not search")

    def create(self, name: bytes, use: str = "") -> Pending[Status]:
        """Ask for a new mailbox (RFC 3501 §6.3.3), with a special use where the server takes one (RFC 6154 §3).

        The answer is the server's yes or no, for it may be there already.
        """
        arguments = (
            [Word(b"(USE (" + use.encode() + b"))")] if use and "CREATE-SPECIAL-USE" in self.capabilities else []
        )
        return self._said(self.session.ask(Verb.CREATE, name, *arguments))

    def subscribe(self, name: bytes) -> Pending[Status]:
        """Subscribe to a mailbox (RFC 3501 §6.3.6). The answer is the server's yes or no."""
        return self._said(self.session.ask(Verb.SUBSCRIBE, name))

    def append(
        self, name: bytes, messages: Sequence[Append], check: Callable[[], None] = lambda: None
    ) -> Pending[Status]:
        """Send APPEND with one message, or with several where MULTIAPPEND is announced; see `append`.

        `check` is called before the last octets leave; the session is over when it raises.

        It is sent when this returns, unlike other commands; the answer, yes or no, is for all the messages (RFC 3502
        §6.3.11). The bodies must stay open until then. Raises LocalProtocolError for what cannot be sent so.
        """
        session = self.session
        flow = encode(name, messages, self.capabilities, utf8=session.utf8)
        return self._said(session.send_flow(Verb.APPEND, checked(flow, check)))

    def noop(self) -> Pending[None]:
        """Do nothing, so that the server tells what has changed (RFC 3501 §6.1.2)."""
        return self._pending(self.session.ask(Verb.NOOP), lambda: None, "the server refuses NOOP")

    # --- streams -------------------------------------------------------------------------------------

    def mailboxes(self, *, status: bool = True, size: bool = False) -> Iterator[list[MailboxRow]]:
        """Yields every mailbox once, in chunks of at most 1,000.

        One command where the server has LIST-STATUS; else LIST, and STATUS of each mailbox, many in flight. What is
        queued leaves in the same flight. A list that ends without an error is complete. `row.status` is None for a
        mailbox whose STATUS is refused, and for those that cannot be selected; with `status=False` for all. With
        `size=True` STATUS tells the octets, too, where the server can. Raises Refused where there is no list at all.
        """
        return mailboxes(self.session, status=status, size=size)

    def rows(self, uids: UidSet, items: FetchItems) -> RowStream:
        """Ask what is said of messages; returns it in chunks of at most 1,000, in the server's order, each once.

        For what fits into a line: no bodies. It is queued at once, may be asked in one flight with `examine`, and
        raises what that was refused with. See `RowStream`.
        """
        return RowStream(self.session, uids, items)

    def bodies(self, items: FetchItems, new_body: NewBody) -> FetchStream:
        """Returns a stream of messages with their bodies; see `FetchStream`."""
        return FetchStream(self.session, items, new_body)

    # --- inside --------------------------------------------------------------------------------------

    def _pending(self, command: Command, result: Callable[[], T], what: str) -> Pending[T]:
        def answer() -> T:
            assert command.status is not None, command.verb
            if not command.status.ok:
                raise self.session.refused(command, what)
            return result()

        return Pending(self.session, command, answer)

    def _said(self, command: Command) -> Pending[Status]:
        def answer() -> Status:
            assert command.status is not None, command.verb
            return command.status

        return Pending(self.session, command, answer)

    def _open(self, verb: Verb, name: bytes) -> Pending[Selected]:
        session = self.session
        opened = Selected(name)
        self._to_write = name if verb is Verb.SELECT else b""
        if not can_carry(name):
            raise MailboxRefused(
                f"{self.address}: a mailbox has CR, LF or NUL in its name, so no command can open it; "
                "rename it in another program"
            )

        def take(event: Event) -> bool:
            return session.is_oldest(command) and note(opened, event)

        def ended(status: Status) -> None:
            note(opened, status)
            session.selected = opened if status.ok else None  # RFC 3501 §6.3.1: after a no, none is open
            what = "the server does not open a mailbox"
            session.not_opened = None if status.ok else session.refused(command, what)

        command = session.ask(verb, name, take=take)
        command.ended = ended
        return self._pending(command, lambda: opened, "the server does not open a mailbox")

    def _leave(self, verb: Verb) -> Pending[None]:
        def ended(status: Status) -> None:
            self.session.selected = None if status.ok else self.session.selected

        command = self.session.ask(verb)
        command.ended = ended
        return self._pending(command, lambda: None, "the server does not leave a mailbox")

    def _uids(self, ranges: list[tuple[int, int]]) -> UidSet:
        try:
            return UidSet(ranges)
        except ValueError as error:
            raise self.session.nonsense(f"a search gives {error}") from error
