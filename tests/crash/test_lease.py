"""Two runs of a job: the second is told who is at work; one that was frozen too long never writes again."""

from __future__ import annotations

import signal
import time

import pytest

from syncd.durable import Step
from tests.crash.child import Lease, Point
from tests.crash.scenarios import BOTH, MAILDIR, MOVE, PACKS, MakeSite
from tests.crash.site import Scenario, Site

pytestmark = [pytest.mark.crash, pytest.mark.servers]

SHORT = Lease(expiry_s=1.0, renew_s=0, margin_s=0.2)  # renewed by need alone: a thread's renewals count as steps too
COMMIT = 16  # amid the batches
COMMITS = (COMMIT, *(pytest.param(number, marks=pytest.mark.soak) for number in (15, 17)))

each_scenario = pytest.mark.parametrize("scenario", [PACKS, MAILDIR, BOTH, MOVE], ids=str)


@each_scenario
def test_p26_the_second_run_names_the_first(scenario: Scenario, make_site: MakeSite) -> None:
    site = make_site(scenario)
    first = site.start(point=Point(Step.LEDGER_COMMIT, "after", COMMIT, signal.SIGSTOP), output="first")
    first.wait_until_frozen()
    second = site.run()
    assert second.code == 10, second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert str(first.process_id) in second.stderr
    assert not site.server.sessions(site.user), "the second run signed in"
    first.wake()
    assert first.wait().code == 0
    site.resume_and_prove()


@pytest.mark.parametrize("commit", COMMITS)
@each_scenario
def test_taken_over_while_frozen(scenario: Scenario, commit: int, make_site: MakeSite) -> None:
    site = make_site(scenario)
    first = site.start(point=Point(Step.LEDGER_COMMIT, "after", commit, signal.SIGSTOP), lease=SHORT, output="first")
    first.wait_until_frozen()
    time.sleep(SHORT.expiry_s)  # the one thing here that only time can bring about
    assert site.run().code == 0
    before = written(site)
    first.wake()
    ended = first.wait()
    assert ended.code == 10, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert written(site) == before
    site.resume_and_prove()


def test_frozen_while_nobody_came(make_site: MakeSite) -> None:
    site = make_site(BOTH)
    lease = Lease(expiry_s=5.0, renew_s=0, margin_s=0.2)  # long enough to be renewed in time on a slow disk
    first = site.start(point=Point(Step.LEDGER_COMMIT, "after", COMMIT, signal.SIGSTOP), lease=lease)
    first.wait_until_frozen()
    time.sleep(lease.expiry_s)
    first.wake()
    assert first.wait().code == 0
    site.resume_and_prove()


@pytest.mark.parametrize(
    ("step", "occurrence"), [(Step.PACK_SYNC, 4), (Step.INDEX_COMMIT, 4), (Step.LEDGER_COMMIT, COMMIT)]
)
def test_frozen_amid_a_batch(step: Step, occurrence: int, make_site: MakeSite) -> None:
    """It holds the archive's or the ledger's lock, so nobody can take over; woken, it finds out where it stands."""
    site = make_site(PACKS)
    first = site.start(point=Point(step, "before", occurrence, signal.SIGSTOP), lease=SHORT, output="first")
    first.wait_until_frozen()
    time.sleep(SHORT.expiry_s)
    second = site.run()
    assert second.code == 5, second.stderr
    assert len(second.stderr.splitlines()) == 1
    first.wake()
    assert first.wait().code in {0, 10}
    site.resume_and_prove()


def written(site: Site) -> tuple[object, ...]:
    """All that a run writes about mail, and how much of it."""
    files = {
        file: file.stat().st_size
        for folder in site.folders.values()
        for file in folder.rglob("*")
        if file.is_file() and "index.sqlite" not in file.name and file.name != ".syncd-lock"
    }
    return (
        files,
        site.query("SELECT * FROM messages ORDER BY id"),
        site.query("SELECT * FROM deliveries ORDER BY message_id, route_id"),
    )
