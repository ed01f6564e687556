"""Limits of IMAP accounts: octets of a day, quotas and sizes; scripted peers, then Dovecot."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.context import Slice
from syncd.engine.events import Basis
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import PASSWORD, FakeImap
from tests.fakes.imap_words import Word, flat
from tests.servers import cyrus
from tests.servers.imap import QUOTA, Letter, Login, dovecot, fill, shown, signed_in

Peers = tuple[FakeImap, FakeImap]
SIZE = len(mail(1))


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        yield old, new
        assert not new.violations


def limit(bench: Bench, account: str, octets: str) -> None:
    file = bench.directory / "syncd.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("octets_per_day")]
    lines.insert(lines.index(f"[accounts.{account}]") + 1, f"octets_per_day = {octets}" if octets else "")
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("account", "direction"), [("old", "down"), ("new", "up")])
def test_a_day_has_so_many_octets(tmp_path: Path, peers: Peers, account: str, direction: str) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(5)))
    old.box("Sent").add(*map(mail, range(5)))
    bench = between(tmp_path, peers)
    limit(bench, account, f"{{ {direction} = {3 * SIZE} }}")
    report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert any(f"octets_per_day.{direction}" in line for line in report.errors)
    assert octets(new.box("INBOX").mail) == [mail(number) for number in range(3)]
    assert not report.uncertain
    before = len(new.box("INBOX").mail), new.commands.count("APPEND")
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert (len(new.box("INBOX").mail), new.commands.count("APPEND")) == before
    limit(bench, account, f"{{ {direction} = {7 * SIZE} }}")
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert len(new.box("INBOX").mail) + len(new.box("Sent").mail) == 7
    limit(bench, account, "")
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent").mail) == octets(old.box("Sent").mail)


@pytest.mark.parametrize(("account", "direction"), [("old", "down"), ("new", "up")])
def test_a_worker_goes_on_when_the_day_allows(tmp_path: Path, peers: Peers, account: str, direction: str) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(5)))
    bench = between(tmp_path, peers)
    limit(bench, account, f"{{ {direction} = {3 * SIZE} }}")
    report = bench.run(slice=Slice.lasting(600))
    assert (report.exit_code, report.more, report.errors) == (ExitCode.DONE, True, [])
    assert report.not_before is not None
    assert len(new.box("INBOX").mail) == 3


@pytest.mark.parametrize(("account", "direction"), [("old", "down"), ("new", "up")])
def test_a_dry_run_tells_the_days_that_a_limit_takes(
    tmp_path: Path,
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    account: str,
    direction: str,
) -> None:
    """It said some seconds, whatever the limit."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    peers[0].box("INBOX").add(*map(mail, range(10)))
    bench = between(tmp_path, peers)
    limit(bench, account, f"{{ {direction} = {3 * SIZE} }}")
    report = bench.run(dry_run=True)
    assert (report.seconds_ahead, report.seconds_from) == (3 * 86_400, Basis.LIMIT)
    assert {plan.seconds for plan in report.mapping if plan.to_fetch} == {3 * 86_400}
    assert call(["--config", str(bench.directory / "syncd.toml"), "check", "move"]) == ExitCode.DONE
    assert "(about 3 days, at least that long because of octets_per_day)" in capsys.readouterr().out


# --- quotas, sizes, throttles ----------------------------------------------------------------------------------------


def sized(number: int, size: int) -> bytes:
    return (b"Subject: %d\r\n\r\n" % number).ljust(size - 2, b"x") + b"\r\n"


def has_quota(server: FakeImap, kib: int) -> None:
    """The account takes so many KiB in all, which it tells; a message over that is refused."""
    server.inside = (*MULTI, "QUOTA")

    def used() -> int:
        return sum(len(one.octets) for box in server.boxes.values() for one in box.mail)

    def told(arguments: list[Word]) -> bytes:
        name = bytes(flat(arguments[0])[0])
        figures = b"(STORAGE %d %d MESSAGE 3 1000)" % (-(-used() // 1024), kib)
        return b'* QUOTAROOT "%b" ""\r\n* QUOTA "" %b\r\n<tag> OK\r\n' % (name, figures)

    def takes(group: list[bytes]) -> bytes | None:
        return b"[OVERQUOTA] full" if used() + sum(map(len, group)) > kib * 1024 else None

    server.on["GETQUOTAROOT"] = told
    server.takes = takes


def make_due(bench: Bench) -> None:
    """Have what waits tried by the next run."""
    with closing(sqlite3.connect(bench.directory / "state/ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE problems SET retry_at = 1")


def retry(bench: Bench) -> None:
    """Have all that waits tried, as somebody does who has made room."""
    assert call(["retry", "move", "--config", str(bench.directory / "syncd.toml")]) == 0


def appends(server: FakeImap) -> int:
    return server.verbs().count("APPEND")


def test_i158_what_a_quota_leaves_no_room_for_is_not_tried(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(sized(0, 9_000), sized(1, 60_000), sized(2, 9_000))
    old.box("Sent").add(sized(3, 9_000))
    has_quota(new, 50)
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert len(new.box("INBOX").mail) + len(new.box("Sent").mail) == 3
    assert appends(new) == 2, "none was refused"
    [reason] = bench.reasons()
    assert "the mailbox's quota leaves" in reason
    has_quota(new, 200)
    make_due(bench)
    assert bench.run().exit_code is ExitCode.DONE
    assert len(new.box("INBOX").mail) == 3


def test_i158_an_account_that_is_full_by_its_quota_is_left_alone(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(*(sized(number, 9_000) for number in range(20)))
    has_quota(new, 20)
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert (len(new.box("INBOX").mail), appends(new)) == (2, 1)
    before = len(new.commands)
    report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert any("the account is full" in line for line in report.errors)
    assert len(new.commands) == before, "it is suspended"


def test_i158_without_a_quota_that_is_told_few_are_tried(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(*(sized(number, 9_000 - number) for number in range(60)))
    new.takes = lambda _: b"Over quota"
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert appends(new) <= 16
    assert all("Over quota" in reason or "not tried" in reason for reason in bench.reasons())


def test_a_server_that_refuses_all_mail_is_not_asked_about_senders(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(*(sized(number, 900) for number in range(40)))
    new.takes = lambda _: b"[INUSE] busy"
    report = between(tmp_path, peers).run()
    assert report.exit_code is ExitCode.TEMPORARY
    [line] = report.errors
    assert "accepted none (the server says: NO [INUSE] busy)" in line
    assert "Check whether this account may store mail there" in line


def test_i88_a_mailbox_may_take_smaller_messages_than_others(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(sized(0, 5_000), sized(1, 200))
    old.box("Sent").add(sized(2, 5_000))
    new.inside = (*MULTI, "APPENDLIMIT")
    new.box("INBOX").append_limit = 1_000
    new.box("Sent")
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    assert (len(new.box("INBOX").mail), len(new.box("Sent").mail)) == (1, 1)
    [reason] = bench.reasons()
    assert "the server takes 1,000" in reason


@pytest.mark.parametrize("said", [b"[THROTTLED] slow down", b"Request is throttled. Suggested Backoff Time: 299961 ms"])
def test_i09_i10_a_throttle_is_heard_once(tmp_path: Path, peers: Peers, said: bytes) -> None:
    old, new = peers
    old.box("INBOX").add(*(sized(number, 500) for number in range(60)))
    new.takes = lambda _: said
    bench = between(tmp_path, peers)
    report = bench.run(slice=Slice.lasting(600))
    assert (report.exit_code, report.more, report.uncertain) == (ExitCode.DONE, True, 0)
    assert report.not_before is not None
    assert appends(new) == 1
    assert not report.waiting_person


def test_i147_keywords_that_are_not_taken_are_told(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), mail(2), flags=[b"\\Seen", b"$Work"])
    old.box("INBOX").add(mail(3), flags=[b"$Work", b"$Home"])
    new.box("INBOX").permanent = [b"\\Seen", b"$Home"]
    bench = between(tmp_path, peers)
    said: list[str] = []
    [report] = RunsByHand(bench.loaded(), ["move"], RunOptions(), lambda event: said.append(str(event))).execute()
    assert report.exit_code is ExitCode.DONE
    assert [one.flags for one in new.box("INBOX").mail] == [[b"\\Seen"], [b"\\Seen"], [b"$Home"]]
    assert any("stayed behind, with so many messages: $Work (3)" in line for line in said)


@pytest.mark.servers
def test_dovecot_tells_its_quota_and_room_is_made(tmp_path: Path) -> None:
    with dovecot(QUOTA) as server:
        old, new = server.user("old"), server.user("new")
        fill(new, {"Old": [Letter(sized(9, 36_000))]})

        def make_room() -> None:
            with signed_in(new) as client:
                client.select("Old")
                client.store("1", "+FLAGS", "(\\Deleted)")
                client.expunge()

        is_filled_up(tmp_path, old, new, make_room, "Sent")


@pytest.mark.soak
@pytest.mark.servers
def test_the_quota_of_cyrus_is_raised(tmp_path: Path) -> None:
    if reason := cyrus.missing():
        pytest.skip(reason)
    with cyrus.Cyrus() as server:
        old, new = server.user("old"), server.user("new")
        with signed_in(new._replace(username=cyrus.ADMIN)) as chief:
            assert chief.setquota("user.new", "(STORAGE 30)")[0] == "OK"
            is_filled_up(tmp_path, old, new, lambda: chief.setquota("user.new", "(STORAGE 300)"), "INBOX.Sent")


def is_filled_up(directory: Path, old: Login, new: Login, make_room: Callable[[], object], sent: str) -> None:
    """Four of six messages fit; the others wait with the reason, and arrive when there is room. Nothing is doubled."""
    fill(old, {name: [Letter(sized(number, 7_000)) for number in range(3)] for name in ("INBOX", sent)})
    bench = Bench(directory, (old.host, old.port, old.username), (new.host, new.port, new.username))
    report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert report.delivered == {"new": 4}
    assert all("the mailbox's quota leaves" in reason for reason in bench.reasons()), bench.reasons()
    make_room()
    retry(bench)
    again = bench.run()
    assert again.delivered == {"new": 2}, (again, bench.reasons())
    assert bench.run().delivered == {}
    arrived = [name for name, letters in shown(new).items() for letter in letters if name in {"INBOX", sent}]
    assert Counter(arrived) == {"INBOX": 3, sent: 3}
