"""A password that was wrong: what check, run, status, errors and doctor say. Between two scripted servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap


class Site:
    """Two servers, and the commands of a job between them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, old: FakeImap, new: FakeImap) -> None:
        self.old, self.new = old, new
        self._monkeypatch = monkeypatch
        here, there = ((peer.host, peer.port, USERNAME) for peer in (old, new))
        Bench(directory, here, there)
        self._file = directory / "syncd.toml"
        for account in ("OLD", "NEW"):  # in this order
            text = self._file.read_text().replace("env:PASSWORD", f"env:{account}", 1)
            self._file.write_text(text)
            self.password(PASSWORD, account)

    def password(self, password: str, account: str = "OLD") -> None:
        self._monkeypatch.setenv(account, password)

    def __call__(self, *words: str) -> int:
        return call([*words, "-c", str(self._file)])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with FakeImap() as old, FakeImap() as new:
        old.box("INBOX").add(mail(1))
        yield Site(tmp_path, monkeypatch, old, new)


def test_check_signs_in_with_the_corrected_password(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.password("wrong")
    assert site("run") == ExitCode.SIGN_IN_REFUSED
    site.password(PASSWORD)
    capsys.readouterr()
    assert site("check", "move") == ExitCode.DONE
    shown = capsys.readouterr()
    assert "would fetch 1 message" in shown.out
    assert "suspended" not in shown.out + shown.err


def test_check_suspends_nothing_and_does_not_say_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.password("wrong")
    assert site("check", "move") == ExitCode.SIGN_IN_REFUSED
    assert "suspended" not in capsys.readouterr().err
    site.password(PASSWORD)
    assert site("run") == ExitCode.DONE


def test_a_run_that_obeys_a_suspension_says_that_it_did_not_ask(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.password("wrong")
    site("run")
    asked = len(site.old.commands)
    site.password(PASSWORD)
    capsys.readouterr()
    assert site("run") == ExitCode.SIGN_IN_REFUSED
    assert len(site.old.commands) == asked
    told = " ".join(capsys.readouterr().err.split())
    assert "that was the answer at 20" in told
    assert "this run did not ask again; suspended until 20" in told
    assert "to try at once: `syncd retry move suspended`" in told
    assert site("retry", "move", "suspended") == ExitCode.DONE
    assert site("run") == ExitCode.DONE


def test_errors_status_and_doctor_name_a_job_whose_last_run_failed(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """They said that no message waits, that nothing is at the source, and that all is well."""
    site.password("wrong")
    site("run")
    capsys.readouterr()
    assert site("errors") == ExitCode.DONE
    assert capsys.readouterr().out == "move: its last run failed with exit code 4; see: syncd status move\n"
    assert site("errors", "--json") == ExitCode.DONE
    (document,) = json.loads(capsys.readouterr().out)
    assert (document["job"], document["why"], document["exit_code"]) == ("move", "failed", 4)
    assert site("status", "move") == ExitCode.DONE
    _, row = capsys.readouterr().out.splitlines()
    assert row.split()[-5:] == ["-", "0", "old", "→", "new"]
    assert site("doctor", "--quiet") == ExitCode.FAILED
    assert 'the last run of job "move" failed with exit code 4. See: syncd status move' in capsys.readouterr().out
    site.password(PASSWORD)
    site("retry", "move", "suspended")
    assert site("run") == ExitCode.DONE
    capsys.readouterr()
    assert (site("errors"), site("doctor")) == (ExitCode.DONE, ExitCode.DONE)
    shown = capsys.readouterr()
    assert "failed" not in shown.out
    assert "no message waits" in shown.err


def test_a_failure_that_passes_by_itself_is_told_and_nothing_to_mend(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.old.hangs_up_on.add("CAPABILITY")
    assert site("run") == ExitCode.TEMPORARY
    capsys.readouterr()
    assert site("doctor") == ExitCode.DONE
    assert 'the last run of job "move" failed with exit code 5. See: syncd status move' in capsys.readouterr().out


@pytest.mark.parametrize("account", ["OLD", "NEW"])
def test_a_run_says_which_account_was_refused_and_where_its_password_is(
    site: Site, capsys: pytest.CaptureFixture[str], account: str
) -> None:
    site.password("hunter2", account)
    assert site("run") == ExitCode.SIGN_IN_REFUSED
    shown = capsys.readouterr()
    told = f'check the account\'s username and password (account "{account.lower()}", password = "env:{account}")'
    assert told in shown.err
    assert "hunter2" not in shown.out + shown.err
