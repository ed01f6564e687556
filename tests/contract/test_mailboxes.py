"""Mailboxes go into each kind of archive and come out of it as a source: paths, uses, flags, keywords, instants.

The engine fills an archive from a source in memory. The archive is then read as a source, and its mail exported into
other formats and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest

from syncd.db.database import Database
from syncd.destinations.base import Archive
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Rules
from syncd.formats.maildir.layout import Layout
from syncd.mail.flags import canonical
from syncd.mail.mailbox import Epoch, Mailbox
from syncd.mail.mailbox import Path as MailboxPath
from syncd.services.archive import open_view, write_out
from syncd.services.export import ExportFormat
from syncd.sources.base import Source
from syncd.sources.maildir import MaildirSource
from syncd.sources.packs import PacksSource
from tests.contract.destination_kit import octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import mailboxes, opened
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, mail, source

BOXES = (
    Mailbox(b"Entw&APw-rfe/R&-D", ("Entwürfe", "R&D"), "\\Drafts", validity=Epoch(3), contents=b"2"),
    Mailbox(b"Lists.a/b&c", ("Lists.a", "b&c"), subscribed=False, validity=Epoch(3), contents=b"1"),
    Mailbox(b"raw \xff " + b"x" * 250, ("raw \udcff " + "x" * 250,), "\\Junk", validity=Epoch(3), contents=b"1"),
    Mailbox(b"Empty", ("Empty",), "\\Trash", validity=Epoch(9), messages=0, contents=b"0"),
)
FLAGS = [
    (),
    ("\\Seen",),
    canonical(("\\Answered", "\\Flagged", "\\Seen", "\\Draft", "\\Deleted", "$Forwarded", "$Work", "caf\udce9")),
    ("later",),
]
EAST = timezone(timedelta(hours=5, minutes=30))


class Mail(NamedTuple):
    """A message as it comes out of a source, without what differs from source to source."""

    octets: bytes
    flags: tuple[str, ...]
    date: datetime


Boxes = dict[tuple[MailboxPath, str, bool], list[Mail]]


class Kind(NamedTuple):
    archive: Callable[[Path], Archive]
    source: Callable[[Path, Path], Source]


KINDS = {
    "packs": Kind(PacksArchive, PacksSource),
    "maildir": Kind(MaildirArchive, MaildirSource),
    "nested": Kind(lambda path: MaildirArchive(path, layout=Layout.NESTED), MaildirSource),
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[[dict[str, Archive]], Engine]]:
    """Makes an engine whose source has mail in five mailboxes, one of them empty."""
    with Database.open(None, tmp_path / "state") as database:

        def make(destinations: dict[str, Archive]) -> Engine:
            there = MemorySource(mail(4))
            for number, mailbox in enumerate(BOXES):
                some = {} if mailbox.messages == 0 else {b"%d" % n: _letter(number, n) for n in (1, 2, 3, 4)}
                there.others[mailbox] = some
            for number, uid in enumerate([*there.mail, b"1", b"2", b"3", b"4"]):
                date = datetime(2001 + number, 3, 25, 2, 30, number, tzinfo=EAST)
                there.facts[uid] = FLAGS[number % 4], date
            return Engine(database, there, destinations)

        yield make


def _letter(box: int, number: int) -> bytes:
    return b"Subject: %d in %d\r\n\r\nFrom here\r\n" % (number, box)


def everything(it: Source) -> Boxes:
    """All that a source gives."""
    found: Boxes = {}
    with opened(it) as session:
        for mailbox in mailboxes(session):
            box = session.open(mailbox)
            mails = found.setdefault((mailbox.path, mailbox.use, mailbox.subscribed), [])
            for answer in box.fetch(wanted(listed(box)), Plenty()):
                assert answer is not None
                assert answer.body is not None
                assert answer.internal_date is not None
                mails.append(Mail(octets(answer.body), answer.flags, answer.internal_date))
            mails.sort()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_i150_what_goes_into_an_archive_comes_out_of_it_even_what_is_marked_deleted(
    engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path, kind: str
) -> None:
    archive, reader = KINDS[kind]
    path = tmp_path / kind
    filled = engine({"home": archive(path)})
    report = filled.run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 16), report.errors
    wanted_boxes = everything(source(filled))
    assert everything(reader(path, tmp_path)) == wanted_boxes
    assert len(wanted_boxes) == 5
    again = filled.run()
    assert (again.exit_code, again.fetched) == (ExitCode.DONE, 0)
    assert everything(reader(path, tmp_path)) == wanted_boxes


@pytest.mark.parametrize(("first", "second"), [("packs", "maildir"), ("maildir", "nested"), ("nested", "packs")])
def test_an_archive_fills_another_one(
    engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path, first: str, second: str
) -> None:
    """By a job whose source is the archive, and a new ledger."""
    one, two = tmp_path / "one", tmp_path / "two"
    filled = engine({"home": KINDS[first].archive(one)})
    assert filled.run().exit_code is ExitCode.DONE
    with Database.open(None, tmp_path / "other") as database:
        report = Engine(database, KINDS[first].source(one, tmp_path), {"home": KINDS[second].archive(two)}).run()
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 16), report.errors
    assert everything(KINDS[second].source(two, tmp_path)) == everything(source(filled))


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_maildir_is_an_archive_with_the_same_mailboxes(
    engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path, kind: str
) -> None:
    filled = engine({"home": KINDS[kind].archive(tmp_path / "home")})
    filled.run()
    with closing(open_view(None, str(tmp_path / "home"))) as view:
        done = write_out(view, tmp_path / "out", ExportFormat.MAILDIR, None, lambda _: None, lost=pytest.fail)
    assert (done.messages, done.mailboxes, done.renamed) == (16, 5, 0)
    [exported] = (tmp_path / "out").iterdir()
    assert everything(MaildirSource(exported, tmp_path)) == everything(source(filled))


def test_offsets_of_dates_stay_in_packs(engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path) -> None:
    engine({"home": PacksArchive(tmp_path / "packs")}).run()
    dates = [mail.date for box in everything(PacksSource(tmp_path / "packs", tmp_path)).values() for mail in box]
    assert {date.utcoffset() for date in dates} == {timedelta(hours=5, minutes=30)}


@pytest.mark.parametrize("kind", ["maildir", "nested"])
def test_the_rules_of_a_job_say_where_mailboxes_go_in_a_maildir(
    engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path, kind: str
) -> None:
    home, packs = KINDS[kind].archive(tmp_path / "home"), PacksArchive(tmp_path / "packs")
    filled = engine({"packs": packs, "home": home})
    filled.rules = {"home": Rules(names={"Entwürfe": ("Drafts",)}, prefix=("Old",))}
    assert filled.run().exit_code is ExitCode.DONE
    found = {path for path, *_ in everything(MaildirSource(tmp_path / "home", tmp_path))}
    assert (
        found
        == {
            ("INBOX",),  # the root, which is always there
            ("Old", "INBOX"),
            ("Drafts", "R&D"),
            *[("Old", *mailbox.path) for mailbox in BOXES[1:]],
        }
    )
    assert {path for path, *_ in everything(PacksSource(tmp_path / "packs", tmp_path))} == {
        ("INBOX",),
        *[mailbox.path for mailbox in BOXES],
    }


def test_a_new_ledger_is_seeded_by_uidvalidity_and_uid(
    engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path
) -> None:
    filled = engine({"home": PacksArchive(tmp_path / "packs")})
    filled.run()
    with Database.open(None, tmp_path / "other") as database:
        fresh = Engine(database, filled.source, {"home": PacksArchive(tmp_path / "packs")})
        report = fresh.run()
        assert (report.exit_code, report.fetched, fresh.frozen()) == (ExitCode.DONE, 0, {})
        assert fresh.notes() == ["home has 16 messages of this account already"]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_with_a_message(engine: Callable[[dict[str, Archive]], Engine], tmp_path: Path, kind: str) -> None:
    """In a Maildir the first label is the mailbox."""
    filled = engine({"home": KINDS[kind].archive(tmp_path / "home")})
    there = source(filled)
    there.others.clear()
    there.mail = {}
    there.others[Mailbox(b"[Gmail]/All Mail", ("[Gmail]", "All Mail"), "\\All")] = mail(3)
    one, two, _ = mail(3)
    there.labels = {one: ("Work/2026", "\\Inbox"), two: ("\\Sent",)}
    assert filled.run().exit_code is ExitCode.DONE
    read = KINDS[kind].source(tmp_path / "home", tmp_path)
    if kind == "packs":
        with opened(read) as session:
            box = session.open(mailboxes(session)[-1])
            labels = [answer.labels for answer in box.fetch(wanted(listed(box)), Plenty()) if answer]
        assert labels == [("Work/2026", "\\Inbox"), ("\\Sent",), ()]
    else:
        found = {path: len(mails) for (path, *_), mails in everything(read).items() if mails}
        assert found == {("Work", "2026"): 1, ("Sent",): 1, ("Archive",): 1}


def test_a_message_without_a_date_has_that_of_its_delivery(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    with Database.open(None, tmp_path / "state") as database:
        Engine(database, MemorySource(mail(1)), {"home": MaildirArchive(tmp_path / "home")}).run()
    [[(_, _, date)]] = everything(MaildirSource(tmp_path / "home", tmp_path)).values()
    assert date > before
