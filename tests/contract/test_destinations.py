"""The archives, and the memory fake the engine is tested with, keep the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.mbox import MboxArchive
from syncd.destinations.packs import PacksArchive
from syncd.formats.maildir.layout import Layout
from tests.contract.destination_kit import ROAD, SENT, Kit, delivered, message, octets
from tests.contract.destination_suite import DestinationSuite, DiskSuite
from tests.fakes.archive import MemoryArchive
from tests.support.packs import count_in_mbox


def maildir_copies(path: Path) -> int:
    return sum(1 for file in path.rglob("*.syncd*") if file.parent.name in {"new", "cur"})


@pytest.mark.parametrize(("first", "second"), [(PacksArchive, MaildirArchive), (MaildirArchive, PacksArchive)])
def test_what_one_archive_gives_another_takes_with_flags_and_date(
    tmp_path: Path, first: type[PacksArchive | MaildirArchive], second: type[PacksArchive | MaildirArchive]
) -> None:
    """So the engine backfills. Both were lost there."""
    date = datetime(2019, 3, 31, 2, 30, tzinfo=timezone(timedelta(hours=1)))
    origins = (ROAD, SENT)
    batch = [message(key, b"%d\r\n" % key, origins[key % 2], ("\\Flagged", "\\Seen") * (key % 3)) for key in range(6)]
    for m in batch:
        m.internal_date = date
    one, two = first(tmp_path / "one"), second(tmp_path / "two")
    for archive in (one, two):
        archive.create(uuid4())
        archive.open()
    receipts = delivered(one, batch)
    passed = [replace(m, **one.read(receipts[m.key], m.ref)._asdict()) for m in batch]
    again = delivered(two, passed)
    for m in batch:
        read = two.read(again[m.key], m.ref)
        assert (set(read.flags), read.internal_date, octets(read.body)) == (set(m.flags), date, octets(m.body))
    one.close()
    two.close()


def maildir_kit(**options: Any) -> Kit:
    return Kit(
        lambda path: MaildirArchive(path, "home", **options), maildir_copies, gives_places=False, keeps_offsets=False
    )


class TestMaildir(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return maildir_kit()


class TestVerbatimMaildir(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return maildir_kit(verbatim=True, layout=Layout.NESTED)


def mbox_copies(path: Path) -> int:
    return sum(
        file.read_bytes().count(b"\nFrom MAILER-DAEMON ") + 1 for file in path.rglob("*.mbox") if file.stat().st_size
    )


class TestMbox(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return Kit(lambda path: MboxArchive(path, "home"), mbox_copies, gives_places=False, keeps_offsets=False)


class TestPacks(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return Kit(lambda path: PacksArchive(path, "home"), count_in_mbox, shares_octets=True)


class TestMemory(DestinationSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        archives: dict[Path, MemoryArchive] = {}

        def archive(path: Path) -> MemoryArchive:
            return archives.setdefault(path, MemoryArchive())

        return Kit(archive, lambda path: archives[path].copies)
