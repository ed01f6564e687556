"""What a message costs on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import insert

from syncd.db.catalog import Catalog
from syncd.db.database import FILE_NAME, Database
from syncd.db.ledger import Ledger
from syncd.db.models import deliveries, messages
from syncd.db.routing import DestinationSpec
from syncd.db.rows import RunScope
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.mail.mailbox import MAILDROP

MESSAGES = 30_000
OCTETS_A_MESSAGE = 200  # 10 million messages within 2 GB


def test_ten_million_delivered_messages_fit_into_2_gb(tmp_path: Path) -> None:
    with Database.open(None, tmp_path) as database:
        catalog = Catalog(database)
        account = catalog.account("road", "pop3", "pop.example.net", "me")
        archive = catalog.archive("home", "/mail", "packs", account.uuid)
        job = catalog.job("backup", account.id, [DestinationSpec("archive", archive.id)], removes=False)
        (route,) = job.routes
        scope = RunScope(0, 0, job.id, account.id, job.routes)
        mailbox_id = Ledger(database, lambda _: None).mailboxes.known(scope, [MAILDROP])[0].scope.mailbox_id
        before = (tmp_path / FILE_NAME).stat().st_size
        for start in range(0, MESSAGES, 1000):
            keys = range(start + 1, start + 1001)
            digests = [hashlib.sha256(key.to_bytes(4)).digest() for key in keys]
            with database.write() as connection:
                connection.execute(
                    insert(messages),
                    [
                        {
                            "id": key,
                            "mailbox_id": mailbox_id,
                            "epoch": 1,
                            "uid": digest.hex()[:20].encode(),  # as long as Dovecot's, and in no order
                            "occurrence": 1,
                            "state": MessageState.FETCHED,
                            "disposal": Disposal.KEPT,
                            "listed_octets": 60_000,
                            "octets": 60_000,
                            "sha256": digest,
                            "header_hash": digest[:8],
                        }
                        for key, digest in zip(keys, digests, strict=True)
                    ],
                )
                connection.execute(
                    insert(deliveries),
                    [
                        {
                            "message_id": key,
                            "route_id": route.id,
                            "state": DeliveryState.DELIVERED,
                            "at": 1_770_000_000 + key,
                        }
                        for key in keys
                    ],
                )
    used = (tmp_path / FILE_NAME).stat().st_size - before
    print(f"{used / MESSAGES:.0f} octets a message")
    assert used / MESSAGES < OCTETS_A_MESSAGE
