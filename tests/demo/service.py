"""The part of the demo in which the service does the work: a schedule, new mail, a run by hand, an orderly end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.demo.compare import must_be
from tests.demo.terminal import Mismatch, Terminal

SCHEDULE = 'schedule = "every 2 seconds"      # on this machine; a minute at least where a provider has the server'
PATIENCE_S = 120.0
POLL_S = 0.1


class Serving:
    """Runs `syncd serve` in the folder of the demo."""

    def __init__(self, folder: Path, terminal: Terminal, stored: Callable[[], int]) -> None:
        """`stored`: the number of messages of the first account that are in its archive."""
        self._folder = folder
        self._terminal = terminal
        self._stored = stored

    def tell(self, deliver: Callable[[], int]) -> None:
        """`deliver` brings new mail, and returns how many messages the account has then. Raises Mismatch."""
        tell = self._terminal
        tell.part("As a service, on a schedule")
        self._schedule()
        tell.run("The first job gets a schedule.", "grep", "-A5", "-F", "[jobs.road-backup]", "syncd.toml")
        tell.announce("Scheduler, workers and queue in one process.", "syncd serve --log-file serve.log &")
        service = tell.start("syncd", "serve", "--log-file", "serve.log", "--listen", "")
        try:
            wanted = deliver()
            tell.say("Ten more messages arrive at the server. Nobody does anything.")
            self._wait_for(wanted)
            tell.good(f"the service has fetched them: {wanted:,} messages are in the archive")
            tell.run("A run by hand is done by the service, and shown here.", "syncd", "run", "road-backup")
            tell.run("When each job is due next:", "syncd", "status", "road-backup")
            tell.announce("It ends in order, with all state saved.", "kill %1")
            service.send_signal(signal.SIGTERM)
            must_be("the exit code of the service", service.wait(PATIENCE_S), 0)
        finally:
            service.kill()
            service.wait()
        tell.run("What it logged, the newest lines:", "tail", "-n", "4", "serve.log")

    def _schedule(self) -> None:
        file = self._folder / "syncd.toml"
        head = '[jobs.road-backup]\nsource = "road"\n'
        file.write_text(file.read_text().replace(head, f"{head}{SCHEDULE}\n"))

    def _wait_for(self, messages: int) -> None:
        for _ in self._looks():
            if self._stored() == messages:
                return
        raise Mismatch(f"the service stored {self._stored():,} of {messages:,} messages; see serve.log")

    def _looks(self) -> Iterator[None]:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            yield
            time.sleep(POLL_S)
