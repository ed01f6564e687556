"""A private Redis for tests: on a loopback port, its data in a temporary directory.

    with Redis() as server:
        url = server.url                   # "redis://127.0.0.1:NNNNN/0"
        server.kill(); server.start()      # same port, same data
        server.wipe()                      # same port, no data

Needs `tests/servers/install` to have been run once. It dies with the thread that started it; what a killed parent
leaves in /tmp is removed the next time. What it acknowledged survives `kill`, and a crash of the machine it need not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.servers.dovecot import clear_away
from tests.servers.process import Breakable, steady_port

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
PREFIX = "syncd-redis-"  # then the process that made it


def missing() -> str:
    """Why it cannot run here, in one line; empty when it can."""
    return "" if shutil.which("redis-server") else "Redis is not installed; run tests/servers/install"


class Redis(Breakable):
    """The server. A context manager: runs inside the block, leaves no process and no file behind."""

    name = "Redis"

    def __init__(self) -> None:
        super().__init__()
        if reason := missing():
            raise RuntimeError(reason)
        clear_away(PREFIX)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.port = steady_port()
        self._data = self.directory / "data"
        self._data.mkdir()
        self._log = self.directory / "log"

    @property
    def url(self) -> str:
        """Where it is, for redis-py, Kombu and Celery."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start with the data that is there, and wait until it answers. Raises RuntimeError when it does not."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "no",  # the process may be killed, the machine is not
        }
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "--", "redis-server", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for(self.port, b"PING\r\n", b"+PONG", self._log, START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop; its data is kept. Repeatable."""
        self._ask_to_stop(signal.SIGTERM, STOP_TIMEOUT_S)

    def wipe(self) -> None:
        """Kill it, throw its data away, and start it on the same port."""
        self.kill()
        shutil.rmtree(self._data)
        self._data.mkdir()
        self.start()

    def clean_up(self) -> None:
        """Stop, and remove every file."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
