"""An IMAP account with several mailboxes: killed at durable steps and at any instant, or cut at any octet."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.imap_site import ImapSite, Template, make_template
from tests.crash.program import PATIENCE_S, spawn
from tests.crash.scenarios import BOTH, PACKS
from tests.crash.site import Scenario
from tests.servers.dovecot import Dovecot
from tests.support.proxy import Act, Fault, Proxy, Way

pytestmark = [pytest.mark.crash, pytest.mark.servers]

STEPS = (
    Step.LEDGER_COMMIT,
    Step.ARCHIVE_IDENTITY,
    Step.DIRECTORY_SYNC,
    Step.PACK_CREATE,
    Step.PACK_SYNC,
    Step.INDEX_SYNC,
    Step.INDEX_COMMIT,
    Step.MAILDIR_SYNC,
    Step.MAILDIR_NOTE,
    Step.MAILDIR_LINK,
    Step.MAILDIR_UNLINK,
)
MOMENTS: tuple[Moment, ...] = ("before", "after")
OFFSETS, OFFSETS_SOAK = 3, 60
INSTANTS, INSTANTS_SOAK = 3, 100

MakeImapSite = Callable[..., ImapSite]
Counts = dict[tuple[Step, Moment], int]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(dovecot: Dovecot) -> Template:
    return make_template(dovecot, f"template{next(_numbers)}")


@pytest.fixture
def make_site(tmp_path: Path, dovecot: Dovecot, template: Template) -> Iterator[MakeImapSite]:
    users: list[str] = []

    def make(scenario: Scenario, port: int = 0) -> ImapSite:
        number = next(_numbers)
        users.append(f"imap{number}")
        return ImapSite(tmp_path / f"site{number}", dovecot, users[-1], scenario, template, port)

    yield make
    for user in users:
        shutil.rmtree(dovecot.mail / user)


@pytest.fixture(scope="session")
def counted() -> dict[str, Counts]:
    """How often each step comes, as far as a run of this worker has counted."""
    return {}


@pytest.fixture
def count(counted: dict[str, Counts], make_site: MakeImapSite) -> Counts:
    if "both" not in counted:
        site = make_site(BOTH)
        ended = site.run()
        assert ended.code == 0, ended.stderr
        site.prove()
        counted["both"] = ended.steps
    return counted["both"]


def test_every_kind_of_step_is_stopped_at(count: Counts) -> None:
    assert {step for step, _ in count} == set(STEPS)


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=str)
def test_killed_in_the_middle(number: int, step: Step, count: Counts, make_site: MakeImapSite) -> None:
    moment = MOMENTS[number % 2]
    kill_and_prove(make_site(BOTH), Point(step, moment, (count[step, moment] + 1) // 2))


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_every_occurrence(step: Step, moment: Moment, count: Counts, make_site: MakeImapSite) -> None:
    for occurrence in range(1, count[step, moment] + 1):
        kill_and_prove(make_site(BOTH), Point(step, moment, occurrence))


def kill_and_prove(site: ImapSite, point: Point) -> None:
    try:
        assert site.run(point=point).code == -signal.SIGKILL
        site.resume_and_prove()
    except AssertionError as error:
        error.add_note(f"killed {point}; see {site.home}")
        raise


# --- at any instant ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(INSTANTS))
def test_killed_at_an_instant(number: int, make_site: MakeImapSite) -> None:
    kill_at_some_instant(number, make_site)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(INSTANTS, INSTANTS + INSTANTS_SOAK))
def test_killed_at_one_of_many_instants(number: int, make_site: MakeImapSite) -> None:
    kill_at_some_instant(number, make_site)


def kill_at_some_instant(number: int, make_site: MakeImapSite) -> None:
    site = make_site(PACKS)
    delay = random.Random(f"imap instant {number}").uniform(0, 0.6)
    try:
        process = spawn(site.arguments, site.home / "output")
        deadline = time.monotonic() + PATIENCE_S
        while not (site.home / "packs").exists():
            assert time.monotonic() < deadline, "no archive is made"
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
        site.resume_and_prove()
    except AssertionError as error:
        error.add_note(f"killed {delay:.3f} s after it made its archive; see {site.home}")
        raise


# --- at any octet ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", Way)
def test_cut_at_some_offsets_also_inside_literals(way: Way, make_site: MakeImapSite) -> None:
    cut_and_resume(way, OFFSETS, make_site)


@pytest.mark.soak
@pytest.mark.parametrize("way", Way)
def test_cut_at_many_offsets(way: Way, make_site: MakeImapSite) -> None:
    cut_and_resume(way, OFFSETS_SOAK, make_site)


def cut_and_resume(way: Way, offsets: int, make_site: MakeImapSite) -> None:
    """Cut the first connection. A run that has begun to read goes on in another session by itself."""
    whole = make_site(PACKS)
    with Proxy((whole.server.host, whole.server.imap_port)) as network:
        whole.configure(network.port)
        assert whole.run().code == 0
        total = network.passed[way]
    for number in range(offsets):
        offset, act = total * number // offsets, (Act.CUT, Act.RESET)[number % 2]
        with Proxy((whole.server.host, whole.server.imap_port)) as network:
            site = make_site(PACKS, network.port)
            network.fault_of = lambda connection, offset=offset, act=act: (
                Fault(way, offset, act) if connection == 1 else None
            )
            try:
                assert site.run().code in {0, 5}
                site.resume_and_prove()
            except AssertionError as error:
                error.add_note(f"{way.name} {act.name} at octet {offset} of {total}; see {site.home}")
                raise
