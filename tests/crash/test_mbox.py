"""SIGKILL before and after each durable step of an mbox archive: what is torn goes, and nothing is doubled."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from syncd.formats.mbox.home import JOURNAL_FILE
from syncd.formats.mbox.journal import Journal
from tests.crash.child import Point
from tests.crash.scenarios import MBOX, MakeSite

pytestmark = [pytest.mark.crash, pytest.mark.servers]

STEPS = (Step.LEDGER_COMMIT, Step.ARCHIVE_IDENTITY, Step.DIRECTORY_SYNC, Step.MBOX_NOTE, Step.MBOX_SYNC)
MOMENTS: tuple[Moment, ...] = ("before", "after")


@pytest.mark.parametrize(
    ("step", "moment", "occurrence"),
    [(Step.MBOX_SYNC, "before", 1), (Step.MBOX_NOTE, "after", 2)],
    ids=str,
)
def test_killed_in_a_batch(step: Step, moment: Moment, occurrence: int, make_site: MakeSite) -> None:
    site = make_site(MBOX)
    assert site.run(point=Point(step, moment, occurrence)).code == -signal.SIGKILL
    site.resume_and_prove()


@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.soak)])
def test_killed_while_it_is_cut_back(moment: Moment, make_site: MakeSite) -> None:
    site = make_site(MBOX)
    assert site.run(point=Point(Step.MBOX_SYNC, "before", 1)).code == -signal.SIGKILL
    tear(site.home / "mbox")
    assert site.run(point=Point(Step.MBOX_CUT, moment, 1)).code == -signal.SIGKILL
    site.resume_and_prove()


def tear(archive: Path) -> None:
    """Take the last octet off the file to which a batch was added: a batch that is whole would stay."""
    with closing(Journal(archive / JOURNAL_FILE)) as journal:
        [appending] = journal.appending()
    file = archive / os.fsdecode(appending.file)
    os.truncate(file, file.stat().st_size - 1)


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_every_occurrence(step: Step, moment: Moment, make_site: MakeSite) -> None:
    counted = make_site(MBOX).run()
    assert counted.code == 0, counted.stderr
    assert {step for step, _ in counted.steps} == set(STEPS)
    for occurrence in range(1, counted.steps[step, moment] + 1):
        site = make_site(MBOX)
        assert site.run(point=Point(step, moment, occurrence)).code == -signal.SIGKILL
        site.resume_and_prove()
