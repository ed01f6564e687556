"""Checking an archive of packs: every octet is read again and compared with every checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from syncd.errors import StorageError, count, storage_error
from syncd.formats.packs.frame import BadFrame, Damage, Lost, Tail
from syncd.formats.packs.index import Index, explained
from syncd.formats.packs.opened import OpenedPacks
from syncd.formats.packs.reader import Location, PackReader, Unit, units
from syncd.formats.packs.take_up import missing

Progress = Callable[[int, int], None]  # octets done, of all


class Problem(NamedTuple):
    """Something wrong. `harmless`: the rest of an interrupted append, which the next run cuts off; no mail is lost."""

    file: Path
    offset: int | None
    what: str
    harmless: bool = False


def check(packs: OpenedPacks, progress: Progress | None = None) -> Iterator[Problem]:
    """Problems as they are found; the index is compared only if the packs are sound. Raises StorageError.

    A writer may append meanwhile; the index is then compared with the packs as they were at the start. Where the
    archive has no index of its own, nothing says that a torn tail was never durable: then it is not harmless.
    """
    packs.index.connection.execute("BEGIN")  # the index stays as it is now until we are through
    built = Index.create("", packs.home.uuid)
    try:
        with explained(packs.home.index):
            sound = True
            for problem in _check_packs(packs, built, progress):
                sound = sound and problem.harmless
                yield problem
            if not sound or not packs.lasting:
                return
            if any(live != new for live, new in zip_longest(packs.index.dump(), built.dump())):
                yield Problem(packs.home.index, None, "does not agree with the packs: delete it, it is built again")
    except OSError as error:
        raise storage_error(error, f"cannot read the archive {packs.home.path}") from error
    finally:
        built.close()
        packs.index.rollback()


def _check_packs(packs: OpenedPacks, built: Index, progress: Progress | None) -> Iterator[Problem]:
    known, sizes = packs.index.packs(), packs.home.packs()
    done, total = 0, sum(sizes.values())
    for number, why in missing(known.keys() | sizes.keys()):
        yield Problem(packs.home.pack_path(number), None, why)
    for number in sorted(known.keys() | sizes.keys()):
        path, size, durable = packs.home.pack_path(number), sizes.get(number, 0), known.get(number, 0)
        if size < durable:
            yield Problem(path, size, f"ends here, or is missing; {durable} octets were stored")
        for end, problem in _check_pack(packs, built, number, size, durable) if number in sizes else ():
            if problem:
                last = number == max(sizes)
                yield problem._replace(harmless=problem.harmless and last)
            if progress:
                progress(done + end, total)
        done += size


def _check_pack(
    packs: OpenedPacks, built: Index, number: int, size: int, durable: int
) -> Iterator[tuple[int, Problem | None]]:
    """As `_check_units`. A pack that cannot be read is one problem, and the next packs are checked."""
    built.begin()
    try:
        packs.home.open_pack(number)
        yield from _check_units(packs, built, number, size, durable)
    except StorageError as error:
        yield size, Problem(packs.home.pack_path(number), None, str(error))
    except OSError as error:
        yield size, Problem(packs.home.pack_path(number), None, f"cannot be read: {error.strerror}")
    built.connection.execute("COMMIT")


def _check_units(
    packs: OpenedPacks, built: Index, number: int, size: int, durable: int
) -> Iterator[tuple[int, Problem | None]]:
    """Yields how many octets of the pack are read, each with a problem or None."""
    path, fd = packs.home.pack_path(number), packs.home.open_pack(number)
    reader = PackReader(packs.home.open_pack)
    for found in units(fd, 0, size):
        if isinstance(found, Damage):
            yield found.end, Problem(path, found.offset, found.reason + _lost(found.lost))
        elif isinstance(found, Tail):
            yield size, _tail(path, found, durable if packs.lasting else None)
        else:
            if found.end <= durable:
                built.add(number, found)
            for what in _check_unit(reader, number, found):
                yield found.end, Problem(path, found.offset, what)
            if found.meta.archive not in {None, packs.home.uuid}:
                yield found.end, Problem(path, found.offset, f"is a pack of archive {found.meta.archive}")
            yield found.end, None


def _tail(path: Path, tail: Tail, durable: int | None) -> Problem:
    """Returns what is wrong at the end of a pack. `durable`: octets that were stored for sure; None: nobody knows."""
    what = f"{tail.reason}, to the end of the pack"
    if durable is not None and tail.offset < durable:
        return Problem(path, tail.offset, what + _lost(tail.lost))
    if tail.torn and (durable is not None or tail.lost == ()):
        return Problem(path, tail.offset, f"{what} (an append was interrupted)", harmless=True)
    if tail.torn:
        what += ": there is no index to tell a cut from an append that was interrupted"
    return Problem(path, tail.offset, what + _lost(tail.lost))


def _check_unit(reader: PackReader, pack: int, unit: Unit) -> Iterator[str]:
    for row in unit.meta.messages:
        length = unit.length if unit.parts > 1 else row.length
        digest, octets = sha256(), 0
        try:
            for chunk in reader.chunks(Location(pack, unit.offset, row.offset, length, unit.parts, row.crlf)):
                digest.update(chunk)
                octets += len(chunk)
        except BadFrame as bad:
            yield str(bad)
            return
        if (digest.digest(), octets) != (row.sha256, row.octets):
            yield f"the octets of message {row.sha256.hex()} are not those that were stored"


def _lost(lost: Lost) -> str:
    """Tells how many messages were in octets that cannot be read, where that is known."""
    return f"; {count(len(lost), 'message')} lost" if lost else ""
