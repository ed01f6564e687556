"""Search over every format of archives: the same questions, the same answers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from syncd.cli.main import call
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.mbox import MboxArchive
from syncd.destinations.packs import PacksArchive
from syncd.errors import StorageError, UsageError
from syncd.formats.search import index
from syncd.formats.search.contract import Index
from syncd.formats.search.index import SearchIndex
from syncd.formats.search.question import parse
from syncd.formats.view import ArchiveView
from syncd.services import answers, search
from syncd.services.archive import open_view
from syncd.services.indexes import FILES, Indexes, Tables
from tests.contract.conftest import ENGINES
from tests.contract.destination_kit import OTHER, ROAD, SENT, delivered, message
from tests.contract.search_kit import ANNUAL, ATTACHED, GREETINGS, PLAIN, QUESTIONS, UNDATED, SearchKit
from tests.support import mail
from tests.support.packs import spoil_mail

Archive = PacksArchive | MaildirArchive | MboxArchive


@pytest.fixture(params=[PacksArchive, MaildirArchive, MboxArchive])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    made: Archive = request.param(tmp_path / "mail")
    made.create(uuid4())
    made.open()
    yield made
    made.close()


@pytest.fixture(params=ENGINES)
def indexes(request: pytest.FixtureRequest, tmp_path: Path) -> Indexes:
    if request.param == "sqlite":
        return FILES
    return Tables(request.getfixturevalue("search_database"), str(uuid4()), {tmp_path / "mail": "mail"})


@pytest.fixture
def kit(archive: Archive, indexes: Indexes) -> Iterator[SearchKit]:
    delivered(archive, [message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD)])
    delivered(archive, [message(3, UNDATED, SENT)])
    made = SearchKit(archive.path, indexes)
    made.update()
    yield made
    made.view.close()


@pytest.fixture
def view(archive: Archive) -> Iterator[ArchiveView]:
    delivered(archive, [message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD)])
    delivered(archive, [message(3, UNDATED, SENT)])
    opened = open_view(None, str(archive.path))
    search.update(opened)
    yield opened
    opened.close()


def subjects(view: ArchiveView, text: str) -> list[str]:
    return [it.hit.subject for it in answers.find([answers.of_view(view, "mail")], parse(text, UTC), 50).hits]


KEYS = (  # that are made up
    b"no/such", b"../x/y", b"/../y", b"", b"/", b"x" * 1000, b"." + b"x" * 300 + b"/y", b"x" * 300 + b"/y", b".\0/y",
    b"\0/\0", b".x\0y/z", b"/\0", b"\xff/\xff", b"cur/x", b".syncd-archive.json/x", b"\0" * 32,
)  # fmt: skip
ODD = (  # questions
    "larger:999999999999g", "before:0001-01-01", "after:9999-12-30", "\x00x", '"', '""', "a" * 900, "x* y*z", "日",
    "NOT OR AND NEAR", "\ud800a", "from:日本語", 'subject:"a b" "c d"', "{}^()-+", "x" * 40,
)  # fmt: skip


@pytest.mark.parametrize("few", [0, 1000])
def test_questions(kit: SearchKit, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FEW_ASKED", few)
    monkeypatch.setattr(index, "FEW_LISTED", few)
    assert {text: set(kit.subjects(text)) for text, _ in QUESTIONS} == dict(QUESTIONS)


def test_odd_questions_are_answered_or_refused(kit: SearchKit) -> None:
    for text in ODD:
        with suppress(UsageError):
            assert kit.subjects(text) == [], text


def test_the_newest_come_first_in_parts(kit: SearchKit) -> None:
    everything = kit.subjects("")
    assert everything.index(ANNUAL) + 1 == everything.index(GREETINGS)
    parts, below = [], None
    while True:
        found = kit.find("", 1, below)
        parts += [it.hit.subject for it in found.hits]
        if found.below is None:
            break
        below = answers.Below.read(str(found.below))
    assert parts == everything
    (only,) = kit.find("subject:report", 1).hits
    assert (only.archive, only.id) == ("mail", kit.view.id_of(only.hit.key))
    hit = only.hit
    assert (hit.at, hit.sender) == (datetime(2026, 1, 2, 10, tzinfo=UTC), "Bob Stone <bob@example.org>")
    assert (hit.attachments, hit.mailboxes) == (1, (("INBOX",),))


def test_a_search_for_phrases_reads_so_many_messages_for_one_part(
    kit: SearchKit, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LOOKS", 2)
    monkeypatch.setattr(answers, "FEWEST_LOOKS", 2)
    dated = b"Date: Thu, 1 Jan 2026 %d:00:00 +0000\r\nSubject: %d\r\n\r\n%b\r\n"
    texts = (b"one two", b"two one", b"two x one", b"one two")
    delivered(archive, [message(n, dated % (n, n, texts[n - 11]), ROAD) for n in range(11, 15)])
    kit.update()
    first = kit.find('"one two"')
    assert [it.hit.subject for it in first.hits] == ["14"]
    rest = kit.find('"one two"', below=first.below)
    assert [it.hit.subject for it in rest.hits] == ["11"]


def test_a_hit_is_read_by_its_key(kit: SearchKit) -> None:
    view = kit.view
    for it in kit.find("").hits:
        read = view.by_key(it.hit.key)
        assert read is not None
        assert read.entry.id == it.id
        assert read.entry.subject == it.hit.subject
        assert b"".join(read.chunks()) == b"".join(read.chunks()) == b"".join(view.chunks(read.entry))


def test_a_key_that_is_made_up_leads_nowhere(view: ArchiveView, tmp_path: Path) -> None:
    (tmp_path / "eml").mkdir()
    (tmp_path / "eml" / "a.eml").write_bytes(PLAIN)
    with closing(open_view(None, str(tmp_path / "eml"))) as files:
        assert [key for key in KEYS if view.by_key(key) or files.by_key(key)] == []


def test_names_of_mailboxes_and_accounts_that_are_not_there(kit: SearchKit) -> None:
    with pytest.raises(UsageError, match="no mailbox 'Nope' in this archive; it has "):
        kit.find("mailbox:inbox OR mailbox:Nope")
    with pytest.raises(UsageError, match="no mailbox 'Nope' in this archive; it has "):
        kit.find("report -mailbox:Nope")
    with pytest.raises(UsageError, match="no account 'nobody' in this archive"):
        kit.find("account:nobody")


def test_new_mail_is_added_and_nothing_is_read_twice(kit: SearchKit, archive: Archive) -> None:
    assert kit.update() == search.Indexed()
    delivered(archive, [message(4, b"Subject: later\r\n\r\nnew\r\n", ROAD)])
    assert kit.unindexed() in {1, None}
    done = kit.update()
    assert (done.messages, done.left) == (1, 0)
    assert kit.subjects("later") == ["later"]
    assert kit.unindexed() in {0, None}


def test_many_messages_of_one_second_and_an_interrupted_index(archive: Archive, indexes: Indexes) -> None:
    dated = b"Date: Thu, 1 Jan 2026 10:00:00 +0000\r\nSubject: %d\r\n\r\nalike\r\n"
    delivered(archive, [message(n, dated % n, ROAD) for n in range(1_300)])
    kit = SearchKit(archive.path, indexes)
    done = kit.update(go_on=lambda: False)
    assert 1_000 <= done.messages < 1_300
    assert done.left in {1_300 - done.messages, None}
    assert kit.update().messages == 1_300 - done.messages
    for text in ("alike", "before:2026-01-02", "after:2025-12-31"):
        assert len(kit.subjects(text, 2_000)) == 1_300
    assert kit.subjects("after:2026-01-01") == kit.subjects("before:2026-01-01") == []
    kit.view.close()


def test_an_update_in_many_batches_finds_all_that_one_batch_does(
    archive: Archive, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 1)  # and in packs a hundred, of which each has a mark
    for number in range(3):
        some = range(number * 100, number * 100 + 100)
        delivered(archive, [message(n, b"Subject: %d\r\n\r\nalike\r\n" % n, (ROAD, SENT)[n % 2]) for n in some])
    kit = SearchKit(archive.path, indexes)
    assert kit.update().messages == 300
    assert sorted(map(int, kit.subjects("alike", 400))) == list(range(300))
    assert sorted(map(int, kit.subjects("mailbox:inbox", 400))) == list(range(0, 300, 2))
    assert kit.update() == search.Indexed()
    kit.view.close()


def test_an_index_that_is_made_again_while_an_update_opens_it_lacks_nothing_in_the_end(
    kit: SearchKit, archive: Archive
) -> None:
    """The mark of one index must never go into another one."""

    class Meanwhile:
        def __init__(self, indexes: Indexes, at: int) -> None:
            self._indexes = indexes
            self._calls = itertools.count(1)
            self._at = at

        def make(self, view: ArchiveView) -> Index:
            if next(self._calls) == self._at:
                self._indexes.remove(view)
            return self._indexes.make(view)

    for at in (1, 2):
        delivered(archive, [message(10 + at, b"Subject: later %d\r\n\r\nnew\r\n" % at, ROAD)])
        with suppress(StorageError):
            search.update(kit.view, cast("Indexes", Meanwhile(kit.indexes, at)))
        kit.update()
        assert len(kit.subjects("", 100)) == 3 + at
        assert kit.unindexed() in {0, None}


def test_the_index_may_be_deleted_spoilt_or_of_another_archive(view: ArchiveView) -> None:
    before = set(subjects(view, ""))
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"no database" * 1000)):
        spoil(view.search_index)
        assert search.update(view).messages == 3
        assert set(subjects(view, "")) == before
    assert SearchIndex.open(view.search_index, uuid4()) is None
    assert search.rebuild(view).messages == 3
    assert view.search_index.stat().st_mode & 0o777 == 0o600
    for suffix in ("", "-wal", "-shm"):
        view.search_index.with_name(view.search_index.name + suffix).unlink(missing_ok=True)
    assert subjects(view, "") == []
    assert search.unindexed(view) == 3


def test_an_index_that_is_a_link_is_not_followed(view: ArchiveView, tmp_path: Path) -> None:
    view.search_index.rename(tmp_path / "elsewhere")
    view.search_index.symlink_to(tmp_path / "elsewhere")
    octets = (tmp_path / "elsewhere").read_bytes()
    assert SearchIndex.open(view.search_index, view.uuid) is None
    search.update(view)
    assert not view.search_index.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == octets


def test_archives_on_a_medium_that_cannot_be_written_to_are_searched(
    view: ArchiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    files = {file: file.stat().st_mtime_ns for file in view.path.iterdir()}
    assert subjects(view, "figures") == [ANNUAL]
    assert {file: file.stat().st_mtime_ns for file in view.path.iterdir()} == files
    assert not view.search_index.with_name(view.search_index.name + "-shm").exists()


def test_odd_mail_is_indexed_and_found(archive: Archive, indexes: Indexes) -> None:
    nasty = {name: data for name, data in mail.nasty().items() if data.startswith(b"From: a@example.net")}
    delivered(archive, [message(n, data, ROAD) for n, data in enumerate(nasty.values())])
    kit = SearchKit(archive.path, indexes)
    assert kit.update().messages == len(nasty)
    assert len(kit.subjects("from:a@example.net subject:nasty", 100)) == len(nasty)
    kit.view.close()


# --- what only one format has ------------------------------------------------------------------------------


def test_a_message_that_was_seen_elsewhere_later_is_found_there(tmp_path: Path, indexes: Indexes) -> None:
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(1, PLAIN, ROAD)])
    kit = SearchKit(archive.path, indexes)
    kit.update()
    delivered(archive, [message(2, PLAIN, SENT), message(3, ATTACHED, OTHER)])
    assert kit.update().messages == 1
    assert kit.subjects('mailbox:"sent/2019 \udcff"') == [GREETINGS]
    assert kit.subjects("account:road") == [GREETINGS]
    assert kit.subjects("account:OTHER report") == [ANNUAL]
    assert kit.subjects("report -account:road") == [ANNUAL]
    assert set(kit.subjects("account:road OR account:other")) == {GREETINGS, ANNUAL}
    assert kit.update() == search.Indexed()
    archive.close()
    kit.view.close()


def test_a_damaged_message_is_counted_and_told_of(tmp_path: Path) -> None:
    archive = PacksArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(1, PLAIN, ROAD)])
    archive.close()
    spoil_mail(archive.path)
    view = open_view(None, str(archive.path))
    done = search.update(view)
    assert (done.messages, done.unreadable) == (1, 1)
    assert search.update(view).messages == 0
    assert subjects(view, "") == subjects(view, "larger:10 -words") == [""]
    view.close()


def test_what_left_a_maildir_is_no_longer_found(tmp_path: Path, indexes: Indexes) -> None:
    archive = MaildirArchive(tmp_path / "mail")
    archive.create(uuid4())
    archive.open()
    delivered(archive, [message(1, PLAIN, ROAD), message(2, ATTACHED, ROAD), message(3, UNDATED, SENT)])
    archive.close()
    kit = SearchKit(archive.path, indexes)
    kit.update()
    (file,) = (it for part in ("new", "cur") for it in (archive.path / part).iterdir() if b"Ann Lee" in it.read_bytes())
    file.unlink()
    shutil.rmtree(next(path for path in archive.path.iterdir() if path.is_dir() and path.name.startswith(".Sent")))
    assert kit.update().gone == 2
    assert kit.subjects("") == [ANNUAL]
    assert kit.update() == search.Indexed()
    kit.view.close()


# --- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


@pytest.fixture
def shown(here: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def show(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = call(["archive", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return show


def test_the_command_line(archive: Archive, shown: Callable[..., tuple[int, str, str]]) -> None:
    delivered(archive, [message(1, ATTACHED, ROAD), message(2, PLAIN, ROAD)])
    code, out, err = shown("search", "mail", "annual", "report")
    assert (code, err) == (0, "2 messages\n")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["2026-01-02", "10:00"],
        ["2026-01-01", "10:00"],
    ] or out
    code, out, _ = shown("search", "mail", "has:attachment", "--json")
    (found,) = json.loads(out)
    assert (found["subject"], found["attachments"], found["mailboxes"]) == (ANNUAL, 1, ["INBOX"])
    assert shown("show", "mail", found["id"], "--raw")[0] == 0
    code, out, err = shown("search", "mail", "annual", "--limit", "1")
    assert err == "1 message, of --limit 1\n"
    code, out, err = shown("search", "mail", "fro:x")
    assert (code, out) == (2, "")
    assert "there is no field 'fro'" in err
    assert shown("reindex", "mail")[:2] == (0, f"0 messages (0 B) added to {_index(archive.path)}\n")
    code, out, _ = shown("reindex", "mail", "--all", "--json")
    assert (json.loads(out)["messages"], json.loads(out)["left"]) == (2, 0)


def test_the_command_line_searches_several_archives(shown: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for kind, name, data in ((PacksArchive, "one", ATTACHED), (MaildirArchive, "two", PLAIN)):
        made: Archive = kind(tmp_path / name)
        made.create(uuid4())
        made.open()
        delivered(made, [message(1, data, ROAD)])
        made.close()
    (tmp_path / "syncd.toml").write_text(
        f'state_directory = "{tmp_path}/state"\n[archives.one]\npath = "{tmp_path}/one"\n'
        f'[archives.other]\npath = "{tmp_path}/two"\nformat = "maildir"\n'
    )
    config = ("--config", str(tmp_path / "syncd.toml"))
    code, out, err = shown("search", "report", *config)
    assert (code, err) == (0, "2 messages in one, other\n")
    assert [line.split()[1 if line.startswith("DATE") else 2] for line in out.splitlines()] == [
        "ARCHIVE",
        "one",
        "other",
    ]
    code, out, err = shown("search", "other", "report", "--json", *config)
    assert [it["archive"] for it in json.loads(out)] == ["other"]
    code, out, err = shown("search", "one", str(tmp_path / "two"), "report -from:ann OR x", *config)
    assert (code, "cannot be joined with OR" in err) == (2, True)
    code, out, err = shown("search", "one", str(tmp_path / "two"), "report -from:ann", *config)
    assert (code, err) == (0, f"1 message in one, {tmp_path / 'two'}\n")
    assert shown("search", "one", *config)[2] == "syncd: say what to look for in one: syncd archive search one QUERY\n"
    assert "neither a folder nor the name of an archive" in shown("search", "/no/where", "report", *config)[2]
    shutil.rmtree(tmp_path / "two")
    code, out, err = shown("search", "report", *config)
    assert (code, err.splitlines()[-1]) == (1, "1 message in one")
    assert err.startswith("syncd: other is not searched: ")


def test_a_search_says_what_it_could_not_look_through(
    archive: Archive, shown: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 1)
    monkeypatch.setattr("syncd.cli.archive_search.CATCH_UP_S", -1.0)
    delivered(archive, [message(n, b"Subject: %d\r\n\r\nalike\r\n" % n, ROAD) for n in range(250)])
    _, _, err = shown("search", "mail", "alike")
    assert "not searched yet: " in err
    assert "run: syncd archive reindex mail" in err


def _index(path: Path) -> Path:
    return next(file for file in path.iterdir() if file.name.endswith("search.sqlite"))
