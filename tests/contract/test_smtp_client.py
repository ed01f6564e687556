"""The SMTP and LMTP client against a scripted server: what arrives, in how many round trips, and who was refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import ConnectionLost, LocalProtocolError, MessageRefused, StateError
from syncd.mail.body import BodyWriter
from syncd.smtp.client import Client, Content
from syncd.smtp.quirks import Quirks
from syncd.smtp.values import Reply
from tests.contract.smtp_kit import LETTER, TRACE, codes, content, deliver, envelope, round_trips, session
from tests.fakes.smtp import CAPABILITIES, CHUNKING, Arrival, FakeSmtp
from tests.support import mail

MINIMAL = ("8BITMIME",)
OFFERS = {"DATA": CAPABILITIES, "BDAT": CHUNKING, "one at a time": MINIMAL, "BDAT alone": ("CHUNKING",)}
NOBODY = b"550 5.1.1 nobody here\r\n"
BAD, GOOD = "bad@example.org", "good@example.org"


@pytest.fixture(params=[False, True], ids=["smtp", "lmtp"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeSmtp]:
    with FakeSmtp(lmtp=request.param) as fake:
        yield fake


@pytest.fixture
def smtp() -> Iterator[FakeSmtp]:
    with FakeSmtp() as fake:
        yield fake


def in_file(directory: Path, octets: bytes) -> Content:
    writer = BodyWriter(directory)
    writer.write(octets)
    body = writer.finish()
    assert body.data is None
    return Content(TRACE, body)


def ended(client: Client, made: Content) -> tuple[int, ...]:
    assert not client.begin(envelope(), made)
    client.end()
    return tuple(codes(client.replies()))


# --- what arrives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s14_s15_what_arrives_is_what_was_given(server: FakeSmtp, offer: tuple[str, ...]):
    server.capabilities = offer
    expected = []
    with session(server) as client:
        for octets in mail.nasty().values():
            made = content(octets, TRACE)
            assert codes(deliver(client, octets)) == [250]
            assert ended(client, made) == (250,)
            exact = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            exact += b"" if not exact or exact.endswith(b"\r\n") else b"\r\n"
            assert client.rewrites(made) == (exact != octets)
            expected += [exact, TRACE + exact]
        client.quit()
    assert [arrival.octets for arrival in server.arrivals] == expected


def test_binarymime_carries_what_nothing_else_can(server: FakeSmtp):
    server.capabilities = (*CHUNKING, "BINARYMIME")
    with session(server) as client:
        for octets in mail.nasty().values():
            assert not client.rewrites(content(octets))
            assert codes(deliver(client, octets)) == [250]
        plain = next(command for command in server.commands if command.startswith("MAIL"))
    assert [arrival.octets for arrival in server.arrivals] == list(mail.nasty().values())
    assert "BINARYMIME" not in plain  # only where it is needed: a relay behind may not know it
    assert any("BODY=BINARYMIME" in command for command in server.commands)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s17_large_messages_go_in_chunks_from_a_file(server: FakeSmtp, offer: tuple[str, ...], tmp_path: Path):
    server.capabilities = offer
    octets = b"".join(b".%07d\r\n" % number for number in range(400_000))
    with session(server) as client:
        made = in_file(tmp_path, octets)
        assert ended(client, made) == (250,)
        assert ended(client, content()) == (250,)
        made.body.close()
    assert [arrival.octets for arrival in server.arrivals] == [TRACE + octets, LETTER]
    sizes = [int(command.split(" ")[1]) for command in server.commands if command.startswith("BDAT")]
    assert sum(sizes) == ("CHUNKING" in offer) * (len(TRACE) + len(octets) + len(LETTER))


def test_nothing_arrives_before_it_is_ended(server: FakeSmtp):
    for offer in OFFERS.values():
        server.capabilities = offer
        with session(server) as client:
            assert not client.begin(envelope(), content())
            with pytest.raises(StateError, match="cannot begin before the last one is ended"):
                client.begin(envelope(), content())
    assert server.connections == len(OFFERS)
    assert server.arrivals == []


def test_s32_parameters_go_with_mail(server: FakeSmtp):
    with session(server) as client:
        assert client.capabilities.size == 10_000_000
        deliver(client, to=envelope(size=99, eight_bit=True, smtputf8=True, envid="id+1"))
    line = next(command for command in server.commands if command.startswith("MAIL"))
    assert line == "MAIL FROM:<me@example.org> SIZE=99 BODY=8BITMIME SMTPUTF8 ENVID=id+2B1"


def test_s24_the_null_sender_and_several_recipients(smtp: FakeSmtp):
    with session(smtp) as client:
        to = envelope("a@example.org", '"b c"@example.org')
        deliver(client, to=to.__class__("", to.recipients))
    assert smtp.arrivals == [Arrival("", ("a@example.org", '"b c"@example.org'), LETTER)]


def test_b36_a_bad_address_is_our_mistake_and_the_session_goes_on(server: FakeSmtp):
    with session(server) as client:
        with pytest.raises(LocalProtocolError):
            client.begin(envelope("a@b>\r\nRCPT TO:<evil@example.org"), content())
        assert codes(deliver(client)) == [250]
    assert all("evil" not in command for command in server.commands)


def test_s16_lines_over_998_octets(smtp: FakeSmtp):
    octets = b"x" * 999 + b"\r\n"
    with session(smtp) as client:
        assert codes(deliver(client, octets)) == [250]  # as they are
    with session(smtp, long_lines=False) as client:
        with pytest.raises(MessageRefused, match="a line over 998 octets"):
            client.begin(envelope(), content(octets))
        assert codes(deliver(client)) == [250]
    smtp.capabilities = CHUNKING
    with session(smtp, long_lines=False) as client:
        assert codes(deliver(client, octets)) == [250]
    assert [arrival.octets for arrival in smtp.arrivals] == [octets, LETTER, octets]


# --- round trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offer", "most"), [(CAPABILITIES, 2), (CHUNKING, 1), (MINIMAL, 4), (("CHUNKING",), 3)])
def test_round_trips_of_a_message(server: FakeSmtp, offer: tuple[str, ...], most: int):
    server.capabilities = offer
    with session(server) as client:
        before = round_trips(client)
        for _ in range(50):
            assert codes(deliver(client, TRACE + LETTER * 100)) == [250]
        assert round_trips(client) - before == 50 * most
    assert len(server.arrivals) == 50


@pytest.mark.parametrize("offer", [CAPABILITIES, CHUNKING])
def test_pipelining_sends_an_envelope_in_one_flight(server: FakeSmtp, offer: tuple[str, ...]):
    server.capabilities = offer
    with session(server) as client:
        deliver(client, to=envelope(BAD, GOOD))
    flight = next(flight for flight in server.flights if flight and flight[0].startswith("MAIL"))
    assert [line.split(" ")[0] for line in flight[:4]] == [
        "MAIL",
        "RCPT",
        "RCPT",
        "BDAT" if "CHUNKING" in offer else "DATA",
    ]


@pytest.mark.parametrize("restriction", [{"pipelining": False}, {}])
def test_s08_without_pipelining_every_command_waits(server: FakeSmtp, restriction: dict[str, Any]):
    server.capabilities = CHUNKING if restriction else MINIMAL
    with session(server, **restriction) as client:
        assert not client.pipelines
        for _ in range(3):
            deliver(client, to=envelope(BAD, GOOD))
    assert all(len(flight) <= 1 or not flight[0].startswith(("MAIL", "RCPT")) for flight in server.flights)


def test_chunking_can_be_done_without(server: FakeSmtp):
    server.capabilities = CHUNKING
    with session(server, chunking=False) as client:
        deliver(client)
    assert "DATA" in server.commands
    assert [arrival.octets for arrival in server.arrivals] == [LETTER]


def test_d01_messages_are_pipelined_with_servers_that_bear_it():
    with FakeSmtp(lmtp=True) as server:
        server.capabilities, server.greeting = CHUNKING, b"220 fake Dovecot ready.\r\n"
        with session(server) as client:
            assert client.pipelines_messages
            before = round_trips(client)
            for number in range(10):
                assert not client.begin(envelope(), content(b"%d\r\n" % number))
                client.end()
            assert [codes(client.replies()) for _ in range(10)] == [[250]] * 10
            assert round_trips(client) - before == 1
            with pytest.raises(StateError, match="no message waits"):
                client.replies()
        assert [arrival.octets for arrival in server.arrivals] == [b"%d\r\n" % number for number in range(10)]


def test_d01_one_that_is_refused_among_pipelined_ones_leaves_nothing_behind():
    """RSET stands between them: MAIL would otherwise meet the transaction that failed (RFC 3030 §2)."""
    with FakeSmtp(lmtp=True) as server:
        server.capabilities = CHUNKING
        server.replies = {f"RCPT TO:<{BAD}>": NOBODY, "LAST": [b"250 ok\r\n", b"452 4.2.2 full\r\n", b"250 ok\r\n"]}
        with session(server, quirks=Quirks(pipelines_messages=True)) as client:
            for recipient in (GOOD, BAD, GOOD, GOOD):
                assert not client.begin(envelope(recipient), content())
                client.end()
            assert [codes(client.replies()) for _ in range(4)] == [[250], [550], [452], [250]]
            assert codes(deliver(client)) == [250]
        assert server.verbs().count("RSET") == 3
        assert len(server.arrivals) == 3


def test_d01_a_large_one_that_is_refused_behind_one_in_flight(tmp_path: Path):
    with FakeSmtp(lmtp=True) as server:
        server.capabilities, server.replies[f"RCPT TO:<{BAD}>"] = CHUNKING, NOBODY
        made = in_file(tmp_path, b"x" * 70 * 100_000)
        with session(server, quirks=Quirks(pipelines_messages=True)) as client:
            assert not client.begin(envelope(), content())
            client.end()
            assert codes(client.begin(envelope(BAD), made)) == [550]
            assert codes(client.replies()) == [250]
            assert codes(deliver(client)) == [250]
        made.body.close()
        assert [verb for verb in server.verbs() if verb in {"RSET", "MAIL"}] == ["MAIL", "RSET", "MAIL", "RSET", "MAIL"]


def test_d01_unknown_servers_are_not_sent_the_next_message_early(server: FakeSmtp):
    server.capabilities = CHUNKING
    with session(server) as client:
        assert not client.pipelines_messages
        assert not client.begin(envelope(), content())
        client.end()
        with pytest.raises(StateError, match="cannot begin before the last one is ended and answered"):
            client.begin(envelope(), content())
        assert codes(client.replies()) == [250]


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s06_a_refused_recipient_does_not_take_the_others_along(server: FakeSmtp, offer: tuple[str, ...]):
    server.capabilities = offer
    server.replies[f"RCPT TO:<{BAD}>"] = NOBODY
    with session(server) as client:
        assert codes(deliver(client, to=envelope(BAD, GOOD, BAD))) == [550, 250, 550]
        assert codes(deliver(client)) == [250]
    assert [arrival.recipients for arrival in server.arrivals] == [(GOOD,), ("you@example.org",)]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s17_s05_all_recipients_refused(server: FakeSmtp, offer: tuple[str, ...]):
    server.capabilities = offer
    server.replies[f"RCPT TO:<{BAD}>"] = NOBODY
    quirks = Quirks()
    with session(server, quirks=quirks) as client:
        for _ in range(3):  # each after the RSET for the one before
            assert deliver(client, to=envelope(BAD, BAD)) == (Reply(550, "5.1.1", (b"nobody here",)),) * 2
        assert codes(deliver(client)) == [250]
        assert codes(deliver(client)) == [250]
    assert server.verbs().count("RSET") == 3
    assert len(server.arrivals) == 2
    assert quirks == Quirks()


def test_s05_354_without_a_recipient_gets_a_dot_alone(smtp: FakeSmtp):
    smtp.goes_on_without_recipients = True
    smtp.replies[f"RCPT TO:<{BAD}>"] = NOBODY
    with session(smtp) as client:
        assert codes(client.begin(envelope(BAD), content())) == [550]
        assert smtp.commands[-1] == "."
        assert codes(deliver(client)) == [250]
    assert [arrival.octets for arrival in smtp.arrivals] == [LETTER]
    assert "RSET" not in smtp.verbs()


def test_s05_354_without_a_recipient_ends_an_lmtp_session():
    """One reply for each of none: nobody could know how many come."""
    with FakeSmtp(lmtp=True) as server:
        server.goes_on_without_recipients = True
        server.replies[f"RCPT TO:<{BAD}>"] = NOBODY
        with session(server) as client:
            assert codes(client.begin(envelope(BAD), content())) == [550]
            with pytest.raises(ConnectionLost, match="went on without a recipient"):
                client.begin(envelope(), content())
        assert server.arrivals == []


@pytest.mark.parametrize("command", ["MAIL", "DATA", "."])
@pytest.mark.parametrize("code", [450, 550])
def test_s01_s19_a_no_at_each_step(server: FakeSmtp, command: str, code: int):
    server.replies[command] = [b"%d 4.0.0 no\r\n" % code]
    with session(server) as client:
        assert codes(deliver(client, to=envelope(GOOD))) == [code]
        assert codes(deliver(client)) == [250]
    assert len(server.arrivals) == 1


def test_s17_a_refused_chunk(server: FakeSmtp, tmp_path: Path):
    """The chunks that were on their way are answered too; no last one follows."""
    server.capabilities = CHUNKING
    server.replies["BDAT"] = [b"250 ok\r\n", b"552 5.3.4 too large\r\n"]
    made = in_file(tmp_path, b"x" * 70 * 100_000)
    with session(server) as client:
        assert codes(client.begin(envelope(), made)) == [552]
        assert codes(deliver(client)) == [250]
    made.body.close()
    assert [arrival.octets for arrival in server.arrivals] == [LETTER]
    assert server.commands.count("RSET") == 1


def test_a_large_message_is_not_sent_to_a_recipient_that_is_refused(server: FakeSmtp, tmp_path: Path):
    server.capabilities = CHUNKING
    server.replies["RCPT"] = NOBODY
    made = in_file(tmp_path, b"x" * 70 * 100_000)
    with session(server) as client:
        assert codes(client.begin(envelope(), made)) == [550]
    made.body.close()
    assert server.received < 1000


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s18_lmtp_answers_for_each_accepted_recipient(offer: tuple[str, ...]):
    with FakeSmtp(lmtp=True) as server:
        server.capabilities = offer
        server.replies[f"RCPT TO:<{BAD}>"] = NOBODY
        for name in (".", "LAST"):
            server.replies[f"{name} 2"] = [b"452 4.2.2 mailbox full\r\n"]
        with session(server) as client:
            assert codes(deliver(client, to=envelope(GOOD, BAD, "full@example.org", GOOD))) == [250, 550, 452, 250]
            assert codes(deliver(client)) == [250]
        assert [arrival.recipients for arrival in server.arrivals] == [(GOOD,), (GOOD,), ("you@example.org",)]


# --- RSET --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s28_a_server_that_refuses_rset_gets_a_new_connection(smtp: FakeSmtp, offer: tuple[str, ...]):
    smtp.capabilities = offer
    smtp.replies = {f"RCPT TO:<{BAD}>": NOBODY, "RSET": b"502 5.5.1 what?\r\n"}
    quirks = Quirks()
    for asked in (1, 1):
        with session(smtp, quirks=quirks) as client:
            assert codes(deliver(client, to=envelope(BAD))) == [550]
            with pytest.raises(ConnectionLost, match="a new connection may work"):
                client.begin(envelope(), content())
        assert quirks.forgets_after_rset
        assert smtp.verbs().count("RSET") == asked
    with session(smtp, quirks=quirks) as client:
        assert codes(deliver(client)) == [250]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_s28_a_server_whose_rset_ends_the_sign_in_gets_a_new_connection(smtp: FakeSmtp, offer: tuple[str, ...]):
    """The message that comes next is not taken for refused."""
    smtp.capabilities = offer
    smtp.replies[f"RCPT TO:<{BAD}>"] = NOBODY
    smtp.needs_sign_in_after_rset = True
    quirks = Quirks()
    with session(smtp, quirks=quirks) as client:
        assert codes(deliver(client, to=envelope(BAD))) == [550]
        with pytest.raises(ConnectionLost, match=r"after RSET the server says “530 5.7.0 sign in first”"):
            client.begin(envelope(), content())
    assert quirks.forgets_after_rset
