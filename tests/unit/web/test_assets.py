"""Files that are kept in the tree: each is the one that was published, and has its licence beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from syncd.web.render import STATIC

FOLDERS = (STATIC / "vendor", Path(__file__).parents[2] / "e2e" / "vendor")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_each_file_of_others_is_as_published_and_has_its_licence(folder: Path) -> None:
    lines = [line.split("\t") for line in (folder / "SOURCES.txt").read_text().splitlines() if not line.startswith("#")]
    assert {name for name, _, _ in lines} | {"SOURCES.txt"} == {
        it.name for it in folder.iterdir() if it.suffix != ".LICENSE"
    }
    for name, _, digest in lines:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert (folder / f"{name.partition('.')[0]}.LICENSE").stat().st_size > 100
