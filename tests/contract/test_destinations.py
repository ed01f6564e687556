"""The archives, and the memory fake the engine is tested with, keep the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from tests.contract.destination_kit import Kit
from tests.contract.destination_suite import DestinationSuite, DiskSuite
from tests.fakes.archive import MemoryArchive
from tests.support.packs import count_in_mbox


def maildir_copies(path: Path) -> int:
    return sum(1 for file in path.rglob("*.syncd*") if file.parent.name in {"new", "cur"})


class TestMaildir(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return Kit(lambda path: MaildirArchive(path, "home"), maildir_copies, gives_places=False)


class TestVerbatimMaildir(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return Kit(lambda path: MaildirArchive(path, "home", verbatim=True), maildir_copies, gives_places=False)


class TestPacks(DiskSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        return Kit(lambda path: PacksArchive(path, "home"), count_in_mbox, shares_octets=True)


class TestMemory(DestinationSuite):
    @pytest.fixture
    def kit(self) -> Kit:
        shelves: dict[Path, MemoryArchive] = {}

        def archive(path: Path) -> MemoryArchive:
            return shelves.setdefault(path, MemoryArchive())

        return Kit(archive, lambda path: shelves[path].copies)
