"""The benchmark's own reading of archives: it must not need, nor trust, the program that wrote them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.bench import verify
from tests.bench.measure import RunFailed
from tests.bench.verify import compare, manifest, pack_messages
from tests.support import mail

BODIES = [
    b"Subject: a\n\nFrom here\n>From quoted\n>>From twice\n",
    b"Subject: b\n\nends with From \n",
    b"From first\nSubject: c\n\n\n\n",
    *(message.replace(b"\r\n", b"\n") for message in mail.small(30, seed=2)),
]


def as_mbox(bodies: list[bytes]) -> bytes:
    quoted = (re.sub(rb"(?m)^(>*From )", rb">\1", body) for body in bodies)
    return b"".join(b"From a@b Mon Jan  1 00:00:00 2026\n" + body + b"\n" for body in quoted)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "packs").mkdir()
    plain = as_mbox(BODIES)
    middle = len(plain) // 2  # a record may continue in the next pack
    for name, part in (("000001", plain[:middle]), ("000002", plain[middle:])):
        packed = subprocess.run(["zstd", "-c"], input=part, capture_output=True, check=True).stdout
        (tmp_path / "packs" / f"{name}.mbox.zst").write_bytes(packed)
    return tmp_path


@pytest.mark.parametrize("octets", [1, 7, 1 << 20])
def test_packs_are_one_mbox(archive: Path, octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "READ_OCTETS", octets)
    assert list(pack_messages(archive)) == BODIES


def test_a_damaged_pack_is_a_failure(archive: Path) -> None:
    pack = archive / "packs" / "000002.mbox.zst"
    pack.write_bytes(pack.read_bytes()[:-20])
    with pytest.raises(RunFailed, match="zstd"):
        list(pack_messages(archive))


def test_compare_counts_what_is_missing_and_what_nobody_sent() -> None:
    expected = manifest(BODIES)
    compare(manifest(body.replace(b"\n", b"\r\n") for body in BODIES), expected, "same")
    with pytest.raises(RunFailed, match="1 missing, 2 that nobody sent"):
        compare(manifest([*BODIES[1:], b"x\n", BODIES[1]]), expected, "different")
