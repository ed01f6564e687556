"""RETR refused again and again: about the messages, or about the account (P55)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from syncd import clock
from syncd.errors import MessageRefused, Retry, Scope, Throttled
from syncd.mail.listing import Fetched, Listed
from syncd.sources.pop3.session import Pop3Session
from tests.contract.pop3_kit import Plenty, Scarce, listed, source, wanted
from tests.fakes.pop3 import CAPABILITIES, FakePop3

COUNT = 60
ONE_AT_A_TIME = tuple(line for line in CAPABILITIES if line != "PIPELINING")
BOTH = pytest.mark.parametrize("capabilities", [CAPABILITIES, ONE_AT_A_TIME])
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3([b"Subject: test\r\n\r\n%d\r\n" % number for number in range(1, COUNT + 1)]) as fake:
        yield fake


def refusing(server: FakePop3, refuses: Callable[[int, int], bytes | None]) -> None:
    """`refuses` gets the message number, and which RETR this is, from 1."""
    asked = [0]

    def retr(arguments: list[str]) -> bytes | None:
        asked[0] += 1
        text = refuses(int(arguments[0]), asked[0])
        return None if text is None else b"-ERR " + text + b"\r\n"

    server.on["RETR"] = retr


def run(
    server: FakePop3, rows: Callable[[list[Listed]], list[Listed]] = lambda rows: rows, *, alone: bool = False
) -> tuple[list[int], list[int], Throttled | None]:
    """A session: the messages that came, those that were refused, and how it ended."""
    session = source(server).connect()
    answers: list[Fetched] = []
    error = None
    try:
        todo = rows(listed(session))
        for part in [[row] for row in todo] if alone else [todo]:
            _fetch(session, part, answers, alone=alone)
        session.finish()
    except Throttled as caught:
        error = caught
    finally:
        session.close()
    assert all(isinstance(answer.error, MessageRefused) for answer in answers if answer.body is None)
    keys = [answer.key for answer in answers]
    assert len(set(keys)) == len(keys)
    came = [int(answer.key) for answer in answers if answer.body is not None]
    return came, [int(answer.key) for answer in answers if answer.body is None], error


def _fetch(session: Pop3Session, rows: list[Listed], answers: list[Fetched], *, alone: bool) -> None:
    answers.extend(answer for answer in session.fetch(wanted(rows), Plenty(), alone=alone) if answer is not None)


@BOTH
@pytest.mark.parametrize(
    ("text", "hours"),
    [
        (b"Download exceed. msg=%(number)d", 6),
        (b"you have exceeded your daily bandwidth limit", 6),
        (b"cannot open message %(number)d", 1),
        (b"[SYS/TEMP] internal error", 1),
        (b"no", 1),
    ],
)
def test_p55_a_refusal_of_all_is_about_the_account(
    server: FakePop3, text: bytes, hours: int, capabilities: tuple[str, ...]
):
    server.capabilities = capabilities
    refusing(server, lambda number, asked: text % {b"number": number} if asked > 20 else None)
    came, refused, error = run(server)
    assert came == list(range(1, 21))
    assert refused == []
    assert error is not None
    assert (error.scope, error.retry) == (Scope.ACCOUNT, Retry.LATER)
    assert error.until == NOW + timedelta(hours=hours)
    assert error.messages[0] == 21
    assert "this is about the account, and no message is noted as unfetchable" in str(error)
    if capabilities == ONE_AT_A_TIME:
        assert server.verbs().count("RETR") <= 20 + 5 + 1


@BOTH
@pytest.mark.parametrize("bad", [range(5, 10), range(5, 25), range(1, 7), range(56, 61), range(1, 21)])
def test_p55_messages_that_the_server_cannot_give_are_blamed_if_another_one_comes(
    server: FakePop3, bad: range, capabilities: tuple[str, ...]
):
    server.capabilities = capabilities
    refusing(server, lambda number, _: b"cannot open message %d" % number if number in bad else None)
    came, refused, error = run(server)
    assert error is None
    assert sorted(refused) == [number for number in range(1, COUNT + 1) if number in bad]
    assert sorted(came) == [number for number in range(1, COUNT + 1) if number not in bad]


@BOTH
def test_p55_fewer_than_five_refusals_are_about_their_messages(server: FakePop3, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    refusing(server, lambda number, _: b"no" if number > COUNT - 4 else None)
    came, refused, error = run(server)
    assert (len(came), refused, error) == (COUNT - 4, list(range(COUNT - 3, COUNT + 1)), None)
    assert server.verbs().count("RETR") == COUNT


@BOTH
def test_p55_words_of_a_quota_are_believed_at_once_if_no_other_message_comes(
    server: FakePop3, capabilities: tuple[str, ...]
):
    server.capabilities = capabilities
    refusing(server, lambda _, asked: b"download quota exceeded" if asked >= COUNT else None)
    came, refused, error = run(server)
    assert (len(came), refused) == (COUNT - 1, [])
    assert error is not None
    assert error.messages == (COUNT,)


@BOTH
def test_p55_different_refusals_are_about_their_messages(server: FakePop3, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    words = (b"poison", b"cannot open", b"too odd")
    refusing(server, lambda number, _: words[number % 3] if 10 < number <= 40 else None)
    came, refused, error = run(server)
    assert error is None
    assert refused == list(range(11, 41))
    assert len(came) == 30


def test_p55_refusals_that_repeat_the_unique_id_are_alike(server: FakePop3):
    server.uids = [bytes((97 + number // 26, 97 + number % 26)) * 3 for number in range(COUNT)]
    refusing(server, lambda number, _: b"cannot give " + server.uids[number - 1])
    assert run(server)[1:2] == ([],)


@BOTH
def test_p55_where_none_is_left_further_on_an_old_message_tells(server: FakePop3, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    refusing(server, lambda number, _: b"no" if number > 55 else None)
    assert run(server, lambda rows: rows[55:]) == ([], list(range(56, 61)), None)
    refusing(server, lambda *_: b"no")
    came, refused, error = run(server, lambda rows: rows[55:])
    assert (came, refused) == ([], [])
    assert error is not None


def test_p55_a_message_that_was_under_way_behind_them_tells_it_too(server: FakePop3):
    refusing(server, lambda number, _: b"no" if number > 50 else None)
    came, refused, error = run(server)
    assert (len(came), refused) == (50, [])
    assert error is not None
    assert error.messages == tuple(range(51, 61))
    assert server.verbs().count("RETR") == COUNT


def test_p55_a_mailbox_that_is_refused_as_a_whole(server: FakePop3):
    refusing(server, lambda *_: b"no")
    came, refused, error = run(server)
    assert (came, refused) == ([], [])
    assert error is not None


def test_p55_refusals_are_counted_through_messages_that_are_fetched_alone(server: FakePop3):
    refusing(server, lambda *_: b"no")
    came, refused, error = run(server, alone=True)
    assert (came, refused) == ([], [1, 2, 3, 4])
    assert error is not None
    assert error.messages == (5,)


def test_p55_a_probe_waits_for_room_as_any_message_does(server: FakePop3):
    refusing(server, lambda number, _: b"no" if 3 <= number <= 9 else None)
    session = source(server).connect()
    rows = listed(session)
    room = Scarce(rows[0].octets * 2)
    got: list[Fetched] = []
    for answer in session.fetch(wanted(rows), room):
        if answer is None:
            room.free = max(row.octets for row in rows) * 2
        else:
            got.append(answer)
    session.finish()
    assert sorted(answer.key for answer in got if answer.body is None) == list(range(3, 10))
    assert len(got) == COUNT
