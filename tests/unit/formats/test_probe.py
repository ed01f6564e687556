"""The abilities of a file system are found out before there is mail, and never blamed on permissions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from syncd.errors import DiskFull, Unusable
from syncd.formats.probe import Abilities, probe


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_stays(tmp_path: Path) -> None:
    assert probe(tmp_path, ":2,") == Abilities(links=True, dates=True, cases=True)
    assert probe(tmp_path).notes() == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_hard_links_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "link", failing(number))
    (note,) = probe(tmp_path).notes()
    assert note.startswith("its file system has no hard links")
    assert list(tmp_path.iterdir()) == []


def test_dates_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", failing(errno.EPERM))
    (note,) = probe(tmp_path).notes()
    assert note.startswith("its file system does not set dates of files")


def test_a_file_system_that_ignores_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: stat(path.lower() if isinstance(path, str) else path, **more))
    (note,) = probe(tmp_path).notes()
    assert "ignores case" in note


@pytest.mark.parametrize(
    ("name", "number", "lacks"),
    [
        ("fcntl.flock", errno.ENOLCK, "does not lock files: No locks available"),
        ("fcntl.flock", errno.EOPNOTSUPP, "does not lock files"),
        ("fcntl.lockf", errno.EINVAL, "does not lock files"),
        ("os.fsync", errno.EINVAL, "cannot make names durable (fsync of a folder): Invalid argument"),
        ("os.fsync", errno.EOPNOTSUPP, "cannot make names durable"),
    ],
)
def test_what_an_archive_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, lacks: str
) -> None:
    monkeypatch.setattr(name, failing(number))
    with pytest.raises(Unusable) as caught:
        probe(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"the file system of {tmp_path} {lacks}")
    assert line.endswith("; put the archive on another one")
    assert "permission" not in line.lower()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT knows no colon."""
    real = os.open

    def no_colon(path: str, *args: int, **more: int) -> int:
        if ":" in str(path):
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", no_colon)
    with pytest.raises(Unusable, match="does not take names such as ':2,'"):
        probe(tmp_path, ":2,")
    assert probe(tmp_path, ";2,").notes() == ()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EROFS, Unusable), (errno.EACCES, Unusable)]
)
def test_other_errors_keep_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    real = os.open

    def fail(path: Path | str, flags: int, *_: object, **__: object) -> int:
        if path == tmp_path:
            return real(path, flags)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(kind, match=f"cannot make files in {tmp_path}: {os.strerror(number)}"):
        probe(tmp_path)
