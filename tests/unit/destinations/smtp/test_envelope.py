from __future__ import annotations

import pytest

from syncd.destinations.smtp.envelope import (
    ORIGINAL,
    Offer,
    Terms,
    examine,
    needs_smtputf8,
    objection,
    reverse_path,
)
from syncd.mail.body import Body
from syncd.smtp.content import Content
from syncd.smtp.values import Capabilities

ME = "me@example.org"
ALL = Offer(eight_bit=True, smtputf8=True, chunking=True)


def mail(*fields: str, body: str = "hello") -> Body:
    return Body.of("".join(f"{field}\r\n" for field in fields).encode() + f"\r\n{body}\r\n".encode())


def objected(body: Body, offer: Offer, terms: Terms = Terms(ME), sender: str = "", prefix: bytes = b"") -> str:  # noqa: B008
    return objection(sender, examine(body), Content(prefix, body), terms, offer)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Return-Path: <a@example.com>", "a@example.com"),
        ("Return-Path: a@example.com", "a@example.com"),
        ('Return-Path: <"a b"@example.com>', '"a b"@example.com'),
        ("Return-Path: <>", ""),
        ("return-path:\t<>", ""),
        ("Return-Path: <a@example.com\x00>", None),
        ("Return-Path: MAILER-DAEMON", None),
        ("Return-Path:", None),
        ("X-Return-Path: <a@example.com>", None),
    ],
)
def test_the_return_path(field: str, expected: str | None):
    assert examine(mail(field)).return_path == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@example.com", "a@example.com"),
        ('"Last, First <x@example.net>" <a@example.com>', "a@example.com"),
        ("=?utf-8?q?b=40example.net?= <a@example.com>", "a@example.com"),
        ("A <a@example.com>, B <b@example.com>", "a@example.com"),
        ("undisclosed", ""),
        ("a@example.com (A <c@example.org>)", "a@example.com"),
        ("<a@example.com\x01> SIZE=1", ""),
    ],
)
def test_the_author(value: str, expected: str):
    assert examine(mail(f"From: {value}")).author == expected


def test_the_sender_that_was_chosen():
    both = examine(mail("Return-Path: <r@example.com>", "From: f@example.com"))
    only_from = examine(mail("From: f@example.com"))
    assert reverse_path(ORIGINAL, both) == "r@example.com"
    assert reverse_path(ORIGINAL, only_from) == "f@example.com"
    assert reverse_path(ORIGINAL, examine(mail("Subject: x"))) == ""
    assert reverse_path("me@example.net", both) == "me@example.net"
    assert reverse_path("", both) == ""


@pytest.mark.parametrize("choice", [ORIGINAL, "me@example.net", ""])
def test_s24_a_bounce_keeps_the_null_sender(choice: str):
    assert reverse_path(choice, examine(mail("Return-Path: <>", "From: MAILER-DAEMON@example.com"))) == ""


def test_received_fields_and_our_ids_are_counted():
    facts = examine(mail("Received: a", "X-Syncd-Id: one", "Received: b", "x-syncd-id: two"))
    assert (facts.received, facts.ids) == (2, (b"one", b"two"))


@pytest.mark.parametrize(("limit", "refused"), [(0, False), (100, False), (99, True), (1, True)])
def test_s11_the_size_that_was_announced(limit: int, refused: bool):  # noqa: FBT001
    body = Body.of(b"x" * 88 + b"\r\n")
    assert bool(objected(body, Offer(octets=limit), prefix=b"X-Our: 1\r\n")) is refused


def test_s11_line_ends_are_counted_as_they_will_be_sent():
    assert "has 104 octets" in objected(Body.of(b"\n" * 52), Offer(octets=103))
    assert objected(Body.of(b"\n" * 52), Offer(octets=104)) == ""


@pytest.mark.parametrize(("announced", "expected"), [("SIZE", 0), ("SIZE 0", 0), ("SIZE x", 0), ("SIZE 7", 7)])
def test_s11_a_size_of_nothing_is_no_limit(announced: str, expected: int):
    assert Offer.of(Capabilities((announced,))).octets == expected


def test_s12_eight_bit_where_it_is_not_announced():
    body = mail("Subject: x", body="größer")
    assert "does not announce 8BITMIME" in objected(body, Offer())
    assert objected(body, Offer(), Terms(ME, send_eight_bit=True)) == ""
    assert objected(body, Offer(eight_bit=True)) == ""
    assert objected(mail("Subject: x"), Offer()) == ""


@pytest.mark.parametrize(("sender", "recipient"), [("é@example.com", ME), ("", "é@example.org"), ("", "me@é.example")])
def test_s13_an_envelope_that_needs_smtputf8(sender: str, recipient: str):
    terms = Terms(recipient, send_eight_bit=True)
    body = mail("Subject: x")
    assert "SMTPUTF8" in objected(body, Offer(eight_bit=True), terms, sender)
    assert objected(body, ALL, terms, sender) == ""
    assert needs_smtputf8(sender, examine(body), terms)


@pytest.mark.parametrize(
    "field", ["From: <é@example.com>", "To: a@é.example", "Cc: A <b@example.com>, <ü@example.com>"]
)
def test_s13_a_header_with_utf8_addresses(field: str):
    body = mail(field)
    assert "SMTPUTF8" in objected(body, Offer(eight_bit=True))
    assert objected(body, Offer(), Terms(ME, send_eight_bit=True)) == ""
    assert needs_smtputf8("", examine(body), Terms(ME))


@pytest.mark.parametrize("field", ["Subject: größer", "From: Jürgen <a@example.com>", "To: <a@example.com> (größer)"])
def test_s13_names_and_subjects_in_utf8_are_only_eight_bit(field: str):
    body = mail(field)
    assert objected(body, Offer(eight_bit=True)) == ""
    assert not needs_smtputf8("", examine(body), Terms(ME))


def test_a_hostile_address_field_costs_no_time():
    assert not examine(mail("From: " + "é" * 30_000 + " @")).utf8_addresses
    for hostile in '("<\\@,':
        facts = examine(mail(f"Return-Path: {hostile * 30_000}", f"From: {hostile * 30_000}"))
        assert (facts.return_path, facts.author) == (None, "")


def test_s13_addresses_in_latin_1_are_only_eight_bit():
    assert not examine(Body.of("From: <é@example.com>\r\n\r\n".encode("latin-1"))).utf8_addresses


def test_s16_long_lines():
    body = mail("Subject: x", body="x" * 999)
    refuse = Terms(ME, refuse_long_lines=True)
    assert "has a line over 998 octets" in objected(body, Offer(), refuse)
    assert objected(body, Offer(chunking=True), refuse) == ""
    assert objected(body, Offer()) == ""
    assert objected(mail("Subject: x", body="x" * 998), Offer(), refuse) == ""
