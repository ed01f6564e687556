"""Destinations that cannot be asked what they have: committed as they come, uncertain where it is, stopped in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from syncd.db.ledger import of_account, of_route
from syncd.db.ledger.backoff import MAX_UNCERTAIN
from syncd.db.models import routes
from syncd.db.states import DeliveryState
from syncd.engine.exit_codes import ExitCode
from syncd.engine.handshake import CHUNK_MESSAGES
from syncd.engine.pipe import DIRECT_MOST, MAX_WAITING
from syncd.errors import AuthRefused, ConnectFailed, ConnectionLost, StorageError
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Verdict
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Broken, Relay
from tests.support.engine import Engine, Make, mail, source
from tests.support.ledger import START as NOW
from tests.unit.engine.conftest import Time


def in_order(engine: Engine) -> list[bytes]:
    return list(source(engine).mail)


# --- committed as they come --------------------------------------------------------------------------------


def test_sending_is_committed_before_the_last_octets_leave(make: Make):
    relay = Relay()
    engine = make(3, {"new": relay})
    seen: list[dict[str, int]] = []

    def look(_: object) -> None:
        seen.append({state: len(uids) for state, uids in engine.states("new").items()})

    relay.on_sending = look
    assert engine.run().exit_code is ExitCode.DONE
    assert seen == [
        {"SENDING": 1, "PENDING": 2},
        {"DELIVERED": 1, "SENDING": 1, "PENDING": 1},
        {"DELIVERED": 2, "SENDING": 1},
    ]
    assert relay.copies == dict.fromkeys(mail(3), 1)


def commits_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The outcomes of each commit from now on."""
    commits: list[int] = []
    real = engine.ledger.commit

    def commit(scope: Any, stored: Any, outcomes: Any, *others: Any, **more: Any) -> None:
        commits.append(len(outcomes))
        real(scope, stored, outcomes, *others, **more)

    monkeypatch.setattr(engine.ledger, "commit", commit)
    return commits


def test_outcomes_and_the_next_sending_share_a_transaction(make: Make, monkeypatch: pytest.MonkeyPatch):
    engine = make(20, {"new": Relay()})
    commits = commits_of(engine, monkeypatch)
    assert engine.run().delivered == {"new": 20}
    assert sum(commits) == 40
    assert len(commits) <= 20 + 3 + 2 * (20 // 10)  # one each, those of batches, and the last of each chunk


def test_a_batch_of_a_repeat_safe_destination_is_one_commit(make: Make, monkeypatch: pytest.MonkeyPatch):
    engine = make(20, {"home": MemoryArchive()})
    commits = commits_of(engine, monkeypatch)
    engine.run()
    assert commits == [20]


# --- archives first ----------------------------------------------------------------------------------------


def test_with_an_archive_beside_it_the_session_ends_first(make: Make):
    relay, archive = Relay(), MemoryArchive()
    engine = make(30, {"home": archive, "new": relay})
    source(engine).on_finish = lambda: asked.append(len(relay.begun))
    asked: list[int] = []
    report = engine.run()
    assert asked == [0]  # nothing had been sent when the session was over
    assert (report.fetched, report.backfilled) == (30, 30)
    assert report.delivered == {"home": 30, "new": 30}
    assert relay.copies == dict.fromkeys(mail(30), 1)


def test_s03_what_was_deferred_is_later_read_from_the_archive(make: Make, at: Time):
    relay = Relay(["accept", "defer"])
    engine = make(3, {"home": MemoryArchive(), "new": relay})
    first = engine.run()
    assert (first.exit_code, first.waiting_time) == (ExitCode.TEMPORARY, 1)
    at(minutes=4)
    assert engine.run().delivered == {}  # S03: not within five minutes
    at(minutes=2)
    again = engine.run()
    assert (again.exit_code, again.fetched, again.backfilled) == (ExitCode.DONE, 0, 1)
    assert relay.begun.count(b"uid002") == 2
    assert relay.copies == dict.fromkeys(mail(3), 1)


def test_a_source_that_fails_does_not_keep_the_archive_from_being_read(make: Make, at: Time):
    relay = Relay(["defer"])
    engine = make(1, {"home": MemoryArchive(), "new": relay})
    engine.run()
    at(hours=1)
    source(engine).failure = ConnectFailed("no connection to the maildrop")
    report = engine.run()
    assert (report.exit_code, report.errors) == (ExitCode.TEMPORARY, ["no connection to the maildrop"])
    assert engine.states("new") == {"DELIVERED": [b"uid001"]}


def test_without_an_archive_no_more_is_fetched_than_is_delivered(make: Make):
    relay = Relay()
    engine = make(900, {"new": relay})
    ahead: list[int] = []
    relay.on_sending = lambda _: ahead.append(len(source(engine).fetched) - len(relay.begun))
    assert engine.run().delivered == {"new": 900}
    assert max(ahead) <= DIRECT_MOST * (MAX_WAITING + 2)  # in the pipe, in its open batch, and with the writer


def test_when_the_archive_fails_the_others_are_served_at_once(make: Make):
    archive = MemoryArchive()
    archive.failures = [StorageError("the disk is gone")]
    relay = Relay()
    engine = make(5, {"home": archive, "new": relay})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert report.delivered == {"home": 2, "new": 3}  # what the archive took before is served from there
    assert engine.run().delivered == {"home": 3, "new": 2}
    assert relay.copies == dict.fromkeys(mail(5), 1)


class Choosy(MemoryArchive):
    """Rejects one message."""

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        taken = [message for message in batch if message.ref.uid != b"uid002"]
        yield from super().deliver(taken, upcoming)
        yield [Outcome(m.key, Verdict.REJECTED, reason="other octets") for m in batch if m.ref.uid == b"uid002"]


def test_what_the_archive_does_not_take_is_sent_while_it_is_here(make: Make):
    relay = Relay()
    engine = make(3, {"home": Choosy(), "new": relay})
    report = engine.run()
    assert (report.exit_code, report.delivered, report.backfilled) == (ExitCode.WAITING, {"home": 2, "new": 3}, 2)
    assert engine.run().fetched == 0


def test_a_message_that_was_not_delivered_keeps_the_session_from_ending_well(make: Make):
    engine = make(2, {"new": Relay(["defer"])})
    engine.run()
    assert [session.ended for session in source(engine).sessions] == ["closed"]


# --- uncertain ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "copies"), [(["lost"], 2), (["lost-early"], 1), (["silent"], 2), (["cut"], 2)])
def test_s09_a_lost_reply_is_recorded_and_sent_again_by_the_next_run(make: Make, script: list[str], copies: int):
    relay = Relay(script)
    engine = make(3, {"home": MemoryArchive(), "new": relay})
    first = engine.run()
    assert (first.exit_code, first.uncertain) == (ExitCode.TEMPORARY, 1)
    assert engine.uncertain("new") == {b"uid001": 1}
    assert b"uid001" in engine.states("new")["PENDING"]
    second = engine.run()
    assert (second.exit_code, second.uncertain) == (ExitCode.DONE, 0)
    assert relay.copies == {b"uid001": copies, b"uid002": 1, b"uid003": 1}
    assert engine.uncertain("new") == {b"uid001": 1}  # for good
    (told,) = engine.ledger.problems(engine.row.id)
    assert (told.uid, told.delivery, told.uncertain) == (b"uid001", DeliveryState.DELIVERED, 1)


def test_s09_by_the_policy_hold_it_waits_for_a_person(make: Make):
    relay = Relay(["lost"])
    engine = make(2, {"new": relay}, hold=frozenset({"new"}))
    first = engine.run()
    assert (first.exit_code, first.waiting_person, first.uncertain) == (ExitCode.WAITING, 1, 1)
    assert engine.run().delivered == {}
    assert engine.states("new") == {"HELD": [b"uid001"], "DELIVERED": [b"uid002"]}
    assert relay.copies == dict.fromkeys(mail(2), 1)


def test_s04_a_destination_that_fails_leaves_uncertain_what_it_had_sent_and_nothing_else(make: Make):
    relay = Relay(["accept", "accept", "cut"], window=2)
    engine = make(5, {"home": MemoryArchive(), "new": relay})
    report = engine.run()
    assert (report.exit_code, report.uncertain) == (ExitCode.TEMPORARY, 2)
    assert engine.uncertain("new") == {b"uid002": 1, b"uid003": 1}
    assert engine.states("new") == {"DELIVERED": [b"uid001"], "PENDING": [b"uid002", b"uid003", b"uid004", b"uid005"]}
    assert "the server closed the connection" in next(iter(engine.ledger.problems())).reason


def test_s09_what_a_dead_run_left_sending_is_uncertain(make: Make):
    relay = Relay()
    engine = make(3, {"home": MemoryArchive(), "new": relay})

    class Killed(BaseException):
        pass

    def die(_: object) -> None:
        raise Killed

    relay.on_sending = die
    with pytest.raises(Killed):
        engine.run()
    assert engine.states("new")["SENDING"] == [b"uid001"]
    relay.on_sending = lambda _: None
    report = engine.run()
    assert (report.exit_code, report.uncertain, report.delivered) == (ExitCode.DONE, 1, {"new": 3})
    assert engine.uncertain("new") == {b"uid001": 1}
    assert any("recorded as uncertain" in str(event) for event in engine.events)


def test_s09_a_server_that_swallows_replies_does_not_get_copies_for_ever(make: Make, at: Time):
    relay = Relay(["lost"] * 100)
    engine = make(1, {"new": relay})
    for _ in range(20):
        engine.run()
        at(days=2)
    assert relay.copies == {b"uid001": MAX_UNCERTAIN + 1}
    assert engine.uncertain("new") == {b"uid001": MAX_UNCERTAIN + 1}
    assert engine.states("new") == {"HELD": [b"uid001"]}


def test_s09_it_is_sent_again_ever_later(make: Make, at: Time):
    relay = Relay(["lost", "lost"])
    engine = make(1, {"new": relay})
    engine.run()
    engine.run()
    assert engine.run().delivered == {}
    at(minutes=5)
    assert engine.run().delivered == {"new": 1}


# --- refused -----------------------------------------------------------------------------------------------


def test_s01_what_is_refused_waits_for_a_person_and_the_rest_goes_on(make: Make):
    relay = Relay(["reject", "accept", "large"])
    engine = make(4, {"new": relay})
    report = engine.run()
    assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 2)
    assert engine.states("new") == {"REJECTED": [b"uid001", b"uid003"], "DELIVERED": [b"uid002", b"uid004"]}


@pytest.mark.parametrize(("script", "hold"), [(["reject"], frozenset()), (["lost"], frozenset({"new"}))])
def test_a_run_that_finds_nothing_new_still_says_that_messages_wait_for_a_person(
    make: Make, script: list[str], hold: frozenset[str]
):
    """It ended with 0 where the listing was the same as before."""
    engine = make(3, {"new": Relay(script)}, hold=hold)
    assert (engine.run().exit_code, engine.run().unchanged) == (ExitCode.WAITING, True)
    again = engine.run()
    assert (again.exit_code, again.unchanged, again.waiting_person) == (ExitCode.WAITING, True, 1)
    engine.ledger.decisions.drop([(row.key, row.route_id) for row in engine.ledger.problems()], engine.row.id)
    assert (engine.run().exit_code, engine.run().waiting_person) == (ExitCode.DONE, 0)


def test_s02_a_destination_that_refuses_everything_is_stopped_and_no_message_is_to_blame(make: Make):
    relay = Relay(["reject"] * 500)
    engine = make(300, {"home": MemoryArchive(), "new": relay})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    (line,) = report.errors
    assert line.startswith("new: the server refused 10 messages in a row and accepted none (550 5.7.60 ")
    assert "syncd run job --no-brake" in line
    assert len(relay.begun) == 10
    assert set(engine.states("new")) == {"PENDING"}
    assert list(engine.ledger.problems()) == []
    assert engine.states("home").keys() == {"DELIVERED"}
    relay.script.clear()
    assert (engine.run().exit_code, relay.opened) == (ExitCode.TEMPORARY, 1)  # suspended
    engine.by_hand = True
    assert engine.run().delivered == {"new": 300}
    engine.by_hand = False
    assert engine.ledger.suspensions.find([of_route(engine.routes["new"].id)]) == {}


def test_s02_an_account_that_is_blocked_in_the_middle(make: Make):
    relay = Relay(["accept"] * 50 + ["reject"] * 500)
    engine = make(300, {"home": MemoryArchive(), "new": relay})
    assert engine.run().exit_code is ExitCode.TEMPORARY
    states = {state: len(uids) for state, uids in engine.states("new").items()}
    assert states == {"DELIVERED": 50, "PENDING": 250}
    assert len(relay.begun) <= 50 + CHUNK_MESSAGES


def test_s02_the_only_destination(make: Make):
    relay = Relay(["reject"] * 500)
    engine = make(50, {"new": relay})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert set(engine.states("new")) == {"PENDING"}
    assert len(relay.begun) == 10


def test_s02_a_person_may_want_each_of_them_rejected(make: Make):
    relay = Relay(["reject"] * 30)
    engine = make(30, {"new": relay}, brake=False)
    report = engine.run()
    assert (report.exit_code, report.waiting_person) == (ExitCode.WAITING, 30)


def test_nine_refusals_are_about_messages(make: Make):
    engine = make(20, {"new": Relay(["reject"] * 9)})
    assert engine.run().waiting_person == 9


@pytest.mark.parametrize("answer", ["reject", "busy"])
@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("count", [3, 8])
def test_s02_a_small_queue_that_is_refused_as_a_whole_stays_pending(
    make: Make,
    at: Time,
    count: int,
    archive: bool,  # noqa: FBT001
    answer: str,
):
    relay = Relay([answer] * count)
    engine = make(count, {"home": MemoryArchive(), "new": relay} if archive else {"new": relay})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert f"the server refused {count} messages in a row and accepted none" in report.errors[0]
    assert set(engine.states("new")) == {"PENDING"}
    assert list(engine.ledger.problems()) == []
    assert (engine.run().exit_code, relay.opened) == (ExitCode.TEMPORARY, 1)  # suspended
    at(hours=1)
    assert engine.run().delivered["new"] == count
    assert relay.copies == dict.fromkeys(mail(count), 1)


def test_s02_a_small_queue_of_which_one_is_accepted_is_not_held_up(make: Make):
    engine = make(4, {"new": Relay(["reject", "busy", "accept", "busy"])})
    assert engine.run().waiting_person == 1
    assert engine.states("new") == {
        "REJECTED": [b"uid001"],
        "DEFERRED": [b"uid002", b"uid004"],
        "DELIVERED": [b"uid003"],
    }


def test_s02_two_refusals_are_about_messages(make: Make):
    engine = make(2, {"new": Relay(["reject"] * 2)})
    assert (engine.run().exit_code, engine.states("new").keys()) == (ExitCode.WAITING, {"REJECTED"})


def test_s02_messages_that_are_at_fault_do_not_hold_up_the_ones_behind_them(make: Make, at: Time):
    """Three that a spam filter refuses were pending, and newer mail was never tried."""
    relay = Relay(["reject"] * 10 + ["reject"] * 3 + ["accept"])
    engine = make(14, {"new": relay})  # one batch
    assert engine.run().exit_code is ExitCode.TEMPORARY
    at(hours=1)
    report = engine.run()
    assert (report.delivered, report.waiting_person) == ({"new": 11}, 3)
    assert relay.begun[10:14] == [b"uid001", b"uid002", b"uid003", b"uid014"]


# --- suspended ---------------------------------------------------------------------------------------------


def test_s22_a_server_that_has_enough_is_suspended_until_then(make: Make, at: Time):
    relay = Relay(["accept", "throttle"])
    relay.until = NOW + timedelta(hours=2)
    engine = make(3, {"home": MemoryArchive(), "new": relay})
    report = engine.run()
    assert (report.exit_code, report.suspended) == (ExitCode.TEMPORARY, {"new": relay.until})
    goes_on = f"it goes on at {relay.until.astimezone():%Y-%m-%d %H:%M}"
    assert report.errors == [f"new: 421 4.7.0 too many messages; {goes_on}"]
    assert (report.delivered, report.queued) == ({"home": 3, "new": 1}, {"new": 2})
    at(hours=1)
    again = engine.run()
    assert (again.exit_code, relay.opened) == (ExitCode.TEMPORARY, 1)  # not even connected to
    assert (again.errors, again.queued) == (report.errors, report.queued)
    at(hours=1)
    last = engine.run()
    assert (last.delivered, last.queued) == ({"new": 2}, {})
    assert relay.copies == dict.fromkeys(mail(3), 1)


def test_s22_a_person_lets_it_go_on_earlier(make: Make, at: Time):
    relay = Relay(["throttle"])
    relay.until = NOW + timedelta(days=1)
    engine = make(1, {"new": relay})
    assert engine.run().exit_code is ExitCode.TEMPORARY
    assert source(engine).sessions[-1].ended == "closed"
    report = engine.run()
    assert (report.exit_code, report.queued) == (ExitCode.TEMPORARY, {"new": 1})
    assert len(source(engine).sessions) == 1  # there is nothing to fetch for
    engine.ledger.decisions.resume(engine.row.id)
    assert engine.run().delivered == {"new": 1}


def test_s22_by_hand_a_servers_word_counts_anyway(make: Make, at: Time):
    relay = Relay(["throttle"])
    relay.until = NOW + timedelta(days=1)
    engine = make(1, {"new": relay}, by_hand=True)
    assert (engine.run().exit_code, engine.run().exit_code, relay.opened) == (5, 5, 1)


def test_f08_a_source_that_refuses_to_sign_in_is_suspended_ever_longer(make: Make, at: Time):
    engine = make(1, {"home": MemoryArchive()})
    source(engine).failure = AuthRefused("the server says no; check the password")
    for minutes, tries in ((0, 1), (14, 1), (2, 2), (29, 2), (2, 3)):
        at(minutes=minutes)
        report = engine.run()
        assert (report.exit_code, source(engine).connects) == (ExitCode.SIGN_IN_REFUSED, tries)
        assert "suspended until" in report.errors[0]
    source(engine).failure = None
    assert (engine.run().exit_code, source(engine).connects) == (ExitCode.SIGN_IN_REFUSED, 3)
    engine.by_hand = True
    assert engine.run().exit_code is ExitCode.DONE
    assert engine.ledger.suspensions.find([of_account(engine.account.id)]) == {}


def test_s21_two_recipients_of_an_account_are_one_sign_in(make: Make, at: Time):
    relays = {"one": Refusing(), "two": Refusing()}
    engine = make(2, relays)
    with engine.database.write() as connection:
        connection.execute(update(routes).values(account_id=engine.routes["one"].account_id))
    engine.row = engine.catalog.find_job("job") or engine.row
    engine.routes = dict(zip(engine.routes, engine.row.routes, strict=True))
    report = engine.run()
    assert (report.exit_code, set(report.suspended)) == (ExitCode.SIGN_IN_REFUSED, {"one", "two"})
    assert sum(len(relay.batches) for relay in relays.values()) == 1


class Refusing(Relay):
    """Lets nobody in."""

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:  # noqa: ARG002
        self.batches.append(len(batch))
        raise AuthRefused("535 5.7.8 no")
        yield


# --- several -----------------------------------------------------------------------------------------------


def test_one_that_fails_is_left_out_and_its_deliveries_stay_pending(make: Make):
    engine = make(3, {"one": Relay(["accept", "cut"]), "two": Relay()})
    report = engine.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert report.delivered == {"one": 1, "two": 3}
    assert engine.states("one") == {"DELIVERED": [b"uid001"], "PENDING": [b"uid002", b"uid003"]}
    assert engine.run().delivered == {"one": 2}


def test_nothing_is_fetched_for_a_destination_that_is_left_out(make: Make):
    two = Relay()
    engine = make(3, {"one": Broken(ConnectionLost("away")), "two": two})
    assert engine.run().delivered == {"two": 3}
    assert engine.run().fetched == 0
    assert engine.states("one") == {"PENDING": in_order(engine)}


# --- stopped -----------------------------------------------------------------------------------------------


def test_a_cancelled_run_leaves_nothing_uncertain(make: Make):
    relay = Relay()
    engine = make(200, {"home": MemoryArchive(), "new": relay})
    run = engine.prepare()
    relay.on_sending = lambda _: run.cancel() if len(relay.begun) == 30 else None
    report = engine.finish(run)
    assert report.exit_code is ExitCode.INTERRUPTED
    assert report.uncertain == 0
    assert {state: len(uids) for state, uids in engine.states("new").items()} == {"DELIVERED": 30, "PENDING": 170}
