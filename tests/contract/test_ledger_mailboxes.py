"""Several mailboxes in one account: registered, compared, emptied; messages that move; epochs that a server sets."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.db.rows import BackfillRow, Became, Freeze, KnownMailbox, MailboxScope
from syncd.errors import Conflict
from syncd.mail.mailbox import Epoch, Mailbox, ModSeq
from syncd.mail.message import Key
from tests.support.ledger import FIRST, Bench, Clock, add, box, digest, totals, uids, was, with_routes

TOKEN = b"4 3"


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job("as")


def pulled(bench: Bench, scope: MailboxScope, mailbox: Mailbox, *names: str) -> MailboxScope:
    """A mailbox whose messages were listed, fetched and delivered."""
    here = bench.known(scope, mailbox).scope
    bench.pull(here, uids(*names))
    return here


# --- registered --------------------------------------------------------------------------------------------


def test_mailboxes_are_registered_in_the_order_they_are_listed(bench: Bench, scope: MailboxScope) -> None:
    listed = [box(b"B"), box(b"A", use="\\Sent"), box(b"&AP8-", subscribed=False)]
    known = bench.ledger.mailboxes.known(scope.run, listed)
    assert [it.scope.mailbox for it in known] == listed
    assert len({it.scope.mailbox_id for it in known}) == 3
    assert {it.scope.epoch for it in known} == {1}
    found = bench.ledger.mailboxes.find(scope.run)
    assert [found[it.scope.mailbox_id].mailbox for it in known] == listed
    assert found[scope.mailbox_id].mailbox == scope.mailbox


def test_what_mailboxes_became_is_known_for_each_destination(bench: Bench) -> None:
    scope = bench.job("as")
    first, second = (route.id for route in scope.routes)
    other = bench.known(scope, Mailbox(b"\xff", ("R&D",)))
    ledger = bench.ledger.mailboxes
    ledger.become(first, {(scope.mailbox_id, ""): Became(("Gesendet", "2026"), by_use=False)})
    ledger.become(first, {(other.scope.mailbox_id, use): Became((use[1:],), by_use=True) for use in ("\\Sent", "")})
    ledger.become(second, {(scope.mailbox_id, ""): Became(("Out",), by_use=False)})
    ledger.become(first, {(scope.mailbox_id, ""): Became(("Sent",), by_use=True)})
    assert ledger.became(scope.run.account_id, first) == {
        (scope.mailbox.name, ""): Became(("Sent",), by_use=True),
        (b"\xff", "\\Sent"): Became(("Sent",), by_use=True),
        (b"\xff", ""): Became(("",), by_use=True),
    }
    assert ledger.became(scope.run.account_id, second) == {(scope.mailbox.name, ""): Became(("Out",), by_use=False)}
    assert ledger.became(scope.run.account_id + 1, first) == {}


def test_a_known_list_of_mailboxes_writes_nothing(bench: Bench, scope: MailboxScope) -> None:
    listed = [box(b"%d" % number) for number in range(1200)]
    first = bench.ledger.mailboxes.known(scope.run, listed)
    before = bench.fenced
    assert bench.ledger.mailboxes.known(scope.run, listed) == first
    assert bench.fenced == before


@pytest.mark.parametrize("facts", [{"path": ("X", "Y")}, {"use": "\\Junk"}, {"subscribed": False}])
def test_facts_about_a_mailbox_follow_the_server(bench: Bench, scope: MailboxScope, facts: dict[str, Any]) -> None:
    changed = scope.mailbox._replace(**facts)
    assert bench.known(scope, changed).scope.mailbox_id == scope.mailbox_id
    assert bench.ledger.mailboxes.find(scope.run)[scope.mailbox_id].mailbox == changed


def test_a_new_mailbox_begins_in_the_epoch_that_the_server_names(bench: Bench, scope: MailboxScope) -> None:
    named = bench.known(scope, box(b"Sent", validity=Epoch(1_700_000_000)))
    assert named.scope.epoch == 1_700_000_000
    later = bench.known(scope, box(b"Sent", validity=Epoch(7)))
    assert later.scope.epoch == 1_700_000_000, "the listing finds that it changed"
    assert bench.ledger.mailboxes.current(later.scope) == later.scope


def test_accounts_have_mailboxes_of_their_own(bench: Bench, scope: MailboxScope) -> None:
    other = bench.job()
    assert bench.known(other, box(b"Sent")).scope.mailbox_id != bench.known(scope, box(b"Sent")).scope.mailbox_id
    assert set(bench.ledger.mailboxes.find(other.run)).isdisjoint(bench.ledger.mailboxes.find(scope.run))


# --- planned -----------------------------------------------------------------------------------------------


def known(bench: Bench, scope: MailboxScope, **facts: Any) -> KnownMailbox:
    return bench.known(scope, box(b"Sent", **{"contents": TOKEN, "validity": Epoch(9), **facts}))


@pytest.fixture
def sent(bench: Bench, scope: MailboxScope) -> MailboxScope:
    """A mailbox with a token, all of whose messages are delivered."""
    return pulled(bench, scope, box(b"Sent", contents=TOKEN, validity=Epoch(9), modseq=ModSeq(5)), "1", "2")


def test_a_mailbox_that_shows_the_token_it_was_planned_with_need_not_be_opened(
    bench: Bench, scope: MailboxScope, sent: MailboxScope
) -> None:
    found = known(bench, scope)
    assert (found.planned, found.is_open, found.present) == (True, False, 2)
    assert found.scope.mailbox_id == sent.mailbox_id


@pytest.mark.parametrize("facts", [{"contents": b"5 3"}, {"contents": b""}, {"validity": Epoch(10)}])
def test_another_token_or_none_is_listed(
    bench: Bench, scope: MailboxScope, sent: MailboxScope, facts: dict[str, Any]
) -> None:
    assert not known(bench, scope, **facts).planned
    assert sent.epoch == 9


def test_a_mailbox_without_a_token_is_always_listed(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a"))
    assert not bench.known(scope, scope.mailbox).planned


def test_every_route_must_have_been_planned_with_the_token(
    bench: Bench, scope: MailboxScope, sent: MailboxScope
) -> None:
    wider = bench.add_route(scope, "a")
    assert not known(bench, wider).planned
    assert known(bench, with_routes(scope, scope.routes[0])).planned
    assert not known(bench, bench.job(account=scope.run.account_id)).planned
    bench.pull(bench.known(wider, sent.mailbox).scope, uids("1", "2"))
    assert known(bench, wider).planned


@pytest.mark.parametrize("how", [{"suspicious": True}, {"total": 5}])
def test_an_unsure_listing_does_not_count(bench: Bench, scope: MailboxScope, how: dict[str, Any]) -> None:
    here = known(bench, scope).scope
    bench.listed(here, uids("1"), **how)
    assert not known(bench, scope).planned


def test_a_missing_message_or_an_open_delivery_keeps_a_mailbox_open(bench: Bench, scope: MailboxScope) -> None:
    """A token may stand still while a message is missing: it would never be found to be gone."""
    here = known(bench, scope).scope
    (row,) = bench.work(here, uids("1")).values()
    assert known(bench, scope).is_open
    bench.commit(here, row, "dl")
    assert known(bench, scope).is_open
    bench.sending(here, (row.key, scope.routes[1].id))
    bench.commit(here, row, "-d")
    assert not known(bench, scope).is_open
    bench.listed(here, [])
    assert (known(bench, scope).planned, known(bench, scope).is_open) == (True, True)
    bench.listed(here, [])
    assert not known(bench, scope).is_open
    assert not bench.known(scope, scope.mailbox).is_open, "of another mailbox"


def test_the_same_lines_under_another_token_are_planned_with_it(
    bench: Bench, scope: MailboxScope, sent: MailboxScope
) -> None:
    """A message came and went: the next run skips the mailbox again."""
    moved_on = known(bench, scope, contents=b"6 3")
    assert not bench.listed(moved_on.scope, uids("1", "2")).unchanged
    assert known(bench, scope, contents=b"6 3").planned
    assert not known(bench, scope).planned
    assert sent.mailbox_id == moved_on.scope.mailbox_id


# --- no longer listed --------------------------------------------------------------------------------------


def test_a_mailbox_that_is_listed_no_more_loses_its_messages_by_and_by(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a"))
    old = pulled(bench, scope, box(b"Old"), "1", "2")
    seen = {scope.mailbox_id}
    assert bench.ledger.mailboxes.unlisted(scope.run, {*seen, old.mailbox_id}) == []
    for state in ("MISSING", "GONE"):
        (gone,) = bench.ledger.mailboxes.unlisted(scope.run, seen)
        assert (gone.mailbox_id, gone.mailbox, gone.epoch) == (old.mailbox_id, old.mailbox, old.epoch)
        bench.listed(gone, [])
        assert bench.states(old) == {b"1": state, b"2": state}
    assert bench.ledger.mailboxes.unlisted(scope.run, seen) == []
    assert bench.states(scope) == {b"a": "FETCHED"}


def test_a_mailbox_without_messages_is_not_missed(bench: Bench, scope: MailboxScope) -> None:
    bench.known(scope, box(b"Empty"))
    assert bench.ledger.mailboxes.unlisted(scope.run, ()) == []


# --- messages that move ------------------------------------------------------------------------------------


def test_a_message_that_moved_to_another_mailbox_is_not_delivered_again(bench: Bench, scope: MailboxScope) -> None:
    inbox, other = pulled(bench, scope, box(), "a", "b"), bench.known(scope, box(b"Archive")).scope
    bench.listed(inbox, uids("b"))
    (row,) = bench.work(other, uids("9")).values()
    assert bench.ledger.rebind(other, [(row.key, *digest(was(b"a")))]) == {row.key: 0b11}
    assert bench.states(inbox) == {b"a": "GONE", b"b": "FETCHED"}
    assert bench.states(other) == {b"9": "FETCHED"}
    assert bench.delivery_states(other) == {b"9": "DD"}
    assert bench.work(other, uids("9")) == {}
    assert bench.ledger.accounting(scope.run).final == 3


def test_a_message_of_a_mailbox_that_was_renamed_is_known(bench: Bench, scope: MailboxScope) -> None:
    """The server lists another mailbox instead: the old one is recorded as empty first."""
    pulled(bench, scope, box(b"Old", validity=Epoch(5)), "1", "2")
    new = bench.known(scope, box(b"New", validity=Epoch(6))).scope
    for gone in bench.ledger.mailboxes.unlisted(scope.run, {new.mailbox_id, scope.mailbox_id}):
        bench.listed(gone, [])
    rows = bench.work(new, uids("1", "2"))
    known_ = bench.ledger.rebind(new, [(row.key, *digest(was(uid))) for uid, row in rows.items()])
    assert set(known_.values()) == {0b11}
    assert bench.delivery_states(new) == {b"1": "DD", b"2": "DD"}


def test_a_copy_in_another_mailbox_is_a_message_of_its_own(bench: Bench, scope: MailboxScope) -> None:
    pulled(bench, scope, box(), "a")
    other = bench.known(scope, box(b"Archive")).scope
    (row,) = bench.work(other, uids("9")).values()
    assert bench.ledger.rebind(other, [(row.key, *digest(was(b"a")))]) == {}


def test_other_accounts_are_other_mail(bench: Bench, scope: MailboxScope) -> None:
    stranger = bench.job("as")
    pulled(bench, stranger, box(), "a")
    bench.listed(stranger, [])
    (row,) = bench.work(scope, uids("9")).values()
    assert bench.ledger.rebind(scope, [(row.key, *digest(was(b"a")))]) == {}


def test_a_missing_message_waits_for_what_another_mailbox_has_to_fetch(bench: Bench, scope: MailboxScope) -> None:
    """A run broke off between the listing and the fetch: the next one may still recognise it there."""
    inbox, other = pulled(bench, scope, box(), "a"), bench.known(scope, box(b"Archive")).scope
    bench.listed(inbox, [])
    (row,) = bench.work(other, uids("9")).values()
    for _ in range(3):
        bench.listed(inbox, [])
        assert bench.states(inbox) == {b"a": "MISSING"}
    assert bench.ledger.rebind(other, [(row.key, *digest(was(b"new")))]) == {}
    bench.commit(other, row, "dd", octets=was(b"new"))
    bench.listed(inbox, [])
    assert bench.states(inbox) == {b"a": "GONE"}


# --- epochs ------------------------------------------------------------------------------------------------


def renumbered(bench: Bench, scope: MailboxScope, to: int, lines: list[tuple[bytes, int]]) -> MailboxScope:
    """The server gives the mailbox another UIDVALIDITY, and its messages uids from the start."""
    with bench.ledger.listing(scope) as session:
        add(session, lines)
        bumped = session.bump_epoch(Freeze.VALIDITY, "UIDVALIDITY changed", to=Epoch(to))
        session.record(totals(lines), suspicious=True)
    assert bumped.epoch == to
    return bumped


@pytest.mark.parametrize("to", [8, 10])
def test_uidvalidity_may_rise_or_fall(bench: Bench, scope: MailboxScope, sent: MailboxScope, to: int) -> None:
    lines = uids("1", "2")
    bumped = renumbered(bench, sent, to, lines)
    assert bench.frozen(scope) == {b"Sent": "UIDVALIDITY changed"}
    assert bench.states(bumped) == {b"1": "LISTED", b"2": "LISTED"}
    with pytest.raises(Conflict, match=f"epoch {to}"):
        bench.listed(sent, lines)
    rows = bench.work(bumped, lines)
    swapped = {b"1": b"2", b"2": b"1"}
    batch = [(row.key, *digest(was(swapped[uid]))) for uid, row in rows.items()]
    assert set(bench.ledger.rebind(bumped, batch).values()) == {0b11}
    assert bench.delivery_states(bumped) == {b"1": "DD", b"2": "DD"}
    assert set(bench.states(bumped, epoch=9).values()) == {"GONE"}
    assert bench.listed(bumped, lines).listed == 2
    assert bench.known(scope, sent.mailbox._replace(validity=Epoch(to))).planned


def test_an_epoch_that_returns_knows_its_messages(bench: Bench, scope: MailboxScope, sent: MailboxScope) -> None:
    """A server was restored from a backup, and then the backup of the backup: nothing is sent again."""
    lines = uids("1", "2")
    bumped = renumbered(bench, sent, 8, lines)
    bench.pull(bumped, lines)
    back = renumbered(bench, bumped, 9, lines)
    assert back == sent
    assert bench.states(back) == {b"1": "FETCHED", b"2": "FETCHED"}
    assert bench.work(back, lines) == {}
    assert bench.delivery_states(back) == {b"1": "DD", b"2": "DD"}
    assert bench.ledger.accounting(scope.run).listed == 2


def test_an_epoch_of_an_empty_mailbox_changes_without_a_freeze(bench: Bench, scope: MailboxScope) -> None:
    here = bench.known(scope, box(b"New", validity=Epoch(5))).scope
    with bench.ledger.listing(here) as session:
        add(session, uids("1"))
        bumped = session.bump_epoch(None, "", to=Epoch(6))
        session.record(totals(uids("1")))
    assert bumped.epoch == 6
    assert bench.frozen(scope) == {}


# --- the whole account -------------------------------------------------------------------------------------


def test_accounts_are_of_all_mailboxes_each_in_its_own_epoch(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a"))
    second = bench.known(scope, box(b"Sent", validity=Epoch(9))).scope
    rows = bench.work(second, uids("1", "2"))
    bench.commit(second, rows[b"1"], "dr")
    assert bench.ledger.any_problem(scope.run)
    assert bench.ledger.queues(scope.run) == {scope.routes[1].name: 1}
    found = bench.ledger.accounting(scope.run)
    assert (found.listed, found.due, found.waiting_person, found.final) == (3, 1, 1, 1)
    bumped = renumbered(bench, second, 3, uids("1"))
    found = bench.ledger.accounting(scope.run)
    assert (found.listed, found.due, found.waiting_person, found.final) == (2, 1, 0, 1)
    assert bumped.mailbox_id == second.mailbox_id


def test_backfill_goes_through_all_mailboxes_by_key(bench: Bench, scope: MailboxScope, at: Clock) -> None:
    other = bench.known(scope, box(b"Sent", validity=Epoch(9))).scope
    for here, name in ((scope, "a"), (other, "1"), (scope, "b")):
        lines = uids(*(["a", "b"] if here is scope and name == "b" else [name]))
        row = bench.work(here, lines)[name.encode()]
        bench.commit(here, row, "d-")
    found: list[BackfillRow] = []
    after: Key = FIRST
    while page := bench.ledger.backfill(scope.run, after, 2):
        found += page
        after = page[-1].key
    assert [(row.mailbox_id, row.epoch, row.uid) for row in found] == [
        (scope.mailbox_id, 1, b"a"),
        (other.mailbox_id, 9, b"1"),
        (scope.mailbox_id, 1, b"b"),
    ]


def test_one_listing_leaves_other_mailboxes_as_they_are(bench: Bench, scope: MailboxScope) -> None:
    bench.pull(scope, uids("a", "b"))
    other = pulled(bench, scope, box(b"Sent"), "a", "b")
    bench.listed(other, [])
    assert bench.states(scope) == {b"a": "FETCHED", b"b": "FETCHED"}
    assert bench.listed(scope, uids("a", "b")).unchanged
