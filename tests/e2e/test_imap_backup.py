"""An IMAP account into packs and a Maildir from the command line, against a real server: exact, and again at once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import call
from tests.servers.imap import FLAVOURS, DovecotImap, Letter, Login, dovecot, fill, shown, signed_in
from tests.support import mail
from tests.support.accounts import Held, Holdings, filled, of_account, of_maildir, of_packs

pytestmark = pytest.mark.servers
ODD = {
    "INBOX": [
        Letter(octets, ("\\Seen",) if number % 3 else ()) for number, octets in enumerate(mail.small(40, seed=8))
    ],
    "Projekte/M&APw-ller/2019 &- fr&APw-her": [
        Letter(b"Subject: kept\r\n\r\none\r\n", ("\\Flagged", "$label"), "29-Feb-2004 23:59:59 -1200"),
        Letter(b"Subject: kept\r\n\r\nFrom the start of a line\r\n.\r\n", ("\\Answered", "\\Draft")),
    ],
    "Projekte": [Letter(b"Subject: above\r\n\r\nx\r\n")],
    "A B  C": [Letter(b"Subject: \xe4 8 bit\r\n\r\n\xff\r\n")],
    "&2D3eAA-": [Letter(b"Subject: emoji\r\n\r\nx\r\n")],
    "%=+#,;": [Letter(b"Subject: odd\r\n\r\nx\r\n")],
    "Trash": [Letter(b"Subject: thrown away\r\n\r\nx\r\n")],
    "empty": [],
}
CONFIG = """
state_directory = "state"
[archives.home]
path = "home"
[archives.readable]
path = "Maildir"
format = "maildir"
[accounts.mail]
protocol = "imap"
host = "{0.host}"
port = {0.port}
security = "none"
allow_insecure = true
username = "{0.username}"
password = "env:IMAP_PASSWORD"
[jobs.backup]
source = "mail"
destinations = ["home", "readable"]
{1}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DovecotImap]:
    with dovecot(FLAVOURS["slash"]) as server:
        yield server


class Bench:
    """One account and a job that backs it up."""

    def __init__(self, directory: Path, login: Login, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.login = login
        self._capsys = capsys
        self.configure()

    def configure(self, more: str = "") -> None:
        (self.directory / "syncd.toml").write_text(CONFIG.format(self.login, more))

    def call(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = call(["-c", str(self.directory / "syncd.toml"), *arguments])
        said = self._capsys.readouterr()
        assert got == code, said.err + said.out
        return said.out

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.call("--json", "run", *arguments, code=code).splitlines()[-1])
        return report

    def account(self) -> Holdings:
        return filled(of_account(self.login, "/"))

    def packs(self) -> Holdings:
        return filled(of_packs(self.directory / "home"))


@pytest.fixture
def bench(
    server: DovecotImap,
    user: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    login = server.user(user)
    fill(login, ODD)
    monkeypatch.setenv("IMAP_PASSWORD", login.password)
    return Bench(tmp_path, login, capsys)


def as_maildir(holdings: Holdings) -> Holdings:
    """What a Maildir with LF line ends and without keywords gives back: CRLF again, of dates the instant."""

    def kept(held: Held) -> tuple[bytes, frozenset[str]]:
        return held.octets, frozenset(flag for flag in held.flags if flag.startswith("\\"))

    return {path: Counter({Held(*kept(one), None): n for one, n in held.items()}) for path, held in holdings.items()}  # type: ignore[arg-type]


def test_all_mailboxes_go_into_both_archives_and_a_second_run_moves_nothing(bench: Bench) -> None:
    before, account = shown(bench.login), bench.account()
    assert sum(map(Counter.total, account.values())) == 47
    first = bench.run()
    assert (first["fetched"], first["new"]) == (47, 47)
    assert bench.packs() == account
    assert as_maildir(filled(of_maildir(bench.directory / "Maildir"))) == as_maildir(account)
    assert shown(bench.login) == before, "nothing at the server changes, not even what was seen"
    packs = {file: file.stat().st_mtime_ns for file in (bench.directory / "home").rglob("*.zst")}
    second = bench.run()
    assert (second["fetched"], second["unchanged"]) == (0, True)
    assert {file: file.stat().st_mtime_ns for file in (bench.directory / "home").rglob("*.zst")} == packs
    assert bench.call("check", "home")


def test_only_what_is_new_is_fetched_and_a_new_ledger_learns_from_the_archive(bench: Bench) -> None:
    bench.run()
    fill(bench.login, {"Projekte": [Letter(b"Subject: later\r\n\r\nx\r\n")]})
    assert bench.run()["fetched"] == 1
    assert bench.packs() == bench.account()
    (bench.directory / "state").rename(bench.directory / "old laptop")
    again = bench.run()
    assert again["fetched"] == 0, "a new laptop does not start over"
    assert bench.packs() == bench.account()


def test_a_job_reads_the_mailboxes_that_it_chooses(bench: Bench) -> None:
    bench.configure("mailboxes = { include = ['*'], exclude = ['\\Trash', 'Projekte/**'] }")
    assert bench.run()["fetched"] == 43
    chosen = {path for path in bench.account() if path[0] not in {"Trash", "Projekte"}}
    assert set(bench.packs()) == chosen
    bench.configure()
    assert bench.run()["fetched"] == 4
    assert bench.packs() == bench.account()


def test_a_mailbox_that_is_renamed_at_the_server_is_not_stored_twice(bench: Bench) -> None:
    bench.run()
    with signed_in(bench.login) as client:
        assert client.rename('"A B  C"', '"Projekte/renamed"')[0] == "OK"
    held = bench.packs()
    bench.run()
    bench.run()
    assert bench.packs() == held, "where a message is now is known to the ledger; archives keep where it was"
    assert bench.run()["unchanged"]


def test_check_shows_each_mailbox_and_what_a_run_would_do(bench: Bench) -> None:
    bench.configure("mailboxes = { exclude = ['Trash'] }")

    def table() -> dict[str, list[str]]:
        lines = bench.call("check", "mail").splitlines()
        assert any(line.startswith("mail: the server has LIST-STATUS, CONDSTORE") for line in lines)
        assert lines[-1].startswith("mail: 47 messages on the server (")
        rows = lines[lines.index(next(line for line in lines if line.startswith("MAILBOX"))) + 1 : -1]
        return {cells[0]: cells[1:] for cells in (re.split(" {2,}", row) for row in rows)}

    shown = table()
    assert next(iter(shown)) == "INBOX"
    assert shown["Projekte/Müller/2019 & früher"][:2] == ["-", "2"]
    assert (shown["Trash"][:2], shown["Trash"][-1]) == (["Trash", "1"], "leave it out")
    assert shown["empty"][-1] == "note that it is empty"
    assert {row[-1] for name, row in shown.items() if name not in {"Trash", "empty"}} == {"fetch all of it"}
    bench.run()
    fill(bench.login, {"Projekte": [Letter(b"Subject: later\r\n\r\nx\r\n")]})
    report = json.loads(bench.call("--json", "check", "mail"))
    [account] = report["accounts"]
    would = {"/".join(row["path"]): row["jobs"]["backup"] for row in account["table"]}
    assert {name for name, what in would.items() if what == "look"} == {"Projekte"}
    assert {name for name, what in would.items() if what == "nothing"} == set(would) - {"Projekte", "Trash"}
