"""A process that puts mail into an IMAP account is frozen or killed amid a batch, and another one takes over."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Lease, Point
from tests.crash.program import Program
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeConnection, FakeImap

pytestmark = pytest.mark.crash

SHORT = Lease(expiry_s=1.0, renew_s=0, margin_s=0.2)  # renewed by need alone
BIG = mail(1) + (b"y" * 70 + b"\r\n") * 27_000  # more than the server's kernel takes while nobody reads there
WAIT_S = 30.0  # only a test that fails waits so long
SENT = [mail(number % 20) for number in range(25)]


def program(home: Path, output: str, point: Point | None = None, lease: Lease | None = None) -> Program:
    arguments = ["run", "move", "--config", str(home / "syncd.toml"), "--quiet"]
    return Program(arguments, home / output, point=point, lease=lease)


def configure(home: Path, old: FakeImap, new: FakeImap) -> None:
    Bench(home, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME))
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o600)
    file = home / "syncd.toml"
    file.write_text(file.read_text().replace("env:PASSWORD", "file:password"))


@pytest.mark.parametrize("announced", [BARE, EXTENDED], ids=["bare", "extended"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_was_taken_over_amid_a_batch_sends_no_more_of_it(
    tmp_path: Path, announced: tuple[str, ...], moment: Moment
) -> None:
    """It had asked for its lease when the batch began, and put the rest of it there a second time."""
    with FakeImap() as old, FakeImap() as new:
        new.inside = announced
        old.box("INBOX").add(*SENT)
        configure(tmp_path, old, new)
        first = program(tmp_path, "first", Point(Step.MESSAGE_END, moment, 5, signal.SIGSTOP), SHORT)
        first.wait_until_frozen()
        time.sleep(SHORT.expiry_s)  # the one thing here that only time can bring about
        second = program(tmp_path, "second").wait()
        assert second.code == 0, second.stderr
        first.wake()
        ended = first.wait()
        assert (ended.code, len(ended.stderr.splitlines())) == (10, 1), ended.stderr
        assert Counter(one.octets for one in new.box("INBOX").mail) == Counter(SENT)
        assert program(tmp_path, "third").wait().code == 0
        assert len(new.box("INBOX").mail) == len(SENT)


def test_the_kernel_sends_nothing_more_of_a_process_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had the end of a message still to send, and the server took it after the next run had asked for it."""
    asked, stalled, octets = threading.Event(), list[FakeConnection](), FakeConnection._octets
    with FakeImap() as old, FakeImap() as new:
        new.inside = EXTENDED
        old.box("INBOX").add(BIG)

        def read(connection: FakeConnection, count: int) -> bytes:
            if connection._server is new and not stalled:
                stalled.append(connection)
                assert asked.wait(WAIT_S), "nobody asks"
            return octets(connection, count)

        monkeypatch.setattr(FakeConnection, "_octets", read)
        configure(tmp_path, old, new)
        killed = program(tmp_path, "first", Point(Step.MESSAGE_END, "after", 1)).wait()
        assert killed.code == -signal.SIGKILL, killed.stderr
        second = program(tmp_path, "second").wait()
        assert second.code == 0, second.stderr
        asked.set()
        new.settle()
        assert [one.octets for one in new.box("INBOX").mail] == [BIG]
