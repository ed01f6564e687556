"""Dovecot reads mbox files of ours, writes to them in turn, and its own mbox files are a source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.mbox import MboxArchive
from syncd.formats.mbox.view import MboxView
from syncd.mail.body import Body
from syncd.mail.flags import canonical
from syncd.mail.mailbox import INBOX_PATH, Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.sources.mbox import MboxSource
from tests.contract.destination_kit import check, delivered
from tests.contract.source_kit import each, fetched, inbox, opened
from tests.servers import config
from tests.servers.imap import Flavour, Letter, Login, Shown, dovecot, fill, messages_of, shown, signed_in

pytestmark = pytest.mark.servers
PLACE = "mbox:~/mbox:INBOX=~/mbox/INBOX.mbox"
WHEN = datetime(2004, 2, 29, 23, 59, 59, tzinfo=UTC)
FLAGS = (
    (),
    ("\\Seen", "\\Flagged"),
    canonical(("\\Answered", "\\Draft")),
)  # it takes no keywords from X-Keywords alone
BODY = b"From here\r\n>From there\r\n\r\nFrom - Thu Mar  1 09:05:07 2018\r\n\r\n"


def letter(number: int) -> Message:
    origin = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
    body = Body.of(b"Subject: %d\r\n\r\nFrom: not quoted\r\n\r\n" % number)
    return Message(Key(number), MessageRef(origin, Uid(b"%d" % number), 1), body, FLAGS[number % 3], WHEN)


def put(path: Path, messages: Sequence[Message], owner: os.stat_result) -> None:
    archive = MboxArchive(path)
    archive.open()
    check(archive, delivered(archive, messages), messages)
    archive.close()
    for each_path in (path, *path.rglob("*")):
        shutil.chown(each_path, owner.st_uid, owner.st_gid)


def flavour() -> Flavour:
    binary = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    modern = binary is not None and config.version(binary) >= (2, 4)
    if modern:
        inbox = {"mail_inbox_path": "~/mbox/INBOX.mbox"}
        return Flavour(settings={"mail_driver": "mbox", "mail_path": "~/mbox", **inbox})
    return Flavour(settings={"mail_location": PLACE, "mbox_write_locks": "dotlock fcntl"})


def of_inbox(login: Login) -> list[Shown]:
    """What INBOX has; Dovecot lists our hidden files too, which are no mailboxes."""
    with signed_in(login) as client:
        return messages_of(client, "INBOX")


def test_dovecot_and_syncd_use_one_mbox_in_turn(tmp_path: Path) -> None:
    with dovecot(flavour()) as server:
        login = server.user("anna")
        home = server.server.maildir("anna").parent
        owner = home.stat()
        path = home / "mbox"
        MboxArchive(path).create(uuid4())
        messages = [letter(number) for number in range(6)]
        put(path, messages, owner)
        found = of_inbox(login)
        assert [(it.octets, it.flags) for it in found] == [
            (b"".join(m.body.chunks()), frozenset(m.flags)) for m in messages
        ]
        assert {datetime.strptime(it.date.strip(), "%d-%b-%Y %H:%M:%S %z") for it in found} == {WHEN}
        with signed_in(login) as client:
            client.select("INBOX")
            client.uid("STORE", str(found[0].uid), "+FLAGS", "(\\Seen)")
            client.uid("STORE", str(found[1].uid), "+FLAGS", "(\\Deleted)")
            client.expunge()
        fill(login, {"INBOX": [Letter(b"Subject: by Dovecot\r\n\r\ntext\r\n", ("\\Flagged",))]})
        put(path, [messages[0], *messages[2:], letter(7)], owner)
        now = of_inbox(login)
        assert len(now) == 7
        assert "\\Seen" in now[0].flags
        with opened(MboxSource(path, tmp_path)) as session:
            got = fetched(inbox(session))
        assert list(got.values()) == [it.octets for it in now]
        with closing(MboxView(path)) as view:
            assert [set(entry.places[0].flags) for entry in view.entries()] == [it.flags for it in now]


def test_mbox_files_that_dovecot_has_written_are_a_source(tmp_path: Path) -> None:
    with dovecot(flavour()) as server:
        login = server.user("bert")
        letters = [
            Letter(b"Subject: %d\r\n\r\n%b" % (number, BODY.replace(b"\n>From", b"\n>>From")), FLAGS[number])
            for number in range(3)
        ]
        fill(login, {"INBOX": letters, "Entw&APw-rfe": letters[:2]})
        before = shown(login)
        path = server.server.maildir("bert").parent / "mbox"
        with opened(MboxSource(path, tmp_path)) as session:
            found = {box.mailbox.path: list(fetched(box).values()) for box in each(session)}
        assert found[INBOX_PATH] == [it.octets for it in before["INBOX"]]
        assert found[("Entwürfe",)] == [it.octets for it in before["Entw&APw-rfe"]]
