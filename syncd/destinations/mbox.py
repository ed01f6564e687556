"""The mbox archive: one file a mailbox (mboxrd), for any mail program to open.

Repeat-safe: the journal knows which message lies where, so delivering it again finds it, and changes nothing. A batch
is added at the end of a file under its dot-lock and fcntl lock, and what a crash leaves of it is cut back.

    ROOT/.syncd-archive.json   which archive this is
    ROOT/.syncd-mbox.sqlite    its journal (`formats/mbox/journal.py`)
    ROOT/.syncd-lock           flock(2) for each batch
    ROOT/INBOX.mbox, ROOT/Work.mbox, ROOT/Work/2019.mbox

Octets come back exactly, whatever they are (`formats/mbox/fields.py`), until another program rewrites a message.

What an mbox cannot do: it does not know where its messages came from, so it has no `places` to seed a ledger from;
without a ledger everything is fetched again, and found to be there. Flags that are not one printable word are lost,
and dates lose their offset and what is below a second. Without the journal a message that comes again is there twice.

A message's path (`Message.path`) decides its file. Looking into an archive is `formats/mbox/view.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd.destinations.mbox_batch import FileBatch, make_file, take_up
from syncd.durable import make_directories
from syncd.errors import ArchiveMissing, StateError, StorageError, making_error, storage_error
from syncd.formats import writer_lock
from syncd.formats.identity import Identity, write_identity
from syncd.formats.mbox.home import (
    FORMAT,
    IDENTITY_FILE,
    JOURNAL_FILE,
    VERSION,
    MboxHome,
    file_of,
    read_home,
)
from syncd.formats.mbox.journal import Facts, Journal
from syncd.formats.mbox.lookup import Lookup
from syncd.formats.probe import probe
from syncd.formats.regular import open_regular
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Message, MessageRef, Origin, Receipt, StoredMessage
from syncd.mail.outcome import Outcome, Place, Repeat

_log: Final = logging.getLogger(__name__)


class MboxArchive:
    """An archive of mbox files. One thread delivers; who reads meanwhile has an object of his own."""

    repeat = Repeat.SAFE

    def __init__(self, path: Path, name: str = "", *, spool: Path | None = None, expected: UUID | None = None) -> None:
        """`name` is for people. `spool` takes large messages that are read back (the archive's folder if not given)."""
        self.path = path
        self._title = f'the mbox archive "{name}" ({path})' if name else f"the mbox archive {path}"
        self._spool = spool or path
        self._expected = expected
        self._journal: Journal | None = None
        self._lookup: Lookup | None = None
        self._facts: dict[bytes, Facts] | None = None  # what the journal says of each file's mailbox
        self._minds_case = True

    def create(self, uuid: UUID) -> None:
        """Make an empty archive with this identity, of a new folder or one that is there; what is in it stays.

        Raises StorageError, also where an archive is there.
        """
        if (self.path / IDENTITY_FILE).exists():
            raise StorageError(f"{self._title} is there already; nothing was changed")
        try:
            make_directories(self.path)
            Journal(self.path / JOURNAL_FILE).close()
            write_identity(self.path / IDENTITY_FILE, Identity(uuid, FORMAT, VERSION))
        except OSError as error:
            raise making_error(error, f"cannot make {self._title}") from error

    def identity(self) -> UUID:
        """Returns the UUID in the archive's own file. Raises ArchiveMissing, FormatDamaged."""
        return self._home().uuid

    def recognise(self) -> None:
        """See that it is the archive we know. Raises ArchiveMissing, FormatDamaged, StorageError."""
        self._home()

    def open(self) -> None:
        """Check that it is the archive we know, which it then has to stay, and what its file system can do.

        Raises ArchiveMissing, FormatDamaged, Unusable, StorageError.
        """
        self.close()
        home = self._home()
        self._minds_case = probe(self.path, file_of(("x",))).cases
        self._journal = Journal(self.path / JOURNAL_FILE)
        self._lookup = Lookup(home)
        self._expected = home.uuid

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        """Store the batch; the outcomes come together, after one fsync of each file. Each is DELIVERED.

        Raises StorageError after the outcomes that are known; ArchiveMissing or Locked before any.
        """
        outcomes: list[Outcome] = []
        try:
            with self._locked() as (home, journal, lookup):
                for name, messages in _by_file(batch):
                    origins = [message.ref.origin._replace(path=message.path) for message in messages]
                    self._record(home, journal, [(name, origin) for origin in origins])
                    outcomes += FileBatch(home, name, journal, lookup).run(messages)
        except (OSError, StorageError) as error:
            if outcomes:
                yield outcomes
            if isinstance(error, StorageError):
                raise
            raise storage_error(error, f"cannot write to {self._title}") from error
        yield outcomes

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        """Make files for mailboxes (`Recording`). Raises as `deliver`."""
        try:
            with self._locked() as (home, journal, _):
                self._record(home, journal, [(file_of(origin.path), origin) for origin in origins])
        except OSError as error:
            raise storage_error(error, f"cannot write to {self._title}") from error

    def mailbox_key(self, path: MailboxPath) -> str:
        """Returns the name of a mailbox's file, as the file system tells it from others (`Filing`)."""
        name = file_of(path)
        return name if self._minds_case else name.lower()

    def close(self) -> None:
        """Let go of files. Repeatable; `open` makes it usable again."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None
        self._facts = None

    def read(self, receipt: Receipt, ref: MessageRef | None = None) -> StoredMessage:  # noqa: ARG002  the contract's
        """Returns the message as it was delivered, with the flags that its notes tell now and its date.

        It is found wherever a mail program moved it within its file.
        """
        if self._lookup is None:
            self._lookup = Lookup(self._home())
        self._home()
        return self._lookup.read(receipt, self._spool)

    def places(self, account: UUID) -> Iterator[Place]:  # noqa: ARG002  the contract's
        """Yields nothing: the journal has hashes of places, which do not give them back."""
        return iter(())

    def _home(self) -> MboxHome:
        identity = read_home(self.path)
        if self._expected not in {None, identity.uuid}:
            raise ArchiveMissing(
                f"{self._title} is another one ({identity.uuid}) than before ({self._expected}): "
                "mount the right disk, or correct the path of the archive"
            )
        return MboxHome(self.path, self.path, "", identity)

    @contextmanager
    def _locked(self) -> Iterator[tuple[MboxHome, Journal, Lookup]]:
        """Lock the archive for a batch, and take up what a crash left."""
        if self._journal is None or self._lookup is None:
            raise StateError(f"{self._title} is not open for writing")
        home = self._home()
        descriptor = open_regular(self.path / writer_lock.LOCK_FILE, os.O_RDWR | os.O_CREAT)
        try:
            writer_lock.take(descriptor, self._title)
            cut = take_up(home, self._journal, self._lookup)
            if cut:
                _log.info("mbox cut back", extra={"archive": str(self.path), "octets": cut})
            yield home, self._journal, self._lookup
        finally:
            os.close(descriptor)

    def _record(self, home: MboxHome, journal: Journal, mailboxes: Sequence[tuple[str, Origin]]) -> None:
        """Make the files of mailboxes, and record what their names do not tell. The first path and use count."""
        if self._facts is None:
            self._facts = journal.mailboxes()
        noted: dict[bytes, Facts] = {}
        for name, origin in mailboxes:
            file = os.fsencode(name)
            known = noted.get(file) or self._facts.get(file)
            if not os.path.lexists(home.root / name):
                make_file(home, name)
            if known is None:
                noted[file] = Facts(origin.path, origin.use, origin.subscribed)
            elif origin.use and not known.use:
                noted[file] = known._replace(use=origin.use)
        if noted:
            journal.note_mailboxes(list(noted.items()))
            self._facts.update(noted)


def _by_file(batch: Sequence[Message]) -> Iterator[tuple[str, list[Message]]]:
    """The batch by file, one after the other."""
    files = {path: file_of(path) for path in {message.path for message in batch}}

    def file(message: Message) -> str:
        return files[message.path]

    for name, messages in groupby(sorted(batch, key=file), file):
        yield name, list(messages)
