"""The SMTP and LMTP destination over real sockets: what arrives, how often, and with which outcome."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd import clock
from syncd.destinations.smtp.pace import Limit, Pace
from syncd.destinations.smtp.relay import Relay, RelayOptions
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.destinations.smtp.thread import PIPELINE_DEPTH
from syncd.errors import AuthRefused, ConnectFailed, ConnectionLost, Refused, SyncdError, Throttled
from syncd.mail.body import CHUNK_OCTETS, MEMORY_CAP_OCTETS, BodyWriter
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict
from syncd.net.endpoint import Endpoint
from syncd.net.transport import Transport
from syncd.secret import Secret
from syncd.services.signin import try_out_relay
from syncd.smtp.values import FINAL, Verb
from tests.contract.destination_kit import message
from tests.contract.smtp_kit import HELO, hurried, patient
from tests.fakes.smtp import CAPABILITIES, CHUNKING, PASSWORD, USERNAME, FakeSmtp
from tests.support.trace import split

YOU = "you@example.org"
DOVECOT = b"220 mx.example Dovecot ready.\r\n"


@pytest.fixture
def server() -> Iterator[FakeSmtp]:
    with FakeSmtp() as fake:
        yield fake


@pytest.fixture
def lmtp() -> Iterator[FakeSmtp]:
    with FakeSmtp(lmtp=True) as fake:
        fake.greeting = DOVECOT
        fake.capabilities = CHUNKING
        yield fake


SIGNED_IN: dict[str, Any] = {"username": USERNAME, "password": lambda: Secret(PASSWORD), "allow_insecure": True}


def account(server: FakeSmtp, **more: Any) -> RelayOptions:
    """Options for `server`; `more` are fields of RelayOptions and of its Endpoint."""
    usual = {"lmtp": server.lmtp, "ehlo_name": HELO, "deadlines": patient()}
    names = {field.name for field in dataclasses.fields(Endpoint)}
    endpoint = Endpoint(server.host, server.port, "none", **{name: more.pop(name) for name in names & more.keys()})
    return RelayOptions(endpoint, **{**usual, **more})


def destination(
    server: FakeSmtp,
    connections: int = 1,
    *,
    relay: dict[str, Any] | None = None,
    pace: Pace | None = None,
    **options: Any,
) -> SmtpDestination:
    options = {"relay": account(server, **{"connections": connections, **(relay or {})}), **options}
    return SmtpDestination(SmtpOptions(recipient=YOU, **options), pace=pace)


def mail(count: int) -> list[Message]:
    return [message(key, b"Subject: %d\r\n\r\n.hello %d\r\n" % (key, key)) for key in range(1, count + 1)]


class Result:
    """The outcomes of a batch; fails if a message arrived before it was told to be SENDING."""

    def __init__(self, server: FakeSmtp, to: SmtpDestination, batch: Sequence[Message]) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.error: SyncdError | None = None
        self.groups = 0
        sending = len(server.arrivals)
        try:
            for group in to.deliver(batch):
                assert len(server.arrivals) <= sending, "it ended before it was told"
                self.groups += 1
                sending += sum(outcome.verdict is Verdict.SENDING for outcome in group)
                final = [outcome for outcome in group if outcome.verdict is not Verdict.SENDING]
                assert not self.outcomes.keys() & {outcome.key for outcome in final}
                self.outcomes.update({outcome.key: outcome for outcome in final})
        except SyncdError as error:
            self.error = error

    @property
    def verdicts(self) -> dict[int, Verdict]:
        return {key: outcome.verdict for key, outcome in sorted(self.outcomes.items())}


def deliver(server: FakeSmtp, batch: Sequence[Message], connections: int = 1, **options: Any) -> Result:
    to = destination(server, connections, **options)
    try:
        return Result(server, to, batch)
    finally:
        to.close()


def copies(server: FakeSmtp) -> Counter[bytes]:
    """Returns the messages that arrived, without our trace."""
    return Counter(split(arrival.octets)[1] for arrival in server.arrivals)


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("capabilities", [CAPABILITIES, CHUNKING, ("SIZE", "8BITMIME")], ids=["data", "bdat", "slow"])
def test_everything_arrives_once(server: FakeSmtp, connections: int, capabilities: tuple[str, ...]):
    server.capabilities = capabilities
    batch = mail(40)
    found = deliver(server, batch, connections)
    assert found.error is None
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert copies(server) == Counter(m.body.data for m in batch)
    assert server.connections <= connections
    assert server.commands.count("QUIT") == server.connections
    assert len({arrival.octets.split(b"X-Syncd-Id: ")[1][:37] for arrival in server.arrivals}) == 40


def test_s32_the_envelope_carries_the_id_of_the_trace(server: FakeSmtp):
    deliver(server, mail(1), sender="me@example.org")
    trace_id = server.arrivals[0].octets.split(b"X-Syncd-Id: ")[1].split(b"\r\n")[0].decode()
    (command,) = (line for line in server.commands if line.startswith("MAIL"))
    assert command.startswith("MAIL FROM:<me@example.org> SIZE=")
    assert command.endswith(f" ENVID={trace_id}")


def test_lmtp_has_several_messages_in_flight(lmtp: FakeSmtp):
    batch = mail(60)
    found = deliver(lmtp, batch)
    assert found.error is None
    assert copies(lmtp) == Counter(m.body.data for m in batch)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}


@pytest.mark.parametrize("capabilities", [CAPABILITIES, CHUNKING], ids=["data", "bdat"])
def test_s14_what_looks_like_an_end_at_the_cut_between_two_chunks_of_a_file_smuggles_nothing(
    server: FakeSmtp, tmp_path: Path, capabilities: tuple[str, ...]
):
    server.capabilities = capabilities
    smuggled = b".\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n.\r\n"
    for around in (-1, 0, 1, 2):
        head = b"Subject: big\r\n\r\n".ljust(CHUNK_OCTETS - 2 + around, b"x") + b"\r\n"
        octets = head + smuggled + b"y" * MEMORY_CAP_OCTETS + b"\r\n"
        writer = BodyWriter(tmp_path)
        writer.write(octets)
        big = dataclasses.replace(message(1, b""), body=writer.finish())
        server.arrivals.clear()
        found = deliver(server, [big], trace=False)
        assert found.verdicts == {1: Verdict.DELIVERED}
        assert [arrival.octets for arrival in server.arrivals] == [octets]
        big.body.close()


@pytest.mark.parametrize("wanted", [None, False, True])
def test_several_messages_are_in_flight_where_that_is_known_to_work_or_configured(
    server: FakeSmtp,
    wanted: bool | None,  # noqa: FBT001
):
    """With a server that is not known, the next message begins after the reply to the last one."""
    server.capabilities = CHUNKING
    deliver(server, mail(12), relay={"pipeline_messages": wanted})
    assert copies(server) == Counter(m.body.data for m in mail(12))
    first_end = next(at for at, line in enumerate(server.commands) if "LAST" in line)
    assert ("RSET" in server.commands[first_end : first_end + 4]) is (wanted is True)


def test_s18_each_reply_of_lmtp_goes_to_its_own_message(lmtp: FakeSmtp):
    words = [b"250 2.0.0 ok\r\n", b"452 4.2.2 full\r\n", b"550 5.7.1 no\r\n"]
    lmtp.replies["LAST"] = words * 10
    found = deliver(lmtp, mail(30))
    expected = [Verdict.DELIVERED, Verdict.DEFERRED, Verdict.REJECTED] * 10
    assert list(found.verdicts.values()) == expected
    assert copies(lmtp) == Counter(m.body.data for m in mail(30) if m.key % 3 == 1)


def test_s06_one_refused_message_does_not_stop_the_others(server: FakeSmtp):
    server.replies["RCPT"] = [b"250 2.1.5 ok\r\n", b"550 5.1.1 nobody\r\n", b"450 4.2.0 greylisted\r\n"]
    found = deliver(server, mail(5))
    assert [v.name for v in found.verdicts.values()] == ["DELIVERED", "REJECTED", "DEFERRED", "DELIVERED", "DELIVERED"]


def test_s04_421_at_the_greeting_suspends(server: FakeSmtp):
    server.greeting = b"421 4.7.0 too many connections, try again in 10 minutes\r\n"
    found = deliver(server, mail(3), connections=4)
    assert isinstance(found.error, Throttled)
    assert (server.connections, found.outcomes) == (1, {})


OFFERS = {"data": CAPABILITIES, "bdat": CHUNKING, "slow": ("SIZE", "8BITMIME"), "slow bdat": ("8BITMIME", "CHUNKING")}


@pytest.mark.parametrize("capabilities", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("connections", [1, 3])
def test_s28_a_server_that_takes_three_messages_a_connection(
    server: FakeSmtp, capabilities: tuple[str, ...], connections: int
):
    server.capabilities = capabilities
    server.messages_a_connection = 3
    found = deliver(server, mail(10), connections)
    assert found.error is None
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert copies(server) == Counter(m.body.data for m in mail(10))
    assert server.connections >= 4
    assert server.connections == 4 or connections > 1


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("most", [1, 3, 10, 12])
def test_s28_lmtp_that_takes_few_messages_a_connection_defers_none_and_leaves_none_uncertain(
    lmtp: FakeSmtp, most: int, connections: int
):
    """Up to ten are on their way behind the one that 421 answers: the server has not looked at them."""
    lmtp.messages_a_connection = most
    found = deliver(lmtp, mail(40), connections)
    assert found.error is None
    assert found.verdicts == dict.fromkeys(range(1, 41), Verdict.DELIVERED)
    assert copies(lmtp) == Counter(m.body.data for m in mail(40))
    assert lmtp.connections <= -(-40 // most) + connections


TOO_MUCH = b"421 4.7.0 too many messages, come back later\r\n"


@pytest.mark.parametrize(
    ("offer", "where", "verdict"),
    [
        *((offer, where, Verdict.NOT_SENT) for offer in OFFERS for where in ("MAIL", "RCPT")),
        *((offer, "DATA", Verdict.NOT_SENT) for offer in ("data", "slow")),
        *((offer, ".", Verdict.DEFERRED) for offer in ("data", "slow")),
        *((offer, "LAST", Verdict.DEFERRED) for offer in ("bdat", "slow bdat")),
    ],
)
def test_s04_a_server_that_says_421_to_every_message_is_suspended(
    server: FakeSmtp, offer: str, where: str, verdict: Verdict
):
    server.capabilities = OFFERS[offer]
    server.replies[where] = TOO_MUCH
    found = deliver(server, mail(30))
    assert isinstance(found.error, Throttled)
    assert server.connections == 1
    assert list(found.verdicts.items()) in ([(1, verdict)], [(1, verdict)][verdict is Verdict.NOT_SENT :])
    assert server.arrivals == []


def test_lmtp_our_own_limit_leaves_none_in_flight_uncertain(lmtp: FakeSmtp):
    to = destination(lmtp, pace=Pace([Limit(15, 86_400)]))
    found = Result(lmtp, to, mail(30))
    to.close()
    assert isinstance(found.error, Throttled)
    assert found.verdicts == dict.fromkeys(range(1, 16), Verdict.DELIVERED)


def test_s22_lmtp_slow_down_leaves_none_in_flight_uncertain(lmtp: FakeSmtp):
    lmtp.replies["LAST"] = [b"250 ok\r\n"] * 12 + [b"452 4.3.1 slow down\r\n"]
    found = deliver(lmtp, mail(30))
    assert isinstance(found.error, Throttled)
    counts = Counter(verdict.name for verdict in found.verdicts.values())
    assert counts == Counter(DEFERRED=1, DELIVERED=len(lmtp.arrivals))


def test_s20_signs_in_once_for_many_messages(server: FakeSmtp):
    server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
    found = deliver(server, mail(5), relay=SIGNED_IN)
    assert set(found.verdicts.values()) == {Verdict.DELIVERED}
    assert server.verbs().count("AUTH") == 1


def test_s21_a_wrong_password_is_tried_once(server: FakeSmtp):
    server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
    relay = {**SIGNED_IN, "password": lambda: Secret("wrong")}
    found = deliver(server, mail(9), connections=4, relay=relay)
    assert isinstance(found.error, AuthRefused)
    assert (server.verbs().count("AUTH"), found.outcomes, server.arrivals) == (1, {}, [])


@pytest.mark.parametrize(
    ("reply", "kind", "minutes"),
    [
        (b"454 4.7.0 Too many login attempts, please try again in 10 minutes\r\n", Throttled, 10),
        (b"535 5.7.0 too many failed logins, try again later\r\n", Throttled, 15),
        (b"454 4.7.0 temporary authentication failure\r\n", Refused, None),
        (b"535 5.7.8 no such user or password\r\n", AuthRefused, None),
    ],
)
def test_s21_a_throttle_at_the_sign_in_suspends(
    server: FakeSmtp, reply: bytes, kind: type[SyncdError], minutes: int | None, monkeypatch: pytest.MonkeyPatch
):
    now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
    server.replies["AUTH"] = reply
    found = deliver(server, mail(9), connections=4, relay=SIGNED_IN)
    assert type(found.error) is kind
    assert (server.verbs().count("AUTH"), found.outcomes) == (1, {})
    if isinstance(found.error, Throttled) and minutes is not None:
        assert found.error.until == now + timedelta(minutes=minutes)


def test_s21_a_wrong_password_is_tried_once_for_all_recipients(server: FakeSmtp):
    server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
    wrong = {**SIGNED_IN, "password": lambda: Secret("wrong"), "connections": 4}
    options = SmtpOptions(account(server, **wrong), YOU)
    relay = Relay(options.relay)
    routes = [SmtpDestination(options, relay) for _ in range(3)]
    errors: list[SyncdError | None] = []
    threads = [threading.Thread(target=lambda to=to: errors.append(Result(server, to, mail(9)).error)) for to in routes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [AuthRefused] * 3
    assert server.verbs().count("AUTH") == 1


def test_nobody_listens():
    with FakeSmtp() as server:
        pass
    found = deliver(server, mail(1))
    assert isinstance(found.error, ConnectFailed)


def check_copies(server: FakeSmtp, found: Result, batch: Sequence[Message]) -> None:
    """Copies ≤ 1 + uncertain outcomes; delivered is there, and what was surely not sent is not."""
    there = copies(server)
    for m in batch:
        verdict = found.verdicts.get(m.key)
        number = there[m.body.data or b""]
        if verdict is Verdict.DELIVERED:
            assert number == 1
        elif verdict is Verdict.UNCERTAIN:
            assert number <= 1
        else:
            assert number == 0, verdict


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_s09_a_connection_that_ends_at_any_octet_we_send(chunking: bool):  # noqa: FBT001
    step, at, seen = 7, 0, set()
    while True:
        at += step
        with FakeSmtp() as server:
            server.capabilities = CHUNKING if chunking else CAPABILITIES
            server.cut_in_after = at
            found = deliver(server, mail(2))
            check_copies(server, found, mail(2))
            seen |= set(found.verdicts.values())
            if found.error is None and server.connections == 1:
                break
    assert {Verdict.DELIVERED} <= seen


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_s09_a_connection_that_ends_at_any_octet_it_answers(chunking: bool):  # noqa: FBT001
    step, at, seen = 5, 0, set()
    while True:
        at += step
        with FakeSmtp() as server:
            server.capabilities = CHUNKING if chunking else CAPABILITIES
            server.cut_after = at
            found = deliver(server, mail(2))
            check_copies(server, found, mail(2))
            seen |= set(found.verdicts.values())
            if found.error is None and server.connections == 1:
                break
    assert {Verdict.DELIVERED, Verdict.UNCERTAIN} <= seen


def test_s09_lmtp_cut_with_messages_in_flight():
    batch = mail(30)
    for at in range(300, 3000, 90):
        with FakeSmtp(lmtp=True) as server:
            server.greeting, server.capabilities, server.cut_after = DOVECOT, CHUNKING, at
            found = deliver(server, batch)
            check_copies(server, found, batch)
            uncertain = sum(verdict is Verdict.UNCERTAIN for verdict in found.verdicts.values())
            assert uncertain <= PIPELINE_DEPTH * server.connections


def test_s10_a_server_that_never_answers_is_given_up_as_uncertain(server: FakeSmtp):
    server.hangs_on = {"."}
    found = deliver(server, mail(1), relay={"deadlines": hurried(Verb.DOT)})
    assert found.verdicts == {1: Verdict.UNCERTAIN}
    assert "it may have the message" in found.outcomes[1].reason


def test_stop_from_another_thread_ends_a_wait_for_the_reply(server: FakeSmtp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("syncd.destinations.smtp.threads.GRACE_S", 0.1)
    server.hangs_on = {"."}
    to = destination(server, relay={})
    verdicts = []
    for group in to.deliver(mail(3)):
        verdicts += [outcome.verdict for outcome in group]
        if verdicts == [Verdict.SENDING]:
            threading.Timer(0.2, to.stop).start()
    to.close()
    assert verdicts == [Verdict.SENDING, Verdict.UNCERTAIN]
    assert server.arrivals == []


@pytest.mark.parametrize("words", [b"", b"421 4.4.2 idle for too long\r\n"])
@pytest.mark.parametrize("capabilities", OFFERS.values(), ids=OFFERS)
def test_connections_that_the_server_closed_while_idle_cost_nothing(
    server: FakeSmtp, capabilities: tuple[str, ...], words: bytes
):
    server.capabilities = capabilities
    to = destination(server, 3)
    assert set(Result(server, to, mail(9)).verdicts.values()) == {Verdict.DELIVERED}
    before = server.connections
    server.hang_up(words)
    begun = server.verbs().count("MAIL")
    again = Result(server, to, [message(key, b"Subject: %d\r\n\r\n" % key) for key in range(20, 29)])
    to.close()
    assert again.verdicts == dict.fromkeys(range(20, 29), Verdict.DELIVERED)
    assert server.verbs().count("MAIL") == begun + 9
    assert server.connections > before


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("words", [b"", b"421 4.4.2 idle for too long\r\n"])
@pytest.mark.parametrize("capabilities", OFFERS.values(), ids=OFFERS)
def test_s04_a_connection_that_the_server_closed_before_the_end_left_is_surely_not_sent(
    server: FakeSmtp,
    capabilities: tuple[str, ...],
    words: bytes,
    reset: bool,  # noqa: FBT001
):
    """Seen as late as can be: the commit before the last octets took long; a reset may have come meanwhile."""
    server.capabilities = capabilities
    to = destination(server)
    outcomes: list[Outcome] = []
    for group in to.deliver(mail(3)):
        outcomes += group
        if server.connections == 1 and outcomes[-1][:2] == (2, Verdict.SENDING):
            server.hang_up(words)
            sender = to._threads._threads[0] if to._threads else None
            with suppress(OSError):  # the kernel reports the reset once
                while reset and sender and sender._transport and sender._transport._socket:
                    sender._transport._socket.send(b"x")
    to.close()
    final = {o.key: o.verdict for o in outcomes if o.verdict is not Verdict.SENDING}
    assert final == dict.fromkeys((1, 2, 3), Verdict.DELIVERED)
    assert copies(server) == Counter(m.body.data for m in mail(3))


def await_envelope(to: SmtpDestination) -> None:
    """Wait until all commands before the end of the message are answered; its thread waits to be granted."""
    assert to._threads is not None
    used = to._threads._threads[0]._connection
    assert used is not None
    connection, sock = used.client._session.connection, used.client.transport._socket
    assert sock is not None
    owed = max(connection.in_flight - 1, 0) - connection.buffer.peek(1 << 16).count(b"\n")
    while owed > 0 and sock.recv(1 << 16, socket.MSG_PEEK).count(b"\n") < owed:
        pass


@pytest.mark.parametrize("at", [1, 2, 5, 11])
@pytest.mark.parametrize("where", ["LAST", "RSET", "MAIL", "RCPT"])
@pytest.mark.parametrize("kind", ["one too few", "one too many"])
def test_s18_lmtp_a_reply_too_few_or_too_many_with_messages_in_flight_is_taken_for_no_other(
    lmtp: FakeSmtp, kind: str, where: str, at: int
):
    """A message that the server did not take is never DELIVERED: the reply to RSET or RCPT is not a receipt."""
    yes = {"LAST": b"250 2.0.0 saved\r\n", "MAIL": b"250 2.1.0 ok\r\n", "RCPT": b"250 2.1.5 ok\r\n"}
    said = yes.get(where, b"250 2.0.0 flushed\r\n")
    lmtp.replies[where] = [said] * at + [b"" if kind == "one too few" else said * 2]
    if where != "LAST":
        lmtp.replies["LAST"] = [b"452 4.2.2 full\r\n" if key == at + 3 else yes["LAST"] for key in range(1, 31)]
    found = deliver(lmtp, mail(20), relay={"deadlines": hurried(Verb.MAIL, Verb.RCPT, Verb.RSET, Verb.LAST)})
    for m in mail(20):
        verdict = found.verdicts.get(m.key)
        there = copies(lmtp)[m.body.data or b""]
        assert there == 1 if verdict is Verdict.DELIVERED else there <= 1
        assert there == 0 or verdict in {Verdict.DELIVERED, Verdict.UNCERTAIN}


@pytest.mark.parametrize("words", [b"250 2.0.0 ok again\r\n", b"250 2.0.0 o"])
@pytest.mark.parametrize("capabilities", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("lmtp", [False, True])
def test_s18_a_reply_that_nobody_asked_for_while_a_message_waits_shifts_nothing(
    lmtp: bool,  # noqa: FBT001
    capabilities: tuple[str, ...],
    words: bytes,
):
    """It would be taken for the reply to the message, which the server then refuses."""
    with FakeSmtp(lmtp=lmtp) as server:
        server.capabilities = capabilities
        full = b"452 4.3.1 full\r\n"
        server.replies = {name: [b"250 2.0.0 ok\r\n", full, full, full] for name in (".", "LAST")}
        half_a_line: list[bytes] = []  # never ends: the next wait for the reply to a message is a short one
        deadlines = hurried(*FINAL, when=lambda: bool(half_a_line and half_a_line.pop()))
        to = destination(server, relay={"pipeline_messages": True, "deadlines": deadlines})
        outcomes: list[Outcome] = []
        for group in to.deliver(mail(3)):
            outcomes += group
            if server.connections == 1 and outcomes[-1][:2] == (2, Verdict.SENDING):
                await_envelope(to)
                server.interject(words)
                if not words.endswith(b"\n"):
                    half_a_line.append(words)
        to.close()
    final = {o.key: o.verdict for o in outcomes if o.verdict is not Verdict.SENDING}
    assert final == {1: Verdict.DELIVERED, 2: Verdict.DEFERRED, 3: Verdict.DEFERRED}
    assert copies(server) == Counter([mail(1)[0].body.data])


def test_a_server_that_cuts_every_connection_stops_the_batch(server: FakeSmtp):
    server.hangs_up_on = {"MAIL"}
    found = deliver(server, mail(20))
    assert isinstance(found.error, ConnectionLost)
    assert server.connections == 3
    assert server.arrivals == []


def test_signing_in_to_look_sends_nothing(server: FakeSmtp):
    server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
    adopted: list[Transport] = []
    for more, mechanism in (({}, ""), (SIGNED_IN, "PLAIN")):
        info = try_out_relay(account(server, **more), adopted.append)
        assert (info.address, info.tls, info.mechanism) == (f"{server.host}:{server.port}", "none", mechanism)
        assert info.capabilities == server.capabilities
    assert server.verbs() == ["EHLO", "QUIT", "EHLO", "AUTH", "QUIT"]
    assert len(adopted) == 2
