"""The metadata of a pack's frames: rows in the program, columns in JSON.

    {"at": "2026-11-23T09:28:21Z",                            when this was stored
     "archive": "<uuid>",                                     in the first frame of a pack
     "part": [2, 12],                                         a part of one large message: which, of how many
     "origins": [["<account uuid>", "<account name>", "<mailbox>", 1, ["<level>", …], "<use>", false], …],
     "messages": {"sha256": […], "header": […], "octets": […], "offset": […], "length": […], "form": "crlf",
                  "origin": 0, "uid": […], "occurrence": 1, "flags": "", "date": "", "labels": ""},
     "places":   {"sha256": […], "origin": …, "uid": …, "occurrence": …, "flags": …, "date": …, "labels": …},
     "removed":  {"origin": …, "uid": …, "occurrence": …},
     "flags":    {"origin": …, "uid": …, "occurrence": …, "flags": …}}

* An origin is a mailbox with its epoch (UIDVALIDITY or UIDL generation), path, special use, and subscription. What
  stands at its end and is the default (path INBOX, no use, subscribed) is left out.
* A column is a list with one value for each row; one that is the same for all rows is that value alone, and
  left out if it is the default (origin 0, occurrence 1, form crlf, all others empty). The first is always a list.
* `messages` describes the data frame behind: `offset` and `length` find a stored message in it, `octets`, `sha256`
  and `header` (first 8 octets of the header's SHA-256) are of the original octets. `origin` counts in `origins` from 0.
* `places` are further places of octets stored earlier; `removed` and `flags` are later facts about a place.
* Octets (uid, mailbox), levels of a path, flags and labels are text with `%XX` for `%` and for each octet that is not
  printable UTF-8. Flags are separated by spaces, and so are labels (Gmail's), whose own spaces are `%20`. `date` is
  INTERNALDATE in ISO 8601 with its offset.

`parse.py` makes rows of JSON again, and checks everything that it finds there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import UUID

from syncd.mail.mailbox import INBOX_PATH, Path
from syncd.mail.message import Origin, Uid

CRLF, RAW = "crlf", "raw"
DEFAULTS: Final[dict[str, Any]] = {"origin": 0, "occurrence": 1, "form": CRLF, "flags": "", "date": "", "labels": ""}
MAX_FLAGS_CHARACTERS: Final = 64 << 10  # of one message: thousands of keywords
FACTS: Final[tuple[list[str], str, bool]] = (list(INBOX_PATH), "", True)  # defaults of what may end an origin


class StoredRow(NamedTuple):
    """A message in a data frame."""

    sha256: bytes
    header_hash: bytes
    octets: int
    offset: int
    length: int
    crlf: bool


class PlaceRow(NamedTuple):
    """A place of a message. `origin` is an index into the frame's origins; flags, date, labels are text as in JSON."""

    sha256: bytes
    origin: int
    uid: Uid
    occurrence: int
    flags: str
    date: str
    labels: str = ""


class RefRow(NamedTuple):
    """A place that a later fact is about."""

    origin: int
    uid: Uid
    occurrence: int


@dataclass(slots=True)
class Meta:
    """The content of one metadata frame. `messages` and their first places, `firsts`, run in parallel."""

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
        """Returns the index of `origin` in this frame, adding it if it is new. A frame has few."""
        try:
            return self.origins.index(origin)
        except ValueError:
            self.origins.append(origin)
            return len(self.origins) - 1

    def dump(self) -> bytes:
        """Returns it as JSON."""
        document: dict[str, Any] = {"at": _instant(self.at)}
        if self.archive:
            document["archive"] = str(self.archive)
        if self.part:
            document["part"] = self.part
        if self.origins:
            document["origins"] = list(map(_origin_fields, self.origins))
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
    """Flags, or labels, as one text, in their order."""
    return " ".join(text(flag.encode("utf-8", "surrogateescape")).replace(" ", "%20") for flag in flags)


def flags_of(printed: str) -> tuple[str, ...]:
    """Undo `flags_text`."""
    return tuple(octets_of(flag).decode("utf-8", "surrogateescape") for flag in printed.split())


def path_text(path: Path) -> list[str]:
    """The levels of a path, each as printable text. Any text comes back, lone surrogates too."""
    return [text(level.encode("utf-8", "surrogatepass")) for level in path]


def path_of(printed: Iterable[str]) -> Path:
    """Undo `path_text`."""
    return tuple(octets_of(level).decode("utf-8", "surrogatepass") for level in printed)


def date_text(date: datetime | None) -> str:
    """INTERNALDATE as text; "" for a date without a zone, or one that some zone does not have."""
    if date is None or date.tzinfo is None or not MINYEAR < date.year < MAXYEAR:
        return ""
    return date.isoformat()


def date_of(printed: str) -> datetime | None:
    """Undo `date_text`. Raises ValueError for any other text."""
    if not printed:
        return None
    date = datetime.fromisoformat(printed)
    if date.tzinfo is None or not MINYEAR < date.year < MAXYEAR:
        raise ValueError(f"{printed} has no zone, or is beyond what every zone has")
    return date


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _origin_fields(origin: Origin) -> list[Any]:
    fields = [str(origin.account), origin.account_name, text(origin.mailbox), origin.epoch]
    facts = [path_text(origin.path), origin.use, origin.subscribed]
    while facts and facts[-1] == FACTS[len(facts) - 1]:
        facts.pop()
    return fields + facts


# --- rows → columns --------------------------------------------------------------------------------


def _columns(names: Sequence[str], columns: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Columns by name, the constant ones as one value, the default ones left out."""
    found: dict[str, Any] = {}
    for name, column in zip(names, columns, strict=True):
        first = column[0]
        if column.count(first) < len(column):
            found[name] = column
        elif first != DEFAULTS.get(name):
            found[name] = first
    return found


def _message_columns(rows: list[StoredRow]) -> dict[str, Any]:
    sha256, header, octets, offset, length, crlf = zip(*rows, strict=True)
    return {"sha256": [octets.hex() for octets in sha256]} | _columns(
        ("header", "octets", "offset", "length", "form"),
        ([o.hex() for o in header], octets, offset, length, [CRLF if c else RAW for c in crlf]),
    )


def _place_columns(rows: list[PlaceRow]) -> dict[str, Any]:
    _, origin, uid, occurrence, *facts = zip(*rows, strict=True)
    names = ("origin", "uid", "occurrence", "flags", "date", "labels")
    return _columns(names, (origin, [text(u) for u in uid], occurrence, *facts))


def _ref_columns(rows: list[RefRow]) -> dict[str, Any]:
    origin, uid, occurrence = zip(*rows, strict=True)
    return {"uid": [text(u) for u in uid]} | _columns(("origin", "occurrence"), (origin, occurrence))
