"""A process that puts mail into an IMAP account is frozen amid a batch, and another one takes over."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Lease, Point
from tests.crash.program import Program
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import BARE, EXTENDED, PASSWORD, USERNAME, FakeImap

pytestmark = pytest.mark.crash

SHORT = Lease(expiry_s=1.0, renew_s=0, margin_s=0.2)  # renewed by need alone
SENT = [mail(number % 20) for number in range(25)]


def program(home: Path, output: str, point: Point | None = None, lease: Lease | None = None) -> Program:
    arguments = ["run", "move", "--config", str(home / "syncd.toml"), "--quiet"]
    return Program(arguments, home / output, point=point, lease=lease)


@pytest.mark.parametrize("announced", [BARE, EXTENDED], ids=["bare", "extended"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_was_taken_over_amid_a_batch_sends_no_more_of_it(
    tmp_path: Path, announced: tuple[str, ...], moment: Moment
) -> None:
    """It had asked for its lease when the batch began, and put the rest of it there a second time."""
    with FakeImap() as old, FakeImap() as new:
        new.inside = announced
        old.box("INBOX").add(*SENT)
        Bench(tmp_path, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME))
        (tmp_path / "password").write_text(PASSWORD)
        (tmp_path / "password").chmod(0o600)
        file = tmp_path / "syncd.toml"
        file.write_text(file.read_text().replace("env:PASSWORD", "file:password"))
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
