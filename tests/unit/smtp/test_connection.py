"""Replies are matched to commands: read whole, one octet at a time, and with octets behind that must remain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest

from syncd.errors import RemoteProtocolError, StateError
from syncd.smtp.connection import MAX_REPLY_LINES, Answer, Connection, OutOfStep
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import NO_REPLY, Reply, Verb

Feed = Callable[[Connection, bytes], list[Answer]]
Flight = tuple[Verb, ...]


def whole(connection: Connection, octets: bytes) -> list[Answer]:
    return in_pieces(connection, [octets])


def octet_by_octet(connection: Connection, octets: bytes) -> list[Answer]:
    return in_pieces(connection, (octets[i : i + 1] for i in range(len(octets))))


def in_pieces(connection: Connection, pieces: Iterable[bytes]) -> list[Answer]:
    answers: list[Answer] = []
    for piece in pieces:
        connection.buffer.target()[: len(piece)] = piece
        connection.buffer.received(len(piece))
        while (answer := connection.next_answer()) is not None:
            answers.append(answer)
    return answers


def begun(*verbs: Verb, transaction: Transaction | None = None, ended: bool = True) -> Connection:
    """After the greeting, with these commands in flight. `ended`: and all octets of them."""
    connection = Connection()
    assert [answer.verb for answer in whole(connection, b"220 ready\r\n")] == [Verb.GREETING]
    for verb in verbs:
        connection.sent(verb, transaction)
    if transaction is not None:
        transaction.ended = ended
    return connection


ENVELOPE = (Verb.MAIL, Verb.RCPT, Verb.RCPT)
NOBODY = Reply(550, "5.1.1", (b"nobody",))
LATER = Reply(451, "4.3.0", (b"later",))
OK = Reply(250, "", (b"ok",))
TAKEN = Reply(250, "2.0.0", (b"taken",))


class Sample(NamedTuple):
    """Commands in flight, what comes, and what becomes of two recipients. `lmtp` None: a reply is still owed."""

    flight: Flight
    octets: bytes
    smtp: tuple[Reply, ...]
    lmtp: tuple[Reply, ...] | None


FLIGHTS: dict[str, Sample] = {
    "both taken": Sample(
        (*ENVELOPE, Verb.LAST),
        b"250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n",
        (TAKEN, TAKEN),
        None,
    ),
    "S06 one refused, the other taken": Sample(
        (*ENVELOPE, Verb.LAST),
        b"250 ok\r\n550 5.1.1 nobody\r\n250 ok\r\n250 2.0.0 taken\r\n",
        (NOBODY, TAKEN),
        (NOBODY, TAKEN),
    ),
    "S17 all refused, then the chunk": Sample(
        (*ENVELOPE, Verb.LAST),
        b"250 ok\r\n550 5.1.1 nobody\r\n451 4.3.0 later\r\n503 5.5.1 no recipients\r\n",
        (NOBODY, LATER),
        (NOBODY, LATER),
    ),
    "MAIL refused, then all that follows from it": Sample(
        (*ENVELOPE, Verb.LAST),
        b"451 4.3.0 later\r\n503 MAIL first\r\n503 MAIL first\r\n503 MAIL first\r\n",
        (LATER, LATER),
        (LATER, LATER),
    ),
    "S17 a chunk refused": Sample(
        (*ENVELOPE, Verb.BDAT, Verb.BDAT),
        b"250 ok\r\n550 5.1.1 nobody\r\n250 ok\r\n451 4.3.0 later\r\n503 5.5.1 RSET first\r\n",
        (NOBODY, LATER),
        (NOBODY, LATER),
    ),
    "DATA refused": Sample(
        (*ENVELOPE, Verb.DATA),
        b"250 ok\r\n250 ok\r\n250 ok\r\n451 4.3.0 later\r\n",
        (LATER, LATER),
        (LATER, LATER),
    ),
    "S18 one reply for each accepted recipient": Sample(
        (*ENVELOPE, Verb.DATA, Verb.DOT),
        b"250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 2.0.0 taken\r\n",
        (TAKEN, TAKEN),
        None,
    ),
}


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize("sample", FLIGHTS.values(), ids=FLIGHTS)
class TestFlights:
    def test_smtp(self, feed: Feed, sample: Sample):
        transaction = Transaction(2, lmtp=False)
        connection = begun(*sample.flight, transaction=transaction)
        answers = feed(connection, sample.octets)
        assert [answer.verb for answer in answers] == list(sample.flight)
        assert connection.in_flight == 0
        assert transaction.outcomes() == sample.smtp

    def test_lmtp(self, feed: Feed, sample: Sample):
        transaction = Transaction(2, lmtp=True)
        connection = begun(*sample.flight, transaction=transaction)
        feed(connection, sample.octets)
        expected = sample.lmtp
        if expected is None:
            assert connection.waiting_for is sample.flight[-1]
            assert transaction.outcomes() == (TAKEN, NO_REPLY)
            feed(connection, b"451 4.3.0 later\r\n")
            expected = (TAKEN, LATER)
        assert connection.in_flight == 0
        assert transaction.outcomes() == expected

    def test_what_follows_remains(self, feed: Feed, sample: Sample):
        connection = begun(*sample.flight, transaction=Transaction(2, lmtp=False))
        assert len(feed(connection, sample.octets + b"250 behind\r\n")) == len(sample.flight)
        assert connection.buffer.peek(100) == b"250 behind\r\n"
        with pytest.raises(OutOfStep, match="in reply to no command: unexpected “250 behind"):
            connection.sent(Verb.MAIL)


def test_replies_of_two_messages_in_flight_go_to_each():
    first, second = Transaction(1, lmtp=True), Transaction(1, lmtp=True)
    connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=first)
    for verb in (Verb.RSET, Verb.MAIL, Verb.RCPT, Verb.LAST):
        connection.sent(verb, second)
    second.ended = True
    whole(connection, b"250 ok\r\n550 5.1.1 nobody\r\n503 no\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n")
    assert (first.outcomes(), second.outcomes()) == ((NOBODY,), (TAKEN,))
    assert (first.over, second.over) == (False, True)


@pytest.mark.parametrize("lmtp", [False, True])
def test_s04_421_answers_one_command_and_no_other(lmtp: bool):  # noqa: FBT001
    closing = Reply(421, "4.3.2", (b"bye",))
    for answered in range(4):
        transaction = Transaction(1, lmtp=lmtp)
        connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=transaction)
        later = Transaction(1, lmtp=lmtp)
        for verb in (Verb.MAIL, Verb.RCPT, Verb.LAST):
            connection.sent(verb, later)
        whole(connection, b"250 2.0.0 taken\r\n" * answered + b"421 4.3.2 bye\r\n")
        assert connection.closing
        assert connection.in_flight == 0
        early = closing._replace(early=True)
        assert transaction.outcomes() == ((early,), (early,), (closing,), (TAKEN,))[answered]
        assert later.outcomes() == ((NO_REPLY,) if answered < 3 else (early,))
        with pytest.raises(StateError):
            connection.sent(Verb.MAIL)


@pytest.mark.parametrize("more", [b"", b"250 2.0.0 taken\r\n", b"2"])
def test_s04_behind_421_nothing_was_read_if_the_end_of_the_stream_follows(more: bytes):
    """RFC 5321 §3.8: the server closes. One that goes on after 421 may have taken what is behind."""
    first, second, third = (Transaction(1, lmtp=True) for _ in range(3))
    connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=first)
    for transaction in (second, third):
        for verb in (Verb.RSET, Verb.MAIL, Verb.RCPT, Verb.LAST):
            connection.sent(verb, transaction)
        transaction.ended = True
    whole(connection, b"250 2.0.0 taken\r\n" * 4 + b"421 4.3.2 bye\r\n" + more)
    early = Reply(421, "4.3.2", (b"bye",), early=True)
    assert connection.has_behind
    assert [t.outcomes() for t in (first, second, third)] == [(TAKEN,), (early,), (NO_REPLY,)]
    connection.closed()
    assert not connection.has_behind
    assert third.outcomes() == ((NO_REPLY,) if more else (early,))


def test_f40_lmtp_421_after_one_of_three_replies_leaves_one_unknown():
    transaction = Transaction(3, lmtp=True)
    connection = begun(Verb.MAIL, *[Verb.RCPT] * 3, Verb.LAST, transaction=transaction)
    whole(connection, b"250 ok\r\n" * 4 + b"250 2.0.0 taken\r\n421 bye\r\n")
    assert transaction.outcomes() == (TAKEN, Reply(421, "", (b"bye",)), NO_REPLY)


def test_s04_421_while_the_end_is_held_back_is_no_answer_to_it():
    transaction = Transaction(1, lmtp=False)
    connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=transaction, ended=False)
    whole(connection, b"250 ok\r\n" * 2 + b"421 4.4.2 timeout\r\n")
    assert transaction.outcomes() == (Reply(421, "4.4.2", (b"timeout",), early=True),)


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_s18_a_yes_before_the_end_of_a_message_has_left_answers_something_else(feed: Feed):
    connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=Transaction(1, lmtp=True), ended=False)
    with pytest.raises(RemoteProtocolError, match=r"accepted a message before its end \(“250 2.1.5 ok”\)"):
        feed(connection, b"250 too many\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n")


def test_a_message_that_was_refused_and_taken_all_the_same_is_nonsense():
    transaction = Transaction(1, lmtp=False)
    connection = begun(Verb.MAIL, Verb.RCPT, Verb.LAST, transaction=transaction)
    with pytest.raises(RemoteProtocolError, match=r"refused a message .* and then accepted it"):
        whole(connection, b"451 4.3.0 later\r\n250 ok\r\n250 ok\r\n")


@pytest.mark.parametrize(
    ("verb", "octets"), [(Verb.DATA, b"250 ok\r\n"), (Verb.MAIL, b"354 go on\r\n"), (Verb.DOT, b"354 go on\r\n")]
)
def test_s18_a_yes_of_the_wrong_kind_is_out_of_step(verb: Verb, octets: bytes):
    with pytest.raises(OutOfStep, match=f"in reply to {verb.value}: unexpected “"):
        whole(begun(verb), octets)


ALREADY = (Verb.MAIL, Verb.RCPT, Verb.LAST)


@pytest.mark.parametrize(
    ("second", "verb"),
    [
        (b"250 2.0.0 taken\r\n250 sender ok\r\n250 recipient ok\r\n", Verb.RCPT),  # one too many
        (b"250 recipient ok\r\n250 2.0.0 taken\r\n", Verb.MAIL),  # one too few
    ],
)
def test_s18_a_yes_in_the_words_for_another_command_is_out_of_step(second: bytes, verb: Verb):
    connection = begun(*ALREADY, transaction=Transaction(1, lmtp=True))
    whole(connection, b"250 sender ok\r\n250 recipient ok\r\n250 2.0.0 taken\r\n")
    for again in ALREADY:
        connection.sent(again, transaction := Transaction(1, lmtp=True))
    transaction.ended = True
    with pytest.raises(OutOfStep, match=f"in reply to {verb.value}: unexpected “250"):
        whole(connection, second)


def test_s18_words_may_differ_from_message_to_message_and_be_the_same_for_all():
    connection = begun(*ALREADY, transaction=Transaction(1, lmtp=False))
    whole(connection, b"250 ok\r\n250 ok\r\n250 ok\r\n")
    for words in (b"250 ok\r\n250 ok 17\r\n250 ok\r\n", b"251 will forward\r\n250 ok 18\r\n250 ok 18\r\n"):
        for again in ALREADY:
            connection.sent(again, transaction := Transaction(1, lmtp=False))
            transaction.ended = True
        assert len(whole(connection, words)) == 3


def test_challenges_leave_auth_in_flight():
    connection = begun(Verb.AUTH)
    answers = whole(connection, b"334 eA==\r\n334 \r\n")
    assert [answer.reply.code for answer in answers] == [334, 334]
    assert connection.waiting_for is Verb.AUTH
    assert whole(connection, b"235 2.7.0 welcome\r\n")[0].reply.ok
    assert connection.in_flight == 0


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(
    "line", [b"hello\r\n", b"\x80\x81", b"+OK\r\n", b"* OK IMAP4\r\n", b" 220 x\r\n", b"25\r\n", b"2500 x\r\n"]
)
def test_nonsense_is_refused(line: bytes, feed: Feed):
    with pytest.raises(OutOfStep, match="in reply to greeting"):
        feed(Connection(), line)


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_lf_alone_is_refused(feed: Feed):
    with pytest.raises(RemoteProtocolError, match="ends lines with LF alone"):
        feed(Connection(), b"220 ready\n")


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
def test_s29_different_codes_are_no_reply(feed: Feed):
    with pytest.raises(RemoteProtocolError, match="different codes"):
        feed(begun(Verb.MAIL), b"250-yes\r\n550 no\r\n")


def test_s29_endless_replies_are_cut_off():
    with pytest.raises(RemoteProtocolError, match="a reply to EHLO of more than 500 lines"):
        whole(begun(Verb.EHLO), b"250-x\r\n" * MAX_REPLY_LINES)
    with pytest.raises(RemoteProtocolError, match="or 65536 octets"):
        in_pieces(begun(Verb.EHLO), [b"250-" + b"x" * 30_000 + b"\r\n"] * 3)
    with pytest.raises(RemoteProtocolError, match="a line of more than 65536 octets"):
        in_pieces(begun(Verb.EHLO), [b"250 " + b"x" * 60_000] * 2)


EMPTY = b"\r\n \t \r\n\n"


@pytest.mark.parametrize("feed", [whole, octet_by_octet])
@pytest.mark.parametrize(
    "octets",
    [
        EMPTY + b"250 ok\r\n550 5.1.1 nobody\r\n",
        b"250 ok\r\n" + EMPTY + b"550 5.1.1 nobody\r\n" + EMPTY,
        b"250-\r\n" + EMPTY + b"250 ok\r\n" + EMPTY + b"550-5.1.1\r\n\r\n550 5.1.1 nobody \t\r\n",
        b"250\tok  \r\n550\t 5.1.1 nobody\r\n",
        b"250\r\n550 5.1.1  nobody\r\n",
    ],
)
def test_s31_empty_lines_and_blanks_are_passed_over(octets: bytes, feed: Feed):
    connection = begun(Verb.MAIL, Verb.RCPT)
    mail, rcpt = (answer.reply for answer in feed(connection, octets))
    assert mail.ok
    assert (rcpt.code, rcpt.enhanced, b"".join(rcpt.text).strip()) == (550, "5.1.1", b"nobody")
    assert connection.in_flight == 0
    assert not connection.has_octets


def test_s31_empty_lines_are_no_answer_to_the_next_command():
    connection = begun(Verb.MAIL)
    whole(connection, b"250 ok\r\n")
    whole(connection, EMPTY)
    connection.sent(Verb.RCPT)
    assert whole(connection, EMPTY) == []
    assert connection.waiting_for is Verb.RCPT
    assert not connection.has_line
    connection.check_unanswered()
    assert whole(connection, b"250 ok\r\n")[0].verb is Verb.RCPT
    assert connection.empty_lines


def test_s31_before_tls_an_empty_line_does_no_harm():
    connection = begun(Verb.STARTTLS)
    whole(connection, b"220 begin\r\n" + EMPTY)
    connection.check_quiet()
    whole(connection, EMPTY + b"250 injected\r\n")
    with pytest.raises(RemoteProtocolError, match="“250 injected"):
        connection.check_quiet()


@pytest.mark.parametrize("octets", [b" " * 100, b"\r x", b"\r\n \r\nx", b"\t250 ok\r\n"])
def test_s31_what_is_no_empty_line_is_refused(octets: bytes):
    with pytest.raises(RemoteProtocolError):
        whole(begun(Verb.MAIL), octets + b"\r\n" * (octets[:1] != b" "))


def test_s30_a_greeting_of_many_lines():
    answers = octet_by_octet(Connection(), b"220-fake\r\n" * 100 + b"220 ready\r\n")
    assert len(answers) == 1
    assert len(answers[0].reply.text) == 101


def test_before_tls_nothing_may_be_outstanding_or_left():
    connection = begun(Verb.STARTTLS)
    with pytest.raises(StateError):
        connection.check_quiet()
    whole(connection, b"220 begin\r\n")
    connection.check_quiet()
    whole(connection, b"250 injected\r\n")
    with pytest.raises(RemoteProtocolError, match="the server sent octets in clear after its reply to STARTTLS"):
        connection.check_quiet()
