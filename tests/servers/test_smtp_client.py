"""The SMTP and LMTP client against Postfix, Dovecot and aiosmtpd: nothing ends early, nothing is doubled or shifted."""

from __future__ import annotations

import email
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

import pytest

from syncd.auth.sasl_simple import Plain
from syncd.destinations.smtp.opening import LOOK_OCTETS, opening
from syncd.mail.body import Body, BodyWriter
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret
from syncd.smtp.client import Client, Content, Deadlines
from syncd.smtp.values import Envelope
from tests.contract.smtp_kit import Counting, codes, content
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import as_stored
from tests.servers.postfix import Postfix
from tests.servers.sink import Sink

pytestmark = pytest.mark.servers

HEAD = b"Subject: smuggled?\r\n\r\n"
INNER = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled!\r\n\r\nhello\r\n.\r\n"
SEQUENCES = [
    before + b"." + after
    for before, after in itertools.product(
        [b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\0\r\n"], [b"\r\n", b"\n", b"\r", b"\0\r\n"]
    )
]


@contextmanager
def connected(
    host: str, port: int, *, lmtp: bool = False, ca_file: Path | None = None, user: str = ""
) -> Iterator[Client]:
    client = Client(Counting(host, port), Deadlines(), lmtp=lmtp, helo="client.example.org")
    try:
        client.open(TlsPolicy(ca_file=ca_file) if ca_file else None)
        if user:
            client.authenticate(Plain(user, Secret("secret")))
        yield client
        client.quit()
    finally:
        client.close()


def send(client: Client, recipient: str, made: Content) -> None:
    assert not client.begin(Envelope("", (recipient,), size=made.octets, eight_bit=made.eight_bit), made)
    client.end()
    assert codes(client.replies()) == [250]


def as_lines(octets: bytes) -> bytes:
    """Returns a message as SMTP carries it, with LF."""
    text = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"


def smuggling(recipient: str) -> list[bytes]:
    return [HEAD + b"hello" + sequence + INNER % recipient.encode() for sequence in SEQUENCES]


def below_traces(arrived: list[bytes]) -> list[bytes]:
    """Without what servers put before it."""
    return sorted(re.sub(rb"(?s)\A.*?(?=Subject: )", b"", octets.replace(b"\r\n", b"\n")) for octets in arrived)


@pytest.mark.parametrize("chunking", [False, True])
def test_b34_nothing_is_smuggled_through_postfix(postfix: Postfix, user: str, chunking: bool) -> None:  # noqa: FBT001
    recipient = f"{user}@example.org"
    messages = smuggling(recipient)
    with connected("localhost", postfix.ports.submissions, ca_file=postfix.ca_file, user=user) as client:
        client.restrict(chunking=chunking)
        for message in messages:
            send(client, recipient, content(message))
    arrived = postfix.received(recipient, at_least=len(messages))
    assert len(arrived) == len(messages)
    stored = [octets.replace(b"\0", b"") for octets in below_traces(arrived)]  # Postfix leaves NULs out
    assert sorted(stored) == sorted(as_lines(message).replace(b"\0", b"") for message in messages)


@pytest.mark.parametrize("chunking", [False, True])
def test_b34_nothing_is_smuggled_through_dovecot_lmtp(dovecot: Dovecot, user: str, chunking: bool) -> None:  # noqa: FBT001
    recipient = f"{user}@example.org"
    messages = [message for message in smuggling(recipient) if b"\0" not in message]
    with connected(dovecot.host, dovecot.lmtp_port, lmtp=True) as client:
        client.restrict(chunking=chunking)
        for message in messages:
            send(client, recipient, content(message))
    assert below_traces(dovecot.received(user)) == sorted(as_lines(message) for message in messages)


def test_b34_nothing_is_smuggled_through_aiosmtpd() -> None:
    messages = smuggling("me@example.org")
    with Sink() as sink:
        with connected(sink.host, sink.port) as client:
            for message in messages:
                send(client, "me@example.org", content(message))
        assert [as_lines(octets) for octets in sink.received("me@example.org")] == list(map(as_lines, messages))
        assert all(b"evil" not in arrival.sender.encode() for arrival in sink.arrivals)


def test_d01_dovecot_lmtp_takes_pipelined_messages_with_refused_ones_among_them(dovecot: Dovecot, user: str) -> None:
    messages = [HEAD + b"%d\r\n" % number + b"text\r\n" * (number * 100) for number in range(40)]
    with connected(dovecot.host, dovecot.lmtp_port, lmtp=True) as client:
        assert client.pipelines_messages
        told: list[int] = []
        for number, message in enumerate(messages):
            name = "nobody" if number % 5 == 4 else user
            assert not client.begin(Envelope("", (f"{name}@example.org",)), content(message))
            client.end()
            if number >= 10:
                told += codes(client.replies())
        told += [code for _ in range(10) for code in codes(client.replies())]
    assert told == [550 if number % 5 == 4 else 250 for number in range(40)]
    wanted = [message for number, message in enumerate(messages) if number % 5 != 4]
    assert below_traces(dovecot.received(user)) == sorted(map(as_stored, wanted))


@pytest.mark.parametrize("lmtp", [False, True])
def test_s17_chunks_from_a_file(dovecot: Dovecot, postfix: Postfix, user: str, tmp_path: Path, lmtp: bool) -> None:  # noqa: FBT001
    octets = HEAD + b"".join(b".%07d\r\n" % number for number in range(700_000))
    writer = BodyWriter(tmp_path)
    writer.write(octets)
    body = writer.finish()
    recipient = f"{user}@example.org"
    host, port = (dovecot.host, dovecot.lmtp_port) if lmtp else ("localhost", postfix.ports.submissions)
    authority, signs_in = (None, "") if lmtp else (postfix.ca_file, user)
    with connected(host, port, lmtp=lmtp, ca_file=authority, user=signs_in) as client:
        assert "CHUNKING" in client.capabilities
        send(client, recipient, Content(b"", body))
        assert codes(client.begin(Envelope("", ("refused@example.org",)), Content(b"", body))) == [550]
        send(client, recipient, content(HEAD + b"afterwards\r\n"))
    body.close()
    arrived = below_traces(dovecot.received(user) if lmtp else postfix.received(recipient, at_least=2))
    assert arrived == sorted([as_stored(octets), as_stored(HEAD + b"afterwards\r\n")])


def test_s05_recipients_that_postfix_refuses_and_defers(postfix: Postfix, user: str) -> None:
    recipient = f"{user}@example.org"
    with connected("localhost", postfix.ports.submissions, ca_file=postfix.ca_file, user=user) as client:
        for chunking in (True, False):
            client.restrict(chunking=chunking)
            for to in (("refused@example.org",), ("later@example.org", recipient), ("refused@example.org",)):
                made = content(HEAD + b"hello\r\n")
                replies = client.begin(Envelope("", to), made)
                if not replies:
                    client.end()
                    replies = client.replies()
                assert codes(replies) == ([450, 250] if len(to) == 2 else [550])
    assert len(postfix.received(recipient, at_least=2)) == 2


OURS = b"Received: by me.example\r\nX-Syncd-Id: x\r\n"
FROM = b"From a@b.example  Tue May 10 14:55:10 2016\r\n"
HEADER = b"Subject: visible\r\nX-Number: %d\r\n\r\ntext\r\n"
WITH_HEADER = [  # the first octets of a message whose Subject must stay in its header
    *(b"", FROM, b">" + FROM, FROM + b">" + FROM, b"\tby mx.example; Tue, 10 May 2016\r\n", FROM + b"\tfolded\r\n"),
]
TEXTS = [  # messages without a header: all of it must be text
    *(
        b" indented\r\nmore %d\r\n",
        b"\tindented\r\nmore %d\r\n",
        b"\r\nonly a body %d\r\n",
        b"\r\n indented body %d\r\n",
    ),
    *(
        b"From here on\r\ntext %d\r\n",
        b">From a quotation\r\ntext %d\r\n",
        b"\xef\xbb\xbfbyte order mark\r\ntext %d\r\n",
    ),
    *(b"plain\r\ntext %d\r\n", b" one\r\ntwo\r\nSubject: in the text %d\r\n\r\nmore\r\n", b" \r\n\r\nblank %d\r\n"),
]


def opened(message: bytes) -> Content:
    found = opening(OURS, message[:LOOK_OCTETS])
    return Content(found.prefix, Body.of(message), found.skip)


def body(found: Message) -> bytes:
    octets = found.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def check_openings(client: Client, recipient: str, received: Callable[[], list[bytes]]) -> None:
    """No octet is lost, and whatever is a header or text without our fields is that below them as well."""
    for number, message in enumerate([*(first + HEADER for first in WITH_HEADER), *TEXTS]):
        send(client, recipient, opened(message % number))
    arrived = [email.message_from_bytes(octets) for octets in received()]
    assert len(arrived) == len(WITH_HEADER) + len(TEXTS)
    assert all(found["X-Syncd-Id"].strip() == "x" for found in arrived)
    mails = {int(found["X-Number"]): found for found in arrived if found["X-Number"] is not None}
    assert [mails[number]["Subject"] for number in range(len(WITH_HEADER))] == ["visible"] * len(WITH_HEADER)
    assert {found.get_payload() for found in mails.values()} == {"text\n"}
    bodies = {as_lines(body(found)) for found in arrived if found["X-Number"] is None}
    assert bodies == {
        as_lines(text % number).removeprefix(b"\n") for number, text in enumerate(TEXTS, len(WITH_HEADER))
    }


def test_below_our_fields_postfix_reads_the_same_header_and_body(postfix: Postfix, user: str) -> None:
    recipient, count = f"{user}@example.org", len(WITH_HEADER) + len(TEXTS)
    with connected("localhost", postfix.ports.submissions, ca_file=postfix.ca_file, user=user) as client:
        check_openings(client, recipient, lambda: postfix.received(recipient, at_least=count))


def test_below_our_fields_dovecot_reads_the_same_header_and_body(dovecot: Dovecot, user: str) -> None:
    with connected(dovecot.host, dovecot.lmtp_port, lmtp=True) as client:
        check_openings(client, f"{user}@example.org", lambda: dovecot.received(user))
