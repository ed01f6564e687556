"""Puts our fields before a message, whatever its first octets are: header stays header, and body stays body. Pure.

Most messages begin with a field, an empty line, or text that no server takes for a header: our fields simply go before
them. Two kinds of first lines would change their role below a field:

    From_ lines of an mbox, also quoted (">From ")    are skipped by servers only as the first lines; below a field they
                                                      end the header, and Subject and all that follows become text
    lines that begin with a space or tab              become part of the field above (RFC 5322 §2.2.3)

What a header would have been without our fields decides:

    first lines                then                       we write
    From_ lines                a field or an empty line   "X-Mailbox-Line: " before each of them, as Postfix does
    space, tab                 a field                    "X-Syncd-First-Line:" before them: the top of a header is lost
    either                     anything else              an empty line before them: all of it is text

Where Postfix, Dovecot and Python's email read a message differently, most of them decide. Only the From_ lines change,
so the rest of a message keeps its octets, and signatures still verify.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAILBOX_LINE = "X-Mailbox-Line"  # Postfix's name, smtpd(8)
FIRST_LINE = "X-Syncd-First-Line"
LOOK_OCTETS = 64 << 10  # a header that does not begin within so many octets is none

_FROM_LINE = re.compile(rb">*From (?![ \t]*:)[^\r\n]*(?:\r\n|\n|\r(?!\n))")
_FOLDED = re.compile(rb"(?:[ \t][^\r\n]*(?:\r\n|\n|\r(?!\n)))+")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")  # RFC 5322 §2.2; a space before the colon is old style (§4.5), "From :" too
_EMPTY_LINE = re.compile(rb"\r\n|\n|\r")


class Opening(NamedTuple):
    """The octets before a message. They take the place of its first `skip` octets. `note`: what was done, or ""."""

    prefix: bytes
    skip: int = 0
    note: str = ""


def opening(fields: bytes, start: bytes) -> Opening:
    """Returns how `fields` (whole lines) go before a message; `start` has its first octets, LOOK_OCTETS or all."""
    if not fields:
        return Opening(b"")
    mailbox_lines, end = _from_lines(start)
    folded = _FOLDED.match(start, end)
    rest = folded.end() if folded else end
    if not mailbox_lines and start[:1] not in (b" ", b"\t"):
        return Opening(fields)
    if mailbox_lines and (_FIELD.match(start, rest) or _EMPTY_LINE.match(start, end)):
        name = f"{MAILBOX_LINE}: ".encode()
        kept = b"".join(name + line for line in mailbox_lines)
        return Opening(fields + kept, end, f"mbox line kept as {MAILBOX_LINE}")
    if not mailbox_lines and _FIELD.match(start, rest):
        return Opening(fields + f"{FIRST_LINE}:".encode(), 0, f"first line kept as {FIRST_LINE}")
    return Opening(fields + b"\r\n", 0, "empty line put before the text, which has no header")


def _from_lines(start: bytes) -> tuple[list[bytes], int]:
    """Returns the From_ lines at the start, line ends included, and where they end."""
    lines: list[bytes] = []
    end = 0
    while found := _FROM_LINE.match(start, end):
        lines.append(found[0])
        end = found.end()
    return lines, end
