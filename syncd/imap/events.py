"""Events of a session: what the server says, one response after the other.

Tuples, because one is made for every message. Everything untagged may come at any time (I01).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from syncd.errors import RemoteProtocolError, printable
from syncd.imap.values import (
    Capabilities,
    FetchRow,
    MailboxRow,
    MailboxStatus,
    Namespaces,
    Quota,
    SeqNum,
    Status,
    Verb,
)
from syncd.mail.flags import Flags


class Text(NamedTuple):
    """Octets of a literal that is too long to be handed out whole. `last`: it ends here."""

    octets: bytes
    last: bool


class Rows(NamedTuple):
    """Lines of a listing that came together: FETCH responses with UID and RFC822.SIZE alone."""

    rows: list[FetchRow]


class Literal(NamedTuple):
    """A long literal begins: Text follows until its last. `row` is what the response has said before it.

    `part` is HEADER or BODY; 0 for anything that nobody has asked for.
    """

    row: FetchRow
    part: int
    octets: int


# --- other untagged data ---------------------------------------------------------------------------


class Listing(NamedTuple):
    """A LIST or LSUB response."""

    verb: Verb
    row: MailboxRow


class StatusRow(NamedTuple):
    """A STATUS response."""

    name: bytes
    status: MailboxStatus


class QuotaRoots(NamedTuple):
    """A QUOTAROOT response: the quota roots of a mailbox (RFC 9208 §4.2.2)."""

    name: bytes
    roots: tuple[bytes, ...]


class QuotaTold(NamedTuple):
    """A QUOTA response (RFC 9208 §4.2.1)."""

    root: bytes
    quota: Quota


class Enabled(NamedTuple):
    """An ENABLED response (RFC 5161 §3.2), in capitals."""

    names: tuple[str, ...]


class Identity(NamedTuple):
    """An ID response (RFC 2971). Field names in small letters."""

    fields: Mapping[str, str]


class Found(NamedTuple):
    """Numbers of a SEARCH or ESEARCH response (RFC 3501 §7.2.5, RFC 4731); a long one is handed out in parts.

    `ranges` have first and last. `tag` is that of the command, where ESEARCH tells. `uids` is False where ESEARCH gives
    sequence numbers. `total`, `least` and `most` are ESEARCH's COUNT, MIN and MAX.
    """

    ranges: tuple[tuple[int, int], ...]
    tag: str = ""
    uids: bool = True
    extended: bool = False
    total: int | None = None
    least: int | None = None
    most: int | None = None


class Exists(NamedTuple):
    """An EXISTS response."""

    messages: int


class Recent(NamedTuple):
    """A RECENT response."""

    messages: int


class Expunge(NamedTuple):
    """An EXPUNGE response."""

    seq: SeqNum


class Vanished(NamedTuple):
    """A VANISHED response (RFC 7162 §3.2.10); a long one is handed out in parts."""

    ranges: tuple[tuple[int, int], ...]
    earlier: bool


class FlagsTold(NamedTuple):
    """A FLAGS response."""

    flags: Flags


class Unknown(NamedTuple):
    """Untagged data that we have no use for (I01)."""

    name: str


class Continuation(NamedTuple):
    """A continuation request (RFC 3501 §7.5): `text` is base64 during AUTHENTICATE."""

    text: bytes


class Tagged(NamedTuple):
    """The end of a command."""

    tag: str
    verb: Verb
    status: Status


Data = (
    Status
    | Capabilities
    | Enabled
    | Identity
    | Namespaces
    | Listing
    | StatusRow
    | QuotaRoots
    | QuotaTold
    | Found
    | Exists
    | Recent
    | Expunge
    | Vanished
    | FlagsTold
    | FetchRow
    | Unknown
)
Event = Data | Rows | Literal | Text | Continuation | Tagged


class OutOfStep(RemoteProtocolError):
    """The server sent something that answers no command, more often than may be passed over (I30)."""


class NoGreeting(RemoteProtocolError):
    """The first octets are no greeting; `octets` has its beginning. `why` tells what is wrong if it nearly is one."""

    def __init__(self, octets: bytes, why: str = "") -> None:
        super().__init__(why or f"expected * OK, got “{printable(octets)}”")
        self.octets = octets
        self.why = why


class TooLong(RemoteProtocolError):
    """A message has more octets than the limit `message_octets`."""


@dataclass(slots=True)
class Counts:
    """Counts of what a session met and passed over."""

    unread: int = 0  # lines that are no response (I30)
    bad: int = 0  # BAD replies: servers hang up after a number of them (I12, I105)
