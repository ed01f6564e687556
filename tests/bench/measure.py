"""One measured run of one command, and pairs of runs in turn."""

from __future__ import annotations

import compileall
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 1800.0  # the slowest peer needs 100 s for 10,000 messages


class Usage(NamedTuple):
    """What a command took: seconds, and its largest resident set in octets."""

    wall: float
    user: float
    system: float
    rss: int


class RunFailed(Exception):
    """A measured command ended badly, or what it left is not what it was to leave."""


@dataclass(frozen=True)
class Command:
    """What to run. `accepted` are the exit codes that mean success."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset({0})


def compiled() -> None:
    """See that the program has its bytecode beside it, as where it is installed: else each start takes 0.1 s more."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in ("syncd", "jobs"):
        compileall.compile_dir(Path(__file__).parents[2] / package, quiet=1)


def run(command: Command, directory: Path) -> Usage:
    """Run it with its output in files of `directory`; what is still unwritten of the runs before is written first."""
    if not os.access(command.arguments[0], os.X_OK):
        raise RunFailed(f"{command.arguments[0]} is not there")
    os.sync()
    result, output, errors = (directory / name for name in ("usage.json", "stdout", "stderr"))
    launcher = [sys.executable, "-ISE", str(Path(__file__).with_name("launch.py"))]
    process = subprocess.Popen(
        [*launcher, str(result), str(output), str(errors), *command.arguments],
        env={**os.environ, **command.environment},
        start_new_session=True,
    )
    try:
        process.wait(TIMEOUT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    measured = json.loads(result.read_text())
    code = measured.pop("code")
    if code not in command.accepted:
        last = errors.read_text(errors="replace").strip()[-1000:]
        raise RunFailed(f"{shlex.join(command.arguments)} ended with {code}: {last}")
    return Usage(**measured)


@dataclass
class Pairs:
    """Runs of two programs in turn, A B A B."""

    theirs: list[Usage] = field(default_factory=list)
    ours: list[Usage] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as fast ours is: the median of the ratios of the pairs."""
        return statistics.median(a.wall / b.wall for a, b in zip(self.theirs, self.ours, strict=True))


def in_turn(count: int, theirs: Callable[[], Usage], ours: Callable[[], Usage]) -> Pairs:
    """Measure `count` pairs."""
    pairs = Pairs()
    for _ in range(count):
        pairs.theirs.append(theirs())
        pairs.ours.append(ours())
    return pairs


def median_wall(runs: Sequence[Usage]) -> float:
    """The median of the wall times, seconds."""
    return statistics.median(run.wall for run in runs)
