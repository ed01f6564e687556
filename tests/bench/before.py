"""This syncd against another one, such as that of the commit before, in pairs: what a change costs.

Two figures a row, medians over the pairs: wall time and processor time of the other one by ours. 1.00 is no change,
less is slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.bench.measure import Command, Pairs, Usage, in_turn, run
from tests.bench.programs import MAILDIR, PACKS, Program
from tests.bench.rows import LARGE, MIB, SMALL, Result, Row, Runs, Setting
from tests.bench.stage import Stage

LEAST_CPU = 0.95  # of the processor time before
LEAST_WALL = 0.90
MOST_MEMORY = 1.05


_PULLS = {
    "before-packs-large": (PACKS, LARGE),
    "before-packs-small": (PACKS, SMALL),
    "before-maildir-large": (MAILDIR, LARGE),
    "before-maildir-small": (MAILDIR, SMALL),
}
_SECOND_RUN = "before-second-run"
KEYS = [*_PULLS, _SECOND_RUN]


def rows(syncd: Path) -> dict[str, Row]:
    """The rows compared with the program at `syncd`, by key."""
    found = [_pull(key, program, setting, syncd) for key, (program, setting) in _PULLS.items()]
    return {row.key: row for row in [*found, _second_run(_SECOND_RUN, syncd)]}


def _pull(key: str, program: Program, setting: Setting, syncd: Path) -> Row:
    def take(stage: Stage, pairs: int) -> Result:
        maildrop, access = setting.maildrop(stage), setting.access(stage)
        other = _as(program, syncd)
        measured = in_turn(
            pairs, lambda: stage.pull(other, maildrop, access), lambda: stage.pull(program, maildrop, access)
        )
        return _judged(measured, program, maildrop.messages, maildrop.octets)

    return Row(key, f"{program.name}, {setting}, against the program before", "as before", take)


def _second_run(key: str, syncd: Path) -> Row:
    def take(stage: Stage, pairs: int) -> Result:
        maildrop = stage.small(20_000)
        again = [_again(stage, program, maildrop.user) for program in (_as(PACKS, syncd), PACKS)]
        return _judged(in_turn(pairs, *again), PACKS, maildrop.messages, 0)

    return Row(key, "second run, nothing new, 20,000 messages, against the program before", "as before", take)


def _again(stage: Stage, program: Program, user: str) -> Callable[[], Usage]:
    """Pull once; the run that comes back is one with nothing new."""
    directory = stage.fresh()
    command = program.prepare(stage.access(user), directory)
    run(command, directory)
    return lambda: run(command, directory)


def _as(program: Program, syncd: Path) -> Program:
    """The same, done by another syncd."""
    return replace(
        program,
        name=f"{program.name}, before",
        prepare=lambda access, directory: _by(syncd, program.prepare(access, directory)),
    )


def _by(syncd: Path, command: Command) -> Command:
    return replace(command, arguments=[str(syncd), *command.arguments[1:]])


def _judged(measured: Pairs, program: Program, messages: int, octets: int) -> Result:
    pairs = list(zip(measured.theirs, measured.ours, strict=True))
    cpu = statistics.median((before.user + before.system) / (now.user + now.system) for before, now in pairs)
    memory = statistics.median(now.rss / before.rss for before, now in pairs)
    peaks = [max(usage.rss for usage in usages) / MIB for usages in (measured.theirs, measured.ours)]
    reached = f"wall {measured.ratio:.2f}, CPU {cpu:.2f}, peak {peaks[0]:.0f} → {peaks[1]:.0f} MiB"
    met = measured.ratio >= LEAST_WALL and cpu >= LEAST_CPU and memory <= MOST_MEMORY
    runs = [
        Runs(f"{program.name}, before", measured.theirs, messages, octets),
        Runs(program.name, measured.ours, messages, octets),
    ]
    return Result(reached, met, runs)
