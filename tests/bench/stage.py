"""What the measurements need around them: a directory on a real disk, a private server, maildrops, distances."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.bench.measure import RunFailed, Usage, run
from tests.bench.programs import Access, Program
from tests.bench.verify import compare, manifest
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import presented
from tests.support import mail
from tests.support.delay import Delay

SEED = 20261123
PASSWORD = "secret"
FORGET_S = 300.0  # ext4 skips recently deleted inodes one by one for as long as this (recently_deleted(), ialloc.c)
REMOVED = ".removed"  # its time says when files were last deleted here
SYNCED_FILES = 2_000
Server = TypeVar("Server")
MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}


def file_system(path: Path) -> str:
    """The type of file system `path` is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [(point, kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(inside, key=lambda mount: len(mount[0]))[1]


def check_directory(directory: Path, *, patient: bool) -> None:
    """Refuse a directory that would spoil the figures; wait until ext4 has forgotten what was deleted in it."""
    directory.mkdir(parents=True, exist_ok=True)
    if file_system(directory) in MEMORY_FILE_SYSTEMS:
        raise SystemExit(f"{directory} is memory, not a disk: an fsync costs nothing there; give --directory")
    if os.getuid() == 0 and not all(part.stat().st_mode & 0o001 for part in (directory, *directory.parents)):
        raise SystemExit(
            f"{directory} cannot be reached by the server, which runs without privileges; give --directory"
        )
    removed = directory / REMOVED
    rest = removed.stat().st_mtime + FORGET_S - time.time() if removed.exists() else 0.0
    if patient and rest > 0:
        print(f"waiting {rest:.0f} s: ext4 is slow where files have just been deleted (--impatient does not wait)")
        time.sleep(rest)


def sync_rate(directory: Path) -> float:
    """Small files made and synced in a second; the peers hang on it, and other users of the disk spoil it."""
    directory.mkdir()
    start = time.monotonic()
    for number in range(SYNCED_FILES):
        with (directory / str(number)).open("xb") as file:
            file.write(bytes(mail.SMALL_OCTETS))
            file.flush()
            os.fsync(file.fileno())
    return SYNCED_FILES / (time.monotonic() - start)


@dataclass(frozen=True)
class Maildrop:
    """A filled maildrop: who owns it, what is in it."""

    user: str
    messages: int
    octets: int
    expected: Counter[bytes]


class Stage:
    """The server, its maildrops (made when first asked for) and a fresh directory for each run. A context manager.

    Nothing is deleted before the end.
    """

    def __init__(self, directory: Path, scale: float) -> None:
        self.scale = scale
        self._parent = directory
        self._maildrops: dict[str, Maildrop] = {}
        self._numbers = itertools.count(1)
        self._exits = contextlib.ExitStack()
        self._distances: dict[tuple[int, float], int] = {}

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=self._parent))
        self.directory.chmod(0o755)
        with contextlib.ExitStack() as exits:
            exits.callback(self._remove)
            self.server = exits.enter_context(Dovecot(directory=self.directory))
            self._exits = exits.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.close()

    def _remove(self) -> None:
        shutil.rmtree(self.directory)
        (self._parent / REMOVED).touch()

    # --- maildrops ----------------------------------------------------------------------------------

    def scaled(self, count: int) -> int:
        """`count` messages at the scale of this benchmark, at least ten."""
        return max(10, int(count * self.scale))

    def large(self, count: int = 10_000) -> Maildrop:
        """`count` realistic messages."""
        return self.filled(f"large{count}", mail.realistic(self.scaled(count), SEED))

    def small(self, count: int = 20_000) -> Maildrop:
        """`count` messages of 2 KiB."""
        return self.filled(f"small{count}", mail.small(self.scaled(count), SEED))

    def filled(self, user: str, messages: Iterable[bytes]) -> Maildrop:
        """Any messages; they are read the first time only."""
        if user not in self._maildrops:
            octets = 0
            expected: Counter[bytes] = Counter()

            def counted() -> Iterator[bytes]:
                nonlocal octets
                for message in messages:
                    octets += len(message)
                    expected.update(manifest([presented(message)]))
                    yield message

            self.server.add_user(user, PASSWORD)
            count = self.server.deliver(user, counted())
            self._maildrops[user] = Maildrop(user, count, octets, expected)
            self.drain(self._maildrops[user])  # the server's indexes and the page cache are warm for everybody
        return self._maildrops[user]

    def drain(self, maildrop: Maildrop, *, rtt_s: float = 0.0) -> float:
        """Ask for everything at once and throw it away: seconds. What the server itself can do."""
        access = self.access(maildrop.user, rtt_s=rtt_s)
        asked = b"".join(b"RETR %d\r\n" % number for number in range(1, maildrop.messages + 1))
        buffer = bytearray(1 << 20)
        octets = 0
        start = time.monotonic()
        with socket.create_connection((access.host, access.port)) as connection:
            sign_in = f"USER {maildrop.user}\r\nPASS {PASSWORD}\r\n".encode()
            asking = threading.Thread(target=connection.sendall, args=(sign_in + asked + b"QUIT\r\n",))
            asking.start()
            while count := connection.recv_into(buffer):
                octets += count
            asking.join()
        if octets < maildrop.octets:
            raise RunFailed(f"the server ended the drain of {maildrop.user} after {octets} octets")
        return time.monotonic() - start

    # --- runs ---------------------------------------------------------------------------------------

    def access(self, user: str, *, rtt_s: float = 0.0, tls: bool = False) -> Access:
        """How to reach a maildrop, so far away."""
        port = self.server.pop3s_port if tls else self.server.pop3_port
        if rtt_s:
            port = self.distant(port, rtt_s)
        host = "localhost" if tls else self.server.host  # the name in the certificate that every peer can check
        return Access(host, port, user, PASSWORD, self.server.ca_file if tls else None)

    def distant(self, port: int, rtt_s: float) -> int:
        """A port that leads to `port` of this machine, so far away."""
        if (port, rtt_s) not in self._distances:
            self._distances[port, rtt_s] = self.keep(Delay((self.server.host, port), rtt_s / 2)).port
        return self._distances[port, rtt_s]

    def keep(self, server: AbstractContextManager[Server]) -> Server:
        """Enter it; it ends with the stage."""
        return self._exits.enter_context(server)

    def fresh(self) -> Path:
        """A new directory for one run."""
        directory = self.directory / f"{next(self._numbers):03}"
        directory.mkdir()
        return directory

    def pull(self, program: Program, maildrop: Maildrop, access: Access) -> Usage:
        """One first pull into a fresh directory; measured, then verified."""
        for _ in range(program.attempts - 1):
            try:
                return self._pull(program, maildrop, access)
            except RunFailed as failure:
                print(f"  once more: {failure}", flush=True)
        return self._pull(program, maildrop, access)

    def _pull(self, program: Program, maildrop: Maildrop, access: Access) -> Usage:
        directory = self.fresh()
        usage = run(program.prepare(access, directory), directory)
        compare(manifest(program.messages(directory)), maildrop.expected, program.name)
        return usage
