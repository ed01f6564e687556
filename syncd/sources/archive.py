"""A local archive as a source, over `formats.view`: its mailboxes, their messages, what is known of each.

The archive is never changed, not even locked, and may be written to meanwhile. Nothing is removed: an archive keeps
what it has. A message that cannot be read, or is not what was stored, fails alone; an archive that is no longer at its
path ends the session.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Final

from syncd.errors import (
    Cancelled,
    DiskFull,
    FormatDamaged,
    MailboxRefused,
    MessageRefused,
    StorageError,
    Unsupported,
    printable,
)
from syncd.formats.view import ArchiveView, Found, LeftOut, MailboxView, start_of
from syncd.mail.body import Body, BodyWriter, Spool
from syncd.mail.listing import Facts, Fetched, Listed, Removed, Totals, Wanted
from syncd.mail.mailbox import Mailbox, Unread
from syncd.mail.message import NO_KEY, Key
from syncd.sources.base import Room, SourceInfo
from syncd.sources.growth import Growth

MAX_NOTES: Final = 20  # `syncd archive check` shows all


class ArchiveSource:
    """An archive (`sources.base.Source`). `connections`: sessions at a time; each opens the archive.

    `open_view` raises ArchiveMissing, FormatDamaged, StorageError; large messages in flight go to files in `spool`.
    """

    connections = 1

    def __init__(self, path: Path, spool: Path, open_view: Callable[[Path], ArchiveView]) -> None:
        self._path = path
        self._spool = spool
        self._open = open_view
        self._stop = Event()

    def connect(self) -> ArchiveSession:
        """Open the archive for reading."""
        _check(self._stop, self._path)
        view = self._open(self._path)
        try:
            return ArchiveSession(view, self._spool, self._stop)
        except BaseException:
            view.close()
            raise

    def cancel(self) -> None:
        """From any thread: the session raises Cancelled before its next read, and so does every later connect."""
        self._stop.set()


class ArchiveSession:
    """An archive that is being read (`sources.base.SourceSession`)."""

    def __init__(self, view: ArchiveView, spool: Path, stop: Event) -> None:
        self._view = view
        self._spool = spool
        self._stop = stop
        self._notes = tuple(islice(map(_note, view.left_out()), MAX_NOTES))

    @property
    def info(self) -> SourceInfo:
        """The path of the archive, and a note about each damage that keeps messages from being listed."""
        return SourceInfo(str(self._view.path), "none", "", (), self._notes)

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every mailbox that the archive recorded."""
        for chunk in self._view.mailboxes():
            _check(self._stop, self._view.path)
            yield chunk

    @property
    def unread(self) -> Sequence[Unread]:
        """Parts of the archive that could not be read (`sources.base.Hides`)."""
        return self._view.unread

    def open(
        self,
        mailbox: Mailbox,
        *,
        removes: bool = False,  # noqa: ARG002
        following: Mailbox | None = None,  # noqa: ARG002
    ) -> ArchiveMailbox:
        """Open one of `mailboxes`. Raises MailboxRefused where it is not there any more, ArchiveMissing."""
        _check(self._stop, self._view.path)
        opened = self._view.open(mailbox.name)
        if opened is None:
            self._view.verify()
            name = printable("/".join(mailbox.path))
            raise MailboxRefused(f"{self._view.path}: the mailbox “{name}” is not there any more")
        return ArchiveMailbox(mailbox, opened, self._view, self._spool, self._stop)

    def finish(self) -> None:
        """Close: there is no farewell to an archive."""
        self.close()

    def close(self) -> None:
        """Let go of files. Repeatable."""
        self._view.close()


class ArchiveMailbox:
    """One mailbox of an archive (`sources.base.OpenMailbox`)."""

    def __init__(self, mailbox: Mailbox, opened: MailboxView, view: ArchiveView, spool: Path, stop: Event) -> None:
        self.mailbox = mailbox
        self._opened = opened
        self._view = view
        self._spool = Spool(spool)
        self._stop = stop

    def totals(self) -> Totals:
        """Returns how much the mailbox holds; as of the last listing, if there was one."""
        with self._reading():
            return self._opened.totals()

    def facts(self) -> Iterator[list[Facts]]:
        """Every message in chunks, with what the archive knows of it; no message is read."""
        for chunk in self.list():
            yield [self._facts(line) for line in chunk]

    def list(self) -> Iterator[list[Listed]]:
        """Every message in chunks, in an order that lasts."""
        rows = self._opened.rows()
        while True:
            with self._reading():
                chunk = next(rows, None)
            if chunk is None:
                return
            _check(self._stop, self._view.path)
            yield chunk

    def headers(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Key, bytes | None]]:
        """The start of each message; None for a message that is not there any more or cannot be read."""
        for one in wanted:
            _check(self._stop, self._view.path)
            yield one.key, self._start(one)

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """Read messages in the order of `wanted`; quickest in the order of the listing."""
        del alone  # nothing else is ever under way
        for one in wanted:
            if not room.try_take(one.octets):
                yield None
                room.take(one.octets)
            yield self._fetched(one, room)

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """Answer each message with an error: an archive keeps what it has."""
        for one in doomed:
            why = f"{self._view.path} is an archive: a job copies from it and never removes what it holds"
            yield Removed(one.key, Unsupported(why))

    # --- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """An error of listing concerns this mailbox alone, as long as the archive is there and the disk has room."""
        try:
            yield
        except DiskFull:
            raise
        except StorageError as error:
            self._view.verify()
            raise MailboxRefused(str(error)) from error

    def _facts(self, line: Listed) -> Facts:
        found = self._opened.find(Wanted(NO_KEY, *line))
        return Facts(*line) if found is None else Facts(*line, found.flags, found.internal_date, found.sha256)

    def _start(self, one: Wanted) -> bytes | None:
        try:
            found = self._opened.find(one)
            return None if found is None else start_of(found.chunks)
        except FormatDamaged:
            self._view.verify()
            return None

    def _fetched(self, one: Wanted, room: Room) -> Fetched:
        try:
            found = self._opened.find(one)
            if found is None:
                self._view.verify()
                raise self._refusal(one, "it is not there any more")
            looks = self._opened.looks
            body = self._body(one, found, room)
        except MessageRefused as error:
            return Fetched(one.key, None, error)
        if self._opened.looks != looks:
            found = self._found_now(one, body) or found
        return Fetched(one.key, body, None, found.flags, found.internal_date, found.labels)

    def _found_now(self, one: Wanted, body: Body) -> Found | None:
        """Find a message again that a mail program has moved, with the flags that it has there."""
        try:
            return self._opened.find(one)
        except BaseException:
            body.close()
            raise

    def _body(self, one: Wanted, found: Found, room: Room) -> Body:
        """Returns the octets, checked. Raises MessageRefused; StorageError where the spool is to blame."""
        growth = Growth(room, one.octets)
        writer = BodyWriter(self._spool, growth.fits)
        try:
            with closing(self._chunks(one, found.chunks)) as chunks:
                for chunk in chunks:
                    writer.write(chunk)
            body = writer.finish()
        except BaseException:
            writer.discard()
            growth.end()
            raise
        if found.sha256 not in {None, body.sha256}:
            body.close()
            growth.end()
            raise self._refusal(one, "its octets are not those that were stored")
        growth.end(body)
        return body

    def _chunks(self, one: Wanted, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """Yields the chunks; an error of reading concerns this message alone, as long as the archive is there."""
        try:
            for chunk in chunks:
                _check(self._stop, self._view.path)
                yield chunk
        except StorageError as error:
            self._view.verify()
            raise self._refusal(one, str(error)) from error

    def _refusal(self, one: Wanted, why: str) -> MessageRefused:
        return MessageRefused(
            f"{self._view.path} does not give message {one.number} (“{printable(one.uid)}”): {why}; "
            "the others are not affected"
        )


def _note(damage: LeftOut) -> str:
    return f"{damage.line}; all others are not affected"


def _check(stop: Event, path: Path) -> None:
    """Raise Cancelled where someone asked us to stop."""
    if stop.is_set():
        raise Cancelled(f"{path}: stopped on request")
