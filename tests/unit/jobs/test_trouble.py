"""Troubles: a failure that comes again is said once, and so is its end."""

from __future__ import annotations

import logging

import pytest

from jobs.trouble import Trouble
from syncd.errors import LedgerError


def test_a_failure_is_said_when_it_begins_when_it_changes_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """With the database away three parts of a service said so each second."""
    caplog.set_level(logging.INFO)
    trouble = Trouble(logging.getLogger("x"), "sweep")
    trouble.over()
    for reason in ("away", "away", "away", "starting up", "away"):
        trouble.tell(LedgerError(reason))
    trouble.over()
    trouble.over()
    trouble.tell(LedgerError("away"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "sweep.failed: away"),
        ("WARNING", "sweep.failed: starting up"),
        ("WARNING", "sweep.failed: away"),
        ("INFO", "sweep.works_again"),
        ("WARNING", "sweep.failed: away"),
    ]
