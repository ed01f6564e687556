"""What was sent, what waits and what is suspended, from run to run: whole commands and a scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from syncd import clock
from syncd.cli.main import call
from syncd.db.database import Database
from syncd.db.models import deliveries
from syncd.db.states import DeliveryState
from syncd.destinations.maildir import MaildirArchive
from tests.e2e.test_imap_migration import between
from tests.e2e.test_imap_migration import mail as octets
from tests.fakes.imap import PASSWORD, FakeImap
from tests.fakes.smtp import CHUNKING, FakeSmtp

ME = "me@example.org"


class Desk:
    """A Maildir as the source of jobs, and a server that takes, defers or refuses what they send."""

    def __init__(self, directory: Path, server: FakeSmtp, output: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self._directory = directory
        self._output = output
        self._mail = directory / "mail"
        MaildirArchive(self._mail).create(uuid4())
        server.capabilities = CHUNKING

    def mail(self, *names: str) -> None:
        for name in names:
            (self._mail / "new" / f"{name}.x.h").write_text(f"From: a@b.example\nSubject: {name}\n\nhi\n")

    def configure(self, job: str = "forward", recipient: str = ME, *, to: str = "relay", more: str = "") -> None:
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "smtp"\nhost = "{host}"\nport = {self.server.port}\n'
            'security = "none"\nallow_insecure = true\n'
            for name, host in (("relay", "127.0.0.1"), ("other", "localhost"))
        )
        (self._directory / "syncd.toml").write_text(
            f'state_directory = "state"\n{accounts}[archives.mail]\npath = "mail"\nformat = "maildir"\n'
            f'[jobs.{job}]\nsource = "mail"\ndestinations = [{{ to = "{to}", recipient = "{recipient}"{more} }}]\n'
        )

    def answer(self, *replies: str) -> None:
        """To the last octets of the next messages; then all is taken again."""
        self.server.replies["LAST"] = [f"{reply}\r\n".encode() for reply in replies]

    def sign_in(self, variable: str) -> None:
        """The account needs a password, which is in the environment."""
        self.server.capabilities = (*CHUNKING, "AUTH PLAIN")
        file = self._directory / "syncd.toml"
        login = f'[accounts.relay]\nusername = "user"\npassword = "env:{variable}"\n'
        file.write_text(file.read_text().replace("[accounts.relay]\n", login))

    def comes_back(self) -> None:
        """The server puts what arrived last into the mailbox that is read."""
        (self._mail / "new" / "back.x.h").write_bytes(self.server.arrivals[-1].octets.replace(b"\r\n", b"\n"))

    @property
    def sign_ins(self) -> int:
        return sum(command.startswith("AUTH") for command in self.server.commands)

    @property
    def begun(self) -> int:
        """Messages that were offered."""
        return sum(command.startswith("MAIL") for command in self.server.commands)

    def state(self, state: DeliveryState) -> None:
        """As a run that was killed leaves every delivery."""
        with Database.open(None, self._directory / "state") as database, database.write() as connection:
            connection.execute(update(deliveries).values(state=state))

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code and all that was said."""
        self._output.readouterr()
        code = call([*words, "-c", str(self._directory / "syncd.toml")])
        said = self._output.readouterr()
        return code, said.out + said.err

    @property
    def arrived(self) -> int:
        return len(self.server.arrivals)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Add to it, and the clock is ahead by so much."""
    ahead: list[timedelta] = []
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + sum(ahead, timedelta()))
    return ahead


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    with FakeSmtp() as server:
        yield Desk(tmp_path, server, capsys)


# --- nothing is sent again because something is called otherwise ---------------------------------------------


def test_a_renamed_job_and_a_recipient_in_other_letters_send_nothing_again(desk: Desk):
    desk.mail("a", "b", "c")
    desk.configure("forward")
    assert (desk("run")[0], desk.arrived) == (0, 3)
    desk.configure("onward")
    assert (desk("run", "--dry-run")[1].count("would fetch"), desk("run")[0], desk.arrived) == (0, 0, 3)
    desk.configure("onward", "Me@Example.org")
    desk.mail("d")
    assert (desk("run")[0], desk.arrived) == (0, 4)
    assert desk.server.arrivals[-1].recipients == ("Me@Example.org",)


def test_another_server_to_the_same_recipient_is_for_a_person(desk: Desk):
    desk.mail("a", "b")
    desk.configure()
    desk("run")
    desk.configure(to="other")
    desk.mail("c")
    code, said = desk("run")
    assert (code, desk.arrived) == (3, 3)
    assert "2 deliveries were made before, or may have been, by a destination that is not in use any more" in said
    code, said = desk("errors", "forward")
    assert said.count('held, 1 try, waits for you: it was given to this recipient before, by "relay" for job') == 2
    desk("drop", "forward", "held", "--yes")
    assert (desk("run")[0], desk.arrived) == (0, 3)


# --- what former jobs and destinations left -------------------------------------------------------------------


def test_what_a_former_destination_left_is_shown_as_such_and_dropped(desk: Desk):
    desk.mail("a", "b")
    desk.configure()
    desk.answer("550 5.1.1 no", "450 4.2.0 later")
    assert desk("run")[0] == 3
    desk.configure(recipient="you@example.org")
    desk("run")
    code, said = desk("errors", "forward")
    assert said.count("not tried any more (no job of the configuration delivers there)") == 2
    code, said = desk("retry", "forward")
    assert code == 0
    assert "forward: 0 messages will be tried again by the next run" in said
    assert "forward: 2 messages not tried: no job of the configuration delivers there" in said
    assert desk("drop", "forward", "--to", ME, "--yes")[0] == 0
    assert desk("errors")[1] == "no message waits\n"


def test_a_job_that_only_the_ledger_knows_is_decided(desk: Desk):
    desk.mail("a", "b")
    desk.configure("former")
    desk.answer("550 5.1.1 no", "550 5.1.1 no")
    desk("run")
    desk.configure("other", "you@example.org")
    desk("run")
    assert "former: 2 messages not tried" in desk("retry", "former")[1]
    number = desk("errors", "former")[1].split()[0]
    assert "former: 1 message dropped" in desk("drop", "former", number, "--yes")[1]
    assert "former: 1 message dropped" in desk("drop", "--all", "rejected", "--yes")[1]
    assert desk("errors")[1] == "no message waits\n"
    assert "former" not in desk("retry", "--all")[1]


def test_s09_what_a_killed_run_left_sending_is_seen_before_the_next_run(desk: Desk):
    desk.mail("a")
    desk.configure()
    desk("run")
    desk.state(DeliveryState.SENDING)
    said = desk("errors")[1]
    assert "uncertain, tried by the next run: a run that broke off may have sent it; the next run records that" in said
    assert "forward: 1 delivery of an interrupted run may or may not have arrived; see" in desk("status")[1]
    desk("run")
    assert desk.arrived == 2
    assert "1 × uncertain, delivered, at most 2 copies" in desk("errors")[1]
    assert "interrupted" not in desk("status")[1]


def test_s09_what_a_killed_run_left_sending_to_an_imap_account_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It was said to be recorded and passed over, as for a mail server, which cannot be asked."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    with FakeImap() as old, FakeImap() as new:
        old.box("Lists/Café").add(octets(1))
        bench = between(tmp_path, (old, new))
        bench.run()
        with Database.open(None, tmp_path / "state") as database, database.write() as connection:
            connection.execute(update(deliveries).values(state=DeliveryState.SENDING))
        assert call(["errors", "-c", str(tmp_path / "syncd.toml")]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        asked = "a run that broke off may have sent it; the next run asks the server whether it arrived"
        told = f"Lists/Café, UID 1: old → new: uncertain, tried by the next run: {asked}"
        assert line.partition("  ")[2] == told
        assert call(["status", "move", "-c", str(tmp_path / "syncd.toml")]) == 0
        assert "may or may not have arrived; the next run asks the server; see: syncd errors move uncertain" in (
            capsys.readouterr().err
        )


def test_s09_what_a_killed_run_left_sending_on_a_former_route_is_recorded(desk: Desk):
    desk.mail("a")
    desk.configure()
    desk("run")
    desk.state(DeliveryState.SENDING)
    desk.configure(recipient="you@example.org")
    assert "1 deliveries of other jobs or former destinations is not known" in desk("run")[1]
    assert "uncertain, 1 try, 1 × uncertain, not tried any more" in desk("errors", "forward")[1]
    assert desk("drop", "forward", "uncertain", "--yes")[0] == 0
    assert desk("errors")[1] == "no message waits\n"


def test_s09_what_a_killed_run_left_sending_can_be_dropped_at_once(desk: Desk):
    desk.mail("a")
    desk.configure()
    desk("run")
    desk.state(DeliveryState.SENDING)
    assert "forward: 1 message dropped" in desk("drop", "forward", "uncertain", "--yes")[1]
    assert (desk("run")[0], desk.arrived) == (0, 1)


# --- loops ----------------------------------------------------------------------------------------------------


def test_s25_what_comes_back_is_sent_only_when_a_person_names_it(desk: Desk, later: list[timedelta]):
    desk.mail("a")
    desk.configure()
    desk("run")
    desk.comes_back()
    code, said = desk("run")
    assert (code, desk.arrived) == (3, 1)
    said = desk("errors")[1]
    assert (
        "loop, 1 try, waits for you: seems to go round in a loop: it has our id of a delivery from this account" in said
    )
    said = desk("retry", "forward")[1]
    assert "forward: 0 messages will be tried again by the next run" in said
    assert "1 message not tried: mail loop suspected. To send anyway: syncd retry forward loop" in said
    assert (desk("run")[0], desk.arrived) == (3, 1)
    assert "1 message will be tried again" in desk("retry", "forward", "loop")[1]
    desk.answer("450 4.2.0 greylisted")
    assert (desk("run")[0], desk.arrived) == (5, 1), "it stays so over a deferral"
    later.append(timedelta(hours=1))
    assert (desk("run")[0], desk.arrived) == (0, 2)
    assert desk("errors")[1] == "no message waits\n"


def test_s25_a_loop_is_sent_by_its_number(desk: Desk):
    desk.mail("a")
    desk.configure()
    desk("run")
    desk.comes_back()
    desk("run")
    assert "1 message will be tried again" in desk("retry", "forward", desk("errors")[1].split()[0])[1]
    assert (desk("run")[0], desk.arrived) == (0, 2)


# --- suspended -------------------------------------------------------------------------------------------------


def test_f08_s21_a_refused_password_is_not_tried_again_and_again(
    desk: Desk, later: list[timedelta], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WRONG", "guess")
    desk.mail("a")
    desk.configure()
    desk.sign_in("WRONG")
    for minutes, tries in ((0, 1), (14, 1), (2, 2), (29, 2), (2, 3)):
        later.append(timedelta(minutes=minutes))
        code, said = desk("run")
        assert (code, desk.sign_ins) == (4, tries), said
        assert "to try at once: `syncd retry forward suspended`" in said
    assert "paused until" in desk("status")[1]
    monkeypatch.setenv("WRONG", "secret")
    assert (desk("run")[0], desk.sign_ins) == (4, 3)
    assert "forward: relay is no longer suspended" in desk("retry", "forward", "suspended")[1]
    assert (desk("run")[0], desk.arrived) == (0, 1)


def test_s02_a_blocked_account_is_suspended_and_then_probed(desk: Desk, later: list[timedelta]):
    desk.mail(*(f"m{number:02}" for number in range(30)))
    desk.configure()
    desk.server.replies["LAST"] = b"550 5.7.1 blocked\r\n"
    for minutes, tries in ((0, 10), (14, 10), (2, 14), (29, 14), (2, 18)):
        later.append(timedelta(minutes=minutes))
        code, said = desk("run")
        assert (code, desk.begun) == (5, tries), said
    del desk.server.replies["LAST"]
    later.append(timedelta(hours=1))
    assert (desk("run")[0], desk.arrived) == (0, 30)


def test_s02_one_message_a_run_trips_the_breaker_too(desk: Desk, later: list[timedelta]):
    desk.configure()
    desk.server.replies["LAST"] = b"550 5.7.1 blocked\r\n"
    codes = []
    for number in range(12):
        desk.mail(f"m{number}")
        later.append(timedelta(minutes=1))
        codes.append(desk("run")[0])
    assert codes == [3] * 9 + [5] * 3
    del desk.server.replies["LAST"]
    assert (desk("retry", "forward", "suspended")[0], desk("run")[0], desk.arrived) == (0, 3, 3)


@pytest.mark.parametrize("reply", ["550 5.7.1 not from here", "451 4.3.0 not now", "554 no"])
def test_s02_three_messages_that_are_refused_alike_stay_pending(desk: Desk, later: list[timedelta], reply: str):
    desk.mail("a", "b", "c")
    desk.configure()
    desk.server.replies["LAST"] = f"{reply}\r\n".encode()
    code, said = desk("run")
    assert (code, desk.begun) == (5, 3), said
    assert "rejected" not in desk("errors")[1]
    assert (desk("run")[0], desk.begun) == (5, 3)  # suspended
    del desk.server.replies["LAST"]
    later.append(timedelta(hours=1))
    assert (desk("run")[0], desk.arrived) == (0, 3)


@pytest.mark.parametrize("reply", ["550 5.1.1 nobody", "552 5.3.4 too large", "554 this message looks like spam"])
def test_s06_three_messages_that_are_at_fault_themselves_are_rejected(desk: Desk, reply: str):
    desk.mail("a", "b", "c")
    desk.configure()
    desk.server.replies["LAST"] = f"{reply}\r\n".encode()
    assert (desk("run")[0], desk.begun) == (3, 3)


def test_s22_a_limit_that_is_said_with_a_permanent_code_rejects_nothing(desk: Desk):
    desk.mail(*"abcdefgh")
    desk.configure()
    words = b"554 5.7.0 The limit on the number of allowed outgoing messages was exceeded. Try again later.\r\n"
    desk.server.replies["LAST"] = [b"250 2.0.0 ok\r\n"] * 3 + [words] * 9
    assert (desk("run")[0], desk.arrived, desk.begun) == (5, 3, 4)
    assert "rejected" not in desk("errors")[1]


def test_another_service_at_the_port_is_no_passing_fault(desk: Desk):
    desk.mail("a")
    desk.configure()
    desk.server.greeting = b"* OK IMAP4rev1 ready\r\n"
    code, said = desk("run")
    assert code == 1
    assert "an IMAP server answers here, not" in said


@pytest.mark.parametrize(("limit", "raised"), [("per_day = 1", "per_day = 2"), ('rate = "1/hour"', 'rate = "2/hour"')])
def test_s22_a_limit_that_is_raised_or_gone_holds_nothing_back(desk: Desk, limit: str, raised: str):
    desk.mail("a", "b", "c", "d")
    desk.configure(more=f", {limit}")
    assert (desk("run")[0], desk.arrived) == (5, 1)
    assert (desk("run")[0], desk.arrived) == (5, 1)
    desk.configure(more=f", {raised}")
    assert (desk("run")[0], desk.arrived) == (5, 2)
    assert "paused until" in desk("status")[1]
    desk.configure()
    assert "paused until" not in desk("status")[1]
    assert (desk("run")[0], desk.arrived) == (0, 4)


def test_s22_one_limit_that_is_gone_does_not_lift_another(desk: Desk):
    desk.mail("a", "b", "c")
    desk.configure(more=', per_day = 2, rate = "1/hour"')
    assert (desk("run")[0], desk.arrived) == (5, 1)
    desk.configure(more=", per_day = 2")
    assert (desk("run")[0], desk.arrived) == (5, 2)
    desk.configure(more=', per_day = 2, rate = "90/hour"')
    assert (desk("run")[0], desk.arrived) == (5, 2)
