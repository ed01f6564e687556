"""Runs of a job whose POP3 server does what it should not: each message once and under its own id, and a way on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from syncd import clock
from syncd.engine.events import Event, Noted, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.archive import open_view
from syncd.services.problems import Problem, chosen, drop, problems
from syncd.services.runs import RunsByHand
from syncd.services.selection import Selector
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load
from tests.fakes.pop3 import CAPABILITIES, PASSWORD, USERNAME, FakePop3
from tests.support import mail

MAIL = list(mail.small(12, seed=31))
ONE_AT_A_TIME = tuple(line for line in CAPABILITIES if line != "PIPELINING")


class Bench:
    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.directory = directory
        self.server = server
        self.events: list[Event] = []
        self.configure()

    def configure(self, account: str = "", job: str = "") -> None:
        (self.directory / "syncd.toml").write_text(
            'state_directory = "state"\n[archives]\nhome = { path = "home" }\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "{self.server.host}"\nport = {self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n{account}\n'
            f'[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n{job}\n'
        )

    def loaded(self) -> Loaded:
        return load(self.directory / "syncd.toml", environment={"PASSWORD": PASSWORD})

    def run(self) -> RunReport:
        self.events.clear()
        [report] = RunsByHand(self.loaded(), [], RunOptions(), self.events.append).execute()
        return report

    def held(self) -> dict[bytes, bytes]:
        """Unique-id → octets."""
        view = open_view(self.loaded(), "home")
        try:
            return {
                stored.ref.uid: b"".join(stored.body.chunks()) for stored in view.stored(self.directory, pytest.fail)
            }
        finally:
            view.close()

    def problems(self) -> list[Problem]:
        with open_ledger(self.loaded()) as database:
            return list(problems(self.loaded(), database, "backup"))

    def right(self, *but: int) -> dict[bytes, bytes]:
        both = zip(self.server.uids, self.server.messages, strict=True)
        return {uid: octets for number, (uid, octets) in enumerate(both, 1) if number not in but}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(MAIL) as server:
        yield Bench(tmp_path, server)


def test_p31_a_run_goes_on_one_at_a_time_where_a_server_swallows_commands(bench: Bench) -> None:
    bench.server.swallows, bench.server.swallows_in_flights = {"RETR 5"}, True
    report = bench.run()
    assert (report.exit_code, report.fetched, report.new, report.listed) == (ExitCode.DONE, 12, 12, 12)
    assert bench.held() == bench.right()
    assert any("set pipelining = false" in event.text for event in bench.events if isinstance(event, Noted))
    assert bench.server.connections == 2


def test_p31_pipelining_is_switched_off_by_a_setting(bench: Bench) -> None:
    bench.configure("pipelining = false")
    assert bench.run().exit_code is ExitCode.DONE
    assert set(bench.server.flights) == {1}


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
@pytest.mark.parametrize("number", [1, 5, 12])
def test_p17_a_message_that_ends_every_session_does_not_keep_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, capabilities: tuple[str, ...]
) -> None:
    bench.server.capabilities = capabilities
    bench.server.hangs_up_on = {f"RETR {number}"}
    reports = [bench.run() for _ in range(3)]
    assert [report.exit_code for report in reports] == [ExitCode.TEMPORARY] * 3
    assert [report.fetched for report in reports] == [number - 1, 12 - number, 0]
    assert bench.held() == bench.right(number)
    [problem] = bench.problems()
    assert (problem.row.uid, problem.row.attempts) == (b"uid-%d" % number, 2)
    assert f"message {number} was not taken" in problem.row.reason
    later = clock.now() + timedelta(minutes=6)
    monkeypatch.setattr(clock, "now", lambda: later)
    bench.server.hangs_up_on = set()
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
def test_p17_p24_messages_that_end_sessions_come_last_and_alone_and_in_the_end_wait_for_a_person(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...]
) -> None:
    start, day = clock.now(), timedelta(days=0)
    monkeypatch.setattr(clock, "now", lambda: start + day)
    bench.server.capabilities = capabilities
    bench.server.hangs_up_on = {"RETR 3", "RETR 4"}
    codes = []
    for _ in range(16):
        bench.server.commands.clear()
        codes.append(bench.run().exit_code)
        asked = [command for command in bench.server.commands if command.startswith("RETR")]
        assert len(codes) <= 3 or len(asked) <= 1  # the others have come, and a suspect goes alone
        day += timedelta(days=2)
    assert bench.held() == bench.right(3, 4)
    assert (codes[-1], asked) == (ExitCode.WAITING, [])
    assert sorted(problem.row.uid for problem in bench.problems()) == [b"uid-3", b"uid-4"]
    bench.server.messages.append(MAIL[0] + b"new\r\n")
    bench.server.uids.append(b"uid-13")
    assert bench.run().exit_code is ExitCode.WAITING
    assert bench.held() == bench.right(3, 4)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
def test_p17_a_message_whose_header_ends_the_session_is_fetched_when_it_is_in_doubt(
    bench: Bench, capabilities: tuple[str, ...]
) -> None:
    bench.server.capabilities = capabilities
    bench.run()
    once = bench.held()
    bench.server.messages[6] = b"Subject: another\r\n\r\nunder an id that was used\r\n"
    bench.server.messages.append(b"Subject: new\r\n\r\n")
    bench.server.uids.append(b"uid-13")
    bench.server.hangs_up_on = {"TOP 7 0"}
    connections = bench.server.connections
    report = bench.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 2)
    assert bench.server.connections == connections + 2
    assert bench.held() == once | bench.right()
    assert any("headers alone" in event.text for event in bench.events if isinstance(event, Noted))


def test_p17_nothing_is_removed_where_a_header_ends_the_session(bench: Bench) -> None:
    bench.configure(job="leave_on_server = false\nconfirm_removal = true")
    bench.server.hangs_up_on = {"TOP 7 0"}
    report = bench.run()
    assert (report.exit_code, report.fetched, report.removed) == (ExitCode.TEMPORARY, 12, 0)
    assert any("headers alone" in error for error in report.errors)
    assert bench.server.deleted == []
    bench.server.hangs_up_on = set()
    assert (bench.run().removed, len(bench.server.deleted)) == (12, 12)


def test_p17_a_network_that_was_cut_once_parks_nothing(bench: Bench) -> None:
    bench.server.hangs_up_on = {"RETR 5"}
    assert bench.run().exit_code is ExitCode.TEMPORARY
    bench.server.hangs_up_on = set()
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()
    assert bench.problems() == []


def test_p08_numbers_mean_nothing_in_the_next_session(bench: Bench) -> None:
    bench.run()
    all_of_it = bench.right()
    del bench.server.messages[:5], bench.server.uids[:5]
    for number in range(3):
        bench.server.messages.insert(number * 2, b"Subject: new %d\r\n\r\n" % number)
        bench.server.uids.insert(number * 2, b"new-%d" % number)
    report = bench.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 3)
    assert bench.held() == all_of_it | bench.right()


def test_p09_p14_what_comes_back_under_another_id_is_not_stored_again(bench: Bench) -> None:
    bench.run()
    before = bench.held()
    bench.server.uids[3] = b"moved-and-back"
    report = bench.run()
    assert (report.exit_code, report.recognised) == (ExitCode.DONE, 1)
    assert bench.held() == before


def test_p36_what_is_still_listed_after_its_removal_is_removed_again(bench: Bench) -> None:
    bench.configure(job="leave_on_server = false\nconfirm_removal = true")
    for _ in range(2):  # the server agrees to everything and forgets it
        assert bench.run().exit_code in {ExitCode.DONE, ExitCode.TEMPORARY}
    assert sorted(bench.server.deleted) == sorted([*range(1, 13)] * 2)
    assert bench.held() == bench.right()


def test_p04_p16_any_octets_in_ids_and_the_largest_sizes_reach_the_ledger(bench: Bench) -> None:
    bench.server.uids = [bytes([n]) * (n + 1) for n in range(9)] + [b"<a@b>", b"x" * 1024, b"\x7f\x9b\xff"]
    rows = b"".join(b"%d %d\r\n" % (n, 99_999_999_999 if n == 12 else 1) for n in range(1, 13))
    bench.server.replies["LIST"] = b"+OK\r\n" + rows + b".\r\n"
    assert bench.run().exit_code is ExitCode.WAITING  # larger than limits.message_octets
    assert bench.held() == bench.right(12)


@pytest.mark.parametrize("size", [b"9" * 18, b"9" * 30, b"-1", b"unknown"])
def test_p51_a_size_that_cannot_be_is_unknown_and_the_mail_is_stored(bench: Bench, size: bytes) -> None:
    bench.server.capabilities = ONE_AT_A_TIME  # where nothing else can be in the place of LIST's answer
    bench.server.replies["LIST"] = b"+OK\r\n" + b"".join(b"%d %b\r\n" % (n, size) for n in range(1, 13)) + b".\r\n"
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
def test_p50_p52_p53_a_server_that_is_odd_in_every_answer(bench: Bench, capabilities: tuple[str, ...]) -> None:
    server = bench.server
    server.capabilities = capabilities
    rows = b"".join(b"%3d   %6d \r\n" % (n, len(message)) for n, message in enumerate(server.messages, 1))
    whole = b"+ok 12 messages\r\n" + rows + b"\r\n.\r\n"
    server.on["LIST"] = lambda _: whole
    server.on["STAT"] = lambda _: b"+OK\t3  messages\r\n"
    for _ in range(2):
        assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()


def test_p54_a_command_that_is_unknown_begins_no_back_off(bench: Bench) -> None:
    server = bench.server
    server.replies = dict.fromkeys(("AUTH", "USER"), b"-ERR unknown command\r\n")
    for runs in (1, 2):
        report = bench.run()
        assert report.exit_code is ExitCode.FAILED
        assert server.connections == runs
    server.replies.pop("USER")
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()


@pytest.mark.parametrize(
    "greeting", [b"220 mx ESMTP\r\n", b"* OK IMAP4rev1\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 400 no\r\n"]
)
def test_another_kind_of_server_is_no_passing_trouble(bench: Bench, greeting: bytes) -> None:
    bench.server.greeting = greeting
    assert bench.run().exit_code is ExitCode.FAILED


def test_p55_a_quota_of_the_account_blames_no_message(bench: Bench) -> None:
    server = bench.server
    server.messages = list(mail.small(40, seed=55))
    server.uids = [b"u%d" % number for number in range(40)]
    asked = iter(range(1000))
    server.on["RETR"] = lambda _: b"-ERR Download exceed. msg=10\r\n" if next(asked) >= 10 else None
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert bench.held() == {uid: octets for uid, octets in bench.right().items() if uid in server.uids[:10]}
    assert bench.problems() == []
    del server.on["RETR"]
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.right()


def test_p38_the_servers_own_data_stays_and_can_be_dropped(bench: Bench) -> None:
    bench.configure(job="leave_on_server = false\nconfirm_removal = true")
    bench.server.messages[0] = (
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r\nX-IMAP: 1069324236 0000000003\r\n\r\ntext\r\n"
    )
    assert [bench.run().exit_code for _ in range(2)] == [ExitCode.WAITING] * 2
    assert bench.held() == bench.right(1)
    assert sorted(set(bench.server.deleted)) == list(range(2, 13))
    with open_ledger(bench.loaded()) as database:
        found = chosen(bench.loaded(), database, ["backup"], Selector(), drop=True)
        drop(bench.loaded(), database, "backup", found["backup"])
    assert bench.run().exit_code is ExitCode.DONE
    assert 1 not in bench.server.deleted


class Gmail(FakePop3):
    """Shows the oldest four, and no more what was retrieved in a session that ended with QUIT (P12, P13)."""

    def __init__(self, messages: list[bytes]) -> None:
        super().__init__(messages[:4])
        self.greeting = b"+OK Gpop ready for requests from 192.0.2.1\r\n"
        self.capabilities = tuple(line for line in CAPABILITIES if line != "PIPELINING")
        self.everything = messages
        self.replies["QUIT"] = self.next_page
        self.page = 0

    def next_page(self) -> bytes:
        if any(command.startswith("RETR") for command in self.commands[-8:]):
            self.page += 4
            self.messages = self.everything[self.page : self.page + 4]
            self.uids = [b"g%d" % number for number in range(self.page, self.page + len(self.messages))]
        return b"+OK Farewell.\r\n"


def test_p12_p13_all_pages_in_one_run_and_the_next_one_finds_nothing_odd(tmp_path: Path) -> None:
    with Gmail(MAIL[:10]) as server:
        bench = Bench(tmp_path, server)
        report = bench.run()
        assert (report.exit_code, report.fetched, report.new, report.listed) == (ExitCode.DONE, 10, 10, 10)
        assert sorted(bench.held().values()) == sorted(MAIL[:10])
        again = bench.run()
        assert (again.exit_code, again.fetched) == (ExitCode.DONE, 0)
        assert not [event for event in bench.events if isinstance(event, Noted)]
