"""A private PostgreSQL for tests: a cluster in a temporary directory, reached by a Unix socket alone.

    with Postgresql() as server:
        url = server.new_database()        # "postgresql+psycopg://...", empty
        server.kill(); server.start()      # same address, same databases

Needs `tests/servers/install` to have been run once, and psycopg. Root or not makes no difference: the server runs
without privileges (as root, it is started as Debian's `postgres` user), and dies with the thread that started it.
Nothing is flushed to the disk: what was committed survives `kill`, and a crash of the machine it need not. Measures
ask for `Postgresql(as_installed=True)`, which flushes, and has the memory that PostgreSQL has where nobody sets it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

from tests.servers.dovecot import clear_away
from tests.servers.process import Breakable

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
IN_USE = b"is still in use"  # of the memory that processes of a killed server share, until the last one has ended
PREFIX = "syncd-postgresql-"  # then the process that made it
ROOM_OCTETS = 8 << 30  # in memory, for the servers of all test processes
ROOT_RUNS_AS = "postgres"  # made by the Debian package
SPARING = {"fsync": "off", "shared_buffers": "16MB"}
DEBIAN = Path("/usr/lib/postgresql")  # NN/bin: not on the PATH


def programs() -> Path | None:
    """The folder of the newest installed server's programs; None when there is none."""
    found = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    binary = shutil.which("postgres")
    return Path(binary).resolve().parent if binary else None


def _place() -> str:
    """Memory, where there is plenty: a database has 300 files, and to make these on a disk takes 0.15 s."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        room = os.statvfs(memory)
        if room.f_bavail * room.f_frsize >= ROOM_OCTETS:
            return str(memory)
    return "/tmp"


class Postgresql(Breakable):
    """The server. A context manager: runs inside the block, leaves no process and no file behind.

    With `password` it asks everybody for it, and its URLs do not have it; otherwise it lets everybody in.
    """

    name = "PostgreSQL"

    def __init__(self, password: str = "", *, as_installed: bool = False) -> None:
        super().__init__()
        self._password = password
        self._sparing = {} if as_installed else SPARING
        # Not pytest's tmp_path: that is closed to other users, and Unix sockets need a path under 108 octets.
        place = "/tmp" if as_installed else _place()
        clear_away(PREFIX, place)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))
        self._owner = pwd.getpwnam(ROOT_RUNS_AS) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        os.chown(self.directory, self._owner.pw_uid, self._owner.pw_gid)
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._numbers = itertools.count(1)

    def new_database(self, template: str = "template0") -> str:
        """The URL of a fresh database: empty, or a copy of the database `template`, which nobody may be using."""
        name = f"ledger{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)  # createdb takes three times as long
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.partition("?")[0].rpartition("/")[2])

    def url(self, name: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql+psycopg://syncd@/{name}?host={self.directory}"

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with the end of its log when it does not."""
        if not self._data.exists():
            self._make()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "max_connections": "100",
            **self._sparing,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            already = self._log.stat().st_size if self._log.exists() else 0
            process = self._process = self._launch(options)
            while time.monotonic() < deadline and process.poll() is None:
                if self._answers():
                    return
                time.sleep(POLL_S)
            if IN_USE not in self._log.read_bytes()[already:]:
                break  # otherwise the last processes of a server that was killed are about to end
            time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start; the end of its log:\n{self._log.read_text()[-2000:]}")

    def _launch(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._as_owner("--pdeathsig=INT"), str(self._program("postgres")), "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        asked = [str(self._program("pg_isready")), "-q", "-h", str(self.directory)]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        """Stop at once, whoever is connected. Repeatable; `start` goes on with the same databases."""
        self._ask_to_stop(signal.SIGINT, STOP_TIMEOUT_S)  # PostgreSQL's "fast shutdown"

    def clean_up(self) -> None:
        """Stop, and remove every file."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        ours = psycopg.connect(
            host=str(self.directory), user="syncd", dbname="postgres", password=self._password or None, autocommit=True
        )
        with ours as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))

    def _make(self) -> None:
        options = ["-D", str(self._data), "-U", "syncd", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        if not self._password:
            self._run("initdb", *options, "-A", "trust")
            return
        file = self.directory / "password"
        file.write_text(self._password)
        self._run("initdb", *options, "-A", "scram-sha-256", f"--pwfile={file}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner(), str(self._program(program)), *arguments]
        environment = {**os.environ, "PGPASSWORD": self._password}
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=self.directory, env=environment)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")

    def _as_owner(self, *options: str) -> list[str]:
        group = str(self._owner.pw_gid)
        drop = [f"--reuid={ROOT_RUNS_AS}", f"--regid={group}", "--clear-groups"] if os.getuid() == 0 else []
        return ["setpriv", *drop, *options, "--"]

    @staticmethod
    def _program(name: str) -> Path:
        folder = programs()
        if folder is None:
            raise RuntimeError("PostgreSQL is not installed; run tests/servers/install")
        return folder / name
