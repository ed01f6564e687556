"""Intents: written with `sending`, found after a crash, gone with the outcome."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from syncd.db.models import accounts, intents, routes
from syncd.db.rows import Freeze, MailboxScope
from syncd.mail.message import Key, Receipt
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict
from tests.support.ledger import Bench, digest, uids

SENT = Intent(b"Sent \xff", 1 << 40, 17)


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job("as")


def begun(bench: Bench, scope: MailboxScope, *names: str, intent: Intent | None = SENT) -> list[Key]:
    """These are `sending` to the second destination."""
    found = bench.work(scope, uids(*names))
    for row in found.values():
        bench.commit(scope, row, "d-")
    keys = [row.key for row in found.values()]
    told(bench, scope, *(Outcome(key, Verdict.SENDING, intent=intent) for key in keys))
    return keys


def told(bench: Bench, scope: MailboxScope, *outcomes: Outcome) -> None:
    bench.ledger.commit(scope.run, [], [(scope.routes[1].id, outcome) for outcome in outcomes], [])


def left(bench: Bench) -> int:
    with bench.database.read() as connection:
        return connection.execute(select(func.count()).select_from(intents)).scalar_one()


def test_what_is_sending_is_found_with_its_intent(bench: Bench, scope: MailboxScope) -> None:
    octets, sha256, header_hash = digest(b"octets")
    keys = begun(bench, scope, "a", "b")
    expected = [Intended(key, octets, sha256, header_hash, SENT) for key in keys]
    found = bench.ledger.intents.find(scope.run, scope.routes[1].id)
    assert [one._replace(since=None) for one in found] == expected
    assert all(one.since is not None for one in found)
    assert bench.ledger.intents.find(scope.run, scope.routes[0].id) == []


def test_without_an_intent_it_is_found_all_the_same(bench: Bench, scope: MailboxScope) -> None:
    begun(bench, scope, "a", intent=None)
    assert [found.intent for found in bench.ledger.intents.find(scope.run, scope.routes[1].id)] == [None]


def test_an_outcome_ends_the_intent_and_another_attempt_has_a_new_one(bench: Bench, scope: MailboxScope) -> None:
    one, two = begun(bench, scope, "a", "b")
    told(bench, scope, Outcome(one, Verdict.DELIVERED, Receipt(b"", "1:17 Sent"), intent=SENT))
    told(bench, scope, Outcome(two, Verdict.NOT_SENT, intent=SENT))
    assert left(bench) == 0
    later = SENT._replace(following=18)
    told(bench, scope, Outcome(two, Verdict.SENDING, intent=SENT))
    told(bench, scope, Outcome(two, Verdict.SENDING, intent=later))
    assert [found.intent for found in bench.ledger.intents.find(scope.run, scope.routes[1].id)] == [later]
    assert bench.delivery_states(scope) == {b"a": "DD", b"b": "DS"}


def test_receipts_of_the_account_are_told_apart_from_other_uids(bench: Bench, scope: MailboxScope) -> None:
    one, two, three = begun(bench, scope, "a", "b", "c")
    noted = "1:19 Sent [altered by the destination: each NUL became 0x80]"
    for key, hint in ((one, "1:17 Sent"), (two, noted), (three, "1:20 Sent [1]")):
        told(bench, scope, Outcome(key, Verdict.DELIVERED, Receipt(b"", hint), intent=SENT))
    with bench.database.read() as connection:
        account_id = connection.execute(
            select(routes.c.account_id).where(routes.c.id == scope.routes[1].id)
        ).scalar_one()
        others = connection.execute(select(accounts.c.id).where(accounts.c.id != account_id)).scalars().all()
    hints = {f"1:{uid} Sent" for uid in range(1, 2000)}
    assert bench.ledger.intents.receipts(account_id, hints) == {"1:17 Sent", "1:19 Sent"}
    assert all(not bench.ledger.intents.receipts(other, hints) for other in others)


def test_a_message_under_a_new_id_is_asked_for_by_its_intent(bench: Bench, scope: MailboxScope) -> None:
    """The destination was away, and the source numbered its messages anew in the same run: nobody knew any more where
    the message had been put, and it was sent again."""
    octets, sha256, header_hash = digest(b"octets")
    [old] = begun(bench, scope, "a")
    with bench.ledger.listing(scope) as session:
        scope = session.bump_epoch(Freeze.RENAMED, "all names are new")
    [new] = [row.key for row in bench.work(scope, uids("z")).values()]
    bench.ledger.rebind(scope, [(new, octets, sha256, header_hash)])
    assert new != old
    expected = [Intended(new, octets, sha256, header_hash, SENT)]
    found = bench.ledger.intents.find(scope.run, scope.routes[1].id)
    assert [one._replace(since=None) for one in found] == expected
    told(bench, scope, Outcome(new, Verdict.DELIVERED, Receipt(sha256, "1:17 Sent"), intent=SENT))
    assert left(bench) == 0
