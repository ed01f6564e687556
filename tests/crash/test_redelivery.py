"""SIGKILL and cut networks while mail is handed to a real server: copies ≤ 1 + recorded uncertain outcomes, none lost.

S09 (the reply after the last octet is lost), S04 (the connection ends at any point), and kills at every kind of
durable step of a delivery that cannot be asked about.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from syncd.destinations.smtp.thread import PIPELINE_DEPTH
from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.program import PATIENCE_S, POLL_S, Program
from tests.crash.site import JOB
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import servable
from tests.support import mail
from tests.support.proxy import Act, Fault, Proxy, Way

if TYPE_CHECKING:
    from tests.crash.relay import RelaySite

pytestmark = [pytest.mark.crash, pytest.mark.servers]

MESSAGES = 40
POINTS = 3  # of each kind
POINTS_SOAK = 60
NAMES = ("lmtp", "smtp", "archived")
KILLED = (*NAMES, "two", "one by one")
MakeRelay = Callable[..., "RelaySite"]
_numbers = itertools.count(1)

each_scenario = pytest.mark.parametrize("name", NAMES)
each_killed = pytest.mark.parametrize("name", KILLED)
each_way = pytest.mark.parametrize("way", Way)


def forty() -> list[bytes]:
    some = [message for message in mail.samples().values() if servable(message)]
    return [*some, *mail.small(MESSAGES - len(some) - 3, seed=8), *mail.realistic(3, seed=9)]


@pytest.fixture
def make_relay(tmp_path: Path, dovecot: Dovecot, request: pytest.FixtureRequest) -> Iterator[MakeRelay]:
    """Makes sites of a scenario, by its name."""
    from tests.crash import relay

    users: list[str] = []

    def make(name: str, messages: list[bytes] | None = None, **more: Any) -> RelaySite:
        number = next(_numbers)
        user = f"relay{number}"
        scenarios = (relay.LMTP, relay.SMTP, relay.ARCHIVED, relay.TWO, relay.ONE_BY_ONE)
        scenario = next(scenario for scenario in scenarios if scenario.name == name)
        for one in (user, *relay.receivers(user, scenario)):
            dovecot.add_user(one)
            users.append(one)
        postfix = request.getfixturevalue("postfix") if name == "smtp" else None
        octets = forty() if messages is None else messages
        return relay.RelaySite(tmp_path / user, dovecot, user, scenario, octets, postfix=postfix, **more)

    yield make
    for user in users:
        shutil.rmtree(dovecot.mail / user)


MOMENTS: tuple[Moment, ...] = ("before", "after")
STEPS = (Step.LEDGER_COMMIT, Step.MESSAGE_END)
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)


@each_step
@each_killed
def test_killed_at_some_steps(name: str, step: Step, make_relay: MakeRelay) -> None:
    kill_at_steps(name, step, POINTS, make_relay)


@pytest.mark.soak
@each_step
@each_killed
def test_killed_at_many_steps(name: str, step: Step, make_relay: MakeRelay) -> None:
    kill_at_steps(name, step, POINTS_SOAK, make_relay)


def kill_at_steps(name: str, step: Step, points: int, make_relay: MakeRelay) -> None:
    """Among the commits are those before a last octet leaves (SENDING) and those of its outcome.

    How many there are differs a little: outcomes share a commit where they come together.
    """
    ended = make_relay(name).run()
    assert ended.code == 0, ended.stderr
    last = ended.steps[step, "after"]
    killed = uncertain = 0
    for number in range(points):
        moment = MOMENTS[number % 2]
        point = Point(step, moment, 1 + (last - 1) * number // (points - 1))
        site = make_relay(name)
        try:
            killed += site.run(point=point).was_killed(point)
            site.resume_and_prove()
            uncertain += site.all_uncertain
        except AssertionError as error:
            error.add_note(f"killed {point}; see {site.home}")
            raise
    assert killed >= points // 2
    assert uncertain or step is not Step.MESSAGE_END, "no outcome was ever uncertain: it proves nothing"


@each_way
@each_scenario
def test_cut_at_some_octets(name: str, way: Way, make_relay: MakeRelay) -> None:
    disturb(name, way, POINTS, make_relay, cut)


@pytest.mark.soak
@each_way
@each_scenario
def test_cut_at_many_octets(name: str, way: Way, make_relay: MakeRelay) -> None:
    disturb(name, way, POINTS_SOAK, make_relay, cut)


@each_way
@each_scenario
def test_killed_at_some_octets(name: str, way: Way, make_relay: MakeRelay) -> None:
    disturb(name, way, POINTS, make_relay, kill)


@pytest.mark.soak
@each_way
@each_scenario
def test_killed_at_many_octets(name: str, way: Way, make_relay: MakeRelay) -> None:
    disturb(name, way, POINTS_SOAK, make_relay, kill)


Disturb = Callable[["RelaySite", Proxy, Way, int, int], object]


def cut(site: RelaySite, network: Proxy, way: Way, octets: int, number: int) -> int:
    """The first connection ends there, orderly or by a reset; a new one goes on, or the next run."""
    act = (Act.CUT, Act.RESET)[number % 2]
    network.fault_of = lambda connection: Fault(way, octets, act) if connection == 1 else None
    ended = site.run()
    assert ended.code in {0, 3, 5}, ended.stderr
    assert len(ended.stderr.splitlines()) <= 2, ended.stderr
    return ended.code


def kill(site: RelaySite, network: Proxy, way: Way, octets: int, _number: int) -> None:
    """The first connection stalls there, and then the program is killed."""
    network.fault_of = lambda connection: Fault(way, octets, Act.STALL) if connection == 1 else None
    program = site.start()
    deadline = time.monotonic() + PATIENCE_S
    while network.passed[way] < octets and time.monotonic() < deadline:
        time.sleep(POLL_S)
    program.kill()
    assert program.wait().code in {-signal.SIGKILL, 0}


def disturb(name: str, way: Way, points: int, make_relay: MakeRelay, how: Disturb) -> None:
    """Something happens at `points` octets, evenly over an undisturbed session; then the job is resumed without it."""
    total = octets_of_a_run(name, way, make_relay)
    for number in range(points):
        octets = total * number // points
        site = make_relay(name, connections=1)
        with Proxy(site.destination) as network:
            site.go_through(network.port)
            try:
                how(site, network, way, octets, number)
                site.go_through(site.destination[1])
                site.resume_and_prove()
            except AssertionError as error:
                error.add_note(f"{how.__name__} at octet {octets} of {total} {way.value}; see {site.home}")
                raise


def octets_of_a_run(name: str, way: Way, make_relay: MakeRelay) -> int:
    site = make_relay(name, connections=1)
    with Proxy(site.destination) as network:
        site.go_through(network.port)
        assert site.run().code == 0
    site.go_through(site.destination[1])
    site.prove()
    return network.passed[way]


def test_s09_a_lost_reply_is_held_where_the_job_says_so(make_relay: MakeRelay) -> None:
    """At most once: what is held waits for a person, and no second copy is sent."""
    total = octets_of_a_run("lmtp", Way.DOWN, make_relay)
    seen = 0
    for number in range(1, POINTS):
        site = make_relay("lmtp", connections=1, policy="hold")
        with Proxy(site.destination) as network:
            site.go_through(network.port)
            codes = [cut(site, network, Way.DOWN, total * number // POINTS, number)]
        site.go_through(site.destination[1])
        codes += [site.run().code for _ in range(2)]
        (recipient,) = site.recipients
        arrived = site.arrived(recipient)
        assert not arrived - site.expected_files, "a second copy"
        missing = (site.expected_files - arrived).total()
        uncertain = site.all_uncertain
        assert missing <= uncertain <= PIPELINE_DEPTH
        assert (3 in codes) == (uncertain > 0), (codes, uncertain)
        shown = Program(["errors", JOB, "--config", str(site.config), "--json"], site.home / "errors").wait()
        assert shown.stdout.count('"why": "held"') == uncertain, shown.stdout
        seen += uncertain
    assert seen, "no reply was lost in this test: choose other octets"
