"""Runs of the engine over an IMAP account: a scripted server, a real ledger, an archive in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from syncd.db.database import Database
from syncd.engine.exit_codes import ExitCode
from tests.contract.imap_kit import source
from tests.contract.source_kit import some
from tests.fakes.archive import MemoryArchive
from tests.fakes.imap import BARE, FakeImap
from tests.support.engine import Engine

MANY = 60
SIGN_IN = 2  # flights: CAPABILITY, AUTHENTICATE


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


@pytest.fixture
def engine(server: FakeImap, tmp_path: Path) -> Iterator[Engine]:
    with Database.open(None, tmp_path) as database:
        yield Engine(database, source(server, spool=tmp_path), {"home": MemoryArchive()})


def home(engine: Engine) -> MemoryArchive:
    archive = engine.destinations["home"]
    assert isinstance(archive, MemoryArchive)
    return archive


def run(engine: Engine, code: ExitCode = ExitCode.DONE) -> None:
    report = engine.run()
    assert report.exit_code is code, (report.errors, engine.notes())


class Writes:
    """Counts what is written to tables, apart from runs."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        event.listen(database.engine, "before_cursor_execute", self._note)

    def _note(self, *arguments: object) -> None:
        statement = str(arguments[2]).strip()
        if statement.split(" ", 1)[0] in {"INSERT", "UPDATE", "DELETE"}:
            self.statements.append(statement)

    def tables(self) -> set[str]:
        """The tables that were written to."""
        return {found[1] for it in self.statements if (found := re.match(r"(?:\w+ )*?(?:INTO|UPDATE|FROM) (\w+)", it))}


@pytest.mark.parametrize("bare", [False, True])
def test_nothing_new_in_many_mailboxes_takes_three_flights_and_writes_no_row_about_mail(
    server: FakeImap,
    engine: Engine,
    bare: bool,  # noqa: FBT001
):
    if bare:
        server.capabilities, server.inside = BARE, None
    server.box("INBOX").add(*some(5))
    for number in range(MANY - 1):  # the first run commits a listing of each
        server.box(f"box {number}")
    server.box("box 7").add(*some(3))
    run(engine)
    assert len(home(engine).messages) == 8
    server.settle()
    server.flights.clear()
    server.commands.clear()
    writes = Writes(engine.database)
    run(engine)
    server.settle()
    assert not {"EXAMINE", "UID FETCH"} & set(server.verbs())
    assert not {"messages", "deliveries", "listings", "planned"} & writes.tables()
    if not bare:
        assert len(server.flights) - SIGN_IN <= 3
        assert len(server.commands) == 6  # and ID, NAMESPACE
    else:
        assert server.verbs().count("STATUS") == MANY


def test_only_mailboxes_that_changed_are_opened(server: FakeImap, engine: Engine):
    for name in ("INBOX", "Sent", "Archive"):
        server.box(name).add(*some(4))
    run(engine)
    server.box("Sent").add(*some(2, start=20))
    server.commands.clear()
    run(engine)
    assert [command for command in server.commands if command.startswith("EXAMINE")] == ["EXAMINE Sent"]
    assert "UID FETCH 5:6 (UID FLAGS INTERNALDATE BODY.PEEK[])" in server.commands
    assert len(home(engine).messages) == 14


def test_i52_another_uidvalidity_freezes_that_mailbox_and_nothing_is_delivered_again(server: FakeImap, engine: Engine):
    for name in ("INBOX", "Sent"):
        server.box(name).add(*some(4, start=10 if name == "Sent" else 1))
    run(engine)
    server.box("Sent").renew(99)
    run(engine)
    assert len(home(engine).messages) == 8
    assert list(engine.frozen()) == [b"Sent"]


def test_i132_a_message_that_ends_each_session_does_not_stop_the_others(server: FakeImap, engine: Engine):
    for name in ("INBOX", "Sent", "Trash"):
        server.box(name).add(*some(4, start=10 * len(name)))
    server.breaks_off_at = {2}
    run(engine, ExitCode.TEMPORARY)
    assert len(home(engine).messages) == 9
    assert len(engine.states("home")["PENDING"]) == 3
    server.breaks_off_at = set()
    assert server.connections <= 1 + 2 * 3


def test_i119_a_mailbox_that_goes_while_it_is_read_leaves_the_others_as_they_are(server: FakeImap, engine: Engine):
    for name in ("INBOX", "Sent", "Trash"):
        server.box(name).add(*some(4, start=10 * len(name)))
    taken = []

    def goes(_: object) -> None:
        if (
            server.commands[-1].startswith("UID FETCH")
            and "BODY" in server.commands[-1]
            and "EXAMINE Sent" in ([command for command in server.commands if command.startswith("EXAMINE")][-1])
        ):
            taken.append(server.boxes.pop(b"Sent", None))
            if taken[0] is not None:
                taken[0].mail.clear()

    server.on["UID FETCH"] = goes
    assert engine.run().exit_code is not ExitCode.DONE
    assert taken
    assert len(home(engine).messages) == 8
    assert any(note.startswith("Sent: ") for note in engine.notes())


def test_i117_a_mailbox_under_another_name_is_recognised(server: FakeImap, engine: Engine):
    server.box("Sent").add(*some(4))
    run(engine)
    server.boxes[b"Gesendet"] = server.boxes.pop(b"Sent")
    run(engine)
    assert len(home(engine).messages) == 4


def test_i116_a_mailbox_that_was_made_again_under_its_uidvalidity_is_fetched(server: FakeImap, engine: Engine):
    old = [b"Subject: old %d\r\n\r\ntext\r\n" % number for number in range(4)]
    new = [octets.replace(b"old", b"new") for octets in old]  # as long, to the octet
    server.box("Sent").add(*old)
    run(engine)
    del server.boxes[b"Sent"]
    server.box("Sent", modseq=50).add(*new[:2])
    run(engine)
    stored = [b"".join(message.body.chunks()) for message in home(engine).messages]
    assert set(stored) == {*old, *new[:2]}


def test_i116_messages_that_are_gone_at_the_end_do_not_make_others_suspect(server: FakeImap, engine: Engine):
    server.box("Sent").add(*some(4))
    run(engine)
    server.box("Sent").expunge(4)
    server.commands.clear()
    run(engine)
    assert not any("HEADER" in command for command in server.commands)


def letter(number: int, header: str = "") -> bytes:
    return f"Message-ID: <{header or number}@example.net>\r\nSubject: x\r\n\r\nbody {number:05}\r\n".encode()


def test_i52_messages_under_new_uids_are_known_by_header_and_size_and_not_fetched(server: FakeImap, engine: Engine):
    server.box("Sent").add(*map(letter, range(20)), b"Subject: no id\r\n\r\n")
    run(engine)
    server.box("Sent").renew(99)
    server.box("Sent").add(letter(77))
    server.commands.clear()
    run(engine)
    assert len(home(engine).messages) == 22
    bodies = [command for command in server.commands if "BODY.PEEK[]" in command]
    assert bodies == ["UID FETCH 21:22 (UID FLAGS INTERNALDATE BODY.PEEK[])"]
    assert any("Sent: 20 messages known by header and size" in note for note in engine.notes())
    server.commands.clear()
    run(engine)
    assert not any("BODY" in command for command in server.commands)
    server.commands.clear()
    run(engine)
    assert "UID FETCH" not in server.verbs()


def test_i52_equal_headers_of_different_messages_prove_nothing(server: FakeImap, engine: Engine):
    server.box("Sent").add(*(letter(number, "same") for number in range(4)))
    run(engine)
    server.box("Sent").renew(99)
    server.box("Sent").mail[0].octets = letter(99, "same")
    run(engine)
    stored = {b"".join(message.body.chunks()) for message in home(engine).messages}
    assert stored == {letter(number, "same") for number in (0, 1, 2, 3, 99)}
