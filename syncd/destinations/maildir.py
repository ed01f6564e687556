"""The Maildir archive: one file a message, for any mail reader to open.

Repeat-safe: a message's name follows from its identity, so delivering it again finds the file, in `new` or
`cur` and whatever flags a reader gave it, compares the octets, and changes nothing.

    ROOT/.syncd-archive.json   which archive this is; separator, line ends and layout it was made with
    ROOT/.syncd-lock           flock(2) for each batch; contains the name of the last writer
    ROOT/{tmp,new,cur}, ROOT/.Mailbox/{tmp,new,cur}; or ROOT/Mailbox/{tmp,new,cur} (`formats/maildir/layout.py`)

Line ends: a message whose every line ends in CRLF is kept with LF, as mail readers expect; any other is kept as
it is. Which of the two a file is follows from the SHA-256 of the receipt, so the octets come back exactly.
With `verbatim` (in the configuration: `line_ends = "verbatim"`) every message is kept as it is.

What a Maildir cannot do: it does not know where its messages came from (names are hashes), so it has no
`places` to seed a ledger from; without a ledger everything is fetched again, and found to be there. A mailbox
keeps 26 keywords, and dates are the files' (1970 to 2038), without their offset.

The file system must lock files, make names durable and take names with the separator; `open` tries that. Hard links
are used where there are any.

A message's path (`Message.path`) decides its folder. Looking into an archive is `formats/maildir/view.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from uuid import UUID

from syncd.destinations.maildir_batch import THREADS, FolderBatch
from syncd.destinations.maildir_mailboxes import MailboxNotes
from syncd.durable import make_directories
from syncd.errors import ArchiveMissing, ConfigError, StorageError, making_error, storage_error
from syncd.formats import writer_lock
from syncd.formats.identity import Identity, write_identity
from syncd.formats.maildir import lookup, notes
from syncd.formats.maildir import names as maildir
from syncd.formats.maildir.folder import TMP_PREFIX, Folder, make_folder
from syncd.formats.maildir.home import DEFAULTS, FORMAT, IDENTITY_FILE, VERSION, options, read_home
from syncd.formats.maildir.layout import Layout
from syncd.formats.maildir.layout import folder as folder_of
from syncd.formats.maildir.stems import StemSet
from syncd.formats.probe import probe
from syncd.formats.regular import NotRegular, open_regular
from syncd.formats.writer_lock import LOCK_FILE
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Message, MessageRef, Origin, Receipt, StoredMessage
from syncd.mail.outcome import Outcome, Place, Repeat


class MaildirArchive:
    """An archive in a Maildir layout. One thread delivers; `read` may be called from another."""

    repeat = Repeat.SAFE

    def __init__(
        self,
        path: Path,
        name: str = "",
        *,
        spool: Path | None = None,
        expected: UUID | None = None,
        verbatim: bool | None = None,
        separator: str | None = None,
        layout: Layout | None = None,
    ) -> None:
        """`name` is for people. `spool` takes large messages that are read back (the archive's `tmp` if not given).

        `verbatim`, `separator` and `layout` are for `create`; `deliver` does not go on where they are given and differ.
        """
        self.path = path
        self._title = f'the Maildir archive "{name}" ({path})' if name else f"the Maildir archive {path}"
        self._spool = spool or path / "tmp"
        self._expected = expected
        self._wished = {
            "line_ends": None if verbatim is None else "verbatim" if verbatim else "lf",
            "separator": separator,
            "layout": layout,
        }
        self._writer = os.urandom(8).hex()  # our name in the lock file, and in those we make in tmp
        self._known: dict[str, StemSet] = {}  # by folder: its messages; only folders that were looked at
        self._pool: ThreadPoolExecutor | None = None
        self._minds_case = True
        self._layout = layout or Layout.PLUS_PLUS
        self._mailboxes = MailboxNotes(path, self._layout)

    def create(self, uuid: UUID) -> None:
        """Make an empty archive with this identity, of a new folder or one that is there; what is in it stays.

        Raises StorageError, also where an archive is there.
        """
        if (self.path / IDENTITY_FILE).exists():
            raise StorageError(f"{self._title} is there already; nothing was changed")
        wished = {key: wish or DEFAULTS[key] for key, wish in self._wished.items()}
        identity = Identity(uuid, FORMAT, VERSION, wished)
        try:
            make_directories(self.path)
            make_folder(self.path)
            MailboxNotes(self.path, Layout(wished["layout"])).begin()
            write_identity(self.path / IDENTITY_FILE, identity)
        except OSError as error:
            raise making_error(error, f"cannot make {self._title}") from error

    def identity(self) -> UUID:
        """Returns the UUID in the archive's own file.

        Raises ArchiveMissing, FormatDamaged, ConfigError (the archive was made with other options).
        """
        identity = self._identity()
        self._agree(identity)
        return identity.uuid

    def recognise(self) -> None:
        """See that it is the archive we know. Raises ArchiveMissing, FormatDamaged, StorageError."""
        self._identity()

    def open(self) -> None:
        """Check that it is the archive we know, which it then has to stay, and what its file system can do.

        Raises ArchiveMissing, FormatDamaged, Unusable, StorageError.
        """
        identity = self._identity()
        made = options(identity)
        self._layout = made.layout
        self._mailboxes = MailboxNotes(self.path, made.layout)
        self._minds_case = probe(self.path, f"{made.separator}2,").cases
        self._expected = identity.uuid
        self._pool = self._pool or ThreadPoolExecutor(THREADS, thread_name_prefix="maildir")

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        """File the batch; the outcomes come together, after one fsync of each directory that was touched.

        DELIVERED: durable, or was there already. REJECTED: other octets are there under this message's name.
        Raises StorageError after the outcomes that are known; ArchiveMissing, ConfigError or Locked before any.
        """
        outcomes: list[Outcome] = []
        try:
            with self._locked() as identity:
                for folder, messages in self._by_folder(batch):
                    failure = self._file(identity, folder, messages, outcomes)
                    if failure:
                        raise failure
        except OSError as error:
            if outcomes:
                yield outcomes
            raise storage_error(error, f"cannot write to {self._title}") from error
        yield outcomes

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        """Make folders for mailboxes, with what their names do not tell (`Recording`). Raises as `deliver`."""
        assert self._pool is not None, "the archive is not open"
        folders: dict[str, list[Origin]] = {}
        for origin in origins:
            folders.setdefault(folder_of(origin.path, self._layout), []).append(origin)
        try:
            with self._locked():
                self._mailboxes.subscribe((name, origin) for name, some in folders.items() for origin in some)
                list(self._pool.map(self._make, folders.keys(), folders.values()))  # fsyncs share the journal's commits
        except OSError as error:
            raise storage_error(error, f"cannot write to {self._title}") from error

    def mailbox_key(self, path: MailboxPath) -> str:
        """Returns the name of a mailbox's folder, as the file system tells it from others (`Filing`)."""
        name = folder_of(path, self._layout)
        return name if self._minds_case else name.lower()

    def close(self) -> None:
        """End the threads. Repeatable; `open` makes it usable again."""
        if self._pool:
            self._pool.shutdown()
            self._pool = None
        self._forget()

    def read(self, receipt: Receipt, ref: MessageRef | None = None) -> StoredMessage:  # noqa: ARG002  the contract's
        """Returns the message as it was delivered, with the flags of its file's name now and the file's date.

        It is found wherever a reader moved the file within its mailbox.
        """
        return lookup.read(self.path, self._identity(), receipt, self._spool)

    def places(self, account: UUID) -> Iterator[Place]:  # noqa: ARG002  the contract's
        """Yields nothing: a file's name is a hash of the place and does not give it back."""
        return iter(())

    def _identity(self) -> Identity:
        identity = read_home(self.path)
        if self._expected not in {None, identity.uuid}:
            raise ArchiveMissing(
                f"{self._title} is another one ({identity.uuid}) than before ({self._expected}): "
                "mount the right disk, or correct the path of the archive"
            )
        return identity

    def _agree(self, identity: Identity) -> None:
        """Raise ConfigError if the archive was made with other options than are wished for now."""
        for key, wished in self._wished.items():
            if wished not in {None, identity.options[key]}:
                raise ConfigError(f'{self._title} has {key} = "{identity.options[key]}": set that, or make another one')

    @contextmanager
    def _locked(self) -> Iterator[Identity]:
        """Lock the archive for a batch; forget what we knew if another writer wrote since."""
        identity = self._identity()
        self._agree(identity)
        descriptor = self._lock_file()
        try:
            writer_lock.take(descriptor, self._title)
            if os.pread(descriptor, len(self._writer), 0) != self._writer.encode():
                self._forget()
                os.pwrite(descriptor, self._writer.encode(), 0)
            yield identity
        finally:
            os.close(descriptor)

    def _lock_file(self) -> int:
        try:
            return open_regular(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        except NotRegular as error:
            raise storage_error(error, f"cannot lock {self._title} with {LOCK_FILE}") from error

    def _file(
        self, identity: Identity, name: str, messages: Sequence[Message], outcomes: list[Outcome]
    ) -> OSError | None:
        """File the messages of one folder, add their outcomes, give the error that stopped it."""
        assert self._pool is not None, "the archive is not open"
        places = {(id(message.ref.origin), message.path): message.ref.origin for message in messages}  # one, mostly
        origins = [origin._replace(path=path) for (_, path), origin in places.items()]
        if name not in self._known:
            self._mailboxes.subscribe((name, origin) for origin in origins)
        self._make(name, origins)
        with Folder(self.path, name) as folder:
            letters = _letters(folder, messages)
            batch = FolderBatch(folder, self._known[name], self._pool, options(identity), letters)
            hint_prefix = f"{name}/" if name else ""
            outcomes += batch.run(messages, tmp_prefix=f"{TMP_PREFIX}{self._writer}.", hint_prefix=hint_prefix)
        return batch.failure

    def _make(self, name: str, origins: Sequence[Origin]) -> None:
        """Make a folder and look at what is in it, unless that was done; record what is new about its mailbox."""
        if name not in self._known:
            make_folder(self.path, name)
            with Folder(self.path, name) as folder:
                self._known[name] = _take_stock(folder)
        self._mailboxes.record(name, origins)

    def _forget(self) -> None:
        self._known.clear()
        self._mailboxes.forget()

    def _by_folder(self, batch: Sequence[Message]) -> Iterator[tuple[str, list[Message]]]:
        """The batch by folder, one after the other: each has descriptors, and a batch may name a thousand mailboxes."""
        folders = {path: folder_of(path, self._layout) for path in {message.path for message in batch}}

        def folder(message: Message) -> str:
            return folders[message.path]

        ordered = batch if len(folders) == 1 else sorted(batch, key=folder)
        for name, messages in groupby(ordered, folder):
            yield name, list(messages)


def _letters(folder: Folder, messages: Sequence[Message]) -> dict[str, str]:
    """Returns the letters of keywords in a folder, with new ones for those that the messages have, durably."""
    flags = {flag for message in messages for flag in message.flags}
    known = notes.letters(notes.read(folder, notes.KEYWORDS) or b"") if flags else {}
    if not notes.is_lacking(known, flags):
        return known
    wanted = sorted(flags)
    return notes.letters(notes.change(folder, notes.KEYWORDS, lambda now: notes.with_keywords(now or b"", wanted)))


def _take_stock(folder: Folder) -> StemSet:
    """Clear away what a crash left in tmp, and return a set of every message that is there."""
    folder.sweep()
    known = StemSet()
    for name in folder.names():
        if stem := maildir.stem_of(name[4:]):
            known.add(stem)
    return known
