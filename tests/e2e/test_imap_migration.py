"""Mail into IMAP mailboxes: migration and restore, run again, cut off and refused; Dovecot and scripted peers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from syncd.cli.main import call
from syncd.db.leases import LeaseSet, mailboxes_resource
from syncd.db.models import accounts, deliveries
from syncd.engine.events import Basis, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.services.problems import problems
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_store import Mail
from tests.fakes.imap_words import Word, flat
from tests.servers.imap import FLAVOURS, Letter, Login, dovecot, fill, shown

MULTI = (*EXTENDED, "MULTIAPPEND")
PATHS = ("INBOX", "Sent", "Projekte/M&APw-ller/2019", "R&-D &AOQ-")


def mail(number: int) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nbody %d\r\n" % (number, number, number)


class Bench:
    """A job `move` from `old` to `new`, and `keep` and `back` by an archive."""

    def __init__(
        self, directory: Path, old: tuple[str, int, str], new: tuple[str, int, str], *, job: str = "", **options: str
    ) -> None:
        """`job` is more of the job `move`, in lines; `options` are its destination's."""
        self.directory = directory
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "imap"\nhost = "{host}"\nport = {port}\nsecurity = "none"\n'
            f'allow_insecure = true\nusername = "{user}"\npassword = "env:PASSWORD"\n'
            for name, (host, port, user) in (("old", old), ("new", new))
        )
        extra = "".join(f", {key} = {value}" for key, value in options.items())
        (directory / "syncd.toml").write_text(
            f'state_directory = "state"\n[archives]\nhome = {{ path = "home" }}\n{accounts}'
            f'[jobs.move]\nsource = "old"\ndestinations = [{{ to = "new"{extra} }}]\n{job}'
            '[jobs.keep]\nenabled = false\nsource = "old"\ndestinations = ["home"]\n'
            f'[jobs.back]\nenabled = false\nsource = "home"\ndestinations = [{{ to = "new"{extra} }}]\n'
        )

    def loaded(self) -> Loaded:
        return load(self.directory / "syncd.toml", environment={"PASSWORD": PASSWORD})

    def run(self, name: str = "move", **options: Any) -> RunReport:
        [report] = RunsByHand(self.loaded(), [name], RunOptions(**options), lambda _: None).execute()
        return report

    def receipts(self) -> list[str]:
        """The receipts of all deliveries."""
        with open_ledger(self.loaded()) as database, database.read() as connection:
            return list(connection.execute(select(deliveries.c.receipt)).scalars())

    def reasons(self) -> list[str]:
        with open_ledger(self.loaded()) as database:
            return [problem.row.reason for problem in problems(self.loaded(), database, "move")]


# --- Dovecot ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[str], Login]]:
    with dovecot(FLAVOURS["slash"]) as server:
        yield server.user


def contents(login: Login) -> dict[str, list[tuple[bytes, frozenset[str], str]]]:
    return {
        name: [(one.octets, one.flags, one.date) for one in messages]
        for name, messages in shown(login).items()
        if messages
    }


@pytest.mark.servers
def test_a_migration_keeps_mailboxes_flags_and_dates(server: Callable[[str], Login], tmp_path: Path) -> None:
    old, new = server("old"), server("new")
    letters = [
        Letter(mail(number), ("\\Seen", "$Work") if number % 2 else (), "01-Feb-2019 03:04:05 +0000")
        for number in range(130)
    ]
    fill(old, {name: letters[: 130 if name == "INBOX" else 3] for name in PATHS})
    bench = Bench(tmp_path, (old.host, old.port, old.username), (new.host, new.port, new.username))
    report = bench.run()
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert contents(new) == contents(old)
    again = bench.run()
    assert (again.exit_code, again.fetched, again.delivered) == (ExitCode.DONE, 0, {})
    assert contents(new) == contents(old)


@pytest.mark.servers
def test_an_archive_is_restored(server: Callable[[str], Login], tmp_path: Path) -> None:
    old, new = server("full"), server("empty")
    fill(old, {name: [Letter(mail(number), ("\\Flagged",)) for number in range(3)] for name in PATHS})
    bench = Bench(tmp_path, (old.host, old.port, old.username), (new.host, new.port, new.username))
    assert bench.run("keep").exit_code is ExitCode.DONE
    report = bench.run("back")
    assert (report.exit_code, report.errors) == (ExitCode.DONE, [])
    assert contents(new) == contents(old)
    assert bench.run("back").delivered == {}


# --- scripted --------------------------------------------------------------------------------------------------------


@pytest.fixture
def peers() -> Iterator[tuple[FakeImap, FakeImap]]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        yield old, new
        assert not new.violations


def between(directory: Path, peers: tuple[FakeImap, FakeImap], **options: str) -> Bench:
    old, new = ((peer.host, peer.port, USERNAME) for peer in peers)
    return Bench(directory, old, new, **options)


def octets(found: list[Mail]) -> list[bytes]:
    return [one.octets for one in found]


@pytest.mark.parametrize("announced", [BARE, (*BARE, "LITERAL+"), EXTENDED, MULTI])
def test_whatever_the_server_announces(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], announced: tuple[str, ...]
) -> None:
    old, new = peers
    new.inside = announced
    old.box("Sent/2019").add(*map(mail, range(25)), flags=[b"\\Seen", b"\\Deleted", b"$Work"])
    new.box("INBOX").permanent = [b"\\*"]
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent/2019").mail) == octets(old.box("Sent/2019").mail)
    assert new.box("Sent/2019").mail[0].flags == [b"\\Seen"]
    looked = [command for command in new.commands if command.startswith("STATUS Sent/2019 ")]
    assert len(looked) <= (3 if "UIDPLUS" in announced else 5), "once for a batch, twice where no UIDs are told"
    assert new.box("Sent/2019").subscribed
    assert bench.run().delivered == {}
    assert len(new.box("Sent/2019").mail) == 25


def test_many_mailboxes_are_made_in_few_flights(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    for number in range(30):
        old.box(f"box {number}").add(mail(number))
    new.box("box 7").subscribed = False
    new.on["CREATE"] = lambda it: b"<tag> NO not that one\r\n" if flat(it[0]) == [b"box 9"] else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    made = {f"box {number}": [mail(number)] for number in range(30) if number != 9}
    assert {name: octets(new.box(name).mail) for name in made} == made
    assert all(new.box(name).subscribed for name in made), "also what was there"
    verbs = [command.split()[0] for command in new.commands]
    assert len(new.flights) - verbs.count("APPEND") <= 12, new.flights


def test_i126_an_inbox_that_is_numbered_when_it_is_first_opened(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """Courier gives a new user's INBOX another UIDVALIDITY each second, until it is selected."""
    old, new = peers
    new.inside = EXTENDED
    old.box("INBOX").add(*map(mail, range(5)))
    inbox = new.box("INBOX")
    seconds = itertools.count(inbox.validity + 1)

    def renew(_: list[Word]) -> None:
        if "SELECT" not in new.verbs():
            inbox.validity = next(seconds)

    new.on.update({"STATUS": renew, "APPEND": renew})
    bench = between(tmp_path, peers)
    assert bench.run().delivered == {"new": 5}
    assert sorted(bench.receipts()) == [f"{inbox.validity}:{uid} INBOX" for uid in range(1, 6)]


def test_nothing_new_contacts_the_source_alone(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("Sent").add(mail(1))
    bench = between(tmp_path, peers)
    assert bench.run().delivered == {"new": 1}
    before = new.connections
    assert (bench.run().exit_code, new.connections, old.connections) == (ExitCode.DONE, before, 2)


@pytest.mark.parametrize("announced", [BARE, EXTENDED, MULTI])
def test_i93_a_lost_reply_doubles_nothing(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], announced: tuple[str, ...]
) -> None:
    old, new = peers
    new.inside = announced
    old.box("INBOX").add(*map(mail, range(25)))
    new.loses_reply_to = {"APPEND"}
    bench = between(tmp_path, peers)
    bench.run()
    assert new.box("INBOX").mail
    new.loses_reply_to = set()
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))


@pytest.mark.parametrize("announced", [BARE, EXTENDED])
def test_i93_the_copy_of_another_job_is_not_counted_for_what_was_lost(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], announced: tuple[str, ...]
) -> None:
    """Two jobs put equal mail into one mailbox; while the first one cannot ask, the second one delivers."""
    old, new = peers
    new.inside = announced
    old.box("INBOX").add(mail(1), mail(2))
    bench = between(tmp_path, peers)
    bench.run("keep")
    new.hangs_up_on = {"APPEND", "EXAMINE"}
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert not new.box("INBOX").mail
    new.hangs_up_on = set()
    assert bench.run("back").delivered == {"new": 2}
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted([mail(1), mail(2)] * 2)
    assert set(bench.receipts()) - {None} == {f"1:{uid} INBOX" for uid in range(1, 5)}, "a copy for each delivery"


def test_no_two_processes_put_mail_into_one_account(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1))
    bench = between(tmp_path, peers)
    assert bench.run().delivered == {"new": 1}
    old.box("INBOX").add(mail(2))
    with open_ledger(bench.loaded()) as database:
        with database.read() as connection:
            account = connection.execute(select(accounts.c.id).where(accounts.c.name == "new")).scalar_one()
        with LeaseSet.acquire(database, [mailboxes_resource(account)], "another run", renew_s=0):
            report = bench.run()
            assert report.exit_code is ExitCode.HELD
            assert any('account "new" is being filled by process' in line for line in report.errors)
            assert octets(new.box("INBOX").mail) == [mail(1)]
    assert bench.run().delivered == {"new": 1}


def test_the_uids_are_found_where_the_server_tells_none_and_others_append(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    old, new = peers
    new.inside = BARE
    old.box("INBOX").add(*map(mail, range(5)))

    def foreign(_: object) -> None:
        new.box("INBOX").add(b"Subject: from elsewhere\r\n\r\n")

    new.on["APPEND"] = foreign
    bench = between(tmp_path, peers)
    assert bench.run().delivered == {"new": 5}
    expected = {f"1:{one.uid} INBOX" for one in new.box("INBOX").mail if b"elsewhere" not in one.octets}
    assert set(bench.receipts()) == expected


@pytest.mark.parametrize("literal", [0, 3, 12])
def test_a_cut_within_a_literal_loses_nothing(tmp_path: Path, peers: tuple[FakeImap, FakeImap], literal: int) -> None:
    old, new = peers
    new.inside = EXTENDED
    old.box("INBOX").add(*map(mail, range(15)))
    new.loses_literal = literal
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))


def test_i162_what_the_server_altered_is_recognised_by_its_header(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(5)))
    new.alters = lambda it: it + b"-- \r\nan advertisement\r\n"
    new.loses_reply_to = {"APPEND"}
    bench = between(tmp_path, peers)
    bench.run()
    new.loses_reply_to = set()
    assert bench.run().exit_code is ExitCode.DONE
    assert len(new.box("INBOX").mail) == 5


def test_an_uncertain_outcome_is_recorded_where_others_append(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1))
    new.hangs_up_on = {"APPEND"}
    new.on["EXAMINE"] = lambda _: new.box("INBOX").add(b"Subject: from elsewhere\r\n\r\n")
    bench = between(tmp_path, peers)
    report = bench.run()
    assert report.uncertain == 1
    assert any("other messages have come" in reason for reason in bench.reasons())


def test_i160_a_group_that_is_refused_is_taken_apart(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(20)))
    new.takes = lambda group: b"Message contains NUL characters" if mail(7) in group else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    assert sorted(octets(new.box("INBOX").mail)) == sorted(mail(number) for number in range(20) if number != 7)
    [reason] = bench.reasons()
    assert "NUL characters" in reason


def test_i161_a_no_to_what_was_stored_doubles_nothing(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(7)))
    new.stores_and_says = b"<tag> BAD no idea\r\n"
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))


def test_i158_a_full_account_is_suspended_and_filled_later(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(3)))
    new.takes = lambda _: b"[OVERQUOTA] full"
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert not new.box("INBOX").mail
    assert all("OVERQUOTA" in reason for reason in bench.reasons())


def test_a_mailbox_that_is_refused_stops_alone(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1))
    old.box("Odd").add(mail(2))
    new.replies["CREATE"] = b"<tag> NO [CANNOT] not this name\r\n"
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert octets(new.box("INBOX").mail) == [mail(1)]
    [reason] = bench.reasons()
    assert "not this name" in reason


def test_prefix_map_and_special_use(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("Gesendet", attributes=[b"\\Sent"]).add(mail(1))
    old.box("Kram").add(mail(2))
    old.box("Leer")
    new.box("Sent Items", attributes=[b"\\Sent"])
    assert between(tmp_path, peers, map='{ "Kram" = "Stuff/More" }').run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent Items").mail) == [mail(1)]
    assert octets(new.box("Stuff/More").mail) == [mail(2)]
    assert b"Leer" in new.boxes
    assert b"Gesendet" not in new.boxes


def test_two_mailboxes_that_would_become_one_are_refused(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("a/b").add(mail(1))
    old.box("a").add(mail(3))
    old.box("A").add(mail(4))
    old.box("x.y").add(mail(5))
    old.box("x_y").add(mail(6))
    report = between(tmp_path, peers).run()
    assert report.exit_code is ExitCode.CONFIG_INVALID
    assert {name for name, box in new.boxes.items() if box.mail} == {b"a", b"a/b", b"A"}


def test_i154_what_the_server_changed_is_recorded_and_told(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    odd = b"Subject: \xe4\r\n\r\nbody\r\n"
    old.box("INBOX").add(mail(1), odd, mail(2))
    new.alters = lambda octets: octets.replace(b"\xe4", b"X")
    bench = between(tmp_path, peers)
    events: list[object] = []
    [report] = RunsByHand(bench.loaded(), ["move"], RunOptions(), events.append).execute()
    assert report.exit_code is ExitCode.DONE
    assert any("in 1 cases the server said OK and stored other octets" in str(event) for event in events)
    assert "UID FETCH 2 (UID FLAGS INTERNALDATE BODY.PEEK[])" in new.commands
    assert bench.run().delivered == {}


def test_i147_a_refused_keyword_stays_behind_and_the_message_does_not(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), mail(2), flags=[b"\\Seen", b"$Work"])
    new.box("INBOX").permanent = [b"\\*"]
    new.on["APPEND"] = lambda arguments: b"<tag> BAD unknown flag\r\n" if b"$Work" in arguments[1] else None
    assert between(tmp_path, peers).run().exit_code is ExitCode.DONE
    assert [one.flags for one in new.box("INBOX").mail] == [[b"\\Seen"], [b"\\Seen"]]


def test_a_migration_that_another_program_began_is_finished(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), mail(2), mail(3), mail(3), mail(4))
    twin = mail(4).replace(b"Subject: 4", b"Subject: X")  # as long, and with the same Message-ID
    new.box("INBOX").add(mail(2), mail(3), twin)
    bench = between(tmp_path, peers, skip_existing="true")
    report = bench.run()
    assert (report.exit_code, report.delivered) == (ExitCode.DONE, {"new": 5})
    assert sorted(octets(new.box("INBOX").mail)) == sorted([mail(1), mail(2), mail(3), mail(3), mail(4), twin])
    old.box("INBOX").add(mail(1))
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("INBOX").mail).count(mail(1)) == 2


def test_what_another_program_altered_is_recognised_by_what_it_is_known_to_do(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """It has stored one with LF alone, one with CRLF where the source has LF, and put fields into others."""
    old, new = peers
    lone = mail(2).replace(b"\r\n", b"\n")
    marked = mail(4).replace(b"\r\n\r\n", b"\r\nX-TUID: R2QvEwCq6zIp\r\n\r\n")  # by mbsync
    other = b"X-Copied: 0123456789\r\n" + mail(3)
    old.box("INBOX").add(mail(1), lone, mail(3), mail(4), mail(4))
    new.box("INBOX").add(mail(1).replace(b"\r\n", b"\n"), mail(2), marked, other)
    bench = between(tmp_path, peers, skip_existing="true")
    assert bench.run().delivered == {"new": 5}
    assert octets(new.box("INBOX").mail)[2:] == [marked, other, mail(3), mail(4)], "other octets: another message"
    assert sum("altered" in receipt for receipt in bench.receipts()) == 3
    assert bench.run().delivered == {}


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_line_that_imapsync_added_is_known_by_the_uid_in_it(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], end: bytes
) -> None:
    """Drafts have equal headers and sizes; the copy of one of them never stands for the other one."""

    def line(uid: int) -> bytes:
        return b"Message-Id: <%d@imapsync>\r\n" % uid

    old, new = peers
    draft = b"Subject: draft\r\n\r\nReceived: %b\r\n"
    first, second = ((draft % word).replace(b"\r\n", end) for word in (b"one", b"two"))
    received = b"Received: by mx\r\n\r\n"
    old.box("INBOX").add(first, second, mail(3), received)
    others = [line(3) + mail(3), line(4) + received, line(7) + first, b"Message-ID: <1@imapsync>\r\n" + first]
    new.box("INBOX").add(line(2) + draft % b"two", *others)
    bench = between(tmp_path, peers, skip_existing="true")
    assert bench.run().delivered == {"new": 4}
    assert sorted(octets(new.box("INBOX").mail)[5:]) == sorted([first, mail(3), received]), "the second one is there"
    assert sum("altered" in receipt for receipt in bench.receipts()) == 1
    assert bench.run().delivered == {}


LF_ALONE = mail(1).replace(b"\r\n", b"\n")
MIXED = mail(2).replace(b"\r\n\r\n", b"\r\n\r\none\ntwo\r\n")


@pytest.mark.parametrize("no", [b"NO Message contains bare newlines", b"BAD syntax error", b"NO not this one"])
def test_i153_a_bare_lf_that_is_refused_is_sent_with_crlf(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap], no: bytes
) -> None:
    old, new = peers
    old.box("INBOX").add(LF_ALONE, MIXED, mail(3))
    new.on["APPEND"] = lambda words: b"<tag> %b\r\n" % no if any(map(has_bare_lf, words)) else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    with_crlf = [mail(1), MIXED.replace(b"one\n", b"one\r\n"), mail(3)]
    assert sorted(octets(new.box("INBOX").mail)) == sorted(with_crlf)
    assert sorted("CRLF at the end" in hint for hint in bench.receipts()) == [False, True, True]
    assert bench.run().delivered == {}
    assert len(new.box("INBOX").mail) == 3


def has_bare_lf(word: object) -> bool:
    return isinstance(word, bytes) and b"\n" in word.replace(b"\r\n", b"")


def test_i153_a_message_that_is_refused_with_crlf_too_waits(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(LF_ALONE, mail(3))
    new.takes = lambda group: b"bare newlines" if mail(3) not in group or len(group) > 1 else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    assert new.literals == 5, "both, each alone, and the first once more"
    assert octets(new.box("INBOX").mail) == [mail(3)]


def test_i153_after_a_lost_reply_a_message_with_other_line_ends_is_known(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """The header had LF alone, too: no hash of it told that it was there, and it was sent again."""
    old, new = peers
    old.box("INBOX").add(LF_ALONE)
    new.alters = lambda it: it.replace(b"\n", b"\r\n")
    new.loses_reply_to = {"APPEND"}
    report = between(tmp_path, peers).run()
    assert (report.exit_code, report.uncertain) == (ExitCode.DONE, 0)
    assert octets(new.box("INBOX").mail) == [mail(1)]


def test_a_dry_run_tells_which_mailbox_becomes_which(tmp_path: Path, peers: tuple[FakeImap, FakeImap]) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(30)))
    old.box("Gesendet", attributes=[b"\\Sent"]).add(mail(1))
    old.box("Kram/Alt").add(mail(2))
    old.box("Leer")
    old.box("R%&-D*")
    new.box("Sent Items", attributes=[b"\\Sent"])
    bench = between(tmp_path, peers, map='{ "Kram" = "Stuff" }')
    report = bench.run(dry_run=True)
    found = {
        "/".join(plan.path): (
            plan.would,
            plan.messages,
            plan.to_fetch,
            *(("/".join(it.path), it.why) for it in plan.places),
        )
        for plan in report.mapping
    }
    assert found == {
        "INBOX": (Would.FETCH, 30, 30, ("INBOX", Why.SAME)),
        "Gesendet": (Would.FETCH, 1, 1, ("Sent Items", Why.USE)),
        "Kram/Alt": (Would.FETCH, 1, 1, ("Stuff/Alt", Why.MAP)),
        "Leer": (Would.MAKE, 0, 0, ("Leer", Why.SAME)),
        "R%&D*": (Would.MAKE, 0, 0, ("R_&D_", Why.SAME)),
    }
    assert report.seconds_from is Basis.GUESS
    assert report.seconds_ahead == pytest.approx(32 / 20)
    assert not new.box("Sent Items").mail
    assert {"CREATE", "APPEND"}.isdisjoint(new.verbs())
    bench.run()
    old.box("INBOX").add(*map(mail, range(30, 40)))
    old.box("Stuff/Alt")
    report = bench.run(dry_run=True)
    assert [(plan.would, plan.to_fetch) for plan in report.mapping if plan.path == ("INBOX",)] == [(Would.LOOK, 10)]
    assert {plan.path for plan in report.mapping if plan.would is Would.REFUSE} == {("Kram", "Alt"), ("Stuff", "Alt")}
    assert report.seconds_from is Basis.JOB
    assert report.seconds_ahead is not None
    assert report.seconds_ahead > 0


def test_a_mailbox_without_messages_is_made(
    tmp_path: Path,
    peers: tuple[FakeImap, FakeImap],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A dry run said that it would be noted, as in an archive."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    peers[0].box("Leer")
    between(tmp_path, peers)
    for name in ("move", "old"):
        assert call(["--config", str(tmp_path / "syncd.toml"), "check", name]) == 0
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert "  make it (empty), unless it is there" in rows["Leer"]
        assert "  note that it is empty" in rows["INBOX"]


def test_a_dry_run_of_the_second_job_on_an_account_agrees_with_itself(
    tmp_path: Path, peers: tuple[FakeImap, FakeImap]
) -> None:
    """The messages are known by then, and still all of them are to be fetched for the second job."""
    old, _ = peers
    old.box("INBOX").add(*map(mail, range(30)))
    bench = between(tmp_path, peers)
    bench.run("keep")
    report = bench.run(dry_run=True)
    (plan, *_) = report.mapping
    assert (plan.would, plan.messages, plan.to_fetch) == (Would.FETCH, 30, 30)
    assert report.seconds_from is Basis.ACCOUNT


@pytest.mark.parametrize(("name", "warned"), [("Cyrus IMAPD", True), ("Dovecot", False)])
def test_check_shows_what_matters_of_a_destination(
    tmp_path: Path,
    peers: tuple[FakeImap, FakeImap],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    *,
    warned: bool,
) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    _, new = peers
    new.inside = (*BARE, "ID", "MULTIAPPEND", "LITERAL-", "APPENDLIMIT=35651584", "QUOTA=RES-STORAGE")
    for server in peers:
        server.replies["ID"] = b'* ID ("name" "%s")\r\n<tag> OK x\r\n' % name.encode()
    between(tmp_path, peers)
    assert call(["--config", str(tmp_path / "syncd.toml"), "check", "move"]) == 0
    said = capsys.readouterr().out
    has = "MULTIAPPEND, LITERAL-, APPENDLIMIT=35651584, QUOTA=RES-STORAGE and lacks UIDPLUS, SPECIAL-USE"
    assert f"new: the server has {has}" in said
    assert "old: the server has LIST-STATUS, CONDSTORE" in said
    assert ("new: Cyrus writes X for each 8-bit octet" in said) is warned
    assert "old: Cyrus" not in said
    assert "new: the server counts no changes" not in said  # that matters where mail is read


def test_a_dry_run_shows_its_table(
    tmp_path: Path,
    peers: tuple[FakeImap, FakeImap],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    old, _ = peers
    old.box("Sent").add(*map(mail, range(3)))
    old.box("Leer")
    between(tmp_path, peers, prefix='"old"')
    for command in (["run", "--dry-run"], ["check"]):
        assert call(["--config", str(tmp_path / "syncd.toml"), *command, "move"]) == 0
        said = capsys.readouterr().out
        assert "BECOMES IN new" in said
        assert "old/Sent (prefix)" in said
        (row,) = [line for line in said.splitlines() if line.startswith("Sent ")]
        assert "  153 B   <1 s  " in row  # it was 1 s for each of 300 mailboxes, in a total of 30 s
        (total,) = [line for line in said.splitlines() if line.startswith("TOTAL ")]
        assert "  153 B    1 s  " in total
        assert "would fetch 3 messages (153 B) (about 1 s, a cautious guess: " in said
        assert "; 3 messages on the server; nothing was changed" in said
