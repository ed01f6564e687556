"""The text of a message, for search and for people: transfer encodings undone, charsets read, HTML made text.

Everything is bounded, whatever the message says: MAX_TEXT characters, and no step takes more than linear time.
"""

from __future__ import annotations

import binascii
import re
from html import unescape
from typing import Final

from syncd.mail.mime.fields import decoded
from syncd.mail.mime.structure import Part, Structure, alternatives

MAX_TEXT: Final = 256 << 10  # characters of a message; a novel has three times as many
# each alternative takes the rest where its end is missing, so that no octet is looked at twice
_MARKUP: Final = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style|head|title|template)\b.*?(?:</\1\s*>|\Z)"
    r"|<(/?)([a-z][a-z0-9]*)[^>]*(?:>|\Z)"
    r"|<[!?/][^>]*(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BLOCKS: Final = """
    address article blockquote br center dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre
    section table td th tr ul
"""
_BREAKS: Final = frozenset(_BLOCKS.split())
_SPACES: Final = re.compile(r"[^\S\n]+")
_LINES: Final = re.compile(r" ?\n[ \n]*")
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes(set(range(256)) - set(_BASE64))


def text_of(found: Structure) -> str:
    """Returns the text of a message, of alternatives the longest."""
    texts = (max((text_of_part(part) for part in same), key=len) for same in alternatives(found.parts))
    return "\n".join(text for text in texts if text)[:MAX_TEXT]


def text_is_cut(found: Structure) -> bool:
    """Returns whether a message has more text than `text_of` returns."""
    texts = [part for same in alternatives(found.parts) for part in same]
    return any(len(part.kept) < part.end - part.start for part in texts) or len(text_of(found)) == MAX_TEXT


def text_of_part(part: Part) -> str:
    """Returns the text of a part as far as it was kept."""
    text = decoded(undone(bytes(part.kept), part.what.encoding), part.what.parameters.get("charset", ""))
    if part.what.kind in {"text/html", "text/xml"}:
        return html_text(text)[:MAX_TEXT]
    return "" if part.what.kind == "text/css" else text[:MAX_TEXT]


def undone(octets: bytes, encoding: str) -> bytes:
    """Undo a transfer encoding (RFC 2045 §6) as far as it is sound."""
    if encoding == "base64":
        sound = base64_of(octets)
        spare = len(sound) % 4
        return binascii.a2b_base64(
            sound[: len(sound) - spare] + (sound[-spare:] + b"==="[spare - 1 :] if spare > 1 else b"")
        )
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets)
    return octets


def base64_of(octets: bytes) -> bytes:
    """Returns what is base64 of octets: line ends, padding and whatever else stands there are passed over."""
    return octets.translate(None, _NOT_BASE64)


def html_text(html: str) -> str:
    """Returns the text that HTML shows, in lines."""
    text = unescape(_MARKUP.sub(_mark, html.replace("\n", " ")))
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def _mark(found: re.Match[str]) -> str:
    return "\n" if (found[3] or "").lower() in _BREAKS else " " if not found[3] else ""
