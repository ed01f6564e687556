"""Octets to typed replies; one function for each rule (RFC 5321 §4.2, RFC 2034 §4, RFC 4954 §4).

Parsing is strict where a mistake would take one reply for another. The text of a reply may have any octets.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncd.errors import RemoteProtocolError, printable
from syncd.smtp.values import Capabilities, Reply

_LINE = re.compile(rb"([2-5]\d\d)(?:([ \t-])(.*))?", re.DOTALL)
_BLANK = b" \t"
_ENHANCED = re.compile(rb"([245]\.\d{1,3}\.\d{1,3})(?: +|$)")


Quote = Callable[[bytes], str]  # makes octets of the server fit to be shown in an error


class Line(NamedTuple):
    """A line of a reply. `more`: another line follows."""

    code: int
    more: bool
    text: bytes


def reply_line(line: bytes, quote: Quote = printable) -> Line:
    """Parse a line without its CRLF. Raises RemoteProtocolError, which shows the line by `quote`.

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF    ; RFC 5321 §4.2
    Reply-code = %x32-35 %x30-35 %x30-39

    A second digit over 5 is taken too, because the first digit decides (§4.2.1). S31: so is a tab in place of the
    space, and blanks around the text are no part of it.
    """
    found = _LINE.fullmatch(line.rstrip(_BLANK))
    if found is None:
        raise RemoteProtocolError(f"expected a reply code, got “{quote(line)}”")
    return Line(int(found[1]), found[2] == b"-", (found[3] or b"").strip(_BLANK))


def reply(lines: Sequence[Line], quote: Quote = printable) -> Reply:
    """Join the lines of a reply. S29: raises RemoteProtocolError if their codes differ (RFC 5321 §4.2.1)."""
    code = lines[-1].code
    if any(line.code != code for line in lines):
        shown = quote(b" / ".join(b"%d %s" % (line.code, line.text) for line in lines))
        raise RemoteProtocolError(f"a reply whose lines have different codes: “{shown}”")
    enhanced, _ = _status(code, lines[0].text)
    return Reply(code, enhanced, tuple(_status(code, line.text)[1] for line in lines))


def _status(code: int, text: bytes) -> tuple[str, bytes]:
    """Returns the enhanced status code and the rest; its class must be that of the reply (RFC 2034 §4).

    statuscodes = status-code "." subject "." detail SP text
    """
    found = _ENHANCED.match(text)
    if found is None or found[1][:1] != b"%d" % (code // 100):
        return "", text
    return found[1].decode("ascii"), text[found.end() :]


def challenge(reply: Reply, quote: Quote = printable) -> bytes:
    """Returns the decoded challenge of an AUTH exchange: "334" SP [base64] CRLF (RFC 4954 §4)."""
    text = b"".join(reply.text).strip()
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except binascii.Error as error:
        raise RemoteProtocolError(f"a challenge that is no base64: “{quote(text)}”") from error


def capabilities(reply: Reply) -> Capabilities:
    """Parse the reply to EHLO: a greeting, then ehlo-line = ehlo-keyword *( SP ehlo-param ) (RFC 5321 §4.1.1.1)."""
    return Capabilities(tuple(printable(line) for line in reply.text[1:] if line.strip()))
