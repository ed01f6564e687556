"""A new ledger learns from an archive what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from syncd.db.ledger.seeding import CHUNK, MAY_BE_SENT, TICK
from syncd.db.models import deliveries, mailboxes, messages, planned
from syncd.db.rows import MailboxScope
from syncd.db.states import DeliveryState, MessageState
from syncd.mail.mailbox import INBOX, Epoch
from syncd.mail.message import MessageRef, Origin, Uid
from syncd.mail.outcome import Place
from tests.support.ledger import LETTERS, Bench, Clock, add, digest, totals, with_routes

ACCOUNT = UUID(int=7)


def place(
    uid: bytes, *, mailbox: bytes = INBOX, epoch: int = 1, nth: int = 1, octets: bytes | None = None, hint: str = ""
) -> Place:
    origin = Origin(ACCOUNT, "road", mailbox, Epoch(epoch), (mailbox.decode(errors="replace"),))
    size, sha256, header_hash = digest(uid + b"\r\n\r\n" if octets is None else octets)
    return Place(MessageRef(origin, Uid(uid), nth), sha256, size, header_hash, hint)


def sized(*names: str) -> list[tuple[bytes, int]]:
    """Lines of a listing with the sizes that `places` have."""
    return [(name.encode(), len(name) + 4) for name in names]


def places(*names: bytes) -> Iterator[Place]:
    return iter([place(name) for name in names])


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job()


@pytest.fixture
def route(scope: MailboxScope) -> int:
    return scope.routes[0].id


def epochs(bench: Bench) -> dict[bytes, int]:
    with bench.database.read() as connection:
        found = connection.execute(select(mailboxes.c.name, mailboxes.c.epoch)).all()
    return {bytes(name): epoch for name, epoch in found}


def test_what_the_archive_holds_is_not_fetched(bench: Bench, scope: MailboxScope, route: int) -> None:
    assert bench.ledger.archives.seed(scope.run, route, places(b"a", b"b", b"gone")) == 3
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED", b"gone": "FETCHED"}
    report = bench.listed(scope, sized("a", "b", "new"))
    assert (report.new, report.known, report.missing) == (1, 2, 1)
    assert bench.delivery_states(scope) == {b"a": "D", b"b": "D", b"gone": "D", b"new": "P"}
    assert set(bench.work(scope, sized("a", "b", "new"))) == {b"new"}


def test_all_that_is_known_of_a_message_is_noted(bench: Bench, scope: MailboxScope, route: int, at: Clock) -> None:
    bench.ledger.archives.seed(scope.run, route, iter([place(b"a", nth=2, octets=b"Subject: x", hint="cur/1")]))
    with bench.database.read() as connection:
        message = connection.execute(select(messages)).one()
        delivery = connection.execute(select(deliveries)).one()
    octets, sha256, header_hash = digest(b"Subject: x")
    assert (message.octets, bytes(message.sha256), bytes(message.header_hash)) == (octets, sha256, header_hash)
    assert (message.occurrence, message.listed_octets, message.state) == (2, octets, MessageState.FETCHED)
    assert (delivery.at, delivery.receipt) == (int(at.now.timestamp()), "cur/1")


def test_seeding_again_changes_nothing(bench: Bench, scope: MailboxScope, route: int, at: Clock) -> None:
    bench.ledger.archives.seed(scope.run, route, places(b"a", b"b"))
    at.later(days=1)
    assert bench.ledger.archives.seed(scope.run, route, places(b"b", b"a", b"c", b"c")) == 1
    assert set(bench.delivery_states(scope).values()) == {"D"}
    with bench.database.read() as connection:
        times = set(connection.execute(select(deliveries.c.at)).scalars())
    assert len(times) == 2  # a and b keep theirs


def test_many_places_come_in_several_transactions(bench: Bench, scope: MailboxScope, route: int) -> None:
    count = 2 * CHUNK + 1
    assert bench.ledger.archives.seed(scope.run, route, (place(b"%d" % number) for number in range(count))) == count
    assert bench.fenced == 4  # and one for what is of earlier epochs
    assert len(bench.states(scope)) == count


def test_what_was_taken_in_before_a_failure_stays(bench: Bench, scope: MailboxScope, route: int) -> None:
    def broken() -> Iterator[Place]:
        yield from (place(b"%d" % number) for number in range(CHUNK + 1))
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        bench.ledger.archives.seed(scope.run, route, broken())
    assert len(bench.states(scope)) == CHUNK
    assert bench.ledger.archives.unplanned(scope.run, [route]) == {route}
    assert bench.ledger.archives.seed(scope.run, route, (place(b"%d" % number) for number in range(CHUNK + 5))) == 5


# --- mailboxes and epochs ----------------------------------------------------------------------------------


def test_mailboxes_of_any_name_and_epoch(bench: Bench, scope: MailboxScope, route: int) -> None:
    found = [
        place(b"1", mailbox=b"INBOX", epoch=2),
        place(b"1", mailbox=b"INBOX", epoch=4),
        place(b"2", mailbox=b"INBOX", epoch=3),
        place(b"1", mailbox=b"\xffSent &- Items\0", epoch=977),
    ]
    assert bench.ledger.archives.seed(scope.run, route, iter(found)) == 4
    assert epochs(bench) == {b"INBOX": 4, b"\xffSent &- Items\0": 977}
    assert bench.ledger.mailboxes.current(scope) == replace(scope, epoch=Epoch(4))
    assert bench.states(scope, epoch=4) == {b"1": "FETCHED"}
    assert bench.states(scope, epoch=2) == {b"1": "FETCHED"}


def test_the_epoch_of_a_mailbox_that_was_listed_stays(bench: Bench, scope: MailboxScope, route: int) -> None:
    bench.listed(scope, sized("a"))
    bench.ledger.archives.seed(scope.run, route, iter([place(b"a", epoch=3)]))
    assert epochs(bench) == {b"INBOX": 1}
    assert bench.listed(scope, sized("a")).new == 0


def test_p06_what_came_under_earlier_names_may_be_bound_again(bench: Bench, scope: MailboxScope, route: int) -> None:
    old = place(b"old", octets=b"one\r\n\r\n")
    bench.ledger.archives.seed(scope.run, route, iter([old, place(b"a", epoch=2)]))
    scope = bench.ledger.mailboxes.current(scope)
    assert (scope.epoch, bench.disposals(scope)) == (2, {b"old": "FROZEN", b"a": "KEPT"})
    row = bench.work(scope, [*sized("a"), (b"new", 7)])[b"new"]
    assert bench.ledger.rebind(scope, [(row.key, *digest(b"one\r\n\r\n"))]) == {row.key: 1}
    assert bench.delivery_states(scope) == {b"a": "D", b"new": "D"}


def test_a_higher_epoch_in_a_later_chunk(bench: Bench, scope: MailboxScope, route: int) -> None:
    many = [place(b"%d" % number, epoch=1 if number < CHUNK else 2) for number in range(CHUNK + 1)]
    bench.ledger.archives.seed(scope.run, route, iter(many))
    assert epochs(bench) == {b"INBOX": 2}


# --- nothing is taken back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("before", DeliveryState)
def test_no_delivery_is_taken_back(bench: Bench, scope: MailboxScope, route: int, before: DeliveryState) -> None:
    bench.pull(scope, sized("a"))
    with bench.database.write() as connection:
        connection.execute(update(deliveries).values(state=before))
    final = before in {DeliveryState.DELIVERED, DeliveryState.SKIPPED, DeliveryState.DROPPED}
    assert bench.ledger.archives.seed(scope.run, route, places(b"a")) == (0 if final else 1)
    after = before if final else DeliveryState.DELIVERED
    assert bench.delivery_states(scope) == {b"a": LETTERS[after]}


def test_what_a_crash_kept_from_being_noted_is_noted(bench: Bench, scope: MailboxScope, route: int) -> None:
    found = bench.work(scope, sized("a", "b", "c"))
    bench.fail(scope, found[b"b"].key)
    bench.commit(scope, found[b"c"], "l", octets=b"c\r\n\r\n")
    assert bench.ledger.archives.seed(scope.run, route, places(b"a", b"b", b"c")) == 3
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED", b"c": "FETCHED"}
    assert bench.work(scope, sized("a", "b", "c")) == {}
    assert not any(about for _, about in bench.troubles())


@pytest.mark.parametrize("listings", [1, 2])
def test_an_absent_message_stays_absent(bench: Bench, scope: MailboxScope, route: int, listings: int) -> None:
    bench.listed(scope, sized("a"))
    for _ in range(listings):
        bench.listed(scope, [])
    state = bench.states(scope)
    bench.ledger.archives.seed(scope.run, route, places(b"a"))
    assert bench.states(scope) == state
    bench.listed(scope, sized("a"))
    assert bench.states(scope) == {b"a": "FETCHED"}


def test_other_octets_under_the_same_name_prove_nothing(bench: Bench, scope: MailboxScope, route: int) -> None:
    bench.commit(scope, bench.work(scope, sized("a"))[b"a"], "-", octets=b"ours")
    assert bench.ledger.archives.seed(scope.run, route, iter([place(b"a", octets=b"theirs")])) == 0
    assert bench.delivery_states(scope) == {b"a": "P"}
    with bench.database.read() as connection:
        assert bytes(connection.execute(select(messages.c.sha256)).scalar_one()) == hashlib.sha256(b"ours").digest()


def test_one_route_is_seeded_and_no_other(bench: Bench) -> None:
    scope = bench.job("aa")
    other = bench.job(account=scope.run.account_id)
    bench.ledger.archives.seed(scope.run, scope.routes[1].id, places(b"a"))
    assert bench.delivery_states(scope) == {b"a": ".D"}
    assert bench.delivery_states(other) == {b"a": "."}
    found = bench.work(scope, sized("a"))[b"a"]
    assert (found.pending_mask, found.delivered_mask) == (0b01, 0b10)


# --- when to ask -------------------------------------------------------------------------------------------


def test_a_route_is_asked_until_a_listing_was_planned_for_it(bench: Bench) -> None:
    scope = bench.job("aa")
    narrow = with_routes(scope, scope.routes[0])
    first, second = (route.id for route in scope.routes)
    assert bench.ledger.archives.unplanned(scope.run, [first]) == {first}
    bench.ledger.archives.seed(scope.run, first, places(b"a"))
    assert bench.ledger.archives.unplanned(scope.run, [first]) == {
        first
    }  # the archive may not have been read to its end
    for _ in range(40):
        bench.listed(narrow, sized("a"))
    assert bench.ledger.archives.unplanned(scope.run, [first]) == set()
    assert bench.ledger.archives.unplanned(scope.run, [second]) == {second}
    bench.listed(scope, sized("a"))
    assert bench.ledger.archives.unplanned(scope.run, [second]) == set()


def test_seeding_while_a_listing_is_open(bench: Bench, scope: MailboxScope, route: int) -> None:
    with bench.ledger.listing(scope) as session:
        add(session, sized("a"))
        bench.ledger.archives.seed(scope.run, route, places(b"b"))
        assert session.record(totals(sized("a"))).missing == 1


def test_what_the_server_lists_stays_its_word(bench: Bench, scope: MailboxScope, route: int) -> None:
    """A size that is not that of the octets was taken over: the next listing showed another message under the id."""
    bench.listed(scope, [(b"a", 3)])
    bench.ledger.archives.seed(scope.run, route, places(b"a"))
    bench.listed(scope, [(b"a", 3), (b"b", 3)])
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "LISTED"}
    with bench.database.read() as connection:
        assert connection.execute(select(messages.c.listed_octets, messages.c.octets)).first() == (3, 5)


def test_what_was_seeded_between_two_equal_listings_is_looked_for(
    bench: Bench, scope: MailboxScope, route: int
) -> None:
    """It was taken for present for ever: the second listing counted as unchanged."""
    bench.pull(scope, sized("a"))
    bench.listed(scope, sized("a"))
    bench.ledger.archives.seed(scope.run, route, places(b"b"))
    with bench.ledger.listing(scope) as session:
        add(session, sized("a"))
        assert session.overlap() == (1, 2, 1)
        assert session.record(totals(sized("a"))).missing == 1


def test_a_new_ledger_sends_nothing_again_by_itself(bench: Bench) -> None:
    """Whether an archived message went on by SMTP, only the lost ledger knew."""
    scope = bench.job("as")
    archive = scope.routes[0]
    bench.ledger.archives.seed(scope.run, archive.id, places(b"a", b"b"))
    bench.listed(scope, sized("a", "b", "new"))
    assert bench.delivery_states(scope) == {b"a": "DH", b"b": "DH", b"new": "PP"}
    reasons = {row.uid: (row.reason, row.retry_at) for row in bench.ledger.problems(scope.run.job_id)}
    assert reasons == {b"a": (MAY_BE_SENT, None), b"b": (MAY_BE_SENT, None)}
    assert bench.ledger.archives.seed(scope.run, archive.id, places(b"a", b"b")) == 0


def test_a_destination_that_can_be_asked_is_not_held(bench: Bench) -> None:
    """The destination is asked for a message before it is sent, whatever the ledger knows."""
    scope = bench.job("aqs")
    bench.ledger.archives.seed(scope.run, scope.routes[0].id, places(b"a"))
    bench.listed(scope, sized("a"))
    assert bench.delivery_states(scope) == {b"a": "DPH"}


@pytest.mark.parametrize("which", ["forgotten", "without routes"])
def test_a_mailbox_that_was_listed_is_known_whatever_is_planned(bench: Bench, which: str) -> None:
    """A route that comes into use again forgets its plan: neither its mail nor the epoch is in question."""
    scope = bench.job("s" if which == "forgotten" else "")
    bench.listed(scope, sized("a"))
    with bench.database.write() as connection:
        connection.execute(delete(planned))
    other = bench.job("as", account=scope.run.account_id)
    bench.ledger.archives.seed(other.run, other.routes[0].id, iter([place(b"a"), place(b"a", epoch=3)]))
    assert epochs(bench) == {b"INBOX": 1}
    assert bench.delivery_states(other) == {b"a": "D."}


def test_a_new_job_beside_a_known_mailbox_sends_what_its_archive_has(bench: Bench) -> None:
    first = bench.job("a")
    bench.pull(first, sized("a"))
    scope = bench.job("as", account=first.run.account_id)
    bench.ledger.archives.seed(scope.run, scope.routes[0].id, places(b"a"))
    bench.listed(scope, sized("a"))
    assert bench.delivery_states(scope) == {b"a": "DP"}


def test_what_was_found_as_it_was_filed_again_is_held_if_it_is_older_than_the_ledger(bench: Bench, at: Clock) -> None:
    scope = bench.job("ass")
    found = bench.work(scope, sized("old", "ours", "sent"))
    bench.commit(scope, found[b"sent"], "-dl")
    began = at.now
    at.later(days=1)
    bench.listed(scope, sized("old", "ours", "sent", "later"))
    told = [(found[b"old"].key, began - 2 * TICK), (found[b"ours"].key, began), (found[b"sent"].key, began - 2 * TICK)]
    assert bench.ledger.archives.hold_found(scope, told) == 3
    assert bench.delivery_states(scope) == {b"old": "PHH", b"ours": "PPP", b"sent": "PDH", b"later": "PPP"}
    reasons = [(row.uid, row.reason, row.retry_at) for row in bench.ledger.problems(scope.run.job_id)]
    assert sorted(reasons) == [(b"old", MAY_BE_SENT, None)] * 2 + [(b"sent", MAY_BE_SENT, None)]
    assert bench.ledger.archives.hold_found(scope, told) == 0
