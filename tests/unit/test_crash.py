"""Exceptions that nobody expected: what surrounds the program is told apart from a bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from syncd import crash


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "too many open files: allow more (ulimit -n 4096)"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too many open files"),
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "too many threads: allow more (ulimit -u)"),
    ],
)
def test_what_surrounds_the_program(tmp_path: Path, error: Exception, says: str) -> None:
    assert crash.line(error).startswith(says)
    outer = KeyError("x")
    outer.__cause__ = error
    assert crash.line(outer).startswith(says)
    assert crash.keep(error, tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), FileNotFoundError(2, "x"), RuntimeError("x"), KeyError()])
def test_a_bug_stays_a_bug(error: Exception) -> None:
    assert crash.line(error).startswith("this is a bug in syncd: ")


def test_exceptions_in_a_circle() -> None:
    one, two = KeyError("1"), KeyError("2")
    one.__context__, two.__context__ = two, one
    assert crash.surroundings(one) == ""


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the working directory does not exist any more" in crash.line(FileNotFoundError(2, os.strerror(2)))


def test_a_locale_without_a_name_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range")
    assert crash.line(error).startswith("this is a bug")
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    assert crash.line(error) == "the locale (ascii) has no octets for this name: set LC_ALL=C.UTF-8"


def test_without_a_home_nothing_is_written_beside_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNCD_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_, **__: Path("~/.local/state/syncd"))
    assert crash.keep(KeyError("x")) == ", with what --verbose shows"
    assert list(tmp_path.iterdir()) == []
