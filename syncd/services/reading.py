"""One message of an archive, for people: its text, its HTML, its parts, where it came from and where it went.

Whatever a message is, memory is bounded: MAX_HTML octets of HTML, MAX_TEXT of text; parts are read in a stream.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID

from syncd.db.ledger.deliveries import DeliveryRow, Sought, deliveries_of
from syncd.errors import printable
from syncd.formats.view import ArchiveView, Entry, Read, start_of
from syncd.mail import headers
from syncd.mail.mime.fields import decoded
from syncd.mail.mime.structure import Part, Structure, structure
from syncd.mail.mime.text import base64_of, text_is_cut, text_of, undone
from syncd.services.wiring import owner

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import Loaded

MAX_HTML: Final = 512 << 10  # octets; newsletters have up to 200,000
MAX_IMAGE: Final = 1 << 20  # octets of a picture that is shown within the text
MAX_NAME: Final = 120  # characters of a file's name
MAX_LINE: Final = 64 << 10  # octets of a line of quoted-printable: 998 are allowed
_KEY: Final = re.compile(r"(?:[0-9a-f]{2}){1,1000}")
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069"\\/:*?<>|]+')
_ENDINGS: Final = {"message/rfc822": ".eml", "text/plain": ".txt", "image/png": ".png", "image/jpeg": ".jpg"}
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that is looked at."""

    key: str
    archive: UUID
    read: Read
    structure: Structure

    @property
    def entry(self) -> Entry:
        """Returns what a list shows of it."""
        return self.read.entry

    @property
    def attachments(self) -> list[Part]:
        """Returns the parts that people call attachments."""
        return [part for part in self.structure.parts if part.is_attachment]

    def as_json(self) -> dict[str, object]:
        """Returns the message as plain values, with its text and parts."""
        entry = self.entry
        return {
            "key": self.key,
            "id": entry.id,
            "octets": entry.octets,
            "at": entry.at,
            "sender": entry.sender,
            "subject": entry.subject,
            "header": header_lines(self),
            "text": text_of(self.structure),
            "text_is_cut": text_is_cut(self.structure),
            "has_html": html_part(self) is not None,
            "parts": [_part_json(part) for part in self.structure.parts],
            "is_cut": self.structure.cut,
            "places": [
                {**seen._asdict(), "mailbox": "/".join(seen.mailbox), "uid": printable(seen.uid)}
                for seen in entry.places
            ],
        }


def letter(view: ArchiveView, key: str) -> Letter | None:
    """Returns a message by the key of a search result; None where it is not here. Raises StorageError."""
    read = view.by_key(bytes.fromhex(key)) if _KEY.fullmatch(key) else None
    return None if read is None else Letter(key, view.uuid, read, structure(read.chunks()))


def deliveries(loaded: Loaded, database: Database, found: Letter) -> list[DeliveryRow]:
    """Returns where a message was delivered, as the ledger knows it. Raises StorageError, LedgerError."""
    read, digest = found.read, sha256()
    is_told = bool(read.refs) or any(place.hint for place in read.kept)
    if not is_told:
        for chunk in read.chunks():
            digest.update(chunk)
    sought = Sought(found.archive, read.refs, read.kept, b"" if is_told else digest.digest())
    return deliveries_of(database, owner(loaded).name, sought)


def header_lines(found: Letter) -> list[str]:
    """Returns the header of a message in lines, as they are."""
    start = headers.header(start_of(found.read.chunks()))
    return start.decode("utf-8", "replace").expandtabs().splitlines()


def html_part(found: Letter) -> Part | None:
    """Returns the part that has the HTML of a message; None where there is none."""
    parts = found.structure.parts
    return next((it for it in parts if it.what.kind == "text/html" and it.what.disposition != "attachment"), None)


def html(found: Letter, part: Part) -> tuple[str, bool]:
    """Returns HTML as the message has it, which is not safe to show, and whether it goes on after MAX_HTML octets."""
    octets = b""
    for piece in octets_of(found, part):
        octets += piece
        if len(octets) > MAX_HTML:
            break
    return decoded(octets[:MAX_HTML], part.what.parameters.get("charset", "")), len(octets) > MAX_HTML


def picture(found: Letter, content_id: str) -> tuple[str, bytes] | None:
    """Returns kind and octets of a picture that the HTML of a message shows by its id; None where there is none."""
    for part in found.structure.parts:
        if (
            part.what.content_id == content_id
            and part.what.kind in _PICTURES
            and part.end - part.start <= 2 * MAX_IMAGE
        ):
            octets = b"".join(octets_of(found, part))
            return (part.what.kind, octets) if len(octets) <= MAX_IMAGE else None
    return None


def octets_of(found: Letter, part: Part) -> Iterator[bytes]:
    """The octets of a part, its transfer encoding undone, in a stream. Raises StorageError."""
    pieces = _between(found.read.chunks(), part.start, part.end)
    match part.what.encoding:
        case "base64":
            return _base64(pieces)
        case "quoted-printable":
            return _quoted(pieces)
        case _:
            return pieces


def file_name(part: Part) -> str:
    """Returns a name under which a part may be saved: no path, no control characters, never hidden."""
    name = _UNSAFE.sub("_", re.split(r"[/\\]", part.what.name)[-1]).strip(" ._")[:MAX_NAME]
    return name or f"part-{part.number}{_ENDINGS.get(part.what.kind, '.bin')}"


def _part_json(part: Part) -> dict[str, object]:
    what = part.what
    return {
        "number": part.number,
        "parent": part.parent,
        "kind": what.kind,
        "name": what.name,
        "is_attachment": part.is_attachment,
        "encoding": what.encoding,
        "stored_octets": part.end - part.start,
    }


def _between(chunks: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    at = 0
    for chunk in chunks:
        piece = chunk[max(0, start - at) : max(0, end - at)]
        at += len(chunk)
        if piece:
            yield piece
        if at >= end:
            return


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Undo base64 (RFC 2045 §6.8) in groups of four; what is no base64 is passed over."""
    rest = b""
    for piece in pieces:
        rest += base64_of(piece)
        whole = len(rest) - len(rest) % 4
        yield binascii.a2b_base64(rest[:whole])
        rest = rest[whole:]
    yield undone(rest, "base64")


def _quoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Undo quoted-printable (RFC 2045 §6.7) by whole lines."""
    rest = b""
    for piece in pieces:
        rest += piece
        end = rest.rfind(b"\n") + 1
        if not end and len(rest) > MAX_LINE:
            end = len(rest)
        yield undone(rest[:end], "quoted-printable")
        rest = rest[end:]
    yield undone(rest, "quoted-printable")
