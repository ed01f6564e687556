"""Servers that take a message only in some form, and make mailboxes only in some way; scripted peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_words import Word, flat

Peers = tuple[FakeImap, FakeImap]
SYSTEM = [b"\\Answered", b"\\Draft", b"\\Flagged", b"\\Seen"]


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        yield old, new
        assert not new.violations


def notes(bench: Bench) -> tuple[ExitCode, str]:
    """Run; returns the exit code, and all that was said."""
    said: list[str] = []
    [report] = RunsByHand(bench.loaded(), ["move"], RunOptions(), lambda event: said.append(str(event))).execute()
    return report.exit_code, "\n".join(said).replace("\\\\", "\\")


def refuses(*flags: bytes, said: bytes = b"BAD unknown flag") -> Callable[[list[Word]], bytes | None]:
    """APPEND is refused with any of the flags."""

    def answer(arguments: list[Word]) -> bytes | None:
        sent = [flag for argument in arguments if isinstance(argument, list) for flag in flat(argument)]
        return b"<tag> %b\r\n" % said if set(flags) & set(sent) else None

    return answer


# --- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [EXTENDED, MULTI])
def test_i82_a_system_flag_that_the_mailbox_does_not_take_stays_behind(
    tmp_path: Path, peers: Peers, inside: tuple[str, ...]
) -> None:
    old, new = peers
    new.inside = inside
    old.box("INBOX").add(mail(1), mail(2), flags=[b"\\Seen", b"\\Draft", b"$Work"])
    old.box("INBOX").add(mail(3), flags=[b"\\Seen"])
    new.box("INBOX").permanent = [b"\\Answered", b"\\Seen", b"\\*"]
    new.on["APPEND"] = refuses(b"\\Draft")
    code, said = notes(between(tmp_path, peers))
    assert code is ExitCode.DONE
    kept = {one.octets: set(one.flags) for one in new.box("INBOX").mail}
    assert kept == {mail(1): {b"\\Seen", b"$Work"}, mail(2): {b"\\Seen", b"$Work"}, mail(3): {b"\\Seen"}}
    assert "flags that the mailboxes do not take stayed behind, with so many messages: \\Draft (2)" in said


def test_i82_the_mailbox_is_asked_when_a_flag_is_refused(tmp_path: Path, peers: Peers) -> None:
    """Without a keyword nobody has asked before. One question is enough for the whole group, which is sent again."""
    old, new = peers
    old.box("INBOX").add(*map(mail, range(20)), flags=[b"\\Seen", b"\\Draft"])
    new.box("INBOX").permanent = [b"\\Seen"]
    new.on["APPEND"] = refuses(b"\\Draft", said=b"NO cannot set that")
    code, said = notes(between(tmp_path, peers))
    assert code is ExitCode.DONE
    assert {tuple(one.flags) for one in new.box("INBOX").mail} == {(b"\\Seen",)}
    assert (len(new.box("INBOX").mail), new.verbs().count("SELECT")) == (20, 1)
    assert new.verbs().count("APPEND") <= 6, "they were not halved"
    assert "\\Draft (20)" in said


@pytest.mark.parametrize("said", [b"BAD unknown systemflag", b"NO [CANNOT] no flags here", b"BAD [CLIENTBUG] flags"])
@pytest.mark.parametrize("permanent", [[], [b"\\*"], SYSTEM])
def test_i146_i147_a_message_is_never_lost_for_a_flag(
    tmp_path: Path, peers: Peers, said: bytes, permanent: list[bytes]
) -> None:
    """The server says that it takes flags, or nothing of them, and then refuses every one."""
    old, new = peers
    old.box("INBOX").add(mail(1), flags=[b"\\Draft"])
    old.box("INBOX").add(mail(2), flags=[*SYSTEM, b"$Work"])
    old.box("INBOX").add(mail(3))
    new.box("INBOX").permanent = permanent
    new.on["APPEND"] = refuses(*SYSTEM, b"$Work", said=said)
    bench = between(tmp_path, peers)
    code, noted = notes(bench)
    assert code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == [mail(1), mail(2), mail(3)]
    assert [one.flags for one in new.box("INBOX").mail] == [[], [], []]
    assert "\\Draft (2)" in noted
    assert "$Work (1)" in noted
    assert bench.run().delivered == {}


def test_i147_a_list_without_system_flags_tells_nothing_of_them(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), flags=[*SYSTEM, b"$Work"])
    new.box("INBOX").permanent = [b"$Work"]
    code, said = notes(between(tmp_path, peers))
    assert code is ExitCode.DONE
    assert set(new.box("INBOX").mail[0].flags) == {*SYSTEM, b"$Work"}
    assert "stayed behind" not in said


def test_a_message_that_is_refused_whatever_its_flags_waits(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), mail(2), flags=[b"\\Seen", b"$Work"])
    new.box("INBOX").permanent = [b"\\*"]
    new.takes = lambda group: b"not this one" if mail(1) in group else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.WAITING
    assert octets(new.box("INBOX").mail) == [mail(2)]
    assert set(new.box("INBOX").mail[0].flags) == {b"\\Seen", b"$Work"}, "it was not to blame"
    [reason] = bench.reasons()
    assert "not this one" in reason


# --- contents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"BAD [CLIENTBUG] APPEND Bad arguments", b"NO no such thing"])
def test_i91_a_message_without_a_last_line_end_is_sent_with_one(tmp_path: Path, peers: Peers, said: bytes) -> None:
    """Yahoo says BAD [CLIENTBUG]."""
    old, new = peers
    ragged = mail(1).removesuffix(b"\r\n")
    old.box("INBOX").add(ragged, mail(2), flags=[b"\\Seen"])

    def answer(arguments: list[Word]) -> bytes | None:
        sent = [it for it in arguments if isinstance(it, bytes) and it.startswith(b"Subject")]
        return None if all(it.endswith(b"\r\n") for it in sent) else b"<tag> %b\r\n" % said

    new.on["APPEND"] = answer
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == [mail(1), mail(2)]
    assert [one.flags for one in new.box("INBOX").mail] == [[b"\\Seen"]] * 2, "they were not to blame"
    assert sorted("altered by us" in hint for hint in bench.receipts()) == [False, True]
    assert bench.run().delivered == {}


# --- mailboxes -------------------------------------------------------------------------------------------------------


def test_i124_mailboxes_are_made_level_by_level(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    deep = ["a/b/c/d", "a/b/x", "Sent/2019/May"]
    for number, name in enumerate(deep):
        old.box(name).add(mail(number))

    def create(arguments: list[Word]) -> bytes | None:
        above = flat(arguments[0])[0].rpartition(b"/")[0]
        return b"<tag> NO no mailbox above it\r\n" if above and above not in new.boxes else None

    new.on["CREATE"] = create
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert [octets(new.box(name).mail) for name in deep] == [[mail(0)], [mail(1)], [mail(2)]]
    assert not new.box("a/b").mail


def test_a_mailbox_that_is_refused_is_asked_for_once_in_a_run(tmp_path: Path, peers: Peers) -> None:
    """Whatever its messages are, each of which waits with the reason. So is one of which STATUS tells nothing."""
    old, new = peers
    old.box("No").add(*map(mail, range(40)))
    old.box("Mute").add(*map(mail, range(40, 80)))
    old.box("INBOX").add(mail(80))
    new.replies |= {"CREATE No": b"<tag> NO [CANNOT] not this one\r\n", "SELECT Mute": b"<tag> NO not that one\r\n"}
    new.on["STATUS"] = lambda arguments: b"<tag> NO not that one\r\n" if flat(arguments[0]) == [b"Mute"] else None
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert octets(new.box("INBOX").mail) == [mail(80)]
    assert sorted("not this one" in reason for reason in bench.reasons()) == [False] * 40 + [True] * 40
    assert new.commands.count("CREATE No") == 2, "in the flight of all, and by itself"
    assert new.commands.count("SELECT Mute") == 2


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (b"[CANNOT] no", "name another path for it"),
        (b"no", "name another path for it"),
        (b"[INUSE] busy", "it is tried again later"),
        (b"[OVERQUOTA] so many mailboxes", "make room in the account"),
    ],
)
def test_why_a_mailbox_is_not_made_is_told_with_advice(tmp_path: Path, peers: Peers, said: bytes, advice: str) -> None:
    old, new = peers
    old.box("No").add(mail(1))
    new.replies["CREATE"] = b"<tag> NO %b\r\n" % said
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    [reason] = bench.reasons()
    assert advice in reason


@pytest.mark.parametrize("verb", ["CREATE", "STATUS"])
@pytest.mark.parametrize("said", [b"[THROTTLED] slow", b"Request is throttled. Suggested Backoff Time: 600000 ms"])
def test_a_throttle_before_the_first_message_suspends_the_account(
    tmp_path: Path, peers: Peers, verb: str, said: bytes
) -> None:
    old, new = peers
    old.box("A").add(mail(1))
    new.replies[verb] = b"<tag> NO %b\r\n" % said
    bench = between(tmp_path, peers)
    report = bench.run()
    assert (report.exit_code, [*report.suspended]) == (ExitCode.TEMPORARY, ["new"])
    before = new.connections
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert new.connections == before, "it is not contacted"


def test_i41_mailboxes_that_the_server_does_not_tell_apart_do_not_become_one(tmp_path: Path, peers: Peers) -> None:
    """Exchange and Gmail take names that differ in nothing but case for one; only what CREATE says shows that."""
    old, new = peers
    new.folds_case = True
    old.box("Foo").add(mail(1))
    old.box("foo").add(mail(2))
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    [reason] = bench.reasons()
    assert "no mailbox “foo” beside “Foo”" in reason
    old.box("foo").add(mail(3))
    bench.run()
    assert octets(new.box("Foo").mail) == [mail(1)], "also in a run that has nothing new for the other one"
    bench = between(tmp_path, peers, map='{ "Foo" = "Foo", "foo" = "Foo" }')
    call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])  # what was put aside waits for its time
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Foo").mail) == [mail(1), mail(2), mail(3)], "joined on purpose"


def test_a_name_in_another_case_is_the_mailbox_where_it_is_the_only_one(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    new.folds_case = True
    new.box("Sent Items")
    old.box("Sent items").add(mail(1))
    assert between(tmp_path, peers).run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent Items").mail) == [mail(1)]


def test_mailboxes_that_are_there_are_subscribed_to_once(tmp_path: Path, peers: Peers) -> None:
    """The owner may unsubscribe later, and no run undoes that."""
    old, new = peers
    for number, name in enumerate(("INBOX", "Sent", "Quiet", "Later", "Empty")):
        old.box(name, subscribed=name != "Quiet").add(*([] if name == "Empty" else [mail(number)]))
    for name in ("INBOX", "Sent", "Quiet"):
        new.box(name).subscribed = False
    new.box("Sent").add(mail(9))
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert subscribed(new) == {"INBOX", "Sent", "Later", "Empty"}
    for name in ("INBOX", "Sent", "Later", "Empty"):
        new.box(name).subscribed = False
        old.box(name).add(*([] if name == "Empty" else [mail(7)]))
    new.box("Quiet").subscribed = True
    assert bench.run().delivered == {"new": 3}
    assert subscribed(new) == {"Quiet"}


@pytest.mark.parametrize("inside", [BARE, EXTENDED, MULTI])
@pytest.mark.parametrize("job", ["move", "back"])
def test_a_mailbox_is_subscribed_to_though_the_run_ended_in_between(
    tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch, inside: tuple[str, ...], job: str
) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)
    old, new = peers
    old.box("Sent/2019").add(mail(1))
    old.box("Quiet", subscribed=False).add(mail(2))
    bench = between(tmp_path, peers)
    if job == "back":
        assert bench.run("keep").exit_code is ExitCode.DONE
    new.inside = inside
    new.hangs_up_on = {"SUBSCRIBE Sent/2019"}
    bench.run(job)
    assert not new.box("Sent/2019").subscribed
    new.hangs_up_on = set()
    call(["retry", job, "--config", str(tmp_path / "syncd.toml")])  # what was put aside waits for its time
    codes = [bench.run(job).exit_code for _ in range(2)]
    assert codes[-1] is ExitCode.DONE
    assert subscribed(new) == {"INBOX", "Sent/2019"}
    assert octets(new.box("Sent/2019").mail) == [mail(1)]


def subscribed(server: FakeImap) -> set[str]:
    return {name.decode() for name, box in server.boxes.items() if box.subscribed}


# --- nothing to deliver ----------------------------------------------------------------------------------------------


def test_i155_an_empty_message_is_skipped_and_told(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1), b"", mail(2), b"")
    bench = between(tmp_path, peers)
    code, said = notes(bench)
    assert code is ExitCode.DONE
    assert octets(new.box("INBOX").mail) == [mail(1), mail(2)]
    assert "messages without any octets are left out, as no IMAP server takes them: 2" in said
    again = bench.run()
    assert (again.exit_code, again.fetched, again.delivered) == (ExitCode.DONE, 0, {})
    assert not bench.reasons()


def test_i155_an_empty_message_is_not_removed_at_the_source(tmp_path: Path, peers: Peers) -> None:
    """No destination has it, so it must stay."""
    old, new = peers
    old.box("INBOX").add(mail(1), b"")
    old_login, new_login = ((peer.host, peer.port, USERNAME) for peer in peers)
    bench = Bench(tmp_path, old_login, new_login, job='mode = "move"\nconfirm_removal = true\n')
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("INBOX").mail) == [mail(1)]
    assert octets(old.box("INBOX").mail) == [b""]


# --- flags and dates -------------------------------------------------------------------------------------------------


def test_i83_i149_flags_and_dates_that_the_server_did_not_keep_are_told(tmp_path: Path, peers: Peers) -> None:
    """GNU mailutils keeps neither. Messages that are read back show it."""
    old, new = peers
    odd = [mail(number).replace(b"Subject", b"Status: R\r\nSubject") for number in range(4)]
    old.box("INBOX").add(odd[0], odd[1], flags=[b"\\Seen"])
    old.box("INBOX").add(odd[2], mail(9))
    old.box("Kept").add(odd[3], flags=[b"\\Seen"])

    def forget(_: list[Word]) -> None:
        for one in new.box("INBOX").mail:
            one.flags, one.date = [b"\\Recent"], b"02-Jan-2026 00:00:00 +0000"

    new.on["EXAMINE"] = forget
    code, said = notes(between(tmp_path, peers))
    assert code is ExitCode.DONE
    assert "did not keep, with so many of the messages that were read back: flags (2), dates (3)" in said


def test_i83_nothing_is_told_of_a_server_that_keeps_flags_and_dates(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(mail(1).replace(b"Subject", b"Status: R\r\nSubject"), flags=[b"\\Seen"])
    _, said = notes(between(tmp_path, peers))
    assert any(command.startswith("UID FETCH") for command in new.commands)
    assert "did not keep" not in said


def test_i149_one_message_of_each_mailbox_is_looked_at_where_no_uids_are_told(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    new.inside = BARE
    old.box("INBOX").add(*map(mail, range(5)), flags=[b"\\Seen"])
    bench = between(tmp_path, peers)
    seconds = iter(range(100))

    def forget(_: list[Word]) -> None:
        for one in new.box("INBOX").mail:
            one.flags = []

    def grow(_: list[Word]) -> None:
        """UIDs do not follow from UIDNEXT."""
        new.box("INBOX").next += next(seconds) > 0

    new.on.update({"EXAMINE": forget, "STATUS": grow})
    code, said = notes(bench)
    assert code is ExitCode.DONE
    assert sorted(octets(new.box("INBOX").mail)) == [mail(number) for number in range(5)]
    assert "did not keep, with so many of the messages that were read back: flags (1)" in said


def test_a_mailbox_that_was_made_by_another_name_is_named_with_what_to_do(tmp_path: Path, peers: Peers) -> None:
    """The server keeps no colon. It was said only that it "does not open a mailbox"."""
    old, new = peers
    old.box("INBOX").add(mail(1))
    old.box("a:b").add(mail(2))

    def make(arguments: list[Word]) -> bytes | None:
        if flat(arguments[0]) != [b"a:b"]:
            return None
        new.box("a-b")
        return b"<tag> OK made\r\n"

    new.on["CREATE"] = make
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert octets(new.box("INBOX").mail) == [mail(1)]
    [reason] = bench.reasons()
    assert reason.startswith("mailbox a:b at the destination: ")
    assert "name another path for it in `map`" in reason
    old.box("INBOX").add(mail(3))
    mended = between(tmp_path, peers, map='{ "a:b" = "a-b" }')
    assert mended.run().exit_code is ExitCode.TEMPORARY, "its time has not come"
    assert call(["--config", str(tmp_path / "syncd.toml"), "retry", "move"]) == 0
    assert mended.run().exit_code is ExitCode.DONE
    assert octets(new.box("a-b").mail) == [mail(2)]
