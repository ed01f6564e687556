"""What is measured of redelivery, a row each: against other programs, by distance, against Postfix's own generator."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import Command, Usage, in_turn, run
from tests.bench.redelivery_programs import FETCHMAIL, MPOP_MSMTP, SYNCD_SMTP, Sender, Target, syncd
from tests.bench.relay import Relay, relay_of
from tests.bench.rows import FAR_S, GIANT_OCTETS, MIB, Result, Row, Runs
from tests.bench.stage import SEED, Maildrop, Stage
from tests.servers.maildrop import as_stored
from tests.support import mail

CONNECTIONS = 4
NEAR, FAR = 40, 240  # messages: the difference of two runs is what each message costs, without start and sign-in
GENERATED = 1_000


def _pair(key: str, theirs: Sender, messages: int, target: float, *, signed_in: bool) -> Row:
    def take(stage: Stage, pairs: int) -> Result:
        maildrop, relay = stage.large(messages), relay_of(stage)
        relay_target = relay.submission() if signed_in else relay.open_port()
        measured = in_turn(
            pairs,
            lambda: relay.redeliver(theirs, maildrop, relay_target),
            lambda: relay.redeliver(SYNCD_SMTP, maildrop, relay_target),
        )
        runs = [
            Runs(sender.name, usages, maildrop.messages, maildrop.octets)
            for sender, usages in ((theirs, measured.theirs), (SYNCD_SMTP, measured.ours))
        ]
        return Result(f"{measured.ratio:.1f}×", measured.ratio >= target, runs)

    how = "signed in, TLS" if signed_in else "no sign-in, no TLS"
    measure = f"{SYNCD_SMTP.name} against {theirs.name}, {messages:,} realistic, Postfix, {how}"
    return Row(key, measure, f"≥ {target:g}×", take)


# --- by distance -----------------------------------------------------------------------------------------


def _seconds_a_message(stage: Stage, target: Callable[[Relay], Target], repeat: int) -> tuple[float, list[Usage]]:
    """What one more message costs: the difference of a run with many and one with few, by how many more they are."""
    relay = relay_of(stage)
    few, many = (stage.filled(f"trips{count}", mail.small(count, SEED)) for count in (NEAR, FAR))
    usages = {
        drop.user: [relay.redeliver(SYNCD_SMTP, drop, target(relay)) for _ in range(repeat)] for drop in (few, many)
    }
    walls = {user: statistics.median(usage.wall for usage in found) for user, found in usages.items()}
    return (walls[many.user] - walls[few.user]) / (FAR - NEAR), usages[many.user]


def _trips(key: str, what: str, target: Callable[[Relay], Target], most: float) -> Row:
    def take(stage: Stage, repeat: int) -> Result:
        seconds, usages = _seconds_a_message(stage, target, repeat)
        trips = seconds / FAR_S
        return Result(f"{trips:.2f}", trips <= most, [Runs(SYNCD_SMTP.name, usages, FAR, 0)])

    return Row(key, f"round trips for one message, {what}, one connection, 40 ms", f"≤ {most:g}", take)


def _four(stage: Stage, repeat: int) -> Result:
    one, _ = _seconds_a_message(stage, lambda relay: relay.far(relay.submission(1)), repeat)
    four, usages = _seconds_a_message(stage, lambda relay: relay.far(relay.submission(CONNECTIONS)), repeat)
    return Result(f"{one / four:.1f}×", one / four >= 3.5, [Runs(SYNCD_SMTP.name, usages, FAR, 0)])


# --- against Postfix's own generator -----------------------------------------------------------------------


def _smtp_source(stage: Stage, pairs: int) -> Result:
    """From packs, so that no POP3 session is measured; without the start of either program."""
    relay = relay_of(stage)
    count = stage.scaled(GENERATED)
    maildrop = stage.small(GENERATED)
    home = _archived(stage, maildrop)
    length = maildrop.octets // maildrop.messages
    source = shutil.which("smtp-source", path="/usr/sbin")
    if source is None:
        raise FileNotFoundError("smtp-source is not installed; run tests/servers/install bench")

    def theirs() -> Usage:
        target = relay.open_port()
        counts = ["-s", str(CONNECTIONS), "-m", str(count), "-l", str(length)]
        route = ["-f", "sender@example.org", "-t", target.recipient, f"127.0.0.1:{target.port}"]
        usage = run(Command([source, *counts, *route]), stage.fresh())
        relay.wait_for(target, count)
        return usage

    def ours() -> Usage:
        target, directory = relay.submission(CONNECTIONS), stage.fresh()
        shutil.copytree(home, directory, dirs_exist_ok=True)
        usage = run(syncd(directory, _from_archive(directory, target), "again"), directory)
        relay.verify(SYNCD_SMTP, target, maildrop)
        report = json.loads((directory / "stdout").read_text().strip().splitlines()[-1])
        return usage._replace(wall=(report[-1] if isinstance(report, list) else report)["seconds"])

    measured = in_turn(pairs, theirs, ours)
    runs = [
        Runs(name, usages, count, maildrop.octets)
        for name, usages in (("smtp-source", measured.theirs), (SYNCD_SMTP.name, measured.ours))
    ]
    return Result(f"{measured.ratio:.2f}×", measured.ratio >= 0.7, runs)


def _archived(stage: Stage, maildrop: Maildrop) -> Path:
    """A directory with an archive of the maildrop and the ledger that knows it."""
    directory = stage.fresh()
    access = stage.access(maildrop.user)
    (directory / "password").write_text(access.password)
    (directory / "password").chmod(0o600)
    (directory / "relay-password").touch(mode=0o600)
    text = (
        f'[accounts.bench]\nprotocol = "pop3"\nhost = "{access.host}"\nport = {access.port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "{access.user}"\npassword = "file:password"\n'
        '[archives.home]\npath = "home"\n[jobs.bench]\nsource = "bench"\ndestinations = ["home"]\n'
    )
    run(syncd(directory, f'state_directory = "state"\n{text}'), directory)
    (directory / "syncd.toml").unlink()
    return directory


def _from_archive(directory: Path, target: Target) -> str:
    (directory / "relay-password").write_text(target.password)
    return (
        f'state_directory = "state"\n[archives.home]\npath = "home"\n{target.table}'
        f'[jobs.again]\nsource = "home"\ndestinations = [{{ to = "relay", recipient = "{target.recipient}" }}]\n'
    )


# --- memory ------------------------------------------------------------------------------------------------


def _memory(stage: Stage, _repeat: int) -> Result:
    maildrop, relay = stage.large(2_000), relay_of(stage)
    usage = relay.redeliver(SYNCD_SMTP, maildrop, relay.submission(CONNECTIONS))
    runs = [Runs(SYNCD_SMTP.name, [usage], maildrop.messages, maildrop.octets)]
    return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, runs)


def _memory_giant(key: str, what: str, target: Callable[[Relay], Target]) -> Row:
    numbers = itertools.count(1)

    def take(stage: Stage, _repeat: int) -> Result:
        octets = int(GIANT_OCTETS * min(1.0, stage.scale))
        relay, user = relay_of(stage), f"{key}{next(numbers)}"
        sent = hashlib.sha256()

        def chunks() -> itertools.chain[bytes]:
            return itertools.chain.from_iterable(_hashed(chunk, sent) for chunk in mail.huge(octets, SEED))

        stage.server.add_user(user, "secret")
        stage.server.deliver_stream(user, chunks())
        maildrop = Maildrop(user, 1, octets, Counter({sent.digest(): 1}))
        usage = relay.redeliver(SYNCD_SMTP, maildrop, target(relay))
        return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, [Runs(SYNCD_SMTP.name, [usage], 1, octets)])

    return Row(key, f"peak memory, one message of 1 GiB → SMTP, {what}", "≤ 150 MiB", take)


def _hashed(chunk: bytes, sent: hashlib._Hash) -> tuple[bytes]:
    sent.update(as_stored(chunk))
    return (chunk,)


REDELIVERY = {
    row.key: row
    for row in (
        _pair("smtp-fetchmail", FETCHMAIL, 1_000, 20.0, signed_in=False),
        _pair("smtp-mpop-msmtp", MPOP_MSMTP, 1_000, 8.0, signed_in=True),
        _trips("trips-data", "DATA", lambda relay: relay.far(relay.without_bdat(1)), 2.1),
        _trips("trips-chunking", "CHUNKING", lambda relay: relay.far(relay.submission(1)), 1.1),
        _trips("trips-lmtp", "LMTP pipelined across messages", lambda relay: relay.far(relay.lmtp(1)), 0.2),
        Row("four", f"{CONNECTIONS} connections against one, CHUNKING, 40 ms", "≥ 3.5×", _four),
        Row(
            "smtp-source",
            f"{GENERATED:,} small messages into Postfix, signed in, TLS, {CONNECTIONS} connections, against "
            "smtp-source without sign-in and TLS",
            "≥ 0.7×",
            _smtp_source,
        ),
        Row("memory-smtp", "peak memory, 2,000 realistic messages → SMTP", "≤ 150 MiB", _memory),
        _memory_giant("memory-smtp-giant", "BDAT", lambda relay: relay.submission(1)),
        _memory_giant("memory-smtp-giant-data", "DATA", lambda relay: relay.without_bdat(1)),
    )
}
