"""Processes of a cluster that may be killed, frozen and woken: forked from one that has imported the program.

Their leases are short, so that a test sees one run out.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.crash.child import _default, _replace

EXPIRY_S = 5.0
ENDS_WITHIN_S = 40.0
_context = multiprocessing.get_context("forkserver")
_WARM = [
    "tests.crash.member",
    "syncd.cli.serve",
    "syncd.services.apply",
    "jobs.process",
    "jobs.worker",
    "jobs.schedule",
]


def preload(more: Sequence[str]) -> None:
    """Have the fork server import what its children need; it does so when it starts."""
    _context.set_forkserver_preload([*more, *_WARM])


def be(arguments: Sequence[str], log: Path, environment: Mapping[str, str], expiry_s: float) -> None:
    """Be `syncd`, with leases of `expiry_s`."""
    os.setsid()
    for number in (1, 2):
        os.dup2(os.open(log.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.update(environment)
    _shorten(expiry_s)
    from syncd.cli.main import main

    sys.argv = ["syncd", *arguments]
    main()


def _shorten(expiry_s: float) -> None:
    from jobs import process, schedule
    from syncd.db import database, queue, renewal
    from syncd.db.leases import LeaseSet
    from syncd.destinations.imap import late
    from syncd.services import slices

    for function in (LeaseSet.acquire, LeaseSet.take):
        _default(function, "expiry_s", expiry_s)
    _default(LeaseSet.acquire, "renew_s", expiry_s / 3)
    _replace(database, "IDLE_S", expiry_s)
    _replace(queue, "MAX_DEATHS", 1000)  # three kills may well come within one run: its job would be paused
    _replace(late, "LATE_S", 2.0)  # a hundred times what the slow server of a cluster takes for a message
    _replace(slices, "LEASE_MARGIN_S", expiry_s / 10)
    _replace(process, "EXPIRY_S", expiry_s)
    _replace(schedule, "LEASE_S", expiry_s)
    _replace(schedule, "RENEW_S", expiry_s / 3)
    assert renewal.renewer.__defaults__ == (renewal.RENEW_S,)
    renewal.renewer.__defaults__ = (expiry_s / 3,)


class Member:
    """One process, which can be started again after its end."""

    def __init__(self, words: Sequence[str], config: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.words = words
        self.log = log
        self._arguments = [*words, "--config", str(config), "--log-file", str(log)]
        self._environment = dict(environment)
        self._process: ForkServerProcess | None = None
        self.frozen = False

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs:
            return
        given = (self._arguments, self.log, self._environment, EXPIRY_S)
        self._process = _context.Process(target=be, args=given)
        self._process.start()
        self.frozen = False

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.runs:
            assert self._process is not None
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it renews nothing."""
        self.send(signal.SIGSTOP)
        self.frozen = True

    def wake(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)
        self.frozen = False

    def end(self) -> int | None:
        """Ask it to end; returns its exit code, None where it did not end in time and was killed."""
        if self._process is None:
            return None
        self.wake()
        self.send(signal.SIGTERM)
        self._process.join(ENDS_WITHIN_S)
        code = self._process.exitcode
        self.kill()
        return code

    def said(self, event: str) -> bool:
        """Whether its log has this."""
        return self.log.exists() and event in self.log.read_text()
