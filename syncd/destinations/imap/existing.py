"""Recognises messages that another program has put into a mailbox before (`skip_existing`).

A message is there if one of the mailbox's has as many octets and an equal header, line ends made alike; never by its
Message-ID alone. One with neither Message-Id nor Received must have equal octets: such messages often have equal
headers and sizes, as drafts do. One that has LF for each CRLF, or the other way round, is as good, and recorded as
altered. So is one into whose header mbsync has put a field X-TUID; and one that begins with the line of
`imapsync --addheader`, which adds a Message-Id, made from the UID at the source, to a message with neither. Each of the
mailbox's messages stands for one at most, and none that is a receipt of ours for any. The mailbox is listed once in a
run: a UID and a size for each message.

Where the server does not give what must be compared, the message is deferred: it may be there. A job that removes mail
at its source needs more: all octets are compared, and what is marked as deleted is no copy.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.ask import altered, hint_of
from syncd.destinations.imap.targets import about_mailbox
from syncd.errors import ConfigError, MailboxRefused, Throttled, printable
from syncd.formats.line_ends import without_cr
from syncd.imap.client import Client
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered, Arrived
from syncd.imap.values import FetchItems
from syncd.mail.body import HEADER_CAP_OCTETS, Body, BodyWriter, Spool, header_hash
from syncd.mail.flags import DELETED
from syncd.mail.message import Key, Message, Receipt
from syncd.mail.outcome import Outcome, Verdict

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_MARK: Final = re.compile(rb"^X-TUID: [A-Za-z0-9+/]{12}\r?\n", re.MULTILINE)  # mbsync puts it into what it stores
_MARK_OCTETS: Final = len("X-TUID: 0123456789ab\r\n")
_NAMED: Final = re.compile(rb"(?:[^\r\n]+(?:\r\n?|\n))*?(?:Message-Id|Received):", re.IGNORECASE)  # within a header
NOTHING_CAME: Final = "the server said OK and gave nothing"
TOGETHER: Final = 500  # messages that are asked for in one command


class Form(NamedTuple):
    """A way in which a message may have been stored: so many octets, with mbsync's field or without, below a line."""

    octets: int
    marked: bool = False
    above: bytes = b""  # imapsync's line


class Wanted(NamedTuple):
    """A message, and how it may have been stored; `whole`: it is compared by all its octets, else by its header."""

    message: Message
    forms: tuple[Form, ...]
    whole: bool


Digests = dict[int, tuple[bytes, bytes]]  # by UID
Taken = Callable[[Collection[str]], Collection[str]]  # hints → those that are receipts


@dataclass(slots=True)
class Existing:
    """The contents of mailboxes of an account when this run first looked: for each, octets → UIDs.

    `removes`: the job removes at the source what is here.
    """

    removes: bool = False
    found: dict[bytes, dict[int, set[int]]] = field(default_factory=dict)
    digests: dict[tuple[bytes, bool], Digests] = field(default_factory=dict)  # mailbox, whole → what was read there

    def recognise(
        self, account: ImapAccount, target: Target, messages: Sequence[Message], taken: Taken
    ) -> list[Outcome]:
        """Returns DELIVERED for each message that is there already, DEFERRED if that cannot be told. Raises SyncdError.

        `account` is the connection by which to look.
        """
        known = self.found.get(target.name)
        wanted = [_wanted(message, whole=self.removes) for message in messages]
        if known is not None and not any(known.get(form.octets) for one in wanted for form in one.forms):
            return []
        client = account.client()
        with about_mailbox(client):
            opened = client.examine(target.name).wait()
        if opened.uid_validity != target.validity:
            raise MailboxRefused(
                f"{account.address}: {printable(target.name)} was made again meanwhile; try again later"
            )
        if known is None:
            try:
                known = self.found[target.name] = _listed(client, target.following, also_deleted=not self.removes)
            except MailboxRefused:
                client.unselect().wait()
                raise
        search = _Search(client, account.spool, target, self, taken)
        search.go([one._replace(forms=one.forms[:1]) for one in wanted])
        search.go([one._replace(forms=one.forms[1:]) for one in wanted])  # of those that were not found
        client.unselect().wait()
        return search.outcomes()


class _Search:
    """The messages that are looked for in one mailbox, which is selected."""

    def __init__(self, client: Client, spool: Spool, target: Target, existing: Existing, taken: Taken) -> None:
        self._removes = existing.removes
        self._client = client
        self._spool = spool
        self._target = target
        self._known = existing.found[target.name]
        self._taken = taken
        self._digests = {whole: existing.digests.setdefault((target.name, whole), {}) for whole in (False, True)}
        self._found: dict[Key, Outcome] = {}
        self._deferred: dict[Key, Outcome] = {}

    def outcomes(self) -> list[Outcome]:
        """Returns DELIVERED for what was found, DEFERRED where that cannot be told."""
        return [*self._found.values(), *(one for key, one in self._deferred.items() if key not in self._found)]

    def go(self, wanted: Sequence[Wanted]) -> None:
        """Look for those that are not found yet, in the forms that they have here."""
        left = [one for one in wanted if one.message.key not in self._found]
        ours = self._receipts(uid for one in left for form in one.forms for uid in self._here(form))
        for whole in (False, True):
            some = [one for one in left if one.whole is whole]
            uids = {uid for one in some for form in one.forms for uid in self._here(form)} - ours
            read = _Read(self._digests[whole], whole=whole)
            read.ask(self._client, self._spool, sorted(uids - read.digests.keys()))
            for one in some:
                self._match(one, ours, read)

    def _match(self, one: Wanted, ours: set[int], read: _Read) -> None:
        message = one.message
        for form in one.forms:
            here = self._here(form)
            here -= ours
            if not here:
                continue
            digest = _digest(message.body, form.above) if one.whole else _header(message.body, form.above)
            equal = (uid for uid in here if uid in read.digests and read.digests[uid][form.marked] == digest)
            uid = min(equal, default=None)
            if uid is not None:
                self._check_other(message, uid)
                here.discard(uid)
                is_altered = form != Form(message.body.octets)
                hint = self._hint(uid) + (altered() if is_altered else "")
                receipt = Receipt(message.body.sha256, hint)
                self._found[message.key] = Outcome(message.key, Verdict.DELIVERED, receipt, altered=is_altered)
                return
            unread = min(here & read.unread.keys(), default=None)
            if unread is not None:
                where = f"the message with UID {unread} in {printable(self._target.name)}"
                reason = f"it may be there already, as {where}, which cannot be read: {read.unread[unread]}"
                self._deferred[message.key] = Outcome(message.key, Verdict.DEFERRED, reason=reason)

    def _check_other(self, message: Message, uid: int) -> None:
        """Raise ConfigError where the copy may be the message itself, and the job would remove it."""
        origin, target = message.ref.origin, self._target
        same = (origin.mailbox, origin.epoch, message.ref.uid) == (target.name, target.validity, b"%d" % uid)
        if self._removes and same:
            raise ConfigError(
                f"{printable(target.name)} at {self._client.address} seems to be the mailbox that is read, by another"
                " name of its server or user: both have this message under the same UIDVALIDITY and UID; nothing was"
                ' removed. Give the job another destination; if these are two accounts, set mode = "copy"'
            )

    def _here(self, form: Form) -> set[int]:
        return self._known.get(form.octets, set())

    def _hint(self, uid: int) -> str:
        return hint_of(self._target.name, self._target.validity, uid)

    def _receipts(self, uids: Iterator[int]) -> set[int]:
        hints = {self._hint(uid): uid for uid in uids}
        return {hints[hint] for hint in self._taken(hints)} if hints else set()


class _Read:
    """What was read of messages of the mailbox.

    `digests`: UID → of the message (`whole`) or its header, as it is, and without mbsync's field if it has one; line
    ends made alike. `unread`: UID → why the server does not give it.
    """

    def __init__(self, digests: Digests, *, whole: bool) -> None:
        self._whole = whole
        self.digests = digests
        self.unread: dict[int, str] = {}

    def ask(self, client: Client, spool: Spool, uids: Sequence[int]) -> None:
        """Read these. Raises SyncdError; a no to one message is kept."""
        for start in range(0, len(uids), TOGETHER):
            items = FetchItems(body=True) if self._whole else FetchItems(header=True)
            stream = client.bodies(items, lambda _uid, _octets: BodyWriter(spool))
            try:
                stream.ask(UidSet.of(uids[start : start + TOGETHER]))
                while stream.in_flight:
                    event = stream.next()
                    if isinstance(event, Arrived):
                        self._take(event)
                        continue
                    for uid in self._not_come(event):
                        stream.ask(UidSet.of([uid]))
            finally:
                stream.close()

    def _not_come(self, answered: Answered) -> list[int]:
        """Returns the UIDs that are to be asked for one by one: those of several that were refused together."""
        refused, missing = answered.refused, list(answered.missing)
        if isinstance(refused, Throttled):
            raise refused
        if refused is not None and len(answered.uids) > 1:
            return missing
        self.unread.update((uid, str(refused or NOTHING_CAME)) for uid in missing)
        return []

    def _take(self, arrived: Arrived) -> None:
        uid, body, header = arrived.row.uid, arrived.body, _even(arrived.row.header or b"")
        if body is not None and body.octets:
            self.digests[uid] = _digest(body), _digest(body, unmarked=True)
        elif header:
            less, marks = _MARK.subn(b"", header)
            self.digests[uid] = header_hash(header), header_hash(less) if marks == 1 else b""
        else:
            self.unread[uid] = NOTHING_CAME
        if body is not None:
            body.close()


def _wanted(message: Message, *, whole: bool) -> Wanted:
    """Returns how a message may be stored, first as it is; with LF for CRLF, and CRLF for LF; each with a line more.

    `whole`: compare all octets, also of a message with identity.
    """
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
    is_named = _NAMED.match(_start_of(body)) is not None
    if message.ref.uid.isdigit() and not is_named:
        line = b"Message-Id: <%b@imapsync>\r\n" % message.ref.uid
        found += [Form(octets, above=line) for octets in _longer(plain, len(line))]
    return Wanted(message, tuple(dict.fromkeys(found)), whole or not is_named)


def _longer(plain: tuple[int, int, int], octets: int) -> tuple[int, int, int]:
    """Returns the sizes with one more line, of so many octets with CRLF."""
    return plain[0] + octets, plain[1] + octets - 1, plain[2] + octets


def _listed(client: Client, following: int, *, also_deleted: bool) -> dict[int, set[int]]:
    """Returns the messages below UIDNEXT `following`, by octets."""
    found: dict[int, set[int]] = defaultdict(set)
    number = 0
    for rows in client.rows(UidSet.everything(), FetchItems(size=True, flags=not also_deleted)):
        number += len(rows)
        for row in rows:
            if (row.uid < following or following == 1) and (also_deleted or DELETED not in (row.flags or ())):
                found[row.size or 0].add(row.uid)
    exists = 0 if client.selected is None else client.selected.exists or 0
    if number < exists:
        lack = f"the server counts {exists:,} messages and shows {number:,}, so one may be there that is not shown"
        raise MailboxRefused(f"{client.address}: {lack}; try again later")
    return found


def _header(body: Body, above: bytes) -> bytes:
    return header_hash(_even(above + _start_of(body)))


def _digest(body: Body, above: bytes = b"", *, unmarked: bool = False) -> bytes:
    """Returns the SHA-256 of all octets but CR.

    With `unmarked=True` it is that of the message without mbsync's field, and empty if it does not have that once.
    """
    chunks = without_cr(chain([above], body.chunks()))
    start = next(chunks) + next(chunks, b"")
    if unmarked:
        end = start.find(b"\n\n") + 1 or len(start)
        header, marks = _MARK.subn(b"", start[:end])
        if marks != 1:
            return b""
        start = header + start[end:]
    digest = hashlib.sha256(start)
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _start_of(body: Body) -> bytes:
    return next(body.chunks(), b"")[:HEADER_CAP_OCTETS]


def _even(start: bytes) -> bytes:
    return _LINE_END.sub(b"\r\n", start)
