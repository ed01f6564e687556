"""Packs as a source: what is one message and what two, damage, and a writer at work meanwhile."""

from __future__ import annotations

import hashlib
import sqlite3
import tracemalloc
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.errors import ArchiveMissing, MessageRefused, StorageError
from syncd.formats.packs.index import Index
from syncd.formats.packs.listing import Place, uid_of
from syncd.formats.packs.meta import Meta, RefRow
from syncd.mail.body import Body
from syncd.mail.message import Message, MessageRef
from syncd.sources.base import SourceSession
from syncd.sources.packs import PackHoldings, PacksSource
from tests.contract.destination_kit import CRLF_MAIL, OTHER, ROAD, SENT, delivered, message, octets
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import fetched, opened
from tests.support.packs import append_facts, pack, spoil_mail


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


def uids(path: Path) -> list[bytes]:
    with opened(PacksSource(path, path)) as session:
        return [row.uid for row in listed(session)]


def bodies(session: SourceSession) -> list[bytes | str]:
    """What every listed message gives: its octets, or why it is not had."""
    return [got if isinstance(got, bytes) else str(got.error) for got in fetched(session).values()]


def test_the_uid_is_what_the_module_says_and_never_changes() -> None:
    place = Place(UUID(int=1).bytes, 7, b"Sent \xff", 2, b"u 1", hashlib.sha256(CRLF_MAIL).digest())
    octets_ = UUID(int=1).bytes + b"7 6 Sent \xff2 u 1" + hashlib.sha256(CRLF_MAIL).digest()
    assert uid_of(place) == hashlib.sha256(octets_).hexdigest()[:32].encode()
    assert uid_of(place) == b"f7469eef42aecbc1d5e4289755a7d270"


def test_places_that_differ_in_one_thing_alone_never_share_a_uid() -> None:
    place = Place(bytes(16), 1, b"2 x", 1, b"1 y", bytes(32))
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
    """Even when octets known from elsewhere come to a place where others were: the listing then begins with them."""
    put(path, [message(1, b"a\r\n", SENT)], [message(2, b"b\r\n", uid=b"u")])
    before = uids(path)
    put(path, [message(3, b"a\r\n", uid=b"u")])
    after = uids(path)
    assert len(set(after)) == 3
    assert [uid for uid in after if uid in before] == before
    with opened(PacksSource(path, path)) as session:
        assert sorted(map(str, bodies(session))) == sorted(map(str, [b"a\r\n", b"a\r\n", b"b\r\n"]))


def test_an_index_built_anew_gives_the_same_listing(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % (key % 7), (ROAD, SENT, OTHER)[key % 3]) for key in range(40)])
    with opened(PacksSource(path, path)) as session:
        first = listed(session)
    PacksArchive(path).rebuild()
    with opened(PacksSource(path, path)) as session:
        assert listed(session) == first
    (path / "index.sqlite").unlink()
    with opened(PacksSource(path, path)) as session:
        assert listed(session) == first
        assert len(bodies(session)) == 40
    assert not (path / "index.sqlite").exists(), "reading must not write"


def test_flags_and_date_come_with_the_message(path: Path) -> None:
    date = datetime(2020, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    first = Message(1, MessageRef(ROAD, b"1", 1), Body.of(b"1\r\n"), ("\\Seen", "$Junk"), date)
    put(path, [first, message(2, b"2\r\n")])
    with opened(PacksSource(path, path)) as session:
        answers = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer]
    assert [(a.flags, a.internal_date) for a in answers] == [(("\\Seen", "$Junk"), date), ((), None)]
    assert answers[0].internal_date
    assert answers[0].internal_date.utcoffset() == timedelta(hours=2)


def test_what_was_removed_at_its_server_is_still_there(path: Path) -> None:
    put(path, [message(1, CRLF_MAIL)])
    before = uids(path)
    meta = Meta(5)
    meta.removed.append(RefRow(meta.origin(ROAD), b"uid-1", 1))
    append_facts(path, meta)
    put(path)
    assert uids(path) == before


# --- damage ------------------------------------------------------------------------------------------


def test_a07_damage_costs_the_messages_of_its_frame_and_no_others(path: Path) -> None:
    put(path, [message(1, b"one\r\n"), message(2, b"two\r\n")], [message(3, b"three\r\n")])
    spoil_mail(path)
    with opened(PacksSource(path, path)) as session:
        assert len(listed(session)) == 3
        one, two, three = bodies(session)
    for line in (one, two):
        assert isinstance(line, str)
        assert str(pack(path)) in line
        assert line.endswith("the others are not affected")
    assert three == b"three\r\n"


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
        fetched(session)
    assert not isinstance(caught.value, MessageRefused)


def test_an_archive_that_vanishes_is_not_taken_for_damaged_mail(path: Path) -> None:
    put(path, *([message(key, b"%d\r\n" % key)] for key in range(3)), seal_octets=10)
    with opened(PacksSource(path, path)) as session:
        rows = listed(session)
        path.rename(path.with_name("unmounted"))
        for file in (path.with_name("unmounted") / "packs").iterdir():
            file.unlink()
        with pytest.raises(ArchiveMissing):
            list(session.fetch(wanted(rows), Plenty()))


def test_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveMissing):
        PacksSource(tmp_path, tmp_path).connect()
    assert list(tmp_path.iterdir()) == []


# --- a writer meanwhile ------------------------------------------------------------------------------


def test_a_writer_may_append_between_listing_and_reading(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % key) for key in range(5)])
    with opened(PacksSource(path, path)) as session:
        rows = listed(session)
        put(path, [message(0, b"0\r\n", OTHER), message(9, b"nine\r\n"), message(8, b"0\r\n", uid=b"")])
        answers = [answer for answer in session.fetch(wanted(rows), Plenty()) if answer]
        assert [octets(a.body) for a in answers if a.body] == [b"%d\r\n" % key for key in range(5)]
        assert session.totals().messages == 5
    assert len(uids(path)) == 8


def test_a_writer_may_append_while_it_is_listed(path: Path) -> None:
    put(path, [message(key, b"%d\r\n" % (key // 2), uid=b"%05d" % key) for key in range(2500)])
    before = set(uids(path))
    with opened(PacksSource(path, path)) as session:
        seen = []
        for number, chunk in enumerate(session.list()):
            seen += chunk
            put(path, [message(0, b"1\r\n", OTHER, uid=b"%d" % number), message(1, b"later %d\r\n" % number)])
        assert before <= {row.uid for row in seen}
        assert [row.number for row in seen] == list(range(1, len(seen) + 1))
        assert session.totals().messages == len(seen)
        answers = [answer for answer in session.fetch(wanted(seen), Plenty()) if answer]
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
    index = Index.open(path / "index.sqlite", PacksArchive(path).identity())
    assert index
    index.connection.execute("BEGIN")
    index.connection.executemany(
        "INSERT INTO messages VALUES (?,?,?,1,0,1,0,1,0,1,0)",
        ((key, hashlib.sha256(b"%d" % key).digest(), bytes(8)) for key in range(10, 60_000)),
    )
    index.connection.executemany(
        "INSERT INTO places VALUES (?,1,?,1,'','',NULL)", ((key, b"%d" % key) for key in range(10, 60_000))
    )
    index.connection.execute("COMMIT")
    index.close()
    holdings = PackHoldings(path)
    tracemalloc.start()
    try:
        assert sum(map(len, holdings.rows())) > 59_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        holdings.close()
    assert peak < 2 << 20
