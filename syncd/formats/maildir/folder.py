"""One Maildir folder on disk: files written so that they are whole or not there, and found again.

A message is written under a name of its own in `tmp`, fsynced, linked to its name in `new` or `cur`
(link(2) never overwrites), and its name in `tmp` removed; once a batch, `sync` makes the links durable.
This order holds on every file system. An unnamed file (O_TMPFILE) linked afterwards was measured too: 0 to 7 %
faster on ext4, within the noise, but its fsync says nothing about a name it does not have yet, and on btrfs
such a file is left out of the log; so it is not used.

Mail readers move files from `new` to `cur` and rename them there while we look. `names` therefore reads
again until the directories stood still: readdir(3) may show a renamed file under no name at all.

Everything goes through descriptors of the directories, opened without following symbolic links: nobody
can put another folder in the place of ours while we write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from syncd import clock
from syncd.durable import Step, durable_step, sync_directory, write_all

TMP_PREFIX = "syncd."
CHUNK_OCTETS = 256 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_SETTLED_NS = 20_000_000  # a change this long ago shows in a directory's mtime: its clock ticks every 1 to 10 ms
_MAX_ROUNDS = 5  # a reader that renames without pause must not hold us for ever


def make_folder(path: Path, *, below_root: bool) -> None:
    """Make the folder and its three directories where they are missing, for the owner alone, durably.

    A folder below the root also has the empty file that Maildir++ knows it by.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(mode=0o700, exist_ok=True)
    if below_root:
        os.close(os.open(path / "maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    sync_directory(path)
    if below_root:
        sync_directory(path.parent)


class Folder:
    """A folder held open. Names are `new/…` or `cur/…`. Any thread may write and read; raises OSError."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            root = os.open(path, _DIRECTORY)
            opened.callback(os.close, root)
            self._directories: dict[str, int] = {}
            for name in ("tmp", "new", "cur"):
                self._directories[name] = os.open(name, _DIRECTORY, dir_fd=root)
                opened.callback(os.close, self._directories[name])
            self._opened = opened.pop_all()

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
        tmp = self._directories["tmp"]
        directory, _, leaf = name.partition("/")
        descriptor = os.open(tmp_name, _CREATE, 0o600, dir_fd=tmp)
        try:
            try:
                write_all(descriptor, chunks)
                if mtime is not None:
                    os.utime(descriptor, (mtime, mtime))
                with durable_step(Step.MAILDIR_SYNC):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with durable_step(Step.MAILDIR_LINK):
                os.link(tmp_name, leaf, src_dir_fd=tmp, dst_dir_fd=self._directories[directory])
        finally:
            self.remove(f"tmp/{tmp_name}")

    def remove(self, name: str) -> None:
        """Remove a file."""
        directory, _, leaf = name.partition("/")
        with durable_step(Step.MAILDIR_UNLINK):
            os.unlink(leaf, dir_fd=self._directories[directory])

    def sync(self, directory: str) -> None:
        """Make the names in `new` or `cur` durable."""
        sync_directory(self._directories[directory])

    def sweep(self) -> None:
        """Remove what a crash of ours left in `tmp`; only for whoever holds the archive's lock."""
        for leaf in self._leaves("tmp"):
            if leaf.startswith(TMP_PREFIX):
                self.remove(f"tmp/{leaf}")

    def names(self) -> Iterator[str]:
        """Every file in `new`, then `cur`; some more than once, also under names they have no more.

        A file that is there all the time is among them, even if readers move and rename meanwhile.
        """
        for _ in range(_MAX_ROUNDS):
            before = self._changed_ns()
            for directory in ("new", "cur"):
                yield from (f"{directory}/{leaf}" for leaf in self._leaves(directory))
            if before == self._changed_ns() and clock.now().timestamp() * 1e9 - max(before) > _SETTLED_NS:
                return

    def open(self, name: str) -> int:
        """A descriptor to read the file from; the caller closes it. Raises FileNotFoundError when it was moved."""
        directory, _, leaf = name.partition("/")
        return os.open(leaf, _READ, dir_fd=self._directories[directory])

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

    def _changed_ns(self) -> tuple[int, int]:
        new, cur = (os.fstat(self._directories[name]).st_mtime_ns for name in ("new", "cur"))
        return new, cur


def read_chunks(descriptor: int) -> Iterator[bytes]:
    """A file's octets from its start, however often; memory: one chunk."""
    offset = 0
    while chunk := os.pread(descriptor, CHUNK_OCTETS, offset):
        offset += len(chunk)
        yield chunk
