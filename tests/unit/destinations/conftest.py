"""An archive of packs, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.packs import PacksArchive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PacksArchive(tmp_path / "archive").create(uuid4())
    return tmp_path / "archive"


@pytest.fixture
def archive(path: Path) -> Iterator[PacksArchive]:
    archive = PacksArchive(path, "home")
    archive.open()
    yield archive
    archive.close()
