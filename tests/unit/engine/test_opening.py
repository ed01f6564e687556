"""When a destination that has mailboxes of its own is signed in to: with the source, later, or never."""

from __future__ import annotations

import threading

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Rules
from syncd.engine.turn import Turn
from syncd.errors import AuthRefused, ConnectionLost
from syncd.mail.mailbox import MAILDROP, Mailbox, Path
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.support.engine import Make, mail, source

WAIT_S = 30.0  # only a test that fails waits so long
SENT = Mailbox(b"Sent", ("Sent",), "\\Sent", contents=b"1")


class Filed(Relay):
    """A server with mailboxes; `uses` is what a sign-in tells, see `Rules`."""

    def __init__(self, tells: dict[str, Path] | None = None) -> None:
        super().__init__()
        self.uses: dict[str, Path] = {}
        self._tells = tells or {}

    def open(self) -> None:
        super().open()
        self.uses.update(self._tells)

    def mailbox_key(self, path: Path) -> str:
        return "/".join(path)


class Met(Filed):
    """Is open when the source was connected to meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.connected = threading.Event()
        self.met = False

    def open(self) -> None:
        super().open()
        self.met = self.connected.wait(WAIT_S)


def test_source_and_destination_are_signed_in_to_at_the_same_time(make: Make, monkeypatch: pytest.MonkeyPatch):
    new = Met()
    engine = make(3, {"new": new})
    monkeypatch.setattr(source(engine), "check", new.connected.set)  # which `connect` begins with
    assert engine.run().delivered == {"new": 3}
    assert new.met


def test_a_run_that_finds_nothing_new_signs_in_to_no_destination(make: Make):
    new = Filed()
    engine = make(3, {"new": new})
    source(engine).mailbox = MAILDROP._replace(contents=b"1")
    source(engine).others[SENT] = {}
    engine.run()
    assert new.opened == 1
    report = engine.run()
    assert (report.exit_code, report.listed, new.opened) == (ExitCode.DONE, 3, 1)
    new.failure = AuthRefused("the server refuses to sign in")
    assert engine.run().exit_code is ExitCode.DONE
    source(engine).mail[b"more"] = b"Subject: more\r\n\r\n"
    source(engine).mailbox = MAILDROP._replace(contents=b"2")
    report = engine.run()
    assert report.exit_code is ExitCode.SIGN_IN_REFUSED
    new.failure = None
    engine.by_hand = True
    assert engine.run().delivered == {"new": 1}
    assert new.opened == 3


def test_a_destination_with_mailboxes_that_refuses_to_sign_in_is_suspended(make: Make):
    """It was asked again by every run of a schedule, and many servers lock an account after a few attempts."""
    new = Filed()
    engine = make(1, {"new": new})
    new.failure = AuthRefused("the server refuses to sign in")
    report = engine.run()
    assert report.exit_code is ExitCode.SIGN_IN_REFUSED
    assert "suspended until" in report.errors[0]
    new.failure = None
    report = engine.run()
    assert (report.exit_code, new.opened) == (ExitCode.SIGN_IN_REFUSED, 1)
    assert "suspended until" in report.errors[0]
    engine.by_hand = True
    assert engine.run().delivered == {"new": 1}
    engine.by_hand = False
    assert engine.run().exit_code is ExitCode.DONE


@pytest.mark.parametrize("beside", [{}, {"home": MemoryArchive()}])
def test_nothing_is_fetched_for_a_destination_that_cannot_be_opened(make: Make, beside: dict[str, MemoryArchive]):
    new = Filed()
    new.failure = ConnectionLost("away")
    engine = make(3, {**beside, "new": new})
    engine.run()
    report = engine.run()
    assert (report.exit_code, report.fetched) == (ExitCode.TEMPORARY, 0)
    assert report.errors == ["new: away" if beside else "away"]
    assert engine.states("new") == ({"PENDING": list(mail(3))} if beside else {})
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_special_uses_are_known_before_paths_are_compared(make: Make):
    """Otherwise two mailboxes would become one, as only the destination says which path its \\Sent has."""
    new = Filed({"\\Sent": ("Elsewhere",)})
    engine = make(1, {"new": new}, rules={"new": Rules(uses=new.uses, names={"INBOX": ("Elsewhere",)})})
    source(engine).others[SENT] = {b"1": b"Subject: sent\r\n\r\n"}
    report = engine.run()
    assert report.exit_code is ExitCode.CONFIG_INVALID
    assert "would become one mailbox" in report.errors[0]


def test_nobody_has_the_turn_while_a_destination_is_opened(make: Make, monkeypatch: pytest.MonkeyPatch):
    """Its connection may be at work for another job, whose threads would wait for ours."""
    turns: list[Turn] = []
    free: list[bool] = []

    class Seen(Turn):
        def __init__(self) -> None:
            super().__init__()
            turns.append(self)

    class Waiting(Filed):
        def open(self) -> None:
            super().open()
            free.append(not turns[-1]._lock.locked())

    monkeypatch.setattr("syncd.engine.writer.Turn", Seen)
    engine = make(3, {"new": Waiting()})
    source(engine).mailbox = MAILDROP._replace(contents=b"1")
    engine.run()
    source(engine).mail[b"more"] = b"Subject: more\r\n\r\n"
    source(engine).mailbox = MAILDROP._replace(contents=b"2")
    assert engine.run().delivered == {"new": 1}
    assert free == [True, True]
