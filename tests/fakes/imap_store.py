"""The mailboxes of a scripted IMAP server: what is in them, and how it goes over the wire."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.fakes.imap_words import Word, flat, numbers, quoted

DATE = b"17-Jul-1996 02:44:25 -0700"


@dataclass
class Mail:
    """One message."""

    uid: int
    octets: bytes
    flags: list[bytes] = field(default_factory=list)
    date: bytes = DATE
    labels: list[bytes] = field(default_factory=list)  # of Gmail
    number: bytes = b""  # Gmail's X-GM-MSGID
    listed: int | None = None  # RFC822.SIZE, where it is not the truth
    modseq: int = 1


@dataclass
class Box:
    """One mailbox."""

    validity: int = 1
    mail: list[Mail] = field(default_factory=list)
    next: int = 1
    attributes: list[bytes] = field(default_factory=list)  # of LIST, such as b"\\Noselect" or b"\\Sent"
    subscribed: bool = True
    modseq: int = 1
    number: bytes = b""  # MAILBOXID
    permanent: list[bytes] = field(default_factory=list)  # PERMANENTFLAGS
    append_limit: int = 0  # APPENDLIMIT in STATUS

    def add(self, *messages: bytes, flags: Iterable[bytes] = (), date: bytes = DATE) -> None:
        """More mail arrives."""
        for octets in messages:
            self.modseq += 1
            self.mail.append(Mail(self.next, octets, list(flags), date, modseq=self.modseq))
            self.next += 1

    def find(self, octets: bytes) -> Mail:
        """The first message with these octets."""
        return next(mail for mail in self.mail if mail.octets == octets)

    def expunge(self, uid: int) -> None:
        """A message goes."""
        self.modseq += 1
        self.mail = [mail for mail in self.mail if mail.uid != uid]

    def renew(self, validity: int) -> None:
        """The server numbers everything from the start again."""
        self.validity = validity
        for uid, mail in enumerate(self.mail, 1):
            mail.uid = uid
        self.next = len(self.mail) + 1

    def chosen(self, uids: bytes) -> list[tuple[int, Mail]]:
        """The messages of a set of UIDs, numbered. `n:*` always has the last one (RFC 3501 §6.4.8)."""
        highest = max((mail.uid for mail in self.mail), default=0)
        ranges = list(numbers(uids, highest))
        return [
            (number, mail)
            for number, mail in enumerate(self.mail, 1)
            if any(first <= mail.uid <= last for first, last in ranges)
        ]

    def status(self, items: Iterable[bytes]) -> bytes:
        """The items of a STATUS reply."""
        values = {
            b"MESSAGES": len(self.mail),
            b"RECENT": 0,
            b"UIDNEXT": self.next,
            b"UIDVALIDITY": self.validity,
            b"UNSEEN": sum(b"\\Seen" not in mail.flags for mail in self.mail),
            b"SIZE": sum(len(mail.octets) for mail in self.mail),
            b"HIGHESTMODSEQ": self.modseq,
            b"APPENDLIMIT": self.append_limit,
        }
        words = [b"%b %d" % (item, values[item]) for item in items if item in values]
        if b"MAILBOXID" in items and self.number:
            words.append(b"MAILBOXID (%b)" % self.number)
        return b" ".join(words)


_PART = re.compile(rb"BODY(?:\.PEEK)?\[(?P<section>[A-Z.]*)[^\]]*\](?:<(?P<first>\d+)\.(?P<most>\d+)>)?")


def row(number: int, mail: Mail, items: Word, *, uid_last: bool = False) -> bytes:
    """One FETCH reply to UID FETCH: its UID is always there (RFC 3501 §6.4.8)."""
    wanted = [item.upper() for item in flat(items)]
    parts = [part for item in wanted if item != b"UID" for part in _item(mail, item)]
    uid = [b"UID %d" % mail.uid]
    return b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts + uid if uid_last else uid + parts))


def _item(mail: Mail, item: bytes) -> list[bytes]:
    if item == b"FLAGS":
        return [b"FLAGS (%b)" % b" ".join(mail.flags)]
    if item == b"INTERNALDATE":
        return [b'INTERNALDATE "%b"' % mail.date]
    if item == b"RFC822.SIZE":
        return [b"RFC822.SIZE %d" % (len(mail.octets) if mail.listed is None else mail.listed)]
    if item == b"MODSEQ":
        return [b"MODSEQ (%d)" % mail.modseq]
    if item == b"X-GM-LABELS":
        return [b"X-GM-LABELS (%b)" % b" ".join(map(quoted, mail.labels))]
    if item == b"X-GM-MSGID":
        return [b"X-GM-MSGID %b" % (mail.number or b"%d" % mail.uid)]
    part = _PART.fullmatch(item)
    assert part, f"the script knows no {item!r}"
    octets = mail.octets
    if part["section"].startswith(b"HEADER"):
        head, empty, _ = octets.partition(b"\r\n\r\n")
        octets = b"\r\n" if octets.startswith(b"\r\n") else head + empty
    name = b"BODY[%b]" % part["section"]
    if part["first"] is not None:
        first, most = int(part["first"]), int(part["most"])
        octets = octets[first : first + most]
        name += b"<%d>" % first
    if ".PEEK" not in item.decode() and b"\\Seen" not in mail.flags:
        mail.flags.append(b"\\Seen")
    return [b"%b {%d}\r\n%b" % (name, len(octets), octets)]


def list_line(kind: bytes, name: bytes, box: Box, delimiter: bytes, *, extended: bool) -> bytes:
    """A LIST or LSUB reply."""
    attributes = list(box.attributes)
    if extended and box.subscribed:
        attributes.append(b"\\Subscribed")
    return b"* %b (%b) %b %b\r\n" % (
        kind,
        b" ".join(attributes),
        quoted(delimiter) if delimiter else b"NIL",
        quoted(name),
    )
