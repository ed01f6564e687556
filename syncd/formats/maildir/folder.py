"""One Maildir folder on disk: files written so that they are whole or not there, and found again.

A message is written under a name of its own in `tmp`, fsynced, linked to its name in `new` or `cur`
(link(2) never overwrites), and its name in `tmp` removed; once a batch, `sync` makes the links durable.
Where there are no hard links it is renamed, again without overwriting (`formats/exclusive.py`).
This order holds on every file system. An unnamed file (O_TMPFILE) linked afterwards was measured too: 0 to 7 %
faster on ext4, within the noise, but its fsync says nothing about a name it does not have yet, and on btrfs
such a file is left out of the log; so it is not used.

Mail readers move files from `new` to `cur` and rename them there while we look. `names` therefore reads
again until the directories stood still: readdir(3) may show a renamed file under no name at all.

Everything goes through descriptors of the directories, opened without following symbolic links: nobody
can put another folder in the place of ours while we write. The root of an archive alone may be a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from syncd import clock
from syncd.durable import Step, durable_step, sync_directory, write_all
from syncd.formats.exclusive import UNABLE, rename_exclusively
from syncd.formats.regular import open_regular

TMP_PREFIX = "syncd."
CHUNK_OCTETS = 256 << 10
PARTS = ("tmp", "new", "cur")
READ_FROM = ("new", "cur")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SHOWN_NS = 20_000_000  # a change this long ago shows in a directory's mtime: its clock ticks every 1 to 10 ms
_MAX_ROUNDS = 5  # a reader that renames without pause must not keep us for ever


def make_folder(root: Path, name: str = "") -> None:
    """Make a folder and its three directories where they are missing, for the owner alone, durably.

    `name` is the folder's below the root, with "/" between levels. A folder in the Maildir++ layout also has the empty
    file that readers know it by. Raises OSError.
    """
    root.mkdir(mode=0o700, exist_ok=True)
    above, path = [], root
    for level in name.split("/") if name else ():
        above.append(path)
        path /= level
        _make_directory(path)
    for part in PARTS:
        _make_directory(path / part)
    if name.startswith("."):
        with suppress(FileExistsError):
            os.close(os.open(path / "maildirfolder", _CREATE, 0o600))
    sync_directory(path)
    for directory in reversed(above):
        sync_directory(directory)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        if not is_directory(path):
            raise _not_a_folder(path) from error


def _not_a_folder(path: Path | str) -> NotADirectoryError:
    return NotADirectoryError(errno.ENOTDIR, f"{path} is not a folder, or is a link to one")


def is_folder(path: Path) -> bool:
    """Tells whether there is a folder to read from: a directory with `cur` or `new`, none of them a link."""
    return is_directory(path) and any(is_directory(path / name) for name in READ_FROM)


def is_directory(path: Path) -> bool:
    """Tells whether a directory is at `path` itself, not behind a link. Raises OSError."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


class Folder:
    """An open folder. Names are `new/…` or `cur/…`. Any thread may write and read; raises OSError."""

    def __init__(self, root: Path, name: str = "", *, parts: Iterable[str] = PARTS) -> None:
        """`name` is the folder's below the root, which alone may be a link. `parts` are the directories to open."""
        self.path = root / name
        with ExitStack() as opened:
            directory = _open_directory(root, 0)
            opened.callback(os.close, directory)
            for level in name.split("/") if name else ():
                directory = _open_directory(level, os.O_NOFOLLOW, dir_fd=directory, path=self.path)
                opened.callback(os.close, directory)
            self.directory = directory
            self._directories: dict[str, int] = {}
            for part in parts:
                path = self.path / part
                self._directories[part] = _open_directory(part, os.O_NOFOLLOW, dir_fd=directory, path=path)
                opened.callback(os.close, self._directories[part])
            self._opened = opened.pop_all()
        self._has_links = True

    @classmethod
    def to_read(cls, root: Path, name: str = "") -> Self:
        """Open a folder to read from: it may lack `tmp`, and below the root also `new` or `cur`."""
        return cls(root, name, parts=[part for part in READ_FROM if not name or is_directory(root / name / part)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directories. Repeatable."""
        self._opened.close()

    def write(self, tmp_name: str, name: str, chunks: Iterable[bytes], mtime: float | None = None) -> None:
        """Write a message to its name; it is durable after `sync` of `new` or `cur`.

        Raises FileExistsError when the name is taken; whatever is raised, nothing of it stays in `tmp`.
        A failed fsync is final: the file is given up.
        """
        descriptor = os.open(tmp_name, _CREATE, 0o600, dir_fd=self._directories["tmp"])
        is_in_tmp = True
        try:
            try:
                write_all(descriptor, chunks)
                if mtime is not None:
                    _date(descriptor, mtime)
                with durable_step(Step.MAILDIR_SYNC):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with durable_step(Step.MAILDIR_LINK):
                is_in_tmp = self._link(tmp_name, name)
        finally:
            if is_in_tmp:
                self.remove(f"tmp/{tmp_name}")

    def _link(self, tmp_name: str, name: str) -> bool:
        """Give a file in `tmp` its name, which must be free; tell whether it is in `tmp` still."""
        tmp, (directory, _, leaf) = self._directories["tmp"], name.partition("/")
        if self._has_links:
            try:
                os.link(tmp_name, leaf, src_dir_fd=tmp, dst_dir_fd=self._directories[directory])
            except OSError as error:
                if error.errno not in UNABLE:
                    raise
                self._has_links = False
            else:
                return True
        rename_exclusively(tmp_name, leaf, src_dir_fd=tmp, dst_dir_fd=self._directories[directory])
        return False

    def remove(self, name: str) -> None:
        """Remove a file."""
        directory, _, leaf = name.partition("/")
        with durable_step(Step.MAILDIR_UNLINK):
            os.unlink(leaf, dir_fd=self._directories[directory])

    def sync(self, directory: str) -> None:
        """Make the names in `new` or `cur` durable."""
        sync_directory(self._directories[directory])

    def sweep(self) -> None:
        """Remove what a crash of ours left in `tmp`; only for the owner of the archive's lock."""
        for leaf in self._leaves("tmp"):
            facts = self.look_at(f"tmp/{leaf}") if leaf.startswith(TMP_PREFIX) else None
            if facts is not None and not stat.S_ISDIR(facts.st_mode):
                self.remove(f"tmp/{leaf}")

    def names(self) -> Iterator[str]:
        """Every file in `new`, then `cur`; some more than once, also under names they have no more.

        A file that is there all the time is among them, even if readers move and rename meanwhile.
        """
        for _ in range(_MAX_ROUNDS):
            before = self._changed_ns()
            for directory in READ_FROM:
                if directory in self._directories:
                    yield from (f"{directory}/{leaf}" for leaf in self._leaves(directory))
            if before == self._changed_ns() and clock.now().timestamp() * 1e9 - max(before, default=0) > _SHOWN_NS:
                return

    def open(self, name: str) -> int:
        """A descriptor to read the file from; the caller closes it.

        Raises FileNotFoundError when it was moved, NotRegular for a link, a FIFO or a folder.
        """
        directory, _, leaf = name.partition("/")
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return open_regular(leaf, os.O_RDONLY, dir_fd=self._directories[directory])

    def look_at(self, name: str) -> os.stat_result | None:
        """The facts of a file (of a link itself, not where it leads); None when it was moved."""
        directory, _, leaf = name.partition("/")
        try:
            return os.stat(leaf, dir_fd=self._directories[directory], follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _leaves(self, directory: str) -> Iterator[str]:
        with os.scandir(self._directories[directory]) as entries:
            for entry in entries:
                yield entry.name

    def _changed_ns(self) -> list[int]:
        return [os.fstat(directory).st_mtime_ns for name, directory in self._directories.items() if name != "tmp"]


def _date(descriptor: int, mtime: float) -> None:
    """Give a file its date, where the file system has dates that can be set."""
    try:
        os.utime(descriptor, (mtime, mtime))
    except OSError as error:
        if error.errno not in UNABLE:
            raise


def _open_directory(name: Path | str, flags: int, *, dir_fd: int | None = None, path: Path | None = None) -> int:
    try:
        return os.open(name, _DIRECTORY | flags, dir_fd=dir_fd)
    except NotADirectoryError as error:
        raise _not_a_folder(path or name) from error


def read_chunks(descriptor: int) -> Iterator[bytes]:
    """A file's octets from its start, however often; memory: one chunk."""
    offset = 0
    while chunk := os.pread(descriptor, CHUNK_OCTETS, offset):
        offset += len(chunk)
        yield chunk
