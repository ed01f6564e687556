"""SIGKILL while a job moves mail from one IMAP account to another: nothing is lost, doubled, or gone too early."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.db.states import DeliveryState
from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.imap_site import SEPARATOR, ImapSite, Template, make_template
from tests.crash.site import JOB, Scenario
from tests.servers.dovecot import Dovecot
from tests.servers.imap import Login
from tests.support.accounts import Holdings, filled, of_account
from tests.support.proxy import Act, Fault, Proxy, Way

pytestmark = [pytest.mark.crash, pytest.mark.servers]

STEPS = (Step.LEDGER_COMMIT, Step.MESSAGE_END, Step.SOURCE_REMOVE, Step.SOURCE_EXPUNGE)
MOMENTS: tuple[Moment, ...] = ("before", "after")
OFFSETS_SOAK = 40
RUNS = 3  # more than that many are never needed after one fault
each_step = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
each_moment = pytest.mark.parametrize("moment", MOMENTS)
each_policy = pytest.mark.parametrize("removes", [True, False], ids=["move", "copy"])
Counts = dict[tuple[Step, Moment], int]
_numbers = itertools.count(1)


class MoveSite(ImapSite):
    """An account, an empty one, and a job between the two."""

    def configure(self, port: int) -> None:
        self.server.add_user(f"{self.user}-new")
        super().configure(port)
        file = self.home / "syncd.toml"
        text = file.read_text().replace("destinations = []", 'destinations = ["new"]')
        account, job = text.split("[jobs.", 1)
        new = account.split("[accounts.mail]")[1].replace(f'"{self.user}"', f'"{self.user}-new"')
        removes = 'mode = "move"\nconfirm_removal = true\n' if self.scenario.removes else ""
        file.write_text(f"{account}[accounts.new]{new}[jobs.{job}{removes}")

    def lead_to(self, port: int) -> None:
        """Reach the destination by this port."""
        file = self.home / "syncd.toml"
        before, new = file.read_text().split("[accounts.new]")
        file.write_text(f"{before}[accounts.new]{new.replace(f'port = {self.server.imap_port}', f'port = {port}')}")

    def holdings(self, user: str) -> Holdings:
        return filled(of_account(Login(self.server.host, self.server.imap_port, user), SEPARATOR))

    def prove(self) -> None:
        expected = filled(self.template.holdings)
        assert self.holdings(f"{self.user}-new") == expected
        assert self.holdings(self.user) == ({} if self.scenario.removes else expected)
        deliveries = self.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, self.messages)]
        for table in ("uncertain_outcomes", "intents", "problems"):
            assert self.query(f"SELECT count(*) FROM {table}") == [(0,)]

    def resume_and_prove(self) -> None:
        here, there = self.holdings(self.user), self.holdings(f"{self.user}-new")
        for path, held in filled(self.template.holdings).items():
            assert not held - there.get(path, held - held) - here.get(path, held - held), "gone, and nowhere else"
        codes = [self.run().code]
        while codes[-1] != 0 and len(codes) < RUNS:
            codes.append(self.run().code)
        assert codes[-1] == 0, codes
        self.prove()
        again = self.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        self.prove()


MakeSite = Callable[[bool], MoveSite]


@pytest.fixture(scope="module")
def template(dovecot: Dovecot) -> Template:
    return make_template(dovecot, "moved")


@pytest.fixture
def make_site(tmp_path: Path, dovecot: Dovecot, template: Template) -> Iterator[MakeSite]:
    users: list[str] = []

    def make(removes: bool) -> MoveSite:  # noqa: FBT001
        number = next(_numbers)
        user = f"move{number}"
        users.extend([user, f"{user}-new"])
        return MoveSite(tmp_path / user, dovecot, user, Scenario("move", {}, removes=removes), template)

    yield make
    for user in users:
        shutil.rmtree(dovecot.mail / user, ignore_errors=True)


def test_killed_in_the_middle_of_each_kind_of_step(make_site: MakeSite) -> None:
    counted = count(make_site(True))
    assert {step for step, _ in counted} == set(STEPS)
    for (step, moment), number in counted.items():
        assert kill_and_prove(make_site(True), Point(step, moment, (number + 1) // 2))


@pytest.mark.soak
@each_policy
@each_step
@each_moment
def test_killed_at_every_occurrence(make_site: MakeSite, step: Step, moment: Moment, removes: bool) -> None:  # noqa: FBT001
    number = count(make_site(removes)).get((step, moment), 0)
    killed = sum(kill_and_prove(make_site(removes), Point(step, moment, at)) for at in range(1, number + 1))
    assert killed >= (number + 1) // 2


def count(site: MoveSite) -> Counts:
    """How often each step comes in an undisturbed run."""
    ended = site.run()
    assert ended.code == 0, ended.stderr
    site.prove()
    return ended.steps


def kill_and_prove(site: MoveSite, point: Point) -> bool:
    """Returns whether it came to the point."""
    try:
        killed = site.run(point=point).was_killed(point)
        site.resume_and_prove()
    except AssertionError as error:
        error.add_note(f"killed {point}; see {site.home}, {JOB}")
        raise
    return killed


# --- at any octet of the connection to the destination -----------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("way", Way)
@each_policy
def test_cut_at_many_offsets(make_site: MakeSite, way: Way, removes: bool) -> None:  # noqa: FBT001
    """Inside literals, behind the last octet of one, before a tagged reply, and anywhere else."""
    whole = make_site(removes)
    with Proxy((whole.server.host, whole.server.imap_port)) as network:
        whole.lead_to(network.port)
        count(whole)
        total = network.passed[way]
    for number in range(OFFSETS_SOAK):
        offset, act = total * number // OFFSETS_SOAK, (Act.CUT, Act.RESET)[number % 2]
        with Proxy((whole.server.host, whole.server.imap_port)) as network:
            site = make_site(removes)
            site.lead_to(network.port)
            fault = Fault(way, offset, act)
            network.fault_of = lambda connection, fault=fault: fault if connection == 1 else None
            try:
                assert site.run().code in {0, 5}
                site.resume_and_prove()
            except AssertionError as error:
                error.add_note(f"{way.name} {act.name} at octet {offset} of {total}; see {site.home}")
                raise
