"""Writing stored messages where other programs read them: mbox files, Maildirs, or one file a message.

    mbox      PATH/<account>/<mailbox>.mbox            mboxrd quoting, LF where every line end is CRLF
    maildir   PATH/<account>/{tmp,new,cur}, .Mailbox/  Maildir++, with flags and keywords
    eml       PATH/<account>/<mailbox>/000001.eml      the octets as they are; flags and labels in PATH/messages.jsonl

Mailboxes are told apart by account and path, and those without messages are written too. Names of files are made of
account names, paths (`export_names`) and numbers. Dates become `From ` lines or the files' times. All of it comes to
PATH when it is complete and on disk (`export_place`).

Octets are not touched. An mbox has no flags, unless they are asked for: then each message with flags begins with a
`Status` and perhaps an `X-Status` field, as mail readers keep flags.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import IO, Protocol
from uuid import UUID, uuid4

from syncd.destinations.maildir import MaildirArchive
from syncd.durable import make_directories, sync_directory
from syncd.errors import StorageError
from syncd.formats import mboxrd
from syncd.formats.line_ends import all_crlf
from syncd.formats.maildir import names as maildir
from syncd.formats.view import Stored
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Key, Message, Origin, Uid
from syncd.mail.outcome import Outcome, Verdict
from syncd.services.export_names import Names
from syncd.services.export_place import place, sync_file

BATCH_MESSAGES, BATCH_OCTETS = 1_000, 8 << 20  # what is made durable together
THREADS = 8  # whose fsyncs share the journal's commits
_LIST = "messages.jsonl"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ExportFormat(StrEnum):
    """The kinds of files that are written."""

    MBOX = "mbox"
    MAILDIR = "maildir"
    EML = "eml"


@dataclass(slots=True)
class Exported:
    """Counts of what was written; `octets` are those of the messages."""

    messages: int = 0
    octets: int = 0
    mailboxes: int = 0
    renamed: int = 0  # messages of a Maildir whose place (and so their file's name) another message had, too
    unflagged: int = 0  # messages of an mbox with flags or keywords that were not written


def export(
    messages: Iterable[Stored],
    path: Path,
    form: ExportFormat,
    progress: Callable[[Exported], None] | None = None,
    *,
    mailboxes: Iterable[Origin] = (),
    status: bool = False,
) -> Exported:
    """Write all of them below `path`, which must be new or an empty folder. Memory: one batch.

    `mailboxes` are written even if they have no messages. With `status=True` an mbox has flags.

    Raises UsageError where something is in `path`, StorageError when the disk fails. What was written until then stays
    in a folder that the next export into `path` removes. All is on disk when this returns.
    """
    done = Exported()
    boxes: set[tuple[UUID, MailboxPath]] = set()
    with place(path) as files, closing(_writer(form, files, status=status)) as writer:
        for origin in mailboxes:
            boxes.add((origin.account, origin.path))
            writer.begin(origin)
        done.mailboxes = len(boxes)
        for stored in messages:
            boxes.add((stored.ref.origin.account, stored.ref.origin.path))
            done.messages, done.octets, done.mailboxes = done.messages + 1, done.octets + stored.body.octets, len(boxes)
            writer.add(stored)
            if progress is not None:
                progress(done)
        writer.finish()
        done.renamed, done.unflagged = writer.renamed, writer.unflagged
    return done


def _writer(form: ExportFormat, path: Path, *, status: bool) -> _Writer:
    match form:
        case ExportFormat.MBOX:
            return _Mbox(path, status=status)
        case ExportFormat.MAILDIR:
            return _Maildir(path)
        case ExportFormat.EML:
            return _Eml(path)


class _Writer(Protocol):
    """`begin` makes a mailbox, `add` takes a body over, `close` comes in any case.

    `finish` comes after the last message: all is on disk then.
    """

    renamed: int
    unflagged: int

    def begin(self, origin: Origin) -> None: ...

    def add(self, stored: Stored) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class _Mbox:
    """One file a mailbox, one of them open at a time."""

    renamed = 0

    def __init__(self, path: Path, *, status: bool) -> None:
        self._names = Names(path)
        self._status = status
        self.unflagged = 0
        self._made: set[Path] = set()
        self._open: tuple[Path, IO[bytes]] | None = None

    def begin(self, origin: Origin) -> None:
        path = self._names.mailbox(origin)
        self._file(path.with_name(path.name + ".mbox"))

    def add(self, stored: Stored) -> None:
        path = self._names.mailbox(stored.ref.origin)
        file = self._file(path.with_name(path.name + ".mbox"))
        with closing(stored.body) as body:
            file.write(mboxrd.from_line(stored.date or 0.0))
            self.unflagged += bool(mboxrd.beyond_status(stored.flags) if self._status else stored.flags)
            if self._status:
                file.write(mboxrd.status_fields(stored.flags))
            last = b""
            for piece in mboxrd.encode_stream(body.chunks(), crlf=all_crlf(body.chunks())):
                file.write(piece)
                last = piece or last
            file.write(mboxrd.separator(last))

    def _file(self, path: Path) -> IO[bytes]:
        if self._open is None or self._open[0] != path:
            self.close()
            again = path in self._made
            if not again:
                make_directories(path.parent)
                self._made.add(path)
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC if again else _NEW_FILE
            self._open = path, os.fdopen(os.open(path, flags, 0o600), "ab")
        return self._open[1]

    def finish(self) -> None:
        """Make all files durable."""
        self.close()
        _sync(self._made)
        for folder in {path.parent for path in self._made}:
            sync_directory(folder)

    def close(self) -> None:
        if self._open is not None:
            (_, file), self._open = self._open, None
            file.close()


class _Eml:
    """One file a message, and a line about each in `messages.jsonl`."""

    renamed = unflagged = 0

    def __init__(self, path: Path) -> None:
        self._names = Names(path)
        self._path = path
        self._numbers: dict[Path, int] = {}
        self._new: list[Path] = []  # that are not yet durable
        self._list: IO[bytes] | None = None

    def begin(self, origin: Origin) -> None:
        folder = self._names.mailbox(origin)
        if folder not in self._numbers:
            make_directories(folder)
            self._numbers[folder] = 0

    def add(self, stored: Stored) -> None:
        self.begin(stored.ref.origin)
        folder = self._names.mailbox(stored.ref.origin)
        number = self._numbers[folder] = self._numbers[folder] + 1
        path = folder / f"{number:06d}.eml"
        with closing(stored.body) as body, os.fdopen(os.open(path, _NEW_FILE, 0o600), "wb") as file:
            file.writelines(body.chunks())
            file.flush()
            if stored.date is not None:
                when = maildir.file_time(stored.date)
                os.utime(file.fileno(), (when, when))
        self._note(path, stored)
        self._new.append(path)
        if len(self._new) == BATCH_MESSAGES:
            self._sync()

    def _note(self, path: Path, stored: Stored) -> None:
        if self._list is None:
            self._list = os.fdopen(os.open(self._path / _LIST, _NEW_FILE, 0o600), "wb")
        origin = stored.ref.origin
        line = {
            "file": str(path.relative_to(self._path)),
            "account": str(origin.account),
            "mailbox": "/".join(origin.path),
            "path": origin.path,
            "flags": stored.flags,
            "labels": stored.labels,
            "date": None if stored.date is None else stored.date.isoformat(),
            "sha256": stored.body.sha256.hex(),
        }
        self._list.write(json.dumps(line).encode() + b"\n")

    def _sync(self) -> None:
        new, self._new = self._new, []
        _sync(new)

    def finish(self) -> None:
        if self._list is not None:
            self._list.flush()
            self._new.append(self._path / _LIST)
        self._sync()
        for folder in self._numbers:
            sync_directory(folder)

    def close(self) -> None:
        if self._list is not None:
            self._list.close()


class _Maildir:
    """A Maildir for each account: an archive like any other, filled in batches."""

    unflagged = 0

    def __init__(self, path: Path) -> None:
        self._names = Names(path)
        self._archives: dict[UUID, MaildirArchive] = {}
        self.renamed = 0
        self._batch: list[Message] = []
        self._octets = 0

    def begin(self, origin: Origin) -> None:
        self._archive(origin).note_mailboxes([origin])

    def add(self, stored: Stored) -> None:
        if self._batch and self._batch[0].ref.origin.account != stored.ref.origin.account:
            self.finish()
        ref, flags, date, body, labels = stored
        self._batch.append(Message(Key(len(self._batch)), ref, body, flags, date, ref.origin.path, labels))
        self._octets += stored.body.octets
        if len(self._batch) == BATCH_MESSAGES or self._octets >= BATCH_OCTETS:
            self.finish()

    def finish(self) -> None:
        """Deliver what waits."""
        if self._batch:
            again = [_renamed(self._batch[outcome.key]) for outcome in self._refused(self._batch)]
            self.renamed += len(again)
            for outcome in self._refused(again):
                raise StorageError(f"a message could not be exported: {outcome.reason}")
            self._drop()

    def _refused(self, messages: list[Message]) -> list[Outcome]:
        """Deliver; return the outcomes of messages that cannot be written because other octets have their name."""
        outcomes = chain.from_iterable(self._archive(messages[0].ref.origin).deliver(messages)) if messages else ()
        return [outcome for outcome in outcomes if outcome.verdict is not Verdict.DELIVERED]

    def _archive(self, origin: Origin) -> MaildirArchive:
        archive = self._archives.get(origin.account)
        if archive is None:
            archive = self._archives[origin.account] = MaildirArchive(self._names.account(origin))
            archive.create(uuid4())
            archive.open()
        return archive

    def _drop(self) -> None:
        for message in self._batch:
            message.body.close()
        self._batch, self._octets = [], 0

    def close(self) -> None:
        self._drop()
        for archive in self._archives.values():
            archive.close()


def _renamed(message: Message) -> Message:
    """Returns the message with a name that follows from its octets, too: other mail was seen at its place as well."""
    return replace(message, ref=message.ref._replace(uid=Uid(message.ref.uid + message.body.sha256)))


def _sync(paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="export") as pool:
        list(pool.map(sync_file, paths))
