"""Sender and subject of a message, read from whatever archive has it; for people to recognise it by."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd.errors import FormatDamaged, SyncdError
from syncd.mail import headers
from syncd.mail.message import Receipt
from syncd.services.archives import make_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from syncd.destinations.base import Archive
    from syncd.settings.schema import Archive as Settings

READ_OCTETS: Final = 1 << 20  # a larger message is not read only to be shown
FIELDS: Final = ("from", "subject", *headers.DATED)


class Preview(NamedTuple):
    """Sender, subject and date of a message; empty where the message does not say."""

    sender: str
    subject: str
    date: datetime | None


class Previews:
    """Reads from the archives of a configuration; one that cannot be read is not asked again."""

    def __init__(self, archives: Mapping[str, Settings]) -> None:
        self._settings = archives
        self._open: dict[str, Archive | None] = {}

    def of(self, sha256: bytes, octets: int, places: Iterable[tuple[str, str]]) -> Preview | None:
        """Returns the preview of a message; None where no archive gives the message.

        `places` are archives by name, with the hint of their receipt. Messages over READ_OCTETS are not read.
        """
        if octets <= READ_OCTETS:
            for name, hint in places:
                start = self._start(name, Receipt(sha256, hint))
                if start is not None:
                    found = headers.fields(start, FIELDS)
                    return Preview(found.get("from", ""), found.get("subject", ""), headers.sent_at(found))
        return None

    def close(self) -> None:
        """Let go of the archives."""
        for archive in self._open.values():
            if archive is not None:
                archive.close()
        self._open.clear()

    def _start(self, name: str, receipt: Receipt) -> bytes | None:
        archive = self._archive(name)
        if archive is None:
            return None
        try:
            body = archive.read(receipt).body
        except FormatDamaged:
            return None  # other messages may be readable; a check of the archive tells more
        except SyncdError:
            self._open[name] = None
            return None
        try:
            return b"".join(body.chunks())[: headers.HEADER_CAP_OCTETS]
        finally:
            body.close()

    def _archive(self, name: str) -> Archive | None:
        if name not in self._open:
            settings = self._settings.get(name)
            there = settings is not None and Path(settings.path).is_dir()
            self._open[name] = make_archive(name, settings) if settings is not None and there else None
        return self._open[name]
