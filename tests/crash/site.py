"""A maildrop, archives and a job in a directory of their own, and the proof that nothing is lost or doubled.

What the proof reads it reads by other ways than the program's where there are any: the server's own log for what
was retrieved, SQL for the ledger, the file system for Maildirs and the maildrop.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncd.db.holder import Holder
from syncd.db.states import DeliveryState, MessageState, RunState
from syncd.destinations.packs import PacksArchive
from syncd.formats.mbox.view import MboxView
from syncd.formats.packs.index import Index
from syncd.mail.message import Receipt
from tests.crash.child import Lease, Point
from tests.crash.program import POLL_S, Ended, Program
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import as_stored, presented
from tests.support.packs import checked, listed, rebuild, zstdcat

JOB = "job"
IN_FLIGHT_OCTETS = 37 << 20  # 36 MiB as the documentation promises, and what a server counts with it: replies, dots
SETTLE_S = 30.0
QUIET_S = 5.0
Digests = Counter[bytes]


@dataclass(frozen=True, eq=False)
class Scenario:
    """What a job delivers to (name → format) and whether it removes at the source."""

    name: str
    archives: dict[str, str]
    removes: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass
class Site:
    """One case: `home` is its directory, `user` its maildrop with `mail` in it (as stored there)."""

    home: Path
    server: Dovecot
    user: str
    scenario: Scenario
    mail: list[bytes]
    port: int = 0  # of the server, unless something stands in between
    folders: dict[str, Path] = field(default_factory=dict)  # archives that lie elsewhere
    state: Path = Path()  # the state directory, if it lies elsewhere

    def __post_init__(self) -> None:
        self.mail, messages = [], self.mail
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = self.port or self.server.pop3_port
        self.folders = {name: self.folders.get(name, self.home / name) for name in self.scenario.archives}
        self.state = self.home / "state" if self.state == Path() else self.state
        self.configure()
        self.receive(messages)

    def receive(self, messages: list[bytes]) -> None:
        """More mail comes."""
        self.server.deliver(self.user, messages, verbatim=True, again=True)
        self.mail += messages

    def configure(self, port: int = 0) -> None:
        """Write the configuration; `port` is a new one."""
        self.port = port or self.port
        removal = "leave_on_server = false\nconfirm_removal = true\n" if self.scenario.removes else ""
        archives = "".join(
            f'[archives.{name}]\npath = "{self.folders[name]}"\nformat = "{kind}"\n'
            for name, kind in self.scenario.archives.items()
        )
        (self.home / "password").write_text("secret\n")
        (self.home / "password").chmod(0o600)
        self.config.write_text(
            f'state_directory = "{self.state}"\n'
            f'[accounts.pop]\nprotocol = "pop3"\nhost = "{self.server.host}"\nport = {self.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{self.user}"\npassword = "file:password"\n'
            f"{archives}"
            f'[jobs.{JOB}]\nsource = "pop"\ndestinations = {list(self.scenario.archives)}\n{removal}'
        )

    @property
    def config(self) -> Path:
        return self.home / "syncd.toml"

    @property
    def arguments(self) -> list[str]:
        """The command line of a run."""
        return ["run", JOB, "--config", str(self.config), "--quiet"]

    # --- running ------------------------------------------------------------------------------------

    def start(
        self, *extra: str, point: Point | None = None, lease: Lease | None = None, output: str = "output"
    ) -> Program:
        return Program([*self.arguments, *extra], self.home / output, point=point, lease=lease)

    def run(self, *extra: str, point: Point | None = None) -> Ended:
        return self.start(*extra, point=point).wait()

    # --- what is where ------------------------------------------------------------------------------

    @property
    def expected(self) -> Digests:
        """SHA-256 of every message as the server presents it."""
        return digests(map(presented, self.mail))

    @property
    def expected_files(self) -> Digests:
        """The same, as files of a Maildir archive: with LF where every line end is CRLF."""
        return digests(as_stored(presented(message)) for message in self.mail)

    def on_server(self) -> Digests:
        """What is in the maildrop now."""
        cur = self.server.maildir(self.user) / "cur"
        return digests(presented(file.read_bytes()) for file in cur.iterdir())

    def retrieved(self, *, sessions: int = 0) -> tuple[int, int]:
        """RETR commands and octets of all sessions so far, when they (at least `sessions`) are in the server's log.

        No client runs any more: a session that has not ended by itself after a while is ended.
        """
        start = time.monotonic()
        while True:
            begun = self.server.log().count(f"Login: user=<{self.user}>")
            ended = self.server.sessions(self.user)
            if len(ended) >= max(begun, sessions):
                return sum(one.retrieved for one in ended), sum(one.retrieved_octets for one in ended)
            waited = time.monotonic() - start
            assert waited < SETTLE_S, f"{begun} sessions of {self.user} began, {len(ended)} ended"
            if waited > QUIET_S:
                self.server.end_sessions(self.user)
            time.sleep(POLL_S)

    def committed(self) -> tuple[int, int]:
        """Messages, and their octets, that the ledger knows as delivered to at least one destination."""
        if not self.ledger.exists():
            return 0, 0
        found = self.query(
            f"""SELECT count(*), coalesce(sum(octets), 0) FROM messages
                WHERE id IN (SELECT message_id FROM deliveries WHERE state = {DeliveryState.DELIVERED:d})"""
            if self.query("SELECT 1 FROM sqlite_master WHERE name = 'deliveries'")
            else "SELECT 0, 0"
        )
        messages, octets = found[0]
        return messages, octets

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.sqlite"

    def open_runs(self) -> list[tuple[int, RunState, int]]:
        """Id, state and slices of runs that are not over."""
        if not self.ledger.exists() or not self.query("SELECT 1 FROM sqlite_master WHERE name = 'runs'"):
            return []
        found = self.query(f"SELECT id, state, slices FROM runs WHERE state <= {RunState.RUNNING:d}")
        return [(run_id, RunState(state), slices) for run_id, state, slices in found]

    def query(self, statement: str) -> list[tuple[int, ...]]:
        """Rows of the ledger."""
        connection = sqlite3.connect(self.ledger)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def archived(self, name: str) -> Digests:
        """What an archive holds by its own account: each message as often as it has places."""
        folder = self.folders[name]
        if self.scenario.archives[name] == "maildir":
            return digests(maildir_files(folder))
        if self.scenario.archives[name] == "mbox":
            with closing(MboxView(folder)) as view:
                return Counter(stored.body.sha256 for stored in view.stored(self.home, pytest.fail))
        archive = PacksArchive(folder, spool=self.home)
        try:
            found: Digests = Counter()
            for stored in listed(folder):
                body = archive.read(Receipt(stored.sha256)).body
                found[hashlib.sha256(b"".join(body.chunks())).digest()] += len(stored.places)
                body.close()
            return found
        finally:
            archive.close()

    # --- the proof ----------------------------------------------------------------------------------

    def prove(self) -> None:
        """Every message is exactly once in each archive, and all the books are in order."""
        for name, kind in self.scenario.archives.items():
            if kind == "maildir":
                assert self.archived(name) == self.expected_files
                assert not list((self.folders[name] / "tmp").iterdir())
            elif kind == "mbox":
                assert self.archived(name) == self.expected
                text = b"\n" + (self.folders[name] / "INBOX.mbox").read_bytes()
                assert text.count(b"\nFrom ") == len(self.mail)
                assert not list(self.folders[name].glob("*.lock"))
            else:
                assert self.archived(name) == self.expected
                prove_packs(self.folders[name], len(self.expected))
        self.prove_ledger()
        bodies = self.state / "bodies"
        assert not bodies.exists() or not list(bodies.iterdir())
        if self.scenario.removes:
            assert not self.on_server()

    def prove_ledger(self) -> None:
        """Each message has one row and is fetched, each delivery is made, no run is queued or said to go on."""
        count = len(self.mail)
        states = {state for (state,) in self.query("SELECT DISTINCT state FROM messages")}
        there = {MessageState.FETCHED, MessageState.MISSING, MessageState.GONE}
        assert states <= (there if self.scenario.removes else {MessageState.FETCHED})
        assert self.query("SELECT count(*), count(sha256) FROM messages") == [(count, count)]
        deliveries = self.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, count * len(self.scenario.archives))]
        assert self.query("SELECT count(*) FROM problems") == [(0,)]
        assert self.open_runs() == []
        prove_leases(self.query("SELECT resource, holder FROM leases WHERE holder <> ''"))
        assert self.query("PRAGMA integrity_check") == [("ok",)]

    def prove_nothing_removed_is_lost(self) -> None:
        """Whatever is no longer on the server is in every archive."""
        gone = self.expected - self.on_server()
        if gone:
            for name in self.scenario.archives:
                assert not gone - self.archived(name)

    def prove_taken_over(self, left: list[tuple[int, RunState, int]]) -> None:
        """The run that was `left` open, by a process that died, was gone on with: there is no other row for it."""
        for run_id, _, slices in left:
            now = self.query(f"SELECT state, slices FROM runs WHERE id = {run_id}")
            assert now == [(RunState.DONE, slices + 1)]
            assert self.query(f"SELECT count(*) FROM runs WHERE id > {run_id}") == [(0,)]

    def resume_and_prove(self, *extra: str) -> None:
        """Run again after something went wrong, prove, and run a third time, which must find nothing to do."""
        committed, committed_octets = self.committed()
        before, before_octets = self.retrieved()
        assert before_octets - committed_octets <= IN_FLIGHT_OCTETS
        if self.scenario.removes:
            self.prove_nothing_removed_is_lost()
        left = self.open_runs()
        ended = self.run(*extra)
        assert ended.code == 0, ended.stderr
        self.prove_taken_over(left)
        assert all("all went well" in line for line in ended.stderr.splitlines()), ended.stderr
        after, _ = self.retrieved(sessions=1)
        assert after - before <= len(self.mail) - committed
        self.prove()
        again = self.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        assert self.retrieved(sessions=2)[0] == after, "the third run retrieved something"


def digests(messages: Iterable[bytes]) -> Digests:
    """SHA-256 of each message, with how often it is there."""
    return Counter(hashlib.sha256(message).digest() for message in messages)


def maildir_files(folder: Path) -> Iterator[bytes]:
    """Every message file of a Maildir."""
    for part in ("cur", "new"):
        for file in (folder / part).iterdir():
            yield file.read_bytes()


def prove_leases(held: Iterable[tuple[object, ...]]) -> None:
    """Nobody holds a lease, but for dead processes those of archives: where the next run had nothing to write."""
    for resource, holder in held:
        assert str(resource).startswith("archive:"), resource
        assert Holder.parse(str(holder)).is_dead(), holder


def prove_packs(folder: Path, distinct: int) -> None:
    """An archive of packs is clean, an mbox for any program, and its index equals one that is built again."""
    assert not [file.name for file in folder.rglob("*") if file.name.endswith(".new")]
    before = _dump(folder)
    assert checked(folder) == []
    rebuild(folder)
    assert _dump(folder) == before
    mbox = b"\n" + zstdcat(folder)
    assert mbox.count(b"\nFrom ") == distinct


def _dump(folder: Path) -> list[tuple[object, ...]]:
    archive = PacksArchive(folder, spool=folder)
    index = Index.open(folder / "index.sqlite", archive.identity())
    assert index is not None
    try:
        return [*index.dump(), *index.packs().items()]
    finally:
        index.close()
