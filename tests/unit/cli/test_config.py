from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncd.cli.main import call


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_init_writes_a_configuration_that_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert call(["config", "check"]) == 0
    assert capsys.readouterr().out == "syncd.toml: no mistakes (1 account, 1 archive, 1 job)\n"


def test_init_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    Path("syncd.toml").write_text("mine")
    assert call(["init"]) == 6
    assert capsys.readouterr().err == (
        "syncd: syncd.toml exists and was not changed; edit it, or name another file with --config\n"
    )
    assert Path("syncd.toml").read_text() == "mine"


def test_init_somewhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["init", "-c", "other.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "other.toml"}
    assert call(["config", "check", "-c", "other.toml", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert {key: checked[key] for key in ("file", "errors", "exit_code")} == {
        "file": "other.toml",
        "errors": [],
        "exit_code": 0,
    }
    assert call(["init", "-c", "no/where.toml"]) == 2
    assert capsys.readouterr().err == "syncd: cannot write no/where.toml: there is no folder no; make it first\n"


def test_check_tells_mistakes_and_warnings_apart(capsys: pytest.CaptureFixture[str]) -> None:
    call(["init", "-q"])
    capsys.readouterr()
    assert call(["config", "check"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    warning = "syncd.toml: accounts.road.password: the environment variable ROAD_PASSWORD is not set"
    assert f"syncd: warning: {warning}" in shown.err
    text = Path("syncd.toml").read_text().replace("#ca_file = none", 'ca_file = "absent.pem"')
    Path("syncd.toml").write_text(text)
    assert call(["config", "check", "--json"]) == 6
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["exit_code"] == 6
    assert any(line.startswith(warning) for line in document["warnings"])
    (error,) = document["errors"]
    assert "absent.pem cannot be used: No such file or directory" in error
    assert f"syncd: {error}" in shown.err.splitlines()


def test_show_says_where_each_value_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("syncd.toml").write_text('timezone = "UTC"\ndatabase_url = "postgresql://me:hidden@db/x"\n')
    monkeypatch.setenv("SYNCD_TIMEZONE", "Europe/Berlin")
    assert call(["config", "show", "--json"]) == 0
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(capsys.readouterr().out)}
    assert rows["timezone"] == ("Europe/Berlin", "SYNCD_TIMEZONE")
    assert rows["limits.message_octets"] == ("2 GiB", "default")
    assert call(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "hidden" not in out
    assert out.splitlines()[0].split() == ["SETTING", "VALUE", "FROM"]


def test_show_what_is_below_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    call(["init", "-q"])
    capsys.readouterr()
    assert call(["config", "show", "jobs"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines
    assert all(line.startswith("jobs.") for line in lines)
    assert call(["config", "show", "job"]) == 2
    assert capsys.readouterr().err == "syncd: no setting 'job'; see: syncd config show\n"


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "schema"]) == 0
    assert "accounts" in json.loads(capsys.readouterr().out)["properties"]
