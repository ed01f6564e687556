"""What the private servers that can be broken have in common: they are killed, frozen, thawed and started again.

`Breakable` owns one process with its children. A subclass says how the process is started (`start`) and how it is
asked to stop (`stop`); `kill`, `freeze` and `thaw` work on the whole family, by process id.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

GONE_TIMEOUT_S = 10.0
POLL_S = 0.02
PROBE_TIMEOUT_S = 2.0
LOWEST_PORT = 20_000  # above the ports of well-known services
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux: the ports that clients get


def steady_port() -> int:
    """A free loopback port that no client is ever given.

    A client that reconnects in a loop to a port of the clients' range while its server is down may be given that very
    port, and is then connected with itself; the server cannot come back.
    """
    highest = int(PORT_RANGE.read_text().split()[0]) if PORT_RANGE.exists() else 32_768
    for port in random.sample(range(LOWEST_PORT, highest), 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"no free port between {LOWEST_PORT} and {highest}")


def answers(port: int, question: bytes, beginning: bytes) -> bool:
    """Whether a server on this loopback port answers `question` with something that begins with `beginning`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_TIMEOUT_S) as probe:
            probe.sendall(question)
            return probe.recv(64).startswith(beginning)
    except OSError:
        return False


class Breakable(ABC):
    """A server process. A context manager in its subclasses: runs inside the block, leaves nothing behind."""

    name = "the server"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.clean_up()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clean_up()

    @abstractmethod
    def start(self) -> None:
        """Start with the data that is there, and wait until it answers. Raises RuntimeError when it does not."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in the server's own way; a frozen one is killed. Repeatable."""

    @abstractmethod
    def clean_up(self) -> None:
        """Stop, and remove every file."""

    @property
    def process_id(self) -> int:
        """The server's first process, while it runs."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def restart(self) -> None:
        """Stop and start at the same address with the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL, to all its processes at once; returns when they are gone. `start` goes on with what was kept."""
        family = self._signal(signal.SIGKILL)
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        _wait_until_gone(family)

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections, and nobody ever answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        """Sends it to the first process, which then starts no more children, and to its children."""
        os.kill(self.process_id, number)
        family = psutil.Process(self.process_id).children(recursive=True)
        for child in family:
            try:
                child.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        return family

    def _ask_to_stop(self, number: signal.Signals, timeout_s: float) -> None:
        """Sends the signal and waits; whoever does not follow it in time is killed."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return
        if psutil.Process(self.process_id).status() == psutil.STATUS_STOPPED:
            self.kill()
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _wait_for(self, port: int, question: bytes, beginning: bytes, log: Path, timeout_s: float) -> None:
        """Returns when the new process answers; raises RuntimeError with the end of the log when it does not."""
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(port, question, beginning):
                return
            time.sleep(POLL_S)
        self.stop()
        raise RuntimeError(f"{self.name} did not start; the end of its log:\n{log.read_text(errors='replace')[-2000:]}")


def _wait_until_gone(processes: list[psutil.Process]) -> None:
    """Returns when none of them runs; a zombie that nobody has waited for holds nothing any more."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while alive := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"killed, and still there: {alive}")
        time.sleep(POLL_S)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
