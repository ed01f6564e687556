"""A Maildir archive as a view (`formats.view.ArchiveView`): mailboxes are its folders, messages the files in them.

Files in `new` and `cur` count, whichever program put them there. A mailbox's name is its folder's (".Sent"), INBOX for
the root; its path follows from the name, or stands in a file beside it with the special use (`notes`). A message's uid
is the part of its file's name that readers do not change (before ":2,"). Its flags are those of the name, its date is
the file's. A Maildir keeps no checksums and no accounts.

Files have LF line ends, as mail readers expect. As a source, a file without any CR is given with CRLF, as mail travels
(RFC 5322 §2.1), every other file as it is. So all that syncd filed comes back as it was received, except mail that came
with bare LF throughout; with `line_ends = "verbatim"` every file is given as it is. For people, octets are the file's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd.errors import ArchiveMissing, FormatDamaged, StorageError
from syncd.formats.line_ends import to_crlf
from syncd.formats.maildir import lookup, names, notes
from syncd.formats.maildir.files import PAGE, MaildirFiles, MessageFile
from syncd.formats.maildir.folder import Folder
from syncd.formats.maildir.home import FORMAT, Options, find_home, options
from syncd.formats.maildir.layout import Layout, path_of, subscribed_name
from syncd.formats.regular import may_exist
from syncd.formats.view import (
    Delivered,
    Entry,
    Figures,
    Finding,
    Found,
    Fresh,
    Further,
    Gone,
    Kept,
    Known,
    LeftOut,
    Lost,
    Mark,
    Places,
    Progress,
    Read,
    Seen,
    Stored,
    entry,
)
from syncd.mail.body import Body, BodyWriter
from syncd.mail.flags import Flags
from syncd.mail.listing import LineNumber, Listed, Totals, Wanted
from syncd.mail.mailbox import INBOX, INBOX_PATH, Epoch, Mailbox, Unread
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import MessageRef, Origin, Receipt, Uid

_EPOCH: Final = Epoch(1)  # of places: the epoch of the source is not known here


class MaildirView:
    """The archive at `path`, or another program's Maildir."""

    def __init__(self, path: Path, layout: Layout = Layout.PLUS_PLUS) -> None:
        """`layout` is that of another program's Maildir. Raises ArchiveMissing, FormatDamaged, StorageError."""
        self.path = path
        self._identity = find_home(path, layout)
        self._options = options(self._identity)
        self._files = MaildirFiles(path, self._options.separator, self._options.layout)
        self._shown: tuple[bytes, MailboxPath, dict[str, str]] = (
            b"",
            INBOX_PATH,
            _keywords(path, b""),
        )  # of one folder

    @property
    def uuid(self) -> UUID:
        """The archive's UUID."""
        return self._identity.uuid

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The places that could not be read when the folders were listed last."""
        found = dict.fromkeys(self._files.unread)
        return tuple(it._replace(path=path_of(os.fsdecode(it.name), self._options.layout)) for it in found)

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """INBOX, then every folder by its name."""
        folders, subscribed = self._files.folders(), self._subscribed()
        for start in range(0, len(folders), PAGE):
            yield [self._mailbox(folder, subscribed) for folder in folders[start : start + PAGE]]

    def open(self, name: bytes) -> MaildirMailbox | None:
        """Open the mailbox of a folder."""
        folder = b"" if name == INBOX else name
        if not self._files.has_folder(folder):
            return None
        return MaildirMailbox(self.path, self._files, folder, self._options)

    def origins(self) -> list[Origin]:
        """Returns every folder, without an account: a Maildir does not say whose a message is."""
        return [self._origin(folder, "") for folder in self._files.folders()]

    def entries(self, which: Places | None = None) -> Iterator[Entry]:
        """Every message in every folder."""
        for file in self._all(which):
            yield self._entry(file)

    def find(self, what: str) -> list[Entry]:
        """Returns messages by the start of their file's name."""
        start = os.fsencode(what)
        return [self._entry(file) for file in self._all() if file.base.startswith(start)]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets of the message's file."""
        file = next((file for file in self._all() if _id(file.base) == entry.id), None)
        if file is None:
            raise FormatDamaged(f"the message {entry.id} is no longer in {self.path}")
        yield from self._files.read(file)

    def stored(self, spool: Path, lost: Lost, which: Places | None = None) -> Iterator[Stored]:
        """The octets of the files, at the places that folders and names stand for."""
        folder, origin, keywords = b"", self._origin(b"", self.path.name), _keywords(self.path, b"")
        for file in self._all(which):
            try:
                body = self._body(file, spool)
            except FormatDamaged as error:
                lost(str(error))
                continue
            if file.folder != folder:
                folder, origin = file.folder, self._origin(file.folder, self.path.name)
                keywords = _keywords(self.path, folder)
            flags = _flags(file, self._options.separator, keywords)
            yield Stored(MessageRef(origin, Uid(file.base), 1), flags, _date(file), body)

    def figures(self) -> Figures:
        """Returns the archive in figures."""
        messages = octets = 0
        for folder in self._files.folders():
            self._files.look(folder)
            more, more_octets = self._files.totals(folder)
            messages, octets = messages + more, octets + more_octets
        return Figures(FORMAT, messages, octets, octets, messages)

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Read every file; to compare the octets, the ledger is needed (`missing`)."""
        for link in self._files.links():
            yield Finding(str(link), None, "is a symbolic link: what is there is no part of the archive", harmless=True)
        done = 0
        for file in self._all():
            try:
                done += sum(map(len, self._files.read(file)))
            except StorageError as error:
                yield Finding(str(self._files.path(file)), None, str(error))
            progress(done, 0)
        yield from (Finding(str(self.path / os.fsdecode(it.name)), None, it.why) for it in self.unread)

    def missing(self, delivered: Iterable[Delivered]) -> Iterator[Finding]:
        """Read every message that the ledger knows here, and compare it with its SHA-256."""
        for message in delivered:
            receipt = Receipt(message.sha256, message.hint)
            try:
                lookup.read(self.path, self._identity, receipt, self.path / "tmp").body.close()
            except StorageError as error:
                yield Finding(str(self.path / message.hint), None, str(error))

    def left_out(self) -> Iterator[LeftOut]:
        """Yields what is `unread`; a file that cannot be read is listed."""
        return (LeftOut(it.why, None) for it in self.unread)

    @property
    def search_index(self) -> Path:
        """The path of its search index; mail readers pass over its name."""
        return self.path / ".syncd-search.sqlite"

    def changes(self, known: Known) -> Iterator[Fresh | Further | Gone | Mark]:
        """Every file that `known` lacks, by folders; then the messages of `known` that are nowhere any more."""
        folders = dict.fromkeys(self._files.folders())
        for folder in folders:
            self._files.look(folder)
            origin = self._origin(folder, "")
            for page in self._files.pages(folder):
                lacking = known.lacking([_key(file) for file in page])
                for file in page:
                    if _key(file) in lacking:
                        yield Fresh(_key(file), file.octets, _date(file), self._files.read(file), (origin,))
                yield Mark("")  # there is none: each file is compared with the index
        for key in known.keys():  # noqa: SIM118  not a dict
            folder, _, base = key.rpartition(b"/")
            if folder not in folders or self._files.find(folder, base) is None:
                yield Gone(key)

    def unindexed(self, _known: Known) -> int | None:
        """Returns None: each folder would have to be looked into."""
        return None

    @staticmethod
    def id_of(key: bytes) -> str:
        """Returns what a list calls the message."""
        return _id(key.rpartition(b"/")[2])

    def by_key(self, key: bytes) -> Read | None:
        """Returns a message by its folder and the name of its file."""
        folder, _, base = key.rpartition(b"/")
        if not may_exist(key) or not self._files.has_folder(folder):
            return None
        file = self._files.find(folder, base)
        if file is None:
            self._files.look(folder)
            file = self._files.find(folder, base)
        if file is None:
            return None
        stem, name = names.stem_of(os.fsdecode(file.base)), os.fsdecode(folder)
        hint = "" if stem is None else f"{name}/{stem}" if name else stem
        return Read(self._entry(file), lambda: self._files.read(file), (Kept(folder or INBOX, Uid(file.base), hint),))

    def verify(self) -> None:
        """See that the archive is still at its path. Raises ArchiveMissing, FormatDamaged, StorageError."""
        found = find_home(self.path).uuid
        if found != self.uuid:
            raise ArchiveMissing(f"{self.path} is another archive ({found}) than before ({self.uuid}); run again")

    def close(self) -> None:
        """Let go of files. Repeatable."""
        self._files.close()

    def _all(self, which: Places | None = None) -> Iterator[MessageFile]:
        for folder in self._files.folders():
            if which is not None and (self.uuid, folder or INBOX) not in which:
                continue
            self._files.look(folder)
            for page in self._files.pages(folder):
                yield from page

    def _origin(self, folder: bytes, account: str) -> Origin:
        mailbox = self._mailbox(folder, self._subscribed())
        return Origin(
            self.uuid, account, mailbox.name, _EPOCH, mailbox.path, mailbox.use, subscribed=mailbox.subscribed
        )

    def _entry(self, file: MessageFile) -> Entry:
        if self._shown[0] != file.folder:
            path = self._mailbox(file.folder, None).path
            self._shown = file.folder, path, _keywords(self.path, file.folder)
        _, path, keywords = self._shown
        flags = _flags(file, self._options.separator, keywords)
        seen = Seen("", path, file.base, flags, _date(file))
        return entry(_id(file.base), file.octets, self._files.read(file), _date(file), places=[seen])

    def _mailbox(self, folder: bytes, subscribed: frozenset[bytes] | None) -> Mailbox:
        """Returns the mailbox of a folder. Without the file of subscriptions, every mailbox is subscribed to."""
        name, layout = os.fsdecode(folder), self._options.layout
        path, use = path_of(name, layout), ""
        if folder:
            path, use = notes.facts_of(_note(self.path, folder, notes.FACTS)) or (path, use)
        known = subscribed is None or subscribed_name(name, layout) in subscribed
        return Mailbox(folder or INBOX, path, use, subscribed=known)

    def _subscribed(self) -> frozenset[bytes] | None:
        return notes.subscriptions(_note(self.path, b"", notes.SUBSCRIPTIONS))

    def _body(self, file: MessageFile, spool: Path) -> Body:
        """Returns the octets of a file. Raises FormatDamaged for this file, StorageError for the spool."""
        writer = BodyWriter(spool)
        chunks = self._files.read(file)
        try:
            while (chunk := _next(chunks)) is not None:
                writer.write(chunk)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


class MaildirMailbox:
    """One folder (`formats.view.MailboxView`)."""

    def __init__(self, root: Path, files: MaildirFiles, folder: bytes, options: Options) -> None:
        self._root = root
        self._files = files
        self._folder = folder
        self._options = options
        self._looked = False
        self._keywords = _keywords(root, folder)

    def rows(self) -> Iterator[list[Listed]]:
        """Every file, oldest first; the octets are the file's, without the CRs that are given with it."""
        self._look()
        number = 1
        for page in self._files.pages(self._folder):
            yield [Listed(LineNumber(n), Uid(file.base), file.octets) for n, file in enumerate(page, number)]
            number += len(page)

    def totals(self) -> Totals:
        """Returns files and their octets."""
        if not self._looked:
            self._look()
        return Totals(*self._files.totals(self._folder))

    def find(self, wanted: Wanted) -> Found | None:
        """Returns a file of the last listing; reading it finds it under another name too."""
        file = self._files.find(self._folder, wanted.uid)
        if file is None:
            return None
        flags = _flags(file, self._options.separator, self._keywords)
        return Found(self._octets(file), None, flags, _date(file))

    @property
    def looks(self) -> int:
        """How often a folder was looked into."""
        return self._files.looks

    def _look(self) -> None:
        self._files.look(self._folder)
        self._keywords = _keywords(self._root, self._folder)
        self._looked = True

    def _octets(self, file: MessageFile) -> Iterator[bytes]:
        """The message as it travels. The whole file is looked at before its first octet is given."""
        if not self._options.lf or any(b"\r" in chunk for chunk in self._files.read(file)):
            yield from self._files.read(file)
        else:
            yield from to_crlf(self._files.read(file))


def _keywords(root: Path, folder: bytes) -> dict[str, str]:
    return notes.keywords(_note(root, folder, notes.KEYWORDS) or b"")


def _note(root: Path, folder: bytes, name: str) -> bytes | None:
    """Returns a file beside the messages; None where there is none, or nothing that can be read."""
    try:
        with Folder(root, os.fsdecode(folder), parts=()) as opened:
            return notes.read(opened, name)
    except OSError:
        return None


def _flags(file: MessageFile, separator: str, keywords: dict[str, str]) -> Flags:
    return names.flags_of(os.fsdecode(file.name), separator, keywords)


def _date(file: MessageFile) -> datetime | None:
    """Returns the file's date; None where it is beyond what a calendar has."""
    try:
        return datetime.fromtimestamp(file.mtime, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _id(name: bytes) -> str:
    """Returns what a message is called in a list; `name` is the lasting part of its file's."""
    base = os.fsdecode(name)
    return names.stem_of(base) or base


def _key(file: MessageFile) -> bytes:
    """Returns what names a message in a search index: its folder, and what readers do not change of its name."""
    return file.folder + b"/" + file.base


def _next(chunks: Iterator[bytes]) -> bytes | None:
    """Returns the next chunk, None at the end. Raises FormatDamaged where the file cannot be read."""
    try:
        return next(chunks, None)
    except FormatDamaged:
        raise
    except StorageError as error:
        raise FormatDamaged(str(error)) from error
