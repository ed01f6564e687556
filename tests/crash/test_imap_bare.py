"""SIGKILL while mail is put into mailboxes of a server that tells no UIDs and takes one message at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.crash.scenarios import one_of
from tests.e2e.test_imap_migration import Bench, mail
from tests.fakes.imap import BARE, PASSWORD, USERNAME, FakeImap

pytestmark = pytest.mark.crash

STEPS = (Step.LEDGER_COMMIT, Step.MESSAGE_END)
MOMENTS: tuple[Moment, ...] = ("before", "after")
SENT = {"INBOX": [mail(number % 12) for number in range(25)], "Sent": [mail(number) for number in range(8)]}


@pytest.fixture
def old() -> Iterator[FakeImap]:
    with FakeImap() as server:
        for name, letters in SENT.items():
            server.box(name).add(*letters)
        yield server


def run(home: Path, old: FakeImap, new: FakeImap, point: Point | None = None) -> Ended:
    if not home.exists():
        home.mkdir()
        Bench(home, (old.host, old.port, USERNAME), (new.host, new.port, USERNAME))
        (home / "password").write_text(PASSWORD)
        (home / "password").chmod(0o600)
        file = home / "syncd.toml"
        file.write_text(file.read_text().replace("env:PASSWORD", "file:password"))
    arguments = ["run", "move", "--config", str(home / "syncd.toml"), "--quiet"]
    return Program(arguments, home / "output", point=point).wait()


def kill_at(tmp_path: Path, old: FakeImap, step: Step, moment: Moment, *, everywhere: bool) -> None:
    with bare() as new:
        last = run(tmp_path / "whole", old, new).steps[step, moment]
    occurrences, killed = range(1, last + 1) if everywhere else [one_of(last, moment)], 0
    for occurrence in occurrences:
        home = tmp_path / f"{step.value}-{moment}-{occurrence}"
        with bare() as new:
            point = Point(step, moment, occurrence)
            killed += run(home, old, new, point).was_killed(point)
            ended = run(home, old, new)
            assert ended.code == 0, ended.stderr
            found = {name.decode(): Counter(one.octets for one in box.mail) for name, box in new.boxes.items()}
            assert found == {name: Counter(letters) for name, letters in SENT.items()}, f"{moment} {occurrence}"
            again = run(home, old, new)
            assert (again.code, again.stdout) == (0, "")
            assert sum(map(Counter.total, found.values())) == sum(len(box.mail) for box in new.boxes.values())
    assert killed > len(occurrences) // 2


def bare() -> FakeImap:
    server = FakeImap()
    server.inside = BARE
    return server


def test_killed_in_the_middle(tmp_path: Path, old: FakeImap) -> None:
    kill_at(tmp_path, old, Step.LEDGER_COMMIT, "before", everywhere=False)


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_killed_at_every_occurrence(tmp_path: Path, old: FakeImap, step: Step, moment: Moment) -> None:
    kill_at(tmp_path, old, step, moment, everywhere=True)
