"""SIGKILL at random instants of real processes on a larger mailbox, then a resume: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.crash.program import PATIENCE_S, POLL_S, spawn
from tests.crash.scenarios import SCENARIOS, MakeSite
from tests.crash.site import Site
from tests.support import mail

pytestmark = [pytest.mark.crash, pytest.mark.servers]

INSTANTS = 4
INSTANTS_SOAK = 500


@pytest.fixture(scope="session")
def large() -> list[bytes]:
    """800 messages, 26 MiB: several batches of the size that the program makes."""
    return [*mail.realistic(400, seed=5), *mail.small(400, seed=6)]


@pytest.fixture(scope="session")
def durations() -> dict[str, float]:
    """By scenario: seconds from when the archive is made to the end of a run."""
    return {}


@pytest.mark.parametrize("number", range(INSTANTS))
def test_killed_at_an_instant(
    number: int, large: list[bytes], durations: dict[str, float], make_site: MakeSite
) -> None:
    kill_at_some_instant(number, large, durations, make_site)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(INSTANTS, INSTANTS + INSTANTS_SOAK))
def test_killed_at_one_of_many_instants(
    number: int, large: list[bytes], durations: dict[str, float], make_site: MakeSite
) -> None:
    kill_at_some_instant(number, large, durations, make_site)


def kill_at_some_instant(number: int, large: list[bytes], durations: dict[str, float], make_site: MakeSite) -> None:
    scenario = SCENARIOS[number % len(SCENARIOS)]
    if scenario.name not in durations:
        durations[scenario.name] = undisturbed(make_site(scenario, large))
    site = make_site(scenario, large)
    delay = random.Random(f"instant {number}").uniform(0, durations[scenario.name])
    try:
        kill_after(site, delay)
        site.resume_and_prove()
    except AssertionError as error:
        error.add_note(f"killed {delay:.3f} s after it made its archive; see {site.home}")
        raise


def undisturbed(site: Site) -> float:
    """Seconds of a run from when the archive is there."""
    process = spawn(site.arguments, site.home / "output")
    wait_for(archive_of(site))
    begun = time.monotonic()
    assert process.wait(PATIENCE_S) == 0, (site.home / "output" / "stderr").read_text()
    return time.monotonic() - begun


def kill_after(site: Site, delay: float) -> None:
    """Kill a run `delay` seconds after it made its archive, if it still runs."""
    process = spawn(site.arguments, site.home / "output")
    wait_for(archive_of(site))
    time.sleep(delay)
    process.kill()
    process.wait()


def archive_of(site: Site) -> Path:
    return next(iter(site.folders.values()))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(POLL_S)
