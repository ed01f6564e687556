"""The Source contract: list, fetch as a stream, remove. One adapter for each protocol or format.

A source never sees the ledger. The engine opens a session, lists, works out what to fetch, streams it,
and ends the session; removals happen in a session of their own. A session belongs to the thread that
opened it, except `cancel`, which any thread may call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from syncd.errors import SyncdError
from syncd.mail.body import Body


class Listed(NamedTuple):
    """One line of a listing. `number` means something in this session only."""

    number: int
    uid: bytes
    octets: int  # as the server says; advisory (RFC 1939 §11)


@dataclass(frozen=True, slots=True)
class Totals:
    """What the server says it holds, in the session of the listing (POP3 STAT, IMAP EXISTS)."""

    messages: int
    octets: int


class Wanted(NamedTuple):
    """One message to fetch: `key` comes back with it, `number`, `uid` and `octets` are from this session's listing."""

    key: int
    number: int
    uid: bytes
    octets: int


class Fetched(NamedTuple):
    """One answer: a body, or the reason why this message alone could not be had (scope message).

    Flags and INTERNALDATE are told by sources that know them; the date keeps its offset.
    """

    key: int
    body: Body | None
    error: SyncdError | None
    flags: tuple[str, ...] = ()
    internal_date: datetime | None = None


class Removed(NamedTuple):
    """One answer to a removal: `error` is None when the server took it."""

    key: int
    error: SyncdError | None


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What `check` shows: how we are connected and what the server says it can do."""

    address: str  # host:port, or the path of an archive
    tls: str  # such as "TLSv1.3", or "none"
    mechanism: str  # "" where nobody signs in: an archive
    capabilities: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what a user should know, such as EXPIRE or LOGIN-DELAY
    pause_s: float = 0.0  # that the server wants from one sign-in to the next
    pages: bool = False  # a session shows a part of the mailbox, and what it fetched is hidden from the next one


class Room(Protocol):
    """Where a fetch asks for octets before it asks the server for them (the engine's budget)."""

    def try_take(self, octets: int) -> bool:
        """Take room if there is some; never waits."""
        ...

    def take(self, octets: int) -> None:
        """Take room, wait for it if need be. Raises Cancelled."""
        ...


class SourceSession(Protocol):
    """A signed-in session. Errors with scope account or run end it; it is then only closed."""

    @property
    def info(self) -> SourceInfo:
        """How we are connected, and what the server says it can do."""
        ...

    def totals(self) -> Totals:
        """What the server says it holds."""
        ...

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in chunks of at most 1,000, in the order of their numbers. Memory: 8 octets a message.

        Raises RemoteProtocolError when the listings of one session contradict each other, or the connection
        ends inside one: a listing is complete or it is an error.
        """
        ...

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """Stream messages in the order of `wanted`, one answer for each. May be called again when the stream has ended.

        `alone`: with nothing else under way, for a message at which an earlier session ended.

        Before a message is asked for, room for its octets is taken from `room`; its user gives it back after
        the message is durable. None is yielded when there is no room, nothing is under way, and the consumer
        should hand over what it holds before the next step waits.
        """
        ...

    def header_hashes(self, wanted: Iterable[Wanted]) -> Iterator[tuple[int, bytes | None]]:
        """The key of each message, in the order of `wanted`, with what `mail.body.header_hash` gives for it.

        For recognising a message without fetching it. None where the server does not give the header alone. Raises
        NoHeaders where the session breaks off.
        """
        ...

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """Mark messages for removal; they go when the session ends by `finish`."""
        ...

    def finish(self) -> None:
        """End the session in order (POP3 QUIT), which makes removals final. Raises if the server does not agree."""
        ...

    def close(self) -> None:
        """Drop the connection without a farewell: marked messages stay. Repeatable."""
        ...


class Source(Protocol):
    """An account or archive that mail is read from."""

    def connect(self) -> SourceSession:
        """Connect and sign in. Raises TransportError, AuthRefused, MailboxRefused, ProtocolError, SecretUnavailable."""
        ...

    def cancel(self) -> None:
        """From any thread: make the session's thread stop within a moment; it raises Cancelled. Repeatable."""
        ...
