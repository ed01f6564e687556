"""Recognises messages that another program has put into a mailbox before (`skip_existing`).

A message is there if one of the mailbox's has as many octets and an equal header, line ends made alike; never by its
Message-ID alone. One that has LF for each CRLF, or the other way round, is as good, and recorded as altered. So is one
into whose header mbsync has put a field X-TUID; and one that begins with the line of `imapsync --addheader`, which adds
a Message-Id, made from the UID at the source, to a message with neither Message-Id nor Received. Such messages often
have equal headers and sizes, so the line must have the UID of this one. Each of the mailbox's messages stands for one
at most, and none that is a receipt of ours for any. The mailbox is listed once in a run: a UID and a size for each
message.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.ask import altered, hint_of
from syncd.imap.client import Client
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems
from syncd.mail.body import HEADER_CAP_OCTETS, Body, BodyWriter, header_hash
from syncd.mail.message import Message, Receipt
from syncd.mail.outcome import Outcome, Verdict

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_MARK: Final = re.compile(rb"^X-TUID: [A-Za-z0-9+/]{12}\r\n", re.MULTILINE)  # mbsync puts it into what it stores
_MARK_OCTETS: Final = len("X-TUID: 0123456789ab\r\n")
_NAMED: Final = re.compile(rb"(?:[^\r\n]+(?:\r\n?|\n))*?(?:Message-Id|Received):", re.IGNORECASE)  # within a header
HEADERS_TOGETHER: Final = 500  # headers that are asked for in one command


class Form(NamedTuple):
    """A way in which a message may have been stored: so many octets, with mbsync's field or without, below a line."""

    octets: int
    marked: bool = False
    above: bytes = b""  # imapsync's line


Formed = tuple[Message, tuple[Form, ...]]
Taken = Callable[[Collection[str]], Collection[str]]  # hints → those that are receipts


@dataclass(slots=True)
class Existing:
    """The contents of mailboxes of an account when this run first looked: for each, octets → UIDs."""

    found: dict[bytes, dict[int, set[int]]] = field(default_factory=dict)

    def recognise(
        self, account: ImapAccount, target: Target, messages: Sequence[Message], taken: Taken
    ) -> list[Outcome]:
        """Returns DELIVERED for each message that is in the mailbox already. Raises SyncdError.

        `account` is the connection by which to look.
        """
        known = self.found.get(target.name)
        wanted = [(message, forms(message)) for message in messages]
        if known is not None and not any(known.get(form.octets) for _, some in wanted for form in some):
            return []
        client = account.client()
        client.examine(target.name).wait()
        if known is None:
            known = self.found[target.name] = _listed(client, target.following)
        outcomes = self._matches(client, target, known, [(message, some[:1]) for message, some in wanted], taken)
        found = {outcome.key for outcome in outcomes}  # no other sizes for these
        left = [(message, some[1:]) for message, some in wanted if message.key not in found]
        outcomes += self._matches(client, target, known, left, taken)
        client.unselect().wait()
        return outcomes

    def _matches(
        self, client: Client, target: Target, known: dict[int, set[int]], wanted: Sequence[Formed], taken: Taken
    ) -> list[Outcome]:
        uids = {uid for _, some in wanted for form in some for uid in known.get(form.octets, ())}
        hints = {hint_of(target.name, target.validity, uid): uid for uid in uids}
        ours = {hints[hint] for hint in taken(hints)} if hints else set()
        headers = _headers(client, sorted(uids - ours))
        outcomes = []
        for message, some in wanted:
            start = _even(_start_of(message.body))
            for form in some:
                header = header_hash(form.above + start)
                here = known.get(form.octets, set())
                here -= ours
                uid = min((uid for uid in here if headers[uid][form.marked] == header), default=None)
                if uid is not None:
                    here.discard(uid)
                    is_altered = form != Form(message.body.octets)
                    hint = hint_of(target.name, target.validity, uid) + (altered() if is_altered else "")
                    receipt = Receipt(message.body.sha256, hint)
                    outcomes.append(Outcome(message.key, Verdict.DELIVERED, receipt, altered=is_altered))
                    break
        return outcomes


def forms(message: Message) -> tuple[Form, ...]:
    """Returns how a message may be stored, first as it is; with LF for CRLF, and CRLF for LF; each with a line more."""
    body = message.body
    crlf = lf = 0
    last = b""
    for chunk in body.chunks():
        crlf += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
        lf += chunk.count(b"\n")
        last = chunk[-1:]
    plain = (body.octets, body.octets - crlf, body.octets + lf - crlf)
    found = [Form(octets) for octets in plain]
    found += [Form(octets, marked=True) for octets in _longer(plain, _MARK_OCTETS)]
    if message.ref.uid.isdigit() and not _NAMED.match(_start_of(body)):
        line = b"Message-Id: <%b@imapsync>\r\n" % message.ref.uid
        found += [Form(octets, above=line) for octets in _longer(plain, len(line))]
    return tuple(dict.fromkeys(found))


def _longer(plain: tuple[int, int, int], octets: int) -> tuple[int, int, int]:
    """Returns the sizes with one more line, of so many octets with CRLF."""
    return plain[0] + octets, plain[1] + octets - 1, plain[2] + octets


def _listed(client: Client, following: int) -> dict[int, set[int]]:
    """Returns the messages below UIDNEXT `following`, by octets."""
    found: dict[int, set[int]] = defaultdict(set)
    for rows in client.rows(UidSet.everything(), FetchItems(size=True)):
        for row in rows:
            if row.uid < following or following == 1:
                found[row.size or 0].add(row.uid)
    return found


def _headers(client: Client, uids: Sequence[int]) -> Mapping[int, tuple[bytes, bytes]]:
    """Returns UID → hashes of the header with line ends made alike: as it is, without mbsync's field if it has one."""
    found: dict[int, tuple[bytes, bytes]] = defaultdict(lambda: (b"", b""))  # a header that does not come is no header
    for start in range(0, len(uids), HEADERS_TOGETHER):
        stream = client.bodies(FetchItems(header=True), _no_body)
        try:
            stream.ask(UidSet.of(uids[start : start + HEADERS_TOGETHER]))
            while stream.in_flight:
                event = stream.next()
                if not isinstance(event, Answered) and event.row.header:
                    header = _even(event.row.header)
                    less, marks = _MARK.subn(b"", header)
                    found[event.row.uid] = header_hash(header), header_hash(less) if marks == 1 else b""
        finally:
            stream.close()
    return found


def _start_of(body: Body) -> bytes:
    return next(body.chunks(), b"")[:HEADER_CAP_OCTETS]


def _even(start: bytes) -> bytes:
    return _LINE_END.sub(b"\r\n", start)


def _no_body(uid: int, octets: int) -> BodyWriter:
    raise AssertionError(f"no body was asked for, and UID {uid} has one of {octets} octets")
