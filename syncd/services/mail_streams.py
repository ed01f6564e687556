"""Messages as one file for a browser or a program, written while it is read: memory is one message's chunk.

    mbox    one after another, mboxrd quoting, LF where every line end is CRLF: as `syncd archive export`
    zip     one .eml file a message, the octets as they are; at most MAX_FILES

A message that cannot be read is left out, and the file says so at its end.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd import clock
from syncd.errors import FormatDamaged, UsageError
from syncd.formats import mboxrd
from syncd.formats.line_ends import all_crlf
from syncd.services.answers import hits

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.formats.search.question import Question
    from syncd.formats.view import ArchiveView
    from syncd.services.answers import Searched

OPEN: Final = 8  # archives
MAX_FILES: Final = 20_000  # of a zip file: its directory is in memory until the end
EARLIEST: Final = 1980  # year of a zip file's dates


class Item(NamedTuple):
    """A message that goes into a file. `chunks` begins to read it, as often as needed."""

    name: str
    date: datetime | None
    chunks: Callable[[], Iterator[bytes]]


class Views:
    """Archives that are read in turns, at most OPEN of them open at a time. Raises ConfigError, StorageError."""

    def __init__(self, open_view: Callable[[str], ArchiveView]) -> None:
        self._open = open_view
        self._opened: dict[str, ArchiveView] = {}  # the one that was used last is at the end

    def get(self, name: str) -> ArchiveView:
        """Returns an archive, good until OPEN others were asked for."""
        view = self._opened.pop(name, None)
        if view is None:
            view = self._open(name)
        self._opened[name] = view
        if len(self._opened) > OPEN:
            self._opened.pop(next(iter(self._opened))).close()
        return view

    def close(self) -> None:
        """Close all. Repeatable."""
        while self._opened:
            self._opened.popitem()[1].close()


def found(views: Views, archives: Sequence[Searched], question: Question) -> Iterator[Item]:
    """Every message of archives that answers a question, the newest first. Raises UsageError, StorageError."""
    for number, it in enumerate(hits(archives, question), 1):
        read = views.get(it.archive).by_key(it.hit.key)
        if read is not None:
            yield Item(f"{number:06d}.eml", it.hit.at, read.chunks)


def everything(view: ArchiveView, spool: Path, lost: Callable[[str], None]) -> Iterator[Item]:
    """Every message of an archive, at each of its places; large ones go through a file in `spool`."""
    for number, stored in enumerate(view.stored(spool, lost), 1):
        with closing(stored.body) as body:
            yield Item(f"{number:06d}.eml", stored.date, body.chunks)


def check_fits(view: ArchiveView) -> None:
    """Raise UsageError where an archive has more messages than a zip file of ours."""
    figures = view.figures()
    _check_number(max(figures.messages, figures.places or 0))


def check_found_fit(archives: Sequence[Searched], question: Question) -> None:
    """Raise UsageError where more messages answer a question than a zip file of ours has."""
    _check_number(sum(1 for _ in islice(hits(archives, question), MAX_FILES + 1)))


def _check_number(messages: int) -> None:
    if messages > MAX_FILES:
        raise UsageError(f"more than {MAX_FILES:,} messages: narrow the search, or take an mbox")


def mbox(items: Iterable[Item], lost: list[str]) -> Iterator[bytes]:
    """The messages as an mbox. `lost` gets a line for each message that cannot be read."""
    for item in items:
        try:
            crlf = all_crlf(item.chunks())
        except FormatDamaged as error:
            lost.append(str(error))
            continue
        yield mboxrd.from_line(item.date or 0.0)
        last = b""
        try:
            for piece in mboxrd.encode_stream(item.chunks(), crlf=crlf):
                yield piece
                last = piece or last
        except FormatDamaged as error:
            lost.append(str(error))
        yield mboxrd.separator(last)
    if lost:
        body = _lost(lost).encode()
        yield (
            mboxrd.from_line(clock.now()) + b"From: syncd\nSubject: messages that could not be read\n\n" + body + b"\n"
        )


def zipped(items: Iterable[Item], lost: list[str]) -> Iterator[bytes]:
    """The messages as a zip file of .eml files; `lost` as in `mbox`."""
    out = _Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for item in items:
            about = zipfile.ZipInfo(item.name, _date(item.date))
            about.compress_type = zipfile.ZIP_DEFLATED
            about.external_attr = 0o600 << 16
            chunks = item.chunks()
            try:
                first = next(chunks, b"")
            except FormatDamaged as error:
                lost.append(str(error))
                continue
            with made.open(about, "w", force_zip64=True) as file:
                try:
                    for chunk in chain((first,), chunks):
                        file.write(chunk)
                        yield out.taken()
                except FormatDamaged as error:
                    lost.append(str(error))
            yield out.taken()
        if lost:
            made.writestr("not-readable.txt", _lost(lost))
    yield out.taken()


def _lost(lost: list[str]) -> str:
    return f"{len(lost):,} messages could not be read:\n" + "".join(f"{why}\n" for why in lost[:1000])


def _date(at: datetime | None) -> tuple[int, int, int, int, int, int]:
    if at is None or not at.year >= EARLIEST:
        return (EARLIEST, 1, 1, 0, 0, 0)
    return (at.year, at.month, at.day, at.hour, at.minute, at.second)


class _Pipe(io.RawIOBase):
    """A file that cannot be sought; what is written to it is taken from it."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        """Returns that it can be written to."""
        return True

    def write(self, data: object) -> int:
        """Keep octets until they are taken."""
        octets = bytes(memoryview(data))  # type: ignore[arg-type]  # whatever a file takes
        self._written += octets
        return len(octets)

    def taken(self) -> bytes:
        """Returns what was written since it was last taken."""
        octets, self._written = bytes(self._written), bytearray()
        return octets
