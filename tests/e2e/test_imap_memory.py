"""What a run over IMAP holds in memory: a long message costs no more than a short one (`make soak`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.imap import PACKS, million
from tests.bench.measure import run
from tests.bench.programs import Access, syncd_command
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap
from tests.support import mail

pytestmark = pytest.mark.soak
MIB = 1 << 20


def peak(server: FakeImap, directory: Path, *options: str) -> int:
    """The largest resident set of a first run, in octets."""
    command = PACKS.prepare(Access(server.host, server.port, USERNAME, PASSWORD), directory)
    file = Path(command.arguments[command.arguments.index("--config") + 1])
    return run(syncd_command(file, "--quiet", *options), directory).rss


def test_a_message_of_100_mib_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for octets in (1 << 10, 100 * MIB):
        with FakeImap() as server:
            server.box("INBOX").add(b"".join(mail.huge(octets, seed=3)))
            (tmp_path / str(octets)).mkdir()
            peaks.append(peak(server, tmp_path / str(octets)))
    assert peaks[1] < peaks[0] + 32 * MIB


def test_300_000_messages_in_a_listing_take_little_more_memory_than_a_thousand(tmp_path: Path) -> None:
    peaks = []
    for count in (1_000, 300_000):
        (tmp_path / str(count)).mkdir()
        with million(count) as server:
            peaks.append(peak(server, tmp_path / str(count), "--dry-run"))
    assert peaks[1] < peaks[0] + 16 * MIB
