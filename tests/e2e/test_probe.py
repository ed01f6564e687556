"""A reply that was lost: the account of the recipient tells whether the message has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from syncd import clock
from syncd.engine.events import Event, Noted, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import load
from tests.fakes.imap import EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_words import Word, flat
from tests.fakes.pop3 import FakePop3
from tests.fakes.smtp import CAPABILITIES, FakeSmtp

MAIL = [b"Subject: %d\r\n\r\ntext\r\n" % number for number in range(1, 4)]
TAKEN = ". 1"  # it is taken, and no reply follows
NOT_TAKEN = "."


class Post:
    """Mail that goes on by a relay, and the mailbox at its end."""

    def __init__(self, directory: Path, source: FakePop3, relay: FakeSmtp, mailbox: FakeImap) -> None:
        self.directory = directory
        self.relay = relay
        self.mailbox = mailbox
        mailbox.on["EXAMINE"] = lambda _: self._arrive()
        self.notes: list[str] = []
        servers: list[tuple[str, str, FakePop3 | FakeSmtp | FakeImap]] = [
            ("road", "pop3", source), ("new", "smtp", relay), ("mailbox", "imap", mailbox),
        ]  # fmt: skip
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "{protocol}"\nhost = "{server.host}"\nport = {server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            for name, protocol, server in servers
        )
        (directory / "syncd.toml").write_text(
            f'state_directory = "state"\n{accounts}[jobs.on]\nsource = "road"\n'
            'destinations = [{ to = "new", recipient = "me@example.org", uncertain = "probe", probe = "mailbox" }]\n'
        )

    def run(self) -> RunReport:
        self.notes.clear()
        loaded = load(self.directory / "syncd.toml", environment={"PASSWORD": PASSWORD})
        [report] = RunsByHand(loaded, [], RunOptions(), self._listen).execute()
        return report

    def run_to_the_end(self) -> int:
        """Run until nothing waits; how many runs that took."""
        for number in range(1, 9):
            if self.run().exit_code is ExitCode.DONE:
                return number
        raise AssertionError(self.notes)

    def _listen(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.text)

    def _arrive(self) -> None:
        box = self.mailbox.box("Filtered")
        there = [mail.octets for mail in box.mail]
        for arrival in self.relay.arrivals:
            octets = b"Received: by the next server\r\n" + arrival.octets
            if octets not in there:
                box.add(octets)

    @property
    def arrived(self) -> list[bytes]:
        return sorted(line for one in self.relay.arrivals for line in one.octets.split(b"\r\n") if b"Subject" in line)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with FakePop3(MAIL) as source, FakeSmtp() as relay, FakeImap() as mailbox:
        mailbox.inside = EXTENDED
        mailbox.box("INBOX").add(*MAIL)  # the same mail without our id, from another way
        mailbox.box("Filtered")
        relay.capabilities = (*CAPABILITIES, "AUTH PLAIN")
        yield Post(tmp_path, source, relay, mailbox)


SUBJECTS = [b"Subject: 1", b"Subject: 2", b"Subject: 3"]


def test_s09_a_message_that_arrived_is_delivered_and_not_sent_again(post: Post) -> None:
    post.relay.hangs_up_on = {TAKEN}
    assert post.run_to_the_end() <= len(MAIL) + 1
    assert post.arrived == SUBJECTS
    assert post.run().delivered == {}


def test_s09_a_folder_that_its_owner_may_not_read_ends_no_search(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared folder is listed and not opened; nothing that was delivered to him is in it."""
    monkeypatch.setattr("syncd.engine.uncertain.PATIENCE", timedelta(0))
    post.mailbox.box("Aaa shared")

    def refuse(words: list[Word]) -> bytes | None:
        post._arrive()
        return b"<tag> NO [NOPERM] not yours\r\n" if words == [b"Aaa shared"] else None

    post.mailbox.on["EXAMINE"] = refuse
    post.relay.hangs_up_on = {TAKEN}
    assert post.run_to_the_end() <= len(MAIL) + 1
    assert post.arrived == SUBJECTS


def test_s09_a_message_that_is_not_there_is_sent_again_when_it_had_time(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.relay.hangs_up_on = {NOT_TAKEN}
    report = post.run()
    assert report.uncertain
    assert post.arrived == []
    assert any("may be on their way still" in note for note in post.notes)
    post.relay.hangs_up_on = set()
    assert post.run().exit_code is ExitCode.WAITING
    assert post.arrived == []
    monkeypatch.setattr("syncd.engine.uncertain.PATIENCE", timedelta(0))
    post.run_to_the_end()
    assert post.arrived == SUBJECTS


@pytest.mark.parametrize("command", ["LOGIN", "EXAMINE Filtered", "UID SEARCH"])
def test_s09_an_account_that_cannot_be_searched_leaves_it_uncertain(
    post: Post, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.engine.uncertain.PATIENCE", timedelta(0))
    post.relay.hangs_up_on = {TAKEN}
    post.mailbox.capabilities = ("IMAP4rev1",) if command == "LOGIN" else post.mailbox.capabilities
    if command == "EXAMINE Filtered":
        post.mailbox.on["EXAMINE"] = lambda words: b"<tag> NO not now\r\n" if words == [b"Filtered"] else None
    post.mailbox.replies[command] = b"<tag> NO not now\r\n"
    report = post.run()
    assert report.uncertain
    assert any("could not be looked for" in note for note in post.notes)
    post.relay.hangs_up_on = set()
    post.mailbox.replies.clear()
    post.mailbox.on["EXAMINE"] = lambda _: post._arrive()
    post.run_to_the_end()
    assert post.arrived == SUBJECTS


def test_deliveries_of_a_former_source_stay_uncertain(post: Post) -> None:
    post.relay.hangs_up_on = {NOT_TAKEN}
    assert post.run().uncertain
    post.relay.hangs_up_on = set()
    file = post.directory / "syncd.toml"
    with FakePop3([b"Subject: 4\r\n\r\ntext\r\n"]) as other:
        known = file.read_text()
        accounts, job = known.split("[jobs.on]")
        moved = accounts[accounts.index("[") : accounts.index("[accounts.new]")].replace(
            "accounts.road", "accounts.other"
        )
        port = next(line for line in moved.splitlines() if line.startswith("port"))
        moved = moved.replace(port, f"port = {other.port}")
        file.write_text(f"{accounts}{moved}[jobs.on]" + job.replace('"road"', '"other"'))
        post.run_to_the_end()
        assert post.arrived == [b"Subject: 4"]
        file.write_text(known)
    assert post.run().exit_code is ExitCode.WAITING
    assert post.arrived == [b"Subject: 4"]


def test_a_message_is_found_that_was_sent_while_the_clock_was_ahead(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock was right: nothing came there since that date."""
    post.relay.hangs_up_on = {TAKEN}
    now = clock.now
    ahead = str((now() + timedelta(days=498)).year).encode()
    post.mailbox.on["UID SEARCH"] = lambda words: (
        b"* SEARCH\r\n<tag> OK done\r\n" if ahead in b" ".join(flat(words)) else None
    )
    with monkeypatch.context() as wrong:
        wrong.setattr(clock, "now", lambda: now() + timedelta(days=500))
        assert post.run().uncertain
    post.relay.hangs_up_on = set()
    post.run_to_the_end()
    assert post.arrived == SUBJECTS
