"""What `syncd verify` reads of the ledger: each message of a mailbox once, in an order to be merged with a listing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.db.ledger import proof
from syncd.db.rows import MailboxScope
from syncd.db.states import DeliveryState, MessageState
from syncd.mail.mailbox import Epoch
from tests.support.ledger import Bench, digest, uids

UIDS = ["9", "10", "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "a", "b"]


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    return bench.job("as")


@pytest.mark.parametrize("page", [2, 1000])
def test_the_messages_of_a_mailbox_come_by_uid(
    bench: Bench, scope: MailboxScope, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(proof, "PAGE", page)
    found = bench.work(scope, uids(*UIDS))
    bench.commit(scope, found[b"a"], "dr")
    bench.work(scope, uids("9", "a"))  # the others are missing
    rows = list(proof.present(bench.database, scope, scope.routes[1].id))
    assert [row.uid for row in rows] == sorted(uid.encode() for uid in UIDS)
    assert {row.uid: row.state for row in rows if row.state is MessageState.MISSING}.keys() == {
        uid.encode() for uid in UIDS if uid not in {"9", "a"}
    }
    delivered = next(row for row in rows if row.uid == b"a")
    octets, sha256, header_hash = digest(b"octets")
    assert (delivered.octets, delivered.sha256, delivered.header_hash) == (octets, sha256, header_hash)
    assert (delivered.delivery, bool(delivered.reason)) == (DeliveryState.REJECTED, True)
    assert [row.delivery for row in rows if row.uid == b"9"] == [DeliveryState.PENDING]
    assert list(proof.departed(bench.database, scope, scope.routes[1].id)) == []


@pytest.mark.parametrize("page", [1, 1000])
def test_what_is_gone_or_of_another_epoch_has_departed(
    bench: Bench, scope: MailboxScope, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(proof, "PAGE", page)
    bench.work(scope, uids("a", "b", "c"))
    for _ in range(2):
        bench.work(scope, uids("a"))
    route = scope.routes[0].id
    assert [row.uid for row in proof.present(bench.database, scope, route)] == [b"a"]
    assert [(row.uid, row.state) for row in proof.departed(bench.database, scope, route)] == [
        (b"b", MessageState.GONE),
        (b"c", MessageState.GONE),
    ]
    later = replace(scope, epoch=Epoch(scope.epoch + 1))
    assert list(proof.present(bench.database, later, route)) == []
    assert [row.uid for row in proof.departed(bench.database, later, route)] == [b"a", b"b", b"c"]
