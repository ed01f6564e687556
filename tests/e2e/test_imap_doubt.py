"""Into an IMAP account whose server tells too little, or refuses one mailbox: nothing is doubled, others go on."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from syncd.cli.main import call
from syncd.db.models import uncertain_outcomes
from syncd.engine.exit_codes import ExitCode
from syncd.services.wiring import open_ledger
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, FakeImap
from tests.fakes.imap_store import row
from tests.fakes.imap_words import Word, flat

Peers = tuple[FakeImap, FakeImap]
Change = Callable[[bytes, list[Word]], bytes]


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        yield old, new
        assert not new.violations


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", PASSWORD)


def no(answer: bytes, text: bytes) -> bytes:
    return answer.rpartition(b"\r\n")[0].rpartition(b"\r\n")[2].partition(b" ")[0] + b" NO " + text + b"\r\n"


def for_aaa(reply: bytes) -> Callable[[list[Word]], bytes | None]:
    return lambda words: reply if flat(words[0]) == [b"Aaa"] else None


def counted(box: list[bytes]) -> dict[bytes, int]:
    return {one: number for one, number in Counter(box).items() if number != 1}


def recorded(bench: Bench) -> int:
    """How many outcomes were recorded as uncertain."""
    with open_ledger(bench.loaded()) as database, database.read() as connection:
        return connection.execute(select(func.count()).select_from(uncertain_outcomes)).scalar() or 0


def at(number: int, then: Callable[[bytes], bytes]) -> Change:
    """Changes the reply to the command that is the one of this number, from 0 on; hangs up where `then` raises."""
    numbers = itertools.count()
    return lambda answer, _: then(answer) if next(numbers) == number else answer


def lose(_: bytes) -> bytes:
    raise ConnectionError("lost, as the script says")


# --- what was on its way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["line ends", "wrong sizes"])
def test_a_copy_stands_for_none_of_several_messages_with_its_header(tmp_path: Path, peers: Peers, why: str) -> None:
    """The first is refused for now, the second is stored, and then the session is lost."""
    old, new = peers
    new.inside = EXTENDED
    end = b"\n" if why == "line ends" else b"\r\n"
    one, two = (b"Subject: report\r\n\r\n%b%b" % (word, end) for word in (b"one one one", b"two two two two"))
    old.box("INBOX").add(one, two)
    new.alters = lambda text: re.sub(rb"\r?\n", b"\r\n", text)
    numbers = itertools.count()

    def second(answer: bytes, _: list[Word]) -> bytes:
        for stored in new.box("INBOX").mail if why == "wrong sizes" else ():
            stored.listed = len(stored.octets) + 7
        return lose(answer) if next(numbers) == 0 else answer

    calls = itertools.count()
    new.on["APPEND"] = lambda _: b"<tag> NO [UNAVAILABLE] later\r\n" if next(calls) == 0 else None
    new.after["APPEND"] = second
    bench = between(tmp_path, peers)
    for _ in range(3):
        bench.run()
    there = octets(new.box("INBOX").mail)
    assert {text.split()[2] for text in there} == {b"one", b"two"}, "none is missing"
    assert len(there) - 2 <= recorded(bench), "and one that is there twice was recorded as perhaps there"


def test_a_uidnext_that_is_not_told_or_fell_is_no_sign_of_absence(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    new.inside = EXTENDED
    old.box("INBOX").add(*map(mail, range(3)))
    new.after["EXAMINE"] = lambda answer, _: re.sub(rb"\* OK \[UIDNEXT[^\r]*\r\n", b"", answer)
    new.on["UID FETCH"] = lambda words: b"<tag> OK\r\n" if b"RFC822.SIZE" in flat(words[1]) else None
    new.after["APPEND"] = at(2, lose)
    bench = between(tmp_path, peers)
    bench.run()
    bench.run()
    assert len(new.box("INBOX").mail) - 3 <= recorded(bench)
    assert not set(map(mail, range(3))) - set(octets(new.box("INBOX").mail))


def test_uidnext_fell_after_a_restore(tmp_path: Path, peers: Peers) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(3)))
    box = new.box("INBOX")
    box.add(*map(mail, range(50, 60)))

    def restored(_: list[Word]) -> None:
        if box.next == 11:
            box.mail, box.next = box.mail[:4], 5

    new.on["APPEND"] = restored
    new.after["APPEND"] = at(0, lose)
    bench = between(tmp_path, peers)
    bench.run()
    bench.run()
    assert len(box.mail) - 4 - 3 <= recorded(bench)


# --- no, although it was stored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["without UIDNEXT", "refused"])
def test_a_no_is_looked_into_where_status_tells_nothing(tmp_path: Path, peers: Peers, status: str) -> None:
    old, new = peers
    old.box("Aaa").add(*map(mail, range(20)))
    new.box("Aaa")

    def answer(usual: bytes, _: list[Word]) -> bytes:
        if "APPEND" not in new.verbs():
            return usual
        return re.sub(rb" ?UIDNEXT \d+", b"", usual) if status == "without UIDNEXT" else no(usual, b"[INUSE] busy")

    new.after["STATUS"] = answer
    new.after["APPEND"] = at(0, lambda usual: no(usual, b"timeout"))
    bench = between(tmp_path, peers)
    bench.run()
    bench.run()
    assert counted(octets(new.box("Aaa").mail)) == {}
    assert len(new.box("Aaa").mail) == (10 if status == "refused" else 20), "nothing more goes there while it is"


@pytest.mark.parametrize("how", ["altered", "not shown"])
def test_each_copy_after_a_no_was_recorded_as_perhaps_there(tmp_path: Path, peers: Peers, how: str) -> None:
    old, new = peers
    old.box("Aaa").add(*(mail(number).replace(b"Subject", b"X-\xe4: x\r\nSubject") for number in range(12)))
    new.box("Aaa")
    if how == "altered":
        new.alters = lambda text: text.replace(b"\xe4", b"X")
    else:
        new.on["UID FETCH"] = lambda _: b"<tag> OK\r\n"
    new.after["APPEND"] = lambda usual, _: no(usual, b"timeout")
    bench = between(tmp_path, peers)
    for _ in range(3):
        bench.run()
        assert len(new.box("Aaa").mail) <= 12 + recorded(bench)
        call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])


def test_a_stranger_s_message_makes_no_refused_group_uncertain(tmp_path: Path, peers: Peers) -> None:
    """It came while 100 messages were in flight together, one of which the server refuses in words of its own."""
    old, new = peers
    old.box("INBOX").add(*map(mail, range(100)))
    arrivals = itertools.count()

    def arrive(words: list[Word]) -> None:
        if mail(50) in words and next(arrivals) == 0:
            new.box("INBOX").add(mail(777))

    new.on["APPEND"] = arrive
    new.takes = lambda group: b"not today" if mail(50) in group else None
    bench = between(tmp_path, peers)
    bench.run()
    assert not set(map(mail, range(100))) - {mail(50)} - set(octets(new.box("INBOX").mail))
    assert recorded(bench) <= 1


def test_a_listing_that_lacks_messages_does_not_show_what_is_there(tmp_path: Path, peers: Peers) -> None:
    """With `skip_existing`: four of six messages were copied once more."""
    old, new = peers
    for server in peers:
        server.box("Aaa").add(*map(mail, range(6)))
    old.box("Bbb").add(mail(7))
    box = new.box("Aaa")

    opened: list[Word] = []
    new.on["EXAMINE"] = lambda words: opened.append(words[0])

    def some(words: list[Word]) -> bytes | None:
        if b"RFC822.SIZE" not in flat(words[1]) or opened[-1] != b"Aaa":
            return None
        rows = [row(number, one, words[1]) for number, one in enumerate(box.mail[:2], 1)]
        return b"".join(rows if words[0] == b"1:4294967295" else []) + b"<tag> OK\r\n"

    new.on["UID FETCH"] = some
    bench = between(tmp_path, peers, skip_existing="true")
    report = bench.run()
    assert (report.exit_code, len(box.mail), len(new.box("Bbb").mail)) == (ExitCode.TEMPORARY, 6, 1)
    assert all("counts 6 messages and shows 2" in reason for reason in bench.reasons())
    new.on.clear()
    call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])
    assert (bench.run().exit_code, len(box.mail)) == (ExitCode.DONE, 6)


def test_a_message_is_not_compared_with_one_of_a_mailbox_that_was_made_again(tmp_path: Path, peers: Peers) -> None:
    """It was at risk, and is read back by its UID, which names a stranger's message by then."""
    old, new = peers
    old.box("Aaa").add(mail(1).replace(b"Subject", b"Status: R\r\nSubject"))
    box = new.box("Aaa")

    def made_again(_: list[Word]) -> None:
        if box.validity < 9 and box.mail:
            box.mail, box.validity, box.next = [], 9, 1
            box.add(mail(55))

    new.on["EXAMINE"] = made_again
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    assert not any("altered" in receipt for receipt in bench.receipts())


# --- one mailbox is refused, the others go on ------------------------------------------------------------------------


@pytest.fixture
def two(peers: Peers) -> Peers:
    """Mail with a keyword, and at risk, for two mailboxes that are there."""
    old, new = peers
    for name in ("Aaa", "Bbb"):
        old.box(name).add(mail(1).replace(b"Subject", b"Status: R\r\nSubject"), mail(2), flags=[b"$Work"])
        new.box(name)
    return peers


@pytest.mark.parametrize("reply", [b"<tag> NO [NOPERM] not for you\r\n", b"<tag> BAD invalid mailbox\r\n"])
@pytest.mark.parametrize("options", [{}, {"skip_existing": "true"}])
def test_a_mailbox_that_is_not_opened_holds_up_no_other(
    tmp_path: Path, two: Peers, reply: bytes, options: dict[str, str]
) -> None:
    """It may take mail all the same, as a folder does that one may only put mail into."""
    _, new = two
    new.on["SELECT"] = new.on["EXAMINE"] = for_aaa(reply)
    bench = between(tmp_path, two, **options)
    bench.run()
    assert len(new.box("Bbb").mail) == 2
    put = 0 if options else 2  # what has to be looked for waits
    assert len(new.box("Aaa").mail) == put
    bench.run()
    assert len(new.box("Aaa").mail) == put


@pytest.mark.parametrize("how", ["not opened", "gone, without a code", "a stranger's message is not given"])
def test_what_cannot_be_asked_for_now_waits_and_holds_up_no_other(tmp_path: Path, two: Peers, how: str) -> None:
    _, new = two
    lost = itertools.count()

    def append(words: list[Word]) -> None:
        if flat(words[0]) != [b"Aaa"] or next(lost):
            return
        if how == "gone, without a code":
            del new.boxes[b"Aaa"]
        elif how != "not opened":
            new.box("Aaa").add(mail(77))
            new.refuses = {1}
        lose(b"")

    new.on["APPEND"] = append
    if how != "a stranger's message is not given":
        new.on["EXAMINE"] = for_aaa(b"<tag> NO Unable to open this mailbox.\r\n")
    bench = between(tmp_path, two)
    for _ in range(2):
        bench.run()
        assert len(new.box("Bbb").mail) == 2
        aaa = octets(new.boxes[b"Aaa"].mail) if b"Aaa" in new.boxes else []
        assert not set(aaa) & {mail(2)} or how == "gone, without a code", "it may be there"
    new.on.clear()
    new.refuses = set()
    bench.run()
    bench.run()
    assert octets(new.box("Aaa").mail)[-2:] == octets(new.box("Bbb").mail)


def test_a_person_may_give_up_waiting_for_a_mailbox_that_does_not_tell(tmp_path: Path, two: Peers) -> None:
    _, new = two
    lost = itertools.count()
    new.after["APPEND"] = lambda answer, words: lose(answer) if words[0] == b"Aaa" and next(lost) == 0 else answer
    new.on["EXAMINE"] = for_aaa(b"<tag> NO [NOPERM] not for you\r\n")
    bench = between(tmp_path, two)
    for _ in range(2):
        assert bench.run().exit_code is ExitCode.TEMPORARY
    there = len(new.box("Aaa").mail)
    for number in ("1", "2"):
        call(["retry", "move", number, "--config", str(tmp_path / "syncd.toml")])
    bench.run()
    assert there < len(new.box("Aaa").mail) <= there + recorded(bench)


@pytest.mark.parametrize("reply", [b"[NOPERM] not for you", b"[READ-ONLY] not for you"])
def test_a_mailbox_that_takes_no_mail_is_tried_once_in_a_run(tmp_path: Path, peers: Peers, reply: bytes) -> None:
    old, new = peers
    old.box("Aaa").add(*map(mail, range(250)))
    old.box("Bbb").add(*map(mail, range(300, 303)))
    new.on["APPEND"] = for_aaa(b"<tag> NO " + reply + b"\r\n")
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert len(new.box("Bbb").mail) == 3
    assert new.verbs().count("APPEND") <= 250 // 100 + 2 + 100, "at most the batch that was on its way"
    new.on.clear()
    call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])
    assert bench.run().exit_code is ExitCode.DONE
    assert counted(octets(new.box("Aaa").mail)) == {}
    assert len(new.box("Aaa").mail) == 250


@pytest.mark.parametrize("how", ["told", "refused"])
def test_the_quota_of_one_mailbox_is_not_the_account_s(tmp_path: Path, peers: Peers, how: str) -> None:
    """Cyrus gives a mailbox a quota root of its own."""
    old, new = peers
    new.inside = (*MULTI, "QUOTA")
    for name in ("Aaa", "Bbb"):
        old.box(name).add(*map(mail, range(5)))
        new.box(name)

    def quota(words: list[Word]) -> bytes:
        [name] = flat(words[0])
        used = 1000 if how == "told" and name == b"Aaa" else 10
        return b'* QUOTAROOT "%b" "%b"\r\n* QUOTA "%b" (STORAGE %d 1000)\r\n<tag> OK\r\n' % (name, name, name, used)

    new.on["GETQUOTAROOT"] = quota
    new.on["APPEND"] = for_aaa(b"<tag> NO [OVERQUOTA] full\r\n")
    bench = between(tmp_path, peers)
    report = bench.run()
    assert (report.suspended, len(new.box("Bbb").mail)) == ({}, 5)
    assert len(bench.reasons()) == 5


@pytest.mark.parametrize("announced", [BARE, EXTENDED, MULTI])
@pytest.mark.parametrize("connections", [1, 3])
def test_a_message_at_which_the_server_hangs_up_holds_up_no_other(
    tmp_path: Path, peers: Peers, announced: tuple[str, ...], connections: int
) -> None:
    old, new = peers
    new.inside = announced
    old.box("Aaa").add(*map(mail, range(20)))
    old.box("Bbb").add(*map(mail, range(30, 33)))
    poison = {mail(5), mail(11)}

    def hang_up(words: list[Word]) -> None:
        if any(isinstance(word, bytes) and word in poison for word in words):
            lose(b"")

    new.on["APPEND"] = hang_up
    bench = between(tmp_path, peers)
    if connections > 1:
        path = tmp_path / "syncd.toml"
        path.write_text(path.read_text().replace("[accounts.new]", f"[accounts.new]\nconnections = {connections}"))
    report = bench.run()
    there = [*octets(new.box("Aaa").mail), *octets(new.box("Bbb").mail)]
    assert sorted(there) == sorted({*map(mail, range(20)), *map(mail, range(30, 33))} - poison)
    assert report.exit_code is ExitCode.TEMPORARY
    assert [reason.partition(",")[0] for reason in bench.reasons()] == [
        "the session ended each time that this message was sent"
    ] * 2
    new.on.clear()
    call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])
    assert bench.run().exit_code is ExitCode.DONE
    assert len(new.box("Aaa").mail) == 20


@pytest.mark.parametrize("others", ["accepted", "rejected"])
def test_such_a_message_alone_in_the_first_mailbox(tmp_path: Path, peers: Peers, others: str) -> None:
    old, new = peers
    old.box("Aaa").add(mail(5))
    old.box("Bbb").add(*map(mail, range(30, 40)))

    def append(words: list[Word]) -> bytes | None:
        if any(word == mail(5) for word in words):
            lose(b"")
        return b"<tag> NO [TOOBIG] too big\r\n" if others == "rejected" else None

    new.on["APPEND"] = append
    bench = between(tmp_path, peers)
    report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    if others == "accepted":
        assert len(new.box("Bbb").mail) == 10
        assert "the session ended each time" in bench.reasons()[0]
    else:
        assert report.errors, "it says why it is not done"


def test_a_quota_of_0_is_none(tmp_path: Path, peers: Peers) -> None:
    """Stalwart has said so of an account without a limit; a server that means it refuses the message itself."""
    old, new = peers
    new.inside = (*MULTI, "QUOTA")
    old.box("INBOX").add(mail(1) + b"x" * 5000 + b"\r\n")
    new.replies["GETQUOTAROOT"] = b'* QUOTAROOT INBOX ""\r\n* QUOTA "" (STORAGE 0 0)\r\n<tag> OK\r\n'
    assert between(tmp_path, peers).run().exit_code is ExitCode.DONE
    assert len(new.box("INBOX").mail) == 1


def test_a_mailbox_that_went_during_the_run_is_made_again_where_words_alone_say_so(
    tmp_path: Path, peers: Peers
) -> None:
    old, new = peers
    old.box("Aaa").add(*map(mail, range(3)))
    new.box("Aaa")
    times = itertools.count()

    def remove(words: list[Word]) -> None:
        if flat(words[0]) == [b"Aaa"] and next(times) == 0:
            del new.boxes[b"Aaa"]

    new.on["APPEND"] = remove
    new.after["APPEND"] = lambda usual, _: usual.replace(b"[TRYCREATE] ", b"")
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.TEMPORARY, "nothing is rejected"
    call(["retry", "move", "--config", str(tmp_path / "syncd.toml")])
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Aaa").mail) == [*map(mail, range(3))]


def test_a_mailbox_that_is_not_opened_where_no_uids_are_told(tmp_path: Path, two: Peers) -> None:
    """Without UIDPLUS a message is looked for; where that is refused, it was taken all the same."""
    _, new = two
    new.inside = BARE
    new.on["EXAMINE"] = for_aaa(b"<tag> NO [NOPERM] not for you\r\n")
    numbers = itertools.count()

    def grow(words: list[Word]) -> None:
        if flat(words[0]) == [b"Aaa"]:
            new.box("Aaa").next += next(numbers) > 0

    new.on["STATUS"] = grow
    bench = between(tmp_path, two)
    for _ in range(2):
        bench.run()
        assert (len(new.box("Aaa").mail), len(new.box("Bbb").mail)) == (2, 2)
