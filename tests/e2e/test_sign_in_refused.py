"""A password that was wrong: what check, run, status, errors and doctor say. Between two scripted servers."""

from __future__ import annotations

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
