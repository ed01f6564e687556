"""The metadata of a pack's frames: rows in the program, columns in JSON.

    {"at": "2026-11-23T09:28:21Z",                            when this was stored
     "archive": "<uuid>",                                     in the first frame of a pack
     "part": [2, 12],                                         a part of one large message: which, of how many
     "origins": [["<account uuid>", "<account name>", "<mailbox>", 1], …],     with UIDVALIDITY or UIDL generation
     "messages": {"sha256": […], "header": […], "octets": […], "offset": […], "length": […], "form": "crlf",
                  "origin": 0, "uid": […], "occurrence": 1, "flags": "", "date": ""},
     "places":   {"sha256": […], "origin": …, "uid": …, "occurrence": …, "flags": …, "date": …},
     "removed":  {"origin": …, "uid": …, "occurrence": …},
     "flags":    {"origin": …, "uid": …, "occurrence": …, "flags": …}}

* A column is a list with one value for each row; one that is the same for all rows is that value alone, and
  left out if it is the default (origin 0, occurrence 1, form crlf, flags and date empty). The first is always a list.
* `messages` describes the data frame behind: `offset` and `length` find a stored message in it, `octets`, `sha256`
  and `header` (first 8 octets of the header's SHA-256) are of the original octets. `origin` counts in `origins` from 0.
* `places` are further places of octets stored earlier; `removed` and `flags` are later facts about a place.
* Octets (uid, mailbox) and flags are text with `%XX` for `%` and for each octet that is not printable UTF-8. Flags
  are separated by spaces. `date` is INTERNALDATE in ISO 8601 with its offset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import UUID

from syncd.mail.message import Origin

T = TypeVar("T")

CRLF, RAW = "crlf", "raw"
_DEFAULTS: dict[str, Any] = {"origin": 0, "occurrence": 1, "form": CRLF, "flags": "", "date": ""}


class StoredRow(NamedTuple):
    """A message in a data frame."""

    sha256: bytes
    header_hash: bytes
    octets: int
    offset: int
    length: int
    crlf: bool


class PlaceRow(NamedTuple):
    """Where octets were seen. `origin` is an index into the frame's origins; flags and date are text as in JSON."""

    sha256: bytes
    origin: int
    uid: bytes
    occurrence: int
    flags: str
    date: str


class RefRow(NamedTuple):
    """A place that a later fact is about."""

    origin: int
    uid: bytes
    occurrence: int


@dataclass(slots=True)
class Meta:
    """What one metadata frame says. `messages` and the first places of those messages, `firsts`, run in parallel."""

    at: int  # seconds since 1970
    archive: UUID | None = None
    part: tuple[int, int] | None = None
    origins: list[Origin] = field(default_factory=list)
    messages: list[StoredRow] = field(default_factory=list)
    firsts: list[PlaceRow] = field(default_factory=list)
    places: list[PlaceRow] = field(default_factory=list)
    removed: list[RefRow] = field(default_factory=list)
    flags: list[tuple[RefRow, str]] = field(default_factory=list)

    def origin(self, origin: Origin) -> int:
        """The index of `origin` in this frame, added if it is new. A frame has few."""
        try:
            return self.origins.index(origin)
        except ValueError:
            self.origins.append(origin)
            return len(self.origins) - 1

    def dump(self) -> bytes:
        """As JSON."""
        document: dict[str, Any] = {"at": _instant(self.at)}
        if self.archive:
            document["archive"] = str(self.archive)
        if self.part:
            document["part"] = self.part
        if self.origins:
            document["origins"] = [(str(o.account), o.account_name, text(o.mailbox), o.epoch) for o in self.origins]
        if self.messages:
            document["messages"] = _message_columns(self.messages) | _place_columns(self.firsts)
        if self.places:
            document["places"] = {"sha256": [row.sha256.hex() for row in self.places]} | _place_columns(self.places)
        if self.removed:
            document["removed"] = _ref_columns(self.removed)
        if self.flags:
            document["flags"] = _ref_columns([ref for ref, _ in self.flags]) | _columns(
                ("flags",), ([flags for _, flags in self.flags],)
            )
        return json.dumps(document, separators=(",", ":")).encode("ascii")


# --- octets and flags as text ----------------------------------------------------------------------


def text(octets: bytes) -> str:
    """Octets as printable text, reversibly."""
    try:
        plain = octets.decode("utf-8")
    except UnicodeDecodeError:
        plain = octets.decode("utf-8", "surrogateescape")
    if plain.isprintable() and "%" not in plain:
        return plain
    return "".join(c if c.isprintable() and c != "%" else _escaped(c) for c in plain)


def _escaped(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogateescape"))


def octets_of(printed: str) -> bytes:
    """Undo `text`."""
    return unquote_to_bytes(printed) if "%" in printed else printed.encode("utf-8")


def flags_text(flags: Iterable[str]) -> str:
    """Flags as one text, in their order."""
    return " ".join(text(flag.encode("utf-8", "surrogateescape")).replace(" ", "%20") for flag in flags)


def flags_of(printed: str) -> tuple[str, ...]:
    """Undo `flags_text`."""
    return tuple(octets_of(flag).decode("utf-8", "surrogateescape") for flag in printed.split())


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- rows → columns --------------------------------------------------------------------------------


def _columns(names: Sequence[str], columns: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Columns by name, the constant ones as one value, the default ones left out."""
    found: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        first = column[0]
        if column.count(first) < len(column):
            found[name] = column
        elif first != _DEFAULTS.get(name):
            found[name] = first
    return found


def _message_columns(rows: list[StoredRow]) -> dict[str, Any]:
    sha256, header, octets, offset, length, crlf = zip(*rows, strict=True)
    return {"sha256": [octets.hex() for octets in sha256]} | _columns(
        ("header", "octets", "offset", "length", "form"),
        ([o.hex() for o in header], octets, offset, length, [CRLF if c else RAW for c in crlf]),
    )


def _place_columns(rows: list[PlaceRow]) -> dict[str, Any]:
    _, origin, uid, occurrence, flags, date = zip(*rows, strict=True)
    return _columns(
        ("origin", "uid", "occurrence", "flags", "date"), (origin, [text(u) for u in uid], occurrence, flags, date)
    )


def _ref_columns(rows: list[RefRow]) -> dict[str, Any]:
    origin, uid, occurrence = zip(*rows, strict=True)
    return {"uid": [text(u) for u in uid]} | _columns(("origin", "occurrence"), (origin, occurrence))


# --- JSON → rows -----------------------------------------------------------------------------------


def parse(octets: bytes) -> Meta:
    """Undo `Meta.dump`. Raises ValueError when it is not such a document."""
    try:
        document = json.loads(octets)
        meta = Meta(int(datetime.fromisoformat(document["at"]).timestamp()))
        meta.archive = UUID(document["archive"]) if "archive" in document else None
        meta.part = _part(document["part"]) if "part" in document else None
        meta.origins = [Origin(UUID(a), str(n), octets_of(m), int(e)) for a, n, m, e in document.get("origins", ())]
        _parse_tables(meta, document)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return meta


def _part(value: list[int]) -> tuple[int, int]:
    number, total = map(int, value)
    if not 1 <= number <= total:
        raise ValueError(f"part {number} of {total}")
    return number, total


def _parse_tables(meta: Meta, document: dict[str, Any]) -> None:
    if table := document.get("messages"):
        meta.firsts = _places(table, len(meta.origins))
        rows = len(meta.firsts)
        header = map(bytes.fromhex, _column(table, "header", rows, str))
        numbers = [_column(table, name, rows, int) for name in ("octets", "offset", "length")]
        crlf = [form == CRLF for form in _column(table, "form", rows, str)]
        sha256 = [place.sha256 for place in meta.firsts]
        meta.messages = list(map(StoredRow._make, zip(sha256, header, *numbers, crlf, strict=True)))
    if table := document.get("places"):
        meta.places = _places(table, len(meta.origins))
    if table := document.get("removed"):
        meta.removed = _refs(table, len(meta.origins))
    if table := document.get("flags"):
        refs = _refs(table, len(meta.origins))
        meta.flags = list(zip(refs, _column(table, "flags", len(refs), str), strict=True))


def _places(table: dict[str, Any], origins: int) -> list[PlaceRow]:
    sha256 = [bytes.fromhex(digest) for digest in table["sha256"]]
    refs = _refs(table, origins, len(sha256))
    flags, date = (_column(table, name, len(sha256), str) for name in ("flags", "date"))
    return [PlaceRow(digest, *ref, *rest) for digest, ref, *rest in zip(sha256, refs, flags, date, strict=True)]


def _refs(table: dict[str, Any], origins: int, rows: int | None = None) -> list[RefRow]:
    if rows is None and not isinstance(table["uid"], list):
        raise TypeError("column uid is not a list")
    count = len(table["uid"]) if rows is None else rows
    origin, occurrence = (_column(table, name, count, int) for name in ("origin", "occurrence"))
    if origin and max(origin) >= origins:
        raise ValueError(f"origin {max(origin)} of {origins}")
    return list(
        map(RefRow._make, zip(origin, map(octets_of, _column(table, "uid", count, str)), occurrence, strict=True))
    )


def _column(table: dict[str, Any], name: str, rows: int, kind: type[T]) -> list[T]:
    value: Any = table.get(name, _DEFAULTS.get(name))
    column: list[Any] = value if isinstance(value, list) else [value] * rows
    sound = len(column) == rows and all(isinstance(v, kind) for v in column)
    if not sound or (kind is int and min(column, default=0) < 0):
        raise ValueError(f"column {name} is not {rows} times {kind.__name__}")
    return column
