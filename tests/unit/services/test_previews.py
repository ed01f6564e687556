"""Sender and subject of a message, read from whatever archive has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.services.previews import READ_OCTETS, Preview, Previews
from syncd.settings.schema import Archive, ArchiveFormat
from tests.contract.destination_kit import delivered, message
from tests.support.packs import spoil_mail

MAIL = (
    b"Date: Sun, 1 Mar 2026 12:00:00 +0100\r\nFrom: Lena <l@example.net>\r\n"
    b"Subject: =?utf-8?Q?Fr=C3=BChling?=\r\n\r\nx\r\n"
)
SEEN = Preview("Lena <l@example.net>", "Frühling", datetime(2026, 3, 1, 11, tzinfo=UTC))


@pytest.fixture
def hints(tmp_path: Path) -> dict[str, str]:
    """By archive, the hint of the receipt for MAIL."""
    found = {}
    for name, archive in (
        ("packs", PacksArchive(tmp_path / "packs")),
        ("maildir", MaildirArchive(tmp_path / "maildir")),
    ):
        archive.create(uuid4())
        archive.open()
        [receipt] = delivered(archive, [message(1, MAIL)]).values()
        found[name] = receipt.hint
        archive.close()
    return found


@pytest.fixture
def previews(tmp_path: Path) -> Iterator[Previews]:
    settings = {
        "packs": Archive(path=tmp_path / "packs"),
        "maildir": Archive(path=tmp_path / "maildir", format=ArchiveFormat.MAILDIR),
        "gone": Archive(path=tmp_path / "gone"),
    }
    with closing(Previews(settings)) as previews:
        yield previews


@pytest.mark.parametrize("name", ["packs", "maildir"])
def test_read_from_an_archive(previews: Previews, hints: dict[str, str], name: str) -> None:
    assert previews.of(message(1, MAIL).body.sha256, len(MAIL), [(name, hints[name])]) == SEEN


def test_the_next_archive_is_asked_where_one_does_not_give_it(
    previews: Previews, hints: dict[str, str], tmp_path: Path
) -> None:
    spoil_mail(tmp_path / "packs")
    places = [("gone", ""), ("nobody", ""), ("packs", ""), ("maildir", hints["maildir"])]
    assert previews.of(message(1, MAIL).body.sha256, len(MAIL), places) == SEEN
    assert previews.of(message(1, MAIL).body.sha256, len(MAIL), places[:3]) is None


def test_a_large_message_is_not_read_only_to_be_shown(previews: Previews, hints: dict[str, str]) -> None:
    places = list(hints.items())
    assert previews.of(message(1, MAIL).body.sha256, READ_OCTETS + 1, places) is None
