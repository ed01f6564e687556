"""The fields that say what a part of a message is (RFC 2045, 2183), read tolerantly: nothing here raises.

Parameters may be split and have a charset (RFC 2231), or have encoded words in them (RFC 2047), as many programs write.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from syncd.mail.headers import FIELD_CAP_OCTETS, decode

MAX_SECTIONS: Final = 100  # of a parameter that is split
MAX_NAME: Final = 200  # characters of a file's name
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|"[^;]*|[^;\s]*)', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_KIND: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}", re.ASCII)
# text encodings that take a name from a hostile message too far: slow, or not a charset of mail
_REFUSED: Final = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})
_ALIASES: Final = {"iso8859-1": "cp1252", "ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030"}  # as browsers do


class Described(NamedTuple):
    """What the header of a part says about it. `kind` is its media type, in lower case."""

    kind: str
    parameters: Mapping[str, str]
    encoding: str  # Content-Transfer-Encoding, in lower case
    disposition: str  # "attachment", "inline" or whatever stands there; "" where nothing does
    name: str  # of the file; "" where it has none
    content_id: str


def described(raw: Mapping[bytes, bytes]) -> Described:
    """Returns what a part is; `raw` are the fields of its header, names in lower case."""
    kind, parameters = _split(raw.get(b"content-type", b""))
    disposition, more = _split(raw.get(b"content-disposition", b""))
    name = more.get("filename") or parameters.get("name") or ""
    return Described(
        kind if _KIND.fullmatch(kind) else "text/plain",
        parameters,
        _text(raw.get(b"content-transfer-encoding", b"")).strip().lower(),
        disposition,
        decode(name.encode("utf-8", "replace"))[:MAX_NAME],
        _text(raw.get(b"content-id", b"")).strip().strip("<>"),
    )


def decoded(octets: bytes, charset: str) -> str:
    """Returns octets as text. A charset that is unknown or wrong gives UTF-8, or else Windows-1252."""
    for name in (_known(charset), "utf-8"):
        try:
            if name:
                text = octets.decode(name)
                return text if text.isascii() else _SURROGATE.sub("\ufffd", text)  # UTF-7 lets them through
        except (UnicodeError, ValueError):
            continue
    return octets.decode("cp1252", "replace")


def _known(charset: str) -> str:
    """Returns the name of a codec that reads this charset, "" where there is none."""
    try:
        codec = codecs.lookup(charset.strip()[:40])
    except (LookupError, ValueError, UnicodeError):
        return ""
    if not getattr(codec, "_is_text_encoding", True) or codec.name in _REFUSED:
        return ""
    return _ALIASES.get(codec.name, codec.name)


def _split(field: bytes) -> tuple[str, dict[str, str]]:
    """Returns the value before the parameters, in lower case, and the parameters."""
    if not field:
        return "", {}
    text = _text(field)
    value, _, _ = text.partition(";")
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for found in _PARAMETER.finditer(text):
        section = _SECTION.fullmatch(found[1])
        if section is not None:
            pieces = sections.setdefault(section[1].lower(), {})
            if len(pieces) < MAX_SECTIONS:
                pieces.setdefault(int(section[2] or 0), (_unquoted(found[2]), bool(section[3])))
    return value.strip().lower(), {name: _joined(pieces) for name, pieces in sections.items()}


def _joined(pieces: Mapping[int, tuple[str, bool]]) -> str:
    """Returns a parameter from its sections; those that are percent-encoded begin with a charset (RFC 2231 §4)."""
    if not any(encoded for _, encoded in pieces.values()):
        return "".join(text for _, (text, _) in sorted(pieces.items()))
    charset, octets = "", b""
    for number, (piece, encoded) in sorted(pieces.items()):
        text = piece
        if encoded and number == min(pieces) and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        octets += unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace")
    return decoded(octets, charset)


def _unquoted(value: str) -> str:
    if value[:1] == '"':
        closed = len(value) > 1 and value.endswith('"')
        return _QUOTED_PAIR.sub(r"\1", value[1:-1] if closed else value[1:])
    return value


def _text(field: bytes) -> str:
    cut = field[:FIELD_CAP_OCTETS]
    try:
        return cut.decode()
    except UnicodeDecodeError:
        return cut.decode("latin-1")
