"""Where an export is written until it is complete and on disk: a folder of its own in the folder that the user named.

    PATH/syncd-export.unfinished/files/    what is written; at the end each entry is renamed into PATH
    PATH/syncd-export.unfinished/moved     locked while an export writes; then the inodes of the entries that move

So whatever lies beside the unfinished folder is complete. PATH may be the root of a disk or a volume, which nothing can
be renamed to. The next export into PATH takes back what one that was stopped has moved, removes it, and begins again.
Anything else in PATH is the user's, and nothing is written then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from syncd.durable import Step, durable_step, make_directories, sync_directory, write_all
from syncd.errors import UsageError, storage_error
from syncd.formats import writer_lock
from syncd.formats.regular import open_regular

UNFINISHED: Final = "syncd-export.unfinished"  # no account's folder has a dot in its name


@contextmanager
def place(path: Path) -> Iterator[Path]:
    """Give an empty folder for the block, which has to make durable what it writes there; then move that into `path`.

    Afterwards all is on disk in `path`. If the block fails, what it has written stays in the unfinished folder.
    Raises UsageError where something is in `path`, Locked while another export writes there, StorageError.
    """
    files = files_of(path)
    unfinished = files.parent
    try:
        _check_empty(path, ours=_moved(unfinished))
        make_directories(unfinished)
        moved = open_regular(unfinished / "moved", os.O_RDWR | os.O_CREAT)
        try:
            writer_lock.take(moved, f"the unfinished export {unfinished}")
            _check_empty(path, ours=_moved(unfinished))
            _clear(path, files, moved)
            files.mkdir(mode=0o700)
            yield files
            _move(files, path, moved)
        finally:
            os.close(moved)
    except OSError as error:
        raise storage_error(error, f"cannot export to {path}") from error


def files_of(path: Path) -> Path:
    """Returns the folder that an export into `path` is written in; what else is put there goes with the next export."""
    return path / UNFINISHED / "files"


def _check_empty(path: Path, ours: dict[str, int]) -> None:
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(_others(path, ours)))):
        raise _not_empty(path)


def _not_empty(path: Path) -> UsageError:
    return UsageError(f"{path} is not an empty folder; name one that is new or empty, nothing was written")


def _others(path: Path, ours: dict[str, int]) -> Iterator[str]:
    """Yields the names in a folder that are neither an unfinished export nor an entry that one has moved."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name == UNFINISHED and entry.is_dir(follow_symlinks=False):
                continue
            if ours.get(entry.name) != entry.inode():
                yield entry.name


def _moved(unfinished: Path) -> dict[str, int]:
    """Returns the inodes of entries by their names; nothing is moved before all of it is on disk."""
    try:
        return dict(json.loads((unfinished / "moved").read_bytes()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def _clear(path: Path, files: Path, moved: int) -> None:
    """Remove what an export that was stopped has left; the entries that it moved are taken back first."""
    for name in _moved(files.parent):
        with suppress(FileNotFoundError):
            (path / name).rename(files / name)
    sync_directory(path)
    os.ftruncate(moved, 0)  # what is in `path` from now on is the user's, even with an inode that one of ours had
    with suppress(FileNotFoundError):
        shutil.rmtree(files)


def _move(files: Path, path: Path, moved: int) -> None:
    """Move everything to its place. Until `moved` goes, the next export knows what is ours."""
    with os.scandir(files) as entries:
        inodes = {entry.name: entry.inode() for entry in entries}
    _check_empty(path, ours={})
    write_all(moved, [json.dumps(inodes).encode()])
    os.fsync(moved)
    for folder in (files, files.parent):
        sync_directory(folder)
    for name in inodes:
        if os.path.lexists(path / name):
            raise _not_empty(path)
        with durable_step(Step.EXPORT_MOVE):
            (files / name).rename(path / name)
    for folder in (path, files):
        sync_directory(folder)
    with durable_step(Step.EXPORT_DONE):
        (files.parent / "moved").unlink()
    files.rmdir()
    files.parent.rmdir()
    sync_directory(path)


def sync_file(path: Path) -> None:
    """Make a file's octets durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with durable_step(Step.EXPORT_SYNC):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
