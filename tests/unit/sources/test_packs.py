"""Packs as a source: mailboxes, which places are one message and which two, damage, and a writer at work meanwhile."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.errors import ArchiveMissing, MailboxRefused, MessageRefused, StorageError
from syncd.formats.packs.index import Index
from syncd.formats.packs.listing import Identity, uid_of
from syncd.formats.packs.meta import Meta, RefRow
from syncd.formats.packs.view import PacksView
from syncd.mail.body import Body
from syncd.mail.listing import Listed
from syncd.mail.mailbox import Epoch, Mailbox
from syncd.mail.message import Key, Message, MessageRef, Uid
from syncd.sources.base import SourceSession
from syncd.sources.packs import PacksSource
from tests.contract.destination_kit import CRLF_MAIL, OTHER, ROAD, SENT, delivered, message, octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import each, fetched, inbox, mailboxes, opened
from tests.support.packs import append_facts, append_frame, lose_index, pack, rebuild, spoil_mail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    PacksArchive(tmp_path / "home").create(uuid4())
    return tmp_path / "home"


def put(path: Path, *batches: Sequence[Message], seal_octets: int = 1 << 28) -> None:
    archive = PacksArchive(path, seal_octets=seal_octets)
    archive.open()
    for batch in batches:
        delivered(archive, batch)
    archive.close()


def everything(path: Path) -> list[list[Listed]]:
    """The listing of every mailbox."""
    with opened(PacksSource(path, path)) as session:
        return [listed(box) for box in each(session)]


def uids(path: Path) -> list[bytes]:
    return [row.uid for rows in everything(path) for row in rows]


def bodies(session: SourceSession) -> list[bytes | str]:
    """The result for every listed message of every mailbox: its octets, or why it is not had."""
    answers = (got for box in each(session) for got in fetched(box).values())
    return [got if isinstance(got, bytes) else str(got.error) for got in answers]


def test_the_uid_is_what_the_module_says_and_never_changes() -> None:
    place = Identity(UUID(int=1).bytes, 7, b"Sent \xff", 2, b"u 1", hashlib.sha256(CRLF_MAIL).digest())
    octets_ = UUID(int=1).bytes + b"7 6 Sent \xff2 u 1" + hashlib.sha256(CRLF_MAIL).digest()
    assert uid_of(place) == hashlib.sha256(octets_).hexdigest()[:32].encode()
    assert uid_of(place) == b"f7469eef42aecbc1d5e4289755a7d270"


def test_places_that_differ_in_one_thing_alone_never_share_a_uid() -> None:
    place = Identity(bytes(16), 1, b"2 x", 1, b"1 y", bytes(32))
    others = [
        place._replace(account=bytes(15) + b"\1"),
        place._replace(epoch=11),
        place._replace(mailbox=b"2 x1", occurrence=1, uid=b" y"),
        place._replace(mailbox=b"", uid=b"2 x1 1 y"),
        place._replace(occurrence=11, uid=b" y"),
        place._replace(occurrence=2),
        place._replace(uid=b"1 y" + bytes(32)),
        place._replace(sha256=bytes(31) + b"\1"),
    ]
    assert len({uid_of(each) for each in [place, *others]}) == len(others) + 1


def test_the_same_octets_at_two_places_are_two_messages(path: Path) -> None:
    put(path, [message(key, CRLF_MAIL, origin, uid=b"u") for key, origin in enumerate((ROAD, SENT, OTHER))])
    assert len(set(uids(path))) == 3
    with opened(PacksSource(path, path)) as session:
        assert bodies(session) == [CRLF_MAIL] * 3


def test_a_place_that_held_other_mail_later_is_two_messages_and_both_keep_their_uid(path: Path) -> None:
    """Octets known from another mailbox come to a place where others were: the listing then begins with them."""
    put(path, [message(1, b"a\r\n", SENT)], [message(2, b"b\r\n", uid=b"u")])
    before = uids(path)
    put(path, [message(3, b"a\r\n", uid=b"u")])
    after = uids(path)
    assert len(set(after)) == 3
    assert [uid for uid in after if uid in before] == before
    with opened(PacksSource(path, path)) as session:
        assert bodies(session) == [b"a\r\n", b"a\r\n", b"b\r\n"]


def test_an_index_that_is_built_again_gives_the_same_mailboxes_and_listings(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % (key % 7), (ROAD, SENT, OTHER)[key % 3]) for key in range(40)])
    first = everything(path)
    with opened(PacksSource(path, path)) as session:
        names = mailboxes(session)
    rebuild(path)
    assert everything(path) == first
    (path / "index.sqlite").unlink()
    with opened(PacksSource(path, path)) as session:
        assert mailboxes(session) == names
        assert [listed(box) for box in each(session)] == first
        assert len(bodies(session)) == 40
    assert not (path / "index.sqlite").exists(), "reading must not write"


def test_a_mailbox_is_one_of_an_account_in_all_its_epochs(path: Path) -> None:
    later = SENT._replace(epoch=Epoch(3), path=("Sent", "old"), use="", subscribed=True)
    put(path, [message(key, b"%d\r\n" % key, (ROAD, SENT, OTHER)[key % 3]) for key in range(6)])
    put(path, [message(7, b"7\r\n", later)])
    with opened(PacksSource(path, path)) as session:
        assert mailboxes(session) == [
            Mailbox(str(ROAD.account).encode() + b"/INBOX", ("INBOX",), account=ROAD.account),
            Mailbox(str(SENT.account).encode() + b"/" + SENT.mailbox, ("Sent", "old"), account=SENT.account),
            Mailbox(str(OTHER.account).encode() + b"/INBOX", ("INBOX",), account=OTHER.account),
        ]
        got = [sorted(octets for octets in fetched(box).values() if isinstance(octets, bytes)) for box in each(session)]
    assert got == [[b"0\r\n", b"3\r\n"], [b"1\r\n", b"4\r\n", b"7\r\n"], [b"2\r\n", b"5\r\n"]]


def test_path_use_and_subscription_are_those_that_were_recorded(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL, SENT)])
    archive = PacksArchive(path)
    archive.open()
    archive.note_mailboxes([ROAD, OTHER._replace(mailbox=b"Drafts/\xff", path=("Drafts", "x"), use="\\Drafts")])
    archive.close()
    with opened(PacksSource(path, path)) as session:
        found = mailboxes(session)
        assert [(m.path, m.use, m.subscribed) for m in found] == [
            (SENT.path, "\\Sent", False),
            (("INBOX",), "", True),
            (("Drafts", "x"), "\\Drafts", True),
        ]
        assert [len(listed(session.open(mailbox))) for mailbox in found] == [1, 0, 0]


def test_a_mailbox_that_the_archive_does_not_know_is_refused(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL)])
    with opened(PacksSource(path, path)) as session:
        for name in (str(OTHER.account).encode() + b"/INBOX", str(ROAD.account).encode() + b"/Sent"):
            with pytest.raises(MailboxRefused, match="the mailbox “Gone” is not there any more"):
                session.open(Mailbox(name, ("Gone",)))
        assert len(listed(inbox(session))) == 1


def test_a_thousand_mailboxes_are_listed_without_a_query_over_the_whole_index(path: Path) -> None:
    """Counted in steps of SQLite's machine: what one mailbox costs does not depend on how much others have."""
    boxes = [ROAD._replace(mailbox=b"box %d" % n, path=("box", str(n))) for n in range(1_000)]
    put(path, [message(n, b"%d\r\n" % n, box) for n, box in enumerate(boxes)])
    fill(path, 60_000)
    view = PacksView(path)
    steps = [0]

    def step() -> None:
        steps[0] += 1

    view.packs.index.connection.set_progress_handler(step, 1_000)
    found = [mailbox for chunk in view.mailboxes() for mailbox in chunk]
    for mailbox in found[1:]:
        opened_ = view.open(mailbox.name)
        assert opened_
        assert (opened_.totals().messages, sum(map(len, opened_.rows()))) == (1, 1)
    view.close()
    assert len(found) == 1_000
    assert steps[0] < 2_000


def test_flags_and_date_come_with_the_message(path: Path) -> None:
    date = datetime(2020, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    first = Message(Key(1), MessageRef(ROAD, Uid(b"1"), 1), Body.of(b"1\r\n"), ("\\Seen", "$Junk"), date)
    put(path, [first, message(2, b"2\r\n")])
    with opened(PacksSource(path, path)) as session:
        box = inbox(session)
        answers = [answer for answer in box.fetch(wanted(listed(box)), Plenty()) if answer]
    assert [(a.flags, a.internal_date) for a in answers] == [(("\\Seen", "$Junk"), date), ((), None)]
    assert answers[0].internal_date
    assert answers[0].internal_date.utcoffset() == timedelta(hours=2)


def test_what_was_removed_at_its_server_is_still_there(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL)])
    before = uids(path)
    meta = Meta(5)
    meta.removed.append(RefRow(meta.origin(ROAD), Uid(b"uid-1"), 1))
    append_facts(path, meta)
    put(path)
    assert uids(path) == before


# --- damage ------------------------------------------------------------------------------------------


def test_a07_damage_costs_the_messages_of_its_frame_and_no_others(path: Path) -> None:
    put(path, [message(1, b"one\r\n"), message(2, b"two\r\n")], [message(3, b"three\r\n")])
    spoil_mail(path)
    with opened(PacksSource(path, path)) as session:
        assert len(listed(inbox(session))) == 3
        one, two, three = bodies(session)
    for line in (one, two):
        assert isinstance(line, str)
        assert str(pack(path)) in line
        assert line.endswith("the others are not affected")
    assert three == b"three\r\n"


def test_an_odd_frame_costs_what_it_holds_and_the_session_says_so(path: Path) -> None:
    """The whole archive could not be read, with or without an index."""
    put(path, [message(1, CRLF_MAIL)])
    odd = {"at": "2026-11-23T09:28:21Z", "origins": [[str(ROAD.account), "\ud800", "INBOX", 1 << 65]]}
    start = append_frame(path, json.dumps(odd).encode())
    append_facts(path, Meta(5))
    put(path, [message(2, b"Subject: behind\r\n\r\n")])
    for _ in ("with the index", "without one"):
        with opened(PacksSource(path, path)) as session:
            assert bodies(session) == [CRLF_MAIL, b"Subject: behind\r\n\r\n"]
            (note,) = session.info.notes
            assert f"{pack(path)} at offset {start}: the metadata cannot be read" in note
        lose_index(path)


def test_a_pack_that_is_gone_costs_its_messages_and_no_others(path: Path) -> None:
    noise = [message(key, hashlib.sha512(b"%d" % key).hexdigest().encode() * 40 + b"\r\n") for key in range(3)]
    put(path, *([each] for each in noise), seal_octets=100)
    pack(path, 2).unlink()
    with opened(PacksSource(path, path)) as session:
        first, second, third = bodies(session)
    assert (first, third) == (octets(noise[0].body), octets(noise[2].body))
    assert "000002.mbox.zst" in str(second)


def test_octets_that_are_sound_but_others_than_those_stored_are_not_given(path: Path) -> None:
    put(path, [message(1, b"one\r\n"), message(2, b"two\r\n")])
    with sqlite3.connect(path / "index.sqlite") as index:
        index.execute("UPDATE messages SET length = length - 1 WHERE id = 1")
    index.close()
    with opened(PacksSource(path, path)) as session:
        one, two = bodies(session)
    assert "its octets are not those that were stored" in str(one)
    assert two == b"two\r\n"


def test_a_spool_that_cannot_be_written_is_nobodys_damage(path: Path, tmp_path: Path) -> None:
    put(path, [message(1, b"x" * (3 << 20))])
    (tmp_path / "file").touch()
    with opened(PacksSource(path, tmp_path / "file" / "spool")) as session, pytest.raises(StorageError) as caught:
        fetched(inbox(session))
    assert not isinstance(caught.value, MessageRefused)


def test_an_archive_that_vanishes_is_not_taken_for_damaged_mail(path: Path) -> None:
    put(path, *([message(key, b"%d\r\n" % key)] for key in range(3)), seal_octets=10)
    with opened(PacksSource(path, path)) as session:
        box = inbox(session)
        rows = listed(box)
        path.rename(path.with_name("unmounted"))
        for file in (path.with_name("unmounted") / "packs").iterdir():
            file.unlink()
        with pytest.raises(ArchiveMissing):
            list(box.fetch(wanted(rows), Plenty()))


def test_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveMissing):
        PacksSource(tmp_path, tmp_path).connect()
    assert list(tmp_path.iterdir()) == []


# --- a writer meanwhile ------------------------------------------------------------------------------


def test_a_writer_may_append_between_listing_and_reading(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % key) for key in range(5)])
    with opened(PacksSource(path, path)) as session:
        box = inbox(session)
        rows = listed(box)
        put(path, [message(0, b"0\r\n", OTHER), message(9, b"nine\r\n"), message(8, b"0\r\n", uid=b"")])
        answers = [answer for answer in box.fetch(wanted(rows), Plenty()) if answer]
        assert [octets(a.body) for a in answers if a.body] == [b"%d\r\n" % key for key in range(5)]
        assert box.totals().messages == 5
    assert len(uids(path)) == 8


def test_a_writer_may_append_while_it_is_listed(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % (key // 2), uid=b"%05d" % key) for key in range(2500)])
    before = set(uids(path))
    with opened(PacksSource(path, path)) as session:
        box = inbox(session)
        seen = []
        for number, chunk in enumerate(box.list()):
            seen += chunk
            put(path, [message(0, b"1\r\n", uid=b"%d" % number), message(1, b"later %d\r\n" % number)])
        assert before <= {row.uid for row in seen}
        assert [row.number for row in seen] == list(range(1, len(seen) + 1))
        assert box.totals().messages == len(seen) == 2500
        answers = [answer for answer in box.fetch(wanted(seen), Plenty()) if answer]
        assert all(answer.body for answer in answers)


def test_a_tail_that_a_writer_has_not_finished_is_not_seen(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL)])
    with pack(path).open("ab") as file:
        file.write(b"half a frame")
    (path / "index.sqlite").unlink()
    with opened(PacksSource(path, path)) as session:
        assert bodies(session) == [CRLF_MAIL]


def test_memory_stays_flat_however_much_is_listed(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL)])
    fill(path, 60_000)
    view = PacksView(path)
    [[mailbox]] = view.mailboxes()
    opened_ = view.open(mailbox.name)
    assert opened_
    tracemalloc.start()
    try:
        assert sum(map(len, opened_.rows())) > 59_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        view.close()
    assert peak < 2 << 20


def fill(path: Path, number: int) -> None:
    """Put messages into the index that are in no pack, all of them in the first mailbox."""
    index = Index.open(path / "index.sqlite", PacksArchive(path).identity())
    assert index
    index.connection.execute("BEGIN")
    (first,) = index.connection.execute("SELECT max(id) FROM messages").fetchone()
    keys = range(first + 10, first + number)
    index.connection.executemany(
        "INSERT INTO messages VALUES (?,?,?,1,0,1,0,1,0,1,0)",
        ((key, hashlib.sha256(b"%d" % key).digest(), bytes(8)) for key in keys),
    )
    index.connection.executemany(
        "INSERT INTO places VALUES (?,?,?,1,'','','',NULL)", ((key, 1, b"%d" % key) for key in keys)
    )
    index.connection.execute("COMMIT")
    index.close()
