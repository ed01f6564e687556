"""Says in what way a stored message differs from its original (pure), in words for a person.

Known habits of servers come first (I154): line ends, 8-bit octets in the header, NUL, fields that are taken out. What
is none of them is named by the first octet that differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from syncd.errors import printable

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_EIGHT_BIT: Final = re.compile(rb"[\x80-\xff]")
_FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)
_HEADER_END: Final = re.compile(rb"\r?\n\r?\n")
MOST_FIELDS: Final = 6  # that are named
MOST_OCTETS: Final = 4 << 20  # a larger message is not compared in memory


def ways(original: bytes, stored: bytes) -> tuple[str, ...]:
    """Returns the ways in which `stored` differs; none where it is equal."""
    if original == stored:
        return ()
    if _even(original) == _even(stored):
        return ("line ends are others",)
    if b"\0" in original and stored.startswith(original[: original.index(b"\0")]):
        if _even(stored) == _even(original.replace(b"\0", b"\x80")):
            return ("each NUL became 0x80",)
        if _even(stored).rstrip(b"\n") == _even(original[: original.index(b"\0")]).rstrip(b"\n"):
            return ("cut off at the first NUL",)
    return tuple(_by_part(original, stored))


def likenesses(octets: bytes) -> tuple[bytes, ...]:
    """Returns digests of what servers leave of a message: all of it, all but its first line, its body.

    Two messages with one in common are likely to be one. Line ends, and empty lines at the end, do not count; nothing
    stands for a part that is empty.
    """
    text = _even(octets)
    parts = (text, text.partition(b"\n")[2], text.partition(b"\n\n")[2])
    return tuple(hashlib.sha256(part).digest() for part in (part.rstrip(b"\n") for part in parts) if part)


def _by_part(original: bytes, stored: bytes) -> Iterator[str]:
    (head, body), (stored_head, stored_body) = _split(original), _split(stored)
    if _even(head) != _even(stored_head):
        yield from _header(_even(head), _even(stored_head))
    if _even(body) != _even(stored_body):
        yield _body(body, stored_body)
    elif body != stored_body:
        yield "line ends in the body are others"


def _header(head: bytes, stored: bytes) -> Iterator[str]:
    if _EIGHT_BIT.sub(b"X", head) == stored:
        yield "each 8-bit octet in the header became X"
        return
    before, after = _FIELD.findall(head), _FIELD.findall(stored)
    lost, added = [name for name in before if name not in after], [name for name in after if name not in before]
    if lost:
        yield f"header fields are gone: {_named(lost)}"
    if added:
        yield f"header fields came in: {_named(added)}"
    if not lost and not added:
        yield f"the header differs from octet {_common(head, stored):,} on"


def _body(body: bytes, stored: bytes) -> str:
    if not stored.startswith(body) and not body.startswith(stored):
        body, stored = _even(body), _even(stored)
    if stored.startswith(body):
        return f"{len(stored) - len(body):,} octets were added at the end"
    if body.startswith(stored):
        return f"{len(body) - len(stored):,} octets are missing at the end"
    return f"the body differs from octet {_common(body, stored):,} on"


def _named(fields: list[bytes]) -> str:
    names = list(dict.fromkeys(map(printable, fields)))
    return ", ".join(names[:MOST_FIELDS]) + (
        f" and {len(names) - MOST_FIELDS} more" if len(names) > MOST_FIELDS else ""
    )


def _split(message: bytes) -> tuple[bytes, bytes]:
    end = _HEADER_END.search(message)
    return (message, b"") if end is None else (message[: end.end()], message[end.end() :])


def _even(octets: bytes) -> bytes:
    return _LINE_END.sub(b"\n", octets)


def _common(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
