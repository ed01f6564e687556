"""Whole runs against a real Dovecot, in this process: what a job does with mail, and what it never does."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from syncd.db.catalog import Catalog
from syncd.db.models import messages
from syncd.db.rows import Freeze
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.engine.events import Event, Noted, PhaseBegan, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import DiskFull
from syncd.services.archive import check, open_view
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger, read_only
from syncd.settings.load import Loaded, load
from syncd.settings.schema import ArchiveFormat
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import presented, servable
from tests.support import mail

pytestmark = pytest.mark.servers


class Bench:
    """A configuration for one user of the private server, and runs of it."""

    def __init__(self, directory: Path, server: Dovecot, user: str) -> None:
        self.directory = directory
        self.server = server
        self.user = user
        self.expected: Counter[bytes] = Counter()
        self.events: list[Event] = []
        self.configure('destinations = ["home"]', 'home = { path = "home" }')

    def configure(self, job: str, *archives: str, extra: str = "", state: str = "state") -> None:
        lines = "\n".join(archives)
        (self.directory / "syncd.toml").write_text(
            f'state_directory = "{state}"\n{extra}\n[archives]\n{lines}\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "{self.server.host}"\nport = {self.server.pop3_port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{self.user}"\npassword = "env:PASSWORD"\n'
            f'[jobs.backup]\nsource = "road"\n{job}\n'
        )

    def loaded(self) -> Loaded:
        return load(self.directory / "syncd.toml", environment={"PASSWORD": "secret"})

    def deliver(self, messages: Iterable[bytes]) -> None:
        kept = list(messages)
        self.server.deliver(self.user, kept)
        self.expected.update(hashlib.sha256(presented(m)).digest() for m in kept)

    def run(self, **options: Any) -> RunReport:
        self.events.clear()
        [report] = RunsByHand(self.loaded(), [], RunOptions(**options), self.events.append).execute()
        return report

    def held(self, name: str = "home") -> Counter[bytes]:
        return archived(self.loaded(), name)

    def frozen(self) -> list[Freeze]:
        with open_ledger(self.loaded()) as database:
            account = Catalog(database).find_account("road")
            assert account is not None
            return [mailbox.why for mailbox in read_only(database).mailboxes.frozen(account.id)]

    def retrieved(self, sessions: int) -> list[int]:
        return [session.retrieved for session in self.server.sessions(self.user, at_least=sessions)]


def archived(loaded: Loaded, name: str) -> Counter[bytes]:
    """SHA-256 of the octets that an archive gives back, once for each place of a message.

    A Maildir does not know the identities of its messages: the ledger's receipts say what to ask it for.
    """
    view = open_view(loaded, name)
    try:
        assert list(check(loaded, view, lambda *_: None)) == []
        if loaded.settings.archives[name].format is ArchiveFormat.MAILDIR:
            with open_ledger(loaded) as database, database.read() as connection:
                known = Counter(connection.execute(select(messages.c.sha256)).scalars())
            assert known.total() == sum(1 for _ in view.entries())
            return known
        found: Counter[bytes] = Counter()
        for stored in view.stored(loaded.settings.state_directory, pytest.fail):
            found[hashlib.sha256(b"".join(stored.body.chunks())).digest()] += 1
            stored.body.close()
        return found
    finally:
        view.close()


@pytest.fixture
def bench(tmp_path: Path, dovecot: Dovecot, user: str) -> Bench:
    return Bench(tmp_path, dovecot, user)


def some(n: int, seed: int = 1) -> list[bytes]:
    return list(mail.small(n, seed))


def odd() -> list[bytes]:
    return [octets for octets in mail.nasty().values() if servable(octets)]


@pytest.mark.parametrize("form", ["packs", "maildir"])
def test_everything_arrives_once_and_byte_for_byte_and_a_second_run_fetches_nothing(bench: Bench, form: str):
    bench.configure('destinations = ["home"]', f'home = {{ path = "home", format = "{form}" }}')
    bench.deliver(some(30) + odd())
    first = bench.run()
    assert first.exit_code is ExitCode.DONE, first.errors
    assert first.fetched == first.listed == bench.expected.total()
    assert bench.held() == bench.expected
    second = bench.run()
    assert (second.exit_code, second.unchanged, second.fetched) == (ExitCode.DONE, True, 0)
    bench.deliver(some(10, seed=2))
    assert bench.run().fetched == 10
    assert bench.held() == bench.expected
    assert bench.retrieved(3)[-3:] == [first.listed, 0, 10]


def test_two_archives_are_filled_by_one_fetch(bench: Bench):
    bench.configure('destinations = ["home", "mails"]', 'home = { path = "home" }', MAILS)
    bench.deliver(some(20))
    report = bench.run()
    assert report.delivered == {"home": 20, "mails": 20}
    assert bench.held("home") == bench.held("mails") == bench.expected
    assert bench.retrieved(1)[-1] == 20


MAILS = 'mails = { path = "mails", format = "maildir" }'


def test_a_destination_that_fails_is_left_out_and_served_from_the_archive_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    bench.configure('destinations = ["home", "mails"]', 'home = { path = "home" }', MAILS)
    bench.deliver(some(20))

    def full(*_: object) -> None:
        raise DiskFull("no space left for the test")

    with monkeypatch.context() as patch:
        patch.setattr(MaildirArchive, "deliver", full)
        report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert report.delivered == {"home": 20}
    assert any("mails" in event.text for event in bench.events if isinstance(event, Noted))
    again = bench.run()
    assert again.exit_code is ExitCode.DONE, again.errors
    assert (again.backfilled, again.fetched) == (20, 0)
    assert bench.held("mails") == bench.expected
    assert bench.retrieved(2)[-2:] == [20, 0]


def test_a_destination_that_is_new_to_a_job_is_served_from_the_archive_at_once(bench: Bench):
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["home", "mails"]', 'home = { path = "home" }', MAILS)
    bench.deliver(some(5, seed=2))
    report = bench.run()
    assert (report.backfilled, report.fetched, report.delivered) == (20, 5, {"home": 5, "mails": 25})
    assert bench.held("mails") == bench.expected


def test_nothing_is_read_for_a_destination_that_is_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise DiskFull("no space left for the test")

    bench.configure('destinations = ["home", "mails"]', 'home = { path = "home" }', MAILS)
    bench.deliver(some(3))
    monkeypatch.setattr(MaildirArchive, "deliver", full)
    bench.run()
    monkeypatch.setattr(MaildirArchive, "open", full)
    monkeypatch.setattr(PacksArchive, "read", lambda *_: pytest.fail("read for nobody"))
    assert bench.run().exit_code is ExitCode.TEMPORARY


def test_the_only_destination_failing_ends_the_run_without_quit_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    bench.deliver(some(20))

    def full(*_: object) -> None:
        raise DiskFull("no space left for the test")

    with monkeypatch.context() as patch:
        patch.setattr(PacksArchive, "deliver", full)
        report = bench.run()
    assert (report.exit_code, report.errors[0]) == (ExitCode.TEMPORARY, "no space left for the test")
    assert bench.run().delivered == {"home": 20}
    assert bench.held() == bench.expected


def test_a_dry_run_changes_nothing(bench: Bench):
    bench.deliver(some(20))
    report = bench.run(dry_run=True)
    assert (report.exit_code, report.listed, report.to_fetch, report.fetched) == (ExitCode.DONE, 20, 20, 0)
    assert bench.run().new == 20


def test_a_message_over_the_limit_waits_for_a_person_and_comes_when_the_limit_rises(bench: Bench):
    job, home = 'destinations = ["home"]', 'home = { path = "home" }'
    bench.configure(job, home, extra="[limits]\nmessage_octets = 3000")
    bench.deliver([*some(3), b"Subject: large\r\n\r\n" + b"x" * 60 * 100 + b"\r\n"])
    for _ in range(2):
        report = bench.run()
        assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 1)
    assert "fetching" not in [event.phase for event in bench.events if isinstance(event, PhaseBegan)]
    assert bench.retrieved(1)[0] == 3
    bench.configure(job, home)
    report = bench.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 1)
    assert bench.held() == bench.expected


def test_a_new_laptop_learns_from_the_archive_and_fetches_only_what_is_new(bench: Bench):
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["home"]', 'home = { path = "home" }', state="another")
    bench.deliver(some(5, seed=2))
    report = bench.run()
    assert (report.exit_code, report.fetched, report.new) == (ExitCode.DONE, 5, 5)
    assert bench.held() == bench.expected


def test_mail_is_removed_only_after_a_confirmation_and_only_what_was_delivered(bench: Bench):
    move = 'destinations = ["home"]\nleave_on_server = false'
    home = 'home = { path = "home" }'
    bench.configure(move, home)
    bench.deliver(some(20))
    report = bench.run()
    assert (report.exit_code, report.to_remove, report.removed) == (ExitCode.STOPPED, 20, 0)
    assert "confirm_removal = true" in report.errors[0]
    bench.configure(move + "\nconfirm_removal = true", home)
    bench.deliver(some(5, seed=2))
    report = bench.run()
    assert (report.exit_code, report.fetched, report.removed) == (ExitCode.DONE, 5, 25), report.errors
    assert bench.held() == bench.expected
    assert bench.run().listed == 0


def test_mail_stays_on_the_server_for_as_long_as_the_job_says(bench: Bench):
    bench.configure(
        'destinations = ["home"]\nleave_on_server = "30 days"\nconfirm_removal = true', 'home = { path = "home" }'
    )
    bench.deliver(some(3))
    assert bench.run().removed == 0
    assert bench.run().listed == 3


def test_nothing_is_removed_for_one_job_that_another_still_waits_for(bench: Bench):
    bench.configure(
        'destinations = ["home"]\nleave_on_server = false\nconfirm_removal = true\n'
        '[jobs.second]\nsource = "road"\ndestinations = ["mails"]',
        'home = { path = "home" }',
        MAILS,
    )
    bench.deliver(some(10))

    def run(job: str) -> RunReport:
        [report] = RunsByHand(bench.loaded(), [job], RunOptions(), bench.events.append).execute()
        assert report.exit_code is ExitCode.DONE, report.errors
        return report

    assert run("backup").removed == 0
    assert run("second").fetched == 10
    assert run("backup").removed == 10


def test_an_emptied_maildrop_freezes_removals_until_a_person_says_so(bench: Bench):
    move = 'destinations = ["home"]\nleave_on_server = "1 days"\nconfirm_removal = true'
    bench.configure(move, 'home = { path = "home" }')
    bench.deliver(some(10))
    assert bench.run().exit_code is ExitCode.DONE
    for file in (bench.server.maildir(bench.user) / "cur").iterdir():
        file.unlink()
    for file in (bench.server.maildir(bench.user) / "new").iterdir():
        file.unlink()
    report = bench.run()
    assert report.listed == 0
    assert any("frozen" in event.text for event in bench.events if isinstance(event, Noted))
    assert bench.frozen() == [Freeze.EMPTY]
    bench.run(unfreeze="*")
    assert bench.frozen() == []


def test_an_archive_that_vanished_stops_the_job_and_refill_fills_it_again(bench: Bench):
    bench.deliver(some(10))
    bench.run()
    (bench.directory / "home").rename(bench.directory / "gone")
    report = bench.run()
    assert report.exit_code is ExitCode.STOPPED
    assert "--refill" in report.errors[0]
    report = bench.run(refill=True)
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 10), report.errors
    assert bench.held() == bench.expected


def test_a_second_run_of_the_job_is_told_who_holds_it(bench: Bench):
    from syncd.db.leases import LeaseSet, job_resource

    bench.deliver(some(2))
    with open_ledger(bench.loaded()) as database, LeaseSet.acquire(database, [job_resource(1)], "a test"):
        report = bench.run()
    assert report.exit_code is ExitCode.HELD
    assert "is in use by process" in report.errors[0]


def test_a_run_cancelled_from_outside_stops_and_the_next_goes_on(bench: Bench):
    bench.deliver(some(50))
    runner = RunsByHand(bench.loaded(), [], RunOptions(), lambda _: runner.cancel())
    [report] = runner.execute()
    assert report.exit_code is ExitCode.INTERRUPTED
    assert bench.run().exit_code is ExitCode.DONE
    assert bench.held() == bench.expected


def test_five_accounts_into_one_archive_side_by_side(tmp_path: Path, dovecot: Dovecot):
    users = [f"five{n}-{tmp_path.name}" for n in range(5)]
    expected: Counter[bytes] = Counter()
    lines = ['state_directory = "state"', "[archives]", 'home = { path = "home" }']
    for n, user in enumerate(users):
        dovecot.add_user(user)
        mails = some(12, seed=n) + some(3, seed=99)  # three are in every account
        dovecot.deliver(user, mails)
        expected.update(hashlib.sha256(presented(m)).digest() for m in mails)
        lines += [f"[accounts.a{n}]", 'protocol = "pop3"', f'host = "{dovecot.host}"', f"port = {dovecot.pop3_port}"]
        lines += ['security = "none"', "allow_insecure = true", f'username = "{user}"', 'password = "env:PASSWORD"']
        lines += [f"[jobs.j{n}]", f'source = "a{n}"', 'destinations = ["home"]']
    (tmp_path / "syncd.toml").write_text("\n".join(lines))
    loaded = load(tmp_path / "syncd.toml", environment={"PASSWORD": "secret"})
    reports = RunsByHand(loaded, [], RunOptions(parallel=5), lambda _: None).execute()
    assert [report.exit_code for report in reports] == [ExitCode.DONE] * 5
    assert archived(loaded, "home") == expected


@pytest.mark.parametrize("form", ["packs", "maildir"])
def test_real_mail_comes_back_byte_for_byte(bench: Bench, form: str):
    real = [octets for octets in mail.corpus() if servable(octets)]
    if not real:
        real = some(50)  # the corpus is not part of the project
    bench.configure('destinations = ["home"]', f'home = {{ path = "home", format = "{form}" }}')
    bench.deliver(real)
    report = bench.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, len(real)), report.errors
    assert bench.held() == bench.expected
