"""SIGKILL just before and just after durable steps, then a resume: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.scenarios import BOTH, MAILDIR, MOVE, PACKS, MakeSite, one_of
from tests.crash.site import Scenario, Site

pytestmark = [pytest.mark.crash, pytest.mark.servers]

COMMON = (Step.LEDGER_COMMIT, Step.ARCHIVE_IDENTITY, Step.DIRECTORY_SYNC)
OF_PACKS = (Step.PACK_CREATE, Step.PACK_SYNC, Step.INDEX_SYNC, Step.INDEX_COMMIT)
OF_TAILS = (Step.TORN_SYNC, Step.PACK_CUT)
OF_MAILDIR = (Step.MAILDIR_SYNC, Step.MAILDIR_NOTE, Step.MAILDIR_LINK, Step.MAILDIR_UNLINK)
STEPS: dict[Scenario, tuple[Step, ...]] = {
    PACKS: (*COMMON, *OF_PACKS),
    MAILDIR: (*COMMON, *OF_MAILDIR),
    BOTH: (*COMMON, *OF_PACKS, *OF_MAILDIR),
    MOVE: (*COMMON, *OF_PACKS, Step.SOURCE_REMOVE, Step.SOURCE_QUIT),
}
MOMENTS: tuple[Moment, ...] = ("before", "after")
TORN_OCTETS = 10


def each_step(*scenarios: Scenario) -> pytest.MarkDecorator:
    cases = [(scenario, step, moment) for scenario in scenarios for step in STEPS[scenario] for moment in MOMENTS]
    return pytest.mark.parametrize(("scenario", "step", "moment"), cases, ids=str)


Counts = dict[tuple[Step, Moment], int]


@pytest.fixture(scope="session")
def counted() -> dict[str, Counts]:
    """By scenario: how often each step comes, as far as a run of this worker has counted."""
    return {}


@pytest.fixture
def count(counted: dict[str, Counts], make_site: MakeSite) -> Callable[[Scenario], Counts]:
    """How often each step comes in an undisturbed run."""

    def of(scenario: Scenario) -> Counts:
        if scenario.name not in counted:
            ended = make_site(scenario).run()
            assert ended.code == 0, ended.stderr
            counted[scenario.name] = ended.steps
        return counted[scenario.name]

    return of


@pytest.mark.parametrize("scenario", STEPS, ids=str)
def test_every_kind_of_step_is_stopped_at(scenario: Scenario, count: Callable[[Scenario], Counts]) -> None:
    assert {step for step, _ in count(scenario)} == set(STEPS[scenario])


def test_no_kind_of_step_is_forgotten() -> None:
    elsewhere = {  # in test_archive_trouble, test_redelivery and test_imap_move
        Step.PACK_UNDO,
        Step.MESSAGE_END,
        Step.SOURCE_EXPUNGE,
    }
    of_mbox = {Step.MBOX_SYNC, Step.MBOX_CUT, Step.MBOX_NOTE}  # in test_mbox
    of_commands = {Step.SEARCH_COMMIT, Step.EXPORT_SYNC, Step.EXPORT_MOVE, Step.EXPORT_DONE}  # in test_commands
    below = {*OF_TAILS, Step.INDEX_REMOVE}
    assert {step for steps in STEPS.values() for step in steps} | elsewhere | below | of_mbox | of_commands == set(Step)


@each_step(BOTH, MOVE)  # which have the steps of all
def test_killed_in_the_middle_and_at_the_end(
    scenario: Scenario, step: Step, moment: Moment, count: Callable[[Scenario], Counts], make_site: MakeSite
) -> None:
    occurrence = one_of(count(scenario)[step, moment], moment)
    kill_and_prove(make_site(scenario), Point(step, moment, occurrence))


@pytest.mark.soak
@each_step(*STEPS)
def test_killed_at_every_occurrence(
    scenario: Scenario, step: Step, moment: Moment, count: Callable[[Scenario], Counts], make_site: MakeSite
) -> None:
    for occurrence in range(1, count(scenario)[step, moment] + 1):
        kill_and_prove(make_site(scenario), Point(step, moment, occurrence))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", OF_TAILS)
def test_killed_while_a_torn_tail_is_cut(step: Step, moment: Moment, make_site: MakeSite) -> None:
    """As after a power cut: the pack lost the last octets of what was never synced."""
    site = make_site(PACKS)
    kill(site, Point(Step.PACK_SYNC, "before", 3))
    pack = max((site.folders["packs"] / "packs").glob("*.zst"))
    os.truncate(pack, pack.stat().st_size - TORN_OCTETS)
    kill(site, Point(step, moment, 1))
    site.resume_and_prove()


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_a_damaged_index_is_removed(moment: Moment, make_site: MakeSite) -> None:
    site = make_site(PACKS)
    kill(site, Point(Step.PACK_SYNC, "before", 3))
    (site.folders["packs"] / "index.sqlite").write_bytes(b"no database")
    kill(site, Point(Step.INDEX_REMOVE, moment, 1))
    site.resume_and_prove()


def test_a_maildrop_that_we_emptied_is_no_surprise(make_site: MakeSite) -> None:
    """It was taken for one that lost its mail, or for another one when new mail came: removals were frozen."""
    site = make_site(MOVE)
    assert site.run().code == 0
    site.resume_and_prove()
    later = [b"Subject: later %d\n\ntext\n" % number for number in range(3)]
    site.receive(later)
    assert site.run().code == 0
    site.prove()


def kill_and_prove(site: Site, point: Point) -> None:
    """Kill the first run there; what follows must not show it."""
    try:
        kill(site, point)
        site.resume_and_prove()
    except AssertionError as error:
        error.add_note(f"killed {point}; see {site.home}")
        raise


def kill(site: Site, point: Point) -> None:
    """Run until the process kills itself."""
    ended = site.run(point=point)
    assert ended.code == -signal.SIGKILL, f"it never came to {point}: {ended.stderr}"
