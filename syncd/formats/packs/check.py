"""Checking an archive of packs: every octet is read again and held against every checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from syncd.errors import StorageError, storage_error
from syncd.formats.packs.frame import BadFrame, Damage, Tail, read_frame
from syncd.formats.packs.index import Index, explained
from syncd.formats.packs.reader import Location, PackReader, Unit, units
from syncd.formats.packs.view import PackView

Progress = Callable[[int, int], None]  # octets done, of all


class Problem(NamedTuple):
    """Something wrong. `harmless`: the rest of an interrupted append, which the next run cuts off, and no mail."""

    file: Path
    offset: int | None
    what: str
    harmless: bool = False


def check(view: PackView, progress: Progress | None = None) -> Iterator[Problem]:
    """Problems as they are found; the index is compared only if the packs are sound. Raises StorageError.

    Runs beside a writer: what that appends meanwhile is only read.
    """
    view.index.connection.execute("BEGIN")  # the index stays as it is now until we are through
    built = Index.create("", view.home.uuid)
    try:
        with explained(view.home.index):
            sound = True
            for problem in _check_packs(view, built, progress):
                sound = sound and problem.harmless
                yield problem
            if sound and any(live != new for live, new in zip_longest(view.index.dump(), built.dump())):
                yield Problem(view.home.index, None, "does not agree with the packs: delete it, it is built anew")
    except OSError as error:
        raise storage_error(error, f"cannot read the archive {view.home.path}") from error
    finally:
        built.close()
        view.index.rollback()


def _check_packs(view: PackView, built: Index, progress: Progress | None) -> Iterator[Problem]:
    known, sizes = view.index.packs(), view.home.packs()
    done, total = 0, sum(sizes.values())
    for number in sorted(known.keys() | sizes.keys()):
        path, size, durable = view.home.pack_path(number), sizes.get(number, 0), known.get(number, 0)
        if size < durable:
            yield Problem(path, size, f"ends here, or is missing; {durable} octets were stored")
        for end, problem in _opened(view, built, number, size, durable) if size else ():
            if problem:
                last = number == max(sizes)
                yield problem._replace(harmless=problem.harmless and last)
            if progress:
                progress(done + end, total)
        done += size


def _opened(view: PackView, built: Index, number: int, size: int, durable: int) -> Iterator[tuple[int, Problem | None]]:
    """The same as `_check_pack`; a pack that cannot be opened is one problem, and the next ones are checked."""
    try:
        view.home.open_pack(number)
    except StorageError as error:
        yield size, Problem(view.home.pack_path(number), None, str(error))
        return
    yield from _check_pack(view, built, number, size, durable)


def _check_pack(
    view: PackView, built: Index, number: int, size: int, durable: int
) -> Iterator[tuple[int, Problem | None]]:
    """How far the pack is read, and what is wrong there."""
    path, fd = view.home.pack_path(number), view.home.open_pack(number)
    reader = PackReader(view.home.open_pack)
    built.begin()
    for found in units(fd, 0, size):
        if isinstance(found, Damage):
            yield found.end, Problem(path, found.offset, found.reason + _lost(fd, found.offset, size))
        elif isinstance(found, Tail):
            harmless = found.offset >= durable
            lost = "" if harmless else _lost(fd, found.offset, size)
            yield size, Problem(path, found.offset, f"{found.reason}, to the end of the pack{lost}", harmless)
        else:
            if found.end <= durable:
                built.add(number, found)
            for what in _check_unit(reader, number, found):
                yield found.end, Problem(path, found.offset, what)
            if any(meta.archive not in {None, view.home.uuid} for meta in found.metas):
                yield found.end, Problem(path, found.offset, f"is a pack of archive {found.metas[0].archive}")
            yield found.end, None
    built.connection.execute("COMMIT")


def _check_unit(reader: PackReader, pack: int, unit: Unit) -> Iterator[str]:
    for row in unit.metas[0].messages:
        length = sum(meta.messages[0].length for meta in unit.metas) if len(unit.metas) > 1 else row.length
        digest, octets = sha256(), 0
        try:
            for chunk in reader.chunks(Location(pack, unit.offset, row.offset, length, len(unit.metas), row.crlf)):
                digest.update(chunk)
                octets += len(chunk)
        except BadFrame as bad:
            yield str(bad)
            return
        if (digest.digest(), octets) != (row.sha256, row.octets):
            yield f"the octets of message {row.sha256.hex()} are not those that were stored"


def _lost(fd: int, offset: int, limit: int) -> str:
    """How many messages a damaged data frame held, if its metadata still says so."""
    try:
        messages = len(read_frame(fd, offset, limit).meta.messages)
    except BadFrame:
        return ""
    return f"; it held {messages} messages" if messages else ""
