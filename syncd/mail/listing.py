"""Values between a source and those who read it: lines of a listing, requests, answers (pure).

Tuples where one is made for every message: they are built in a third of the time of a dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NewType

from syncd.errors import SyncdError
from syncd.mail.body import Body
from syncd.mail.flags import Flags
from syncd.mail.message import Key, Uid

LineNumber = NewType("LineNumber", int)  # of a line in a listing, from 1; means something in one session only


class Listed(NamedTuple):
    """One line of a listing."""

    number: LineNumber
    uid: Uid
    octets: int  # as the server says; advisory (RFC 1939 §11)


class Facts(NamedTuple):
    """A line of a listing with everything that is known of the message without reading it.

    Flags are None where the source has none (POP3), the date where it has none or none that a calendar knows.
    `octets` counts the stored octets, as in `Listed`. `sha256` is None where it would have to be computed.
    """

    number: LineNumber
    uid: Uid
    octets: int
    flags: Flags | None = None
    internal_date: datetime | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The server's own count of a mailbox, in the session of the listing (POP3 STAT, IMAP EXISTS)."""

    messages: int
    octets: int


class Wanted(NamedTuple):
    """One message to ask for. The answer carries `key`; `number`, `uid` and `octets` are from the session's listing."""

    key: Key
    number: LineNumber
    uid: Uid
    octets: int


class Fetched(NamedTuple):
    r"""One answer: a body, or the reason why this message alone could not be had (scope message).

    Sources that know flags (in canonical form), INTERNALDATE and labels give them. The date is aware and keeps its
    offset; None where the server has none that a calendar knows. Labels are Gmail's (X-GM-LABELS), decoded and sorted;
    system labels keep their backslash ("\\Inbox").
    """

    key: Key
    body: Body | None
    error: SyncdError | None
    flags: Flags = ()
    internal_date: datetime | None = None
    labels: tuple[str, ...] = ()


class Removed(NamedTuple):
    """One answer to a removal: `error` is None when the server took it.

    With `is_final=True` the message is gone already; otherwise it goes when the session ends by `finish`.
    """

    key: Key
    error: SyncdError | None
    is_final: bool = False
