"""The POP3 source against a scripted server: what a session says, in how many flights, and what it makes of a no."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from syncd import durable
from syncd.durable import Moment, Step
from syncd.errors import (
    AuthRefused,
    ConfigError,
    LostStep,
    MailboxRefused,
    MessageRefused,
    NotMail,
    Refused,
    RemoteProtocolError,
    Retry,
    Scope,
    Unsupported,
)
from syncd.mail.body import header_hash
from syncd.mail.listing import Fetched, LineNumber, Listed, Totals
from syncd.mail.message import Key, Uid
from syncd.secret import Secret
from syncd.sources.pop3 import listing
from tests.contract.pop3_kit import Plenty, Scarce, listed, source, wanted
from tests.fakes.pop3 import CAPABILITIES, FakePop3, delivered, stuffed
from tests.support import mail

HEAD = b"Subject: test\r\nFrom: a@example.net\r\n\r\n"
MESSAGES = [HEAD + b"message %d\r\n" % number * number for number in range(1, 6)]


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3(MESSAGES) as fake:
        yield fake


def without(*tags: str) -> tuple[str, ...]:
    return tuple(line for line in CAPABILITIES if line.split()[0] not in tags)


def fetch(server: FakePop3, **changes: Any) -> list[bytes | None]:
    """A whole session; the octets of each message, None where it was refused."""
    session = source(server, **changes).connect()
    try:
        bodies = []
        for answer in session.fetch(wanted(listed(session)), Plenty()):
            assert answer is not None
            bodies.append(None if answer.body is None else b"".join(answer.body.chunks()))
            if answer.body is not None:
                assert answer.body.sha256 == hashlib.sha256(bodies[-1] or b"").digest()
                answer.body.close()
        session.finish()
    finally:
        session.close()
    return bodies


# --- the whole ---------------------------------------------------------------------------------------


def test_a_session_in_seven_flights(server: FakePop3):
    assert fetch(server) == MESSAGES
    tried = ["LIST 1", "STAT"]  # P52: before it is trusted
    retrieved = ["RETR 1", "LIST 1", "RETR 2", "RETR 3", "LIST 3", "RETR 4", "RETR 5", "LIST 5"]
    assert server.commands[2:] == ["STAT", "LIST", "UIDL", *tried, *retrieved, "QUIT"]
    assert server.verbs()[:2] == ["CAPA", "AUTH"]
    assert server.flights == [1, 1, 3, 2, 8, 1]


def test_a_listing_gives_numbers_unique_ids_and_octets(server: FakePop3):
    session = source(server).connect()
    assert listed(session) == [
        Listed(LineNumber(number), Uid(b"uid-%d" % number), len(message)) for number, message in enumerate(MESSAGES, 1)
    ]
    assert session.totals() == Totals(5, sum(map(len, MESSAGES)))
    session.finish()
    assert server.verbs() == ["CAPA", "AUTH", "STAT", "LIST", "UIDL", "QUIT"]


def test_a_listing_comes_in_chunks_of_at_most_1000():
    with FakePop3([b"x\r\n"] * 3500) as server:
        session = source(server).connect()
        chunks = list(session.list())
        session.close()
    rows = list(chain.from_iterable(chunks))
    assert rows == [Listed(LineNumber(number), Uid(b"uid-%d" % number), 3) for number in range(1, 3501)]
    assert max(map(len, chunks)) == 1000


def test_p31_without_pipelining_one_command_at_a_time(server: FakePop3):
    server.capabilities = without("PIPELINING", "SASL")
    assert fetch(server) == MESSAGES
    assert set(server.flights) == {1}
    assert server.verbs()[:7] == ["CAPA", "USER", "PASS", "CAPA", "STAT", "LIST", "UIDL"]


def test_p31_pipelining_can_be_forbidden(server: FakePop3):
    assert fetch(server, pipelining=False) == MESSAGES
    assert set(server.flights) == {1}
    assert server.verbs().count("CAPA") == 1  # nothing to be gained by asking again


def test_pipelining_that_is_announced_only_after_sign_in_is_used(server: FakePop3):
    server.capabilities, server.capabilities_inside = without("PIPELINING"), CAPABILITIES
    assert fetch(server) == MESSAGES
    assert server.flights == [1, 1, 1, 3, 2, 8, 1]


def test_a_server_without_capa_works(server: FakePop3):
    server.capabilities = None
    assert fetch(server) == MESSAGES
    assert server.verbs()[:6] == ["CAPA", "USER", "PASS", "STAT", "LIST", "UIDL"]


def test_p29_a_server_that_hangs_up_on_capa_is_not_asked_again(server: FakePop3):
    server.hangs_up_on = {"CAPA"}
    account = source(server)
    for _ in range(2):
        session = account.connect()
        assert len(listed(session)) == 5
        session.finish()
    assert server.connections == 3
    assert server.verbs().count("CAPA") == 1


def test_p45_p27_what_the_owner_should_know_is_asked_again_in_the_same_flight(server: FakePop3):
    server.capabilities = (*CAPABILITIES, "EXPIRE 30 USER", "LOGIN-DELAY 60 USER")
    server.capabilities_inside = (*CAPABILITIES, "EXPIRE 0", "LOGIN-DELAY 120")
    session = source(server).connect()
    listed(session)
    info = session.info
    session.finish()
    assert server.flights == [1, 1, 4, 1]
    assert info.notes == (
        "the server may remove messages as soon as they were retrieved (EXPIRE 0)",
        "the server wants 120 s between sign-ins (LOGIN-DELAY)",
    )
    assert (info.address, info.tls, info.mechanism) == (f"127.0.0.1:{server.port}", "none", "AUTH PLAIN")
    assert "EXPIRE 0" in info.capabilities
    assert info.pause_s == 120


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
def test_an_empty_maildrop(capabilities: tuple[str, ...]):
    with FakePop3() as server:
        server.capabilities = capabilities
        server.replies = {"UIDL": b"-ERR no messages\r\n"}
        assert fetch(server) == []


# --- signing in --------------------------------------------------------------------------------------


def test_user_and_pass_leave_together_only_when_pipelining_was_announced(server: FakePop3):
    assert fetch(server, auth="user") == MESSAGES
    assert server.flights[:2] == [1, 2]
    assert server.commands[1:3] == ["USER user", "PASS secret"]


def test_apop_only_when_asked_for(server: FakePop3):
    server.capabilities = without("SASL")
    assert fetch(server) == MESSAGES
    assert "APOP" not in server.verbs()
    assert fetch(server, auth="apop") == MESSAGES
    assert "APOP" in server.verbs()


def test_p48_apop_needs_a_timestamp(server: FakePop3):
    server.greeting = b"+OK \x1b[2Jhello < no stamp >\r\n"
    with pytest.raises(Unsupported, match='does not offer APOP; set auth = "auto"'):
        fetch(server, auth="apop")
    assert server.verbs() == ["CAPA"]


def test_a_long_password_goes_without_initial_response(server: FakePop3):
    with pytest.raises(AuthRefused):
        fetch(server, password=lambda: Secret("x" * 300))
    assert server.commands[1] == "AUTH PLAIN"


def test_p43_a_server_that_ignores_the_initial_response_gets_it_again(server: FakePop3):
    server.replies = {"AUTH": b"+ \r\n"}
    server.replies["AHVzZXIAc2VjcmV0"] = b"+OK\r\n"
    assert fetch(server) == MESSAGES


def test_a_server_that_wants_more_than_plain_has(server: FakePop3):
    server.replies = {"AUTH": b"+ \r\n", "AHVzZXIAc2VjcmV0": b"+ \r\n"}
    with pytest.raises(AuthRefused, match="the server asks for one more step than PLAIN has"):
        fetch(server)


def test_a_server_that_offers_nothing_we_know(server: FakePop3):
    server.capabilities = ("SASL XOAUTH2 OAUTHBEARER", "UIDL")
    with pytest.raises(Unsupported, match='set auth = "oauthbearer" or auth = "xoauth2", and give the access token'):
        fetch(server)
    assert server.verbs() == ["CAPA"]


@pytest.mark.parametrize("auth", ["plain", "user", "apop"])
def test_a_wrong_password_is_one_clear_line_that_does_not_show_it(server: FakePop3, auth: str):
    with pytest.raises(AuthRefused) as caught:
        fetch(server, auth=auth, password=lambda: Secret("hunter2"))
    assert str(caught.value) == (
        f"127.0.0.1:{server.port}: the server refuses to sign 'user' in: [AUTH] “no such user or password”; "
        "check the account's username and password"
    )


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
def test_a_user_that_is_refused_at_once(server: FakePop3, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    server.replies = {"USER": b"-ERR never heard of you\r\n", "PASS": b"-ERR USER first\r\n"}
    with pytest.raises(AuthRefused, match="“never heard of you”"):
        fetch(server, auth="user")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-ERR [IN-USE] locked", MailboxRefused),
        (b"-ERR maildrop already locked", MailboxRefused),
        (b"-ERR [LOGIN-DELAY] slow down", Refused),
        (b"-ERR [SYS/TEMP] come back", Refused),
    ],
)
def test_p25_p27_a_server_that_is_busy_is_no_wrong_password(server: FakePop3, reply: bytes, kind: type[Refused]):
    server.replies = {"PASS": reply + b"\r\n"}
    with pytest.raises(Refused) as caught:
        fetch(server, auth="user")
    assert type(caught.value) is kind


def test_a_greeting_that_refuses(server: FakePop3):
    server.greeting = b"-ERR [SYS/TEMP] too many connections\r\n"
    with pytest.raises(Refused, match="does not take the connection: \\[SYS/TEMP\\] “too many connections”"):
        fetch(server)


def test_options_that_are_none(server: FakePop3):
    with pytest.raises(ConfigError, match="accepted: none, starttls, tls"):
        source(server, security="maybe")
    with pytest.raises(ConfigError, match="accepted: apop, auto, cram-md5, external, login"):
        source(server, auth="ntlm")


# --- listing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [without("UIDL"), None])
def test_p01_a_server_without_uidl_cannot_be_used(server: FakePop3, capabilities: tuple[str, ...] | None):
    server.capabilities = capabilities
    server.replies = {"UIDL": b"-ERR unknown\r\n"}
    with pytest.raises(Unsupported, match=r"does not know UIDL.*such a server cannot be used yet") as caught:
        fetch(server)
    assert caught.value.retry is Retry.NEVER


def test_a_server_that_announces_uidl_and_refuses_it_is_asked_again_another_time(server: FakePop3):
    server.replies = {"UIDL": b"-ERR not just now\r\n"}
    with pytest.raises(Refused, match=r"the server refuses UIDL: “not just now”; try again later") as caught:
        fetch(server)
    assert caught.value.retry is Retry.LATER


def test_p02_p03_p04_any_unique_id_is_taken_as_it_is(server: FakePop3):
    server.uids = [b"", b"same", b"same", b"x" * 1024, b"with space\t\xff\0"]
    session = source(server).connect()
    assert [row.uid for row in listed(session)] == server.uids
    session.close()


def test_p10_mail_that_slips_in_between_the_answers_is_met_by_a_second_listing(server: FakePop3):
    def late() -> bytes:
        del server.replies["UIDL"]
        server.messages.append(HEAD)
        server.uids.append(b"uid-6")
        return b"+OK\r\n" + b"".join(b"%d uid-%d\r\n" % (n, n) for n in range(1, 7)) + b".\r\n"

    server.replies = {"UIDL": late}
    session = source(server).connect()
    assert [(row.number, row.uid) for row in listed(session)] == [(n, b"uid-%d" % n) for n in range(1, 7)]
    assert session.totals().messages == 6
    session.close()


@pytest.mark.parametrize(
    "replies",
    [
        {"LIST": b"+OK\r\n1 5\r\n.\r\n"},
        {"UIDL": b"+OK\r\n1 a\r\n2 b\r\n.\r\n"},
        {"UIDL": b"+OK\r\n.\r\n"},
    ],
)
def test_p11_listings_that_contradict_each_other(server: FakePop3, replies: dict[str, bytes]):
    server.replies = dict(replies)
    with pytest.raises(RemoteProtocolError, match="the listings contradict each other: STAT counts"):
        fetch(server)
    assert server.verbs().count("STAT") == 2


def test_p11_a_server_that_counts_more_messages_than_there_can_be(server: FakePop3):
    server.replies = {"STAT": b"+OK 10000001 5\r\n"}
    with pytest.raises(RemoteProtocolError, match="STAT counts 10,000,001 messages"):
        fetch(server)


@pytest.mark.parametrize(("verb", "says"), [("LIST", "LIST counts 2,"), ("UIDL", "UIDL goes on after")])
def test_a_listing_without_end(monkeypatch: pytest.MonkeyPatch, server: FakePop3, verb: str, says: str):
    monkeypatch.setattr(listing, "MOST_MESSAGES", 2000)
    rows = b"".join(b"%d 1\r\n" % number for number in range(1, 3000))
    server.replies = {verb: b"+OK\r\n" + rows + b".\r\n"}
    with pytest.raises(RemoteProtocolError, match=says):
        fetch(server)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
@pytest.mark.parametrize("stat", [b"6 100", b"0 0", b"3 50", b"1"])
def test_p53_a_stat_that_counts_otherwise_is_not_believed(
    server: FakePop3, stat: bytes, capabilities: tuple[str, ...], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server.capabilities = capabilities
    server.replies = {"STAT": b"+OK " + stat + b"\r\n"}
    account = source(server)
    for _ in range(2):
        session = account.connect()
        assert len(listed(session)) == 5
        assert session.totals() == Totals(5, sum(map(len, MESSAGES)))
        session.finish()
    assert [vars(record)["quirk"] for record in caplog.records].count("P53") == 1


def test_p53_a_stat_that_is_no_number_is_not_needed_by_a_server_asked_one_thing_at_a_time(server: FakePop3):
    server.replies = {"STAT": b"+OK some messages\r\n"}
    assert fetch(server, pipelining=False) == MESSAGES


def test_p11_a_mailbox_that_lists_nothing_while_stat_counts_is_not_taken_for_empty(server: FakePop3):
    server.replies = dict.fromkeys(("LIST", "UIDL"), b"+OK\r\n.\r\n")
    with pytest.raises(RemoteProtocolError, match="STAT counts 5 messages, LIST 0, UIDL 0"):
        fetch(server)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("STAT", b"+OK   5   %(all)d \r\n"),
        ("STAT", b"+ok\t5\t%(all)d messages\r\n"),
        ("STAT", b"\r\n+OK 5 %(all)d\r\n"),
        ("LIST", b"+OK\r\n1   %(1)d\r\n2   %(2)d\r\n3   %(3)d\r\n4   %(4)d\r\n5   %(5)d\r\n.\r\n"),
        ("LIST", b"+ok\r\n  1 %(1)5d\r\n  2 %(2)5d\r\n  3 %(3)5d\r\n  4 %(4)5d\r\n  5 %(5)5d\r\n.\r\n"),
        ("LIST", b"+OK\r\n1\t%(1)d \r\n\r\n2\t%(2)d\r\n3\t%(3)d\r\n4\t%(4)d\t\r\n5\t%(5)d\r\n\r\n.\r\n"),
        ("UIDL", b"+OK \r\n1   uid-1\r\n2   uid-2\r\n3   uid-3 \r\n4\tuid-4\r\n\r\n 5 uid-5\r\n.\r\n"),
    ],
)
def test_p50_padded_columns_and_empty_lines(
    server: FakePop3, verb: str, reply: bytes, capabilities: tuple[str, ...], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    octets = {b"%d" % number: len(message) for number, message in enumerate(MESSAGES, 1)}
    server.capabilities = capabilities
    server.replies = {verb: reply % {**octets, b"all": sum(octets.values())}}
    session = source(server).connect()
    rows = listed(session)
    assert rows == [
        Listed(LineNumber(number), Uid(b"uid-%d" % number), len(message)) for number, message in enumerate(MESSAGES, 1)
    ]
    assert len(list(session.fetch(wanted(rows), Plenty()))) == 5
    session.finish()
    assert [vars(record)["quirk"] for record in caplog.records].count("P50") == (verb != "STAT" or reply[:1] == b"\r")


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
@pytest.mark.parametrize("size", [b"?", b"-1", b"unknown", b"12K"])
def test_p51_a_message_whose_size_is_no_number_is_fetched(
    server: FakePop3, size: bytes, capabilities: tuple[str, ...], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server.capabilities = capabilities
    server.on["LIST"] = lambda arguments: (
        b"+OK %s %s\r\n" % (arguments[0].encode(), size)
        if arguments
        else b"+OK\r\n" + b"".join(b"%d %s\r\n" % (number, size) for number in range(1, 6)) + b".\r\n"
    )
    assert fetch(server) == MESSAGES
    assert [vars(record)["quirk"] for record in caplog.records] == ["P51"]
    assert [verb for verb in server.verbs() if verb == "UIDL"] == ["UIDL"]  # LIST n serves as a check


@pytest.mark.parametrize("size", [b"", b" large", b" uid-7"])
def test_p31_p51_any_other_word_is_a_size_only_where_no_answer_can_be_swallowed(server: FakePop3, size: bytes):
    server.replies = {"LIST": b"+OK\r\n" + b"".join(b"%d%s\r\n" % (number, size) for number in range(1, 6)) + b".\r\n"}
    account = source(server)
    session = account.connect()
    with pytest.raises(LostStep):
        listed(session)
    session.close()
    session = account.connect()
    assert [row.octets for row in listed(session)] == [0] * 5
    session.finish()


def test_totals_alone_leave_a_session_that_goes_on(server: FakePop3):
    session = source(server).connect()
    assert session.totals().messages == 5
    session.finish()
    session = source(server, pipelining=False).connect()
    assert session.totals().messages == 5
    session.finish()
    assert server.verbs()[-3:] == ["AUTH", "STAT", "QUIT"]


@pytest.mark.parametrize("verb", ["STAT", "LIST", "UIDL"])
def test_a_listing_that_is_refused_for_now(server: FakePop3, verb: str):
    server.replies = {verb: b"-ERR [SYS/TEMP] disk\r\n"}
    with pytest.raises(Refused, match=f"the server refuses {verb}: \\[SYS/TEMP\\]"):
        fetch(server)


# --- fetching ----------------------------------------------------------------------------------------


def test_nasty_mail(tmp_path: Path):
    messages = list(mail.nasty().values())
    with FakePop3(messages) as server:
        assert fetch(server) == list(map(delivered, messages))


def test_2000_messages_through_growing_windows():
    messages = [HEAD + b"%d\r\n" % number for number in range(2000)]
    with FakePop3(messages) as server:
        assert fetch(server) == messages
    assert max(server.flights) <= 1024


def test_p24_a_message_that_the_server_does_not_give(server: FakePop3):
    server.replies = {"RETR 3": b"-ERR cannot \x1b[1mopen\r\n"}
    session = source(server).connect()
    answers = list(session.fetch(wanted(listed(session)), Plenty()))
    session.finish()
    refused = answers[2]
    assert [answer.key for answer in answers if answer] == [1, 2, 3, 4, 5]
    assert refused is not None
    assert isinstance(refused.error, MessageRefused)
    assert refused.error.scope is Scope.MESSAGE
    assert "the server does not give message 3 (unique-id “uid-3”): “cannot \\x1b[1mopen”" in str(refused.error)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
@pytest.mark.parametrize("number", [1, 3, 5])
def test_p18_a_message_cut_by_a_dot_that_was_not_stuffed_is_not_handed_out(
    server: FakePop3, number: int, capabilities: tuple[str, ...]
):
    server.capabilities = capabilities
    server.replies = {f"RETR {number}": b"+OK\r\n" + HEAD + b".\r\nthe rest of it\r\n.\r\n"}
    server.messages[number - 1] = HEAD + b".\r\nthe rest of it\r\n"
    session = source(server).connect()
    got: list[Fetched | None] = []
    with pytest.raises(RemoteProtocolError, match="out of step"):
        got.extend(session.fetch(wanted(listed(session)), Plenty()))
    session.close()
    assert [(answer.key, answer.body is not None) for answer in got if answer] == [
        *((n, True) for n in range(1, number)),
        (number, False),
    ]
    assert got[-1] is not None
    assert f"message {number} was not taken" in str(got[-1].error)


def test_p18_p31_after_a_desync_one_command_at_a_time(server: FakePop3):
    server.replies = {"RETR 2": b"+OK\r\nx\r\n.\r\nrest\r\n.\r\n"}
    account = source(server)
    session = account.connect()
    with pytest.raises(RemoteProtocolError):
        list(session.fetch(wanted(listed(session)), Plenty()))
    session.close()
    server.replies.clear()
    server.flights.clear()
    session = account.connect()
    assert len(list(session.fetch(wanted(listed(session)), Plenty()))) == 5
    session.finish()
    assert set(server.flights) == {1}


@pytest.mark.parametrize(
    ("octets", "capabilities", "checks"),
    [
        (0, CAPABILITIES, 3),
        (0, without("PIPELINING"), 1),
        (999999, CAPABILITIES, 4),  # a check for each MiB at least
        (999999, without("PIPELINING"), 3),
    ],
)
def test_p16_p33_wrong_sizes_cost_no_more_than_right_ones(
    server: FakePop3, octets: int, capabilities: tuple[str, ...], checks: int
):
    """LIST n shows that the last message is whole, whatever its size: LIST may understate it (P18)."""
    server.capabilities = capabilities
    server.replies = {"LIST": b"+OK\r\n" + b"".join(b"%d %d\r\n" % (n, octets) for n in range(1, 6)) + b".\r\n"}
    assert fetch(server) == MESSAGES
    assert server.verbs().count("LIST") == 2 + checks  # the listing and the trial


def test_a_run_without_new_mail_pays_no_check(server: FakePop3):
    server.capabilities = without("PIPELINING")
    session = source(server).connect()
    listed(session)
    assert list(session.fetch(iter(()), Plenty())) == []
    session.finish()
    assert server.verbs().count("LIST") == 1


def test_more_than_the_limit_ends_the_session(server: FakePop3):
    server.messages[1] = HEAD + b"x" * 5000 + b"\r\n"
    session = source(server, message_octets=4000).connect()
    got: list[Fetched | None] = []
    with pytest.raises(RemoteProtocolError, match="more than the limit of 4000 octets in one message"):
        got.extend(session.fetch(wanted(listed(session)), Plenty()))
    session.close()
    assert [(answer.key, answer.error is None) for answer in got if answer] == [(1, True), (2, False)]


def test_long_messages_go_through_the_spool(tmp_path: Path):
    messages = [HEAD + (b"." + b"y" * 75 + b"\r\n") * (octets // 78) for octets in (2 << 20, 3 << 20, 9 << 20)]
    with FakePop3([HEAD, *messages, HEAD]) as server:
        assert fetch(server, spool=tmp_path / "bodies") == [HEAD, *messages, HEAD]
    assert list((tmp_path / "bodies").iterdir()) == []


def test_room_is_taken_before_a_message_is_asked_for_and_none_says_that_it_is_used_up(server: FakePop3):
    session = source(server).connect()
    rows = listed(session)
    room = Scarce(rows[0].octets + rows[1].octets)
    seen: list[int | None] = []
    for answer in session.fetch(wanted(rows), room):
        seen.append(answer.key if answer else None)
        if answer is None:
            room.free = max(row.octets for row in rows)  # what was handed over is durable
    session.finish()
    assert seen == [1, 2, None, 3, None, 4, None, 5]
    assert room.waits == 3
    assert server.verbs().count("RETR") == 5


def test_nothing_to_fetch_says_nothing(server: FakePop3):
    session = source(server).connect()
    listed(session)
    assert list(session.fetch([], Plenty())) == []
    session.finish()
    assert server.verbs()[-1] == "QUIT"
    assert "RETR" not in server.verbs()


# --- recognising and removing --------------------------------------------------------------------------


def test_headers_are_the_answers_to_top(server: FakePop3):
    server.replies = {"TOP 2 0": b"-ERR\r\n"}
    session = source(server).connect()
    found = dict(session.headers(wanted(listed(session))))
    session.finish()
    headers = {n: message[: message.index(b"\r\n\r\n") + 4] for n, message in enumerate(MESSAGES, 1)}
    assert found == {**headers, 2: None}
    assert server.flights == [1, 1, 3, 5, 1]


def test_p32_a_top_that_gives_more_than_the_header_gives_the_same_hash(server: FakePop3):
    server.replies = {"TOP 1 0": b"+OK\r\n" + stuffed(MESSAGES[0])}
    session = source(server).connect()
    header = dict(session.headers(wanted(listed(session))))[Key(1)]
    assert header == MESSAGES[0]
    assert header_hash(header) == header_hash(MESSAGES[0][: MESSAGES[0].index(b"\r\n\r\n") + 4])
    session.close()


@pytest.fixture
def steps() -> Iterator[list[tuple[Step, Moment]]]:
    seen: list[tuple[Step, Moment]] = []
    durable.observer = lambda step, moment: seen.append((step, moment))
    yield seen
    durable.observer = None


def test_removal_is_dele_and_quit_each_a_durable_step(server: FakePop3, steps: list[tuple[Step, Moment]]):
    server.replies = {"DELE 2": b"-ERR [SYS/TEMP] no\r\n"}
    session = source(server).connect()
    answers = list(session.remove(wanted(listed(session)[:3])))
    assert [(answer.key, answer.error is None) for answer in answers] == [(1, True), (2, False), (3, True)]
    assert "the server does not remove message 2" in str(answers[1].error)
    session.finish()
    assert server.deleted == [1, 3]
    assert steps == [
        (Step.SOURCE_REMOVE, "before"),
        (Step.SOURCE_REMOVE, "after"),
        (Step.SOURCE_QUIT, "before"),
        (Step.SOURCE_QUIT, "after"),
    ]


def test_removal_without_pipelining_is_one_at_a_time(server: FakePop3, steps: list[tuple[Step, Moment]]):
    server.capabilities = without("PIPELINING")
    session = source(server).connect()
    assert len(list(session.remove(wanted(listed(session))))) == 5
    session.close()  # no QUIT: nothing goes
    assert set(server.flights) == {1}
    assert len(steps) == 10
    assert "QUIT" not in server.verbs()


@pytest.mark.usefixtures("steps")
def test_p35_a_quit_that_does_not_end_well_is_an_error_when_something_was_marked(server: FakePop3):
    server.replies = {"QUIT": b"-ERR some deleted messages not removed\r\n"}
    session = source(server).connect()
    list(session.remove(wanted(listed(session))))
    with pytest.raises(Refused, match="may still be there: “some deleted messages not removed”"):
        session.finish()
    session.close()


@pytest.mark.parametrize("reply", [b"-ERR some deleted messages not removed\r\n", b"BYE\r\n"])
def test_p35_a_farewell_says_nothing_where_nothing_was_marked(server: FakePop3, reply: bytes):
    server.replies = {"QUIT": reply}
    assert fetch(server) == MESSAGES


FOLDER_DATA = (
    b"From: Mail System Internal Data <MAILER-DAEMON@example.net>\r\n"
    b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r\nX-IMAP: 1069324236 0000000003\r\nStatus: RO\r\n\r\n"
    b"This text is part of the internal format of your mail folder, and is not\r\na real message.\r\n"
)


def test_p38_the_servers_own_data_is_no_mail(server: FakePop3):
    server.messages = [FOLDER_DATA, MESSAGES[0], FOLDER_DATA]  # only the first message is it; the other one is a copy
    server.uids = server.uids[:3]
    session = source(server).connect()
    answers = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer]
    session.finish()
    assert [answer.body is not None for answer in answers] == [False, True, True]
    assert isinstance(answers[0].error, NotMail)
    assert answers[0].error.retry is Retry.NEVER
    assert "FOLDER INTERNAL DATA" in str(answers[0].error)


@pytest.mark.parametrize(
    ("greeting", "capability", "pages"),
    [
        (b"+OK ready", "", False),
        (b"+OK Gpop ready for requests from 192.0.2.1", "", True),
        (b"+OK", "X-GOOGLE-RICO", True),
    ],
)
def test_p12_gmail_is_recognised_and_told(server: FakePop3, greeting: bytes, capability: str, pages: bool):  # noqa: FBT001
    server.greeting = greeting + b"\r\n"
    server.capabilities = (*CAPABILITIES, capability) if capability else CAPABILITIES
    session = source(server).connect()
    assert session.info.pages is pages
    assert any("Gmail" in note for note in session.info.notes) is pages
    session.close()


@pytest.mark.parametrize(("pipelining", "noted"), [(True, False), (False, True)])
def test_p31_check_says_that_pipelining_is_not_used(server: FakePop3, pipelining: bool, noted: bool):  # noqa: FBT001
    session = source(server, pipelining=pipelining).connect()
    assert any("pipelining = false" in note for note in session.info.notes) is noted
    session.close()


def test_without_removals_finish_is_no_durable_step_and_needs_no_answer(
    server: FakePop3, steps: list[tuple[Step, Moment]]
):
    server.hangs_up_on = {"QUIT"}
    session = source(server).connect()
    listed(session)
    session.finish()
    assert steps == []


@pytest.mark.parametrize("capabilities", [CAPABILITIES, without("PIPELINING")])
def test_p19_p21_p22_p47_any_octets_come_as_they_are(server: FakePop3, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    odd = [b"\0\0\r\n", b"a\n.\nb\r.\rc\r\n", b".\r\n..\r\n.x\r\n", b"text\r\n)\r\n", b"x" * 100_000 + b"\r\n"]
    server.messages = [HEAD + end for end in odd]
    server.uids = server.uids[: len(odd)]
    assert fetch(server) == server.messages
    server.replies["RETR 3"] = b"+OK\r\n" + HEAD + b".x\r\n..y\r\n.\r\n"  # a dot that was not doubled goes all the same
    assert fetch(server)[2] == HEAD + b"x\r\n.y\r\n"


def test_p46_a_server_that_knows_utf8_is_not_asked_for_it(server: FakePop3):
    """What was fetched before would come in other octets, and be another message."""
    server.capabilities = (*CAPABILITIES, "UTF8 USER", "LANG")
    assert fetch(server) == MESSAGES
    assert not {"UTF8", "LANG"} & set(server.verbs())
