from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from syncd.errors import ArchiveMissing, FormatDamaged, StorageError
from syncd.formats.identity import Identity, read_identity, write_identity

KNOWN = Identity(UUID(int=5), "maildir", 1, {"separator": ":"})


def test_what_was_written_is_read(tmp_path: Path):
    path = tmp_path / "identity.json"
    write_identity(path, KNOWN)
    assert read_identity(path, format_name="maildir", version=1) == KNOWN
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["identity.json", "not/there/identity.json"])
def test_none_is_a_missing_archive(tmp_path: Path, name: str):
    with pytest.raises(ArchiveMissing, match="`syncd run JOB --refill` begins a new one"):
        read_identity(tmp_path / name, format_name="maildir", version=1)


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b'{"uuid": 5}', b"\xff", b"3", json.dumps("x").encode()])
def test_nonsense_is_damage(tmp_path: Path, octets: bytes):
    path = tmp_path / "identity.json"
    path.write_bytes(octets)
    with pytest.raises(FormatDamaged, match="not the description of an archive"):
        read_identity(path, format_name="maildir", version=1)


@pytest.mark.parametrize("other", [Identity(KNOWN.uuid, "packs", 1), Identity(KNOWN.uuid, "maildir", 2)])
def test_another_format_or_a_later_version_is_refused(tmp_path: Path, other: Identity):
    path = tmp_path / "identity.json"
    write_identity(path, other)
    with pytest.raises(FormatDamaged, match="this program reads maildir up to version 1"):
        read_identity(path, format_name="maildir", version=1)


def test_a_folder_in_its_place_is_an_error_line(tmp_path: Path):
    (tmp_path / "identity.json").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        read_identity(tmp_path / "identity.json", format_name="maildir", version=1)
