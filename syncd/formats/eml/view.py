"""A folder of eml files as a view (`formats.view.ArchiveView`): folders are mailboxes, files messages (`folder`).

A message's uid is the name of its file. Its flags, labels and date are those of `messages.jsonl`, where that has the
file. Otherwise it has no flags, and its date is that of the Date field, else of the top Received field, else of the
file, which often tells when it was copied or unpacked.

A file without any CR is given with CRLF, as mail travels (RFC 5322 §2.1), every other file as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd.errors import ArchiveMissing, FormatDamaged, StorageError
from syncd.formats.eml.folder import FORMAT, NOTES, PAGE, EmlFile, EmlFolder, find_uuid
from syncd.formats.line_ends import to_crlf
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
    start_of,
)
from syncd.mail import headers
from syncd.mail.body import Body, BodyWriter
from syncd.mail.listing import LineNumber, Listed, Totals, Wanted
from syncd.mail.mailbox import INBOX, Epoch, Mailbox, Unread
from syncd.mail.message import MessageRef, Origin, Uid

_EPOCH: Final = Epoch(1)  # of places: the epoch of the source is not known here


class EmlView:
    """The folder at `path`."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveMissing, StorageError."""
        self.path = path
        self.uuid: UUID = find_uuid(path)
        self._folder = EmlFolder(path)

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The places that could not be read when the folders were listed last."""
        return tuple(it._replace(path=self._folder.path_of(it.name)) for it in self._folder.unread)

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every folder, by name."""
        folders = self._folder.folders()
        for start in range(0, len(folders), PAGE):
            yield [self._mailbox(folder) for folder in folders[start : start + PAGE]]

    def open(self, name: bytes) -> EmlMailbox | None:
        """Open the mailbox of a folder."""
        folder = b"" if name == INBOX else name
        return EmlMailbox(self._folder, folder) if self._folder.has(folder) else None

    def origins(self) -> list[Origin]:
        """Returns every folder, without an account."""
        return [self._origin(folder, "") for folder in self._folder.folders()]

    def entries(self, which: Places | None = None) -> Iterator[Entry]:
        """Every message in every folder."""
        for file in self._all(which):
            yield self._entry(file)

    def find(self, what: str) -> list[Entry]:
        """Returns messages by the start of their file below the folder, or of its name."""
        found = ((_id(file), file) for file in self._all())
        return [self._entry(file) for name, file in found if name.startswith(what) or name.rpartition("/")[2] == what]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets of a file."""
        file = next((file for file in self._all() if _id(file) == entry.id), None)
        if file is None:
            raise FormatDamaged(f"{entry.id} is no longer in {self.path}")
        yield from self._folder.read(file)

    def stored(self, spool: Path, lost: Lost, which: Places | None = None) -> Iterator[Stored]:
        """The octets of the files, at the places that folders and names stand for."""
        for file in self._all(which):
            try:
                body, note = _body(self._folder, file, spool), self._folder.note(file)
            except FormatDamaged as error:
                lost(str(error))
                continue
            origin = self._origin(file.folder, self.path.name)
            date = note.date or _date_of(self._folder, file)
            yield Stored(MessageRef(origin, Uid(file.name), 1), note.flags, date, body, note.labels)

    def figures(self) -> Figures:
        """Returns the folder in figures."""
        messages = octets = 0
        for folder in self._folder.folders():
            self._folder.look(folder)
            more, more_octets = self._folder.totals(folder)
            messages, octets = messages + more, octets + more_octets
        return Figures(FORMAT, messages, octets, octets, messages)

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Read every file."""
        done = 0
        for file in self._all():
            try:
                done += sum(map(len, self._folder.read(file)))
            except StorageError as error:
                yield Finding(str(self._folder.path(file)), None, str(error))
            progress(done, 0)
        yield from (Finding(str(self.path / os.fsdecode(it.name)), None, it.why) for it in self.unread)
        if self._folder.strange:
            what = f"{self._folder.strange:,} lines make no sense: flags and dates of these files are not known"
            yield Finding(str(self.path / NOTES), None, what)

    def missing(self, delivered: Iterable[Delivered]) -> Iterator[Finding]:
        """Yields nothing: no job delivers to a folder of eml files."""
        del delivered
        return iter(())

    def left_out(self) -> Iterator[LeftOut]:
        """Yields what is `unread`; a file that cannot be read is listed."""
        return (LeftOut(it.why, None) for it in self.unread)

    @property
    def search_index(self) -> Path:
        """The path of its search index: a hidden file, which is no message."""
        return self.path / ".syncd-search.sqlite"

    def changes(self, known: Known) -> Iterator[Fresh | Further | Gone | Mark]:
        """Every file that `known` lacks, by folders; then the messages of `known` that are nowhere any more."""
        folders = dict.fromkeys(self._folder.folders())
        for folder in folders:
            self._folder.look(folder)
            origin = self._origin(folder, "")
            for page in self._folder.pages(folder):
                lacking = known.lacking([_key(file) for file in page])
                for file in page:
                    if _key(file) in lacking:
                        yield Fresh(_key(file), file.octets, self._at(file), self._folder.read(file), (origin,))
                yield Mark("")  # there is none: each file is compared with the index
        for key in known.keys():  # noqa: SIM118  not a dict
            folder, _, name = key.rpartition(b"/")
            if folder not in folders or self._folder.find(folder, name) is None:
                yield Gone(key)

    def unindexed(self, _known: Known) -> int | None:
        """Returns None: each folder would have to be looked into."""
        return None

    @staticmethod
    def id_of(key: bytes) -> str:
        """Returns what a list calls the message."""
        return os.fsdecode(key.removeprefix(b"/"))

    def by_key(self, key: bytes) -> Read | None:
        """Returns a message by its folder and file."""
        folder, _, name = key.rpartition(b"/")
        if not may_exist(key) or not self._folder.has(folder):
            return None
        if self._folder.find(folder, name) is None:
            self._folder.look(folder)
        file = self._folder.find(folder, name)
        if file is None:
            return None
        return Read(self._entry(file), lambda: self._folder.read(file), (Kept(folder or INBOX, Uid(file.name)),))

    def verify(self) -> None:
        """See that the folder is still there. Raises ArchiveMissing."""
        if find_uuid(self.path) != self.uuid:
            raise ArchiveMissing(f"{self.path} is another folder than before; run again")

    def close(self) -> None:
        """Let go of files. Repeatable."""
        self._folder.close()

    def _all(self, which: Places | None = None) -> Iterator[EmlFile]:
        for folder in self._folder.folders():
            if which is not None and (self.uuid, folder or INBOX) not in which:
                continue
            self._folder.look(folder)
            for page in self._folder.pages(folder):
                yield from page

    def _mailbox(self, folder: bytes) -> Mailbox:
        return Mailbox(folder or INBOX, self._folder.path_of(folder))

    def _origin(self, folder: bytes, account: str) -> Origin:
        return Origin(self.uuid, account, folder or INBOX, _EPOCH, self._folder.path_of(folder))

    def _entry(self, file: EmlFile) -> Entry:
        note = self._folder.note(file)
        seen = Seen("", self._folder.path_of(file.folder), file.name, note.flags, note.date, note.labels)
        return entry(_id(file), file.octets, self._folder.read(file), self._at(file), places=[seen])

    def _at(self, file: EmlFile) -> datetime | None:
        return self._folder.note(file).date or self._folder.changed(file)


class EmlMailbox:
    """One folder (`formats.view.MailboxView`)."""

    def __init__(self, folder: EmlFolder, name: bytes) -> None:
        self._folder = folder
        self._name = name
        self._looked = False

    def rows(self) -> Iterator[list[Listed]]:
        """Every file by name; the octets are the file's, without the CRs that are given with it."""
        self._look()
        number = 1
        for page in self._folder.pages(self._name):
            yield [Listed(LineNumber(n), Uid(file.name), file.octets) for n, file in enumerate(page, number)]
            number += len(page)

    def totals(self) -> Totals:
        """Returns files and their octets."""
        if not self._looked:
            self._look()
        return Totals(*self._folder.totals(self._name))

    def find(self, wanted: Wanted) -> Found | None:
        """Returns a file of the last listing."""
        file = self._folder.find(self._name, wanted.uid)
        if file is None:
            return None
        note = self._folder.note(file)
        return Found(_octets(self._folder, file), None, note.flags, note.date or self._date(file), note.labels)

    @property
    def looks(self) -> int:
        """Returns 0: nothing moves."""
        return 0

    def _date(self, file: EmlFile) -> datetime | None:
        try:
            return _date_of(self._folder, file)
        except StorageError:
            return None  # reading the message says why

    def _look(self) -> None:
        self._folder.look(self._name)
        self._looked = True


def _octets(folder: EmlFolder, file: EmlFile) -> Iterator[bytes]:
    """The message as it travels. The whole file is looked at before its first octet is given."""
    if any(b"\r" in chunk for chunk in folder.read(file)):
        yield from folder.read(file)
    else:
        yield from to_crlf(folder.read(file))


def _date_of(folder: EmlFolder, file: EmlFile) -> datetime | None:
    said = headers.sent_at(headers.fields(start_of(folder.read(file)), headers.DATED))
    return said or folder.changed(file)


def _key(file: EmlFile) -> bytes:
    """Returns what names a message in a search index."""
    return file.folder + b"/" + file.name


def _id(file: EmlFile) -> str:
    """Returns what the message is called in a list: its file below the folder."""
    name = os.fsdecode(file.name)
    return f"{os.fsdecode(file.folder)}/{name}" if file.folder else name


def _body(folder: EmlFolder, file: EmlFile, spool: Path) -> Body:
    writer = BodyWriter(spool)
    try:
        for chunk in _octets(folder, file):
            writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise
