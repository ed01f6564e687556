"""Only regular files are opened, and opening never waits."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.errors import Unusable, storage_error
from syncd.formats.regular import NotRegular, odd, open_regular

STRANGERS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "link": lambda path: path.symlink_to("/etc/hostname"),
    "link to nowhere": lambda path: path.symlink_to("nowhere"),
    "folder": Path.mkdir,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
}
FLAGS = [os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: Callable[[Path], object], flags: int
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("file")
    stranger(path)
    with pytest.raises(NotRegular) as caught:
        open_regular(path, flags)
    why = "it is a symbolic link" if path.is_symlink() else "it is not a regular file"
    assert caught.value.strerror == why
    assert odd(path) == why
    assert isinstance(storage_error(caught.value, "cannot read file"), Unusable)


def test_a_regular_file_is_opened(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    descriptor = open_regular("file", os.O_RDWR | os.O_CREAT, dir_fd=directory)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    os.close(directory)
    assert odd(tmp_path / "file") == ""


def test_a_file_that_is_missing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "file", os.O_RDONLY)
    assert odd(tmp_path / "file") == ""
    assert odd(tmp_path / "no/file") == ""
