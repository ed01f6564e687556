"""A local archive as a source: what packs and Maildirs have in common.

A session lists, reads and recognises; the archive is never changed, not even locked, and may be written to meanwhile.
Nothing is removed: an archive keeps what it has. A message that cannot be read, or is not what was stored, fails
alone; an archive that is no longer at its path ends the session.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Protocol

from syncd.errors import Cancelled, MessageRefused, StorageError, Unsupported, printable
from syncd.mail.body import Body, BodyWriter
from syncd.sources.base import Fetched, Listed, Removed, Room, SourceInfo, Totals, Wanted


@dataclass(frozen=True, slots=True)
class Found:
    """A message as an archive has it. Reading `chunks` raises StorageError; `sha256` is None where none is known."""

    chunks: Iterator[bytes]
    sha256: bytes | None
    flags: tuple[str, ...]
    internal_date: datetime | None


class Holdings(Protocol):
    """What an archive of one format holds. For one thread. Raises StorageError, ArchiveMissing."""

    path: Path

    def rows(self) -> Iterator[list[Listed]]:
        """Every message, as `SourceSession.list`."""
        ...

    def totals(self) -> Totals:
        """How much there is; of the last listing, if there was one."""
        ...

    def find(self, one: Wanted) -> Found | None:
        """The message of a line of the listing; None where it is not there any more."""
        ...

    def header_hash(self, one: Wanted) -> bytes | None:
        """What `mail.body.header_hash` gives for it; None where it is not there any more."""
        ...

    def verify(self) -> None:
        """See that the archive is still the same at its path. Raises ArchiveMissing."""
        ...

    def close(self) -> None:
        """Let go of files. Repeatable."""
        ...


class ArchiveSource:
    """An archive (`sources.base.Source`). One session at a time.

    `open_holdings` raises ArchiveMissing, FormatDamaged, StorageError; `spool` takes large messages in flight.
    """

    def __init__(self, path: Path, spool: Path, open_holdings: Callable[[Path], Holdings]) -> None:
        self._path = path
        self._spool = spool
        self._open = open_holdings
        self._stop = Event()

    def connect(self) -> ArchiveSession:
        """Open the archive for reading."""
        _check(self._stop, self._path)
        return ArchiveSession(self._open(self._path), self._spool, self._stop)

    def cancel(self) -> None:
        """From any thread: the session raises Cancelled before its next read, and so does every later connect."""
        self._stop.set()


class ArchiveSession:
    """An archive that is being read (`sources.base.SourceSession`)."""

    def __init__(self, holdings: Holdings, spool: Path, stop: Event) -> None:
        self._holdings = holdings
        self._spool = spool
        self._stop = stop

    @property
    def info(self) -> SourceInfo:
        """Where the archive is; nobody signs in."""
        return SourceInfo(str(self._holdings.path), "none", "", ())

    def totals(self) -> Totals:
        """How much the archive holds; of the last listing, if there was one."""
        return self._holdings.totals()

    def list(self) -> Iterator[list[Listed]]:
        """Every message in chunks, in an order that lasts."""
        for chunk in self._holdings.rows():
            _check(self._stop, self._holdings.path)
            yield chunk

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """Read messages in the order of `wanted`; quickest in the order of the listing."""
        del alone  # nothing ever is under way
        for one in wanted:
            if not room.try_take(one.octets):
                yield None
                room.take(one.octets)
            yield self._fetched(one)

    def header_hashes(self, wanted: Iterable[Wanted]) -> Iterator[tuple[int, bytes | None]]:
        """Every archive can tell; None for a message that is no longer there."""
        for one in wanted:
            _check(self._stop, self._holdings.path)
            yield one.key, self._holdings.header_hash(one)

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """Nothing is removed, whoever asks."""
        for one in doomed:
            why = f"{self._holdings.path} is an archive: a job copies from it and never removes what it holds"
            yield Removed(one.key, Unsupported(why))

    def finish(self) -> None:
        """There is nobody to say goodbye to."""
        self.close()

    def close(self) -> None:
        """Let go of files. Repeatable."""
        self._holdings.close()

    # --- inside --------------------------------------------------------------------------------------

    def _fetched(self, one: Wanted) -> Fetched:
        try:
            found = self._holdings.find(one)
            if found is None:
                self._holdings.verify()
                raise self._refusal(one, "it is not there any more")
            return Fetched(one.key, self._body(one, found), None, found.flags, found.internal_date)
        except MessageRefused as error:
            return Fetched(one.key, None, error)

    def _body(self, one: Wanted, found: Found) -> Body:
        """The octets, checked. Raises MessageRefused; StorageError where the spool is to blame."""
        writer = BodyWriter(self._spool)
        try:
            with closing(self._chunks(one, found.chunks)) as chunks:
                for chunk in chunks:
                    writer.write(chunk)
            body = writer.finish()
        except BaseException:
            writer.discard()
            raise
        if found.sha256 not in {None, body.sha256}:
            body.close()
            raise self._refusal(one, "its octets are not those that were stored")
        return body

    def _chunks(self, one: Wanted, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """What cannot be read concerns this message alone, as long as the archive is there."""
        try:
            for chunk in chunks:
                _check(self._stop, self._holdings.path)
                yield chunk
        except StorageError as error:
            self._holdings.verify()
            raise self._refusal(one, str(error)) from error

    def _refusal(self, one: Wanted, why: str) -> MessageRefused:
        return MessageRefused(
            f"{self._holdings.path} does not give message {one.number} (“{printable(one.uid)}”): {why}; "
            "the others are not affected"
        )


def _check(stop: Event, path: Path) -> None:
    """Raise Cancelled where someone asked us to stop."""
    if stop.is_set():
        raise Cancelled(f"{path}: stopped on request")
