"""Memory of many jobs side by side, against a POP3 server that is faster than any of them.

The server is a process of its own on loopback. It has `count` messages for each user, makes their octets when they are
asked for, and may list them with another size than they have.
"""

from __future__ import annotations

import base64
import os
import random
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Command, RunFailed, Usage, run
from tests.bench.programs import SYNCD, private

FILES = 8192  # connections and threads of the server
SEED = 11


@dataclass(frozen=True)
class Swarm:
    """Jobs at a time, and what each finds: so many messages of so many octets, listed as `listed` (0: as they are)."""

    jobs: int
    count: int
    octets: int
    listed: int = 0

    def __str__(self) -> str:
        told = f", listed with {self.listed:,}" if self.listed else ""
        return f"{self.jobs} jobs at a time, {self.count:,} messages of {self.octets:,} octets each{told}"


def measure(swarm: Swarm, directory: Path) -> Usage:
    """Run all jobs once, each into packs of its own; raises RunFailed unless everything arrived."""
    with _serving(swarm) as port:
        file = private(directory / "syncd.toml", "".join(_job(number, port) for number in range(swarm.jobs)))
        arguments = [str(SYNCD), "-c", str(file), "-q", "run", "--parallel", str(swarm.jobs)]
        environment = {"SYNCD_HOME": str(directory / "state"), "SWARM_PASSWORD": "secret"}
        return run(Command(arguments, environment), directory)


def _job(number: int, port: int) -> str:
    return (
        f'[accounts.a{number}]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "u{number}"\npassword = "env:SWARM_PASSWORD"\n'
        f'[archives.h{number}]\npath = "store{number}"\n[jobs.j{number}]\nsource = "a{number}"\n'
        f'destinations = ["h{number}"]\n'
    )


@contextmanager
def _serving(swarm: Swarm) -> Iterator[int]:
    """A server in a process of its own; its port."""
    arguments = [sys.executable, "-m", __name__, str(swarm.count), str(swarm.octets), str(swarm.listed)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RunFailed("the server did not begin")
            yield int(line)
        finally:
            process.kill()


# --- the server --------------------------------------------------------------------------------------------


class _Maildrop:
    """Answers of one session, by command."""

    def __init__(self, count: int, tail: bytes, listed: int) -> None:
        self._count, self._tail, self._listed = count, tail, listed
        self._user = b""

    def answer(self, verb: bytes, argument: bytes) -> Iterator[bytes]:
        """The pieces of an answer."""
        number = int(argument) if argument.isdigit() else 0
        match verb:
            case b"CAPA":
                yield b"+OK\r\nUIDL\r\nUSER\r\nTOP\r\nPIPELINING\r\n.\r\n"
            case b"USER":
                self._user = argument
                yield b"+OK\r\n"
            case b"STAT":
                yield b"+OK %d %d\r\n" % (self._count, sum(map(self._size, range(1, self._count + 1))))
            case b"LIST" | b"UIDL" if number:
                yield b"+OK %d %s\r\n" % (number, self._row(verb, number))
            case b"LIST" | b"UIDL":
                yield b"+OK\r\n"
                yield b"".join(b"%d %s\r\n" % (n, self._row(verb, n)) for n in range(1, self._count + 1))
                yield b".\r\n"
            case b"RETR":
                yield b"+OK\r\n" + self._head(number)
                yield self._tail
            case _:
                yield b"+OK\r\n"

    def _head(self, number: int) -> bytes:
        return b"From: a@example.net\r\nSubject: %s %d\r\n\r\n" % (self._user, number)

    def _size(self, number: int) -> int:
        return self._listed or len(self._head(number)) + len(self._tail) - len(b".\r\n")

    def _row(self, verb: bytes, number: int) -> bytes:
        return b"u%d" % number if verb == b"UIDL" else b"%d" % self._size(number)


def _session(connection: socket.socket, maildrop: _Maildrop) -> None:
    try:
        with connection, connection.makefile("rb") as lines:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"+OK\r\n")
            for line in lines:
                verb, _, argument = line.strip().partition(b" ")
                for piece in maildrop.answer(verb.upper(), argument):
                    connection.sendall(piece)
                if verb.upper() == b"QUIT":
                    return
    except OSError:
        return


def _serve(count: int, octets: int, listed: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    body = base64.encodebytes(random.Random(SEED).randbytes(octets * 3 // 4)).replace(b"\n", b"\r\n")
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    os.write(1, b"%d\n" % listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        maildrop = _Maildrop(count, body + b".\r\n", listed)
        threading.Thread(target=_session, args=(connection, maildrop), daemon=True).start()


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:4]))
