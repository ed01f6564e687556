"""The SMTP destination against a scripted client: which outcomes it tells, and in which order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from syncd import clock
from syncd.destinations.base import Insistent, Stoppable
from syncd.destinations.smtp.pace import Limit, Pace
from syncd.destinations.smtp.relay import Connection
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.destinations.smtp.shared import Transaction
from syncd.destinations.smtp.thread import MAX_LOSSES, PIPELINE_DEPTH
from syncd.errors import AuthRefused, ConnectFailed, ConnectionLost, SyncdError, Throttled
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Repeat, Verdict
from tests.contract.destination_kit import message
from tests.fakes.smtp_client import FakeServer

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MAIL = b"From: <writer@example.com>\r\nSubject: %d\r\n\r\nhello\r\n"
LATER, NEVER = "451 4.3.0 try again", "550 5.1.1 no such user"


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def mail(count: int) -> list[Message]:
    return [message(key, MAIL % key) for key in range(1, count + 1)]


def destination(server: FakeServer, connections: int = 1, pace: Pace | None = None, **options: Any) -> SmtpDestination:
    relay = server.relay(connections)
    return SmtpDestination(SmtpOptions(relay.options, "me@example.org", **options), relay, pace)


class Told:
    """Consumes a destination as the engine does: a group is committed before the next is asked for."""

    def __init__(self, to: SmtpDestination, batch: list[Message], server: FakeServer) -> None:
        self.groups: list[list[Outcome]] = []
        self.committed_sending: set[int] = set()
        self.error: SyncdError | None = None
        server.on_end = self._ending
        self._server = server
        self._before = len(server.ended)
        self.ended_unasked = 0
        try:
            for group in to.deliver(batch):
                self.groups.append(list(group))
                self.committed_sending |= {o.key for o in group if o.verdict is Verdict.SENDING}
        except SyncdError as error:
            self.error = error

    def _ending(self) -> None:
        self.ended_unasked += len(self._server.ended) - self._before >= len(self.committed_sending)

    @property
    def final(self) -> dict[int, Outcome]:
        found = [o for group in self.groups for o in group if o.verdict is not Verdict.SENDING]
        assert len({o.key for o in found}) == len(found), "one final outcome each"
        return {o.key: o for o in found}

    @property
    def verdicts(self) -> dict[int, Verdict]:
        return {key: outcome.verdict for key, outcome in sorted(self.final.items())}

    def order(self, key: int) -> list[Verdict]:
        return [o.verdict for group in self.groups for o in group if o.key == key]


def told(server: FakeServer, count: int, connections: int = 1, **options: Any) -> Told:
    to = destination(server, connections, **options)
    found = Told(to, mail(count), server)
    to.close()
    assert found.ended_unasked == 0
    return found


def test_is_uncertain_and_can_be_stopped():
    to = destination(FakeServer())
    assert to.repeat is Repeat.UNCERTAIN
    assert isinstance(to, Stoppable)
    to.open()
    assert list(to.deliver([])) == []
    to.close()
    to.close()


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("depth", [1, PIPELINE_DEPTH])
def test_everything_is_told_before_its_end_and_delivered_with_its_reply(connections: int, depth: int):
    server = FakeServer(depth=depth)
    found = told(server, 60, connections)
    assert found.error is None
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert all(found.order(key) == [Verdict.SENDING, Verdict.DELIVERED] for key in range(1, 61))
    assert found.final[1].receipt == (mail(1)[0].body.sha256, "250 2.0.0 ok")
    assert len(server.arrived) == 60
    assert len(server.clients) <= connections
    assert all(client.said_goodbye and client.closed for client in server.clients)


def test_an_outcome_and_the_next_sending_share_a_group():
    found = told(FakeServer(), 20)
    assert len(found.groups) <= 25, "about one commit a message, not two"


def test_a_message_is_prepared_while_the_server_takes_in_the_one_before(monkeypatch: pytest.MonkeyPatch):
    server = FakeServer()
    to = destination(server)
    prepare = to._prepare
    order: list[tuple[int, int, int]] = []  # key, messages ended, messages answered

    def noted(message: Message, connection: Connection) -> Transaction | Outcome:
        order.append((message.key, len(server.ended), len(server.arrived)))
        return prepare(message, connection)

    monkeypatch.setattr(to, "_prepare", noted)
    found = Told(to, mail(4), server)
    to.close()
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert [key for key, *_ in order] == [1, 2, 3, 4], "each once"
    assert order[1:] == [(2, 1, 0), (3, 2, 1), (4, 3, 2)]


def test_connections_are_kept_from_batch_to_batch():
    server = FakeServer()
    to = destination(server, 2)
    for _ in range(5):
        Told(to, mail(10), server)
    to.close()
    assert len(server.clients) <= 2


def test_nothing_connects_before_there_is_something_to_deliver():
    server = FakeServer()
    to = destination(server)
    to.open()
    to.close()
    assert server.clients == []


def test_s27_what_arrives_has_our_trace_on_top_and_the_same_id_again(monkeypatch: pytest.MonkeyPatch):
    server = FakeServer()
    told(server, 1, source="pop.example.net", protocol="POP3")
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(days=3))
    told(server, 1)
    (first, octets), (second, _) = server.arrived
    assert (
        octets
        == (
            b"Received: from pop.example.net by me.example (syncd) with POP3\r\n"
            b" id %s for <me@example.org>;\r\n Tue, 24 Nov 2026 03:00:00 +0000\r\nX-Syncd-Id: %s\r\n"
        )
        % ((first.envid.encode(),) * 2)
        + MAIL % 1
    )
    assert first.envid == second.envid
    assert (first.sender, first.recipients, first.size) == ("", ("me@example.org",), len(octets))


def test_s27_without_trace_the_octets_are_those_that_came():
    server = FakeServer()
    told(server, 1, trace=False)
    assert server.arrived[0][1] == MAIL % 1


def test_s27_resent_fields_stand_between_the_trace_and_the_message():
    server = FakeServer()
    told(server, 1, resent=True, resent_from="me@example.net", sender="me@example.net")
    envelope, octets = server.arrived[0]
    assert envelope.sender == "me@example.net"
    assert octets.endswith(
        b"X-Syncd-Id: %s\r\nResent-Date: Tue, 24 Nov 2026 03:00:00 +0000\r\nResent-From: <me@example.net>\r\n"
        b"Resent-To: <me@example.org>\r\nResent-Message-ID: <%s@example.net>\r\n"
        % ((envelope.envid.encode(),) * 2)
        + MAIL % 1
    )


def test_bare_line_ends_are_recorded_with_the_delivery():
    server = FakeServer()
    to = destination(server)
    found = Told(to, [message(1, b"Subject: x\n\nbare\n")], server)
    to.close()
    assert found.final[1].receipt is not None
    assert found.final[1].receipt.hint == "250 2.0.0 ok [line ends made CRLF]"


@pytest.mark.parametrize(
    ("octets", "arrives", "note"),
    [
        (
            b"From a@b  Tue May 10 14:55:10 2016\r\nSubject: x\r\n\r\nb\r\n",
            b"X-Mailbox-Line: ",
            "mbox line kept as X-Mailbox-Line",
        ),
        (b"\tby mx\r\nSubject: x\r\n\r\nb\r\n", b"X-Syncd-First-Line:", "first line kept as X-Syncd-First-Line"),
        (b" indented\r\ntext\r\n", b"\r\n", "empty line put before the text, which has no header"),
    ],
)
def test_a_message_that_begins_oddly_is_delivered_whole_and_the_receipt_says_how(
    octets: bytes, arrives: bytes, note: str
):
    server = FakeServer()
    to = destination(server)
    found = Told(to, [message(1, octets)], server)
    to.close()
    assert server.arrived[0][1].endswith(b"\r\n" + arrives + octets)
    assert found.final[1].receipt is not None
    assert found.final[1].receipt.hint == f"250 2.0.0 ok [{note}]"


def test_what_was_done_and_changed_stands_on_the_receipt_together():
    server = FakeServer()
    to = destination(server)
    found = Told(to, [message(1, b" text\n")], server)
    to.close()
    assert found.final[1].receipt is not None
    assert found.final[1].receipt.hint.endswith("which has no header; line ends made CRLF]")


# --- what replies mean -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "MAIL "])
def test_s01_the_first_digit_decides(before: str):
    script = [before + LATER, before + NEVER, before + "499 odd", before + "599 odd"]
    found = told(FakeServer(script), 5)
    assert [v.name for v in found.verdicts.values()] == ["DEFERRED", "REJECTED", "DEFERRED", "REJECTED", "DELIVERED"]
    assert found.final[1].reason == "the server says: 451 4.3.0 try again"
    assert [found.final[key].code for key in (1, 2, 3, 4)] == ["451 4.3.0", "", "499", "599"]
    assert found.order(1)[0] is (Verdict.DEFERRED if before else Verdict.SENDING)


def test_s03_greylisting_waits_for_more_than_five_minutes():
    found = told(FakeServer(["MAIL 450 4.2.0 Greylisted, see http://postgrey.example/"]), 1)
    assert found.final[1].retry_at is not None
    assert found.final[1].retry_at - NOW > timedelta(minutes=5)


def test_s11_too_large_is_decided_before_an_octet_is_sent():
    server = FakeServer(announced=["SIZE 300"])
    to = destination(server)
    found = Told(to, [message(1, b"x" * 300), message(2, b"small\r\n")], server)
    to.close()
    assert found.verdicts == {1: Verdict.REJECTED, 2: Verdict.DELIVERED}
    assert "the server takes at most 300 (SIZE)" in found.final[1].reason
    assert found.final[1].code == ""
    assert not found.final[1].loop
    assert len(server.begun) == 1


def test_s25_what_comes_back_is_rejected():
    server = FakeServer()
    told(server, 1)
    to = destination(server)
    again = Told(to, [message(9, server.arrived[0][1])], server)
    to.close()
    assert again.verdicts == {9: Verdict.REJECTED}
    assert again.final[9].loop
    assert again.final[9].reason.startswith("seems to go round in a loop: it has our id")


def test_s25_a_person_may_insist():
    server = FakeServer()
    told(server, 1)
    to = destination(server)
    assert isinstance(to, Insistent)
    to.insist({Key(9)})
    back = server.arrived[0][1]
    again = Told(to, [message(9, back), message(10, back)], server)
    to.close()
    assert again.verdicts == {9: Verdict.DELIVERED, 10: Verdict.REJECTED}


# --- lost connections --------------------------------------------------------------------------------------


def test_s04_421_in_the_middle_of_a_session_means_a_new_connection():
    server = FakeServer(["250 ok", "MAIL 421 4.7.0 too many messages in this connection"])
    found = told(server, 3)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert (found.error, len(server.clients), len(server.arrived)) == (None, 2, 3)


def test_s28_a_server_that_takes_two_messages_a_connection():
    script = ["250 ok", "250 ok", "MAIL 421 enough"] * 5
    server = FakeServer(script)
    found = told(server, 9)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(server.arrived) == 9


def test_s04_421_on_a_fresh_connection_suspends_the_destination():
    server = FakeServer(["MAIL 421 4.7.0 come back in 10 minutes"])
    found = told(server, 3)
    assert isinstance(found.error, Throttled)
    assert found.error.until == NOW + timedelta(minutes=10)
    assert found.final == {}


@pytest.mark.parametrize("word", ["MAIL 421 too many messages", "LATE 421 too many messages"])
def test_s28_421_before_the_end_is_no_outcome_whenever_it_is_read(word: str):
    server = FakeServer(["250 ok", "250 ok", word] * 5)
    found = told(server, 9)
    assert found.error is None
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(server.arrived) == 9
    assert len({envelope.envid for envelope, _ in server.arrived}) == 9


def test_s04_a_server_that_says_421_to_everything_is_asked_once():
    for word, verdict in (("MAIL", None), ("LATE", Verdict.NOT_SENT), ("", Verdict.DEFERRED)):
        server = FakeServer([f"{word} 421 4.7.0 come back in 10 minutes".strip()] * 30)
        found = told(server, 30)
        assert isinstance(found.error, Throttled)
        assert found.error.until == NOW + timedelta(minutes=10)
        assert found.verdicts == ({1: verdict} if verdict else {})
        assert (len(server.clients), server.ended, server.arrived) == (1, server.ended[:1], [])


@pytest.mark.parametrize("word", ["MAIL 421", "LATE 421", "421"])
def test_s04_421_that_speaks_of_a_rate_suspends_in_the_middle_of_a_session_too(word: str):
    server = FakeServer(["250 ok", f"{word} 4.7.28 unusual rate of mail"])
    found = told(server, 5)
    assert isinstance(found.error, Throttled)
    assert found.verdicts[1] is Verdict.DELIVERED
    assert found.verdicts.get(2) is {"MAIL 421": None, "LATE 421": Verdict.NOT_SENT, "421": Verdict.DEFERRED}[word]
    assert (len(server.clients), len(server.begun)) == (1, 2)


def test_s04_421_to_the_end_of_a_message_defers_it_and_the_others_go_on():
    server = FakeServer(["250 ok", "421 4.3.0 going down"])
    found = told(server, 4)
    assert [v.name for v in found.verdicts.values()] == ["DELIVERED", "DEFERRED", "DELIVERED", "DELIVERED"]
    assert found.final[2].retry_at is None
    assert (found.error, len(server.clients)) == (None, 2)


def test_what_was_refused_by_421_and_not_tried_again_is_surely_not_sent():
    server = FakeServer(["250 ok", "LATE 421 too many messages"])
    server.opening.extend([None, ConnectFailed("mx.example.net:25: no connection")])
    found = told(server, 3)
    assert isinstance(found.error, ConnectFailed)
    assert found.verdicts == {1: Verdict.DELIVERED, 2: Verdict.NOT_SENT}


def test_s04_421_after_the_end_is_a_reply_and_leaves_the_others_uncertain():
    server = FakeServer(["421 4.3.0 going down", "250 ok", "250 ok"], depth=3)
    found = told(server, 3)
    assert found.verdicts[1] is Verdict.DEFERRED
    assert set(found.verdicts.values()) <= {Verdict.DEFERRED, Verdict.UNCERTAIN, Verdict.DELIVERED}
    assert len(found.final) == 3
    uncertain = [outcome for outcome in found.final.values() if outcome.verdict is Verdict.UNCERTAIN]
    assert all("“421 4.3.0 going down”" in outcome.reason for outcome in uncertain), "the server's last words are told"


@pytest.mark.parametrize(
    "reply",
    [
        "MAIL 450 4.7.28 Gmail has detected an unusual rate of mail",
        "550 5.4.5 Daily user sending limit exceeded",
        "554 5.4.6 Unusual sending activity detected",
        "432 4.3.2 Concurrent connections limit exceeded",
    ],
)
def test_s22_a_server_that_has_enough_suspends_the_destination_and_rejects_nothing(reply: str):
    server = FakeServer(["250 ok", reply])
    found = told(server, 5)
    assert isinstance(found.error, Throttled)
    assert found.error.until > NOW
    assert found.verdicts == {1: Verdict.DELIVERED, 2: Verdict.DEFERRED}
    assert found.final[2].retry_at == found.error.until
    assert len(server.begun) == 2, "nothing more is begun"


def test_s21_a_refused_password_is_tried_once_whatever_the_number_of_connections():
    server = FakeServer()
    server.opening.extend([AuthRefused("mx.example.net:25: no")] * 4)
    found = told(server, 8, connections=4)
    assert isinstance(found.error, AuthRefused)
    assert (len(server.opening), found.final) == (3, {})


def test_a_lost_connection_before_the_end_is_not_sent_and_tried_again_on_a_new_one():
    server = FakeServer(["cut"])
    found = told(server, 2)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(server.clients) == 2
    assert len(server.arrived) == 2


def test_a_message_on_which_the_server_hangs_up_does_not_stop_the_others():
    server = FakeServer(["cut", "cut"])
    found = told(server, 3)
    assert found.verdicts == {1: Verdict.DEFERRED, 2: Verdict.DELIVERED, 3: Verdict.DELIVERED}
    assert "lost twice while it was sent" in found.final[1].reason
    assert found.error is None


def test_a_server_that_hangs_up_again_and_again_stops_the_batch():
    server = FakeServer(["cut"] * 20)
    found = told(server, 5)
    assert isinstance(found.error, ConnectionLost)
    assert len(server.begun) == MAX_LOSSES
    assert set(found.verdicts.values()) <= {Verdict.DEFERRED}


def test_a_message_whose_end_could_not_leave_was_not_sent():
    server = FakeServer(["250 ok", "stuck", "stuck"])
    found = told(server, 3)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(server.arrived) == 3


def test_a_server_that_lets_no_message_end_stops_the_batch_and_has_nothing():
    server = FakeServer(["stuck"] * 20)
    found = told(server, 5)
    assert isinstance(found.error, ConnectionLost)
    assert len(server.begun) == MAX_LOSSES
    assert set(found.verdicts.values()) == {Verdict.DEFERRED, Verdict.NOT_SENT}


@pytest.mark.parametrize("word", ["lost", "lost-early"])
def test_s09_a_reply_lost_after_the_end_is_uncertain_and_never_sent_again_here(word: str):
    server = FakeServer([word])
    found = told(server, 3)
    assert found.verdicts == {1: Verdict.UNCERTAIN, 2: Verdict.DELIVERED, 3: Verdict.DELIVERED}
    assert "it may have the message" in found.final[1].reason
    assert [envelope.envid for envelope in server.begun].count(server.begun[0].envid) == 1


def test_s09_what_was_in_flight_with_it_is_uncertain_too():
    server = FakeServer(["250 ok", "lost", *["250 ok"] * 20], depth=PIPELINE_DEPTH)
    found = told(server, 20)
    uncertain = [key for key, verdict in found.verdicts.items() if verdict is Verdict.UNCERTAIN]
    assert 1 <= len(uncertain) <= PIPELINE_DEPTH
    assert len(found.final) == 20
    assert len(server.ended) == len(set(server.ended)) == 20


def test_every_reply_lost_stops_before_the_whole_batch_is_uncertain():
    server = FakeServer(["lost"] * 50)
    found = told(server, 50)
    assert isinstance(found.error, ConnectionLost)
    assert set(found.verdicts.values()) == {Verdict.UNCERTAIN}
    assert len(found.final) == len(server.ended) == MAX_LOSSES


def test_a_connection_that_went_stale_between_batches_costs_a_message_nothing():
    server = FakeServer()
    to = destination(server, 3)
    Told(to, mail(9), server)
    for client in server.clients:
        client.closed = True
    found = Told(to, mail(9), server)
    to.close()
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}


def test_a_connection_that_the_server_closed_between_batches_is_not_used():
    server = FakeServer()
    to = destination(server, 3)
    Told(to, mail(9), server)
    known = list(server.clients)
    for client in known:
        client.closed = client.stale = True
    found = Told(to, mail(9), server)
    to.close()
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(server.begun) == 18, "none of them was begun in vain"
    assert not any(client.said_goodbye for client in known)


def test_a_server_that_allows_fewer_connections_gets_fewer():
    server = FakeServer()
    server.opening.extend([None, *[Throttled("421 too many connections", until=NOW)] * 3])
    found = told(server, 30, connections=4)
    assert found.error is None
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert len(found.final) == 30


def test_no_connection_at_all_is_about_the_destination():
    server = FakeServer()
    server.opening.append(ConnectFailed("mx.example.net:25: no connection"))
    found = told(server, 3)
    assert isinstance(found.error, ConnectFailed)
    assert found.groups == []


def test_an_error_of_ours_in_a_sender_thread_reaches_the_engine(monkeypatch: pytest.MonkeyPatch):
    server = FakeServer()
    to = destination(server)
    monkeypatch.setattr(to, "_prepare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(to.deliver(mail(3)))
    to.close()
    assert server.ended == []


# --- the contract about SENDING, and stopping ----------------------------------------------------------------


def test_where_the_iterator_is_dropped_nothing_ends():
    server = FakeServer()
    to = destination(server, 3)
    groups = to.deliver(mail(9))
    assert {o.verdict for o in next(iter(groups))} == {Verdict.SENDING}
    groups.close()  # type: ignore[attr-defined]
    to.close()
    assert server.ended == []
    assert all(client.closed for client in server.clients)


def test_where_the_iterator_is_forgotten_close_ends_the_threads():
    server = FakeServer()
    to = destination(server, 3)
    groups = to.deliver(mail(9))
    next(iter(groups))
    before = threading.active_count()
    to.close()
    assert threading.active_count() < before
    assert server.ended == []


def stopped_in(server: FakeServer, at: Callable[[SmtpDestination, list[Outcome]], bool]) -> Iterator[Outcome]:
    to = destination(server)
    for group in to.deliver(mail(9)):
        yield from group
        if at(to, list(group)):
            to.stop()
    assert list(to.deliver(mail(1))) == []
    to.close()


def test_stop_before_a_grant_leaves_it_unsent():
    server = FakeServer()
    outcomes = list(stopped_in(server, lambda *_: True))
    assert [(o.key, o.verdict) for o in outcomes] == [(1, Verdict.SENDING), (1, Verdict.NOT_SENT)]
    assert server.ended == []


def test_stop_while_a_reply_is_awaited_gives_it_up_as_uncertain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("syncd.destinations.smtp.threads.GRACE_S", 0.0)
    server = FakeServer()
    server.hangs.clear()
    to = destination(server)
    server.on_end = to.stop
    outcomes = [o for group in to.deliver(mail(9)) for o in group]
    to.close()
    assert [(o.key, o.verdict) for o in outcomes] == [(1, Verdict.SENDING), (1, Verdict.UNCERTAIN)]


def test_stop_listens_to_a_server_that_is_just_answering():
    server = FakeServer()
    to = destination(server)
    server.on_end = to.stop
    outcomes = [o for group in to.deliver(mail(9)) for o in group]
    to.close()
    assert [(o.key, o.verdict) for o in outcomes] == [(1, Verdict.SENDING), (1, Verdict.DELIVERED)]


@pytest.mark.parametrize("limit", [1, 7, 15])
def test_our_own_limit_leaves_none_in_flight_uncertain(limit: int):
    server = FakeServer(depth=PIPELINE_DEPTH)
    found = told(server, 30, pace=Pace([Limit(limit, 86_400)]))
    assert isinstance(found.error, Throttled)
    assert found.verdicts == dict.fromkeys(range(1, limit + 1), Verdict.DELIVERED)


def test_s22_slow_down_leaves_none_in_flight_uncertain():
    server = FakeServer(
        [*["250 ok"] * 12, "452 4.3.1 slow down", "550 no", "452 4.3.1 slow down"], depth=PIPELINE_DEPTH
    )
    found = told(server, 40)
    assert isinstance(found.error, Throttled)
    names = Counter(verdict.name for verdict in found.verdicts.values())
    assert names == Counter(DEFERRED=2, REJECTED=1, DELIVERED=len(server.begun) - 3)
    assert len(server.begun) <= 12 + PIPELINE_DEPTH


@pytest.mark.parametrize("depth", [1, PIPELINE_DEPTH])
def test_an_error_of_ours_leaves_none_in_flight_uncertain(monkeypatch: pytest.MonkeyPatch, depth: int):
    server = FakeServer(depth=depth)
    to = destination(server)
    prepare = to._prepare
    monkeypatch.setattr(to, "_prepare", lambda m, c: prepare(m, c) if m.key < 6 else 1 / 0)
    groups: list[list[Outcome]] = []
    with pytest.raises(ZeroDivisionError):
        groups.extend(map(list, to.deliver(mail(9))))
    to.close()
    final = {o.key: o.verdict for group in groups for o in group if o.verdict is not Verdict.SENDING}
    assert final == dict.fromkeys(range(1, 6), Verdict.DELIVERED)


def test_what_we_reject_ourselves_uses_up_no_place():
    """Neither what is found to be too large, nor an envelope that cannot be sent."""
    server = FakeServer(["unfit", "250 ok", "unfit", "250 ok"], announced=("SIZE 2000", "8BITMIME"))
    batch = [*mail(4), message(5, b"Subject: large\r\n\r\n" + b"x" * 3000), *mail(7)[5:]]
    found = Told(destination(server, pace=Pace([Limit(3, 86_400)])), batch, server)
    assert isinstance(found.error, Throttled)
    assert [verdict.name for verdict in found.verdicts.values()] == [
        *("REJECTED", "DELIVERED", "REJECTED", "DELIVERED", "REJECTED", "DELIVERED")
    ]


def test_our_own_limit_suspends_and_what_is_left_is_untouched():
    server = FakeServer()
    found = told(server, 5, pace=Pace([Limit(3, 86_400)]))
    assert isinstance(found.error, Throttled)
    assert found.error.until == NOW + timedelta(days=1)
    assert found.verdicts == dict.fromkeys((1, 2, 3), Verdict.DELIVERED)
    assert len(server.begun) == 3
