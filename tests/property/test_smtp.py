"""Whatever a message contains and wherever it is cut, it arrives whole, ends once, and nothing follows it."""

from __future__ import annotations

import email
import itertools
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.destinations.smtp.opening import LOOK_OCTETS, Opening, opening
from syncd.mail.body import Body
from syncd.smtp.connection import Connection
from syncd.smtp.content import Content, Form, crlf_lines, stuffed
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import Verb
from tests.fakes.smtp import END, LAX_END

# Few kinds of octets, so that everything that means something comes up all the time.
messages = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"\0"])).map(b"".join)
)
COMMAND = b"MAIL FROM:<evil@example.org>\r\n"
SMUGGLING = [
    before + b"." + after
    for before, after in itertools.product(
        [b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\0\r\n"], [b"\r\n", b"\n", b"\r", b"\0\r\n"]
    )
]


def expected(octets: bytes) -> bytes:
    """RFC 5321 §2.3.8: every line ends in CRLF."""
    text = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def received(wire: bytes, end: re.Pattern[bytes]) -> tuple[bytes, bytes]:
    """Returns the message as a server takes it, and the octets that it takes for commands after it."""
    found = end.search(wire)
    assert found is not None
    return re.sub(rb"(?:^|(?<=\n))\.", b"", wire[: found.start()]), wire[found.end() :]


def cut(octets: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [octets[start:end] for start, end in itertools.pairwise([0, *sorted(cuts), len(octets)])]


@given(messages)
@example(b"\r.\r")
@example(b"\r\n.\r")
@settings(max_examples=300, deadline=None)
def test_s14_every_boundary(octets: bytes):
    for at in range(len(octets) + 1):
        wire = b"".join(stuffed(crlf_lines(cut(octets, [at])))) + b".\r\n"
        for end in (END, LAX_END):
            assert received(wire, end) == (expected(octets), b"")


@given(st.data(), messages)
def test_s14_any_boundaries(data: st.DataObject, octets: bytes):
    cuts = data.draw(st.lists(st.integers(0, len(octets))))
    wire = b"".join(stuffed(crlf_lines(cut(octets, cuts)))) + b".\r\n"
    assert received(wire, LAX_END) == (expected(octets), b"")


@given(messages)
@example(b"a\r\n.\r\nb")
@settings(max_examples=300, deadline=None)
def test_s14_text_of_which_nothing_is_rewritten_may_be_cut_everywhere(octets: bytes):
    text = expected(octets)
    wire = b"".join(stuffed([text])) + b".\r\n"
    for at in range(len(text) + 1):
        assert b"".join(stuffed(cut(text, [at]))) + b".\r\n" == wire
    for size in (1, 2, 3):
        assert b"".join(stuffed(cut(text, range(size, len(text), size)))) + b".\r\n" == wire
    assert received(wire, LAX_END) == (text, b"")


@given(st.data(), messages)
def test_s14_text_of_which_nothing_is_rewritten_may_be_cut_anywhere(data: st.DataObject, octets: bytes):
    text = expected(octets)
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    wire = b"".join(stuffed(cut(text, cuts))) + b".\r\n"
    for end in (END, LAX_END):
        assert received(wire, end) == (text, b"")


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_b34_no_sequence_ends_a_message_early(sequence: bytes):
    octets = b"Subject: x\r\n\r\nhello" + sequence + COMMAND
    for at in range(len(octets) + 1):
        wire = b"".join(stuffed(crlf_lines(cut(octets, [at])))) + b".\r\n"
        for end in (END, LAX_END):
            assert received(wire, end) == (expected(octets), b"")


@given(messages, messages)
def test_content_says_what_it_is_going_to_send(prefix: bytes, octets: bytes):
    content = Content(prefix, Body.of(octets))
    text = b"".join(content.chunks(Form.TEXT))
    assert text == expected(prefix + octets)
    assert content.octets == len(text)
    assert content.rewritten == (text != prefix + octets)
    assert content.eight_bit == any(octet > 127 for octet in text)
    assert b"".join(content.chunks(Form.BINARY)) == prefix + octets
    assert received(b"".join(content.chunks(Form.DATA)) + b".\r\n", LAX_END) == (text, b"")


@given(st.lists(st.sampled_from([b"x", b"xy", b"\n", b"\r\n"]), max_size=8), st.integers(990, 1001))
def test_s16_long_lines(parts: list[bytes], length: int):
    octets = b"".join(b"z" * length if part == b"xy" else part for part in parts)
    longest = max(map(len, re.split(rb"\r\n|\r|\n", octets)))
    assert Content(b"", Body.of(octets)).long_lines == (longest > 998)


# --- our fields before any first octets ---------------------------------------------------------------

OURS = b"Received: by me.example\r\nX-Syncd-Id: x\r\n"
FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
FROM_LINES = re.compile(rb"(?:>*From (?![ \t]*:)[^\r\n]*\r\n)*")
OUR_NAMES = re.compile(rb"^(?:X-Mailbox-Line: (?=>*From )|X-Syncd-First-Line:(?=[ \t]))", re.MULTILINE)
PIECES = [
    *(b"From ", b">From ", b"From a@b  Tue May 10 14:55:10 2016\r\n", b" ", b"\t", b"\r\n", b"\n", b"\r"),
    *(b"\r\n\r\n", b"Subject: x\r\n", b"To : y\r\n", b"Sub", b": z", b"text", b"\0", b"\xef\xbb\xbf", b"\xe4"),
]
openings = st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)
Parsed = tuple[list[bytes], bytes]  # fields, folded lines included, and the body


def as_postfix(message: bytes) -> Parsed:
    """smtpd(8) skips From_ lines and takes a first line that is folded for text; any line that is no field is text."""
    lines = message[FROM_LINES.match(message).end() :].splitlines(keepends=True)  # type: ignore[union-attr]
    fields: list[bytes] = []
    for at, line in enumerate(lines):
        if fields and line[:1] in {b" ", b"\t"}:
            fields[-1] += line
        elif FIELD.match(line):
            fields.append(line)
        else:
            return fields, b"".join(lines[at + (line == b"\r\n") :])
    return fields, b""


def as_dovecot(message: bytes) -> Parsed:
    """All lines up to an empty one are header; a line that is no field has a name and no value."""
    head, _, body = (b"\r\n" + message).partition(b"\r\n\r\n")
    lines = re.split(rb"\r\n(?![ \t])", head.removesuffix(b"\r\n"))
    return [line + b"\r\n" for line in lines if FIELD.match(line)], body


def as_python(message: bytes) -> Parsed:
    """The real one: it skips a From_ line, and forgets a first line that is folded."""
    found = email.message_from_bytes(message)
    body = found.get_payload(decode=True)
    assert isinstance(body, bytes)
    return [f"{name}:{value}".encode("utf-8", "surrogateescape") for name, value in found.items()], body


def joined(octets: bytes) -> tuple[Opening, bytes]:
    found = opening(OURS, octets[:LOOK_OCTETS])
    return found, b"".join(Content(found.prefix, Body.of(octets), found.skip).chunks(Form.TEXT))


def without_ours(parsed: Parsed, read: Callable[[bytes], Parsed]) -> Parsed:
    """Our fields come first, and nothing of the message became part of them."""
    fields, body = parsed
    ours, _ = read(OURS)
    assert fields[:2] == ours
    return [it for it in fields[2:] if not it.startswith((b"X-Mailbox-Line:", b"X-Syncd-First-Line:"))], body


def differs(before: bytes, read: Callable[[bytes], Parsed]) -> bool:
    """Postfix takes a header for text if its first line is folded; Python knows one From_ line, and none quoted."""
    if read is as_postfix:
        return re.match(FROM_LINES.pattern + rb"[ \t]", before) is not None
    return read is as_python and before.count(b"From ") > before.startswith(b"From ")


@given(openings)
@settings(max_examples=500, deadline=None)
def test_below_our_fields_header_stays_header_and_body_stays_body(octets: bytes):
    before = expected(octets)
    found, after = joined(octets)
    text = OUR_NAMES.sub(b"", after.removeprefix(OURS))
    assert text.removeprefix(b"\r\n" if "empty line" in found.note else b"") == before  # nothing is lost
    for read in (as_postfix, as_dovecot, as_python):
        same = without_ours(read(after), read)
        if "empty line" in found.note:
            assert same == ([], before)
        elif found.note:
            assert same == read(before) or differs(before, read)
        else:
            assert same == read(before) or before.startswith((b"From ", b">From "))
            assert same[1].endswith(read(before)[1])


@given(st.one_of(messages, openings))
def test_a_message_keeps_its_octets_below_our_fields(octets: bytes):
    found = opening(OURS, octets[:LOOK_OCTETS])
    content = Content(found.prefix, Body.of(octets), found.skip)
    wire = b"".join(content.chunks(Form.BINARY))
    assert len(wire) == content.octets_of(Form.BINARY)
    assert OUR_NAMES.sub(b"", wire.removeprefix(OURS)).removeprefix(b"\r\n") == octets.removeprefix(b"\r\n")


lines = st.lists(st.from_regex(rb"[ -~]{0,20}", fullmatch=True), min_size=1, max_size=4)
replies = st.tuples(st.sampled_from([250, 251, 450, 550, 599]), lines)


def as_octets(code: int, texts: Sequence[bytes]) -> bytes:
    *rows, last = texts
    return b"".join(b"%d-%s\r\n" % (code, row) for row in rows) + b"%d %s\r\n" % (code, last)


@given(st.data(), st.lists(replies, max_size=6))
def test_replies_come_out_as_they_went_in_wherever_they_are_cut(
    data: st.DataObject, several: list[tuple[int, list[bytes]]]
):
    wire = b"220 ready\r\n" + b"".join(as_octets(*reply) for reply in several)
    cuts = data.draw(st.lists(st.integers(0, len(wire))))
    connection = Connection()
    for _ in several:
        connection.sent(Verb.RSET)
    got = []
    for piece in cut(wire, cuts):
        connection.buffer.target()[: len(piece)] = piece
        connection.buffer.received(len(piece))
        while (answer := connection.next_answer()) is not None:
            got.append(answer.reply)
    assert [reply.code for reply in got[1:]] == [code for code, _ in several]
    assert connection.in_flight == 0
    for reply, (_, texts) in zip(got[1:], several, strict=True):
        for read, written in zip(reply.text, texts, strict=True):
            assert written.rstrip(b" \t").endswith(read)


@given(st.lists(st.sampled_from([250, 450, 550]), min_size=1, max_size=4), st.sampled_from([250, 450, 550]), st.data())
def test_s18_lmtp_gives_each_recipient_its_own_reply(rcpts: list[int], mail: int, data: st.DataObject):
    """However RCPTs were answered, the replies to the end are counted out to those that were accepted."""
    transaction = Transaction(len(rcpts), lmtp=True)
    transaction.ended = True
    connection = Connection()
    verbs = [Verb.MAIL, *[Verb.RCPT] * len(rcpts), Verb.LAST]
    for verb in verbs:
        connection.sent(verb, transaction)
    codes = [mail, *(rcpts if mail == 250 else [503] * len(rcpts))]
    accepted = codes[1:].count(250)
    finals = data.draw(st.lists(st.sampled_from([250, 451, 552]), min_size=accepted, max_size=accepted)) or [503]
    wire = b"".join(b"%d x\r\n" % code for code in [220, *codes, *finals])
    connection.buffer.target()[: len(wire)] = wire
    connection.buffer.received(len(wire))
    while connection.next_answer() is not None:
        assert not transaction.complete or not connection.in_flight
    assert connection.in_flight == 0
    assert len(connection.buffer) == 0
    answers = iter(finals)
    want = [mail if mail != 250 else next(answers) if code == 250 else code for code in rcpts]
    assert [reply.code for reply in transaction.outcomes()] == want
