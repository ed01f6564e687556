"""A Maildir archive as a source: every file in `new` and `cur` of every folder, whoever put it there.

A message is the part of its file's name that readers leave alone (before ":2,"), with the folder before it: ".Sent/…",
nothing for INBOX. Its flags are those of the name, its date is the file's.

Files have LF line ends, as mail readers expect: a file without any CR is given with CRLF, as mail travels (RFC 5322
§2.1), every other file as it is. So all that syncd filed comes back as it was received, except mail that came
with bare LF throughout; with `line_ends = "verbatim"` every file is given as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from syncd.errors import ArchiveMissing
from syncd.formats.line_ends import to_crlf
from syncd.formats.maildir import names as maildir
from syncd.formats.maildir.files import MaildirFiles, MessageFile
from syncd.formats.maildir.home import options, read_home
from syncd.mail.body import header_hash
from syncd.sources.archive import ArchiveSource, Found
from syncd.sources.base import Listed, Totals, Wanted


class MaildirSource(ArchiveSource):
    """The archive at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, MaildirHoldings)


class MaildirHoldings:
    """What the folders hold (`sources.archive.Holdings`)."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        self.path = path
        identity = read_home(path)
        self._uuid = identity.uuid
        self._lf, self._separator = options(identity)
        self._files = MaildirFiles(path, self._separator)
        self._looked = False

    def rows(self) -> Iterator[list[Listed]]:
        """Every file; the octets are the file's, without the CRs that are given with it."""
        self._look()
        number = 1
        for page in self._files.pages():
            yield [Listed(n, _uid(file), file.octets) for n, file in enumerate(page, number)]
            number += len(page)

    def totals(self) -> Totals:
        """Files and their octets."""
        if not self._looked:
            self._look()
        return Totals(*self._files.totals())

    def find(self, one: Wanted) -> Found | None:
        """A file of the last listing; reading it finds it under another name too."""
        file = self._file(one)
        if file is None:
            return None
        flags = maildir.flags_of(os.fsdecode(file.name), self._separator)
        return Found(self._octets(file), None, flags, datetime.fromtimestamp(file.mtime, UTC))

    def header_hash(self, one: Wanted) -> bytes | None:
        """Of the octets as they are given."""
        file = self._file(one)
        return None if file is None else header_hash(next(self._octets(file), b""))

    def verify(self) -> None:
        """See that the archive is still at its path. Raises ArchiveMissing, FormatDamaged, StorageError."""
        found = read_home(self.path).uuid
        if found != self._uuid:
            raise ArchiveMissing(f"{self.path} is another archive ({found}) than before ({self._uuid}); run again")

    def close(self) -> None:
        """Let go of files. Repeatable."""
        self._files.close()

    def _look(self) -> None:
        self._files.look()
        self._looked = True

    def _file(self, one: Wanted) -> MessageFile | None:
        folder, _, base = one.uid.rpartition(b"/")
        return self._files.find(folder, base)

    def _octets(self, file: MessageFile) -> Iterator[bytes]:
        """The message as it travels; a file is looked through before the first octet is given. Raises StorageError."""
        if not self._lf or any(b"\r" in chunk for chunk in self._files.read(file)):
            yield from self._files.read(file)
        else:
            yield from to_crlf(self._files.read(file))


def _uid(file: MessageFile) -> bytes:
    return file.folder + b"/" + file.base if file.folder else file.base
