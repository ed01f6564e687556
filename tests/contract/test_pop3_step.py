"""The POP3 source when commands and answers are no longer in step: no message under another's name, and a way on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import combinations
from random import Random

import pytest

from syncd.errors import (
    ConnectionLost,
    LostStep,
    MessageLost,
    MessageRefused,
    RemoteProtocolError,
    Retry,
    SyncdError,
    TimedOut,
    TransportError,
)
from syncd.mail.listing import Listed
from syncd.sources.pop3.account import Pop3Source
from tests.contract.pop3_kit import Plenty, impatient, listed, source, wanted
from tests.fakes.pop3 import CAPABILITIES, FakePop3, stuffed

HEAD = b"Subject: test\r\n\r\n"
ONE_AT_A_TIME = tuple(line for line in CAPABILITIES if line != "PIPELINING")
ANSWERED_S = 1.0  # what is not answered by then is not answered; a busy machine takes half of it


def mail(sizes: list[int]) -> list[bytes]:
    """Messages that differ, with so many octets in their last line."""
    return [HEAD + b"%03d\r\n" % number + b"x" * size + b"\r\n" for number, size in enumerate(sizes, 1)]


def fetch(
    account: Pop3Source,
    got: dict[bytes, bytes],
    failed: dict[bytes, Exception] | None = None,
    *,
    alone: bool = False,
) -> None:
    """A session for what `got` lacks; adds unique-id → octets."""
    session = account.connect()
    try:
        rows = {int(row.number): row for row in listed(session)}
        todo = [row for row in rows.values() if row.uid not in got and row.uid not in (failed or {})]
        for answer in session.fetch(wanted(todo), Plenty(), alone=alone):
            assert answer is not None
            row: Listed = rows[answer.key]
            if answer.body is not None:
                got[row.uid] = b"".join(answer.body.chunks())
            elif failed is not None and answer.error is not None:
                failed[row.uid] = answer.error
        session.finish()
    finally:
        session.close()


def right(server: FakePop3, *but: int) -> dict[bytes, bytes]:
    both = zip(server.uids, server.messages, strict=True)
    return {uid: octets for number, (uid, octets) in enumerate(both, 1) if number not in but}


SIZES = {
    "all differ": [10, 20, 30, 40, 50, 60, 70],
    "all equal": [10] * 7,
    "neighbours equal": [10, 10, 20, 20, 30, 30, 30],
}


@pytest.mark.parametrize("listing", ["right", "too large", "too small"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("number", range(1, 8))
def test_p31_f24_a_swallowed_retr_puts_no_message_under_another_id(number: int, sizes: list[int], listing: str):
    with FakePop3(mail(sizes)) as server:
        if listing != "right":
            octets = 999_999 if listing == "too large" else 0
            server.replies["LIST"] = b"+OK\r\n" + b"".join(b"%d %d\r\n" % (n, octets) for n in range(1, 8)) + b".\r\n"
        server.swallows, server.swallows_in_flights = {f"RETR {number}"}, True
        account = source(server, deadlines=impatient(body=ANSWERED_S, reply=ANSWERED_S))
        got: dict[bytes, bytes] = {}
        with pytest.raises((LostStep, TimedOut)) as caught:
            fetch(account, got)
        assert got.items() <= right(server, number).items()
        if isinstance(caught.value, LostStep):
            assert caught.value.retry is Retry.NOW
            assert "set pipelining = false for this account" in str(caught.value)
            fetch(account, got)  # what it learned outlives the session
        else:  # of the last message alone, nothing shows that it was swallowed and not hard to serve
            assert number == 7
            fetch(account, got, alone=True)
        assert got == right(server)


def test_p31_any_two_that_are_swallowed_and_any_sizes():
    random = Random(31)
    for first, second in combinations(range(1, 13), 2):
        with FakePop3(mail([random.choice([5, 6, 70]) for _ in range(12)])) as server:
            server.swallows = {f"RETR {first}", f"LIST {second}"} if random.random() < 0.3 else set()
            server.swallows = server.swallows or {f"RETR {first}", f"RETR {second}"}
            server.swallows_in_flights = True
            account = source(server, deadlines=impatient(body=0.1, reply=0.1))
            got: dict[bytes, bytes] = {}
            for _ in range(6):
                try:
                    fetch(account, got)
                    break
                except (LostStep, TimedOut):
                    assert got.items() <= right(server).items()
            assert got.items() <= right(server).items()


def test_p31_a_swallowed_retr_among_many_is_noticed_without_a_wait():
    with FakePop3(mail([10] * 300)) as server:
        server.swallows, server.swallows_in_flights = {"RETR 100"}, True
        account = source(server)
        got: dict[bytes, bytes] = {}
        with pytest.raises(LostStep, match="out of step"):
            fetch(account, got)
        assert got.items() <= right(server, 100).items()
        assert len(got) >= 60  # everything up to the last check
        fetch(account, got)
        assert got == right(server)


@pytest.mark.parametrize("answer", [b"-ERR no such message\r\n", b"+OK 1234 octets\r\n", b"+OK\r\n", b"+OK 5 17\r\n"])
def test_p31_a_check_that_is_answered_otherwise_proves_nothing(answer: bytes):
    with FakePop3(mail(SIZES["all equal"])) as server:
        server.replies["LIST 3"] = answer
        account = source(server)
        got: dict[bytes, bytes] = {}
        with pytest.raises(LostStep, match="LIST 3 was answered"):
            fetch(account, got)
        assert got == right(server, *range(2, 8))
        fetch(account, got)
        assert got == right(server)


@pytest.mark.parametrize("ends", ["at QUIT", "hangs up", "hangs"])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("number", range(1, 8))
def test_p31_an_answer_that_comes_twice_puts_no_message_under_another_id(
    number: int, sizes: list[int], capabilities: tuple[str, ...], ends: str
):
    """Nothing shows it to a client that sends one command at a time and only looks whether a reply begins well."""
    with FakePop3(mail(sizes)) as server:
        server.capabilities = capabilities
        server.doubles = {f"RETR {number}"}
        if ends != "at QUIT":
            later = {f"RETR {min(number + 2, 7)}"}
            server.hangs_up_on, server.hangs_on = (later, set()) if ends == "hangs up" else (set(), later)
        account = source(server, deadlines=impatient(body=0.1, reply=0.1))
        got: dict[bytes, bytes] = {}
        failed: dict[bytes, Exception] = {}
        with pytest.raises((RemoteProtocolError, TransportError)):
            fetch(account, got, failed)
        assert got.items() <= right(server).items()
        server.doubles, server.hangs_up_on, server.hangs_on = set(), set(), set()
        fetch(account, got)
        assert got == right(server)


@pytest.mark.parametrize("first", range(1, 7))
def test_p31_answers_in_another_order_are_noticed_by_their_sizes(first: int):
    """Where sizes are equal no command of POP3 tells; a server that is asked one thing at a time has no order."""
    with FakePop3(mail(SIZES["all differ"])) as server:
        for asked, answered in ((first, first + 1), (first + 1, first)):
            server.replies[f"RETR {asked}"] = b"+OK\r\n" + stuffed(server.messages[answered - 1])
        account = source(server)
        got: dict[bytes, bytes] = {}
        if first in {2, 4, 5, 6}:  # not those with a check between them, which this server keeps in order
            with pytest.raises(LostStep, match="another order"):
                fetch(account, got)
            assert got.items() <= right(server).items()


def test_p31_listings_that_are_mixed_up_are_asked_for_one_at_a_time():
    with FakePop3(mail(SIZES["all differ"])) as server:
        server.swallows, server.swallows_in_flights = {"LIST"}, True
        account = source(server)
        got: dict[bytes, bytes] = {}
        with pytest.raises(LostStep):
            fetch(account, got)
        fetch(account, got)
        assert got == right(server)


@pytest.mark.parametrize("ends", ["hangs", "hangs up"])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
@pytest.mark.parametrize("number", [1, 3, 6, 7])
def test_p17_the_message_at_which_the_session_ends_is_told(number: int, capabilities: tuple[str, ...], ends: str):
    with FakePop3(mail(SIZES["all differ"])) as server:
        server.capabilities = capabilities
        if ends == "hangs":
            server.hangs_on = {f"RETR {number}"}
        else:
            server.hangs_up_on = {f"RETR {number}"}
        account = source(server, deadlines=impatient(body=ANSWERED_S, reply=ANSWERED_S))
        got: dict[bytes, bytes] = {}
        failed: dict[bytes, Exception] = {}
        with pytest.raises(TransportError):
            fetch(account, got, failed)
        assert got == right(server, *range(number, 8))
        [error] = failed.values()
        assert isinstance(error, MessageLost)
        assert f"message {number} was not taken" in str(error)
        fetch(account, got, failed)
        assert got == right(server, number)


def test_p17_wrong_sizes_keep_no_session_from_getting_on():
    with FakePop3(mail(SIZES["all equal"])) as server:
        server.replies["LIST"] = b"+OK\r\n" + b"".join(b"%d 1\r\n" % n for n in range(1, 8)) + b".\r\n"
        server.hangs_up_on = {"RETR 6"}
        account = source(server)
        got: dict[bytes, bytes] = {}
        failed: dict[bytes, Exception] = {}
        for _ in range(7):
            before = len(got)
            try:
                fetch(account, got, failed)
                break
            except ConnectionLost:
                assert len(got) > before or failed
        assert got == right(server, 6)


@pytest.mark.parametrize("listed_octets", [1, len(HEAD), 999_999])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
@pytest.mark.parametrize("number", [1, 4, 7])
def test_p18_a_message_that_is_cut_is_never_handed_out_whatever_its_listed_size(
    number: int, capabilities: tuple[str, ...], listed_octets: int
):
    with FakePop3(mail(SIZES["all differ"])) as server:
        rows = [b"%d %d\r\n" % (n, len(m) if n != number else listed_octets) for n, m in enumerate(server.messages, 1)]
        server.replies["LIST"] = b"+OK\r\n" + b"".join(rows) + b".\r\n"
        server.capabilities = capabilities
        server.replies[f"RETR {number}"] = b"+OK\r\n" + HEAD + b".\r\nand the rest of it\r\n.\r\n"
        got: dict[bytes, bytes] = {}
        failed: dict[bytes, Exception] = {}
        account = source(server)
        with pytest.raises(RemoteProtocolError, match="out of step"):
            fetch(account, got, failed)
        assert got == right(server, *range(number, 8))
        [error] = failed.values()
        assert isinstance(error, MessageRefused)
        fetch(account, got, failed)
        assert got == right(server, number)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
def test_p18_p34_a_message_that_is_cut_before_the_connection_ends_is_not_handed_out(capabilities: tuple[str, ...]):
    with FakePop3(mail(SIZES["all differ"])) as server:
        server.capabilities = capabilities
        server.replies["RETR 4"] = b"+OK\r\n" + HEAD + b".\r\n"  # what follows the dot is still on its way
        server.hangs_up_on = {"LIST 4", "RETR 5"}
        got: dict[bytes, bytes] = {}
        with pytest.raises(ConnectionLost):
            fetch(source(server), got)
        assert got == right(server, *range(4, 8))


# --- P52: a check that the server gets wrong ---------------------------------------------------------

LIST_ONE = {  # octets of the answer, by the number of messages, a message's number and its size
    "the whole listing": b"+OK %(count)d messages\r\n%(listing)s.\r\n",
    "the whole listing, counted like STAT": b"+OK %(count)d 999\r\n%(listing)s.\r\n",
    "the whole listing, counted like LIST n": b"+OK %(number)d 999\r\n%(listing)s.\r\n",
    "the size alone": b"+OK %(size)d\r\n",
    "a size in words": b"+OK %(size)d octets\r\n",
    "nothing": b"+OK\r\n",
    "a no": b"-ERR LIST takes no argument\r\n",
    "another number": b"+OK %(other)d 17\r\n",
}
UIDL_ONE = {
    "right": b"+OK %(number)d %(uid)s\r\n",
    "the whole listing": b"+OK\r\n%(ids)s.\r\n",
    "the id alone": b"+OK %(uid)s\r\n",
    "a no": b"-ERR\r\n",
}


def answering(server: FakePop3, answer: bytes) -> Callable[[list[str]], bytes | None]:
    """Answers a command for one message by `answer`."""
    sizes = list(enumerate(map(len, server.messages), 1))
    listing = b"".join(b"%d %d\r\n" % row for row in sizes)
    ids = b"".join(b"%d %b\r\n" % row for row in enumerate(server.uids, 1))

    def one(arguments: list[str]) -> bytes | None:
        if not arguments:
            return None
        number = int(arguments[0])
        known = {
            b"count": len(sizes),
            b"number": number,
            b"other": number % len(sizes) + 1,
            b"size": sizes[number - 1][1],
            b"uid": server.uids[number - 1],
            b"listing": listing,
            b"ids": ids,
        }
        return answer % known

    return one


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
@pytest.mark.parametrize("uidl", UIDL_ONE)
@pytest.mark.parametrize("kind", LIST_ONE)
def test_p52_mail_is_fetched_from_a_server_whose_list_n_is_of_no_use(
    kind: str,
    uidl: str,
    capabilities: tuple[str, ...],
    pipelining: bool,  # noqa: FBT001
):
    with FakePop3(mail(SIZES["neighbours equal"])) as server:
        server.capabilities = capabilities
        server.on = {"LIST": answering(server, LIST_ONE[kind]), "UIDL": answering(server, UIDL_ONE[uidl])}
        account = source(server, pipelining=pipelining)
        got: dict[bytes, bytes] = {}
        fetch(account, got)
        assert got == right(server)
        if not pipelining:
            assert set(server.flights) == {1}
        tried = server.commands.count("LIST 1")
        fetch(account, {})
        assert server.commands.count("LIST 1") == tried  # what was found out outlives the session


def test_p52_where_uidl_n_serves_commands_are_pipelined_still():
    with FakePop3(mail([10] * 100)) as server:
        server.on["LIST"] = answering(server, LIST_ONE["the size alone"])
        got: dict[bytes, bytes] = {}
        fetch(source(server), got)
        assert got == right(server)
        assert max(server.flights) > 60


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("uidl", ["right", "a no"])
def test_p52_the_other_checks_notice_an_answer_that_comes_twice(number: int, uidl: str):
    with FakePop3(mail(SIZES["all equal"])) as server:
        server.on = {"LIST": answering(server, LIST_ONE["a no"]), "UIDL": answering(server, UIDL_ONE[uidl])}
        server.doubles = {f"RETR {number}"}
        got: dict[bytes, bytes] = {}
        noticed = contextlib.nullcontext() if (number, uidl) == (7, "a no") else pytest.raises(SyncdError)  # at QUIT
        with noticed:
            fetch(source(server, deadlines=impatient(body=0.2, reply=0.2)), got)
        assert got.items() <= right(server).items()


@pytest.mark.parametrize("number", [1, 4, 7])
def test_p52_p18_stat_notices_a_message_that_is_cut(number: int):
    with FakePop3(mail(SIZES["all equal"])) as server:
        server.on = {"LIST": answering(server, LIST_ONE["a no"]), "UIDL": answering(server, UIDL_ONE["a no"])}
        server.replies[f"RETR {number}"] = b"+OK\r\n" + HEAD + b".\r\nand the rest of it\r\n.\r\n"
        got: dict[bytes, bytes] = {}
        failed: dict[bytes, Exception] = {}
        account = source(server)
        with pytest.raises(RemoteProtocolError, match="out of step"):
            fetch(account, got, failed)
        assert got == right(server, *range(number, 8))
        fetch(account, got, failed)
        assert got == right(server, number)


@pytest.mark.parametrize("command", ["LIST 1", "UIDL 1"])
@pytest.mark.parametrize("how", ["hangs up", "hangs"])
def test_p52_a_server_that_breaks_off_at_the_trial_is_asked_no_more_of_it(command: str, how: str):
    with FakePop3(mail(SIZES["all differ"])) as server:
        server.on["LIST"] = answering(server, LIST_ONE["a no"]) if command == "UIDL 1" else lambda _: None
        if how == "hangs":
            server.hangs_on = {command}
        else:
            server.hangs_up_on = {command}
        account = source(server, deadlines=impatient(reply=0.2))
        got: dict[bytes, bytes] = {}
        with pytest.raises(LostStep) as caught:
            fetch(account, got)
        assert caught.value.retry is Retry.NOW
        fetch(account, got)
        assert got == right(server)
