"""Files that are kept in the tree: each is the one that was published, and has its licence beside it."""

from __future__ import annotations

import hashlib

from syncd.web.render import STATIC

VENDOR = STATIC / "vendor"


def test_each_file_of_others_is_as_published_and_has_its_licence() -> None:
    lines = [line.split("\t") for line in (VENDOR / "SOURCES.txt").read_text().splitlines() if not line.startswith("#")]
    assert {name for name, _, _ in lines} | {"SOURCES.txt"} == {
        it.name for it in VENDOR.iterdir() if it.suffix != ".LICENSE"
    }
    for name, _, digest in lines:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert (VENDOR / f"{name.partition('.')[0]}.LICENSE").stat().st_size > 100
