"""SIGKILL while several connections read and fill IMAP mailboxes, or one: each message is there once, as it was."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.db.states import DeliveryState
from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.imap_site import ImapSite, Template, mailboxes, make_template, one_mailbox
from tests.crash.site import JOB, Scenario
from tests.servers.dovecot import Dovecot
from tests.servers.imap import Login, shown

pytestmark = [pytest.mark.crash, pytest.mark.servers]

POINTS, POINTS_SOAK = 2, 40  # of each kind
RUNS = 4  # more than that many are never needed after one fault
MOMENTS: tuple[Moment, ...] = ("before", "after")
each_step = pytest.mark.parametrize("step", [Step.LEDGER_COMMIT, Step.MESSAGE_END], ids=lambda step: step.value)
_numbers = itertools.count(1)

Contents = dict[str, Counter[tuple[bytes, frozenset[str], str]]]


class Accounts(ImapSite):
    """Two accounts of one server; all mail of one is copied into the other, by three connections on either side."""

    def configure(self, port: int) -> None:
        self.server.add_user(f"{self.user}-new")
        (self.home / "password").write_text("secret\n")
        (self.home / "password").chmod(0o600)
        shared = str(list(self.template.shown) == ["INBOX"]).lower()
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "imap"\nhost = "{self.server.host}"\nport = {port}\nsecurity = "none"\n'
            f'allow_insecure = true\nusername = "{user}"\npassword = "file:password"\nconnections = 3\n'
            f"share_mailboxes = {shared}\n"
            for name, user in (("mail", self.user), ("new", f"{self.user}-new"))
        )
        (self.home / "syncd.toml").write_text(
            f'state_directory = "state"\n{accounts}[jobs.{JOB}]\nsource = "mail"\ndestinations = ["new"]\n'
        )

    def arrived(self) -> Contents:
        found = shown(Login(self.server.host, self.server.imap_port, f"{self.user}-new"))
        return {name: Counter((it.octets, it.flags, it.date) for it in mail) for name, mail in found.items() if mail}

    def expected(self) -> Contents:
        found = self.template.shown
        return {name: Counter((it.octets, it.flags, it.date) for it in mail) for name, mail in found.items() if mail}

    def resume_and_prove(self) -> None:
        codes = [self.run().code]
        while codes[-1] != 0 and len(codes) < RUNS:
            codes.append(self.run().code)
        assert codes[-1] == 0, codes
        assert self.arrived() == self.expected()
        deliveries = self.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, self.messages)]
        left = self.query("SELECT count(*) FROM uncertain_outcomes UNION ALL SELECT count(*) FROM intents")
        assert left == [(0,), (0,)]
        again = self.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        assert self.arrived() == self.expected()


@pytest.fixture(scope="module", params=[mailboxes, one_mailbox], ids=["several mailboxes", "one mailbox"])
def template(request: pytest.FixtureRequest, dovecot: Dovecot) -> Template:
    return make_template(dovecot, f"several{next(_numbers)}", request.param())


@pytest.fixture
def make(tmp_path: Path, dovecot: Dovecot, template: Template) -> Iterator[Callable[[], Accounts]]:
    users: list[str] = []

    def made() -> Accounts:
        users.append(f"several{next(_numbers)}")
        return Accounts(tmp_path / users[-1], dovecot, users[-1], Scenario("imap", {}), template)

    yield made
    for user in users:
        for name in (user, f"{user}-new"):
            shutil.rmtree(dovecot.mail / name, ignore_errors=True)


@each_step
def test_killed_at_some_steps(step: Step, make: Callable[[], Accounts]) -> None:
    kill_at_steps(step, POINTS, make)


@pytest.mark.soak
@each_step
def test_killed_at_many_steps(step: Step, make: Callable[[], Accounts]) -> None:
    kill_at_steps(step, POINTS_SOAK, make)


def kill_at_steps(step: Step, points: int, make: Callable[[], Accounts]) -> None:
    whole = make()
    ended = whole.run()
    assert ended.code == 0, ended.stderr
    assert whole.arrived() == whole.expected()
    last = ended.steps[step, "after"]
    killed = 0
    for number in range(points):
        point = Point(step, MOMENTS[number % 2], 1 + (last - 1) * number // (points - 1))
        site = make()
        try:
            killed += site.run(point=point).was_killed(point)
            site.resume_and_prove()
        except AssertionError as error:
            error.add_note(f"killed {point}; see {site.home}")
            raise
    assert killed >= points // 2
