"""An IMAP account with several mailboxes, archives and a job in a directory of their own, and the proof.

What the proof compares with is what the standard library's client saw in the account before; how much a run has
fetched is said by the server's own log.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syncd.db.states import DeliveryState, MessageState
from tests.crash.child import Point
from tests.crash.program import POLL_S, Ended, Program
from tests.crash.site import JOB, SETTLE_S, Scenario, prove_leases, prove_packs
from tests.servers.dovecot import Dovecot
from tests.servers.imap import Letter, Login, Shown, fill, shown
from tests.support import mail
from tests.support.accounts import Held, Holdings, filled, of_account, of_maildir, of_packs

SEPARATOR = "."  # of the worker's Dovecot
_FETCHED = re.compile(r"body_count=(\d+) body_bytes=(\d+)")
_FLAGS = ((), ("\\Seen",), ("\\Seen", "\\Answered", "$label"), ("\\Flagged", "\\Draft"))


def mailboxes() -> dict[str, list[Letter]]:
    """Five mailboxes, one of them without messages, with sixty-odd messages, some of them twice."""
    octets = [it for it in mail.nasty().values() if it and b"\x00" not in it and not it.startswith(b".")]
    octets += [*mail.samples().values(), *mail.small(14, seed=3), *mail.realistic(6, seed=4)]
    octets += octets[5:8]
    letters = [
        Letter(message, _FLAGS[number % 4], f"{number % 28 + 1:2}-Feb-2003 04:05:{number % 60:02} +0130")
        for number, message in enumerate(octets)
    ]
    third = len(letters) // 3
    return {
        "INBOX": letters[:third],
        "Projekte.M&APw-ller": letters[third : 2 * third],
        "empty": [],
        "Sent": letters[2 * third :],
        "Sent.old": letters[:2],
    }


@dataclass(frozen=True)
class Template:
    """An account that is copied for each case: its folder, and what is in it."""

    folder: Path
    holdings: Holdings
    shown: dict[str, list[Shown]]


def one_mailbox() -> dict[str, list[Letter]]:
    """So many messages that several connections fill it, each of them there three times."""
    return {"INBOX": [Letter(message, _FLAGS[1]) for message in mail.small(300, seed=5)] * 3}


def make_template(server: Dovecot, user: str, contents: Mapping[str, Sequence[Letter]] | None = None) -> Template:
    """Fill an account over IMAP, with `mailboxes()` by default."""
    server.add_user(user)
    login = Login(server.host, server.imap_port, user)
    fill(login, mailboxes() if contents is None else contents)
    return Template(server.maildir(user), of_account(login, SEPARATOR), shown(login))


@dataclass
class ImapSite:
    """One case: a copy of the account, and a job that backs it up."""

    home: Path
    server: Dovecot
    user: str
    scenario: Scenario
    template: Template
    port: int = 0  # of the server, unless something stands in between
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.state = self.home / "state"
        self.server.add_user(self.user)
        folder = self.server.maildir(self.user)
        owner = folder.stat()
        shutil.rmtree(folder)
        shutil.copytree(self.template.folder, folder)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        self.configure(self.port or self.server.imap_port)

    def configure(self, port: int) -> None:
        """Write the configuration."""
        archives = "".join(
            f'[archives.{name}]\npath = "{name}"\nformat = "{kind}"\n' for name, kind in self.scenario.archives.items()
        )
        (self.home / "password").write_text("secret\n")
        (self.home / "password").chmod(0o600)
        (self.home / "syncd.toml").write_text(
            f'state_directory = "state"\n[accounts.mail]\nprotocol = "imap"\nhost = "{self.server.host}"\n'
            f'port = {port}\nsecurity = "none"\nallow_insecure = true\nusername = "{self.user}"\n'
            f'password = "file:password"\n{archives}'
            f'[jobs.{JOB}]\nsource = "mail"\ndestinations = {list(self.scenario.archives)}\n'
        )

    @property
    def arguments(self) -> list[str]:
        return ["run", JOB, "--config", str(self.home / "syncd.toml"), "--quiet"]

    def run(self, *, point: Point | None = None) -> Ended:
        return Program(self.arguments, self.home / "output", point=point).wait()

    # --- what is where ---------------------------------------------------------------------------------

    @property
    def messages(self) -> int:
        return sum(map(Counter.total, self.template.holdings.values()))

    def fetched(self) -> tuple[int, int]:
        """Bodies and their octets that the server gave in all sessions so far, when they all are in its log."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            log = self.server.log()
            begun = log.count(f"imap-login: Info: Login: user=<{self.user}>")
            ended = [line for line in log.splitlines() if f"imap({self.user})" in line and "body_count=" in line]
            if len(ended) >= begun:
                found = [match for match in map(_FETCHED.search, ended) if match]
                return sum(int(it[1]) for it in found), sum(int(it[2]) for it in found)
            assert time.monotonic() < deadline, f"{begun} sessions of {self.user} began, {len(ended)} ended"
            time.sleep(POLL_S)

    def committed(self) -> int:
        """Messages that the ledger knows as delivered to at least one destination."""
        if not self.ledger.exists() or not self.query("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'"):
            return 0
        return self.query(
            f"SELECT count(DISTINCT message_id) FROM deliveries WHERE state = {DeliveryState.DELIVERED:d}"
        )[0][0]

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.sqlite"

    def query(self, statement: str) -> list[tuple[int, ...]]:
        import sqlite3

        connection = sqlite3.connect(self.ledger)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    # --- the proof -------------------------------------------------------------------------------------

    def prove(self) -> None:
        """Every message is exactly once in each archive, in its mailbox, with octets, flags, keywords and instant."""
        expected = filled(self.template.holdings)
        for name, kind in self.scenario.archives.items():
            if kind == "packs":
                assert filled(of_packs(self.home / name)) == expected
                prove_packs(self.home / name, len({held.octets for it in expected.values() for held in it}))
            else:
                assert _as_maildir(filled(of_maildir(self.home / name))) == _as_maildir(expected)
                assert not list((self.home / name / "tmp").iterdir())
        states = self.query("SELECT state, count(*), count(sha256) FROM messages GROUP BY state")
        assert states == [(MessageState.FETCHED, self.messages, self.messages)]
        deliveries = self.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, self.messages * len(self.scenario.archives))]
        assert self.query("SELECT count(*) FROM problems") == [(0,)]
        prove_leases(self.query("SELECT resource, holder FROM leases WHERE holder <> ''"))
        assert self.query("PRAGMA integrity_check") == [("ok",)]

    def resume_and_prove(self) -> None:
        """Run again after something went wrong, prove, and run a third time, which must find nothing to do."""
        committed, (before, _) = self.committed(), self.fetched()
        ended = self.run()
        assert ended.code == 0, ended.stderr
        after, _ = self.fetched()
        assert after - before <= self.messages - committed, "no more is fetched again than was in flight"
        self.prove()
        again = self.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        assert self.fetched()[0] == after, "the third run fetched something"
        assert shown(Login(self.server.host, self.server.imap_port, self.user)) == self.template.shown


def _as_maildir(holdings: Holdings) -> dict[tuple[str, ...], Counter[tuple[bytes, frozenset[str]]]]:
    """What a Maildir keeps of messages in any case: octets (with CRLF again) and system flags."""

    def kept(held: Held) -> tuple[bytes, frozenset[str]]:
        octets = held.octets.replace(b"\r\n", b"\n")
        return octets, frozenset(flag for flag in held.flags if flag.startswith("\\"))

    found = {}
    for path, held in holdings.items():
        found[path] = Counter[tuple[bytes, frozenset[str]]]()
        for one, number in held.items():
            found[path][kept(one)] += number
    return found
