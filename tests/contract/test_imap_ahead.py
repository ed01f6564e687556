"""The mailbox that is opened next is asked for behind the last messages of the open one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.db.database import Database
from syncd.engine.exit_codes import ExitCode
from syncd.errors import MailboxRefused, MessageRefused
from syncd.mail.listing import Fetched
from syncd.mail.mailbox import Mailbox
from syncd.sources.base import OpenMailbox, SourceSession
from tests.contract.imap_kit import source
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import fetched, mailboxes, opened, some
from tests.fakes.archive import MemoryArchive
from tests.fakes.imap import FakeImap
from tests.support.engine import Engine

LIST = "UID FETCH 1:4294967295 (UID RFC822.SIZE)"
BODIES = "UID FETCH 1:3 (UID FLAGS INTERNALDATE BODY.PEEK[])"


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        for number, name in enumerate(("INBOX", "Archive", "Sent")):
            server.box(name).add(*some(3, start=10 * number + 1))
        yield server


@pytest.fixture
def session(server: FakeImap) -> Iterator[SourceSession]:
    with opened(source(server)) as session:
        yield session


def by_name(session: SourceSession) -> dict[bytes, Mailbox]:
    return {mailbox.name: mailbox for mailbox in mailboxes(session)}


def first_of_two(session: SourceSession) -> tuple[OpenMailbox, Mailbox]:
    """INBOX, opened, and Sent, which is said to follow."""
    found = by_name(session)
    return session.open(found[b"INBOX"], following=found[b"Sent"]), found[b"Sent"]


def answers(box: OpenMailbox) -> dict[int, Fetched]:
    return {answer.key: answer for answer in box.fetch(wanted(listed(box)), Plenty()) if answer is not None}


def test_each_mailbox_of_several_costs_one_flight(server: FakeImap, session: SourceSession):
    found = mailboxes(session)
    before = len(server.flights)
    for mailbox, following in zip(found, [*found[1:], None], strict=True):
        assert len(fetched(session.open(mailbox, following=following))) == 3
    assert server.flights[before:] == [2, 3, 3, 1]


def test_a_mailbox_that_was_not_expected_is_opened_anew(server: FakeImap, session: SourceSession):
    box, _ = first_of_two(session)
    fetched(box)
    other = session.open(by_name(session)[b"Archive"])
    at = server.commands.index("EXAMINE Sent")  # it has reached the server by now
    assert server.commands[at - 1 : at + 2] == [BODIES, "EXAMINE Sent", LIST]
    assert [body[-15:] for body in fetched(other).values() if isinstance(body, bytes)] == [b"x\r\n" * 5] * 3


@pytest.mark.parametrize("oddity", ["other octets", "no row", "refused"])
def test_what_is_still_to_be_looked_into_leads_back_to_the_mailbox(
    server: FakeImap, session: SourceSession, oddity: str
):
    box, sent = first_of_two(session)
    if oddity == "other octets":
        server.serves[2] = b"Subject: other\r\n\r\nlonger than it was said to be\r\n" * 9
    elif oddity == "no row":
        server.leaves_out = {2}
    else:
        server.refuses = {2}
    found = answers(box)
    server.serves, server.leaves_out, server.refuses = {}, set(), set()
    assert {key for key, answer in found.items() if answer.body} >= {1, 3}
    assert isinstance(found[2].error, MessageRefused) == (oddity != "other octets")
    examined = [command for command in server.commands if command.startswith("EXAMINE")]
    assert examined == ["EXAMINE INBOX", "EXAMINE Sent", "EXAMINE INBOX"]
    bodies = fetched(session.open(sent))
    assert [len(body) for body in bodies.values() if isinstance(body, bytes)] == [len(one) for one in some(3, 21)]


def test_a_second_fetch_is_of_the_same_mailbox(server: FakeImap, session: SourceSession):
    box, _ = first_of_two(session)
    once, again = fetched(box), fetched(box)
    assert once == again
    assert server.commands.count("EXAMINE INBOX") == 2


def test_a_mailbox_that_was_made_anew_meanwhile_is_not_read_on(server: FakeImap, session: SourceSession):
    box, _ = first_of_two(session)
    rows = listed(box)
    list(box.fetch(wanted(rows), Plenty()))
    server.box("INBOX").renew(99)
    with pytest.raises(MailboxRefused, match="made anew"):
        list(box.fetch(wanted(rows), Plenty()))


def test_a_mailbox_that_the_server_does_not_open_is_an_error_of_that_mailbox(server: FakeImap, tmp_path: Path):
    server.replies["EXAMINE Archive"] = b"<tag> NO [SERVERBUG] not today\r\n"
    with Database.open(None, tmp_path) as database:
        archive = MemoryArchive()
        report = Engine(database, source(server, spool=tmp_path), {"home": archive}).run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert len(archive.messages) == 6
    assert server.connections == 1


def test_a_run_asks_ahead_until_a_session_is_lost(server: FakeImap, tmp_path: Path):
    server.breaks_off_at = {12}
    server.box("Archive").next = 12
    server.box("Archive").add(*some(2, start=30))
    with Database.open(None, tmp_path) as database:
        archive = MemoryArchive()
        report = Engine(database, source(server, spool=tmp_path), {"home": archive}).run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert len(archive.messages) == 10
    examined = [at for at, command in enumerate(server.commands) if command.startswith("EXAMINE")]
    behind_bodies = [server.commands[at - 1].endswith("BODY.PEEK[])") for at in examined]
    assert behind_bodies[1]
    assert not any(behind_bodies[3:])
