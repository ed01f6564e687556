"""The process that is killed: the command line, with an observer at every durable step and small batches.

Runs in a process forked from one that has imported everything, see `program.py`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from syncd import durable
from syncd.cli.main import main
from syncd.db.database import Database
from syncd.db.leases import LeaseSet
from syncd.destinations.imap import account, late
from syncd.destinations.imap.claims import Claim, Claims, LooksFor
from syncd.destinations.packs import PacksArchive
from syncd.durable import Moment, Step
from syncd.engine import backfill, pipe
from syncd.formats import writer_lock
from syncd.formats.packs import home as pack_home
from syncd.services import search, slices

BATCH_MESSAGES = 10  # sixty messages make six batches
MANY = 8  # for which an IMAP mailbox is opened where each takes an APPEND of its own: those of a full batch
SEAL_OCTETS = 64 << 10  # and several packs
POLL_S = 0.002
LOCK_WAIT_S = 1.0  # nobody holds a lock that long but a process that a test froze


@dataclass(frozen=True)
class Point:
    """An occurrence of a durable step, counted from 1, and the signal that the process sends itself there."""

    step: Step
    moment: Moment
    occurrence: int
    number: int = signal.SIGKILL

    def __str__(self) -> str:
        return f"{self.moment} {self.step.value} number {self.occurrence}"


@dataclass(frozen=True)
class Lease:
    """How long leases last, in seconds."""

    expiry_s: float
    renew_s: float
    margin_s: float


class _Observer:
    """Counts steps; sends the signal at the chosen one."""

    def __init__(self, point: Point | None) -> None:
        self.seen: Counter[tuple[Step, Moment]] = Counter()
        self._point = point
        self._lock = threading.Lock()  # Maildir's threads sync and link side by side

    def __call__(self, step: Step, moment: Moment) -> None:
        with self._lock:
            self.seen[step, moment] += 1
            number = self.seen[step, moment]
        if self._point is not None and (step, moment, number) == (
            self._point.step,
            self._point.moment,
            self._point.occurrence,
        ):
            signal.pthread_kill(threading.get_ident(), self._point.number)  # this thread does not run on meanwhile


def run(arguments: list[str], output: Path, point: Point | None, lease: Lease | None, *, alone: bool) -> None:
    """Be `syncd`. Standard streams go to files in `output`, the number of each step to `steps.json`.

    With `alone=True` it is killed when a connection waits until it has an IMAP mailbox alone.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    _shrink()
    if lease is not None:
        _shorten(lease)
    if alone:
        _kill_alone()
    durable.observer = observer = _Observer(point)
    sys.argv = ["syncd", *arguments]
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        counts = [(step.value, moment, count) for (step, moment), count in observer.seen.items()]
        (output / "steps.json").write_text(json.dumps(counts))


def _kill_alone() -> None:
    make_alone = Claims.make_alone

    def waits(claims: Claims, claim: Claim, looks_for: LooksFor) -> None:
        def kill() -> None:
            while not claim.waits:
                time.sleep(POLL_S)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        make_alone(claims, claim, looks_for)

    _replace(Claims, "make_alone", waits)


def _shrink() -> None:
    for module in (pipe, backfill):
        _replace(module, "BATCH_MESSAGES", BATCH_MESSAGES)
    _replace(search, "BATCH", BATCH_MESSAGES)
    _replace(account, "MANY", MANY)
    _replace(late, "LATE_S", 0.0)  # scripted and local servers have done all that they do when the next run asks
    _default(PacksArchive.__init__, "seal_octets", SEAL_OCTETS)
    _default(Database.open, "busy_s", LOCK_WAIT_S)
    for module in (pack_home, writer_lock):
        _replace(module, "LOCK_WAIT_S", LOCK_WAIT_S)


def _shorten(lease: Lease) -> None:
    _default(LeaseSet.acquire, "expiry_s", lease.expiry_s)
    _default(LeaseSet.acquire, "renew_s", lease.renew_s)
    _replace(slices, "LEASE_MARGIN_S", lease.margin_s)


def _replace(module: ModuleType | type[Claims], constant: str, value: object) -> None:
    """Change a constant, which must exist."""
    assert hasattr(module, constant), f"{module.__name__} has no {constant} any more"
    setattr(module, constant, value)


def _default(function: Any, parameter: str, value: object) -> None:
    """Change the default of a keyword parameter, which must exist."""
    function = getattr(function, "__func__", function)
    defaults = function.__kwdefaults__
    assert defaults is not None
    assert parameter in defaults, f"{function.__qualname__} has no {parameter} any more"
    defaults[parameter] = value
