"""Mailboxes that a server numbers from the start again: frozen one by one, listed by `errors`, lifted one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from tests.contract.source_kit import some
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap

CONFIG = """
state_directory = "state"
[archives.home]
path = "home"
[accounts.mail]
protocol = "imap"
host = "{0.host}"
port = {0.port}
security = "none"
allow_insecure = true
username = "{1}"
password = "env:IMAP_PASSWORD"
[jobs.backup]
source = "mail"
destinations = ["home"]
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeImap]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAP_PASSWORD", PASSWORD)
    with FakeImap() as server:
        Path("syncd.toml").write_text(CONFIG.format(server, USERNAME))
        for number, name in enumerate(("INBOX", "Sent", "odd *")):
            server.box(name).add(*some(3, start=10 * number + 1))
        assert call(["run"]) == 0
        for name in ("Sent", "odd *"):
            server.box(name).renew(77)
        assert call(["run"]) == 0
        yield server


def frozen(capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert call(["--json", "errors"]) == 0
    return [row["mailbox"] for row in json.loads(capsys.readouterr().out) if row["why"] == "frozen"]


def test_i52_errors_lists_frozen_mailboxes_and_says_how_to_lift_each(
    server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frozen(capsys) == ["Sent", "odd *"]
    assert call(["errors", "backup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("backup: removals from Sent are frozen: UIDVALIDITY changed: ")
    assert lines[0].endswith("; to allow them again: syncd run backup --unfreeze Sent")
    assert lines[1].endswith(r"--unfreeze 'odd \*'")


def test_one_mailbox_is_lifted_and_then_all(server: FakeImap, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", "backup", "--unfreeze", r"odd \*"]) == 0
    assert frozen(capsys) == ["Sent"]
    assert call(["run", "backup", "--unfreeze"]) == 0
    assert frozen(capsys) == []
    assert call(["errors"]) == 0
    assert "no message waits" in capsys.readouterr().err


def test_a_mailbox_that_is_not_known_is_an_error_that_names_those_that_are_frozen(
    server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", "backup", "--unfreeze", "Snet"]) == 2
    assert 'no mailbox of job "backup" is called "Snet"; frozen are: Sent, odd *' in capsys.readouterr().err
    assert call(["run", "backup", "--unfreeze", "a//b"]) == 2
    assert '"a//b" has // in it' in capsys.readouterr().err
    assert frozen(capsys) == ["Sent", "odd *"]


def test_a_message_that_cannot_be_had_is_listed_with_its_mailbox(
    server: FakeImap, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["run", "backup", "--unfreeze"])
    server.box("Sent/2019").add(*some(2, start=50))
    server.refuses = {2}
    assert call(["run"]) == 5
    capsys.readouterr()
    assert call(["errors"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert "  Sent/2019, UID 2: mail: unfetchable, 1 try" in line
    assert call(["runs"]) == 0
    server.refuses = set()
    assert call(["retry", "backup"]) == 0
    assert call(["run"]) == 0
