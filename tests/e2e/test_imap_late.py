"""A server that carries out an APPEND after its session was lost, when the mailbox was asked once already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd import clock
from syncd.destinations.imap import late
from syncd.destinations.imap.late import LOOK_S, RECENT
from syncd.engine import context
from syncd.engine.events import Event, PhaseBegan
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import FakeImap
from tests.fakes.imap_words import Word
from tests.support.quick import SHIPPED_LATE_S

COUNT = 4
Peers = tuple[FakeImap, FakeImap]


class Naps:
    """A `clock` whose stopwatch stands still but while somebody sleeps, which takes no time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.at_each: Callable[[], None] = lambda: None
        began = clock.monotonic()
        patch.setattr(late, "LATE_S", SHIPPED_LATE_S)
        patch.setattr(clock, "sleep", self._sleep)
        patch.setattr(clock, "monotonic", lambda: began + self.seconds)

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.at_each()


class LateStore:
    """Loses the session at the first APPEND, and stores it after the `looks`-th look at the mailbox.

    With `closes=True` nobody is let in until `reopens`, so that the run ends and the next one asks.
    """

    def __init__(self, server: FakeImap, *, looks: int | None, closes: bool) -> None:
        self._server = server
        self._left = looks
        self._closes = closes
        self.held: list[bytes] | None = None
        self.looked = 0
        server.on["APPEND"] = self._append
        server.after["UNSELECT"] = self._unselected

    def _append(self, words: list[Word]) -> bytes | None:
        if self.held is not None:
            return None
        self.held = [word for word in words if isinstance(word, bytes) and word.startswith(b"Subject")]
        if self._closes:
            self._server.hangs_up_on = {"LOGIN", "AUTHENTICATE"}
        raise ConnectionError("lost, as the script says")

    def _unselected(self, answer: bytes, _: list[Word]) -> bytes:
        if self.held is not None:
            self.looked += 1
            if self.looked == self._left:
                self._server.box("INBOX").add(*self.held)
        return answer

    def reopens(self) -> None:
        self._server.hangs_up_on = set()


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        old.box("INBOX").add(*map(mail, range(COUNT)))
        yield old, new


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Naps:
    return Naps(monkeypatch)


def left_sending(tmp_path: Path, peers: Peers, *, looks: int | None) -> tuple[Bench, LateStore]:
    """A run that ended with its messages `sending`, at a server that lets us in again."""
    store = LateStore(peers[1], looks=looks, closes=True)
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is not ExitCode.DONE
    assert store.held
    store.reopens()
    return bench, store


def is_there_once(peers: Peers, bench: Bench) -> None:
    old, new = peers
    assert sorted(octets(new.box("INBOX").mail)) == sorted(octets(old.box("INBOX").mail))
    assert len(set(bench.receipts())) == COUNT


def test_stored_after_the_next_run_has_looked_once(tmp_path: Path, peers: Peers, naps: Naps) -> None:
    bench, store = left_sending(tmp_path, peers, looks=1)
    phases: list[str] = []
    naps.at_each = lambda: phases.append(f"after {naps.seconds:.0f} s")

    def hear(event: Event) -> None:
        if isinstance(event, PhaseBegan):
            phases.append(event.phase)

    [report] = RunsByHand(bench.loaded(), ["move"], RunOptions(), hear).execute()
    assert report.exit_code is ExitCode.DONE
    assert phases[:2] == ["recovering", "after 0 s"], "nothing was said while it waited"
    is_there_once(peers, bench)
    assert naps.seconds == pytest.approx(SHIPPED_LATE_S)
    assert store.looked == 2


def test_stored_after_the_same_run_has_looked_once(tmp_path: Path, peers: Peers, naps: Naps) -> None:
    LateStore(peers[1], looks=1, closes=False)
    bench = between(tmp_path, peers)
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)
    assert naps.seconds == pytest.approx(SHIPPED_LATE_S)


def test_never_stored_it_is_sent_again_after_one_wait(tmp_path: Path, peers: Peers, naps: Naps) -> None:
    bench, _ = left_sending(tmp_path, peers, looks=None)
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)
    assert naps.seconds == pytest.approx(SHIPPED_LATE_S)


def test_found_at_once_nobody_waits(tmp_path: Path, peers: Peers, naps: Naps) -> None:
    bench, store = left_sending(tmp_path, peers, looks=None)
    assert store.held is not None
    peers[1].box("INBOX").add(*store.held)
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)
    assert not naps.seconds


def test_long_ago_nobody_waits(tmp_path: Path, peers: Peers, naps: Naps, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, _ = left_sending(tmp_path, peers, looks=None)
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + RECENT)
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)
    assert not naps.seconds


def test_a_slice_that_ends_meanwhile_leaves_it_to_the_next_run(
    tmp_path: Path, peers: Peers, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _ = left_sending(tmp_path, peers, looks=1)
    with monkeypatch.context() as patch:
        naps.at_each = lambda: patch.setattr(context.Slice, "over", True)
        report = bench.run()
    assert naps.seconds == pytest.approx(LOOK_S)
    assert not report.delivered
    assert report.more
    naps.at_each = lambda: None
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)


def test_ctrl_c_ends_the_wait_and_leaves_it_to_the_next_run(tmp_path: Path, peers: Peers, naps: Naps) -> None:
    bench, _ = left_sending(tmp_path, peers, looks=1)
    runs = RunsByHand(bench.loaded(), ["move"], RunOptions(), lambda _: None)
    naps.at_each = runs.cancel
    [report] = runs.execute()
    assert report.exit_code is ExitCode.INTERRUPTED
    assert naps.seconds == pytest.approx(LOOK_S)
    naps.at_each = lambda: None
    assert bench.run().exit_code is ExitCode.DONE
    is_there_once(peers, bench)
