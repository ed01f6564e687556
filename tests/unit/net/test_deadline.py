from __future__ import annotations

import pytest

from syncd import clock
from syncd.errors import TimedOut
from syncd.net.deadline import Deadline


def test_it_counts_from_when_it_was_made_and_then_raises(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    deadline = Deadline(30, "pop.example.net:995: no greeting came")
    now = 129.0
    assert deadline.remaining() == 1.0
    now = 130.0
    with pytest.raises(TimedOut, match=r"^pop.example.net:995: no greeting came within 30 s; try again later$"):
        deadline.remaining()
