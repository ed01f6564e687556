"""The SMTP and LMTP client when the network or the server fails: what may have arrived is never taken for unsent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from syncd import clock
from syncd.errors import (
    Cancelled,
    ConnectionLost,
    Refused,
    RemoteProtocolError,
    StateError,
    SyncdError,
    TimedOut,
    TransportError,
    Unsupported,
)
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.smtp.client import Client, Deadlines
from syncd.smtp.quirks import Quirks
from syncd.smtp.values import NO_REPLY, Envelope, Reply, Verb
from tests.contract.smtp_kit import (
    HELO,
    LETTER,
    Counting,
    codes,
    content,
    deliver,
    envelope,
    hurried,
    patient,
    server_tls,
    session,
)
from tests.fakes.smtp import CAPABILITIES, CHUNKING, FakeSmtp
from tests.servers.certificate import Authority

MINIMAL = ("8BITMIME",)
OFFERS = {"DATA": CAPABILITIES, "BDAT": CHUNKING, "one at a time": MINIMAL, "BDAT alone": ("CHUNKING",)}
BYE = b"421 4.3.2 shutting down\r\n"


@pytest.fixture(params=[False, True], ids=["smtp", "lmtp"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeSmtp]:
    with FakeSmtp(lmtp=request.param) as fake:
        yield fake


@pytest.fixture
def smtp() -> Iterator[FakeSmtp]:
    with FakeSmtp() as fake:
        yield fake


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


class Fate(NamedTuple):
    """The end of one message, as the client knows it."""

    ended: bool  # its last octets were sent, or may have been
    replies: tuple[Reply, ...]
    error: SyncdError | None


def fate(client: Client, to: Envelope | None = None, octets: bytes = LETTER) -> Fate:
    ended = False
    try:
        refused = client.begin(to or envelope(), content(octets))
        if refused:
            return Fate(ended, tuple(refused), None)
        ended = True
        client.end()
        return Fate(ended, tuple(client.replies()), None)
    except SyncdError as error:
        return Fate(ended, (), error)


def in_one_session(server: FakeSmtp, messages: int, to: Envelope | None = None) -> list[Fate]:
    """Fates of messages one after the other; those before the loss of the session are all there."""
    fates: list[Fate] = []
    try:
        with session(server) as client:
            for _ in range(messages):
                fates.append(fate(client, to))
                if fates[-1].error is not None:
                    break
            else:
                client.quit()
    except (TransportError, RemoteProtocolError):
        assert not any(f.error for f in fates)
    return fates


def check_accounts(server: FakeSmtp, fates: list[Fate]) -> None:
    """The server has the messages that the client knows of, except those that were ended without an answer."""
    delivered = sum(reply.ok for f in fates for reply in f.replies)
    unanswered = sum(f.ended and f.error is not None for f in fates)
    unknown = sum(reply == NO_REPLY for f in fates for reply in f.replies)
    assert delivered <= len(server.arrivals) <= delivered + unanswered + unknown
    assert unanswered + unknown <= 1


# --- the network -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s09_f38_the_servers_octets_end_anywhere(offer: tuple[str, ...]):
    """Two messages; cut after each octet that the server sends. Only a message without an answer is uncertain."""
    cut, uncertain = 0, 0
    while True:
        with FakeSmtp() as server:
            server.capabilities, server.cut_after = offer, cut
            fates = in_one_session(server, 2)
        check_accounts(server, fates)
        uncertain += any(f.ended and f.error for f in fates)
        if [codes(f.replies) for f in fates] == [[250], [250]]:
            break
        cut += 7 if cut < 100 else 1  # the greeting and EHLO tell nothing new at each octet
    assert len(server.arrivals) == 2
    assert uncertain >= 20


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_f37_our_octets_end_anywhere(offer: tuple[str, ...]):
    """Cut after each octet that the server receives: before the last one, nothing arrives."""
    with FakeSmtp() as server:
        server.capabilities = offer
        in_one_session(server, 1)
        hello, whole = len(f"EHLO {HELO}\r\n"), server.received
    for cut in range(hello, whole):
        with FakeSmtp() as server:
            server.capabilities, server.cut_in_after = offer, cut
            fates = in_one_session(server, 1)
        check_accounts(server, fates)
        end = whole - len(b"QUIT\r\n")
        assert len(server.arrivals) == (cut >= end)


@pytest.mark.parametrize("name", [".", "LAST"])
def test_f40_lmtp_replies_for_some_recipients_then_silence(name: str):
    """The recipient that was answered has its outcome; only the others are uncertain."""
    with FakeSmtp(lmtp=True) as server:
        server.capabilities = CHUNKING if name == "LAST" else CAPABILITIES
        server.hangs_up_on = {f"{name} 2"}
        with session(server) as client:
            replies = deliver(client, to=envelope("a@example.org", "b@example.org", "c@example.org"))
            assert codes(replies) == [250, 0, 0]
            assert replies[1] is NO_REPLY
            with pytest.raises(ConnectionLost):
                client.begin(envelope(), content())


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s09_a_lost_reply_to_a_message_of_one_recipient_is_raised(server: FakeSmtp, offer: tuple[str, ...]):
    server.capabilities = offer
    server.hangs_up_on = {".", "LAST"}
    with session(server) as client:
        assert not client.begin(envelope(), content())
        client.end()
        with pytest.raises(
            ConnectionLost, match=r"the server closed the connection, no reply to (the final dot|BDAT LAST) came"
        ):
            client.replies()
        with pytest.raises(ConnectionLost):
            client.begin(envelope(), content())


def until_lost(client: Client) -> Iterator[list[int]]:
    with suppress(ConnectionLost, StateError):  # or all are told
        while True:
            yield codes(client.replies())


def test_s09_of_pipelined_messages_each_is_told_of_or_raised():
    with FakeSmtp(lmtp=True) as server:
        server.capabilities = CHUNKING
        server.replies["LAST"] = [b"250 ok\r\n", b"452 full\r\n", BYE]
        with session(server, quirks=Quirks(pipelines_messages=True)) as client:
            for _ in range(3):
                assert not client.begin(envelope(), content())
                client.end()
            gone = False
            try:
                assert not client.begin(envelope(), content())
                client.end()
            except ConnectionLost:  # the server has closed already, and a reset may have taken its replies with it
                gone = True
            told = list(until_lost(client))
            assert told == [[250], [452], [421], [421]][: len(told)]  # the last was not looked at
            assert gone or len(told) >= 3


@pytest.mark.parametrize("where", [Verb.EHLO, Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.DOT])
def test_s10_a_server_that_hangs(smtp: FakeSmtp, where: Verb):
    smtp.hangs_on = {"." if where is Verb.DOT else where.value}
    with (
        pytest.raises(TimedOut, match=f"no reply to {where.value} came within 0.2 s"),
        session(smtp, deadlines=hurried(where)) as client,
    ):
        deliver(client)


class Dripping(Counting):
    """From a command on, or from the greeting: octets come one by one, each after a second on a clock of its own."""

    def __init__(self, server: FakeSmtp, after: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(server.host, server.port)
        self._after = after
        self._drips = not after
        self._now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self._now)

    def send(self, octets: bytes, deadline: Deadline) -> None:
        super().send(octets, deadline)
        self._drips |= octets.startswith(self._after)

    def receive(self, target: memoryview, deadline: Deadline) -> int:
        if not self._drips:
            return super().receive(target, deadline)
        self._now += 1
        return super().receive(target[:1], deadline)


@pytest.mark.parametrize("where", ["", "MAIL", "DATA"])
def test_f05_a_server_that_drips(smtp: FakeSmtp, where: str, monkeypatch: pytest.MonkeyPatch):
    """An octet now and then keeps nothing alive: a deadline is not a time-out for each read."""
    smtp.capabilities = MINIMAL
    transport = Dripping(smtp, where.encode(), monkeypatch)
    seconds = patient(greeting=8, reply=8, data=8)
    with (
        pytest.raises(TimedOut, match=f"no (greeting|reply to {where}) came within 8 s"),
        session(smtp, deadlines=seconds, transport=transport) as client,
    ):
        deliver(client)


def test_s10_s30_nobody_gives_up_before_rfc_5321_says_so():
    """RFC 5321 §4.5.3.2: greeting, MAIL, RCPT 5 minutes, DATA 2, a block 3, the final dot 10."""
    seconds = Deadlines()
    assert (seconds.greeting, seconds.reply, seconds.data, seconds.block, seconds.final) == (300, 300, 120, 180, 600)


def test_cancel_wakes_the_thread_that_waits(smtp: FakeSmtp):
    smtp.hangs_on = {"."}
    with session(smtp) as client:
        assert not client.begin(envelope(), content())
        client.end()
        timer = threading.Timer(0.05, client.transport.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            client.replies()
        timer.join()


# --- 421 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "BDAT", ".", "LAST"])
def test_s04_421_is_a_reply_and_the_end_of_the_session(server: FakeSmtp, where: str, offer: tuple[str, ...]):
    server.capabilities = offer
    server.replies[where] = BYE
    with session(server) as client:
        last = "LAST" if "CHUNKING" in offer else "."
        met = where in {"MAIL", "RCPT", last} or (where == "DATA" and last == ".")
        assert codes(deliver(client)) == ([421] if met else [250])
        if met:
            with pytest.raises(ConnectionLost, match="a new connection may work"):
                client.begin(envelope(), content())
    assert len(server.arrivals) == (not met)


def test_s04_421_that_waited_for_the_next_message_is_not_taken_for_its_refusal(smtp: FakeSmtp):
    """A server that timed out says so whenever it likes."""
    smtp.behind["RCPT"] = b"421 4.4.2 timeout\r\n"
    smtp.replies["RCPT"] = [b"550 5.1.1 nobody\r\n"]
    smtp.capabilities = MINIMAL
    with session(smtp) as client:
        assert codes(deliver(client)) == [550]
        with pytest.raises(RemoteProtocolError, match=r"unexpected “421 4.4.2 timeout"):
            client.begin(envelope(), content())
    assert "RSET" not in smtp.verbs()


@pytest.mark.parametrize(
    ("greeting", "kind"), [(BYE, Refused), (b"554 5.7.1 go away\r\n", Unsupported), (b"450 later\r\n", Refused)]
)
def test_a_greeting_that_says_no(smtp: FakeSmtp, greeting: bytes, kind: type[Refused]):
    smtp.greeting = greeting
    with pytest.raises(Refused, match="the server does not take the connection") as caught, session(smtp):
        pass
    assert type(caught.value) is kind
    assert caught.value.code == greeting[:3].decode()


def test_what_a_server_said_before_it_hung_up_in_the_middle_counts(smtp: FakeSmtp):
    """552 and the end of the connection, while we still send: the message is refused, not to be tried for ever."""
    smtp.refuses_content_after = 100_000
    with session(smtp) as client:
        result = fate(client, octets=b"x" * 70 * 200_000)
    assert not result.ended
    assert codes(result.replies) == [552]
    assert smtp.arrivals == []


# --- servers that do not keep to the protocol --------------------------------------------------------


@pytest.mark.parametrize("swallowed", ["RCPT", "DATA"])
def test_s07_a_server_that_swallows_pipelined_commands_is_then_asked_one_at_a_time(smtp: FakeSmtp, swallowed: str):
    quirks = Quirks()
    smtp.replies = {swallowed: [b""]}
    with (
        pytest.raises((TimedOut, RemoteProtocolError)),  # the next reply may come in its place
        session(smtp, quirks=quirks, deadlines=hurried(Verb.RCPT, Verb.DATA)) as client,
    ):
        deliver(client, to=envelope("a@example.org", "b@example.org"))
    assert quirks.breaks_pipelining
    with session(smtp, quirks=quirks) as client:
        assert not client.pipelines
        assert codes(deliver(client)) == [250]


def test_s07_a_slow_end_of_a_message_is_no_broken_pipelining(server: FakeSmtp):
    server.capabilities = CHUNKING
    server.hangs_on = {"LAST"}
    quirks = Quirks(pipelines_messages=True)
    with session(server, quirks=quirks, deadlines=hurried(Verb.LAST)) as client:
        for _ in range(2):
            assert not client.begin(envelope(), content())
            client.end()
        with pytest.raises(TimedOut, match=r"no reply to BDAT LAST came within 0.2 s"):
            client.replies()
    assert not quirks.breaks_pipelining


@pytest.mark.parametrize(
    ("where", "octets"),
    [
        ("greeting", b"\x16\x03\x01\x00\x00garbage"),
        ("greeting", b"+OK POP3 ready\r\n"),
        ("greeting", b"220 LF alone\n"),
        ("greeting", b"220 " + b"x" * 100_000),
        ("greeting", b"220-endless\r\n" * 10_000),
        ("EHLO", b"250-fake\r\n" * 10_000),
        ("EHLO", b"what?\r\n"),
        ("MAIL", b"250-yes\r\n550 no\r\n"),
        ("MAIL", b"354 go on\r\n"),
        ("RCPT", b"99 bottles\r\n"),
        ("DATA", b"250 ok\r\n"),
        (".", b"354 go on\r\n"),
        (".", b"250_ok\r\n"),
        (".", b"\x1b[2J\r\n"),
    ],
)
def test_s29_nonsense_is_one_printable_line_that_names_the_server(smtp: FakeSmtp, where: str, octets: bytes):
    if where == "greeting":
        smtp.greeting = octets
    else:
        smtp.replies = {where: octets}
    with pytest.raises(RemoteProtocolError) as caught, session(smtp) as client:
        deliver(client)
    text = str(caught.value)
    assert text.startswith(f"127.0.0.1:{smtp.port}: ")
    assert text.isprintable()
    assert len(text) < 500


def test_s18_a_reply_too_many_does_not_shift_the_others(smtp: FakeSmtp):
    """A second 250 after the end of a message must not be taken for the next one's."""
    smtp.replies["."] = [b"250 ok\r\n250 ok again\r\n"]
    with session(smtp) as client:
        assert codes(deliver(client)) == [250]
        with pytest.raises(RemoteProtocolError, match="in reply to no command: unexpected “250 ok again"):
            client.begin(envelope(), content())


@pytest.mark.parametrize("capabilities", [None, MINIMAL])
def test_ehlo_unknown_leads_to_helo(smtp: FakeSmtp, capabilities: tuple[str, ...] | None):
    smtp.capabilities = capabilities
    with session(smtp) as client:
        assert codes(deliver(client)) == [250]
        assert client.capabilities.lines == (capabilities or ())
    assert ("HELO" in smtp.verbs()) == (capabilities is None)


def test_lmtp_has_no_helo():
    with FakeSmtp() as server:
        server.lmtp = False
        transport = Transport(server.host, server.port)
        client = Client(transport, patient(), lmtp=True, helo=HELO)
        with pytest.raises(Unsupported, match=r"refuses LHLO: “500 5.5.1 unknown command”; .*protocol = \"smtp\""):
            client.open(None)
        client.close()
        assert server.verbs() == ["LHLO"]


# --- TLS ---------------------------------------------------------------------------------------------


def connected(server: FakeSmtp, authority: Authority, *, starttls: bool) -> Client:
    client = Client(Transport("localhost", server.port), patient(), helo=HELO)
    policy = TlsPolicy(ca_file=authority.ca_file)
    try:
        client.open(None if starttls else policy)
        if starttls:
            client.starttls(policy)
    except BaseException:
        client.close()
        raise
    return client


@pytest.mark.parametrize("starttls", [False, True])
def test_tls_verified_by_name_and_authority(authority: Authority, starttls: bool):  # noqa: FBT001
    with FakeSmtp(tls=server_tls(authority), implicit=not starttls) as server:
        server.capabilities_in_tls = CHUNKING
        client = connected(server, authority, starttls=starttls)
        assert client.transport.tls == "TLSv1.3"
        assert "CHUNKING" in client.capabilities  # asked again (RFC 3207 §4.2)
        assert codes(deliver(client, b"x" * 70 * 100_000)) == [250]
        client.quit()
        client.close()
        assert server.verbs()[: 1 + 2 * starttls] == (["EHLO", "STARTTLS", "EHLO"] if starttls else ["EHLO"])


def test_b01_starttls_that_is_not_announced(authority: Authority):
    with FakeSmtp() as server:
        server.capabilities = MINIMAL
        with pytest.raises(Unsupported, match="does not announce STARTTLS"):
            connected(server, authority, starttls=True)
        assert server.verbs() == ["EHLO"]


def test_b04_starttls_that_is_refused(authority: Authority):
    with FakeSmtp() as server:
        server.replies["STARTTLS"] = b"454 4.7.0 not now\r\n"
        with pytest.raises(Refused, match=r"the server refuses STARTTLS.*“454 4.7.0 not now”"):
            connected(server, authority, starttls=True)


def test_b02_octets_between_starttls_and_tls_end_the_session(authority: Authority):
    with FakeSmtp(tls=server_tls(authority)) as server:
        server.behind["STARTTLS"] = b"250 AUTH PLAIN\r\n"
        with pytest.raises(RemoteProtocolError, match="the server sent octets in clear after its reply to STARTTLS"):
            connected(server, authority, starttls=True)
