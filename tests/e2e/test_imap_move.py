"""Mail is moved into mailboxes of a server that breaks off or lies, or whose owner is at work in them meanwhile."""

from __future__ import annotations

import imaplib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import durable
from syncd.cli.main import call
from syncd.durable import Moment, Step
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Status
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.servers.imap import Flavour, Letter, Login, dovecot, fill, shown, signed_in

MOVE = 'mode = "move"\nconfirm_removal = true\n'
ONE_BY_ONE = "IMAP4rev1 SASL-IR LITERAL+ UIDPLUS UNSELECT NAMESPACE ENABLE LIST-EXTENDED LIST-STATUS CONDSTORE MOVE"
SENT = [mail(number) for number in range(15)]


@pytest.fixture
def old() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.box("INBOX").add(*SENT)
        yield server


@pytest.fixture
def new() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.inside = MULTI
        yield server
        assert not server.violations


def cut_in_a_literal(server: FakeImap) -> None:
    server.loses_literal = server.literals + 4


def cut_behind_a_literal(server: FakeImap) -> None:
    server.loses_literal, server.loses_after_literal = server.literals + 4, True


def lose_the_reply(server: FakeImap) -> None:
    server.loses_reply_to = {"APPEND"}


def store_and_say_bad(server: FakeImap) -> None:
    server.stores_and_says = b"<tag> BAD what is that\r\n"


def store_and_say_no(server: FakeImap) -> None:
    server.stores_and_says = b"<tag> NO [SERVERBUG] sorry\r\n"


def say_ok_without_receipts(server: FakeImap) -> None:
    server.stores_and_says = b"<tag> OK kept\r\n"


def well(server: FakeImap) -> None:
    server.loses_literal = server.stores_and_says = None
    server.loses_after_literal, server.loses_reply_to = False, set()


BROKEN = (cut_in_a_literal, cut_behind_a_literal, lose_the_reply)
LYING = (store_and_say_bad, store_and_say_no, say_ok_without_receipts)
CASES = [
    *((MULTI, fault) for fault in (*BROKEN, *LYING)),
    *((EXTENDED, fault) for fault in (cut_behind_a_literal, lose_the_reply, store_and_say_bad)),
    *((BARE, fault) for fault in (cut_in_a_literal, lose_the_reply, store_and_say_bad, store_and_say_no)),
]


@pytest.mark.parametrize(("announced", "fault"), CASES)
def test_nothing_is_lost_or_doubled(
    tmp_path: Path,
    old: FakeImap,
    new: FakeImap,
    fault: Callable[[FakeImap], None],
    announced: tuple[str, ...],
) -> None:
    new.inside = announced
    bench = between(tmp_path, (old, new), job=MOVE)
    fault(new)
    for number in range(6):
        report = bench.run()
        there, here = held(new), held(old)
        assert not Counter(SENT) - there - here, "gone from the source, and nowhere"
        assert there == Counter(set(there)), "there twice"
        if number == 1:
            well(new)
        if report.exit_code is ExitCode.DONE and not here:
            break
    assert (held(new), held(old)) == (Counter(SENT), Counter())
    assert report.uncertain == 0
    assert bench.run().delivered == {}


@pytest.mark.parametrize("announced", [MULTI, BARE])
def test_what_is_not_there_after_an_ok_stays_at_the_source(
    tmp_path: Path, old: FakeImap, new: FakeImap, announced: tuple[str, ...]
) -> None:
    """A filter takes a message away as it comes; the server tells no UID of any."""
    new.inside = announced
    new.stores_and_says = b"<tag> OK kept\r\n"
    filtered = mail(7)
    new.swallows = {filtered}
    bench = between(tmp_path, (old, new), job=MOVE)
    events: list[object] = []
    [report] = RunsByHand(bench.loaded(), ["move"], RunOptions(), events.append).execute()
    assert report.removed == len(SENT) - 1
    assert list(held(old)) == [filtered]
    assert any("did not show in the mailbox: 1; they stay at the source" in str(event) for event in events)
    assert bench.run().removed == 0


def test_what_would_be_removed_is_told_with_the_job_once(
    tmp_path: Path,
    old: FakeImap,
    new: FakeImap,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    bench = Bench(tmp_path, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME), job='mode = "move"\n')
    for verb in ("run", "status"):
        assert call([verb, "move", "--config", str(bench.directory / "syncd.toml")]) in {0, ExitCode.STOPPED}
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "would be removed" in line]
        assert line.startswith("move: 15 messages would be removed from old; nothing was removed, set confirm_removal")


def test_a_job_that_is_waited_for_is_named(tmp_path: Path, old: FakeImap, new: FakeImap) -> None:
    """All mail stayed at the source, and nothing said why."""
    bench = Bench(tmp_path, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME), job=MOVE)
    settings = tmp_path / "syncd.toml"
    backup = '[jobs.backup]\nsource = "old"\ndestinations = ["home"]\n'
    settings.write_text(settings.read_text() + backup)
    events: list[object] = []
    loaded = bench.loaded()
    [report] = RunsByHand(loaded, ["move"], RunOptions(), events.append).execute()
    assert (report.fetched, report.removed) == (15, 0)
    assert "15 messages not removed before job backup is done with the same mail" in str(events)
    backup_run, again = RunsByHand(loaded, ["backup", "move"], RunOptions(), events.append).execute()
    assert (backup_run.fetched, again.removed) == (15, 15)


def held(server: FakeImap) -> Counter[bytes]:
    return Counter(one.octets for box in server.boxes.values() for one in box.mail)


# --- an owner at work ------------------------------------------------------------------------------------------------


class Owner:
    """Reads, files, deletes and gets mail in the new account while it is filled: now and then."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._appends = 0
        self.got: list[bytes] = []
        self.deleted: list[bytes] = []
        self.filed: list[bytes] = []
        self.flagged: list[bytes] = []

    def __call__(self, step: Step, moment: Moment) -> None:
        if step is not Step.MESSAGE_END or moment != "after":
            return
        self._appends += 1
        if self._appends % 8 == 0:
            with signed_in(self._login) as client:
                self._work(client)

    def _work(self, client: imaplib.IMAP4) -> None:
        octets = b"Subject: another %d\r\n\r\nfrom elsewhere\r\n" % len(self.got)
        client.append("INBOX", "", "", octets)
        self.got.append(octets)
        client.select("INBOX")
        uids = client.uid("SEARCH", "SUBJECT", '"number"')[1][0].split()
        if len(uids) > 3:
            self.deleted.append(self._body(client, uids[0]))
            client.uid("STORE", uids[0].decode(), "+FLAGS", "(\\Deleted)")
            client.uid("EXPUNGE", uids[0].decode())
            self.filed.append(self._body(client, uids[1]))
            client.create("Filed")
            client.uid("MOVE", uids[1].decode(), "Filed")
            self.flagged.append(self._body(client, uids[2]))
            client.uid("STORE", uids[2].decode(), "+FLAGS", "(\\Flagged)")
            client.uid("STORE", uids[2].decode(), "-FLAGS", "(\\Seen)")

    @staticmethod
    def _body(client: imaplib.IMAP4, uid: bytes) -> bytes:
        [row, *_] = client.uid("FETCH", uid.decode(), "(BODY.PEEK[])")[1]
        assert isinstance(row, tuple)
        return row[1]


@pytest.mark.servers
def test_an_owner_at_work_finds_nothing_doubled_and_nothing_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [b"Subject: number %d\r\n\r\ntext\r\n" % number for number in range(40)]
    with dovecot(Flavour(settings={"imap_capability": ONE_BY_ONE})) as server:
        here, there = server.user("old"), server.user("new")
        fill(here, {"INBOX": [Letter(octets, ("\\Seen",)) for octets in letters[:30]]})
        bench = Bench(tmp_path, (here.host, here.port, "old"), (there.host, there.port, "new"), job=MOVE)
        owner = Owner(there)
        monkeypatch.setattr(durable, "observer", owner)
        monkeypatch.setattr("syncd.engine.handshake.BATCH_MESSAGES", 10)
        assert bench.run().exit_code is ExitCode.DONE
        fill(here, {"INBOX": [Letter(octets, ("\\Seen",)) for octets in letters[30:]]})
        assert bench.run().exit_code is ExitCode.DONE
        monkeypatch.setattr(durable, "observer", None)
        assert bench.run().delivered == {}
        assert not shown(here)["INBOX"]
        found = shown(there)
        with Verification(bench.loaded(), "move") as verification:
            report = verification.execute()
            counts = report.totals(0).counts
            named = Counter((entry.status, entry.place) for entry in report.entries())
    assert owner.deleted
    assert named == {(Status.REMOVED, "INBOX"): len(owner.deleted), (Status.RELOCATED, "Filed"): len(owner.filed)}
    assert counts.total() == len(letters), "each message has a result"
    inbox, filed = (Counter(one.octets for one in found[name]) for name in ("INBOX", "Filed"))
    stays = Counter(letters) - Counter(owner.deleted) - Counter(owner.filed)
    assert inbox == stays + Counter(owner.got)
    assert filed == Counter(owner.filed)
    flags = {one.octets: one.flags for one in found["INBOX"]}
    assert all(flags[octets] == {"\\Flagged"} for octets in owner.flagged if octets in flags)
