"""Taking up into the index what packs hold and it does not know: after a crash, from another writer, for a new index.

For the holder of the archive's lock (a new index of a reader needs none). Every frame taken up was read whole
and agrees with its checksums. A tail (what an interrupted append leaves) is cut only when it
is at the end of the last pack and lies behind what a lasting index knows as durable; what is cut is kept beside it.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from syncd.durable import Step, durable_step, sync_directory
from syncd.errors import FormatDamaged, StorageError, storage_error
from syncd.formats.packs.append import Appender
from syncd.formats.packs.frame import Damage, Tail
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import Index, IndexDamaged, explained, remove
from syncd.formats.packs.reader import units

log: Final = logging.getLogger(__name__)


def open_index(home: Home) -> Index:
    """The archive's index with all that the packs hold, built anew if it is missing or unusable. Under the lock.

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
        take_up(home, index, cut=True)
    except BaseException:
        index.close()
        raise
    return index


def _existing(home: Home) -> Index | None:
    if home.index.is_symlink():
        raise StorageError(f"{home.index} is a symbolic link; delete it, the index is built anew")
    return Index.open(home.index, home.uuid) if home.index.exists() else None


def build_index(home: Home) -> None:
    """Build the index anew beside the old one, and put it in its place. Under the lock. Raises StorageError."""
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


def take_up(home: Home, index: Index, *, cut: bool, sync: bool = True, first: int = 0) -> None:
    """Bring `index` up to the packs' ends, from pack `first` on, one transaction a pack.

    `cut`: a torn tail of the last pack may go. `sync`: what is taken up is made durable first, as whoever wrote it
    may not have lived to do so. Damage is logged and passed over. Raises FormatDamaged when a pack holds less than
    the index knows; StorageError, sqlite3.Error.
    """
    known = index.packs()
    sizes = home.packs()
    for number, octets in known.items():
        if number >= first and sizes.get(number, -1) < octets:
            raise FormatDamaged(
                f"{home.pack_path(number)} holds {sizes.get(number, 0)} octets, {octets} were stored: restore it "
                f"from a backup, or delete {home.index} to go on with what is left"
            )
    for number, size in sizes.items():
        if number >= first and known.get(number) != size:
            last = number == max(sizes)
            _take_up_pack(home, index, number, known.get(number, 0), size, cut=cut and last, sync=sync, last=last)


def _take_up_pack(
    home: Home, index: Index, number: int, start: int, size: int, *, cut: bool, sync: bool, last: bool
) -> None:
    path = home.pack_path(number)
    fd = home.open_pack(number, writable=sync)
    end, tail = size, None
    index.begin()
    try:
        for found in units(fd, start, size):
            if isinstance(found, Damage):
                log.warning("%s is damaged at offset %d: %s", path, found.offset, found.reason)
            elif isinstance(found, Tail):
                tail = found
            else:
                index.add(number, found)
        if tail and cut:
            _cut(home, number, fd, tail)
        elif tail:
            log.warning("%s is damaged from offset %d to its end: %s", path, tail.offset, tail.reason)
        if tail and last:
            end = tail.offset
        if sync:
            with durable_step(Step.PACK_SYNC):
                os.fsync(fd)
        index.taken_up(number, end)
        index.commit()
    except OSError as error:
        raise storage_error(error, f"cannot take up {path}") from error
    finally:
        index.rollback()


def _cut(home: Home, number: int, fd: int, tail: Tail) -> None:
    name = home.keep_tail(number, tail.offset)
    with durable_step(Step.PACK_CUT):
        os.ftruncate(fd, tail.offset)
    log.info("%s: an unfinished append was cut at offset %d and kept as %s", home.pack_path(number), tail.offset, name)
