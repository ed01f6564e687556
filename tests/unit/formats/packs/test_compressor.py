"""The threads that compress: the archives of a process share them."""

from __future__ import annotations

import threading

import pytest

from syncd.formats.packs.frames import CROWD, THREADS, Compressor
from syncd.formats.packs.meta import Meta


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pack-compressor")}


def test_many_archives_have_no_more_threads_than_one(monkeypatch: pytest.MonkeyPatch):
    """Each had two, with some MiB of context each."""
    monkeypatch.setattr(Compressor, "_users", 0)  # archives that tests before this one left open have their own
    monkeypatch.setattr(Compressor, "_shared", None)
    before = threads()
    several = [Compressor() for _ in range(CROWD + 1)]
    assert several[0].is_crowded
    waiting = [each.submit(lambda: (Meta(1), [b"x" * 1000])) for each in several * 4]
    assert all(len(packed.result()) == 3 for packed in waiting)
    assert 0 < len(threads() - before) <= THREADS
    for each in several[1:]:
        each.close()
        each.close()
    assert not several[0].is_crowded
    assert several[0].ask(lambda: 7) == 7
    several[0].close()
    assert threads() - before == set()
