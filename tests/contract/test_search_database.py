"""Search indexes in PostgreSQL: equal to files, gone with their archives, and of use where the archive is not."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from sqlalchemy import text

from syncd.db.database import Database
from syncd.db.names import Owner
from syncd.db.people import Role
from syncd.db.search import index, leftovers, statement
from syncd.db.search.index import TableIndex
from syncd.destinations.packs import PacksArchive
from syncd.errors import FormatDamaged, StorageError, UsageError
from syncd.formats.search.contract import Document
from syncd.formats.search.question import parse
from syncd.mail.message import Message
from syncd.services import answers, search
from syncd.services.answers import Searched, Target
from syncd.services.indexes import FILES, Indexes, Tables, indexes_in
from tests.contract.destination_kit import OTHER, ROAD, SENT, delivered, message
from tests.contract.search_kit import ANNUAL, ATTACHED, GREETINGS, PLAIN, QUESTIONS, UNDATED, SearchKit
from tests.servers.postgresql import Postgresql, programs
from tests.support.web import Desk

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)"),
]
TWO: Final = (message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD))
LAST: Final = message(3, UNDATED, SENT)
SOME_DATES: Final = (0, 0, 0, 1, 2, 2, 60, 61, 62, 3_600)  # seconds


def searched(indexes: Indexes, path: Path) -> SearchKit:
    made = SearchKit(path, indexes)
    made.update()
    return made


def test_both_kinds_of_index_give_equal_rows_in_equal_order_and_parts(
    tmp_path: Path, search_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement, "NEWEST", 10)  # fewer than the messages with a word, and more than a part has
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    rng = random.Random("equal")
    mails = []
    for number in range(300):
        date = format_datetime(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.choice(SOME_DATES)))
        words = " ".join(
            rng.choice("alpha Beta gämma delta 日本語 ep\0silon".split(" ")) for _ in range(rng.randrange(5))
        )
        mails.append(f"From: {words}@x\r\nSubject: {number}\r\nDate: {date}\r\n\r\n{words}\r\n".encode())
    places = [ROAD, SENT, OTHER]
    messages = [message(n, data, rng.choice(places)) for n, data in enumerate(mails)]
    delivered(archive, messages[:200])
    tables = Tables(search_database, str(uuid4()), {tmp_path / "mail": "mail"})
    one, other = searched(FILES, archive.path), searched(tables, archive.path)
    delivered(archive, messages[200:])
    assert one.update().messages == other.update().messages == 100
    for asked in (
        "", "alpha", "alp* -beta", "gamma OR beta", "from:delta", "larger:120", "-larger:120 alpha", "account:other",
        "alpha -account:road", "mailbox:inbox OR mailbox:nowhere", "before:2026-01-01T00:01:00+00:00 -alpha", "日本",
        "after:2026-01-01T00:01:00+00:00", '"alpha beta" OR "gamma delta"', 'from:alp* -has:attachment -"delta delta"',
    ):  # fmt: skip
        below = None
        for _ in range(100):
            try:
                expected = one.find(asked, 7, below)
            except UsageError as error:
                with pytest.raises(UsageError, match=re.escape(str(error))):
                    other.find(asked, 7, below)
                break
            assert other.find(asked, 7, below) == expected, asked
            below = expected.below
            if below is None:
                break
        else:
            pytest.fail("there is no end")
    archive.close()
    one.view.close()
    other.view.close()


def test_messages_are_looked_up_one_by_one_in_a_table_that_postgresql_has_no_figures_of(
    tmp_path: Path, postgresql: Postgresql, migrated: str
) -> None:
    """It read a whole archive for each batch that was added to it."""
    with Database.open(postgresql.new_database(migrated), tmp_path) as database:
        filled(database, 2_000)
        with database.read() as connection:
            for asked, values in ((index._NUMBERS, [b"key"] * 500), (index._TAKEN, list(range(500)))):
                plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {asked}", (values, 1)).scalars())
                assert re.search(r"Index Cond: \(\(archive_id = .* AND \((key|id) = wanted", plan), plan
                assert "Filter" not in plan


def test_what_postgresql_has_put_off_is_sorted_in_at_the_end(
    tmp_path: Path, postgresql: Postgresql, migrated: str
) -> None:
    with Database.open(postgresql.new_database(migrated), tmp_path) as database:
        filled(database, 10).tidy()
        with database.write() as connection:
            waiting = text("SELECT gin_clean_pending_list('ix_search_messages_words')")
            assert connection.execute(waiting).scalar_one() == 0


def filled(database: Database, number: int) -> TableIndex:
    """An index of undated messages."""
    made = TableIndex.make(database, "mine", "mail", uuid4())
    with made.writing():
        keys = [it.to_bytes(32, "big") for it in range(number)]
        assert made.add([Document(key, None, 1, 0, "", "", "alike", b"", ()) for key in keys]) == number
    return made


def test_rows_of_indexes_go_with_their_archives(tmp_path: Path, search_database: Database) -> None:
    configuration = str(uuid4())
    names = {tmp_path / "mail": "mail", tmp_path / "other": "other"}
    tables = Tables(search_database, configuration, names)
    for path in names:
        archive = PacksArchive(path)
        archive.create(uuid4())
        archive.open()
        delivered(archive, [message(1, ATTACHED, ROAD), message(2, PLAIN, SENT)])
        archive.close()
        searched(tables, path).view.close()
    assert rows_of(search_database, configuration) == (2, 4, 4, 4)
    shutil.rmtree(tmp_path / "mail")  # and made again: another archive
    again = PacksArchive(tmp_path / "mail")
    again.create(uuid4())
    again.open()
    delivered(again, [message(1, PLAIN, ROAD)])
    again.close()
    kit = searched(tables, tmp_path / "mail")
    assert kit.subjects("") == [GREETINGS]
    assert rows_of(search_database, configuration) == (2, 3, 3, 3)
    assert search.rebuild(kit.view, tables).messages == 1
    assert rows_of(search_database, configuration) == (2, 3, 3, 3)
    kit.view.close()
    leftovers.give_up(search_database, Owner(configuration, lambda _: False), {"mail"})
    assert TableIndex.open(search_database, configuration, "other", None) is None
    assert leftovers.purge(search_database) == 1
    assert rows_of(search_database, configuration) == (1, 1, 1, 1)
    new = str(uuid4())
    leftovers.give_up(search_database, Owner(new, configuration.__eq__), {"mail"})
    assert leftovers.purge(search_database) == 0
    assert rows_of(search_database, new) == (1, 1, 1, 1)
    leftovers.give_up(search_database, Owner("another", new.__eq__), set())
    assert leftovers.purge(search_database) == 1
    assert rows_of(search_database, configuration) == rows_of(search_database, new) == (0, 0, 0, 0)


def rows_of(database: Database, configuration: str) -> tuple[int, ...]:
    """Rows of archives, messages, mailboxes and places of a configuration."""
    mine = "(SELECT id FROM search_archives WHERE configuration = :whose)"
    with database.read() as connection:
        return tuple(
            connection.execute(text(f"SELECT count(*) FROM {it} IN {mine}"), {"whose": configuration}).scalar_one()
            for it in (
                "search_archives WHERE id",
                "search_messages WHERE archive_id",
                "search_mailboxes WHERE archive_id",
                "search_places WHERE archive_id",
            )
        )


def test_a_removal_that_was_interrupted_leaves_no_half_index(
    tmp_path: Path, search_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = str(uuid4())
    tables = Tables(search_database, configuration, {tmp_path / "mail": "mail"})
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(n, b"Subject: %d\r\n\r\nalike\r\n" % n, ROAD) for n in range(5)])
    archive.close()
    kit = searched(tables, archive.path)
    writer = tables.make(kit.view)
    monkeypatch.setattr(leftovers, "STEP", 2)
    with monkeypatch.context() as stopped:
        stopped.setattr(leftovers, "_some", fail_after(leftovers._some))
        with pytest.raises(StorageError, match="stopped"):
            tables.remove(kit.view)
    assert rows_of(search_database, configuration) == (1, 3, 1, 3)
    assert kit.subjects("") == []
    with pytest.raises(StorageError, match="was removed by somebody else"), writer.writing():
        pytest.fail("an index that is being removed is not written to")
    assert kit.update().messages == 5
    assert len(kit.subjects("alike")) == 5
    kit.view.close()


def fail_after(step: Callable[[Database, int], bool]) -> Callable[[Database, int], bool]:
    """A step of a removal that is made, and then the process ends."""

    def failing(database: Database, number: int) -> bool:
        step(database, number)
        raise StorageError("stopped")

    return failing


def test_whoever_lacks_the_archive_finds_the_same(tmp_path: Path, search_database: Database) -> None:
    tables = tables_of(tmp_path, search_database, [message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD), LAST])
    (tmp_path / "mail").rename(tmp_path / "another machine")
    assert {asked: subjects_elsewhere(tables, asked) for asked, _ in QUESTIONS} == dict(QUESTIONS)


def test_a_phrase_is_looked_for_in_the_index_where_many_messages_have_its_words(
    tmp_path: Path, search_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "AT_ONCE", 3)
    monkeypatch.setattr(answers, "FEWEST_LOOKS", 5)
    monkeypatch.setattr(answers, "LOOKS", 5)
    texts = [b"one two" if number % 4 == 0 else b"two one" for number in range(20)]
    mails = [message(number, b"Subject: %d\r\n\r\n%s\r\n" % (number, text)) for number, text in enumerate(texts)]
    tables = tables_of(tmp_path, search_database, mails)
    (tmp_path / "mail").rename(tmp_path / "another machine")
    assert subjects_elsewhere(tables, '"one two"') == {"0", "4", "8", "12", "16"}


def test_of_a_message_with_too_many_words_the_same_is_found_with_and_without_the_archive(
    tmp_path: Path, search_database: Database
) -> None:
    many = " ".join(f"{number:05}" for number in range(25_000))
    long = message(1, f"Subject: long\r\n\r\n00002 00001 alpha beta {many}\r\n".encode(), ROAD)
    tables = tables_of(tmp_path, search_database, [long])
    here = searched(FILES, tmp_path / "mail")
    asked = ("alpha", '"alpha beta"', '00001 -"alpha beta"', '"00002 00001" OR "alpha beta"', '"00002 00001"')
    found = [set(here.subjects(it)) for it in asked]
    assert found == [set(), set(), {"long"}, {"long"}, {"long"}]
    assert [subjects_elsewhere(tables, it) for it in asked] == found
    here.view.close()


def test_a_part_ends_where_it_would_have_to_look_through_too_many_words(
    tmp_path: Path, search_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "WORDS_A_LOOK", 0)
    mails = [message(number, b"Subject: %d\r\n\r\none two\r\n" % number) for number in range(5)]
    kit = searched(tables_of(tmp_path, search_database, mails), tmp_path / "mail")
    first = kit.find('"one two"')
    assert len(first.hits) == 1
    assert first.below is not None
    assert len(list(answers.hits([answers.of_view(kit.view, "mail", kit.indexes)], parse('"one two"', UTC)))) == 5
    kit.view.close()


def test_an_order_of_words_that_is_damaged_is_told(tmp_path: Path, search_database: Database) -> None:
    tables = tables_of(tmp_path, search_database, TWO)
    with search_database.write() as connection:
        connection.execute(text("UPDATE search_messages SET word_order = 'damaged' WHERE subject = 'Annual report'"))
    with pytest.raises(FormatDamaged, match="make it again: syncd archive reindex NAME --all"):
        subjects_elsewhere(tables, '"annual report"')
    assert subjects_elsewhere(tables, "annual") == {ANNUAL, GREETINGS}
    with search_database.write() as connection:
        connection.execute(text("UPDATE search_messages SET word_order = '\\x00' WHERE subject = 'Annual report'"))
    assert subjects_elsewhere(tables, 'subject:"annual report"') == set(), "an end of a text, and no text after it"


def test_an_index_of_a_version_without_the_order_of_words_is_made_again(
    tmp_path: Path, search_database: Database
) -> None:
    tables = tables_of(tmp_path, search_database, TWO)
    with search_database.write() as connection:
        connection.execute(text("UPDATE search_archives SET version = 1"))
        connection.execute(text("UPDATE search_messages SET word_order = ''"))
    assert tables.elsewhere("mail") is None
    searched(tables, tmp_path / "mail").view.close()
    assert subjects_elsewhere(tables, '"annual report"') == {ANNUAL}


def tables_of(tmp_path: Path, database: Database, mails: Sequence[Message]) -> Tables:
    """The indexes of a configuration with one archive, which is indexed."""
    tables = Tables(database, str(uuid4()), {tmp_path / "mail": "mail"})
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, mails)
    archive.close()
    searched(tables, archive.path).view.close()
    return tables


def subjects_elsewhere(tables: Tables, asked: str) -> set[str]:
    """Returns the subjects that somebody finds who has the indexes, and no archive."""

    @contextmanager
    def opened() -> Iterator[Target]:
        found = tables.elsewhere("mail")
        assert found is not None
        with closing(found):
            yield Target(found, None, bytes.hex)

    return {it.hit.subject for it in answers.hits([Searched("mail", opened)], parse(asked, UTC))}


def test_an_archive_that_is_elsewhere_is_searched_but_not_read(tmp_path: Path, search_database: Database) -> None:
    (tmp_path / "syncd.toml").write_text(
        f'state_directory = "{tmp_path}/state"\n[archives.mail]\npath = "{tmp_path}/mail"\nsite = "north"\n'
    )
    desk = Desk(tmp_path / "syncd.toml", search_database)
    loaded = desk.site.loaded
    indexes = indexes_in(loaded, search_database)
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD)])
    archive.close()
    browser = desk.browser(Role.READER)
    before = browser.get("/api/v1/archives/mail/search?q=report").json
    assert (before["items"], before["not_searched"]) == ([], 2)
    searched(indexes, archive.path).view.close()
    known = browser.get("/api/v1/archives/mail/search?q=report").json
    assert [it["subject"] for it in known["items"]] == ["Annual report", GREETINGS]
    assert 'href="/archives/mail/messages/' in browser.get("/search?q=report").text
    shutil.rmtree(archive.path)
    archive.path.mkdir()  # where its disk would be mounted
    assert browser.get("/api/v1/archives/mail/search?q=report").json["items"] == known["items"]
    archive.path.rmdir()
    found = browser.get("/api/v1/archives/mail/search?q=report").json
    assert found["items"] == known["items"]
    (told,) = found["archives"]
    assert (told["here"], told["site"]) == (False, "north")
    text = browser.get("/search?q=%22annual%20report%22").text
    assert "mail is at the site north: its messages are found here, and can be read only there" in text
    assert ("Annual report" in text, GREETINGS in text) == (True, False)
    assert "/messages/" not in text
    for address in ("/archives/mail/messages/00", "/archives/mail/export", "/api/v1/archives/mail/messages/00/raw"):
        reply = browser.get(address)
        assert (reply.status, "is at the site north: this machine can search it, and not read it" in reply.text) == (
            404,
            True,
        )
