"""Mailboxes that a job names and its source does not have: what check, a dry run and a run say of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.exit_codes import ExitCode
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import EXTENDED, GMAIL, PASSWORD, USERNAME, FakeImap

COMMANDS = [("check", "move"), ("run", "--dry-run"), ("run",)]
EMPTY = re.compile(r"(move: |; |\()0 messages on the server")  # of the source: the other server is empty
Told = Callable[..., str]


@pytest.fixture
def old() -> Iterator[FakeImap]:
    with FakeImap() as old:
        old.inside = EXTENDED
        for name in ("Projekte", "Projekte/Alt", "Gesendet"):
            old.box(name).add(mail(1))
        yield old


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], old: FakeImap
) -> Iterator[Told]:
    """Writes a job and runs a command; returns all that it shows, blanks as one."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    with FakeImap() as new:
        here, there = ((peer.host, peer.port, USERNAME) for peer in (old, new))

        def told(*words: str, job: str = "", code: ExitCode = ExitCode.DONE, **options: str) -> str:
            Bench(tmp_path, here, there, job=job, **options)
            capsys.readouterr()
            assert call([*words, "-c", str(tmp_path / "syncd.toml")]) == code
            shown = capsys.readouterr()
            return " ".join((shown.out + shown.err).split())

        yield told


@pytest.mark.parametrize("command", COMMANDS)
def test_where_include_matches_no_mailbox_nothing_can_be_copied(told: Told, command: tuple[str, ...]) -> None:
    """It would do nothing, and there were 0 messages on the server."""
    job = 'mailboxes = { include = ["INBOX.Projekte"] }\n'
    shown = told(*command, job=job, code=ExitCode.CONFIG_INVALID)
    assert (
        "move: no mailbox is chosen, so nothing can be copied. mailboxes.include: “INBOX.Projekte” matches no mailbox"
        " of old; did you mean “Projekte”?"
    ) in shown
    assert not EMPTY.search(shown)
    assert "would do nothing" not in shown


@pytest.mark.parametrize("command", [*COMMANDS, ("check", "--json")], ids=" ".join)
def test_each_pattern_and_name_that_matches_nothing_is_told(told: Told, command: tuple[str, ...]) -> None:
    job = 'mailboxes = { include = ["Projekte/**", "Kunden"], exclude = ["Gesendt", "Projekte/Atl/*"] }\n'
    shown = told(*command, job=job, map='{ "Projekte/Atl" = "Alt" }')
    assert "move: mailboxes.include: “Kunden” matches no mailbox of old; none has a similar name" in shown
    assert "move: mailboxes.exclude: “Gesendt” matches no mailbox of old; did you mean “Gesendet”?" in shown
    assert "move: mailboxes.exclude: “Projekte/Atl/*” matches no mailbox of old; did you mean “Projekte/Alt”?" in shown
    assert (
        "move: map of destination new: “Projekte/Atl” matches no mailbox of old; did you mean “Projekte/Alt”?" in shown
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_where_exclude_leaves_no_mailbox_that_is_told(told: Told, command: tuple[str, ...]) -> None:
    shown = told(*command, job='mailboxes = { include = ["Projekte/**"], exclude = ["Pro*/**"] }\n')
    assert "move: no mailbox is chosen: mailboxes.exclude leaves out all that mailboxes.include has" in shown
    assert not EMPTY.search(shown)


def test_what_matches_is_not_told_nor_what_an_account_may_get(told: Told) -> None:
    job = 'mailboxes = { include = ["*"], exclude = ["Trash", \'\\Trash\', \'\\Junk\', "Proj*/A*"] }\n'
    assert "matches no mailbox" not in told("run", job=job, map='{ "Projekte" = "Alt", "Gesendet" = "Sent" }')


def test_an_account_without_any_mailbox_is_nobodys_mistake(old: FakeImap, told: Told) -> None:
    old.boxes.clear()
    assert "matches no mailbox" not in told("run")


def test_mailboxes_of_gmail_that_are_not_read_are_there(old: FakeImap, told: Told) -> None:
    old.inside = GMAIL
    old.box("[Gmail]/All Mail", attributes=[b"\\All"]).add(mail(2))
    job = 'mailboxes = { include = ["*"], exclude = ["Projekte/Alt"] }\n'
    assert "matches no mailbox" not in told("run", "--dry-run", job=job, map='{ "Gesendet" = "Sent" }')
