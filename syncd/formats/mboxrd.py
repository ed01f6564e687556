"""One message as an mbox record, and back: line ends, `From ` quoting, separator lines.

A record is: a `From ` line (RFC 4155 appendix A), the message with every `>*From ` at the start of a
line given one more `>` (mboxrd, the one quoting that can be undone), LF if that does not end in LF, LF.
A line starts at the start of the message and after each LF.

Mail travels with CRLF, mbox readers expect LF. If every line end of a message is CRLF and it holds no
other CR or LF, it is stored with LF (form `crlf`); any other message keeps its line ends (form `raw`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from syncd.formats.line_ends import to_crlf, to_lf, without_cr

_FROM = re.compile(rb"From ")
_BLOCK_OCTETS = 16 << 10  # see _mentions_from
_BARE = re.compile(rb"\n(?=>*From )")
_QUOTED = re.compile(rb"\n>(?=>*From )")
_BARE_START = re.compile(rb">*From ")
_QUOTED_START = re.compile(rb">+From ")
_UNDECIDED = re.compile(rb">?(?:F(?:r(?:om?)?)?)?\Z")  # the end of a piece that the next one may turn into `>From `
_UNDECIDED_OCTETS = 5
_STATUS = {"\\seen": "R"}  # the fields that mail readers share: R read, O no longer new; A F D T in X-Status
_X_STATUS = {"\\answered": "A", "\\flagged": "F", "\\deleted": "D", "\\draft": "T"}


def from_line(when: datetime | float) -> bytes:
    """The line before a message: an instant (aware, or seconds since 1970) in UTC, as RFC 4155 wants it.

    The sender's address is not looked for: readers ignore it, and finding it would mean to parse the mail.
    """
    utc = time.gmtime(when) if isinstance(when, float) else when.utctimetuple()
    return b"From MAILER-DAEMON %s\n" % time.asctime(utc).encode("ascii")


def separator(stored: bytes) -> bytes:
    """Returns what follows a message that ends in `stored`: the end of its last line, and an empty line."""
    return b"\n" if stored.endswith(b"\n") else b"\n\n"


def status_fields(flags: Iterable[str]) -> bytes:
    """Flags as the header fields that mail readers keep them in, in an mbox; empty for a message without flags."""
    known = [flag.lower() for flag in flags]
    status = "".join(sorted(_STATUS[flag] for flag in known if flag in _STATUS))
    x_status = "".join(sorted(_X_STATUS[flag] for flag in known if flag in _X_STATUS))
    fields = f"Status: {status}O\n" if status or x_status else ""
    return (fields + (f"X-Status: {x_status}\n" if x_status else "")).encode("ascii")


def beyond_status(flags: Iterable[str]) -> set[str]:
    """Returns the flags and keywords for which these fields have no letter."""
    return {flag for flag in flags if flag.lower() not in _STATUS and flag.lower() not in _X_STATUS}


def quote(data: bytes) -> bytes:
    """Give every `>*From ` at the start of a line one more `>`. Most mail has none: then it is a search, no copy."""
    if not _mentions_from(data):
        return data
    quoted = _BARE.sub(b"\n>", data)
    return b">" + quoted if _BARE_START.match(data) else quoted


def _mentions_from(data: bytes) -> bool:
    """Tells whether `From ` is in the message.

    Looking for the space first is ten times as fast (memchr) where there is none: base64, most of what mail consists
    of. Text has one a word: there the search for all five goes on for a block before the next space is looked for.
    """
    if len(data) <= _BLOCK_OCTETS:
        return _FROM.search(data) is not None
    scan = 0
    while (space := data.find(b" ", scan)) >= 0:
        scan = space + _BLOCK_OCTETS
        if _FROM.search(data, max(0, space - 4), scan):
            return True
    return False


def unquote(data: bytes) -> bytes:
    """Undo `quote`."""
    if b">From " not in data:
        return data
    bare = _QUOTED.sub(b"\n", data)
    return bare[1:] if _QUOTED_START.match(data) else bare


def encode(data: bytes) -> tuple[bytes, bool]:
    """A whole message as it is stored, and whether its form is `crlf`."""
    text = to_lf(data)
    return (quote(data), False) if text is None else (quote(text), True)


def decode(stored: bytes, *, crlf: bool) -> bytes:
    """The original octets of a whole stored message."""
    text = unquote(stored)
    return text.replace(b"\n", b"\r\n") if crlf else text


def encode_stream(chunks: Iterable[bytes], *, crlf: bool) -> Iterator[bytes]:
    """`encode` for a message in pieces whose form is known (`all_crlf`); memory: a few times the largest piece."""
    return _by_lines(without_cr(chunks) if crlf else chunks, quote)


def decode_stream(chunks: Iterable[bytes], *, crlf: bool) -> Iterator[bytes]:
    """`decode` for a stored message in pieces."""
    text = _by_lines(chunks, unquote)
    return to_crlf(text) if crlf else text


def _by_lines(chunks: Iterable[bytes], change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Apply `quote` or `unquote` to a stream.

    A piece may end in the start of `>From `, so up to 5 octets wait for the next piece. `at_start` says that
    only `>` stand between the start of a line and the next octet: the run of `>` may be of any length, and it
    does not matter which of them is added or taken away.
    """
    waiting, at_start = b"", True
    for chunk in chunks:
        data = waiting + chunk
        undecided = _UNDECIDED.search(data, max(0, len(data) - _UNDECIDED_OCTETS))
        cut = undecided.start() if undecided else len(data)
        data, waiting = data[:cut], data[cut:]
        if data:
            yield change(data) if at_start else change(b"x" + data)[1:]
            before = data.rstrip(b">")
            at_start = before.endswith(b"\n") or (at_start and not before)
    yield waiting
