"""Where a destination has the copy of a message, by the receipt of its delivery; and what it changes by rule.

IMAP      the receipt names UIDVALIDITY, UID and mailbox, where the server told them
packs     a message's line is named by its identity at its source, and its SHA-256
Maildir   the receipt names folder and stem; the lines of its files end in LF, so that only reading tells octets
mbox      nothing names a message in a file: it is looked for by header and date; only reading tells octets
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd.db.ledger.proof import Known
from syncd.db.rows import AccountRow, Became, MailboxScope
from syncd.destinations.imap.ask import without_note
from syncd.destinations.imap.targets import plain_key
from syncd.errors import FormatDamaged, MailboxRefused, printable
from syncd.formats.maildir.names import STEM_CHARACTERS, file_time
from syncd.formats.packs.listing import Identity, uid_of
from syncd.imap.append import EARLIEST, LATEST_AHEAD, sendable
from syncd.mail.flags import DELETED, Flags, from_octets
from syncd.mail.mailbox import INBOX, Epoch, Mailbox, Path, path_of
from syncd.mail.message import Receipt
from syncd.services.verify.comparison import NO_RULES, Fact, Kept, Original, Rules, date_of, seconds
from syncd.services.verify.scratch import CACHED, Scratch, Spotted

if TYPE_CHECKING:
    from syncd.destinations.base import Archive
    from syncd.engine.mapping import Clash, Paths
    from syncd.services.verify.ends import End

GONE: Final = frozenset({"NONEXISTENT", "TRYCREATE"})  # response codes (RFC 5530)
RENUMBERED: Final = "the server has given the mailbox a new UIDVALIDITY"
NOT_THERE: Final = "it was delivered there, and is not there any more"
_HINT: Final = re.compile(r"(\d+):(\d+) (.*)", re.DOTALL)
_HALF_DAY_S: Final = 43_200  # a date a day ahead is sent, which some servers make the present
_EARLIEST: Final = int(EARLIEST.timestamp())
_CLOCKS_S: Final = 3600  # from the sending of a message to the record of its delivery, at most


@dataclass(slots=True)
class Box:
    """A mailbox at a destination. `missing` says why it cannot be opened; empty where it was taken in.

    With `closed=True` it is there, and the server does not open it. `lack` says that it shows too few messages.
    """

    number: int
    name: str
    mailbox: Mailbox
    validity: Epoch | None = None
    missing: str = ""
    closed: bool = False
    lack: str = ""


class Located(NamedTuple):
    """The place that a receipt names. With `starts=True` the uid is the start of one."""

    mailbox: bytes
    uid: bytes
    validity: int | None = None
    starts: bool = False


class Found(NamedTuple):
    """The copy of a message, or why there is none where it should be. `certain`: see `scratch.Lost`.

    With `unknown=True` it may be there: the server does not show all of the mailbox.
    """

    box: Box | None
    copy: Spotted | None
    reason: str = ""
    certain: bool = False
    unknown: bool = False


class Copies(ABC):
    """The messages at one destination. Its mailboxes are taken in when they are first asked for."""

    rules: Rules = NO_RULES
    moves = True  # its user may move messages from mailbox to mailbox
    unnamed = "the server told no UID when it took the message"  # why a receipt does not name the copy

    def __init__(self, end: End, scratch: Scratch, paths: Paths, numbers: range) -> None:
        """`numbers` are those that its boxes are given, in their order."""
        self.end = end
        self.boxes: dict[bytes, Box] = {}  # by name
        self._scratch = scratch
        self._paths = paths
        self._became: Mapping[tuple[bytes, str], Became] = {}
        self.numbers = numbers
        self.key: Callable[[Path], str] = plain_key  # equal for paths that are one mailbox here
        self._listed: dict[bytes, Mailbox] | None = None
        self._expected: dict[bytes, bytes | None] = {}  # mailbox of the source → the mailbox here
        self._numbered: list[Box] = []

    def find(self, scope: MailboxScope, known: Known) -> Found:
        """Returns the copy of a message that was delivered."""
        located = self.locate(scope, known)
        if located is None:
            return Found(self.expected(scope.mailbox), None, self.unnamed)
        box = self.box(located.mailbox)
        if box.missing:
            return Found(box, None, box.missing, certain=True, unknown=box.closed)
        if located.validity not in {None, box.validity}:
            return Found(box, None, RENUMBERED)
        copy = (
            self._scratch.starting(box.number, located.uid)
            if located.starts
            else self._scratch.find(box.number, located.uid)
        )
        if copy is None and box.lack:
            return Found(box, None, box.lack, unknown=True)
        return Found(box, copy, "" if copy is not None else NOT_THERE, certain=True)

    @abstractmethod
    def locate(self, scope: MailboxScope, known: Known) -> Located | None:
        """Returns the place that the receipt of a delivery names."""

    def expected(self, mailbox: Mailbox) -> Box | None:
        """Returns the mailbox that the job's rules name for a mailbox of the source, or what it became before.

        None where neither is there.
        """
        if mailbox.name not in self._expected:
            before = self._became.get((mailbox.name, ""))
            paths = [self._paths.of(mailbox), *([] if before is None else [before.path])]
            there = (self._by_path.get(plain_key(path)) for path in paths)
            self._expected[mailbox.name] = next((name for name in there if name is not None), None)
        found = self._expected[mailbox.name]
        return None if found is None else self.box(found)

    def remember(self, became: Mapping[tuple[bytes, str], Became]) -> None:
        """Take in what mailboxes of the source became here, as `Paths.remember`."""
        self._became = became
        self._paths.remember(became, lambda path: plain_key(path) in self._by_path)

    def clashes(self, mailboxes: Sequence[Mailbox]) -> list[Clash]:
        """Returns which mailboxes of the source would become one here, so that runs refuse them."""
        self._paths.give_way(mailboxes, self.key)
        return self._paths.clashes(mailboxes, self.key)

    @cached_property
    def _by_path(self) -> dict[str, bytes]:
        return {plain_key(it.path): name for name, it in reversed(self.listed.items())}

    @property
    def listed(self) -> dict[bytes, Mailbox]:
        """Every mailbox of the destination, by name."""
        if self._listed is None:
            self._listed = {it.name: it for it in self.end.mailboxes()}
        return self._listed

    def box(self, name: bytes) -> Box:
        """Returns a mailbox, taken in."""
        if name not in self.boxes:
            mailbox = self.listed.get(name) or Mailbox(name, path_of(name))
            box = self.boxes[name] = Box(self.numbers[len(self.boxes)], "/".join(mailbox.path), mailbox)
            self._numbered.append(box)
            try:
                taken = self.end.take_in(box.number, mailbox)
                box.validity, box.lack = taken.validity, taken.lack
            except MailboxRefused as error:
                box.closed = name in self.listed and error.code not in GONE
                box.missing = f"the mailbox {'cannot be opened' if box.closed else 'is not there any more'}: {error}"
        return self.boxes[name]

    def take_in_all(self) -> None:
        """Take in every mailbox that there is."""
        for name in self.listed:
            self.box(name)

    def take_in_headers(self, numbers: Collection[int] | None, destination: int | None = None) -> None:
        """Take in the headers of messages in these boxes that nothing claims; None: in every box.

        With a destination, of those that have the octets of a lost message.
        """
        for box in self._numbered:
            if not box.missing and (numbers is None or box.number in numbers):
                facts = partial(self._scratch.unclaimed, box.number, destination)
                self.end.take_in_headers(box.number, box.mailbox, facts)

    def box_of(self, spotted: Spotted) -> Box:
        """Returns the mailbox that a message is in."""
        return self._numbered[spotted.box - self.numbers.start]

    def confirmed(self, original: Original, copy: Spotted) -> Fact:
        """Returns a copy that seems to have other octets, read where that can tell more."""
        del original
        return copy.fact


# --- IMAP --------------------------------------------------------------------------------------------


class ImapCopies(Copies):
    """Messages in the mailboxes of an IMAP account."""

    def locate(self, scope: MailboxScope, known: Known) -> Located | None:
        """See `Copies`."""
        del scope
        found = _HINT.fullmatch(without_note(known.receipt)[0])
        if found is None:
            return None
        validity, uid, text = found.groups()
        return Located(self._names.get(text, text.encode("utf-8", "surrogateescape")), uid.encode(), int(validity))

    @cached_property
    def _names(self) -> dict[str, bytes]:
        return {name.decode("utf-8", "backslashreplace"): name for name in self.listed}

    def confirmed(self, original: Original, copy: Spotted) -> Fact:
        """The octets that a server lists may be wrong: those that it gives count."""
        if copy.fact.sha256 is not None or copy.fact.octets == original.octets:
            return copy.fact
        body = self.end.body(self.box_of(copy).mailbox, copy.fact)
        if body is None:
            return copy.fact
        body.close()
        return copy.fact._replace(octets=body.octets, sha256=body.sha256)


def imap_rules(*, keeps_deleted: bool = False) -> Rules:
    """Returns the rules of an IMAP destination."""
    flags = partial(_imap_flags, keeps_deleted=keeps_deleted)
    return Rules(flags, _imap_date, altered=lambda receipt: without_note(receipt)[1])


@lru_cache(CACHED)
def _imap_flags(flags: Flags, *, keeps_deleted: bool) -> Flags:
    going, _ = sendable(tuple(flag for flag in flags if keeps_deleted or flag != DELETED), None)
    return from_octets(going)


def _imap_date(date: int, delivered: datetime | None) -> Kept:
    latest = None if delivered is None else seconds(delivered + LATEST_AHEAD)
    if date < _EARLIEST:
        return Kept(_EARLIEST, 0, "altered by us: servers take no date before 1970")
    if latest is None or date <= latest:
        return Kept(date)
    return Kept(latest - _HALF_DAY_S, _HALF_DAY_S + _CLOCKS_S, "altered by us: servers take no date in the future")


# --- archives ----------------------------------------------------------------------------------------


class PacksCopies(Copies):
    """Messages in an archive of packs. What is there stays there."""

    moves = False

    def __init__(self, end: End, scratch: Scratch, paths: Paths, numbers: range, account: AccountRow) -> None:
        super().__init__(end, scratch, paths, numbers)
        self._account = account.uuid

    def locate(self, scope: MailboxScope, known: Known) -> Located | None:
        """See `Copies`."""
        if known.sha256 is None:
            return None
        name = scope.mailbox.name
        identity = Identity(self._account.bytes, known.epoch, name, known.occurrence, known.uid, known.sha256)
        return Located(str(self._account).encode("ascii") + b"/" + name, uid_of(identity))

    def clashes(self, mailboxes: Sequence[Mailbox]) -> list[Clash]:
        """Packs have a mailbox for each of the source."""
        del mailboxes
        return []

    def expected(self, mailbox: Mailbox) -> Box | None:
        """Packs have the mailboxes of the source, by their names."""
        name = str(self._account).encode("ascii") + b"/" + mailbox.name
        return self.box(name) if name in self.listed else None


class MboxCopies(Copies):
    """Messages in an archive of mbox files."""

    rules = Rules(tells_octets=False, fits=lambda _there, _octets: True)
    unnamed = "a message in an mbox file is known by what is in it"

    def locate(self, scope: MailboxScope, known: Known) -> Located | None:
        """See `Copies`."""
        del scope, known
        return None


class MaildirCopies(Copies):
    """Messages in a Maildir."""

    def __init__(
        self, end: End, scratch: Scratch, paths: Paths, numbers: range, archive: Archive, *, verbatim: bool
    ) -> None:
        super().__init__(end, scratch, paths, numbers)
        self.rules = (
            Rules(date=_maildir_date) if verbatim else Rules(date=_maildir_date, tells_octets=False, fits=_with_lf)
        )
        self._archive = archive

    def locate(self, scope: MailboxScope, known: Known) -> Located | None:
        """See `Copies`."""
        del scope
        folder, _, _ = known.receipt.rpartition("/")
        stem = self.stem(known.receipt)
        if len(stem) != STEM_CHARACTERS:
            return None
        return Located(folder.encode("utf-8", "surrogateescape") or INBOX, stem, starts=True)

    @staticmethod
    def stem(receipt: str) -> bytes:
        """Returns the part of a file's name that stays, wherever its user moves it."""
        return receipt.rpartition("/")[2].encode("utf-8", "surrogateescape")

    def confirmed(self, original: Original, copy: Spotted) -> Fact:
        """A message may have had lines that end in LF: its SHA-256 tells."""
        if copy.fact.sha256 in {None, original.sha256} or original.sha256 is None:
            return copy.fact
        try:
            body = self._archive.read(Receipt(original.sha256, original.receipt)).body
        except FormatDamaged as error:
            return copy.fact._replace(problem=printable(str(error)))
        body.close()
        return copy.fact._replace(octets=body.octets, sha256=body.sha256)


def _with_lf(there: int, octets: int) -> bool:
    """Returns whether so many octets may be left where each CRLF became LF."""
    return there <= octets <= 2 * there


def _maildir_date(date: int, _delivered: datetime | None) -> Kept:
    kept = file_time(date_of(date))
    return Kept(kept, 0, "" if kept == date else "altered by us: files have dates from 1970 to 2038")
