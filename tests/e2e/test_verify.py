"""`syncd verify`: what was copied is there, what is not is named. Scripted servers, archives, and Dovecot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from syncd.services.verify import examiner
from syncd.services.verify.formats import FORMATS, as_json
from syncd.services.verify.report import Report
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Entry, Status
from tests.e2e.test_imap_migration import MULTI, PATHS, Bench, between, mail
from tests.fakes.imap import BARE, PASSWORD, FakeImap
from tests.fakes.imap_words import flat
from tests.fakes.pop3 import FakePop3
from tests.fakes.smtp import FakeSmtp
from tests.servers.imap import FLAVOURS, Letter, dovecot, fill


class Verified:
    """A report that was read to its end."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.entries = list(report.entries())
        self.counts = report.totals(0).counts
        self.json = json.loads("".join(as_json(report, report.digest())))
        self.texts = {suffix: "".join(write(report, report.digest())) for suffix, write in FORMATS.items()}

    def only(self) -> Entry:
        [entry] = self.entries
        return entry


def verified(bench: Bench, job: str = "move", *, read: bool = False) -> Verified:
    with Verification(bench.loaded(), job, read=read) as verification:
        return Verified(verification.execute())


def renumber(server: FakeImap) -> None:
    """The server numbers all mailboxes from the start again."""
    for box in server.boxes.values():
        box.renew(box.validity + 1)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)


@pytest.fixture
def peers() -> Iterator[tuple[FakeImap, FakeImap]]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        new.box("INBOX").permanent = [b"\\*"]
        old.box("INBOX").add(*map(mail, range(1, 6)), flags=[b"\\Seen", b"$Work"])
        old.box("Sent/2019").add(*map(mail, range(11, 14)))
        old.box("Leer")
        yield old, new


@pytest.fixture
def bench(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> Bench:
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    return bench


def test_everything_is_equal(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    for read in (False, True):
        found = verified(bench, read=read)
        assert found.entries == []
        assert "## Messages that are not equal or not there\n\nnone\n" in found.texts[".md"]
        assert "<h2>Messages that are not equal or not there</h2>\n<p>none</p>\n" in found.texts[".html"]
        assert found.counts == {Status.EQUAL: 8}
        assert (found.report.messages, found.report.differences) == (8, 0)
        assert {place for mailbox in found.report.mailboxes for place in mailbox.tallies[0].places} == {
            "INBOX", "Leer", "Sent/2019",
        }  # fmt: skip
    changing = {"STORE", "APPEND", "SELECT", "CREATE", "EXPUNGE", "UID STORE"}
    before = peers[1].verbs().count("APPEND")
    verified(bench)
    assert peers[1].verbs().count("APPEND") == before
    assert not changing & set(peers[0].verbs())


def test_a_verification_writes_nothing_to_the_ledger(bench: Bench) -> None:
    ledger = bench.directory / "state" / "ledger.sqlite"
    verified(bench)
    before = ledger.read_bytes()
    verified(bench, read=True)
    assert ledger.read_bytes() == before
    left = {path.name for path in (bench.directory / "state").rglob("*") if path.is_file()}
    assert left <= {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "newest-run"}


def test_what_its_user_removed_moved_and_marked(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    box = peers[1].box("INBOX")
    box.expunge(3)
    for read in (False, True):
        entry = verified(bench, read=read).only()
        assert (entry.mailbox, entry.uid, entry.status) == (("INBOX",), "3", Status.REMOVED)
    assert call(["--config", str(bench.directory / "syncd.toml"), "verify", "move"]) == ExitCode.DIFFERENCES
    peers[1].box("Kept").add(mail(3), flags=[b"\\Seen"])
    entry = verified(bench).only()
    assert (entry.status, entry.place) == (Status.RELOCATED, "Kept")
    assert entry.reason.endswith("”; a message with its header and as many octets is in “Kept” now")
    box.mail[0].flags.remove(b"\\Seen")
    box.mail[1].date = b"18-Jul-1996 02:44:25 -0700"
    first, second, _ = verified(bench).entries
    assert (first.status, first.reason) == (Status.DIFFERENT, "flags: at the destination without \\Seen")
    assert second.reason == "date: 1996-07-18 09:44:25 UTC instead of 1996-07-17 09:44:25 UTC"
    box.add(b"Subject: from elsewhere\r\n\r\n")
    before = [replace(one, flags=list(one.flags)) for one in box.mail]
    assert bench.run().delivered == {}
    assert box.mail == before, "nothing that its user did is undone"
    found = verified(bench)
    assert len(found.entries) == 3, "mail from elsewhere is no difference"
    assert [(it.mailbox, it.messages) for it in found.report.others] == [("INBOX", 1)]


def test_a_message_that_came_back_to_its_mailbox_is_another_one(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    """It was said to have been in INBOX, and to be in INBOX now."""
    peers[1].box("INBOX").expunge(3)
    peers[1].box("INBOX").add(mail(3), flags=[b"\\Seen"])
    entry = verified(bench).only()
    assert (entry.status, entry.place) == (Status.RELOCATED, "INBOX")
    other = "another message with its header and as many octets is in the same mailbox now"
    assert entry.reason == f"it was delivered to “INBOX”; {other}"


def test_what_a_run_delivers_meanwhile_is_not_taken_for_lost(
    bench: Bench, peers: tuple[FakeImap, FakeImap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "clock", SimpleNamespace(now=lambda: datetime(2020, 1, 1, tzinfo=UTC)))
    peers[1].box("INBOX").expunge(3)  # as if it had come behind the listing of this mailbox
    entry = verified(bench).only()
    assert (entry.status, entry.reason) == (Status.WAITING, examiner.MEANWHILE)


def test_octets_that_were_changed(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    stored = peers[1].box("INBOX").mail
    stored[1].octets = stored[1].octets.replace(b"body", b"bodz")
    stored[2].listed = 7  # a server that lists wrong sizes, of a message that is as it was
    assert verified(bench).entries == []
    entry = verified(bench, read=True).only()
    assert entry.status is Status.DIFFERENT
    assert "other octets; the body differs from octet 3 on" in entry.reason
    stored[1].octets = mail(2) + b"-- \r\nan advertisement\r\n"
    entry = verified(bench).only()
    assert "altered by the destination: 74 octets instead of 51; 23 octets were added at the end" in entry.reason


def test_a_recorded_alteration_is_listed_and_no_difference(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(b"Subject: \xe4\r\n\r\nbody\r\n")
    new.alters = lambda octets: octets.replace(b"\xe4", b"X")
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    [noted] = [hint for hint in bench.receipts() if "altered" in hint]
    assert noted.endswith(" INBOX [altered by the destination: each 8-bit octet in the header became X]")
    for read in (False, True):
        found = verified(bench, read=read)
        entry = found.only()
        assert (entry.status, found.report.differences) == (Status.ALTERED, 0)
        assert "as recorded" in entry.reason
        assert "each 8-bit octet in the header became X" in entry.reason
    assert call(["--config", str(bench.directory / "syncd.toml"), "verify", "move", "-q"]) == ExitCode.DONE


def test_what_is_not_delivered_is_named_with_its_reason(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    new.takes = lambda group: b"Message contains NUL characters" if mail(2) in group else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    old.box("INBOX").add(mail(9))
    rejected, waiting = verified(bench).entries
    assert (rejected.uid, rejected.status) == ("2", Status.REJECTED)
    assert "NUL characters" in rejected.reason
    assert (waiting.uid, waiting.status) == ("6", Status.WAITING)


def test_an_uncertain_delivery(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    for name in ("INBOX", "Sent/2019"):
        old.box(name).mail.clear()
    old.box("INBOX").add(mail(1))
    new.hangs_up_on = {"APPEND"}
    new.on["EXAMINE"] = lambda _: new.box("INBOX").add(b"Subject: from elsewhere\r\n\r\n")
    bench = between(tmp_path, peers, uncertain='"hold"')
    assert bench.run().uncertain == 1
    new.on.clear()
    found = verified(bench)
    assert found.only().status in {Status.UNCERTAIN, Status.HELD}
    assert "other messages have come" in found.only().reason


def test_what_left_the_source_is_no_difference(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    peers[0].box("INBOX").expunge(2)
    del peers[0].boxes[b"Sent/2019"]
    for _ in range(2):
        found = verified(bench)
        assert found.counts == {Status.EQUAL: 4, Status.GONE: 4}
        assert found.report.differences == 0
        bench.run()  # the ledger learns of it


def test_a_server_that_tells_no_uids(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    _, new = peers
    new.inside = BARE
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert verified(bench).counts == {Status.EQUAL: 8}
    renumber(new)
    new.box("INBOX").expunge(3)
    new.box("INBOX").mail[0].flags = []
    counts = verified(bench, read=True).counts
    assert counts == {Status.EQUAL: 6, Status.REMOVED: 1, Status.DIFFERENT: 1}


def test_without_uids_and_dates_the_header_tells_even_where_sets_are_refused(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    _, new = peers
    new.inside = BARE
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    renumber(new)
    new.box("INBOX").mail.reverse()
    for number, one in enumerate(new.box("INBOX").mail, 1):
        one.uid, one.date = number, b"18-Jul-1996 02:44:25 -0700"
    new.on["UID FETCH"] = lambda words: (
        b"<tag> BAD Failed to parse message set\r\n"
        if b"BODY.PEEK[HEADER]" in words[1] and b":" in flat(words[0])[0]
        else None
    )
    found = verified(bench)
    assert found.counts == {Status.EQUAL: 3, Status.DIFFERENT: 5}
    assert {entry.reason for entry in found.entries} == {
        "date: 1996-07-18 09:44:25 UTC instead of 1996-07-17 09:44:25 UTC"
    }


def test_what_was_altered_beyond_its_header_is_known_by_its_text(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """GNU mailutils takes a first line `From …` off, and ends each header by an empty line; no UID, no date."""
    old, new = peers
    new.inside = BARE
    marked = [b"From me Mon Jan  1 00:00:00 2026\r\n" + mail(1), mail(2).replace(b"Subject", b"X-Subject")]
    old.box("Odd").add(*marked, b"Subject: no more than a header\r\n", mail(4))

    def altered(octets: bytes) -> bytes:
        if octets.startswith(b"From "):
            return octets.partition(b"\n")[2]
        return octets.replace(b"X-Subject", b"Subject") + (b"\r\n" if b"\r\n\r\n" not in octets else b"")

    new.alters = altered
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    renumber(new)
    for one in new.box("Odd").mail:
        one.date = b"18-Jul-1996 02:44:25 -0700"
    found = verified(bench)
    assert found.counts == {Status.EQUAL: 8, Status.DIFFERENT: 4}
    assert any("the header" in entry.reason for entry in found.entries)
    new.box("Odd").mail.pop(1)
    new.box("Odd").add(b"Subject: something else\r\n\r\nquite\r\n", date=b"19-Jul-1996 02:44:25 -0700")
    assert verified(bench).counts == {Status.EQUAL: 8, Status.DIFFERENT: 3, Status.REMOVED: 1}


def test_a_message_that_is_listed_and_not_given_is_known_by_its_octets(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """GNU mailutils may renumber the last message of a mailbox at any time."""
    old, new = peers
    new.inside = BARE
    old.box("Odd").add(b"From me Mon Jan  1 00:00:00 2026\r\n" + mail(1))
    new.alters = lambda octets: octets.partition(b"\n")[2] if octets.startswith(b"From ") else octets
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    renumber(new)
    new.box("Odd").mail[0].date = b"18-Jul-1996 02:44:25 -0700"
    new.box("Odd").mail[0].uid = new.box("Odd").next = 7
    new.leaves_out = {7}
    entry = verified(bench).only()
    assert (entry.status, entry.mailbox) == (Status.DIFFERENT, ("Odd",))
    assert "does not give its text" in entry.reason


def test_a_destination_that_was_renumbered(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    box = peers[1].box("INBOX")
    box.expunge(2)
    box.renew(77)
    entry = verified(bench).only()
    assert (entry.uid, entry.status) == ("2", Status.REMOVED)
    assert "new UIDVALIDITY" in entry.reason


def test_a_mailbox_is_gone(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    del peers[1].boxes[b"Sent/2019"]
    del peers[1].boxes[b"Leer"]
    found = verified(bench)
    assert found.counts[Status.REMOVED] == 4
    assert {entry.uid for entry in found.entries} == {"", "1", "2", "3"}


def test_a_mailbox_that_cannot_be_opened_tells_nothing_of_its_messages(
    bench: Bench, peers: tuple[FakeImap, FakeImap]
) -> None:
    peers[1].on["EXAMINE"] = lambda words: b"<tag> NO [NOPERM] go away\r\n" if words[0] == b"INBOX" else None
    counts = verified(bench).counts
    assert counts == {Status.EQUAL: 3, Status.UNREADABLE: 5}
    peers[1].on.clear()
    peers[0].on["EXAMINE"] = lambda words: b"<tag> NO [NOPERM] go away\r\n" if words[0] == b"INBOX" else None
    counts = verified(bench).counts
    assert counts == {Status.EQUAL: 3, Status.UNREADABLE: 1}


def test_mailboxes_that_the_job_leaves_out_are_named(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    bench = between(tmp_path, peers)
    with (tmp_path / "syncd.toml").open("a") as file:
        file.write('[jobs.some]\nsource = "old"\ndestinations = ["new"]\nmailboxes = { exclude = ["Sent/**"] }\n')
    bench.run("some")
    found = verified(bench, "some")
    assert [mailbox.path for mailbox in found.report.mailboxes if not mailbox.chosen] == [("Sent", "2019")]
    assert found.report.messages == 5
    (row,) = [line for line in found.texts[".md"].splitlines() if "left out by the job" in line]
    assert row == "| Sent/2019 | 3 | - | - | left out by the job | - | - | - | - | - |"


def test_a_mailbox_that_is_refused_waits_for_a_rule_and_not_for_the_next_run(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    peers[0].box("Gesendet").add(mail(21), mail(22))
    bench = between(tmp_path, peers)
    with (tmp_path / "syncd.toml").open("a") as file:
        file.write('[jobs.some]\nsource = "old"\ndestinations = [{ to = "new", map = { "Gesendet" = "Sent/2019" } }]\n')
    assert bench.run("some").exit_code is ExitCode.CONFIG_INVALID
    peers[0].box("INBOX").add(mail(9))
    found = verified(bench, "some")
    assert found.report.mailboxes[0].path == ("INBOX",)  # as in `syncd check`
    waiting, *refused = found.entries
    assert (waiting.mailbox, waiting.status) == (("INBOX",), Status.WAITING)
    assert {(entry.mailbox, entry.status) for entry in refused} == {
        (("Gesendet",), Status.HELD),
        (("Sent", "2019"), Status.HELD),
    }
    assert all("which would become one with" in entry.reason for entry in refused)
    assert "which would become one with Sent/2019" in refused[0].reason
    assert found.counts == {Status.EQUAL: 5, Status.WAITING: 1, Status.HELD: 5}


def test_archives_at_either_end(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    bench = between(tmp_path, peers)
    for job in ("keep", "back"):
        assert bench.run(job).exit_code is ExitCode.DONE
        for read in (False, True):
            assert verified(bench, job, read=read).counts == {Status.EQUAL: 8}


@pytest.fixture
def pop3(tmp_path: Path) -> Iterator[tuple[FakePop3, Bench]]:
    """A job `all` from POP3 to packs, a Maildir and by SMTP, and `back` from the Maildir into packs."""
    with FakePop3() as server, FakeSmtp() as relay:
        server.messages = [mail(number) for number in range(1, 5)] + [b"Subject: lf\n\nbody\n"]
        server.uids = [b"uid-%d" % number for number in range(5)]
        bench = Bench(tmp_path, ("localhost", 1, "x"), ("localhost", 2, "y"))
        (tmp_path / "syncd.toml").write_text(
            'state_directory = "state"\n[archives]\nhome = { path = "home" }\nsecond = { path = "second" }\n'
            'mail = { path = "mail", format = "maildir" }\n'
            f'[accounts.pop]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {server.port}\n'
            'security = "none"\nallow_insecure = true\nusername = "user"\npassword = "env:PASSWORD"\n'
            f'[accounts.relay]\nprotocol = "smtp"\nhost = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"\n'
            'allow_insecure = true\n[jobs.all]\nsource = "pop"\nleave_on_server = true\n'
            'destinations = ["home", "mail", { to = "relay", recipient = "you@example.org" }]\n'
            '[jobs.back]\nsource = "mail"\ndestinations = ["second"]\n'
        )
        assert bench.run("all").exit_code is ExitCode.DONE
        yield server, bench


@pytest.mark.parametrize("read", [False, True])
def test_pop3_into_archives_and_receipts_of_a_relay(pop3: tuple[FakePop3, Bench], *, read: bool) -> None:
    server, bench = pop3
    found = verified(bench, "all", read=read)
    assert [found.report.totals(number).counts for number in range(3)] == [
        {Status.EQUAL: 5}, {Status.EQUAL: 5}, {Status.RECEIPT: 5},
    ]  # fmt: skip
    assert [one.compared for one in found.report.destinations] == [True, True, False]
    assert "a mail server cannot be asked what it has" in found.texts[".md"].replace("\\", "")
    assert not server.deleted
    assert bench.run("back").exit_code is ExitCode.DONE
    assert verified(bench, "back", read=read).counts == {Status.EQUAL: 5}


def test_files_of_a_maildir_that_a_reader_moved_marked_and_spoilt(pop3: tuple[FakePop3, Bench]) -> None:
    _, bench = pop3
    folder = bench.directory / "mail"
    gone, marked, spoilt, moved, _ = sorted((folder / "new").iterdir(), key=lambda file: file.read_bytes())
    gone.unlink()
    marked.rename(folder / "cur" / f"{marked.name}:2,S")  # POP3 has no flags that this could differ from
    spoilt.write_bytes(spoilt.read_bytes().replace(b"body", b"bodz"))
    for part in ("cur", "new", "tmp"):
        (folder / ".Kept" / part).mkdir(parents=True)
    moved.rename(folder / ".Kept" / "cur" / f"{moved.name}:2,")
    statuses = [entry.status for entry in verified(bench, "all").entries]
    assert sorted(statuses) == [Status.RELOCATED, Status.REMOVED]
    statuses = [entry.status for entry in verified(bench, "all", read=True).entries]
    assert sorted(statuses) == [Status.DIFFERENT, Status.RELOCATED, Status.REMOVED]


def test_a_damaged_pack_is_found_by_reading(pop3: tuple[FakePop3, Bench]) -> None:
    _, bench = pop3
    [pack] = (bench.directory / "home" / "packs").iterdir()
    octets = bytearray(pack.read_bytes())
    octets[-9] ^= 1
    pack.write_bytes(octets)
    assert verified(bench, "all").entries == []
    found = verified(bench, "all", read=True)
    assert {entry.status for entry in found.entries} == {Status.DIFFERENT}
    assert all("the destination does not give it" in entry.reason for entry in found.entries)


def test_what_the_job_removed_at_the_source_is_still_proven(pop3: tuple[FakePop3, Bench]) -> None:
    server, bench = pop3
    config = bench.directory / "syncd.toml"
    config.write_text(
        config.read_text().replace("leave_on_server = true", "leave_on_server = false\nconfirm_removal = true")
    )
    assert bench.run("all").removed == 5
    server.messages, server.uids = [], []
    assert verified(bench, "all").counts == {Status.MOVED: 5}
    (file, *_) = (bench.directory / "mail" / "new").iterdir()
    file.unlink()
    [entry] = verified(bench, "all").entries
    assert (entry.to, entry.status) == ("mail", Status.REMOVED)


def test_a_report_in_each_format(bench: Bench, peers: tuple[FakeImap, FakeImap]) -> None:
    peers[0].box("<b>|*`&Br6").add(mail(1))
    peers[1].box("INBOX").expunge(3)
    peers[1].box("INBOX").add(b"Subject: elsewhere\r\n\r\n", mail(4))
    found = verified(bench)
    digest = found.json["sha256"]
    text = json.dumps(found.json["report"], separators=(",", ":"), sort_keys=True)
    assert sha256(text.encode()).hexdigest() == digest
    assert found.json["report"]["differences"] == 2
    assert found.json["report"]["others"] == [
        {"to": "new", "mailbox": "INBOX", "messages": 2, "octets": 73, "alike": 1}
    ]
    assert all(digest in written for written in found.texts.values())
    page = found.texts[".html"]
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "\\<b\\>\\|\\*\\`" in found.texts[".md"]


def test_the_command_writes_reports_and_says_what_it_cannot(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", str(bench.directory / "syncd.toml"), "verify", "move"]
    for suffix in FORMATS:
        file = bench.directory / f"report{suffix}"
        assert call([*command, "--report", str(file)]) == ExitCode.DONE
        assert "Verification of move" in file.read_text() or json.loads(file.read_text())["report"]["job"] == "move"
    assert "new: no difference; 8 equal" in capsys.readouterr().out
    assert call([*command, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["report"]["messages"] == 8
    assert call([*command, "--report", "report.pdf"]) == ExitCode.USAGE
    assert call([*command[:-1], "keep"]) == ExitCode.USAGE
    assert "has never run" in capsys.readouterr().err


class Prover:
    """`syncd verify` for a bench."""

    def __init__(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = bench.directory / "proof"
        self._file = bench.directory / "syncd.toml"
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[ExitCode, str, str]:
        """Returns the exit code, results and errors."""
        self._capsys.readouterr()
        code = call(["--config", str(self._file), "verify", *words])
        shown = self._capsys.readouterr()
        return ExitCode(code), shown.out, shown.err


@pytest.fixture
def prove(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Prover:
    return Prover(bench, capsys)


def test_several_jobs_are_verified_with_a_line_and_a_report_for_each(bench: Bench, prove: Prover) -> None:
    assert bench.run("keep").exit_code is ExitCode.DONE
    prove.folder.mkdir()
    code, out, _ = prove("move", "keep", "--report", str(prove.folder))
    assert code is ExitCode.DONE
    first, second, summary = out.splitlines()
    assert first.startswith("move: no difference; 8 messages; SHA-256 of the report ")
    assert second.endswith(f"; the report is in {prove.folder / 'keep.md'}")
    assert summary == "2 jobs: 2 without a difference, 0 with differences"
    assert [path.name for path in sorted(prove.folder.iterdir())] == ["keep.md", "move.md"]
    assert prove("keep", "--report", str(prove.folder), "--format", "json")[0] is ExitCode.DONE
    assert json.loads((prove.folder / "keep.json").read_text())["report"]["job"] == "keep"


def test_without_a_job_all_enabled_jobs_are_verified(peers: tuple[FakeImap, FakeImap], prove: Prover) -> None:
    peers[1].box("INBOX").expunge(3)
    code, out, _ = prove()
    assert code is ExitCode.DIFFERENCES
    assert out.startswith("move: 1 difference; 8 messages; ")
    assert out.splitlines()[-1] == "1 job: 0 without a difference, 1 with differences"


def test_a_job_that_cannot_be_verified_does_not_stop_the_others(prove: Prover) -> None:
    code, out, err = prove("keep", "move")
    assert code is ExitCode.USAGE
    assert err.startswith('keep: job "keep" has never run')
    assert out.startswith("move: no difference; ")
    assert out.splitlines()[-1] == "2 jobs: 1 without a difference, 0 with differences, 1 could not be verified"
    code, out, _ = prove("keep", "move", "--json")
    refused, proven = json.loads(out)
    assert (code, refused["job"], refused["exit_code"]) == (ExitCode.USAGE, "keep", ExitCode.USAGE)
    assert proven["report"]["messages"] == 8


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_read(
    peers: tuple[FakeImap, FakeImap], prove: Prover
) -> None:
    """It was exit code 5, as if another try could help, after all had been compared."""
    for peer in peers:
        peer.settle()  # the farewell of the run may still be on its way
    before = [len(peer.commands) for peer in peers]
    code, _, err = prove("move", "--report", str(prove.folder / "move.html"))
    assert code is ExitCode.USAGE
    assert f"there is no folder {prove.folder}; make it first" in err
    code, _, err = prove("--report", str(prove.folder))
    assert code is ExitCode.USAGE
    assert "reports of several jobs are written into a folder, which must be there" in err
    code, _, err = prove("move", "--report", "move.md", "--format", "html")
    assert code is ExitCode.USAGE
    assert "the ending of a file says its format" in err
    assert [len(peer.commands) for peer in peers] == before


# --- Dovecot ---------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_migration_between_real_servers(tmp_path: Path) -> None:
    with dovecot(FLAVOURS["slash"]) as server:
        old, new = server.user("old"), server.user("new")
        letters = [Letter(mail(number), ("\\Seen", "$Work"), "01-Feb-2019 03:04:05 +0000") for number in range(20)]
        nul = Letter(b"Subject: nul\r\n\r\na\0b\r\n")
        fill(old, dict.fromkeys(PATHS, letters))
        fill(old, {"Odd": [nul]})
        bench = Bench(tmp_path, (old.host, old.port, old.username), (new.host, new.port, new.username))
        assert bench.run().exit_code is ExitCode.DONE
        for read in (False, True):
            found = verified(bench, read=read)
            assert (found.counts, found.entries) == ({Status.EQUAL: 81}, [])
