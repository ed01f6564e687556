"""Octets to typed replies; one function for each rule (RFC 1939 §9, RFC 2449 §8, RFC 5034 §4).

Strict where a mistake would lose or mistake a message, tolerant where RFC 1939 leaves it open: unique-ids
are opaque octets of any kind, also none, and what follows the size in a scan listing is ignored.
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

_CODE = re.compile(rb"\[([^\]\[\s]{1,64})\] ?")
_TIMESTAMP = re.compile(rb"<[^<>\s]+>")

Quote = Callable[[bytes], str]  # what an error shows of octets


def status(line: bytes, quote: Quote = printable) -> Status:
    """Read a status line without its CRLF. An error shows of it what `quote` gives.

    response   =  status-indicator [SP [resp-code SP] text]       ; RFC 2449 §8, RFC 1939 §3
    status-indicator = "+OK" / "-ERR"

    Only these two count: "+ERR" is no success. Servers that write them small are understood.
    """
    indicator, _, text = line.partition(b" ")
    word = indicator.upper()
    if word not in {b"+OK", b"-ERR"}:
        raise RemoteProtocolError(f"expected +OK or -ERR, got “{quote(line)}”")
    found = _CODE.match(text)
    if found is None:
        return Status(word == b"+OK", "", text)
    code = found[1].decode("ascii", "backslashreplace").upper()
    return Status(word == b"+OK", code, text[found.end() :])


def challenge(line: bytes, quote: Quote = printable) -> Challenge | None:
    """Read a challenge; None when the line is none.

    continue-req = "+" SP [base64] CRLF                            ; RFC 5034 §6, RFC 4954 §4
    """
    if line != b"+" and not line.startswith(b"+ "):
        return None
    try:
        return Challenge(binascii.a2b_base64(line[2:], strict_mode=True) if line[2:] else b"")
    except binascii.Error as error:
        raise RemoteProtocolError(f"a challenge that is no base64: “{quote(line)}”") from error


def drop_listing(text: bytes) -> tuple[int, int]:
    """Messages and octets out of STAT's answer: drop-listing = messages SP octets [SP …] (RFC 1939 §5)."""
    words = text.split(b" ", 2)
    if len(words) < 2 or not _are_numbers(words[:2]):
        raise RemoteProtocolError(f"STAT answered “{printable(text)}” instead of two numbers")
    return int(words[0]), int(words[1])


def is_scan_listing(status: Status, number: int) -> bool:
    """Whether this answers LIST with that number: "+OK" SP message-number SP octets [SP …] (RFC 1939 §5)."""
    words = status.text.split(None, 2)
    return status.ok and len(words) >= 2 and words[0] == b"%d" % number and _are_numbers(words[1:2])


def scan_listings(lines: bytes, after: int) -> list[int]:
    """The sizes in some whole lines of LIST's answer, which must be for the messages after `after`, in order.

    scan-listing = message-number SP octets [SP …] CRLF            ; RFC 1939 §5
    """
    rows = [line.split(b" ", 2) for line in lines.split(b"\r\n")[:-1]]
    if any(len(row) < 2 for row in rows):
        raise _out_of_step("LIST", lines, after)
    sizes = [row[1] for row in rows]
    _check_numbers("LIST", [row[0] for row in rows], lines, after)
    if not _are_numbers(sizes, MAX_SIZE_DIGITS):
        raise RemoteProtocolError(f"LIST gives a size that is no number near “{printable(lines)}”")
    return list(map(int, sizes))


def unique_ids(lines: bytes, after: int) -> list[bytes]:
    """The unique-ids in some whole lines of UIDL's answer, which must be for the messages after `after`, in order.

    unique-id-listing = message-number SP unique-id CRLF           ; RFC 1939 §7

    RFC 1939 wants 1 to 70 octets of 0x21 to 0x7E; any octets are taken, none too, up to MAX_UNIQUE_ID_OCTETS.
    """
    rows = [line.partition(b" ") for line in lines.split(b"\r\n")[:-1]]
    _check_numbers("UIDL", [row[0] for row in rows], lines, after)
    ids = [row[2] for row in rows]
    if ids and len(longest := max(ids, key=len)) > MAX_UNIQUE_ID_OCTETS:
        raise RemoteProtocolError(
            f"a unique-id of {len(longest)} octets, more than {MAX_UNIQUE_ID_OCTETS}: “{printable(longest)}”"
        )
    return ids


def capabilities(lines: bytes) -> Capabilities:
    """CAPA's answer: capability-line = tag *(SP parameter) CRLF (RFC 2449 §3)."""
    return Capabilities(tuple(printable(line) for line in lines.split(b"\r\n") if line.strip()))


def timestamp(greeting: bytes) -> bytes | None:
    """The msg-id in a greeting that offers APOP (RFC 1939 §7), angle brackets included."""
    found = _TIMESTAMP.search(greeting)
    return None if found is None else found[0]


def _are_numbers(words: list[bytes], digits: int = MAX_NUMBER_DIGITS) -> bool:
    return all(word.isdigit() and len(word) <= digits for word in words)


def _check_numbers(verb: str, numbers: list[bytes], lines: bytes, after: int) -> None:
    """Message numbers run from 1 without gaps in a session that has removed nothing (RFC 1939 §5)."""
    if not _are_numbers(numbers) or list(map(int, numbers)) != list(range(after + 1, after + 1 + len(numbers))):
        raise _out_of_step(verb, lines, after)


def _out_of_step(verb: str, lines: bytes, after: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"{verb} does not go on with message {after + 1} in “{printable(lines)}”")
