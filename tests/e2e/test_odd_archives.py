"""Jobs over file systems that lack something, and archives with something odd in them. Against a scripted server."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail
from tests.support.packs import append_frame, lose_index, problems


class Bench:
    """Job `backup` reads an account into `home`, job `second` reads `home` into `other`."""

    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.home, self.other = directory / "home", directory / "other"
        self.server = server
        self._config = directory / "syncd.toml"

    def run(self, job: str, *, form: str = "packs", path: str = "home") -> RunReport:
        self._config.write_text(
            f'state_directory = "state"\n[archives.home]\npath = "{path}"\nformat = "{form}"\n'
            '[archives.other]\npath = "other"\nformat = "maildir"\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            '[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
            '[jobs.second]\nsource = "home"\ndestinations = ["other"]\n'
        )
        loaded = load(self._config, environment={"PASSWORD": PASSWORD})
        (report,) = RunsByHand(loaded, [job], RunOptions(), lambda _: None).execute()
        return report

    def retrieved(self) -> list[str]:
        return [line for line in self.server.commands if line.startswith("RETR")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(list(mail.small(4, seed=1))) as server:
        yield Bench(tmp_path, server)


def test_a_maildir_without_hard_links_is_filled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert bench.run("backup", form="maildir").exit_code is ExitCode.DONE
    assert len(list((bench.home / "new").iterdir())) == 4


@pytest.mark.parametrize("form", ["maildir", "packs"])
def test_a_file_system_without_locks_is_told_before_mail_is_fetched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    report = bench.run("backup", form=form)
    assert report.exit_code is ExitCode.FAILED
    assert bench.retrieved() == []


@pytest.mark.parametrize("form", ["maildir", "packs", "mbox"])
def test_an_archive_where_no_folder_can_be_made_is_not_waited_for(bench: Bench, form: str) -> None:
    """It was said to be a matter of time, without advice."""
    report = bench.run("backup", form=form, path="/proc/none/mail")
    assert report.exit_code is ExitCode.FAILED
    (line,) = report.errors
    assert line.startswith("cannot make ")
    assert line.endswith(": No such file or directory; no folder can be made there: choose another path")
    assert bench.retrieved() == []


def test_what_is_odd_in_an_archive_keeps_no_job_from_the_rest(bench: Bench) -> None:
    assert bench.run("backup").exit_code is ExitCode.DONE
    odd = {"at": "9999-12-31T23:59:59-23:59", "origins": [["x", "\ud800", "INBOX", 1 << 65]]}
    append_frame(bench.home, json.dumps(odd).encode())
    append_frame(bench.home, b'{"at": "2026-11-23T09:28:21Z"}')
    lose_index(bench.home)
    assert bench.run("second").exit_code is ExitCode.WAITING, "nobody knows what was in the odd frame"
    assert len(list(bench.other.glob("new/*")) + list(bench.other.glob(".*/new/*"))) == 4
    bench.server.messages.append(b"Subject: more\r\n\r\n")
    bench.server.uids.append(b"uid-more")
    assert bench.run("backup").exit_code is ExitCode.DONE
    assert len(problems(bench.home)) == 1
