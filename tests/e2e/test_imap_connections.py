"""Several connections to IMAP accounts: side by side, fewer than wanted, and lost; scripted peers, then Dovecot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from syncd.db.leases import LeaseSet, mailboxes_resource
from syncd.db.models import accounts
from syncd.engine.context import Slice
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.progress import Recorder
from syncd.errors import LedgerError
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from tests.e2e.test_imap_migration import Bench, contents, mail
from tests.fakes.imap import EXTENDED, USERNAME, FakeImap
from tests.fakes.imap_words import Word
from tests.servers.imap import FLAVOURS, Letter, dovecot, fill

WAIT_S = 30.0  # for others who are to come, too: only a test that fails waits so long
Peers = tuple[FakeImap, FakeImap]
BOXES = ("INBOX", "Sent", "Old", "Odd")


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = EXTENDED
        for name in BOXES:
            old.box(name).add(*map(mail, range(12)))
        yield old, new
        assert not new.violations


class Several(Bench):
    """A job between accounts with several connections. `said` are the notes of the last run."""

    def __init__(
        self,
        directory: Path,
        old: tuple[str, int, str],
        new: tuple[str, int, str],
        number: int = 3,
        *,
        share: bool = False,
    ) -> None:
        super().__init__(directory, old, new)
        file = directory / "syncd.toml"
        lines = f"connections = {number}\nshare_mailboxes = {str(share).lower()}\n"
        file.write_text(file.read_text().replace("allow_insecure", f"{lines}allow_insecure"))
        self.said: list[str] = []

    def go(self, job: str = "move") -> RunReport:
        self.said.clear()
        listen = lambda event: self.said.append(str(event))  # noqa: E731
        [report] = RunsByHand(self.loaded(), [job], RunOptions(), listen).execute()
        return report

    def fewer(self) -> list[str]:
        return [line for line in self.said if line.startswith("Noted") and "fewer than 3 connections" in line]


def between(directory: Path, peers: Peers, *, share: bool = False) -> Several:
    old, new = ((peer.host, peer.port, USERNAME) for peer in peers)
    return Several(directory, old, new, share=share)


def held(server: FakeImap) -> dict[bytes, list[bytes]]:
    return {name: sorted(one.octets for one in box.mail) for name, box in server.boxes.items()}


def together(server: FakeImap, verb: str, number: int) -> None:
    """Answer the first `number` commands of this kind when all of them have come."""
    barrier, first = threading.Barrier(number), iter(range(number))

    def wait(_: list[Word]) -> bytes | None:
        if next(first, None) is not None:
            barrier.wait(WAIT_S)
        return None

    server.on[verb] = wait


def test_mailboxes_are_read_and_filled_side_by_side(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    together(old, "UID FETCH", 3)
    together(new, "APPEND", 3)
    bench = between(tmp_path, peers)
    report = bench.go()
    assert (report.exit_code, report.errors, report.delivered) == (ExitCode.DONE, [], {"new": 48})
    assert (old.connections, new.connections) == (3, 3)
    assert held(new) == held(old)
    assert report.listed == 48
    assert bench.go().delivered == {}
    assert (old.connections, new.connections) == (4, 3), "one connection is enough to see that nothing is new"


@pytest.mark.parametrize("form", ["packs", "maildir"])
def test_an_archive_fills_mailboxes_side_by_side(tmp_path: Path, peers: Peers, form: str) -> None:
    old, new = peers
    bench = between(tmp_path, peers)
    file = tmp_path / "syncd.toml"
    file.write_text(file.read_text().replace('{ path = "home" }', f'{{ path = "home", format = "{form}" }}'))
    assert bench.go("keep").exit_code is ExitCode.DONE
    together(new, "APPEND", 3)
    report = bench.go("back")
    assert (report.exit_code, report.errors, report.delivered) == (ExitCode.DONE, [], {"new": 48})
    assert held(new) == held(old)


@pytest.mark.parametrize("which", [0, 1], ids=["source", "destination"])
@pytest.mark.parametrize(
    "says", [b"<tag> NO [LIMIT] too many connections\r\n", b"<tag> NO [INUSE] busy\r\n", b"* BYE too many\r\n"]
)
def test_a_server_may_take_fewer_connections(tmp_path: Path, peers: Peers, which: int, says: bytes) -> None:
    server, refused = peers[which], threading.Event()

    def sign_in(_: list[Word]) -> bytes | None:
        if server.connections == 1:
            return None
        refused.set()
        return says

    def wait(_: list[Word]) -> bytes | None:
        assert refused.wait(WAIT_S), "no other connection was tried"
        return None

    server.on["AUTHENTICATE"] = server.on["LOGIN"] = sign_in
    server.on["UID FETCH" if which == 0 else "APPEND"] = wait
    bench = between(tmp_path, peers)
    report = bench.go()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert held(peers[1]) == held(peers[0])
    assert len(bench.fewer()) == 1


def test_replies_that_are_lost_double_nothing(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    new.loses_reply_to = {"APPEND"}
    bench = between(tmp_path, peers)
    bench.go()
    new.loses_reply_to = set()
    assert bench.go().exit_code is ExitCode.DONE
    assert held(new) == held(old)


def test_a_session_that_is_lost_leaves_its_mailbox_to_others(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    bye = iter([b"* BYE [UNAVAILABLE] enough\r\n"] * 2)
    old.on["UID FETCH"] = lambda _: next(bye, None) if old.connections > 1 else None
    bench = between(tmp_path, peers)
    reports = [bench.go(), bench.go()]
    assert reports[-1].exit_code is ExitCode.DONE
    assert held(new) == held(old)


def test_a_full_account_is_told_once(tmp_path: Path, peers: Peers) -> None:
    _, new = peers
    together(new, "APPEND", 3)
    new.takes = lambda _: b"[OVERQUOTA] full"
    report = between(tmp_path, peers).go()
    assert report.exit_code is ExitCode.TEMPORARY
    assert len([line for line in report.errors if "the account is full" in line]) == 1
    assert not report.uncertain


def test_the_failure_is_told_that_ended_the_run(tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that the others had to stop because of it."""
    together(peers[1], "APPEND", 3)
    commit = Recorder.commit

    def fails(*given: Any, **options: Any) -> None:
        if given[4].delivered and not threading.current_thread().name.startswith("writer "):
            raise LedgerError("the disk is full")
        commit(*given, **options)

    monkeypatch.setattr(Recorder, "commit", fails)
    report = between(tmp_path, peers).go()
    assert (report.exit_code, report.errors) == (ExitCode.TEMPORARY, ["the disk is full"])


def test_a_days_octets_end_a_run_in_order(tmp_path: Path, peers: Peers) -> None:
    _, new = peers
    together(new, "APPEND", 3)
    bench = between(tmp_path, peers)
    file = tmp_path / "syncd.toml"
    old_part, name, new_part = file.read_text().partition("[accounts.new]\n")
    file.write_text(f"{old_part}{name}octets_per_day = {{ up = {30 * len(mail(1))} }}\n{new_part}")
    report = bench.run(slice=Slice.lasting(600))
    assert (report.exit_code, report.errors, report.more) == (ExitCode.DONE, [], True)
    assert report.not_before is not None
    filled, appends = held(new), new.verbs().count("APPEND")
    report = bench.run(slice=Slice.lasting(600))
    assert (report.exit_code, report.errors, report.more) == (ExitCode.DONE, [], True)
    assert (held(new), new.verbs().count("APPEND")) == (filled, appends), "it is suspended"


@pytest.mark.servers
def test_dovecot_takes_two_connections_and_is_told_of_four(tmp_path: Path) -> None:
    with dovecot(FLAVOURS["limit 2"]) as server:
        old, new = server.user("old"), server.user("new")
        fill(old, {name: [Letter(mail(number), ("\\Seen",)) for number in range(30)] for name in BOXES})
        bench = Several(tmp_path, (old.host, old.port, old.username), (new.host, new.port, new.username), 4)
        report = bench.go()
        assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
        assert contents(new) == contents(old)
        assert bench.go().delivered == {}


def test_an_account_is_filled_by_one_process_at_a_time(tmp_path: Path, peers: Peers) -> None:
    bench = between(tmp_path, peers)
    with open_ledger(bench.loaded()) as database:
        assert bench.go().exit_code is ExitCode.DONE
        with database.read() as connection:
            [key] = connection.execute(select(accounts.c.id).where(accounts.c.name == "new")).scalars()
        with LeaseSet.acquire(database, [mailboxes_resource(key)], "a test"):
            assert bench.go().exit_code is ExitCode.DONE, "nothing new needs no lease"
            peers[0].box("INBOX").add(mail(99))
            report = bench.go()
            assert report.exit_code is ExitCode.HELD
            assert mail(99) not in held(peers[1])[b"INBOX"]
        assert bench.go().exit_code is ExitCode.DONE
        assert mail(99) in held(peers[1])[b"INBOX"]
