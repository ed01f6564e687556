"""SIGKILL while a connection waits until it has an IMAP mailbox alone: the next run has each message there once.

The server says no to a group of the first connection, and holds its answers to the others back until the process is
dead. What it has stored by then, and what it reads from their sockets afterwards, is told apart by the next run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.program import Program
from tests.e2e.test_imap_connections import Several, held
from tests.e2e.test_imap_migration import mail
from tests.fakes.imap import EXTENDED, PASSWORD, USERNAME, FakeConnection, FakeImap
from tests.fakes.imap_words import Word

pytestmark = pytest.mark.crash

WAIT_S = 30.0  # only a test that fails waits so long
MESSAGES, DIFFERENT = 300, 7
MULTI = (*EXTENDED, "MULTIAPPEND")
Peers = tuple[FakeImap, FakeImap]


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        old.box("INBOX").add(*(mail(number % DIFFERENT) for number in range(MESSAGES)))
        yield old, new
        assert not new.violations


class Holding:
    """Refuses the first group, and answers others, of other connections, when `dead` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: FakeImap, *, denied: bool, stored: bool) -> None:
        """`denied`: the refused group is stored all the same. `stored`: so are those that are not answered."""
        self.dead = threading.Event()
        append = FakeConnection._append
        choosing, others = threading.Lock(), threading.Event()
        first: list[FakeConnection] = []

        def answer(connection: FakeConnection, arguments: list[Word]) -> bytes:
            if connection._server is not server or self.dead.is_set():
                return append(connection, arguments)
            with choosing:
                refuses = not first
                first.append(connection)
            if refuses:
                assert others.wait(WAIT_S), "no other connection sends"
                if denied:
                    append(connection, arguments)
                return connection._no(b"sorry")
            if connection is first[0]:
                return append(connection, arguments)
            told = append(connection, arguments) if stored else b""
            others.set()
            assert self.dead.wait(WAIT_S), "nobody waits to be alone"
            if not stored:
                raise ConnectionError("nothing is stored of what a dead process has sent")
            return told

        monkeypatch.setattr(FakeConnection, "_append", answer)


@pytest.mark.parametrize("denied", [False, True], ids=["refused", "stored all the same"])
@pytest.mark.parametrize("stored", [False, True], ids=["others lost", "others stored"])
def test_each_message_is_there_once(
    tmp_path: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch, *, denied: bool, stored: bool
) -> None:
    old, new = peers
    logins = [(peer.host, peer.port, USERNAME) for peer in peers]
    Several(tmp_path, logins[0], logins[1], share=True)
    file, password = tmp_path / "syncd.toml", tmp_path / "password"
    file.write_text(file.read_text().replace("env:PASSWORD", "file:password"))
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    arguments = ["run", "move", "--config", str(file), "--quiet"]
    holding = Holding(monkeypatch, new, denied=denied, stored=stored)
    ended = Program(arguments, tmp_path / "output", alone=True).wait()
    assert ended.code == -signal.SIGKILL, ended.stderr
    holding.dead.set()
    new.settle()
    assert new.connections > 1
    assert len(new.box("INBOX").mail) < MESSAGES
    again = Program(arguments, tmp_path / "output").wait()
    assert again.code == 0, again.stderr
    assert held(new) == held(old)
    last = Program(arguments, tmp_path / "output").wait()
    assert (last.code, last.stdout, last.stderr) == (0, "", "")
    assert held(new) == held(old)
