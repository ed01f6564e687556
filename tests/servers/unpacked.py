"""Servers whose packages cannot stand beside Dovecot's: unpacked by `tests/servers/install`, never installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

UNPACKED: Final = Path(__file__).parents[2] / ".servers"
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02


def root(name: str) -> Path:
    """The folder that the packages of a server were unpacked into."""
    return UNPACKED / name


def missing(name: str, program: str, *, as_root: bool) -> str:
    """Returns why a server cannot run here; "" if it can."""
    if not (root(name) / program).exists():
        return f"{name} is not unpacked; run tests/servers/install"
    if as_root and os.getuid() != 0:
        return f"{name} runs in tests only when they are run by root"
    return ""


def libraries(name: str) -> str:
    """The LD_LIBRARY_PATH for the programs of a server."""
    places = [root(name) / "usr" / "lib", *(root(name) / "usr" / "lib").glob("*-linux-gnu*")]
    places += (root(name) / "lib").glob("*-linux-gnu*")
    return ":".join(map(str, places))


class Daemon:
    """A process that serves a port until it is stopped, with everything that it started."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> None:
        """Start and wait until it greets. Raises RuntimeError with the end of its log when it does not."""
        setpriv = shutil.which("setpriv")
        assert setpriv
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [setpriv, "--pdeathsig=TERM", "--", *command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as probe:
                    if probe.recv(512).startswith(b"* OK"):
                        return
            except OSError:
                time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"{command[0]} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Stop; every process of the server is gone afterwards, as they share a session. Repeatable."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
