"""The figures as a page: what was reached, what is behind it, on what machine, by what commands."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rows import MIB, Result, Row, Runs
from tests.bench.stage import file_system

VERSIONS = {  # how each program tells its version
    "Dovecot": ["dovecot", "--version"],
    "mpop": ["mpop", "--version"],
    "getmail": ["getmail", "--version"],
    "mbsync": ["mbsync", "--version"],
    "OfflineIMAP": ["offlineimap", "--version"],
    "Mail::IMAPClient": ["perl", "-MMail::IMAPClient", "-e", "print Mail::IMAPClient->VERSION"],
    "zstd": ["zstd", "--version"],
}


def table(rows: Sequence[tuple[Row, Result]]) -> str:
    """One line a row: measure, target, what was reached."""
    verdict = {True: "met", False: "**missed**", None: ""}
    lines = ["| measure | target | reached | |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.measure} | {row.target} | {result.reached} | {verdict[result.met]} |" for row, result in rows]
    return "\n".join(lines)


def _span(values: Sequence[float], digits: int = 2) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def _line(row: Row, runs: Runs) -> str:
    walls = [usage.wall for usage in runs.usages]
    wall = statistics.median(walls)
    rate = f"{runs.messages / wall:,.0f}" if runs.octets else ""
    throughput = f"{runs.octets / wall / MIB:,.1f}" if runs.octets else ""
    cpu = statistics.median(usage.user + usage.system for usage in runs.usages)
    rss = max(usage.rss for usage in runs.usages) / MIB
    return f"| {row.measure} | {runs.name} | {rate} | {throughput} | {_span(walls)} | {cpu:.2f} | {rss:.0f} |"


def details(rows: Sequence[tuple[Row, Result]]) -> str:
    """One line for each program of each row."""
    lines = [
        "| measure | program | messages/s | MiB/s | seconds (least–most) | CPU s | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(row, runs) for row, result in rows for runs in result.runs]
    return "\n".join(lines)


def _version(command: Sequence[str]) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    binary = shutil.which(command[0], path=path)
    if binary is None:
        return "not installed"
    shown = subprocess.run([binary, *command[1:]], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", shown)
    return found[0] if found else "unknown"


def machine(directory: Path) -> str:
    """Facts that bear on the figures; nothing that names the machine."""
    cpus = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = ", ".join(f"{name} {_version(command)}" for name, command in VERSIONS.items())
    return (
        f"* {len(cpus)} × {cpus[0] if cpus else platform.machine()}, {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, {file_system(directory)}\n"
        f"* Python {platform.python_version()}, {versions}"
    )


def page(
    rows: Sequence[tuple[Row, Result]],
    *,
    command: str,
    pairs: int,
    scale: float,
    directory: Path,
    sync_rates: Sequence[float],
) -> str:
    """The whole page. `sync_rates` are those before and after: far apart, they say that the disk was disturbed."""
    before, after = sync_rates
    scaled = "" if scale == 1 else f" Scale {scale:g}: the targets hold for scale 1."
    return f"""# Benchmarks

Taken on {dt.datetime.now(dt.UTC):%Y-%m-%d} by `{command}`.{scaled}

{table(rows)}

## How it was taken

A private Dovecot on loopback, Maildir store, caches warm. Mail is generated from a seed: *realistic* has log-normal
sizes, median 8 KiB, mean 59 KiB, multipart with attachments, five messages of 5 to 10 MiB in 10,000; *small* is
text of 2 KiB. A ratio is the median of the ratios of {pairs} pairs; the two programs run in turn, A B A B. 40 ms
is the round trip through a relay that holds every octet for 20 ms each way and limits nothing else. Every run
starts in a fresh directory and nothing is deleted before the end (ext4 is slow where files have just been
deleted). After each run, outside the measured time, the messages are read back without any code of syncd
and compared with those sent, by SHA-256. Each program has its own default durability; all of them sync
what they store. Seconds are for the whole command, start and end included; peak memory is the kernel's high-water mark.

## Behind the ratios

{details(rows)}

## Machine

{machine(directory)}
* Files of 2 KiB made and synced by one thread: {before:,.0f} a second before, {after:,.0f} after the measurements

The peers' commands: `mpop --quiet --file=…` (Maildir delivery, `keep on`, `received_header off`) and
`getmail --quiet --rcfile=…` (Maildir, `read_all = false`, no header added; a run that it ends with "waiting child pid
timed out", a race of its own, is taken again). Ours: `syncd run --quiet --config …`.
"""
