"""The Source contract: list mailboxes, open one, list it, fetch as a stream, remove. One adapter for each protocol.

    Source          connect → SourceSession                              an account or archive
    SourceSession   mailboxes → Mailbox, open → OpenMailbox, finish      signed in
    OpenMailbox     list, headers, fetch, remove                         one mailbox of the session

A source never sees the ledger. The engine opens a session, lists the mailboxes, and for each that may have changed:
opens it, lists it, works out what to fetch, streams it. Then it ends the session; removals have a session of their
own. A session belongs to the thread that opened it, except `cancel`, which any thread may call.

Errors carry how far they reach (`errors.Scope`): a message, a mailbox (the session goes on with the next one), or the
account or run (the session is then only closed).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from syncd.mail.listing import Facts, Fetched, Listed, Removed, Totals, Wanted
from syncd.mail.mailbox import Mailbox, Unread
from syncd.mail.message import Key


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Facts that `check` shows: how we are connected and what the server says it can do."""

    address: str  # host:port, or the path of an archive
    tls: str  # such as "TLSv1.3", or "none"
    mechanism: str  # "" where nobody signs in: an archive
    capabilities: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what a user should know, such as EXPIRE or LOGIN-DELAY
    pause_s: float = 0.0  # that the server wants from one sign-in to the next
    pages: bool = False  # a session shows a part of the mailbox, and what it fetched is hidden from the next one
    server: str = ""  # what an IMAP server calls itself (RFC 2971)


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """How much of a limit of the server an account uses; None where it has no such limit."""

    name: str  # of the root, as the server calls it; often empty
    octets: int | None
    of_octets: int | None
    messages: int | None
    of_messages: int | None


@runtime_checkable
class TellsQuotas(Protocol):
    """A session of a server that may have limits."""

    def quotas(self) -> Sequence[QuotaUse]:
        """Returns what counts towards the inbox; nothing where the server does not tell. One round trip."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A session whose `mailboxes` has not all mailboxes of the account: those of Gmail show most messages twice."""

    @property
    def left_out(self) -> Sequence[Mailbox]:
        """The mailboxes that `mailboxes` left out; complete when it has ended."""
        ...


@runtime_checkable
class Hides(Protocol):
    """A session that may not see all mailboxes and messages: parts of an archive cannot be read."""

    @property
    def unread(self) -> Sequence[Unread]:
        """These parts; complete when `mailboxes` has ended."""
        ...


class Room(Protocol):
    """Room in memory, which a fetch asks for before it asks the server for octets (the engine's budget).

    A message takes the octets that it is listed with. Where it turns out longer, the source takes more by `grow` as it
    comes; where that is refused, the message goes to a file, and takes what it is listed with (`sources.growth`).
    """

    @property
    def longest(self) -> int:
        """The octets of the longest body that is kept in memory; a longer one goes to a file."""
        ...

    def try_take(self, octets: int) -> bool:
        """Take room if there is some; never waits."""
        ...

    def take(self, octets: int) -> None:
        """Take room, wait for it if need be. Raises Cancelled."""
        ...

    def grow(self, octets: int) -> bool:
        """Take so many octets more for a message that has begun to come, if there is room; never waits."""
        ...

    def shrink(self, octets: int) -> None:
        """Give back octets that were taken by `grow`."""
        ...


class OpenMailbox(Protocol):
    """One mailbox, opened. It is dead once the session opens another one, or ends."""

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox as it was found on opening: what SELECT says wins over what the list of mailboxes said."""
        ...

    def totals(self) -> Totals:
        """The server's own count of the mailbox; as of the last listing, if there was one."""
        ...

    def facts(self) -> Iterator[list[Facts]]:
        """Every message as `list` has it, with its flags and INTERNALDATE, where they are to be had without its octets.

        A listing of its own: numbers of earlier ones mean nothing any more.
        """
        ...

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in chunks of at most 1,000, in the order of their numbers. Memory: 8 octets a message.

        Raises RemoteProtocolError when the listings of one session contradict each other, or the connection
        ends inside one: a listing is complete or it is an error.
        """
        ...

    def headers(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Key, bytes | None]]:
        """The key of each wanted message with the start of the message: its header and the empty line behind it.

        Each wanted message is answered once, in any order. More of the message may follow the header, and of a header
        beyond `mail.body.HEADER_CAP_OCTETS` no more than that is given. None where the server does not give headers
        alone. Raises NoHeaders where the session breaks off.
        """
        ...

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """Stream messages: each wanted message is answered exactly once, in any order.

        May be called again when the stream has ended. With `alone=True` nothing else is under way meanwhile, for a
        message at which an earlier session ended.

        Before a message is asked for, room for its octets is taken from `room`; its user gives it back after
        the message is durable. None is yielded when there is no room, nothing is under way, and the consumer
        should hand over what it holds before the next step waits.
        """
        ...

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """Remove messages of a mailbox that was opened with `removes=True`. Each is answered once.

        They go at once, or when the session ends by `finish`: the answers say. Raises MailboxRefused where the server
        does not remove them; those without an answer may be gone.
        """
        ...


class SourceSession(Protocol):
    """A signed-in session. Errors with scope account or run end it; it is then only closed."""

    @property
    def info(self) -> SourceInfo:
        """Facts about the connection, and what the server says it can do."""
        ...

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every mailbox that can hold messages, in chunks of at most 1,000; each name once, in an order that lasts.

        A list that ends without an error is complete. POP3 has one mailbox, INBOX.
        """
        ...

    def open(self, mailbox: Mailbox, *, removes: bool = False, following: Mailbox | None = None) -> OpenMailbox:
        """Open one of `mailboxes` for reading. Raises MailboxRefused (scope mailbox) where it cannot be opened.

        `following` is the mailbox that is probably opened next: a source may ask for it before this one is read whole.

        With `removes=True` messages are going to be removed: raises MailboxRefused, or Unsupported for the whole
        account, where that cannot be done without touching other messages.
        """
        ...

    def finish(self) -> None:
        """End the session in order (POP3 QUIT), which makes removals final. Raises if the server does not agree."""
        ...

    def close(self) -> None:
        """Drop the connection without a farewell: marked messages stay. Repeatable."""
        ...


class Source(Protocol):
    """An account or archive that mail is read from. `connections` sessions may be open at once; POP3: 1."""

    @property
    def connections(self) -> int:
        """The number of sessions may be open at once."""
        ...

    def connect(self) -> SourceSession:
        """Connect and sign in. Raises TransportError, AuthRefused, MailboxRefused, ProtocolError, SecretUnavailable."""
        ...

    def cancel(self) -> None:
        """From any thread: make the session's thread stop within a moment; it raises Cancelled. Repeatable."""
        ...
