"""Reads back what a run left, without any code of the program under test, and compares it with what was sent."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.bench.measure import RunFailed
from tests.servers.maildrop import as_stored

READ_OCTETS = 16 << 20
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


def maildir_messages(maildir: Path) -> Iterator[bytes]:
    """Every message of a Maildir."""
    for part in ("cur", "new"):
        for file in (maildir / part).iterdir():
            yield file.read_bytes()


def pack_messages(archive: Path) -> Iterator[bytes]:
    """Every message of an archive of packs, as `zstdcat packs/*.mbox.zst` shows them: one mboxrd, LF."""
    packs = sorted(str(file) for file in (archive / "packs").glob("*.mbox.zst"))
    with subprocess.Popen(["zstd", "-dc", *packs], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        rest = b"\n"
        while chunk := process.stdout.read(READ_OCTETS):
            *whole, rest = (rest + chunk).split(b"\nFrom ")
            yield from (_unquoted(record) for record in whole if record)
        yield _unquoted(rest[:-1])
    if process.returncode:
        raise RunFailed(f"zstd -dc of {len(packs)} packs ended with {process.returncode}")


def _unquoted(record: bytes) -> bytes:
    body = record.partition(b"\n")[2]
    return _QUOTED.sub(rb"\1", body) if b">From " in body else body


def manifest(messages: Iterable[bytes]) -> Counter[bytes]:
    """How often which message is there: SHA-256 of its octets with LF line ends."""
    return Counter(hashlib.sha256(as_stored(message)).digest() for message in messages)


def compare(found: Counter[bytes], expected: Counter[bytes], who: str) -> None:
    """Raise RunFailed unless both are the same messages, each as often."""
    if found != expected:
        missing, extra = expected - found, found - expected
        raise RunFailed(
            f"{who}: {found.total()} messages instead of {expected.total()}: "
            f"{missing.total()} missing, {extra.total()} that nobody sent"
        )
