"""SIGKILL while mail is put into IMAP mailboxes: each message is there once, and none leaves the source before that."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from syncd.db.states import DeliveryState
from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.servers.dovecot import Dovecot
from tests.servers.imap import Login, shown
from tests.servers.maildrop import servable
from tests.support import mail

if TYPE_CHECKING:
    from tests.crash.site import Digests, Scenario

pytestmark = [pytest.mark.crash, pytest.mark.servers]

POINTS = 2  # of each kind; test_imap_move has more
POINTS_SOAK = 40
RUNS = 4  # more than that many are never needed after one fault
MOMENTS: tuple[Moment, ...] = ("before", "after")
STEPS = (Step.LEDGER_COMMIT, Step.MESSAGE_END)
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
each_policy = pytest.mark.parametrize("removes", [False, True], ids=["copy", "move"])
_numbers = itertools.count(1)


def thirty() -> list[bytes]:
    some = [message for message in mail.samples().values() if servable(message)]
    return [*some, *mail.small(20, seed=8), *mail.realistic(2, seed=9)]


@pytest.fixture
def make(tmp_path: Path, dovecot: Dovecot) -> Iterator[Callable[[bool], Box]]:
    from tests.crash.site import Scenario

    users: list[str] = []

    def made(removes: bool) -> Box:  # noqa: FBT001
        user = f"filed{next(_numbers)}"
        for name in (user, f"{user}-new"):
            dovecot.add_user(name)
            users.append(name)
        return Box(tmp_path / user, dovecot, user, Scenario("imap", {}, removes=removes))

    yield made
    for user in users:
        shutil.rmtree(dovecot.mail / user, ignore_errors=True)


@dataclass
class Box:
    """A maildrop, a job that puts its mail into an IMAP account, and the proof."""

    home: Path
    server: Dovecot
    user: str
    scenario: Scenario

    def __post_init__(self) -> None:
        from tests.crash import site

        self.site = site.Site(self.home, self.server, self.user, self.scenario, thirty())
        text = self.site.config.read_text().replace(
            "destinations = []", 'destinations = [{ to = "new", prefix = "Old" }]'
        )
        self.site.config.write_text(
            f'{text}[accounts.new]\nprotocol = "imap"\nhost = "{self.server.host}"\nport = {self.server.imap_port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{self.user}-new"\npassword = "file:password"\n'
        )

    def arrived(self) -> Digests:
        from tests.crash.site import digests

        found = shown(Login(self.server.host, self.server.imap_port, f"{self.user}-new"))
        return digests(one.octets for messages in found.values() for one in messages)

    def resume_and_prove(self) -> None:
        site = self.site
        if self.scenario.removes:
            assert not site.expected - self.arrived() - site.on_server(), "a message has left the source and is nowhere"
        codes = [site.run().code]
        while codes[-1] != 0 and len(codes) < RUNS:
            codes.append(site.run().code)
        assert codes[-1] == 0, codes
        assert self.arrived() == site.expected
        assert not self.scenario.removes or not site.on_server()
        deliveries = site.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, len(site.mail))]
        assert site.query("SELECT count(*) FROM uncertain_outcomes UNION ALL SELECT count(*) FROM intents") == [
            (0,),
            (0,),
        ]
        assert site.open_runs() == []
        again = site.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        assert self.arrived() == site.expected


@each_step
def test_killed_at_some_steps(step: Step, make: Callable[[bool], Box]) -> None:
    kill_at_steps(step, POINTS, make, removes=True)


@pytest.mark.soak
@each_step
@each_policy
def test_killed_at_many_steps(step: Step, make: Callable[[bool], Box], removes: bool) -> None:  # noqa: FBT001
    kill_at_steps(step, POINTS_SOAK, make, removes=removes)


def kill_at_steps(step: Step, points: int, make: Callable[[bool], Box], *, removes: bool) -> None:
    whole = make(removes)
    ended = whole.site.run()
    assert ended.code == 0, ended.stderr
    last = ended.steps[step, "after"]
    killed = 0
    for number in range(points):
        point = Point(step, MOMENTS[number % 2], 1 + (last - 1) * number // (points - 1))
        box = make(removes)
        try:
            killed += box.site.run(point=point).was_killed(point)
            box.resume_and_prove()
        except AssertionError as error:
            error.add_note(f"killed {point}; see {box.home}")
            raise
    assert killed >= points // 2
