"""What became of a batch: legal moves, problems and their back-off, what is told twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from syncd.db.ledger.backoff import DELIVERY, FETCH
from syncd.db.models import deliveries, messages
from syncd.db.rows import MailboxScope, WorkRow
from syncd.db.states import DELIVERY_MOVES, DeliveryState, MessageState
from syncd.errors import Conflict, MessageRefused, Retry
from syncd.mail.message import Key
from syncd.mail.outcome import Verdict
from tests.support.ledger import FIRST, START, VERDICTS, Bench, Clock, digest, outcome, uids

TARGETS = {
    "d": DeliveryState.DELIVERED,
    "l": DeliveryState.DEFERRED,
    "r": DeliveryState.REJECTED,
    "u": DeliveryState.UNCERTAIN,
    "n": DeliveryState.PENDING,
    "s": DeliveryState.SENDING,
}
BY_A_RUN = {DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN}


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job()


@pytest.fixture
def row(bench: Bench, scope: MailboxScope) -> WorkRow:
    return bench.work(scope, uids("a"))[b"a"]


def put(bench: Bench, key: Key, state: DeliveryState) -> None:
    with bench.database.write() as connection:
        connection.execute(update(deliveries).where(deliveries.c.message_id == key).values(state=state))


def delivery(bench: Bench, key: Key) -> tuple[DeliveryState, int | None, str | None]:
    with bench.database.read() as connection:
        found = connection.execute(
            select(deliveries.c.state, deliveries.c.at, deliveries.c.receipt).where(deliveries.c.message_id == key)
        ).one()
    return DeliveryState(found.state), found.at, found.receipt


# --- stored ------------------------------------------------------------------------------------------------


def test_what_was_fetched_is_noted(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    bench.commit(scope, row, octets=b"Subject: x\r\n\r\nbody")
    with bench.database.read() as connection:
        found = connection.execute(select(messages)).one()
    octets, sha256, header_hash = digest(b"Subject: x\r\n\r\nbody")
    assert (found.octets, bytes(found.sha256), bytes(found.header_hash)) == (octets, sha256, header_hash)
    assert (found.state, found.listed_octets) == (MessageState.FETCHED, 10)


def test_a_message_read_from_an_archive_stays_absent(bench: Bench) -> None:
    scope = bench.job("as")
    found = bench.work(scope, uids("a"))[b"a"]
    bench.commit(scope, found, "d-")
    bench.listed(scope, [])
    bench.commit(scope, found, "-d")
    assert bench.states(scope) == {b"a": "MISSING"}
    assert bench.delivery_states(scope) == {b"a": "DD"}


def test_an_unknown_message_is_a_conflict(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    with pytest.raises(Conflict, match="no row"):
        bench.ledger.commit(scope.run, [(Key(row.key + 1), *digest(b"x"))], [], [])


# --- outcomes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", VERDICTS)
@pytest.mark.parametrize("before", DeliveryState)
def test_every_move_is_in_the_table_or_refused(
    bench: Bench, scope: MailboxScope, row: WorkRow, before: DeliveryState, letter: str
) -> None:
    put(bench, row.key, before)
    target = TARGETS[letter]
    legal = before is target or (target in DELIVERY_MOVES[before] and before in BY_A_RUN)
    outcomes = [(scope.routes[0].id, outcome(row.key, letter))]
    if legal:
        bench.ledger.commit(scope.run, [], outcomes, [])
        assert delivery(bench, row.key)[0] is target
    else:
        with pytest.raises(Conflict, match=f"is {before.name} and may not become {target.name}"):
            bench.ledger.commit(scope.run, [(row.key, *digest(b"x"))], outcomes, [])
        assert delivery(bench, row.key)[0] is before
        assert bench.states(scope) == {b"a": "LISTED"}  # nothing of the transaction is left


def test_an_outcome_on_a_route_that_was_not_planned_is_a_conflict(
    bench: Bench, scope: MailboxScope, row: WorkRow
) -> None:
    wider = bench.add_route(scope, "s")
    with pytest.raises(Conflict, match="is not planned"):
        bench.ledger.commit(wider.run, [], [(wider.routes[1].id, outcome(row.key))], [])


def test_a_delivery_keeps_its_time_and_its_hint(bench: Bench, scope: MailboxScope, row: WorkRow, at: Clock) -> None:
    bench.commit(scope, row, hint="cur/1:2,S")
    first = int(START.timestamp())
    assert delivery(bench, row.key) == (DeliveryState.DELIVERED, first, "cur/1:2,S")
    at.later(days=1)
    bench.commit(scope, row)  # told twice is told once
    assert delivery(bench, row.key) == (DeliveryState.DELIVERED, first, "cur/1:2,S")


def test_an_empty_hint_takes_no_room(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    bench.commit(scope, row)
    assert delivery(bench, row.key)[2] is None


def test_a_batch_of_every_kind(bench: Bench, at: Clock) -> None:
    scope = bench.job("as")
    found = bench.work(scope, uids(*"abcde"))
    one, two = (route.id for route in scope.routes)
    key = {uid: row.key for uid, row in found.items()}
    bench.sending(scope, *((key[uid], two) for uid in (b"a", b"b", b"c", b"d")))
    bench.ledger.commit(
        scope.run,
        [(key[uid], *digest(uid)) for uid in (b"a", b"b", b"c", b"d")],
        [
            *((one, outcome(key[uid])) for uid in (b"a", b"b", b"c")),
            (one, outcome(key[b"d"], "r")),
            (two, outcome(key[b"a"])),
            (two, outcome(key[b"b"], "l")),
            (two, outcome(key[b"c"], "u")),
            (two, outcome(key[b"d"], "n")),
        ],
        [(key[b"e"], MessageRefused("-ERR no such message"))],
    )
    assert bench.delivery_states(scope) == {b"a": "DD", b"b": "DL", b"c": "DU", b"d": "RP", b"e": "PP"}
    assert bench.states(scope)[b"e"] == "UNFETCHABLE"
    later = at.now + FETCH[0]
    assert bench.troubles() == {
        (key[b"b"], two): ("because", 1, at.now + DELIVERY[0]),
        (key[b"c"], two): ("because", 1, None),
        (key[b"d"], one): ("because", 1, None),
        (key[b"d"], two): ("because", 1, at.now),
        (key[b"e"], 0): ("-ERR no such message", 1, later),
    }


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_batches_of_every_size(bench: Bench, scope: MailboxScope, count: int) -> None:
    lines = uids(*(f"m{number:04}" for number in range(count)))
    found = bench.work(scope, lines, page=1000)
    stored = [(row.key, *digest(uid)) for uid, row in found.items()]
    bench.ledger.commit(scope.run, stored, [(scope.routes[0].id, outcome(row.key)) for row in found.values()], [])
    assert set(bench.states(scope).values()) == {"FETCHED"}
    assert set(bench.delivery_states(scope).values()) == {"D"}
    with bench.database.read() as connection:
        kept = connection.execute(select(messages.c.uid, messages.c.sha256)).all()
    assert all(digest(bytes(uid))[1] == bytes(sha256) for uid, sha256 in kept)


def test_nothing_at_all_may_be_committed(bench: Bench, scope: MailboxScope) -> None:
    bench.ledger.commit(scope.run, [], [], [])
    assert bench.fenced == 1


# --- problems ----------------------------------------------------------------------------------------------


class TooOld(MessageRefused):
    retry = Retry.NEVER


def test_an_unfetchable_message_is_tried_again_ever_later(
    bench: Bench, scope: MailboxScope, row: WorkRow, at: Clock
) -> None:
    for attempt, pause in enumerate((*FETCH, None), 1):
        bench.fail(scope, row.key, f"refused the {attempt}th time")
        expected = None if pause is None else at.now + pause
        assert bench.troubles() == {(row.key, 0): (f"refused the {attempt}th time", attempt, expected)}
        again = bench.work(scope, uids("a"))[b"a"]
        assert (again.state, again.attempts, again.retry_at) == (MessageState.UNFETCHABLE, attempt, expected)
        at.later(days=2)
    assert [pause.total_seconds() for pause in FETCH] == [300, 3600, 86400, 86400]


def test_a_success_clears_the_problem(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    bench.fail(scope, row.key)
    bench.commit(scope, row)
    assert bench.troubles() == {}
    assert bench.states(scope) == {b"a": "FETCHED"}


def test_a_success_clears_its_own_problem_only(bench: Bench) -> None:
    scope = bench.job("as")
    found = bench.work(scope, uids("a", "b"))
    for uid in (b"a", b"b"):
        bench.commit(scope, found[uid], "ll")
    bench.commit(scope, found[b"a"], "d-")
    left = {(key, route) for key, route in bench.troubles()}
    one, two = (route.id for route in scope.routes)
    assert left == {(found[b"a"].key, two), (found[b"b"].key, one), (found[b"b"].key, two)}


def test_an_error_that_never_mends_waits_for_a_person(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    bench.ledger.commit(scope.run, [], [], [(row.key, TooOld("too large"))])
    assert bench.troubles() == {(row.key, 0): ("too large", 1, None)}


def test_a_failure_after_it_was_fetched_once(bench: Bench, row: WorkRow, scope: MailboxScope) -> None:
    bench.commit(scope, row)
    bench.fail(scope, row.key)
    assert bench.states(scope) == {b"a": "FETCHED"}


def test_s01_s03_deferrals_are_tried_again_for_five_days(
    bench: Bench, scope: MailboxScope, row: WorkRow, at: Clock
) -> None:
    """S03: never within five minutes; S01: ever later, for five days, then a person decides."""
    route = scope.routes[0].id
    assert DELIVERY[0] == timedelta(minutes=5)
    assert list(DELIVERY) == sorted(DELIVERY)
    assert timedelta(days=5) <= sum(DELIVERY, timedelta()) < timedelta(days=6)
    for attempt, pause in enumerate((*DELIVERY, None), 1):
        bench.commit(scope, row, "l")
        expected = None if pause is None else at.now + pause
        assert bench.troubles()[row.key, route] == ("because", attempt, expected)
        at.now = expected or at.now
        assert set(bench.work(scope, uids("a"))) == ({b"a"} if expected else set())


def test_the_servers_own_time_counts_more(bench: Bench, scope: MailboxScope, row: WorkRow, at: Clock) -> None:
    when = at.now + timedelta(hours=7)
    bench.commit(scope, row, "l", retry_at=when)
    assert bench.troubles()[row.key, scope.routes[0].id][2] == when


def test_s22_a_time_that_the_server_names_is_no_attempt_but_is_not_believed_for_ever(
    bench: Bench, scope: MailboxScope, row: WorkRow, at: Clock
) -> None:
    """A daily limit, asked for again each hour, parked a message for a person after twelve of them."""
    route = scope.routes[0].id
    bench.commit(scope, row, "l")
    begun = at.now
    while at.later(hours=1) - begun <= sum(DELIVERY, timedelta()):
        bench.commit(scope, row, "l", retry_at=at.now + timedelta(hours=1))
        assert bench.troubles()[row.key, route] == ("because", 1, at.now + timedelta(hours=1))
    bench.commit(scope, row, "l", retry_at=at.now + timedelta(hours=1))
    assert bench.troubles()[row.key, route][2] is None
    bench.ledger.decisions.retry([(row.key, route)])
    bench.commit(scope, row, "l", retry_at=at.later(hours=1))
    assert bench.troubles()[row.key, route][2] == at.now, "a person makes it begin again"


def test_a_reason_is_one_short_printable_line(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    bench.fail(scope, row.key, "a\nb\0c" + "x" * 5000)
    (reason, *_), *_ = bench.troubles().values()
    assert reason.startswith("a\\nb\\x00c")
    assert len(reason) < 600


def test_an_outcome_without_a_reason_is_explained_anyway(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    silent = outcome(row.key, "l")._replace(reason="")
    bench.ledger.commit(scope.run, [], [(scope.routes[0].id, silent)], [])
    assert bench.troubles()[row.key, scope.routes[0].id][0] == Verdict.DEFERRED.value


def test_an_error_that_reaches_further_is_not_the_messages(bench: Bench, scope: MailboxScope, row: WorkRow) -> None:
    with pytest.raises(AssertionError):
        bench.ledger.commit(scope.run, [], [], [(row.key, Conflict("of the run"))])
    assert bench.troubles() == {}


# --- refill ------------------------------------------------------------------------------------------------


def test_a_route_whose_archive_is_filled_again_waits_for_all_it_had(bench: Bench) -> None:
    scope = bench.job("as")
    found = bench.work(scope, uids("a", "b"))
    bench.commit(scope, found[b"a"], "dd", hint="x")
    bench.commit(scope, found[b"b"], "rd")
    bench.refill(scope.routes[0])
    assert bench.delivery_states(scope) == {b"a": "PD", b"b": "RD"}
    with bench.database.read() as connection:
        first = connection.execute(select(deliveries).where(deliveries.c.state == DeliveryState.PENDING)).one()
    assert (first.at, first.receipt) == (None, None)
    assert set(bench.work(scope, uids("a", "b"))) == {b"a"}


# --- backfill ----------------------------------------------------------------------------------------------


def test_backfill_is_what_an_archive_has_and_another_destination_lacks(bench: Bench, at: Clock) -> None:
    scope = bench.job("aas")
    lines = uids("all", "none", "first", "second", "account", "later")
    found = bench.work(scope, lines)
    first, second, third = (route.id for route in scope.routes)
    bench.commit(scope, found[b"all"], "ddd")
    bench.commit(scope, found[b"first"], "d--", hint="here")
    bench.commit(scope, found[b"second"], "-d-")
    bench.commit(scope, found[b"account"], "--d")
    bench.commit(scope, found[b"later"], "dll")
    rows = bench.ledger.backfill(scope.run, FIRST, 10)
    assert [(row.uid, row.pending_mask, row.delivered_mask, row.hints) for row in rows] == [
        (b"first", 0b110, 0b001, {first: "here"}),
        (b"second", 0b101, 0b010, {second: ""}),
    ]
    row = rows[0]
    assert (row.key, row.mailbox_id, row.epoch, row.occurrence) == (found[b"first"].key, scope.mailbox_id, 1, 1)
    assert (row.octets, bytes(row.sha256)) == digest(b"octets")[:2]
    assert third
    assert [row.uid for row in bench.ledger.backfill(scope.run, row.key, 10)] == [b"second"]
    assert [row.uid for row in bench.ledger.backfill(scope.run, FIRST, 1)] == [b"first"]
    at.later(hours=1)
    assert [row.uid for row in bench.ledger.backfill(scope.run, FIRST, 10)] == [b"first", b"second", b"later"]


def test_backfill_goes_on_after_messages_left_the_server(bench: Bench) -> None:
    scope = bench.job("as")
    bench.commit(scope, bench.work(scope, uids("a"))[b"a"], "d-")
    for state in ("MISSING", "GONE"):
        bench.listed(scope, [])
        assert bench.states(scope) == {b"a": state}
        assert [row.uid for row in bench.ledger.backfill(scope.run, FIRST, 10)] == [b"a"]
    other = bench.job("as", account=scope.run.account_id)
    assert bench.ledger.backfill(other.run, FIRST, 10) == []
