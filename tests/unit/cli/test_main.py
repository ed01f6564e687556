from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import click
import pytest

from syncd.cli import exit as way_out
from syncd.cli.main import VERBS, app, call
from syncd.cli.options import Common
from syncd.crash import CRASH_FILE
from syncd.db.database import Database
from syncd.destinations.packs import PacksArchive
from syncd.engine.exit_codes import ExitCode
from syncd.errors import (
    AccountChanged,
    ArchiveMissing,
    AuthRefused,
    BrakeTripped,
    Cancelled,
    ConfigError,
    ConfirmationNeeded,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    DiskFull,
    FormatDamaged,
    LeaseHeld,
    LeaseLost,
    LedgerError,
    LocalProtocolError,
    Locked,
    MailboxRefused,
    RemoteProtocolError,
    RemovalsFrozen,
    SecretUnavailable,
    StorageError,
    SyncdError,
    TimedOut,
    TlsFailed,
)
from syncd.settings.load import load
from tests.contract.destination_kit import delivered, message

EXIT_CODES: list[tuple[SyncdError, int]] = [
    (ConfigError("x"), 6),
    (SecretUnavailable("x"), 6),
    (AuthRefused("x"), 4),
    (MailboxRefused("x"), 5),
    (ConnectFailed("x"), 5),
    (TlsFailed("x"), 1),
    (TimedOut("x"), 5),
    (ConnectionLost("x"), 5),
    (RemoteProtocolError("x"), 5),
    (LocalProtocolError("x"), 1),
    (StorageError("x"), 5),
    (DiskFull("x"), 5),
    (FormatDamaged("x"), 1),
    (Locked("x"), 5),
    (LedgerError("x"), 5),
    (Conflict("x"), 5),
    (LeaseLost("x"), 10),
    (LeaseHeld("x"), 10),
    (AccountChanged("x"), 7),
    (ArchiveMissing("x"), 7),
    (RemovalsFrozen("x"), 7),
    (BrakeTripped("x"), 7),
    (ConfirmationNeeded("x"), 7),
    (Cancelled("x"), 130),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration of the machine's, and its state directory is left alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SYNCD_CONFIG", raising=False)


@pytest.mark.parametrize(("error", "code"), EXIT_CODES, ids=lambda value: type(value).__name__)
def test_every_error_has_its_exit_code_and_one_line(
    error: SyncdError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert way_out.report(error, Common()) == code
    assert capsys.readouterr() == ("", "syncd: x\n")


def test_every_mistake_of_a_configuration_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("syncd.toml").write_text('colour = "red"\n[accounts.road]\nprotocol = "pop4"\n')
    assert call(["status"]) == ExitCode.CONFIG_INVALID
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 2
    assert all(line.startswith("syncd: syncd.toml: ") for line in lines)


def test_errors_are_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["status", "--json"]) == 6
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["exit_code"] == 6
    assert [f"syncd: {line}" for line in document["errors"]] == shown.err.splitlines()


def test_what_an_error_quotes_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    way_out.report(SyncdError("the server said \x1b[2J\u202e"), Common())
    assert capsys.readouterr().err == "syncd: the server said \\x1b[2J\\u202e\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnu"], "syncd: no command 'rnu'; did you mean run?"),
        (["archive", "lst"], "syncd: no command 'lst'; did you mean list?"),
        (["--jsn"], "(syncd --help)"),
        (["run", "--parallel", "0"], "(syncd run --help)"),
        (["archive", "show", "x"], "(syncd archive show --help)"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert line in shown.err


@pytest.mark.parametrize("words", [["cancel"], ["runs"], ["errors", "job"], ["retry", "job"]])
@pytest.mark.parametrize("number", ["9" * 30, "\N{ARABIC-INDIC DIGIT TWO}"])
def test_a_number_that_no_row_can_have_is_no_bug(
    words: list[str], number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite has no integers of more than 64 bits."""
    account = 'protocol = "pop3"\nhost = "pop.example.net"\nusername = "me"\npassword = "env:P"\n'
    job = '[jobs.job]\nsource = "road"\ndestinations = ["home"]\n[archives.home]\npath = "mail"\n'
    (tmp_path / "syncd.toml").write_text(f"[accounts.road]\n{account}{job}")
    Database.open(None, load(tmp_path / "syncd.toml").settings.state_directory).close()
    assert call(["-c", str(tmp_path / "syncd.toml"), *words, number]) == ExitCode.USAGE
    assert "bug" not in capsys.readouterr().err


def test_a_bug_is_one_line_and_its_traceback_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("sur\x1bprise")

    monkeypatch.setattr(Common, "load", fail)
    assert call(["status"]) == 1
    crash = tmp_path / "home" / CRASH_FILE
    assert capsys.readouterr().err == (
        f"syncd: this is a bug in syncd: KeyError: 'sur\\x1bprise'; please report it, with {crash}\n"
    )
    assert "KeyError" in crash.read_text()
    assert call(["status", "--verbose"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last)")
    assert shown.endswith("please report it\n")


def test_a_bug_without_a_place_for_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNCD_HOME", os.devnull)
    assert way_out.report(KeyError("x"), Common()) == 1
    assert capsys.readouterr().err.endswith("please report it, with what --verbose shows\n")


def test_the_last_handler_cannot_fail(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("once more")

    monkeypatch.setattr(way_out, "_judge", fail)
    assert way_out.report(KeyError("x"), Common()) == 1
    assert capfd.readouterr().err == "syncd: KeyError: 'x'\n"


def test_too_many_open_files_are_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Common, "load", fail)
    assert call(["status"]) == 1
    assert capsys.readouterr().err.startswith("syncd: too many open files: allow more (ulimit -n 4096)")


def test_interrupted_outside_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Common, "load", interrupt)
    assert call(["status"]) == 130
    assert capsys.readouterr().err == "syncd: interrupted\n"


@pytest.mark.parametrize("path", [(), *((name,) for name in VERBS)])
def test_help_begins_with_what_it_is_and_examples(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    first, examples, usage, options = (shown.index(mark) for mark in (shown[0], "Examples:", "Usage:", "Options:"))
    assert first < examples < usage < options
    assert f"  syncd {' '.join(path)}".rstrip() in shown[examples:usage]
    assert "--config FILE" in shown
    assert "--json" in shown


def commands() -> list[tuple[str, ...]]:
    context = click.Context(app)
    found: list[tuple[str, ...]] = []
    for name in VERBS:
        command = app.get_command(context, name)
        assert command is not None
        below = command.list_commands(context) if isinstance(command, click.Group) else []
        found += [(name, inner) for inner in below] or [(name,)]
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_verb_has_examples_that_parse(path: tuple[str, ...]) -> None:
    import shlex

    command: click.Command = app
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    examples: list[tuple[str, str]] = command.examples  # type: ignore[attr-defined]
    assert examples
    for line, what in examples:
        words = shlex.split(line.partition(" > ")[0])
        assert words[: len(path) + 1] == ["syncd", *path]
        assert what
        command.make_context(" ".join(path), words[len(path) + 1 :], obj=Common())


def test_common_options_before_and_after_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--json", "-c", "a.toml", "status"], ["status", "--json", "-c", "a.toml"]):
        assert call(arguments) == 6
        assert json.loads(capsys.readouterr().out)["errors"][0].startswith("a.toml: ")


def test_the_configuration_can_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNCD_CONFIG", "b.toml")
    assert call(["status"]) == 6
    assert capsys.readouterr().err.startswith("syncd: b.toml: ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out.startswith("syncd ")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["archive", "--help"], ["config", "--help"], ["web", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from syncd.cli.main import call; call(sys.argv[1:]);"
        "heavy = {'sqlalchemy', 'pydantic', 'rich', 'ssl', 'alembic', 'fastapi', 'uvicorn', 'jinja2', 'argon2'};"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


def test_a_run_loads_nothing_of_the_page_and_reads_no_mail(tmp_path: Path) -> None:
    archive = PacksArchive(tmp_path / "old")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(1, b"Subject: one\r\n\r\ntext\r\n")])
    archive.close()
    Path("syncd.toml").write_text(
        f'state_directory = "{tmp_path / "state"}"\n[archives.old]\npath = "{tmp_path / "old"}"\n'
        f'[archives.new]\npath = "{tmp_path / "new"}"\n[jobs.copy]\nsource = "old"\ndestinations = ["new"]\n'
    )
    code = (
        "import sys; from syncd.cli.main import call; assert call(['run', 'copy']) == 0;"
        "of_the_page = {'fastapi', 'uvicorn', 'starlette', 'jinja2', 'argon2', 'nh3', 'email.parser',"
        " 'syncd.mail.mime', 'syncd.formats.search', 'syncd.services.search', 'syncd.web'};"
        "print(of_the_page & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from syncd.cli.main import call; sys.exit(call(['config', 'schema']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == way_out.BROKEN_PIPE


def test_a_full_disk_behind_standard_output_is_told() -> None:
    code = "import sys; from syncd.cli.main import call; sys.exit(call(['config', 'schema']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("syncd: cannot write to <stdout>: No space left on device")
    assert done.stderr.count("\n") == 1


def test_an_encoding_that_lacks_a_character_is_no_error() -> None:
    assert call(["init", "--quiet"]) == 0
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = "import sys; from syncd.cli.main import call; sys.exit(call(['status']))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "FROM \\u2192 TO" in done.stdout
