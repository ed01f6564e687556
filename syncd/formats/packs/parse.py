"""The metadata of a pack's frame, read: JSON → rows. Nothing in it is believed before it was checked.

A checksum says that a frame is what somebody wrote, not that it makes sense. So each value is checked for its type and
its range: what passes here fits the index and every function behind it. The work is bounded by octets and by objects,
because 4 KiB of a compressed frame can say a million things. The tables are read by column, in few steps each.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from operator import add
from typing import Any, Final
from uuid import UUID

from syncd.formats.packs.meta import (
    CRLF,
    DEFAULTS,
    FACTS,
    MAX_FLAGS_CHARACTERS,
    RAW,
    Meta,
    PlaceRow,
    RefRow,
    StoredRow,
    date_of,
    octets_of,
    path_of,
)
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Origin, Uid

MAX_META_OCTETS: Final = 16 << 20  # of JSON; a frame of ours has 100 KiB, and 1 MiB where ids are very long
MAX_DATA_OCTETS: Final = (
    32 << 20
)  # of mail; a message of 8 MiB made of `From ` lines grows by a fifth, the rest is margin
MAX_OBJECTS: Final = 1 << 18  # values in a document; a frame of ours has at most 16,384 rows of 12 columns
MAX_PARTS: Final = 1 << 16  # of a large message: 256 GiB
MAX_INTEGER: Final = (1 << 63) - 1  # what SQLite stores
MAX_OCCURRENCE: Final = (1 << 31) - 1  # what the ledger stores
_END_OF_TIME: Final = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())  # the last year is over elsewhere
_DIGEST_OCTETS, _HEADER_OCTETS = 32, 8


def parse(octets: bytes) -> Meta:
    """Undo `Meta.dump`. Raises ValueError where it is not such a document, or says more than a frame may."""
    _check_objects(octets)
    try:
        return _meta(json.loads(octets.decode("utf-8")))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _check_objects(octets: bytes) -> None:
    """Raise ValueError where there are more values than MAX_OBJECTS, before any of them is made.

    Each value but the first comes behind a comma or an opening bracket. Commas in texts count only where there are
    so many that it matters.
    """
    if len(octets) > MAX_META_OCTETS:
        raise ValueError(f"more than {MAX_META_OCTETS:,} octets")
    if _values(octets) <= MAX_OBJECTS:
        return
    plain = octets.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 4 * MAX_OBJECTS or _values(b"".join(plain.split(b'"')[::2])) > MAX_OBJECTS:
        raise ValueError(f"more than {MAX_OBJECTS:,} values")


def _values(octets: bytes) -> int:
    return octets.count(b",") + octets.count(b"[") + octets.count(b"{")


def _meta(document: Any) -> Meta:
    if not isinstance(document, dict):
        raise TypeError("no object")
    meta = Meta(_instant(document["at"]))
    if "archive" in document:
        meta.archive = UUID(_text(document["archive"]))
    if "part" in document:
        meta.part = _part(*_list(document["part"]))
    meta.origins = [_origin(*_list(fields)) for fields in _list(document.get("origins", []))]
    tables = _Tables(document, len(meta.origins))
    meta.firsts, meta.messages = tables.messages(is_part=meta.part is not None)
    meta.places = tables.places("places")
    meta.removed = tables.refs("removed")
    meta.flags = tables.flags()
    return meta


def _instant(value: Any) -> int:
    """Returns seconds since 1970. A text without a zone is UTC."""
    when = datetime.fromisoformat(_text(value))
    seconds = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    return _number(seconds, _END_OF_TIME - 1)


def _part(number: Any, total: Any) -> tuple[int, int]:
    if _number(number, MAX_PARTS, 1) > _number(total, MAX_PARTS, 1):
        raise ValueError(f"part {number} of {total}")
    return number, total


def _origin(account: Any, name: Any, mailbox: Any, epoch: Any, *facts: Any) -> Origin:
    path, use, subscribed = facts + FACTS[len(facts) :]
    if type(subscribed) is not bool:
        raise TypeError("subscribed is neither true nor false")
    return Origin(
        UUID(_text(account)),
        _text(name),
        octets_of(_text(mailbox)),
        Epoch(_number(epoch, MAX_INTEGER)),
        path_of(map(_text, _list(path))),
        _text(use),
        subscribed,
    )


class _Tables:
    """The tables of a document. Each column is a list as long as the table, checked."""

    def __init__(self, document: dict[str, Any], origins: int) -> None:
        self._document = document
        self._origins = origins

    def messages(self, *, is_part: bool) -> tuple[list[PlaceRow], list[StoredRow]]:
        """Returns the first places and the messages. Octets of a part are those of the whole message."""
        firsts = self.places("messages")
        table, rows = self._table("messages"), len(firsts)
        header = _hexadecimal(_texts(table, "header", rows), _HEADER_OCTETS)
        octets = _integers(table, "octets", rows, MAX_INTEGER)
        offset, length = (_integers(table, name, rows, MAX_DATA_OCTETS) for name in ("offset", "length"))
        forms = _texts(table, "form", rows)
        if not {CRLF, RAW}.issuperset(forms):
            raise ValueError("column form has another form")
        if max(map(add, offset, length), default=0) > MAX_DATA_OCTETS:
            raise ValueError("a message ends behind its data frame")
        crlf = [form == CRLF for form in forms]
        if not is_part and not all(map(_fits, octets, length, crlf)):
            raise ValueError("a message has more octets than are stored of it")
        digests = [place.sha256 for place in firsts]
        return firsts, list(map(StoredRow._make, zip(digests, header, octets, offset, length, crlf, strict=True)))

    def places(self, name: str) -> list[PlaceRow]:
        """Returns the rows of a table of places."""
        table = self._table(name)
        if not table:
            return []
        digests = _hexadecimal(_list(table["sha256"]), _DIGEST_OCTETS)
        rows = len(digests)
        refs, dates = self._refs(table, rows), _texts(table, "date", rows)
        for date in set(dates):
            date_of(date)
        columns = zip(digests, refs, _flags(table, rows), dates, _flags(table, rows, "labels"), strict=True)
        return [PlaceRow(digest, *ref, *facts) for digest, ref, *facts in columns]

    def refs(self, name: str) -> list[RefRow]:
        """Returns the rows of a table of facts."""
        table = self._table(name)
        return self._refs(table, len(_list(table["uid"]))) if table else []

    def flags(self) -> list[tuple[RefRow, str]]:
        """Returns which flags which places have."""
        refs = self.refs("flags")
        return list(zip(refs, _flags(self._table("flags"), len(refs)), strict=True))

    def _table(self, name: str) -> dict[str, Any]:
        table = self._document.get(name) or {}
        if not isinstance(table, dict):
            raise TypeError(f"{name} is no object")
        return table

    def _refs(self, table: dict[str, Any], rows: int) -> list[RefRow]:
        origin = _integers(table, "origin", rows, self._origins - 1)
        uid = _octets(_texts(table, "uid", rows), same=type(table["uid"]) is str)
        occurrence = _integers(table, "occurrence", rows, MAX_OCCURRENCE, 1)
        return list(map(RefRow._make, zip(origin, map(Uid, uid), occurrence, strict=True)))


def _fits(octets: int, length: int, crlf: bool) -> bool:  # noqa: FBT001  for `map`
    """Tells whether a stored message can have that many octets: in form `crlf` each may stand for two."""
    return octets <= length << crlf


# --- one value, one column ---------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise TypeError(f"a list is expected, not {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    """Returns a text that can be stored: a surrogate alone cannot. Raises UnicodeEncodeError, which is a ValueError."""
    if type(value) is not str:
        raise TypeError(f"a text is expected, not {type(value).__name__}")
    if not value.isascii():
        value.encode("utf-8")
    return value


def _number(value: Any, most: int, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"a number from {least} to {most} is expected")
    return value


def _column(table: dict[str, Any], name: str, rows: int) -> list[Any]:
    """Returns a column; a value that stands for all rows must not become more than a frame may say."""
    value = table.get(name, DEFAULTS.get(name))
    if type(value) is not list:
        if type(value) is str and len(value) * rows > MAX_META_OCTETS:
            raise ValueError(f"column {name} is more than {MAX_META_OCTETS:,} octets")
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"column {name} has {len(value)} values for {rows} rows")
    return value


def _integers(table: dict[str, Any], name: str, rows: int, most: int, least: int = 0) -> list[int]:
    column = _column(table, name, rows)
    sound = {int}.issuperset(map(type, column)) and min(column, default=least) >= least
    if not sound or (column and max(column) > most):
        raise ValueError(f"column {name} is not {rows} numbers from {least} to {most}")
    return column


def _texts(table: dict[str, Any], name: str, rows: int) -> list[str]:
    column = _column(table, name, rows)
    if not {str}.issuperset(map(type, column)):
        raise ValueError(f"column {name} is not {rows} texts")
    _text("".join(column))
    return column


def _flags(table: dict[str, Any], rows: int, name: str = "flags") -> list[str]:
    column = _texts(table, name, rows)
    if max(map(len, column), default=0) > MAX_FLAGS_CHARACTERS:
        raise ValueError(f"a message has {name} of more than {MAX_FLAGS_CHARACTERS:,} characters")
    return column


def _octets(column: list[str], *, same: bool) -> list[bytes]:
    """Returns the octets of texts. Where all are the `same`, they share one value: it may be long."""
    return [octets_of(column[0])] * len(column) if same and column else list(map(octets_of, column))


def _hexadecimal(column: list[Any], octets: int) -> list[bytes]:
    """Returns octets that are written in hexadecimal. `fromhex` passes over spaces, hence the second look."""
    if not {str}.issuperset(map(type, column)):
        raise ValueError("a digest is no text")
    found = list(map(bytes.fromhex, column))
    if not {octets}.issuperset(map(len, found)):
        raise ValueError(f"a digest has not {octets} octets")
    return found
