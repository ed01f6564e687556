from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from syncd import durable
from syncd.durable import Moment, Step
from syncd.errors import ArchiveMissing, FormatDamaged, Locked, Unusable
from syncd.formats.identity import Identity, read_identity, write_identity

KNOWN = Identity(UUID(int=5), "maildir", 1, {"separator": ":"})


def test_what_was_written_is_read(tmp_path: Path):
    path = tmp_path / "identity.json"
    write_identity(path, KNOWN)
    assert read_identity(path, format_name="maildir", version=1) == KNOWN
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both wrote the file under the same passing name, and each took its own UUID for the archive's."""
    path, late = tmp_path / "identity.json", Identity(UUID(int=6), "maildir", 1)
    refused: list[str] = []

    def interfere(step: Step, moment: Moment) -> None:
        monkeypatch.setattr(durable, "observer", None)
        with pytest.raises(Locked, match="another program has just begun an archive") as caught:
            write_identity(path, late)
        refused.append(str(caught.value))
        monkeypatch.setattr(durable, "observer", again if moment == "before" else None)

    again = interfere
    monkeypatch.setattr(durable, "observer", interfere)
    write_identity(path, KNOWN)
    with pytest.raises(Locked):
        write_identity(path, late)
    assert len(refused) == 2
    assert read_identity(path, format_name="maildir", version=1) == KNOWN
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_crash_left_is_written_over(tmp_path: Path):
    path = tmp_path / "identity.json"
    path.with_name("identity.json.tmp").write_bytes(b"x" * 1000)
    write_identity(path, KNOWN)
    assert read_identity(path, format_name="maildir", version=1) == KNOWN


def test_a_disk_that_takes_an_octet_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, octets: write(fd, octets[:1]))
    write_identity(tmp_path / "identity.json", KNOWN)
    assert read_identity(tmp_path / "identity.json", format_name="maildir", version=1) == KNOWN


@pytest.mark.parametrize("name", ["identity.json", "not/there/identity.json"])
def test_none_is_a_missing_archive(tmp_path: Path, name: str):
    with pytest.raises(ArchiveMissing, match="`syncd run JOB --refill` begins a new one"):
        read_identity(tmp_path / name, format_name="maildir", version=1)


@pytest.mark.parametrize(
    "octets", [b"", b"[]", b"{}", b'{"uuid": 5}', b"\xff", b"3", b"[" * 60_000, json.dumps("x").encode()]
)
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


@pytest.mark.parametrize("stranger", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_a_stranger_in_its_place_is_an_error_line(tmp_path: Path, stranger: Callable[[Path], object]):
    """A FIFO was waited for, without end; a link was followed."""
    path = tmp_path / "identity.json"
    stranger(path)
    with pytest.raises(Unusable, match=f"cannot read {path}: it is "):
        read_identity(path, format_name="maildir", version=1)
    stranger(path.with_name("identity.json.tmp"))
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(OSError, match="it is "):
        write_identity(path, KNOWN)
