"""A mailbox is open while it takes many messages, each with an APPEND of its own; against a scripted server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from syncd.destinations.imap.account import MANY, ImapAccount, ImapAccountOptions
from syncd.destinations.imap.ask import uid_in
from syncd.destinations.imap.route import ImapDestination
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.mail.outcome import Verdict
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_words import Word

UIDPLUS = ("IMAP4rev1", "LITERAL+", "UIDPLUS", "UNSELECT")
INBOX = Origin(UUID(int=1), "old", b"INBOX", Epoch(1), ("INBOX",))
LEFT = ["EXAMINE", "CLOSE"]
THEIRS = b"Subject: of its user\r\n\r\nmarked, and not to be removed by us\r\n"


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.box("INBOX").add(THEIRS, flags=[b"\\Deleted"])
        yield server
        assert not server.violations
        assert server.box("INBOX").mail[0].octets == THEIRS


@pytest.fixture
def account(server: FakeImap, tmp_path: Path) -> Iterator[ImapAccount]:
    with closing(ImapAccount(options(server, tmp_path))) as account:
        yield account


def options(server: FakeImap, spool: Path) -> ImapAccountOptions:
    password = lambda: Secret(PASSWORD)  # noqa: E731
    endpoint = Endpoint(server.host, server.port, "none", USERNAME, password=password, allow_insecure=True)
    return ImapAccountOptions(endpoint, spool)


def letters(first: int, count: int, text: bytes = b"hello\r\n") -> list[Message]:
    """So many messages, with keys from `first` on."""
    bodies = [b"Subject: %d\r\n\r\n%b" % (number, text) for number in range(first, first + count)]
    refs = [MessageRef(INBOX, Uid(b"%d" % number), 1) for number in range(first, first + count)]
    return [Message(Key(first + at), refs[at], Body.of(bodies[at]), ()) for at in range(count)]


def delivered(account: ImapAccount, messages: list[Message]) -> int:
    outcomes = [one for group in ImapDestination(account).deliver(messages) for one in group]
    receipts = {one.receipt.hint for one in outcomes if one.verdict is Verdict.DELIVERED and one.receipt is not None}
    return len(receipts)


def order(server: FakeImap) -> list[str]:
    """The verbs that the server was given since sign-in; of several that are equal and in a row the first."""
    verbs = server.verbs()
    verbs = verbs[verbs.index("STATUS") :]
    return [verb for at, verb in enumerate(verbs) if at == 0 or verbs[at - 1] != verb]


@pytest.mark.parametrize("announced", [UIDPLUS, BARE, ("IMAP4rev1", "LITERAL+")])
def test_it_is_opened_for_many_and_left_at_once(
    server: FakeImap, account: ImapAccount, announced: tuple[str, ...]
) -> None:
    """Without UNSELECT it is opened for reading before CLOSE, also where no answer has come yet.

    Where no UIDs are told, SELECT tells how many have come.
    """
    server.inside = announced
    for batch in range(3):
        assert delivered(account, letters(batch * MANY, MANY)) == MANY
    account.client().noop().wait()
    batch_told, batch_untold = ["SELECT", "APPEND", "UNSELECT"], ["STATUS", "SELECT", "APPEND", "SELECT", *LEFT]
    expected = ["STATUS", *batch_told * 3] if announced is UIDPLUS else batch_untold * 3
    assert order(server) == [*expected, "NOOP"]
    assert [mail.uid for mail in server.box("INBOX").mail] == list(range(1, 3 * MANY + 2))


def test_a_few_messages_leave_the_mark_of_new_mail_alone(server: FakeImap, account: ImapAccount) -> None:
    server.inside = UIDPLUS
    assert delivered(account, letters(0, MANY - 1)) == MANY - 1
    assert order(server) == ["STATUS", "APPEND"]


def test_it_is_not_opened_where_a_command_takes_many(server: FakeImap, account: ImapAccount) -> None:
    server.inside = (*EXTENDED, "MULTIAPPEND")
    assert delivered(account, letters(0, 2 * MANY)) == 2 * MANY
    assert order(server) == ["STATUS", "APPEND"]


def test_one_that_is_not_opened_takes_mail_all_the_same(server: FakeImap, account: ImapAccount) -> None:
    server.inside = BARE
    server.replies["SELECT INBOX"] = server.replies["EXAMINE INBOX"] = b"<tag> NO [NOPERM] not for you\r\n"
    assert delivered(account, letters(0, MANY)) == MANY
    assert len(server.box("INBOX").mail) == MANY + 1


@pytest.mark.parametrize("answer", [b"BAD Request is throttled", b"NO [SERVERBUG] not now"])
@pytest.mark.parametrize("announced", [BARE, ("IMAP4rev1", "LITERAL+", "UIDPLUS")])
def test_it_is_not_closed_unless_it_was_opened_for_reading(
    server: FakeImap, account: ImapAccount, announced: tuple[str, ...], answer: bytes
) -> None:
    """This server keeps it open for writing after a no to EXAMINE: CLOSE removed what its user had marked."""
    server.inside = announced
    server.replies["EXAMINE INBOX"] = b"<tag> %b\r\n" % answer
    for batch in range(2):
        assert delivered(account, letters(batch * MANY, MANY)) == MANY
    assert len(server.box("INBOX").mail) == 2 * MANY + 1
    assert "CLOSE" not in server.verbs()


def test_a_connection_that_is_lost_as_it_is_left_is_made_again(server: FakeImap, account: ImapAccount) -> None:
    """All messages are answered by then, so nothing is to be looked for."""
    server.inside = ("IMAP4rev1", "UIDPLUS")
    server.hangs_up_on = {"EXAMINE INBOX"}
    for batch in range(2):
        assert delivered(account, letters(batch * MANY, MANY)) == MANY
    assert server.connections == 2


@pytest.mark.parametrize("announced", [UIDPLUS, ("IMAP4rev1", "UIDPLUS")])
def test_one_command_at_a_time_keeps_their_order(server: FakeImap, tmp_path: Path, announced: tuple[str, ...]) -> None:
    """APPEND overtook what was queued before it: it came to Courier while the mailbox was open for reading (I137)."""
    server.inside = announced
    server.on["APPEND"] = lambda _: None if order(server)[-2:] == ["SELECT", "APPEND"] else b"<tag> NO not open\r\n"
    with closing(ImapAccount(replace(options(server, tmp_path), pipelining=False))) as account:
        for batch in range(3):
            assert delivered(account, letters(batch * MANY, MANY)) == MANY


@pytest.mark.parametrize("count", [MANY, 3])
def test_somebody_else_puts_mail_there_between_two_batches(server: FakeImap, account: ImapAccount, count: int) -> None:
    """Nobody tells UIDs, so how many came tells which are whose: here they could not be told by what is in them."""
    server.inside = BARE
    server.alters = lambda octets: b"X-Added: by the server\r\n" + octets
    for batch in range(3):
        assert delivered(account, letters(batch * count, count)) == count
        server.box("INBOX").add(THEIRS, b"Subject: other\r\n\r\n")
    assert "UID FETCH" not in server.verbs()


def test_somebody_else_puts_mail_there_amid_a_batch(server: FakeImap, account: ImapAccount) -> None:
    """Where that fails, they are looked for."""

    def comes(usual: bytes, _: object) -> bytes:
        server.box("INBOX").add(THEIRS)
        return usual

    server.inside = BARE
    server.after["SELECT"] = comes  # before the messages, and behind them
    assert delivered(account, letters(0, MANY)) == MANY
    assert delivered(account, letters(MANY, 1)) == 1
    assert len(server.box("INBOX").mail) == MANY + 4


@pytest.mark.parametrize("answer", ["no UIDNEXT", "another UIDVALIDITY", "what was there before", "no"])
def test_select_does_not_tell_what_has_come(server: FakeImap, account: ImapAccount, answer: str) -> None:
    """Then STATUS does, for which it is left; from there on SELECT is not asked again (I48, I56, I140)."""

    def answered(usual: bytes, _: object) -> bytes:
        if answer == "no":
            no = usual.splitlines()[-1].split()[0] + b" NO [SERVERBUG] not again\r\n"
            return no if "APPEND" in server.verbs() else usual
        if answer == "another UIDVALIDITY":
            return usual.replace(b"[UIDVALIDITY 1]", b"[UIDVALIDITY 7]")
        number = b"" if answer == "no UIDNEXT" else b"* OK [UIDNEXT 2] before\r\n"
        return re.sub(rb"\* OK \[UIDNEXT[^\r]*\r\n", number, usual)

    server.inside = BARE
    server.after["SELECT"] = answered
    for batch in range(3):
        assert delivered(account, letters(batch * MANY, MANY)) == MANY
    assert len(server.box("INBOX").mail) == 3 * MANY + 1
    assert "UID FETCH" not in server.verbs()
    assert server.verbs().count("SELECT") == 4


def test_select_is_not_asked_again_where_all_messages_are_read_back(server: FakeImap, account: ImapAccount) -> None:
    """None of them was told as delivered before that, which was taken for a STATUS that does not tell either."""
    server.inside = BARE
    server.after["SELECT"] = lambda usual, _: re.sub(rb"\* OK \[UIDNEXT[^\r]*\r\n", b"", usual)
    for batch in range(3):
        assert delivered(account, letters(batch * MANY, MANY, b"no line end at the end")) == MANY
    assert server.verbs().count("SELECT") == 4


def test_uids_that_are_told_of_some_messages_only(server: FakeImap, account: ImapAccount) -> None:
    """The first is not told, the second is, and a stranger's comes behind it: UIDNEXT has grown by the right number."""
    server.inside = BARE
    box, taken = server.box("INBOX"), 0

    def told(usual: bytes, _: object) -> bytes:
        nonlocal taken
        taken += 1
        return usual.replace(b" OK ", b" OK [APPENDUID %d %d] " % (box.validity, box.next - 1)) if taken == 2 else usual

    def comes(arguments: list[Word]) -> None:
        del arguments
        if taken == 2:
            box.add(THEIRS)

    server.after["APPEND"], server.on["APPEND"] = told, comes
    messages = letters(0, 4)
    outcomes = [one for group in ImapDestination(account).deliver(messages) for one in group]
    where = {mail.octets: mail.uid for mail in box.mail}
    found = {it.key: uid_in(it.receipt.hint) for it in outcomes if it.receipt is not None and it.receipt.hint}
    assert found == {one.key: where[one.body.data] for one in messages if one.body.data is not None}
