"""`syncd help` and `syncd completion`, and what a shell is told to complete."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from syncd.cli import main as command
from syncd.cli.manual import SHELLS

CONFIGURATION = """\
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:PASSWORD"
[archives.home]
path = "home"
[jobs.road-backup]
source = "road"
destinations = ["home"]
"""


def test_help_of_a_verb_is_what_the_verb_says_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.call(["archive", "list", "--help"]) == 0
    itself = capsys.readouterr().out
    assert command.call(["help", "archive", "list"]) == 0
    assert capsys.readouterr().out == itself


def test_help_alone_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.call(["help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in command.VERBS)


def test_help_of_a_misspelt_verb_suggests_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.call(["help", "rum"]) == 2
    assert "did you mean run?" in capsys.readouterr().err


def test_the_manual_page_has_every_verb_and_groff_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.call(["help", "--man"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(".TH SYNCD 1")
    for verb in command.VERBS.keys() - {"archive", "config"}:
        assert f".SS syncd {verb}" in page
    assert ".SS syncd archive export" in page
    assert r"\-\-dry\-run" in page
    if groff := shutil.which("groff"):
        (tmp_path / "syncd.1").write_text(page)
        done = subprocess.run(
            [groff, "-k", "-man", "-Tutf8", "-ww", "syncd.1"], cwd=tmp_path, capture_output=True, check=True, text=True
        )
        assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_that_asks_syncd(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.call(["completion", shell]) == 0
    assert "_SYNCD_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("run ro", ["road-backup"]),
        ("errors ro", ["road-backup"]),
        ("check ro", ["road", "road-backup"]),
        ("archive list h", ["home"]),
        ("status x", []),
    ],
)
def test_a_shell_completes_names_of_the_configuration(
    words: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "syncd.toml").write_text(CONFIGURATION)
    assert completed(words, tmp_path, monkeypatch, capsys) == found


def test_a_configuration_that_cannot_be_read_completes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "syncd.toml").write_text("[jobs\n")
    assert completed("run ro", tmp_path, monkeypatch, capsys) == []


def completed(
    words: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.chdir(directory)
    monkeypatch.setenv("_SYNCD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"syncd {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with pytest.raises(SystemExit):
        command.app.main(prog_name="syncd")
    out, err = capsys.readouterr()
    assert err == ""
    return [line.partition(",")[2] for line in out.split()]
