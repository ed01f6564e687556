"""Taking frames of the packs up into the index: after a crash, from another writer, for a new index.

Every frame that is taken up was read whole and agrees with its checksums; every other octet is noted as damage, and
reading goes on behind it. The caller owns the archive's lock, except a reader that fills a temporary index.

A tail (left by an interrupted append) is cut only when it is at the end of the last pack and behind the octets that a
lasting index knows as durable; the cut octets are kept in a file beside. A new index knows nothing as durable: there a
tail that may hold messages is noted as damage.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Final

from syncd.durable import Step, durable_step, sync_directory
from syncd.errors import FormatDamaged, StorageError, Unusable, storage_error
from syncd.formats.packs.append import Appender
from syncd.formats.packs.frame import Damage, Tail
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import Index, IndexDamaged, explained, oddity, remove
from syncd.formats.packs.reader import Unit, units

log: Final = logging.getLogger(__name__)


def open_index(home: Home) -> Index:
    """Returns the index with all that is in the packs, built again if it is missing or unusable. Under the lock.

    Raises StorageError, FormatDamaged.
    """
    try:
        with explained(home.index):
            if index := _existing(home):
                return _caught_up(home, index)
    except IndexDamaged as error:
        log.warning("%s", error)
    with explained(home.index):
        build_index(home)
        index = _existing(home)
        assert index is not None, "a new index is whole"
        return index


def _caught_up(home: Home, index: Index) -> Index:
    try:
        take_up(home, index)
    except BaseException:
        index.close()
        raise
    return index


def _existing(home: Home) -> Index | None:
    if why := oddity(home.index):
        raise Unusable(f"cannot use {home.index}: {why}; delete it, the index is built again")
    return Index.open(home.index, home.uuid) if home.index.exists() else None


def build_index(home: Home) -> None:
    """Build a new index beside the old one, and put it in its place. Under the lock. Raises StorageError."""
    new = home.index.with_name(home.index.name + ".new")
    try:
        remove(new)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        index = Index.create(new, home.uuid)
        try:
            take_up(home, index, cut=False)
            if index.packs() != home.packs():  # a tail that must not be cut, by later writers neither
                Appender(home).begin(index.packs())
        finally:
            index.close()
        fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with durable_step(Step.INDEX_SYNC):
                os.fsync(fd)
        finally:
            os.close(fd)
        remove(home.index)
        with durable_step(Step.INDEX_COMMIT):
            new.rename(home.index)
        sync_directory(home.path)
    except OSError as error:
        raise storage_error(error, f"cannot build {home.index}") from error


def fill(home: Home, index: Index) -> None:
    """Fill a temporary index for a reader: nothing is changed, and what cannot be read is noted as damage.

    Raises sqlite3.Error, StorageError where the packs cannot be listed.
    """
    sizes = home.packs()
    _note_missing(home, index, sizes)
    for number, size in sizes.items():
        taking = _Taking(index, number, 0)
        index.begin()
        try:
            for odd in taking.odd(home.open_pack(number), size):
                index.note_damage(number, odd.offset, odd.reason, odd.lost)
        except (OSError, StorageError) as error:
            why = str(error) if isinstance(error, StorageError) else f"cannot be read: {error.strerror}"
            index.note_damage(number, taking.reached, why)
        index.commit()


def take_up(home: Home, index: Index, first: int = 0, *, cut: bool = True) -> None:
    """Bring a lasting `index` up to the packs' ends, from pack `first` on, one transaction a pack. Under the lock.

    With `cut`, a tail at the end of the last pack goes. What is taken up is made durable first, as whoever wrote it may
    not have lived to do so. Raises FormatDamaged when a pack holds less than the index knows, or frames of a later
    version; StorageError, sqlite3.Error.
    """
    known, sizes = index.packs(), home.packs()
    for number, octets in known.items():
        if number >= first and sizes.get(number, -1) < octets:
            raise FormatDamaged(
                f"{home.pack_path(number)} holds {sizes.get(number, 0)} octets, {octets} were stored: restore it "
                f"from a backup, or delete {home.index} to go on with what is left"
            )
    if not known:
        _note_missing(home, index, sizes)
    last = max(sizes, default=0)
    for number, size in sizes.items():
        if number >= first and known.get(number) != size:
            _take_up_pack(home, index, number, known.get(number, 0), size, is_last=number == last, cut=cut)


def missing(sizes: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yields a number and a reason for packs that are not there, though later packs are: they count from 1."""
    before = 0
    for number in sorted(sizes):
        if number > before + 1:
            more = f", with all packs up to {number - 1:06d}" if number > before + 2 else ""
            yield before + 1, f"is missing{more}"
        before = number


def _note_missing(home: Home, index: Index, sizes: Iterable[int]) -> None:
    gaps = list(missing(sizes))
    if not gaps:
        return
    index.begin()
    try:
        for number, why in gaps:
            index.note_damage(number, 0, why)
        index.commit()
    except OSError as error:
        raise storage_error(error, f"cannot write to {home.index}") from error
    finally:
        index.rollback()


class _Taking:
    """Puts what is sound in a pack, from an offset on, into the index. `reached` is the end of what was looked at."""

    def __init__(self, index: Index, number: int, start: int) -> None:
        self._index = index
        self._number = number
        self.reached = start

    def odd(self, fd: int, size: int) -> Iterator[Damage | Tail]:
        """Yields what is not sound. Raises OSError, sqlite3.Error."""
        self._index.forget_damage(self._number, self.reached)
        for found in units(fd, self.reached, size):
            if isinstance(found, Unit):
                self._index.add(self._number, found)
            elif isinstance(found, Damage) or not found.torn or found.lost != ():
                yield found
            self.reached = found.offset if isinstance(found, Tail) else found.end


def _take_up_pack(home: Home, index: Index, number: int, start: int, size: int, *, is_last: bool, cut: bool) -> None:
    path, taking = home.pack_path(number), _Taking(index, number, start)
    fd = home.open_pack(number, writable=True)
    index.begin()
    try:
        for odd in taking.odd(fd, size):
            where = f"{path} at offset {odd.offset}"
            if odd.newer:
                raise FormatDamaged(f"{where}: {odd.reason}")
            if not (cut and is_last and isinstance(odd, Tail) and size):
                log.warning("%s is damaged at offset %d: %s", path, odd.offset, odd.reason)
                index.note_damage(number, odd.offset, odd.reason, odd.lost)
        if cut and is_last and taking.reached < size:
            _cut(home, number, fd, taking.reached)
        with durable_step(Step.PACK_SYNC):
            os.fsync(fd)
        index.taken_up(number, taking.reached if is_last else size)
        index.commit()
    except OSError as error:
        raise storage_error(error, f"cannot take up {path}") from error
    finally:
        index.rollback()


def _cut(home: Home, number: int, fd: int, offset: int) -> None:
    name = home.keep_tail(number, offset)
    with durable_step(Step.PACK_CUT):
        os.ftruncate(fd, offset)
    log.info("%s: an unfinished append was cut at offset %d and kept as %s", home.pack_path(number), offset, name)
