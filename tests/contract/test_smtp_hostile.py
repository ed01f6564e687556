"""SMTP and LMTP against a server that answers anything, anywhere: nothing lost, nothing doubled, one clear line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Collection, Iterator, Sequence

import pytest

from syncd.destinations.smtp.relay import RelayOptions
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.errors import SyncdError
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from syncd.smtp.values import Verb
from tests.contract.destination_kit import message
from tests.contract.smtp_kit import HELO, hurried
from tests.fakes.smtp import CAPABILITIES, CHUNKING, PASSWORD, USERNAME, FakeSmtp
from tests.support.trace import split

MOST_OCTETS = 4 << 20  # of memory, whatever is said: the buffer of a connection, and a reply
LARGE = 2_500_000  # octets of a message that goes in two chunks

SAID = {
    "endless lines": b"250-and so on\r\n" * 20_000,
    "an endless line": b"250 " + b"x" * 1_000_000,
    "a line of 100 KB": b"250 " + b"x" * 100_000 + b"\r\n",
    "a hundred KB in lines": b"250-" + b"x" * 990 + b"\r\n",
    "different codes": b"250-yes\r\n550 no\r\n",
    "different separators": b"250-yes\r\n250_no\r\n",
    "NUL": b"250 o\0k\r\n",
    "controls": b"250 \x1b[2J\x07\r\n",
    "no text": b"250\r\n",
    "a no with controls": b"550 5.7.1 \x1b[2J\xe2\x80\xae\xff\0\r\n",
    "LF alone": b"250 ok\n",
    "CR alone": b"250 ok\r250 ok\r\n",
    "half a reply": b"250 o",
    "half a reply of many lines": b"250-ok\r\n250-",
    "silence": b"",
    "an empty line": b"\r\n",
    "twice": b"250 ok\r\n250 ok\r\n",
    "a no and a yes": b"550 no\r\n250 ok\r\n",
    "a later and a yes": b"451 later\r\n250 ok\r\n",
    "354": b"354 go on\r\n",
    "334": b"334 \r\n",
    "1yz": b"150 in between\r\n",
    "another protocol": b"* OK IMAP4rev1\r\n",
    "421 and more": b"421 bye\r\n250 ok\r\n",
}
WHERE = ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "RSET", ".", "LAST", "QUIT"]
OFFERS = {"data": CAPABILITIES, "bdat": CHUNKING, "slow": ("AUTH PLAIN",), "slow bdat": ("CHUNKING",)}


@pytest.fixture(params=list(OFFERS))
def server(request: pytest.FixtureRequest) -> Iterator[FakeSmtp]:
    with FakeSmtp() as fake:
        fake.capabilities = (*OFFERS[request.param], "AUTH PLAIN")
        yield fake


@pytest.fixture
def lmtp() -> Iterator[FakeSmtp]:
    with FakeSmtp(lmtp=True) as fake:
        fake.greeting = b"220 mx.example Dovecot ready.\r\n"
        fake.capabilities = CHUNKING
        yield fake


class Told:
    """The outcomes of a batch, and every text that a person sees."""

    def __init__(
        self,
        server: FakeSmtp,
        batch: Sequence[Message],
        *,
        security: str = "none",
        allow_insecure: bool = True,
        silent: Collection[Verb] = tuple(Verb),
    ) -> None:
        """`silent`: the commands to which no reply may come; the others are waited for."""
        endpoint = Endpoint(
            server.host,
            server.port,
            security,
            username="" if server.lmtp else USERNAME,
            password=lambda: Secret(PASSWORD),
            allow_insecure=allow_insecure,
        )
        options = RelayOptions(endpoint, lmtp=server.lmtp, ehlo_name=HELO, deadlines=hurried(*silent, Verb.QUIT))
        to = SmtpDestination(SmtpOptions(options, "you@example.org"))
        self.final: dict[int, Outcome] = {}
        self.words: list[str] = []
        try:
            for group in to.deliver(batch):
                for outcome in group:
                    if outcome.verdict is not Verdict.SENDING:
                        assert outcome.key not in self.final
                        self.final[outcome.key] = outcome
        except SyncdError as error:
            self.words.append(str(error))
        to.close()
        self.words += [outcome.reason for outcome in self.final.values() if outcome.reason]
        self.words += [o.receipt.hint for o in self.final.values() if o.receipt is not None]

    def check(self, server: FakeSmtp, batch: Sequence[Message]) -> None:
        arrived = [split(arrival.octets)[1] for arrival in server.arrivals]
        for m in batch:
            outcome, copies = self.final.get(m.key), arrived.count(m.body.data or b"")
            assert copies <= 1
            if outcome is not None and outcome.verdict is Verdict.DELIVERED:
                assert copies == 1, outcome
            elif copies:
                assert outcome is not None
                assert outcome.verdict is Verdict.UNCERTAIN or said_no(outcome), outcome
        for line in self.words:
            assert line.isprintable(), line
            assert len(line) < 700


def said_no(outcome: Outcome) -> bool:
    """The server took it and said that it did not: its word counts (RFC 5321 §4.2.1)."""
    return outcome.reason.startswith("the server says: ")


def mail(count: int, octets: int = 0) -> list[Message]:
    return [message(key, b"Subject: %d\r\n\r\n.hello\r\n%s\r\n" % (key, b"x" * octets)) for key in range(1, count + 1)]


def script(server: FakeSmtp, where: str, octets: bytes, at: int) -> None:
    """After `at` usual replies that one, then usual ones again."""
    if where == "greeting":
        server.greeting = octets
        return
    usual = {"DATA": b"354 go on\r\n", ".": b"250 2.0.0 taken\r\n", "LAST": b"250 2.0.0 taken\r\n"}
    yes = usual.get(where, b"250 2.0.0 ok\r\n")
    words = [{"MAIL": b"250 2.1.0 ok\r\n", "RCPT": b"250 2.1.5 ok\r\n"}.get(where, yes)] * at
    server.replies[where] = octets if where in {"EHLO", "LHLO", "AUTH"} else [*words, octets]


@pytest.mark.parametrize("octets", SAID.values(), ids=SAID)
@pytest.mark.parametrize("where", WHERE)
def test_s18_s29_whatever_is_said_wherever_nothing_is_lost_or_doubled(server: FakeSmtp, where: str, octets: bytes):
    script(server, where, octets, at=1)
    batch = mail(3)
    if where == "RSET":
        server.replies["RCPT"] = [b"550 5.1.1 nobody\r\n"] * 2
    found = Told(server, batch)
    found.check(server, batch)


@pytest.mark.parametrize("octets", SAID.values(), ids=SAID)
@pytest.mark.parametrize("offer", [CHUNKING, ("CHUNKING",)], ids=["bdat", "slow bdat"])
def test_s17_s29_in_reply_to_a_chunk_too(offer: tuple[str, ...], octets: bytes):
    with FakeSmtp() as server:
        server.capabilities = (*offer, "AUTH PLAIN")
        script(server, "BDAT", octets, at=1)
        batch = mail(2, LARGE)
        found = Told(server, batch, silent={Verb.BDAT, Verb.LAST, Verb.RSET})
        assert "BDAT" in server.verbs()
        found.check(server, batch)


@pytest.mark.parametrize("octets", SAID.values(), ids=SAID)
@pytest.mark.parametrize("where", ["LHLO", "MAIL", "RCPT", "RSET", "LAST"])
def test_s18_s29_lmtp_with_messages_in_flight_too(lmtp: FakeSmtp, where: str, octets: bytes):
    script(lmtp, where, octets, at=2)
    batch = mail(6)
    found = Told(lmtp, batch)
    found.check(lmtp, batch)


@pytest.mark.parametrize("where", ["EHLO", "AUTH", "MAIL", "."])
@pytest.mark.parametrize("name", ["endless lines", "an endless line", "a line of 100 KB"])
def test_s29_memory_is_bounded_whatever_is_said(where: str, name: str):
    with FakeSmtp() as server:
        server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
        script(server, where, SAID[name], at=0)
        tracemalloc.start()
        try:
            found = Told(server, batch := mail(2))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MOST_OCTETS
        found.check(server, batch)
        assert found.words


@pytest.mark.parametrize(
    "name",
    [
        "endless lines",
        "an endless line",
        "different codes",
        "a no with controls",
        "LF alone",
        "half a reply",
        "silence",
        "an empty line",
        "twice",
        "a no and a yes",
        "354",
        "another protocol",
        "421 and more",
    ],
)
def test_s20_s29_in_reply_to_starttls_nothing_is_sent_in_clear(name: str):
    with FakeSmtp() as server:
        server.capabilities = (*CAPABILITIES, "AUTH PLAIN")
        server.replies["STARTTLS"] = SAID[name]
        found = Told(server, batch := mail(1), security="starttls", allow_insecure=False, silent={Verb.STARTTLS})
        found.check(server, batch)
    assert found.words
    assert server.verbs() == ["EHLO", "STARTTLS"]
