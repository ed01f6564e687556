"""Everything that is measured, a row each: what, the target, and how it is taken."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import Command, RunFailed, Usage, in_turn, median_wall, run
from tests.bench.programs import (
    GETMAIL,
    MAILDIR,
    MPOP,
    PACKS,
    SYNCD,
    Access,
    Program,
    syncd_command,
    syncd_configuration,
)
from tests.bench.stage import SEED, Maildrop, Stage
from tests.bench.swarm import Swarm, measure
from tests.bench.verify import READ_OCTETS, compare, manifest
from tests.servers.maildrop import as_stored, presented, servable
from tests.support import mail

FAR_S = 0.040
MIB = 1 << 20


@dataclass(frozen=True)
class Runs:
    """The runs of one program behind a row."""

    name: str
    usages: list[Usage]
    messages: int
    octets: int


@dataclass(frozen=True)
class Result:
    """A measured row. `met` is None for a figure without a target."""

    reached: str
    met: bool | None
    runs: list[Runs] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One measurement: `take` gets the stage and the number of pairs (or of repetitions)."""

    key: str
    measure: str
    target: str
    take: Callable[[Stage, int], Result]


# --- pairs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """Which mail, how far away, over what."""

    messages: int
    small: bool = False
    far: bool = False
    tls: bool = False

    def __str__(self) -> str:
        corpus = f"{self.messages:,} {'of 2 KiB' if self.small else 'realistic'}"
        return corpus + (", TLS" if self.tls else "") + (", 40 ms" if self.far else "")

    def maildrop(self, stage: Stage) -> Maildrop:
        return stage.small(self.messages) if self.small else stage.large(self.messages)

    def access(self, stage: Stage) -> Access:
        return stage.access(self.maildrop(stage).user, rtt_s=FAR_S if self.far else 0.0, tls=self.tls)


LARGE, SMALL = Setting(10_000), Setting(20_000, small=True)
FAR_LARGE, FAR_SMALL = Setting(10_000, far=True), Setting(20_000, small=True, far=True)
TLS = Setting(10_000, tls=True)
FEWER = Setting(2_000)  # getmail starts a process for each message and takes ten minutes for 10,000 five times


def _pair(key: str, ours: Program, theirs: Program, setting: Setting, target: float) -> Row:
    def take(stage: Stage, pairs: int) -> Result:
        maildrop, access = setting.maildrop(stage), setting.access(stage)
        measured = in_turn(
            pairs, lambda: stage.pull(theirs, maildrop, access), lambda: stage.pull(ours, maildrop, access)
        )
        runs = [
            Runs(program.name, usages, maildrop.messages, maildrop.octets)
            for program, usages in ((theirs, measured.theirs), (ours, measured.ours))
        ]
        return Result(f"{measured.ratio:.2f}×", measured.ratio >= target, runs)

    return Row(key, f"{ours.name} against {theirs.name}, {setting}", f"≥ {target:g}×", take)


PAIRS = [
    _pair("packs-large", PACKS, MPOP, LARGE, 1.4),
    _pair("packs-small", PACKS, MPOP, SMALL, 4.5),
    _pair("packs-large-far", PACKS, MPOP, FAR_LARGE, 2.5),
    _pair("packs-small-far", PACKS, MPOP, FAR_SMALL, 6.0),
    _pair("maildir-large", MAILDIR, MPOP, LARGE, 1.2),
    _pair("maildir-small", MAILDIR, MPOP, SMALL, 1.7),
    _pair("maildir-large-far", MAILDIR, MPOP, FAR_LARGE, 1.8),
    _pair("maildir-small-far", MAILDIR, MPOP, FAR_SMALL, 2.5),
    _pair("maildir-getmail", MAILDIR, GETMAIL, FEWER, 15.0),
    _pair("packs-large-tls", PACKS, MPOP, TLS, 1.2),
]


# --- the program alone -----------------------------------------------------------------------------------


def _first_pull(stage: Stage, maildrop: Maildrop) -> tuple[Path, Usage]:
    """A verified first pull into packs; the directory can be used for a second run."""
    directory = stage.fresh()
    usage = run(PACKS.prepare(stage.access(maildrop.user), directory), directory)
    compare(manifest(PACKS.messages(directory)), maildrop.expected, PACKS.name)
    return directory, usage


def _second_run(stage: Stage, maildrop: Maildrop, repeat: int, rtt_s: float) -> list[Usage]:
    """Runs with nothing new; raises RunFailed if one of them asked the server for a message."""
    directory = stage.fresh()
    access = stage.access(maildrop.user, rtt_s=rtt_s)
    command = PACKS.prepare(access, directory)
    run(command, directory)
    before = len(stage.server.sessions(maildrop.user))
    usages = [run(command, directory) for _ in range(repeat)]
    sessions = stage.server.sessions(maildrop.user, at_least=before + repeat)[-repeat:]
    if any(session.top or session.retrieved for session in sessions):
        raise RunFailed(f"a run with nothing new asked for messages: {sessions}")
    return usages


def _nothing_new(key: str, messages: int, target_s: float, rtt_s: float = 0.0) -> Row:
    def take(stage: Stage, repeat: int) -> Result:
        maildrop = stage.small(messages)
        usages = _second_run(stage, maildrop, repeat, rtt_s)
        wall = median_wall(usages)
        return Result(f"{wall:.2f} s", wall <= target_s, [Runs(PACKS.name, usages, maildrop.messages, 0)])

    distance = " at 40 ms" if rtt_s else ""
    measure = f"second run, nothing new, {messages:,} messages left on the server{distance}; no TOP, no RETR"
    return Row(key, measure, f"≤ {target_s:g} s", take)


def _memory_large(stage: Stage, _repeat: int) -> Result:
    maildrop = stage.large()
    _, usage = _first_pull(stage, maildrop)
    runs = [Runs(PACKS.name, [usage], maildrop.messages, maildrop.octets)]
    return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, runs)


GIANT_OCTETS = 1 << 30


def _memory_giant(stage: Stage, _repeat: int) -> Result:
    octets = int(GIANT_OCTETS * min(1.0, stage.scale))
    sent = hashlib.sha256()
    stage.server.add_user("giant", "secret")

    def chunks() -> Iterator[bytes]:
        for chunk in mail.huge(octets, SEED):
            sent.update(as_stored(chunk))
            yield chunk

    stage.server.deliver_stream("giant", chunks())
    directory = stage.fresh()
    usage = run(PACKS.prepare(stage.access("giant"), directory), directory)
    sent.update(b"\n")  # the empty line between records
    if _single_record(directory / "store") != sent.digest():
        raise RunFailed(f"the message of {octets} octets did not arrive as it was sent")
    return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, [Runs(PACKS.name, [usage], 1, octets)])


def _single_record(archive: Path) -> bytes:
    """SHA-256 of what follows the `From ` line of an archive that holds one message, as a stream."""
    packs = sorted(str(file) for file in (archive / "packs").glob("*.mbox.zst"))
    found = hashlib.sha256()
    with subprocess.Popen(["zstd", "-dc", *packs], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while chunk := process.stdout.read(READ_OCTETS):
            found.update(chunk)
    return found.digest()


def _memory_flat(stage: Stage, _repeat: int) -> Result:
    few, many = stage.small(1_000), stage.small(100_000)
    (_, little), (_, much) = _first_pull(stage, few), _first_pull(stage, many)
    more = (much.rss - little.rss) / MIB
    runs = [Runs(PACKS.name, [u], m.messages, m.octets) for u, m in ((little, few), (much, many))]
    reached = f"{more:+.0f} MiB ({little.rss / MIB:.0f} → {much.rss / MIB:.0f})"
    return Result(reached, more <= 15 and much.rss <= 150 * MIB, runs)


def _reader_cpu(stage: Stage, repeat: int) -> Result:
    maildrop = stage.large()
    seconds: list[float] = []
    usages: list[Usage] = []
    for _ in range(repeat):
        directory = stage.fresh()
        file = syncd_configuration(stage.access(maildrop.user), directory, "packs")
        usages.append(run(syncd_command(file, "--json"), directory))
        seconds.append(_final_document((directory / "stdout").read_text())["reader_cpu_s"])
    cpu = statistics.median(seconds)
    runs = [Runs(PACKS.name, usages, maildrop.messages, maildrop.octets)]
    return Result(f"{cpu:.2f} s", cpu <= 1.5, runs)


def _final_document(output: str) -> dict[str, float]:
    """What `--json` ends with: the only document, or the last line of a stream of them."""
    try:
        document = json.loads(output)
    except json.JSONDecodeError:
        document = json.loads(output.strip().splitlines()[-1])
    last: dict[str, float] = document[-1] if isinstance(document, list) else document
    return last


def _archive_size(stage: Stage, _repeat: int) -> Result:
    messages = [message for message in mail.corpus() if servable(message)]
    if not messages:
        return Result("not measured: no real mail here (see SYNCD_CORPUS)", None)
    maildrop = stage.filled("corpus", messages)
    directory, usage = _first_pull(stage, maildrop)
    octets = sum(len(presented(message)) for message in messages)
    packs = sum(file.stat().st_size for file in (directory / "store" / "packs").iterdir())
    folder = sum(file.stat().st_size for file in (directory / "store").rglob("*") if file.is_file())
    reached = f"{packs / octets:.3f} ({folder / octets:.3f} with the index; {len(messages):,} messages)"
    return Result(reached, packs <= 0.26 * octets, [Runs(PACKS.name, [usage], len(messages), octets)])


def _help(stage: Stage, repeat: int) -> Result:
    usages = [run(Command([str(SYNCD), "--help"]), stage.fresh()) for _ in range(repeat)]
    wall = median_wall(usages)
    return Result(f"{wall:.2f} s", wall <= 0.2, [Runs("syncd --help", usages, 0, 0)])


def _drain(stage: Stage, _repeat: int) -> Result:
    rates = []
    for maildrop in (stage.large(), stage.small()):
        for rtt_s in (0.0, FAR_S):
            seconds = min(stage.drain(maildrop, rtt_s=rtt_s) for _ in range(3))
            rates.append(f"{maildrop.messages / seconds:,.0f}/s ({maildrop.octets / seconds / MIB:,.0f} MiB/s)")
    return Result("large {}, at 40 ms {}; small {}, at 40 ms {}".format(*rates), None)


ALONE = [
    _nothing_new("nothing-new", 20_000, 0.8),
    _nothing_new("nothing-new-far", 10_000, 0.9, FAR_S),
    Row("memory-large", "peak memory, 10,000 realistic messages → packs", "≤ 150 MiB", _memory_large),
    Row("memory-giant", "peak memory, one message of 1 GiB → packs", "≤ 150 MiB", _memory_giant),
    Row("memory-flat", "peak memory, 100,000 small messages more than 1,000", "≤ +15 MiB", _memory_flat),
    Row("reader-cpu", "own CPU of the reading thread, 10,000 realistic messages", "≤ 1.5 s", _reader_cpu),
    Row("archive-size", "packs by the octets of real text mail", "≤ 0.26", _archive_size),
    Row("help", "syncd --help", "≤ 0.2 s", _help),
    Row("drain", "the server alone: RETR for everything at once, octets thrown away", "", _drain),
]


# --- many jobs side by side ------------------------------------------------------------------------------

SWARM_OCTETS = 1_900_000  # just below what a message may have in memory: the most that many messages can take
BOUNDS_MIB = {8: 150, 32: 200, 64: 250}  # by jobs at a time


def _swarm(key: str, swarm: Swarm) -> Row:
    bound = BOUNDS_MIB[swarm.jobs]

    def take(stage: Stage, _repeat: int) -> Result:
        usage = measure(swarm, stage.fresh())
        messages = swarm.jobs * swarm.count
        runs = [Runs(PACKS.name, [usage], messages, messages * swarm.octets)]
        return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= bound * MIB, runs)

    return Row(key, f"peak memory, {swarm}", f"≤ {bound} MiB", take)


SWARMS = [
    _swarm(f"memory-{jobs}-jobs{suffix}", Swarm(jobs, count, octets, listed))
    for jobs in BOUNDS_MIB
    for suffix, count, octets, listed in (
        ("", 20, SWARM_OCTETS, 0),
        ("-small", 2_000, 500, 0),
        ("-understated", 20, SWARM_OCTETS, 1_000),
    )
]


def _peer(key: str, program: Program, setting: Setting) -> Row:
    def take(stage: Stage, repeat: int) -> Result:
        maildrop, access = setting.maildrop(stage), setting.access(stage)
        usages = [stage.pull(program, maildrop, access) for _ in range(repeat)]
        wall = median_wall(usages)
        runs = [Runs(program.name, usages, maildrop.messages, maildrop.octets)]
        return Result(f"{wall:.2f} s, {maildrop.messages / wall:,.0f}/s", None, runs)

    return Row(key, f"{program.name}, {setting}", "", take)


PEERS = [  # the peers alone: for a look at the machine, not part of the benchmark
    _peer("peer-large", MPOP, LARGE),
    _peer("peer-small", MPOP, SMALL),
    _peer("peer-large-far", MPOP, FAR_LARGE),
    _peer("peer-small-far", MPOP, FAR_SMALL),
    _peer("peer-large-tls", MPOP, TLS),
    _peer("peer-getmail", GETMAIL, FEWER),
]

PULLING = {row.key: row for row in (*PAIRS, *ALONE, *SWARMS)}
EXTRA = {row.key: row for row in PEERS}
