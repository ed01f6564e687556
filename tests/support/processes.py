"""Processes of the service: real ones, started by the command line, with their logs as JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

LONGEST_S = 60.0  # on a busy machine; usual are three
Found = TypeVar("Found")


def wait_for(what: Callable[[], Found], longest_s: float = LONGEST_S) -> Found:
    """What `what` returns once it is true."""
    end = time.monotonic() + longest_s
    while True:
        if found := what():
            return found
        assert time.monotonic() < end, f"it did not come within {longest_s:g} s"
        time.sleep(0.05)


class Service:
    """A process that stays. A context manager: at its end the process is asked to end, and killed if it does not."""

    def __init__(
        self,
        *words: str,
        config: Path,
        log: Path,
        environment: Mapping[str, str],
        program: Sequence[str] = (sys.executable, "-m", "syncd"),
    ) -> None:
        self.log = log
        self.begun_at = log.stat().st_size if log.exists() else 0  # octets that an earlier process has written
        command = [*program, *words, "--config", str(config), "--log-file", str(log)]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                self.process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self, longest_s: float = LONGEST_S) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait(longest_s)

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log lines of this process, or of one event."""
        if not self.log.exists():
            return []
        text = self.log.read_bytes()[self.begun_at :].decode()
        whole = text[: text.rfind("\n") + 1]
        found = map(json.loads, whole.splitlines())
        return [it for it in found if not event or it["event"].partition(":")[0] == event]

    def has(self, event: str, longest_s: float = LONGEST_S) -> list[dict[str, Any]]:
        """The lines of an event, once there are some."""
        return wait_for(lambda: self.lines(event), longest_s)


def run(config: Path, *words: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command of syncd, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "syncd", *words, "--config", str(config)],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )


def letters(archive: Path) -> Counter[bytes]:
    """SHA-256 of each message in a Maildir, with how often it is there."""
    files = (it for folder in ("new", "cur") for it in archive.glob(f"**/{folder}/*"))
    return Counter(sha256(it.read_bytes()).digest() for it in files)


def once_each(messages: Iterable[bytes]) -> Counter[bytes]:
    """What `letters` gives where each message is there once."""
    return Counter(sha256(it.replace(b"\r\n", b"\n")).digest() for it in messages)
