"""`syncd user`, `syncd token`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import call
from syncd.db.database import Database
from syncd.services import people

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    Path("syncd.toml").write_text("")


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def shown(capsys: Capture, *arguments: str) -> Any:
    capsys.readouterr()
    assert call(["--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_user_is_added_shown_changed_and_removed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(["user", "list"]) == 0
    assert "nobody may sign in yet" in capsys.readouterr().err
    say(monkeypatch, "correct horse battery\n")
    assert call(["user", "add", "Ann", "--role", "admin", "--password-stdin"]) == 0
    assert capsys.readouterr().out == "ann may sign in as admin\n"
    (user,) = shown(capsys, "user", "list")
    assert (user["name"], user["role"], user["signed_in_at"]) == ("ann", "admin", None)
    say(monkeypatch, "another password\n")
    assert call(["user", "passwd", "ann", "--password-stdin"]) == 0
    with Database.open(None, Path("state")) as database:
        assert isinstance(people.sign_in(database, "ann", "correct horse battery", "1"), people.Refused)
        assert isinstance(people.sign_in(database, "ann", "another password", "1"), people.Session)
    assert call(["user", "list"]) == 0
    assert "ann   admin" in capsys.readouterr().out
    assert call(["user", "rm", "ann"]) == 0
    assert call(["user", "rm", "ann"]) == 2
    assert "no user 'ann'" in capsys.readouterr().err


@pytest.mark.parametrize("password", ["", "short\n"])
def test_a_password_that_is_too_short_adds_nobody(
    password: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    say(monkeypatch, password)
    assert call(["user", "add", "ann", "--password-stdin"]) == 2
    assert "10 to 1,000 characters" in capsys.readouterr().err
    assert shown(capsys, "user", "list") == []


def test_a_token_is_shown_once_and_revoked(capsys: Capture) -> None:
    made = shown(capsys, "token", "create", "grafana", "--scope", "operator", "--expires", "30 days")
    assert made["token"].startswith("syncd_")
    assert call(["token", "create", "backup", "--expires", "never"]) == 0
    assert call(["token", "create", "grafana"]) == 2
    assert call(["token", "create", "other", "--expires", "soon"]) == 2
    capsys.readouterr()
    assert call(["token", "list"]) == 0
    text = capsys.readouterr().out
    assert made["token"] not in text
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["backup", "reader"], ["grafana", "operator"]]
    assert [it["expires_at"] is None for it in shown(capsys, "token", "list")] == [True, False]
    assert call(["token", "revoke", "grafana"]) == 0
    assert call(["token", "revoke", "grafana"]) == 2
    assert call(["token", "revoke", "backup"]) == 0
    assert shown(capsys, "token", "list") == []
