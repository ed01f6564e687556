"""A name that is taken is never overwritten, whatever the kernel and the file system can do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.formats import exclusive
from syncd.formats.exclusive import rename_exclusively


def unable(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture(params=["the system call", "a file system that cannot", "no system call"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    way = {"a file system that cannot": unable, "no system call": None}
    if request.param in way:
        monkeypatch.setattr(exclusive, "_system_call", lambda: way[request.param])
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_free_name_is_given(tmp_path: Path, directory: int) -> None:
    (tmp_path / "tmp").write_bytes(b"new")
    rename_exclusively("tmp", "nämé", src_dir_fd=directory, dst_dir_fd=directory)
    assert [file.name for file in tmp_path.iterdir()] == ["nämé"]
    assert (tmp_path / "nämé").read_bytes() == b"new"


@pytest.mark.parametrize("is_link", [False, True])
def test_a_taken_name_stays(tmp_path: Path, directory: int, *, is_link: bool) -> None:
    (tmp_path / "tmp").write_bytes(b"new")
    if is_link:
        (tmp_path / "name").symlink_to("nowhere")
    else:
        (tmp_path / "name").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        rename_exclusively("tmp", "name", src_dir_fd=directory, dst_dir_fd=directory)
    assert (tmp_path / "tmp").read_bytes() == b"new"
    assert is_link or (tmp_path / "name").read_bytes() == b"old"


def test_what_is_missing_is_missing(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        rename_exclusively("tmp", "name", src_dir_fd=directory, dst_dir_fd=directory)
