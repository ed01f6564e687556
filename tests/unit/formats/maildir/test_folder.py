from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import durable
from syncd.durable import Moment, Step, write_all
from syncd.formats.maildir.folder import Folder, make_folder, read_chunks
from syncd.formats.regular import NotRegular


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_folder(tmp_path / "mail")
    return tmp_path / "mail"


@pytest.fixture
def folder(path: Path) -> Iterator[Folder]:
    with Folder(path) as opened:
        yield opened


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Step, Moment]]:
    seen: list[tuple[Step, Moment]] = []
    monkeypatch.setattr(durable, "observer", lambda step, moment: seen.append((step, moment)))
    return seen


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_a_message_is_synced_before_it_has_its_name_and_its_name_is_synced_after(
    folder: Folder, path: Path, steps: list[tuple[Step, Moment]]
):
    folder.write("syncd.1", "new/one", [b"a", b"b"], 86_400)
    folder.sync("new")
    assert [step for step, moment in steps if moment == "before"] == [
        Step.MAILDIR_SYNC,
        Step.MAILDIR_LINK,
        Step.MAILDIR_UNLINK,
        Step.DIRECTORY_SYNC,
    ]
    assert files(path) == ["new/one"]
    assert (path / "new/one").read_bytes() == b"ab"
    assert (path / "new/one").stat().st_mtime == 86_400
    assert (path / "new/one").stat().st_mode & 0o777 == 0o600


def test_a_taken_name_is_not_overwritten(folder: Folder, path: Path):
    (path / "cur/one").write_bytes(b"before")
    with pytest.raises(FileExistsError):
        folder.write("syncd.1", "cur/one", [b"after"])
    assert files(path) == ["cur/one"]
    assert (path / "cur/one").read_bytes() == b"before"


def test_a_failed_fsync_leaves_nothing(folder: Folder, path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        folder.write("syncd.1", "new/one", [b"x"])
    assert files(path) == []


def test_a_body_that_cannot_be_read_leaves_nothing(folder: Folder, path: Path):
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        folder.write("syncd.1", "new/one", broken())
    assert files(path) == []


def test_only_our_own_leftovers_are_swept(folder: Folder, path: Path):
    for name in ("syncd.1.abc", "1700000000.M1P2.host"):
        (path / "tmp" / name).touch()
    folder.sweep()
    assert files(path) == ["tmp/1700000000.M1P2.host"]


def test_a_directory_that_is_a_link_elsewhere_is_refused(path: Path, tmp_path: Path):
    (path / "new").rmdir()
    (path / "new").symlink_to(tmp_path)
    with pytest.raises(OSError, match="is not a folder, or is a link to one"):
        Folder(path)


def test_a_link_in_place_of_a_message_is_not_followed(folder: Folder, path: Path, tmp_path: Path):
    (tmp_path / "elsewhere").touch()
    (path / "cur/one").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        folder.open("cur/one")


@pytest.mark.parametrize("stranger", [os.mkfifo, Path.mkdir])
def test_a_stranger_in_place_of_a_message_is_not_waited_for(
    folder: Folder, path: Path, stranger: Callable[[Path], object]
):
    stranger(path / "cur/one")
    with pytest.raises(NotRegular, match="it is not a regular file"):
        folder.open("cur/one")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS])
def test_without_hard_links_a_message_is_renamed_and_nothing_is_overwritten(
    folder: Folder, path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[Step, Moment]], number: int
):
    """No message was stored on exFAT, FAT and some network shares, and permissions were blamed."""
    tried = []

    def link(*_: object, **__: object) -> None:
        tried.append(number)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    folder.write("syncd.1", "new/one", [b"a", b"b"])
    folder.write("syncd.2", "new/two", [b"c"])
    assert [step for step, moment in steps if moment == "before"] == [Step.MAILDIR_SYNC, Step.MAILDIR_LINK] * 2
    with pytest.raises(FileExistsError):
        folder.write("syncd.3", "new/one", [b"other"])
    assert files(path) == ["new/one", "new/two"]
    assert (path / "new/one").read_bytes() == b"ab"
    assert tried == [number]


def test_a_file_system_without_dates_takes_messages(folder: Folder, path: Path, monkeypatch: pytest.MonkeyPatch):
    def utime(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", utime)
    folder.write("syncd.1", "new/one", [b"a"], 86_400)
    assert files(path) == ["new/one"]


def test_other_errors_of_a_link_are_errors(folder: Folder, path: Path, monkeypatch: pytest.MonkeyPatch):
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="Input/output"):
        folder.write("syncd.1", "new/one", [b"a"])
    assert files(path) == []


def test_the_root_alone_may_be_a_link(path: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(path)
    with Folder(tmp_path / "link") as folder:
        folder.write("syncd.1", "new/one", [b"a"])
    with pytest.raises(NotADirectoryError):
        Folder(tmp_path, "link")
    (path / "Sub").symlink_to(path)
    with pytest.raises(NotADirectoryError):
        Folder(path, "Sub/Sub")


def test_a_marker_that_is_a_fifo_is_not_opened(tmp_path: Path):
    make_folder(tmp_path / ".Sent")
    os.mkfifo(tmp_path / ".Sent/maildirfolder")
    make_folder(tmp_path, ".Sent")


@pytest.mark.parametrize("stranger", [Path.touch, lambda path: path.symlink_to("/tmp")])
def test_a_stranger_in_place_of_a_directory_is_named(tmp_path: Path, stranger: Callable[[Path], object]):
    stranger(tmp_path / "new")
    with pytest.raises(NotADirectoryError, match=f"{tmp_path}/new is not a folder, or is a link to one"):
        make_folder(tmp_path)


def test_folders_in_tmp_are_left_where_they_are(folder: Folder, path: Path):
    (path / "tmp/syncd.folder").mkdir()
    folder.sweep()
    assert (path / "tmp/syncd.folder").is_dir()


def test_descriptors_are_given_back(path: Path):
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with Folder(path) as folder:
        folder.write("syncd.1", "new/one", [b"x"])
    (path / "cur").rmdir()
    with pytest.raises(FileNotFoundError):
        Folder(path)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_a_file_that_a_reader_moves_while_we_look_is_found(folder: Folder, path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first pass finds `cur` without it: it is renamed from a name not yet read to one already passed."""
    (path / "new/one").touch()
    (path / "cur/other").touch()
    passes = [["other"], ["other", "one:2,S"]]

    def leaves(self: Folder, directory: str) -> Iterator[str]:
        if directory == "new":
            return iter(())
        if len(passes) == 2:
            (path / "new/one").rename(path / "cur/one:2,S")
        return iter(passes.pop(0))

    monkeypatch.setattr(Folder, "_leaves", leaves)
    os.utime(path / "new", (1, 1))
    os.utime(path / "cur", (1, 1))
    os.utime(path / "cur/other", (1, 1))
    monkeypatch.setattr("syncd.formats.maildir.folder._SHOWN_NS", -1)
    assert "cur/one:2,S" in set(folder.names())


def test_a_still_folder_is_read_once(folder: Folder, path: Path):
    for number in range(3):
        (path / f"cur/{number}").touch()
    os.utime(path / "new", (1, 1))
    os.utime(path / "cur", (1, 1))
    assert sorted(folder.names()) == ["cur/0", "cur/1", "cur/2"]


def test_a_folder_that_never_rests_does_not_hold_us(folder: Folder, path: Path):
    (path / "cur/one").touch()
    os.utime(path / "cur", (1 << 34, 1 << 34))  # changed in the future: never settled
    assert list(folder.names()) == ["cur/one"] * 5


def test_partial_writes_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        write_all(descriptor, [b"0123456789", b"", b"ab"])
        assert b"".join(read_chunks(descriptor)) == b"0123456789ab"
    finally:
        os.close(descriptor)


def test_a_nested_folder_has_directories_above_that_are_no_folders(tmp_path: Path):
    make_folder(tmp_path)
    make_folder(tmp_path, "Work/2026/März")
    assert sorted(path.name for path in (tmp_path / "Work").iterdir()) == ["2026"]
    assert sorted(path.name for path in (tmp_path / "Work/2026/März").iterdir()) == ["cur", "new", "tmp"]
    with Folder(tmp_path, "Work/2026/März") as folder:
        folder.write("syncd.1", "new/one", [b"a"])
    assert files(tmp_path / "Work") == ["2026/März/new/one"]


def test_a_folder_below_the_root_says_so(tmp_path: Path):
    make_folder(tmp_path)
    for _ in range(2):
        make_folder(tmp_path, ".Sent")
    assert files(tmp_path) == [".Sent/maildirfolder"]
    assert (tmp_path / ".Sent/new").stat().st_mode & 0o777 == 0o700
