"""Modified UTF-7: how IMAP writes names of mailboxes that are not plain ASCII (RFC 3501 §5.1.3). Pure.

    modified = printable ASCII, "&" written as "&-"
             / "&" modified-base64 of UTF-16BE "-"       base64 with "," for "/" and without padding

A name decodes only if encoding the text gives the same octets again. Everything else that a server may send ("R&D",
8-bit names, ASCII in base64) is no modified UTF-7: `text_of` reads it as UTF-8, and octets that are no UTF-8 stay in
the text as surrogates (PEP 383), which `octets_of` writes back as the octets they are.

A server where UTF8=ACCEPT is enabled (RFC 6855 §3), or IMAP4rev2, sends plain UTF-8: `utf8=True`.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_ESCAPED: Final = re.compile("[^\x20-\x7e]+|&")
_SHIFTED: Final = re.compile(rb"&([^-]*)-")
_PLAIN: Final = re.compile(rb"[\x20-\x25\x27-\x7e]*")  # printable ASCII without "&"
_KEPT_OCTET: Final = re.compile("([\udc80-\udcff]+)")  # an octet that was no UTF-8


def encode(text: str) -> bytes:
    """Returns the modified UTF-7 of a text; octets that `text_of` kept as surrogates come back as they were."""
    if _KEPT_OCTET.search(text):
        kept, pieces = "surrogateescape", _KEPT_OCTET.split(text)
        return b"".join(
            piece.encode("utf-8", kept) if number % 2 else encode(piece) for number, piece in enumerate(pieces)
        )
    return _ESCAPED.sub(_shifted, text).encode("ascii")


def decode(name: bytes) -> str:
    """Returns the text of a name. Raises ValueError where `encode` would not give exactly these octets again."""
    if _PLAIN.fullmatch(name):
        return name.decode("ascii")
    text = _SHIFTED.sub(_unshifted, name).decode("utf-8")
    if encode(text) != name:
        raise ValueError(f"{name!r} is no modified UTF-7")
    return text


def text_of(name: bytes, *, utf8: bool = False) -> str:
    """Returns the text of a name, whatever it is. Names that do not decode keep their octets."""
    if not utf8:
        try:
            return decode(name)
        except ValueError:
            pass
    return name.decode("utf-8", "surrogateescape")


def octets_of(text: str, *, utf8: bool = False) -> bytes:
    """Returns the name that a text has at a server: undoes `text_of` for every name that decodes."""
    if not utf8:
        return encode(text)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no octet: no server has sent it
        return text.encode("utf-8", "surrogatepass")


def _shifted(found: re.Match[str]) -> str:
    if found[0] == "&":
        return "&-"
    octets = found[0].encode("utf-16-be", "surrogatepass")
    base64 = binascii.b2a_base64(octets, newline=False).rstrip(b"=").replace(b"/", b",")
    return f"&{base64.decode('ascii')}-"


def _unshifted(found: re.Match[bytes]) -> bytes:
    """Returns a shifted run as UTF-8. Raises ValueError."""
    base64 = found[1].replace(b",", b"/")
    if not base64:
        return b"&"
    octets = binascii.a2b_base64(base64 + b"=" * (-len(base64) % 4))
    return octets.decode("utf-16-be").encode("utf-8")
