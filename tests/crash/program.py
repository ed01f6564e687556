"""Starts `syncd` as processes that may be killed, frozen and woken.

Most are forked by multiprocessing's fork server, which has imported the program once: a run then takes a tenth of a
second. `spawn` starts an ordinary one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from syncd.durable import Moment, Step
from tests.crash import child
from tests.crash.child import Lease, Point

PATIENCE_S = 60.0  # for anything that should take a second
POLL_S = 0.002
_WARM = [
    *("tests.crash.child", "syncd.cli.run", "syncd.cli.bars", "syncd.cli.errors", "syncd.settings.load"),
    *("syncd.services.runs", "syncd.services.asking", "syncd.services.documents", "syncd.services.proxies"),
    *("syncd.sources.pop3.account", "syncd.sources.imap.account", "syncd.sources.packs", "syncd.sources.maildir"),
    *(
        "syncd.destinations.maildir",
        "syncd.destinations.smtp.route",
        "syncd.destinations.imap.route",
        "scramp",
        "ctypes",
    ),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_WARM)


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is negative for a signal, as in subprocess."""

    code: int
    stdout: str
    stderr: str
    steps: dict[tuple[Step, Moment], int]  # empty when it was killed

    def was_killed(self, point: Point) -> bool:
        """Returns whether it came to the point. It may end with fewer steps than another run of the same work had."""
        fewer = self.code == 0 and self.steps[point.step, point.moment] < point.occurrence
        assert self.code == -signal.SIGKILL or fewer, f"it never came to {point}: {self.stderr}"
        return not fewer


class Program:
    """One process of `syncd`, under way."""

    def __init__(
        self,
        arguments: list[str],
        output: Path,
        *,
        point: Point | None = None,
        lease: Lease | None = None,
        alone: bool = False,
    ) -> None:
        output.mkdir(exist_ok=True)
        (output / "steps.json").unlink(missing_ok=True)
        self._output = output
        self._process: ForkServerProcess = _context.Process(
            target=child.run, args=(arguments, output, point, lease), kwargs={"alone": alone}
        )
        self._process.start()

    @property
    def process_id(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self) -> Ended:
        """Wait for its end."""
        self._process.join(PATIENCE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"still running after {PATIENCE_S} s: {self._read('stderr')}")
        code = self._process.exitcode
        steps = self._output / "steps.json"
        counts = json.loads(steps.read_text()) if steps.exists() else []
        self._process.close()
        return Ended(
            code,
            self._read("stdout"),
            self._read("stderr"),
            {(Step(step), moment): count for step, moment, count in counts},
        )

    def wait_until_frozen(self) -> None:
        """Wait until it has stopped itself."""
        deadline = time.monotonic() + PATIENCE_S
        while _state(self.process_id) != "T":
            assert self._process.is_alive(), f"it ended before it was to stop: {self._read('stderr')}"
            assert time.monotonic() < deadline, "it does not stop"
            time.sleep(POLL_S)

    def kill(self) -> None:
        self._process.kill()

    def wake(self) -> None:
        os.kill(self.process_id, signal.SIGCONT)

    def _read(self, name: str) -> str:
        path = self._output / name
        return path.read_text() if path.exists() else ""


def spawn(arguments: list[str], output: Path) -> subprocess.Popen[bytes]:
    """An ordinary process with its own imports and the program's own batches; it is the caller's to wait for."""
    output.mkdir(exist_ok=True)
    with (output / "stdout").open("wb") as stdout, (output / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "syncd", *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )


def _state(process_id: int) -> str:
    """The kernel's letter for a process."""
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
