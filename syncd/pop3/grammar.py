"""Octets to typed replies; one function for each rule (RFC 1939 §9, RFC 2449 §8, RFC 5034 §4).

Parsing is strict where a mistake would lose or mistake a message, and tolerant where nothing can be mistaken: columns
may be padded with blanks and tabs, and empty lines stand between lines (P50); unique-ids are any octets, also none;
what follows the size in a scan listing is ignored; a size that is no number is unknown (P51).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from syncd.errors import RemoteProtocolError, printable
from syncd.pop3.values import Capabilities, Challenge, Status

MAX_NUMBER_DIGITS = 15  # a longer number is nonsense, and int() of a million digits is an attack
MAX_SIZE_DIGITS = 11  # a message of 100 GB; the sum of ten million of them still fits in 64 bits
MAX_UNIQUE_ID_OCTETS = 1024  # RFC 1939 §7 says 70, which not every server keeps to

_BLANKS = b" \t"
_CODE = re.compile(rb"\[([^\]\[\s]{1,64})\] ?")
_NO_SIZE = re.compile(rb"-\d*|\?+|n/?a|nan|none|null|\(null\)|unknown|\d+(\.\d+)?[kmg]?b?", re.IGNORECASE)
_TIMESTAMP = re.compile(rb"<[^<>\s]+>")

Quote = Callable[[bytes], str]  # makes octets of the server fit to be shown in an error


def status(line: bytes, quote: Quote = printable) -> Status:
    """Parse a status line without its CRLF. An error shows the line by `quote`.

    response   =  status-indicator [SP [resp-code SP] text]       ; RFC 2449 §8, RFC 1939 §3
    status-indicator = "+OK" / "-ERR"

    P28: only these two count; "+ERR" is no success. Either case is taken, and any blanks around the text (P50).
    """
    word, text = _two(line)
    word = word.upper()
    if word not in {b"+OK", b"-ERR"}:
        raise RemoteProtocolError(f"expected +OK or -ERR, got “{quote(line)}”")
    found = _CODE.match(text)
    if found is None:
        return Status(word == b"+OK", "", text)
    code = found[1].decode("ascii", "backslashreplace").upper()
    return Status(word == b"+OK", code, text[found.end() :])


def challenge(line: bytes, quote: Quote = printable) -> Challenge | None:
    """Parse a challenge. Returns None if the line is not a challenge.

    continue-req = "+" SP [base64] CRLF                            ; RFC 5034 §6, RFC 4954 §4
    """
    if line != b"+" and not line.startswith(b"+ "):
        return None
    word = line[2:].strip()
    try:
        return Challenge(binascii.a2b_base64(word, strict_mode=True) if word else b"")
    except binascii.Error as error:
        raise RemoteProtocolError(f"a challenge that is no base64: “{quote(line)}”") from error


def drop_listing(text: bytes) -> tuple[int, int | None]:
    """Returns messages and octets of STAT's answer: drop-listing = messages SP octets [SP …] (RFC 1939 §5).

    The octets are None if they are no number (P51).
    """
    words = text.split(None, 2)
    if not words or not _are_numbers(words[:1]):
        raise RemoteProtocolError(f"STAT answered “{printable(text)}” instead of two numbers")
    return int(words[0]), int(words[1]) if len(words) > 1 and _are_numbers(words[1:2]) else None


def is_scan_listing(status: Status, number: int) -> bool:
    """Returns whether `status` answers LIST `number`: "+OK" SP message-number SP octets [SP …] (RFC 1939 §5).

    Only a word that is surely a size, or stands for an unknown size, is taken for one: the answer to another command
    may begin with a number too ("+OK 120 octets").
    """
    words = status.text.split(None, 2)
    return status.ok and len(words) > 1 and words[0] == b"%d" % number and _may_be_size(words[1])


def is_unique_id(status: Status, number: int, uid: bytes) -> bool:
    """Returns whether `status` answers UIDL `number`: "+OK" SP message-number SP unique-id (RFC 1939 §7)."""
    return status.ok and _two(status.text) == (b"%d" % number, uid)


def scan_listings(lines: bytes, after: int, *, sure: bool = True) -> list[int | None]:
    """Returns the sizes in whole lines of LIST's answer, which must be for the messages after `after`, in order.

    scan-listing = message-number SP octets [SP …] CRLF            ; RFC 1939 §5

    A size that is no number, or out of all proportion, is None (P51). With `sure=False` the lines may be the answer to
    UIDL, because LIST was swallowed (P31): then only words that are no unique-id stand for an unknown size.
    """
    rows = [row for line in lines.split(b"\r\n") if (row := line.split(None, 2))]
    _check_numbers("LIST", [row[0] for row in rows], lines, after)
    words = [row[1] if len(row) > 1 else b"" for row in rows]
    if _are_numbers(words, MAX_SIZE_DIGITS):
        return list(map(int, words))
    if not sure and not all(map(_may_be_size, words)):
        raise RemoteProtocolError(f"LIST gives a size that is not a number near “{printable(lines)}”")
    return [int(word) if _are_numbers([word], MAX_SIZE_DIGITS) else None for word in words]


def unique_ids(lines: bytes, after: int) -> list[bytes]:
    """Returns the unique-ids in whole lines of UIDL's answer, which must be for the messages after `after`, in order.

    unique-id-listing = message-number SP unique-id CRLF           ; RFC 1939 §7

    RFC 1939 wants 1 to 70 octets of 0x21 to 0x7E; we take any octets, up to MAX_UNIQUE_ID_OCTETS, also none. Blanks
    around a unique-id do not belong to it.
    """
    rows = [row for line in lines.split(b"\r\n") if (row := line.split(None, 1))]
    _check_numbers("UIDL", [row[0] for row in rows], lines, after)
    ids = [row[1].rstrip(_BLANKS) if len(row) > 1 else b"" for row in rows]
    if ids and len(longest := max(ids, key=len)) > MAX_UNIQUE_ID_OCTETS:
        raise RemoteProtocolError(
            f"a unique-id of {len(longest)} octets, more than {MAX_UNIQUE_ID_OCTETS}: “{printable(longest)}”"
        )
    return ids


def capabilities(lines: bytes) -> Capabilities:
    """Parse CAPA's answer: capability-line = tag *(SP parameter) CRLF (RFC 2449 §3)."""
    return Capabilities(tuple(printable(line) for line in lines.split(b"\r\n") if line.strip()))


def timestamp(greeting: bytes) -> bytes | None:
    """Returns the msg-id in a greeting that offers APOP (RFC 1939 §7), angle brackets included; else None."""
    found = _TIMESTAMP.search(greeting)
    return None if found is None else found[0]


def _two(line: bytes) -> tuple[bytes, bytes]:
    """Returns the first word and the rest, without blanks around them."""
    words = line.split(None, 1)
    return (words[0] if words else b""), (words[1].rstrip(_BLANKS) if len(words) > 1 else b"")


def _may_be_size(word: bytes) -> bool:
    """Returns whether a word is a size, or is what servers write for an unknown one, and is no unique-id."""
    return (word.isdigit() and len(word) <= MAX_NUMBER_DIGITS) or _NO_SIZE.fullmatch(word) is not None


def _are_numbers(words: list[bytes], digits: int = MAX_NUMBER_DIGITS) -> bool:
    return all(word.isdigit() and len(word) <= digits for word in words)


def _check_numbers(verb: str, numbers: list[bytes], lines: bytes, after: int) -> None:
    """Message numbers run from 1 without gaps in a session that has removed nothing (RFC 1939 §5)."""
    if not _are_numbers(numbers) or list(map(int, numbers)) != list(range(after + 1, after + 1 + len(numbers))):
        raise _out_of_step(verb, lines, after)


def _out_of_step(verb: str, lines: bytes, after: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"{verb} does not go on with message {after + 1} in “{printable(lines)}”")
