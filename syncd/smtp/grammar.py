"""Octets to typed replies; one function for each rule (RFC 5321 §4.2, RFC 2034 §4, RFC 4954 §4).

Strict where a mistake would take one reply for another. Servers write any octets as text, so those are kept.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncd.errors import RemoteProtocolError, printable
from syncd.smtp.values import Capabilities, Reply

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?: +|$)")


Quote = Callable[[bytes], str]  # what an error shows of octets


class Line(NamedTuple):
    """One line of a reply. `more`: another one follows."""

    code: int
    more: bool
    text: bytes


def reply_line(line: bytes, quote: Quote = printable) -> Line:
    """Read a line without its CRLF. Raises RemoteProtocolError, which shows of it what `quote` gives.

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF    ; RFC 5321 §4.2
    Reply-code = %x32-35 %x30-35 %x30-39

    A second digit over 5 is taken too: the first one decides what a client does (§4.2.1).
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise RemoteProtocolError(f"expected a reply code, got “{quote(line)}”")
    return Line(int(found[1]), found[2] == b"-", found[3] or b"")


def reply(lines: Sequence[Line], quote: Quote = printable) -> Reply:
    """Put the lines of one reply together. S29: codes that differ make it no reply at all (RFC 5321 §4.2.1)."""
    code = lines[-1].code
    if any(line.code != code for line in lines):
        shown = quote(b" / ".join(b"%d %s" % (line.code, line.text) for line in lines))
        raise RemoteProtocolError(f"a reply whose lines have different codes: “{shown}”")
    enhanced, _ = _status(code, lines[0].text)
    return Reply(code, enhanced, tuple(_status(code, line.text)[1] for line in lines))


def _status(code: int, text: bytes) -> tuple[str, bytes]:
    """The enhanced status code and the rest; its class must be the reply's (RFC 2034 §4).

    statuscodes = status-code "." subject "." detail SP text
    """
    found = _ENHANCED.match(text)
    if found is None or found[1][:1] != b"%d" % (code // 100):
        return "", text
    return found[1].decode("ascii"), text[found.end() :]


def challenge(reply: Reply, quote: Quote = printable) -> bytes:
    """What the server asks for in an AUTH exchange, decoded: "334" SP [base64] CRLF (RFC 4954 §4)."""
    text = b"".join(reply.text).strip()
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except binascii.Error as error:
        raise RemoteProtocolError(f"a challenge that is no base64: “{quote(text)}”") from error


def capabilities(reply: Reply) -> Capabilities:
    """ehlo-line = ehlo-keyword *( SP ehlo-param ), after a first line that greets (RFC 5321 §4.1.1.1)."""
    return Capabilities(tuple(printable(line) for line in reply.text[1:] if line.strip()))
