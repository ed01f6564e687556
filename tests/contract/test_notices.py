"""What people were told of jobs, on both databases, and the notifier that tells it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from syncd import clock
from syncd.db import notices, troubles
from syncd.db.instants import to_microseconds
from syncd.db.models import definitions, jobs
from syncd.db.rows import Paused
from syncd.errors import ConnectFailed
from syncd.services.notifier import CLAIM, PING_S, PURGE_S, Notifier
from syncd.services.notify import GAP, Message, marks_of
from syncd.settings.quiet import late_since
from tests.contract.test_figures import define
from tests.support.ledger import Bench, Clock


class Memory:
    """A channel that keeps what it is told."""

    name = "email"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def send(self, message: Message) -> None:
        self.meanwhile()
        if self.error is not None:
            raise self.error
        self.messages.append(message)


class Pings:
    def __init__(self) -> None:
        self.calls: list[bool] = []

    def send(self, *, well: bool) -> None:
        self.calls.append(well)
        raise ConnectFailed("https://hc.example.org/: refused")


def trouble(bench: Bench, job_id: int, kind: str, text: str = "") -> None:
    troubles.note(bench.database, job_id, kind, text)


def marks(bench: Bench, channel: str = "email") -> dict[int, str]:
    return {job_id: it.marks for job_id, it in notices.told(bench.database, channel).items()}


def test_jobs_that_people_may_have_to_be_told_of(bench: Bench, at: Clock) -> None:
    late, refused, paused = define(bench, late_after_s=60), define(bench), define(bench)
    define(bench, late_after_s=3600)
    define(bench, enabled=False, trouble="4 refused")
    define(bench, late_after_s=60, quiet_hours="12:00-13:00")
    trouble(bench, refused, "4 refused", "the password was refused")
    bench.change(jobs, paused, paused_since=to_microseconds(at.now), paused_why=Paused.DEATHS)
    began = at.now
    at.later(minutes=2)
    found = {it.job_id: it for it in notices.conditions(bench.database, at.now, late_since)}
    assert {job_id for job_id, it in found.items() if marks_of(it)} == {late, refused, paused}
    assert found[late].late_since == began + timedelta(minutes=1)
    assert (found[late].exit_code, found[late].paused) == (0, None)
    assert (found[refused].exit_code, found[refused].trouble, found[refused].trouble_since) == (
        4,
        "the password was refused",
        began,
    )
    assert (found[paused].paused, found[paused].paused_since) == (Paused.DEATHS, began)


def test_one_process_claims_a_message(bench: Bench, at: Clock) -> None:
    one, two = define(bench), define(bench)
    until = at.now + timedelta(minutes=2)
    wanted = [(one, ""), (two, "")]
    assert notices.claim(bench.database, "email", wanted, at.now, until) == {one, two}
    assert notices.claim(bench.database, "email", wanted, at.now, until) == set()
    assert notices.claim(bench.database, "webhook", wanted, at.now, until) == {one, two}
    notices.done(bench.database, "email", [(one, "late")], at.now)
    assert notices.claim(bench.database, "email", wanted, at.now, until) == set()  # it was told meanwhile
    assert notices.claim(bench.database, "email", [(one, "late")], at.now, until) == {one}
    at.later(minutes=2)  # whoever claimed the other died
    assert notices.claim(bench.database, "email", [(two, "")], at.now, at.now + CLAIM) == {two}
    assert notices.told(bench.database, "email")[two].at is None


def test_it_is_told_when_trouble_begins_and_when_it_ends(bench: Bench, at: Clock) -> None:
    job, channel = define(bench, name="road", late_after_s=3600), Memory()
    notifier = Notifier(bench.database, [channel])
    notifier.look(at.now)
    trouble(bench, job, "4 refused", "the password was refused")
    for _ in range(5):
        notifier.look(at.later(seconds=30))
    assert [message.title for message in channel.messages] == ['syncd: job "road" needs attention']
    trouble(bench, job, "", "")
    notifier.look(at.later(minutes=10))
    assert len(channel.messages) == 1
    notifier.look(at.later(minutes=60))  # it is late by now
    assert "is late: no run" in channel.messages[1].text
    assert "runs without errors again" in channel.messages[1].text
    with bench.database.write() as connection:
        connection.execute(update(jobs).values(succeeded_at=to_microseconds(at.now)))
    notifier.look(at.later(minutes=59))
    notifier.look(at.later(minutes=1))
    notifier.look(at.later(minutes=9))
    assert [message.title for message in channel.messages][2:] == ['syncd: job "road" is well again']
    assert marks(bench) == {job: ""}


def test_two_schedulers_tell_once(bench: Bench, at: Clock) -> None:
    define(bench, late_after_s=60)
    channel, other = Memory(), Memory()
    at.later(minutes=2)
    second = Notifier(bench.database, [other])
    channel.meanwhile = lambda: second.look(clock.now())
    Notifier(bench.database, [channel]).look(at.now)
    assert (len(channel.messages), len(other.messages)) == (1, 0)
    second.look(at.later(minutes=1))
    assert other.messages == []


def test_a_message_that_does_not_leave_is_tried_again_and_the_other_channel_goes_on(
    bench: Bench, at: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    job, mail, hook = define(bench, late_after_s=60), Memory(), Memory()
    hook.name = "webhook"
    mail.error = ConnectFailed("smtp.example.org:465: refused")
    notifier = Notifier(bench.database, [mail, hook])
    notifier.look(at.later(minutes=2))
    assert "notice.failed: email: smtp.example.org:465: refused" in caplog.text
    assert (len(mail.messages), len(hook.messages)) == (0, 1)
    mail.error = None
    notifier.look(at.later(minutes=4))
    assert mail.messages == []
    notifier.look(at.later(minutes=2))
    assert (len(mail.messages), len(hook.messages)) == (1, 1)
    assert marks(bench) == marks(bench, "webhook") == {job: "late"}


def test_many_jobs_are_one_message_and_the_next_waits(bench: Bench, at: Clock) -> None:
    first = [define(bench, late_after_s=60) for _ in range(3)]
    later = define(bench, late_after_s=130)
    channel = Memory()
    notifier = Notifier(bench.database, [channel])
    notifier.look(at.later(minutes=2))
    notifier.look(at.later(minutes=2))
    assert [message.title for message in channel.messages] == ["syncd: 3 jobs need attention"]
    notifier.look(at.later(seconds=GAP.total_seconds()))
    assert len(channel.messages) == 2
    assert set(marks(bench)) == {*first, later}


def test_secrets_are_blanked_everywhere(bench: Bench, at: Clock) -> None:
    job, channel = define(bench), Memory()
    trouble(bench, job, "1 x", "PASS hunter2 was repeated")
    Notifier(bench.database, [channel], blank=lambda text: text.replace("hunter2", "…")).look(at.now)
    (message,) = channel.messages
    assert "hunter2" not in f"{message}"
    assert "PASS … was repeated" in message.text
    assert "PASS … was repeated" in str(message.document)


def test_a_switch_is_called_while_all_is_well_and_told_when_it_is_not(
    bench: Bench, at: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    job, ping = define(bench), Pings()
    notifier = Notifier(bench.database, [], ping)  # type: ignore[arg-type]  # it only sends
    for _ in range(3):
        notifier.look(at.now)
    assert ping.calls == [True]
    assert "ping.failed: https://hc.example.org/: refused" in caplog.text
    seconds[0] += PING_S
    notifier.look(at.now)
    trouble(bench, job, "4 refused")
    notifier.look(at.now)
    notifier.look(at.now)
    assert ping.calls == [True, True, False]
    seconds[0] += PING_S
    notifier.look(at.now)
    trouble(bench, job, "")
    notifier.look(at.now)
    assert ping.calls == [True, True, False, False, True]


def test_jobs_that_are_well_or_gone_are_forgotten(bench: Bench, at: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    well, ill, gone = (define(bench) for _ in range(3))
    notices.claim(bench.database, "email", [(it, "") for it in (well, ill, gone)], at.now, at.now)
    notices.done(bench.database, "email", [(well, ""), (ill, "late"), (gone, "late")], at.now)
    with bench.database.write() as connection:
        connection.execute(definitions.delete().where(definitions.c.job_id == gone))
    notifier = Notifier(bench.database, [Memory()])
    seconds[0] += PURGE_S
    notifier.look(at.later(minutes=1))
    assert set(marks(bench)) == {well, ill}
    seconds[0] += PURGE_S
    notifier.look(at.later(days=2))
    assert set(marks(bench)) == {ill}


def test_a_tick_returns_at_once_and_is_left_out_while_one_is_under_way(bench: Bench, at: Clock) -> None:
    import threading

    define(bench, late_after_s=60)
    at.later(minutes=2)
    begun, goes_on = threading.Event(), threading.Event()
    channel: Any = Memory()

    def meanwhile() -> None:
        begun.set()
        goes_on.wait()

    channel.meanwhile = meanwhile
    notifier = Notifier(bench.database, [channel])
    notifier.tick()
    begun.wait()
    notifier.tick()
    assert notifier.wait(0) is False
    goes_on.set()
    assert notifier.wait(60) is True
    assert len(channel.messages) == 1
    Notifier(bench.database, []).tick()


def test_what_nobody_expected_does_not_end_it(bench: Bench, at: Clock, caplog: pytest.LogCaptureFixture) -> None:
    define(bench, late_after_s=60)
    at.later(minutes=2)
    channel = Memory()
    channel.error = ZeroDivisionError()
    notifier = Notifier(bench.database, [channel])
    for _ in range(2):
        notifier.tick()
        assert notifier.wait(60)
    assert "notices.failed" in caplog.text
    channel.error = None
    at.later(seconds=CLAIM.total_seconds())
    notifier.tick()
    assert notifier.wait(60)
    assert len(channel.messages) == 1
