from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.destinations.smtp.trace import (
    MAX_RECEIVED,
    Passage,
    loop_reason,
    resent_fields,
    route_tag,
    trace_fields,
    trace_id,
)
from syncd.mail.mailbox import Epoch
from syncd.mail.message import MessageRef, Origin, Uid

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
ORIGIN = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
REF = MessageRef(ORIGIN, Uid(b"uid-1"), 1)
SHA = b"\x01" * 32
TAG = route_tag(ORIGIN.account, "me@example.org")
ATOM = re.compile(r"[a-z2-7]{26}-[a-z2-7]{10}")


def test_the_id_is_an_atom_and_xtext_as_it_is():
    assert ATOM.fullmatch(trace_id(REF, SHA, TAG))


def test_the_id_hangs_on_place_octets_and_recipient_alone():
    same = trace_id(REF, SHA, TAG)
    assert trace_id(MessageRef(ORIGIN._replace(account_name="renamed"), Uid(b"uid-1"), 1), SHA, TAG) == same
    others = [
        trace_id(REF._replace(uid=Uid(b"uid-2")), SHA, TAG),
        trace_id(REF._replace(occurrence=2), SHA, TAG),
        trace_id(REF._replace(origin=ORIGIN._replace(account=UUID(int=2))), SHA, TAG),
        trace_id(REF._replace(origin=ORIGIN._replace(mailbox=b"Sent")), SHA, TAG),
        trace_id(REF._replace(origin=ORIGIN._replace(epoch=Epoch(2))), SHA, TAG),
        trace_id(REF, b"\x02" * 32, TAG),
        trace_id(REF, SHA, route_tag(ORIGIN.account, "you@example.org")),
    ]
    assert len({same, *others}) == 8


def test_mailbox_and_uid_cannot_be_shifted_into_each_other():
    one = trace_id(MessageRef(ORIGIN._replace(mailbox=b"ab"), Uid(b"c"), 1), SHA, TAG)
    assert trace_id(MessageRef(ORIGIN._replace(mailbox=b"a"), Uid(b"bc"), 1), SHA, TAG) != one


def test_the_way_is_the_recipient_however_it_is_written():
    assert route_tag(ORIGIN.account, "Me@Example.ORG") == TAG
    assert len(TAG) == 10


def test_s25_what_was_delivered_here_once_may_go_on_from_here():
    """The address moves a second time: all its mail has our id of the first time, and was taken for a loop."""
    first = trace_id(REF, SHA, TAG).encode()
    assert loop_reason([first], 1, route_tag(UUID(int=2), "me@example.org")) == ""


def test_s25_our_id_on_the_same_way_is_a_loop():
    mine, others = trace_id(REF, SHA, TAG), trace_id(REF, SHA, route_tag(ORIGIN.account, "you@example.org"))
    assert "our id" in loop_reason([mine.encode()], 1, TAG)
    assert "our id" in loop_reason([others.encode(), b" " + mine.encode() + b"\t"], 1, TAG)
    assert loop_reason([others.encode()], 1, TAG) == ""
    assert loop_reason([b"", b"x", mine.encode() + b" forged", TAG.encode()], 1, TAG) == ""


def test_s25_a_hundred_received_fields_are_a_loop():
    assert loop_reason([], MAX_RECEIVED - 1, TAG) == ""
    assert "has 100 Received fields" in loop_reason([], MAX_RECEIVED, TAG)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("pop.example.net", "pop.example.net"),
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a..b\xfc", "unknown.invalid"),
    ],
)
def test_received_names_the_source_as_rfc_5321_writes_it(source: str, written: str):
    octets = trace_fields(Passage("me.example", source, "POP3"), "K-T", "me@example.org", NOW)
    assert octets.startswith(f"Received: from {written} by me.example (syncd) with POP3\r\n".encode())


def test_received_of_what_was_stored_here_and_for_an_address_that_is_not_ascii():
    octets = trace_fields(Passage("[127.0.0.1]"), "K-T", "mé@example.org", NOW)
    assert octets == (
        b"Received: by [127.0.0.1] (syncd)\r\n id K-T;\r\n Tue, 24 Nov 2026 03:00:00 +0000\r\nX-Syncd-Id: K-T\r\n"
    )


def test_a_resent_block_needs_addresses_in_ascii():
    assert resent_fields("K-T", "mé@example.net", "me@example.org", NOW) == b""
    assert resent_fields("K-T", "me@example.net", "mé@example.org", NOW) == b""


@given(st.from_regex(r"[a-z0-9.+-]{1,60}@[a-z0-9.-]{1,60}", fullmatch=True), st.binary(max_size=70))
def test_whatever_goes_in_the_fields_are_fields_of_short_ascii_lines(recipient: str, uid: bytes):
    message_id = trace_id(REF._replace(uid=Uid(uid)), SHA, route_tag(ORIGIN.account, recipient))
    passage = Passage("me.example", "pop.example.net", "POP3")
    octets = trace_fields(passage, message_id, recipient, NOW) + resent_fields(message_id, recipient, recipient, NOW)
    assert octets.isascii()
    lines = octets.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) < 998 and b"\r" not in line and b"\n" not in line for line in lines)
    assert all(re.match(rb"[A-Z][A-Za-z-]+: | ", line) for line in lines)
