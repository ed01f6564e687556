"""Mbox files as a view (`formats.view.ArchiveView`): an archive of syncd, another program's folder, or a single file.

A mailbox is a file (`home`), and its name is the file's below the root. A message's uid is a hash of its octets,
without what mail programs note in its header; two equal messages of a mailbox have one uid. Its flags are those notes
(`fields`), its date is that of its `From ` line. For people, octets are those that a message takes in the file. Mbox
files keep no checksums and no accounts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd import clock
from syncd.errors import ArchiveMissing, FormatDamaged, StorageError, storage_error
from syncd.formats.mbox import home, lookup, scan
from syncd.formats.mbox.files import PAGE, Line, MboxFile
from syncd.formats.mbox.home import FORMAT, JOURNAL_FILE, find_home
from syncd.formats.mbox.journal import Facts, Glimpse, read_only
from syncd.formats.mbox.stored import State
from syncd.formats.regular import may_exist, open_regular
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
from syncd.mail.listing import Listed, Totals, Wanted
from syncd.mail.mailbox import Epoch, Mailbox, Unread
from syncd.mail.message import MessageRef, Origin, Receipt, Uid

SETTLED_S: Final = 2.0  # a file changed so lately may change again without another time of change
_EPOCH: Final = Epoch(1)  # of places: the epoch of the source is not known here


class MboxView:
    """What is at `path`."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        self.path = path
        self._home = find_home(path)
        self._glimpse = Glimpse({}, {})
        self._glance()
        self._opened: MboxFile | None = None
        self.unread: tuple[Unread, ...] = ()

    @property
    def uuid(self) -> UUID:
        """The archive's UUID, or the one that stands for its path."""
        return self._home.uuid

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every file, by name."""
        self._glance()
        files = self._files()
        for start in range(0, len(files), PAGE):
            yield [self._mailbox(name) for name in files[start : start + PAGE]]

    def open(self, name: bytes) -> MboxMailbox | None:
        """Open the mailbox of a file."""
        file = os.fsdecode(name)
        if not home.has(self._home, file):
            return None
        return MboxMailbox(self._file(file))

    def origins(self) -> list[Origin]:
        """Returns every mailbox, without an account: an mbox does not say whose a message is."""
        return [self._origin(name, "") for name in self._files()]

    def entries(self, which: Places | None = None) -> Iterator[Entry]:
        """Every message of every file."""
        for name, file, line in self._all(which):
            yield self._entry(name, file, line)

    def find(self, what: str) -> list[Entry]:
        """Returns messages by the start of their uid."""
        start = what.lower().encode("utf-8", "surrogateescape")
        return [self._entry(*found) for found in self._all() if found[2].uid.startswith(start)]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets of a message."""
        for _, file, line in self._all():
            if line.uid.decode("ascii") == entry.id:
                yield from file.read(line)
                return
        raise FormatDamaged(f"the message {entry.id} is no longer in {self.path}")

    def stored(self, spool: Path, lost: Lost, which: Places | None = None) -> Iterator[Stored]:
        """The messages, at the places that files and uids stand for."""
        shown, origin = "", Origin(self.uuid, self.path.name, b"", _EPOCH)
        for name, file, line in self._all(which):
            if shown != name:
                shown, origin = name, self._origin(name, self.path.name)
            try:
                state, body = file.state(line), _body(file, line, spool)
            except FormatDamaged as error:
                lost(str(error))
                continue
            yield Stored(MessageRef(origin, line.uid, 1), state.flags, state.date, body)

    def figures(self) -> Figures:
        """Returns the archive in figures."""
        messages = octets = stored = files = 0
        for name in self._files():
            file = self._file(name)
            file.look()
            more, more_octets = file.totals()
            messages, octets, files = messages + more, octets + more_octets, files + 1
            stored += file.path.stat().st_size
        return Figures(FORMAT, messages, octets, stored, files)

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Read every message; to compare the octets, the ledger is needed (`missing`)."""
        done = 0
        for name in self._files():
            file = self._file(name)
            try:
                file.look()
            except FormatDamaged as error:
                yield Finding(str(file.path), None, str(error))
                continue
            if file.skipped:
                yield Finding(str(file.path), 0, f"{file.skipped:,} octets before the first message are no mail")
            for page in file.pages():
                done += sum(line.octets for line in page)
                progress(done, 0)
        yield from (Finding(str(self._home.root / os.fsdecode(it.name)), None, it.why) for it in self.unread)
        for torn, end in self._glimpse.ends.items():
            what = "a run was stopped while it wrote behind here; the next one cuts that off"
            yield Finding(str(self._home.root / os.fsdecode(torn)), end, what, harmless=True)

    def missing(self, delivered: Iterable[Delivered]) -> Iterator[Finding]:
        """Look for every message that the ledger knows here, by its SHA-256."""
        with closing(lookup.Lookup(self._home)) as found:
            for message in delivered:
                try:
                    found.read(Receipt(message.sha256, message.hint), self.path).body.close()
                except StorageError as error:
                    yield Finding(str(self.path / message.hint), None, str(error))

    def left_out(self) -> Iterator[LeftOut]:
        """Yields files called `*.mbox` that are none, octets before the first message of a file, what is `unread`."""
        for name in self._files():
            path = self._home.root / name
            try:
                skipped = _skipped(path)
            except StorageError as error:
                yield LeftOut(str(error), None)
                continue
            if skipped:
                yield LeftOut(f"{path} 0: {skipped:,} octets before the first message are no mail", None)
        yield from (LeftOut(it.why, None) for it in self.unread)

    @property
    def search_index(self) -> Path:
        """The path of its search index: a hidden file, which is no mailbox."""
        return self._home.root / f".{self._home.single}{'.' if self._home.single else ''}syncd-search.sqlite"

    def changes(self, known: Known) -> Iterator[Fresh | Further | Gone | Mark]:
        """Every message that `known` lacks, by files; then the messages of `known` that are nowhere any more."""
        names = dict.fromkeys(self._files())
        for name in names:
            file, origin = self._file(name), self._origin(name, "")
            file.look()
            for page in file.pages():
                lacking = known.lacking([_key(name, line) for line in page])
                for line in page:
                    first = file.by_uid(line.uid)  # equal messages are one
                    if _key(name, line) in lacking and first is not None and first.number == line.number:
                        yield Fresh(_key(name, line), line.octets, file.state(line).date, file.read(line), (origin,))
                yield Mark("")  # there is none: each message is compared with the index
            start = os.fsencode(name) + b"/"
            for key in known.keys(start):
                if key.rpartition(b"/")[0] + b"/" == start and file.by_uid(Uid(key.rpartition(b"/")[2])) is None:
                    yield Gone(key)
        for key in known.keys():  # noqa: SIM118
            if os.fsdecode(key.rpartition(b"/")[0]) not in names:
                yield Gone(key)

    def unindexed(self, _known: Known) -> int | None:
        """Returns None: each file would have to be read."""
        return None

    @staticmethod
    def id_of(key: bytes) -> str:
        """Returns what a list calls the message."""
        return key.rpartition(b"/")[2].decode("ascii", "replace")

    def by_key(self, key: bytes) -> Read | None:
        """Returns a message by its file and uid."""
        file_name, _, uid = key.rpartition(b"/")
        name = os.fsdecode(file_name)
        if not may_exist(key) or not home.has(self._home, name):
            return None
        file = self._read_file(name)
        line = file.by_uid(Uid(uid))
        if line is None:
            return None
        return Read(self._entry(name, file, line), lambda: file.read(line), (Kept(file_name, line.uid),))

    def verify(self) -> None:
        """See that the archive is still at its path. Raises ArchiveMissing, FormatDamaged, StorageError."""
        found = find_home(self.path).uuid
        if found != self.uuid:
            raise ArchiveMissing(f"{self.path} is another archive ({found}) than before ({self.uuid}); run again")

    def close(self) -> None:
        """Let go of files. Repeatable."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- inside --------------------------------------------------------------------------------------

    def _glance(self) -> None:
        if self._home.identity is not None:
            self._glimpse = read_only(self._home.root / JOURNAL_FILE)

    def _files(self) -> list[str]:
        closed: list[Unread] = []
        found = sorted(home.names(self._home, closed), key=os.fsencode)
        self.unread = tuple(it._replace(path=home.place_of(os.fsdecode(it.name))) for it in closed)
        return found

    def _file(self, name: str) -> MboxFile:
        """Returns a file; the one before it is closed."""
        self.close()
        self._opened = MboxFile(self._home, name)
        return self._opened

    def _read_file(self, name: str) -> MboxFile:
        """Returns a file all of which was read; it is read once while it stays the one in use."""
        if self._opened is None or self._opened.path != self._home.root / name:
            self._file(name).look()
        assert self._opened is not None
        return self._opened

    def _all(self, which: Places | None = None) -> Iterator[tuple[str, MboxFile, Line]]:
        for name in self._files():
            if which is not None and (self.uuid, os.fsencode(name)) not in which:
                continue
            file = self._file(name)
            file.look()
            for page in file.pages():
                for line in page:
                    yield name, file, line

    def _facts(self, name: str) -> Facts:
        return self._glimpse.mailboxes.get(os.fsencode(name)) or Facts(home.path_of(name), "", subscribed=True)

    def _mailbox(self, name: str) -> Mailbox:
        path, use, subscribed = self._facts(name)
        is_whole = os.fsencode(name) not in self._glimpse.ends  # what a crash left may count later as it is
        token = _token(self._home.root / name) if is_whole else b""
        return Mailbox(os.fsencode(name), path, use, subscribed, contents=token)

    def _origin(self, name: str, account: str) -> Origin:
        path, use, subscribed = self._facts(name)
        return Origin(self.uuid, account, os.fsencode(name), _EPOCH, path, use, subscribed=subscribed)

    def _entry(self, name: str, file: MboxFile, line: Line) -> Entry:
        state = file.state(line)
        seen = Seen("", self._facts(name).path, line.uid, state.flags, state.date)
        return entry(line.uid.decode("ascii"), line.octets, file.read(line), state.date, places=[seen])


class MboxMailbox:
    """One file (`formats.view.MailboxView`)."""

    def __init__(self, file: MboxFile) -> None:
        self._file = file
        self._looked = False

    def rows(self) -> Iterator[list[Listed]]:
        """Every message in the order of the file."""
        self._look()
        for page in self._file.pages():
            yield [Listed(line.number, line.uid, line.octets) for line in page]

    def totals(self) -> Totals:
        """Returns messages, and the octets that they take."""
        if not self._looked:
            self._look()
        return Totals(*self._file.totals())

    def find(self, wanted: Wanted) -> Found | None:
        """Returns a message of the last listing."""
        line = self._file.line(wanted.number)
        if line is None or line.uid != wanted.uid:
            line = self._file.by_uid(wanted.uid)
        if line is None:
            return None
        state = self._state(line)
        return Found(self._file.read(line), None, state.flags, state.date)

    @property
    def looks(self) -> int:
        """How often the file was opened."""
        return self._file.openings

    def _state(self, line: Line) -> State:
        try:
            return self._file.state(line)
        except FormatDamaged:
            return State((), None)  # reading the message says why

    def _look(self) -> None:
        self._file.look()
        self._looked = True


def _key(name: str, line: Line) -> bytes:
    """Returns what names a message in a search index."""
    return os.fsencode(name) + b"/" + line.uid


def _token(path: Path) -> bytes:
    """Returns what stands for the contents of a file; nothing where it may just be changing."""
    try:
        facts = path.stat()
    except OSError:
        return b""
    if clock.now().timestamp() - facts.st_mtime < SETTLED_S:
        return b""
    return b"%d %d %d" % (facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _skipped(path: Path) -> int:
    try:
        descriptor = open_regular(path, os.O_RDONLY)
        try:
            window = scan.Window(descriptor, os.fstat(descriptor).st_size)
            at = scan.first(window)
            return window.end if at < 0 else at
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error


def _body(file: MboxFile, line: Line, spool: Path) -> Body:
    writer = BodyWriter(spool)
    try:
        for chunk in file.read(line):
            writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise
