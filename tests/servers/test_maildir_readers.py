"""Dovecot reads a Maildir of ours: mailboxes, subscriptions, flags, keywords and dates; both write to it in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.formats.maildir.layout import Layout
from syncd.mail.body import Body
from syncd.mail.flags import canonical
from syncd.mail.mailbox import Epoch
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.sources.maildir import MaildirSource
from tests.contract.destination_kit import delivered
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import at, opened
from tests.servers import config
from tests.servers.imap import Flavour, dovecot, shown, signed_in

pytestmark = pytest.mark.servers
WHEN = datetime(2004, 2, 29, 23, 59, 59, tzinfo=UTC)
BOXES = (("INBOX",), ("Entwürfe", "R&D"), ("Lists", "2026"))
FLAGS = ((), ("\\Seen", "\\Flagged"), canonical(("\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "$Work", "later")))


def letter(number: int, path: MailboxPath, flags: tuple[str, ...]) -> Message:
    origin = Origin(UUID(int=1), "road", "/".join(path).encode(), Epoch(1), path, subscribed=path[0] != "Lists")
    body = Body.of(b"Subject: %d\r\n\r\ntext\r\n" % number)
    return Message(Key(number), MessageRef(origin, Uid(b"%d" % number), 1), body, flags, WHEN, path)


def put(path: Path, messages: Sequence[Message], owner: os.stat_result) -> None:
    archive = MaildirArchive(path)
    archive.open()
    delivered(archive, messages)
    archive.close()
    for each in (path, *path.rglob("*")):
        shutil.chown(each, owner.st_uid, owner.st_gid)


@pytest.mark.parametrize("layout", Layout)
def test_dovecot_shows_what_was_filed_and_what_it_changes_comes_back(tmp_path: Path, layout: Layout) -> None:
    binary = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    modern = binary is not None and config.version(binary) >= (2, 4)
    nested = {"mailbox_list_layout": "fs"} if modern else {"mail_location": "maildir:~/Maildir:LAYOUT=fs"}
    with dovecot(Flavour(settings=nested if layout is Layout.NESTED else {})) as server:
        login = server.user("anna")
        path = server.server.maildir("anna")
        owner = path.stat()
        MaildirArchive(path, layout=layout).create(uuid4())
        messages = [letter(number, BOXES[number % 3], FLAGS[number // 3]) for number in range(9)]
        put(path, messages, owner)
        found = shown(login)
        names = {"INBOX": BOXES[0], "Entw&APw-rfe/R&-D": BOXES[1], "Lists/2026": BOXES[2]}
        assert set(names) <= set(found)
        for name, box in names.items():
            mine = {(b"".join(m.body.chunks()), frozenset(m.flags)) for m in messages if m.path == box}
            assert {(it.octets, it.flags) for it in found[name]} == mine
            dates = {datetime.strptime(it.date.strip(), "%d-%b-%Y %H:%M:%S %z") for it in found[name]}
            assert dates == {WHEN}
        with signed_in(login) as client:
            lines = [line for line in client.lsub()[1] if isinstance(line, bytes)]
            assert [b"Lists" in b"".join(lines), b"R&-D" in b"".join(lines)] == [False, True]
            client.select("INBOX")
            client.uid("STORE", "1:*", "+FLAGS", "($Phone)")
        put(path, [letter(10, BOXES[0], ("$new",))], owner)
        flags = {flag for it in shown(login)["INBOX"] for flag in it.flags}
        assert {"$Phone", "$new", "$Work"} <= flags
        with opened(MaildirSource(path, tmp_path)) as session:
            inbox = at(session, BOXES[0])
            answers = [answer for answer in inbox.fetch(wanted(listed(inbox)), Plenty()) if answer is not None]
        assert sorted(answer.flags for answer in answers) == sorted(
            [
                canonical((*FLAGS[0], "$Phone")),
                canonical((*FLAGS[1], "$Phone")),
                canonical((*FLAGS[2], "$Phone")),
                ("$new",),
            ]
        )
