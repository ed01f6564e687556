"""The journal of mbox files: SQLite's locks on it hold although other threads look into it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.errors import Unusable
from syncd.formats.mbox.journal import Journal, read_only

WRITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"


def reopen(path: Path) -> None:
    Journal(path).close()


@pytest.mark.parametrize("look", [read_only, reopen])
def test_a_look_takes_no_lock_away_from_a_writer_in_the_same_process(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    path = tmp_path / "journal.sqlite"
    reopen(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        look(path)
        other = subprocess.run(
            [sys.executable, "-c", WRITE, path], capture_output=True, text=True, timeout=60, check=False
        )
        assert "database is locked" in other.stderr


@pytest.mark.parametrize("there", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, there: str) -> None:
    path = tmp_path / "journal.sqlite"
    make = {"link": lambda: path.symlink_to(tmp_path / "else"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}
    make[there]()
    with pytest.raises(Unusable):
        Journal(path)
    assert read_only(path) == ({}, {})
