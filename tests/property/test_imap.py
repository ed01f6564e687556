"""What is encoded as a response or command, and cut anywhere, is read as what it was."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.imap.encoder import Word, command
from syncd.imap.events import Event
from syncd.imap.tokens import Atom, Tokens, Value
from syncd.imap.values import (
    BODY,
    HEADER,
    FetchRow,
    ModSeq,
    SeqNum,
    Uid,
    Verb,
)
from syncd.mail.flags import Flags, canonical, to_octets
from tests.fakes.imap_words import words
from tests.support.imap import greeted, in_pieces

ATOMS = st.from_regex(rb"[A-Za-z0-9\\$&+./-]{1,8}", fullmatch=True).filter(lambda word: word.upper() != b"NIL")
OCTETS = st.binary(max_size=30)
QUOTED = st.from_regex(rb"[ -~]{0,12}", fullmatch=True)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | ATOMS.map(Atom) | OCTETS, lambda inner: st.lists(inner, max_size=4), max_leaves=12
)
FLAG = st.from_regex(r"\\?[A-Za-z$]{1,8}", fullmatch=True).filter(lambda flag: flag.lower() != "\\recent")
CUTS = st.lists(st.integers(0, 2000), max_size=6)


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    """The octets in pieces."""
    places = sorted({0, len(octets), *(min(at, len(octets)) for at in cuts)})
    return [octets[start:end] for start, end in pairwise(places)]


def written(value: Value, choice: int) -> bytes:
    """A value as a server may write it: strings quoted or as literals."""
    if value is None:
        return b"NIL"
    if isinstance(value, list):
        return b"(" + b" ".join(written(one, choice + index) for index, one in enumerate(value)) + b")"
    if isinstance(value, Atom):
        return bytes(value)
    if choice % 2 or any(octet in value for octet in b"\r\n\0"):
        return b"{%d}\r\n" % len(value) + value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(0, 9))
def test_tokens(values: list[Value], choice: int):
    tokens = Tokens()
    octets = b" ".join(written(value, choice) for value in values)
    while True:
        line, octets = _line(octets)
        tokens.line(line)
        if tokens.literal is None:
            break
        tokens.add(octets[: tokens.literal])
        octets = octets[tokens_length(line) :]
    assert not octets
    assert tokens.values == values


def tokens_length(line: bytes) -> int:
    """The octets of the literal that a line ends with."""
    return int(line[line.rindex(b"{") + 1 : -1])


def _line(octets: bytes) -> tuple[bytes, bytes]:
    """The octets up to a line end that is in no quoted string or literal, and those behind it: none is in a string."""
    line, _, rest = octets.partition(b"\r\n")
    return line, rest


@st.composite
def rows(draw: st.DrawFn) -> FetchRow:
    """What a server may say of a message."""
    maybe = st.none
    flags: Flags | None = draw(maybe() | st.lists(FLAG, max_size=4).map(lambda names: canonical(tuple(names))))
    header, body = draw(maybe() | OCTETS), draw(maybe() | st.binary(max_size=300))
    modseq = draw(maybe() | st.integers(1, (1 << 63) - 1))
    return FetchRow(
        SeqNum(draw(st.integers(0, 1 << 32))),
        Uid(draw(st.integers(1, (1 << 32) - 1))),
        flags,
        draw(maybe() | QUOTED.filter(lambda text: text.strip() == text)),
        draw(maybe() | st.integers(0, 1 << 40)),
        None if modseq is None else ModSeq(modseq),
        draw(st.from_regex(r"[A-Za-z0-9_-]{0,12}", fullmatch=True).filter(lambda text: text.upper() != "NIL")),
        draw(maybe() | st.integers(0, (1 << 64) - 1)),
        draw(maybe() | st.lists(OCTETS, max_size=3).map(tuple)),
        header,
        body,
        (HEADER if header is not None else 0) | (BODY if body is not None else 0),
    )


@settings(max_examples=150)
@given(st.lists(rows(), min_size=1, max_size=4), st.randoms(use_true_random=False), CUTS)
def test_rows_of_messages_with_their_items_in_any_order(messages: list[FetchRow], chance: Any, cuts: list[int]):
    octets = b"".join(_fetch(one, chance) for one in messages) + b"* 1 FETCH (UID 1)\r\n"
    events = in_pieces(greeted(), cut(octets, cuts))
    expected: list[Event] = [*messages, FetchRow(SeqNum(1), Uid(1))]
    assert events == expected


def _fetch(one: FetchRow, chance: Any) -> bytes:
    items = [b"UID %d" % one.uid]
    if one.flags is not None:
        items.append(b"FLAGS (%b)" % b" ".join(to_octets(one.flags)))
    if one.internal_date is not None:
        items.append(b"INTERNALDATE " + written(one.internal_date, 0))
    if one.size is not None:
        items.append(b"RFC822.SIZE %d" % one.size)
    if one.modseq is not None:
        items.append(b"MODSEQ (%d)" % one.modseq)
    if one.email_id:
        items.append(b"EMAILID (%b)" % one.email_id.encode())
    if one.gmail_id is not None:
        items.append(b"X-GM-MSGID %d" % one.gmail_id)
    if one.labels is not None:
        items.append(b"X-GM-LABELS " + written([*one.labels], chance.randrange(2)))
    if one.header is not None:
        items.append(b"BODY[HEADER] {%d}\r\n%b" % (len(one.header), one.header))
    if one.body is not None:
        items.append(b"BODY[] {%d}\r\n%b" % (len(one.body), one.body))
    chance.shuffle(items)
    return b"* %d FETCH (%b)\r\n" % (one.seq, b" ".join(items))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.booleans())
def test_arguments_of_commands(arguments: list[bytes], asked: bool):  # noqa: FBT001
    arguments = [argument.translate(None, b"\r\n\0") for argument in arguments]
    parts = command(Verb.EXAMINE, *arguments, Word(b"END"), literal_octets=-1 if asked else 1 << 20)
    octets = b"".join(parts)
    assert octets.endswith(b"\r\n")
    assert words(octets[:-2]) == [b"EXAMINE", *arguments, b"END"]
    for part in parts[:-1]:
        assert part.endswith(b"}\r\n")
        assert not part.endswith(b"+}\r\n")
