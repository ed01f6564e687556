"""A look at an archive finds what its file system cannot do, before there is mail, and leaves everything as it was."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from uuid import UUID

import pytest

from syncd.cli.main import call
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive

ACCOUNT = '[accounts.road]\nprotocol = "pop3"\nhost = "pop.example.net"\nusername = "u"\npassword = "env:PW"\n'
JOB = '[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PW", "secret")
    configure()


def configure(path: str = "mail", form: str = "maildir", job: str = JOB) -> None:
    Path("syncd.toml").write_text(f'{ACCOUNT}[archives.home]\npath = "{path}"\nformat = "{form}"\n{job}')


def made(form: str) -> None:
    configure(form=form)
    (MaildirArchive if form == "maildir" else PacksArchive)(Path("mail")).create(UUID(int=7))


def unable(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("form", ["maildir", "packs"])
def test_nothing_stays(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    made(form)
    before = sorted(Path("mail").rglob("*"))
    assert call(["check", "home", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["archives"][0]["notes"] == []
    assert sorted(Path("mail").rglob("*")) == before


@pytest.mark.parametrize("exists", [True, False])
def test_hard_links_that_are_missing_are_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, exists: bool
) -> None:
    if exists:
        made("maildir")
    monkeypatch.setattr(os, "link", unable(errno.EPERM))
    assert call(["check", "home"]) == 0
    assert "home: its file system has no hard links" in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) == (["mail"] if exists else []) + ["syncd.toml"]


@pytest.mark.parametrize("exists", [True, False])
def test_locks_that_are_missing_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, exists: bool
) -> None:
    if exists:
        made("packs")
    monkeypatch.setattr(fcntl, "flock", unable(errno.ENOLCK))
    assert call(["check", "home"]) == 1
    assert "does not lock files: No locks available; put the archive on another one" in capsys.readouterr().err


def test_a_file_in_the_way_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_bytes(b"")
    configure("file/mail")
    assert call(["check", "home"]) == 1
    assert f"{Path('file').absolute()} is not a folder" in capsys.readouterr().err


def test_an_archive_that_no_job_fills_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on a medium that cannot be written to."""
    made("maildir")
    configure(job="")
    monkeypatch.setattr(fcntl, "flock", unable(errno.EROFS))
    assert call(["check", "home"]) == 0


@pytest.mark.parametrize(
    ("inside", "advice"),
    [
        (["a-old"], "did you mean {0}/a-old?"),
        (["a-old", "b-old"], "did you mean {0}/a-old or {0}/b-old?"),
        (["1", "2", "3", "4"], "did you mean {0}/1 or {0}/2 or {0}/3 or 1 more?"),
        ([], "correct the path"),
    ],
)
@pytest.mark.parametrize("name", ["home", "on"])
def test_a_folder_that_is_no_maildir_is_said_to_be_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, inside: list[str], advice: str, name: str
) -> None:
    configure(job='[archives.copy]\npath = "copy"\n[jobs.on]\nsource = "home"\ndestinations = ["copy"]\n')
    (tmp_path / "mail/other").mkdir(parents=True)
    for folder in inside:
        (tmp_path / "mail" / folder / "cur").mkdir(parents=True)
        (tmp_path / "mail" / folder / "new").mkdir()
    assert call(["check", name]) == 7
    error = capsys.readouterr().err
    mail = f"{tmp_path}/mail"
    assert f"{mail} is there and is no Maildir (it lacks new and cur): {advice.format(mail)}\n" in error
    assert "mount" not in error


def test_a_folder_with_nothing_in_it_may_lack_its_disk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    configure(job="")
    (tmp_path / "mail").mkdir()
    assert call(["check", "home"]) == 7
    assert "mount its disk" in capsys.readouterr().err
