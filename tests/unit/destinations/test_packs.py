"""What is particular to packs: what is stored, and what is known of it; the contract has its own suite."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.durable import Step
from syncd.errors import StateError
from syncd.formats.packs import frame as pack_format
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from syncd.formats.packs.meta import Meta, RefRow
from syncd.formats.packs.opened import OpenedPacks
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Receipt, Uid
from tests.contract.destination_suite import OTHER, ROAD, SENT, check, delivered, message, watching
from tests.support.mail import corpus
from tests.support.packs import (
    append_facts,
    count_in_mbox,
    dump,
    frames,
    listed,
    mail,
    messages,
    pack,
    problems,
    rebuilt,
    stored,
    uids,
    zstdcat,
)

# --- what is stored, and what is known of it ---


def test_each_batch_is_one_fdatasync_and_one_commit(archive: PacksArchive) -> None:
    delivered(archive, messages(1))
    seen: list[Step] = []
    with watching(lambda _number, step, moment: seen.append(step) if moment == "before" else None):
        delivered(archive, messages(*range(2, 300), size=9000))
    assert seen == [Step.PACK_SYNC, Step.INDEX_COMMIT]


def test_nothing_is_written_for_what_is_known(archive: PacksArchive, path: Path) -> None:
    delivered(archive, messages(1, 2))
    size = pack(path).stat().st_size
    with watching(lambda *_: pytest.fail("a durable step")):
        delivered(archive, messages(1, 2))
    assert pack(path).stat().st_size == size


def test_facts_about_a_place(archive: PacksArchive, path: Path) -> None:
    date = datetime(2020, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=-3)))
    first = Message(Key(1), MessageRef(ROAD, Uid(b"a"), 1), Body.of(mail(1)), ("\\Seen", "two words"), date)
    again = Message(Key(2), MessageRef(OTHER, Uid(b"b"), 3), Body.of(mail(1)))
    delivered(archive, [first, again])
    delivered(archive, messages(7))
    meta = Meta(5)
    road, other = meta.origin(ROAD), meta.origin(OTHER)
    meta.flags += [(RefRow(road, Uid(b"a"), 1), "\\Flagged"), (RefRow(road, Uid(b"unknown"), 1), "x")]
    meta.removed.append(RefRow(other, Uid(b"b"), 3))
    append_facts(path, meta)
    archive.open()
    (one, _) = listed(path)
    assert (one.sha256, one.octets, one.header_hash) == (
        first.body.sha256,
        first.body.octets,
        first.body.header_hash,
    )
    assert [(place.ref, place.flags, place.internal_date) for place in one.places] == [
        (first.ref, ("\\Flagged",), date),
        (again.ref, (), None),
    ]
    assert one.places[0].internal_date is not None
    assert one.places[0].internal_date.utcoffset() == timedelta(hours=-3)
    assert one.places[0].removed_at is None
    assert one.places[1].removed_at is not None
    assert b"\nFrom MAILER-DAEMON " not in zstdcat(path).split(b"\n\n")[0]
    assert zstdcat(path).startswith(b"From MAILER-DAEMON Sun Mar  1 02:59:58 2020\n")
    assert dump(path) == rebuilt(path)
    archive.open()
    delivered(archive, [again])  # it is back at its source
    assert [place.removed_at for found in listed(path) for place in found.places] == [None] * 3


def test_a_new_name_of_an_account_is_taken_over(archive: PacksArchive) -> None:
    delivered(archive, messages(1))
    renamed = message(1, mail(1), ROAD._replace(account_name="new"))
    delivered(archive, [renamed])
    (place,) = archive.places(ROAD.account)
    assert place.ref == renamed.ref


def test_what_was_said_last_of_a_mailbox_counts(archive: PacksArchive, path: Path) -> None:
    delivered(archive, [message(1, mail(1), SENT)])
    moved = SENT._replace(path=("Gesendet",), use="\\Sent", subscribed=True)
    delivered(archive, [message(1, mail(1), moved)])
    (place,) = archive.places(SENT.account)
    assert place.ref.origin == moved
    assert dump(path) == rebuilt(path)


def test_labels_come_back_with_the_place_and_newer_ones_count(archive: PacksArchive, path: Path) -> None:
    first, again = message(1, mail(1)), message(1, mail(1))
    first.labels, again.labels = ("Work/2026", "two words"), ("\\Inbox", "Ärger")
    other = message(2, mail(1), SENT)
    receipts = delivered(archive, [first, other])
    assert archive.read(receipts[Key(1)], first.ref).labels == first.labels
    assert archive.read(receipts[Key(1)], other.ref).labels == ()
    delivered(archive, [again])
    assert archive.read(receipts[Key(1)], first.ref).labels == again.labels
    size = pack(path).stat().st_size
    delivered(archive, [again])
    assert pack(path).stat().st_size == size
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_mailboxes_without_messages_are_recorded(archive: PacksArchive, path: Path) -> None:
    delivered(archive, [message(1, mail(1), SENT)])
    box = Origin(SENT.account, "road", b"box", Epoch(3))
    empty = [box._replace(mailbox=b"box %d" % n, path=("box", str(n)), use="\\Junk" * (n % 2)) for n in range(9)]
    archive.note_mailboxes([SENT, *empty, empty[0]])
    size = pack(path).stat().st_size
    assert set(archive.places(SENT.account)) == {p for p in archive.places(SENT.account) if p.ref.origin == SENT}
    with watching(lambda *_: pytest.fail("a durable step")):
        archive.note_mailboxes([*empty, SENT])
    assert pack(path).stat().st_size == size
    archive.note_mailboxes([empty[3]._replace(subscribed=False)])
    assert pack(path).stat().st_size > size
    archive.close()
    with closing(OpenedPacks.open(path)) as packs:
        assert set(packs.index.origins()) == {SENT, *empty, empty[3]._replace(subscribed=False)} - {empty[3]}
    assert count_in_mbox(path) == 1
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_mailboxes_need_an_archive_that_is_open(path: Path) -> None:
    with pytest.raises(StateError, match="not open"):
        PacksArchive(path).note_mailboxes([ROAD])


def test_find_by_digest_and_by_uid(archive: PacksArchive, path: Path) -> None:
    batch = messages(1, 2, 3)
    delivered(archive, batch)
    digest = batch[1].body.sha256
    with closing(OpenedPacks.open(path)) as packs:
        for start in (digest.hex(), digest.hex()[:5].upper(), "uid-2"):
            assert [found.sha256 for found in packs.find(start)] == [digest]
        assert list(packs.find("abc")) == []  # too short for a digest, and no uid
        assert list(packs.find("%zz")) == []


def test_stats(archive: PacksArchive, path: Path) -> None:
    batch = [*messages(1, 2), message(3, mail(1), OTHER)]
    delivered(archive, batch)
    meta = Meta(5)
    meta.removed.append(RefRow(meta.origin(OTHER), Uid(b"uid-3"), 1))
    append_facts(path, meta)
    archive.open()
    with closing(OpenedPacks.open(path)) as packs:
        stats = packs.stats()
    assert (stats.messages, stats.places, stats.removed, stats.accounts, stats.packs) == (2, 3, 1, 2, 1)
    assert stats.octets == len(mail(1)) + len(mail(2))
    assert stats.pack_octets == pack(path).stat().st_size
    assert stats.index_octets > 0


def test_messages_stream_in_the_order_of_storing(
    archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.formats.packs.query.PAGE", 3)
    batch = messages(*range(10))
    delivered(archive, batch[:4])
    delivered(archive, batch[4:])
    assert [found.sha256 for found in listed(path)] == [m.body.sha256 for m in batch]
    assert len(list(archive.places(ROAD.account))) == 10


@pytest.mark.parametrize("same", [False, True])
def test_names_may_be_long(path: Path, monkeypatch: pytest.MonkeyPatch, *, same: bool) -> None:
    """Many small messages with long names made a frame that could be written and not read."""
    monkeypatch.setattr(pack_format, "MAX_META_OCTETS", 300_000)
    for module in (pack_frames, pack_writer):
        monkeypatch.setattr(module, "META_OCTETS", 300_000 // 16)
    archive = PacksArchive(path)
    archive.open()
    folder = ROAD._replace(mailbox=b"/".join([bytes(range(256))] * 8))
    long = b"\xff" * 1020
    batch = [message(key, mail(0 if same else key, 40), folder, uid=b"%d" % key + long) for key in range(300)]
    delivered(archive, batch[:1])
    delivered(archive, batch)
    archive.close()
    assert len(frames(pack(path))) > 10
    assert {place.ref for place in PacksArchive(path).places(ROAD.account)} == {each.ref for each in batch}
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_packs_are_sealed(path: Path) -> None:
    archive = PacksArchive(path, seal_octets=20_000)
    archive.open()
    for start in range(0, 60, 10):
        delivered(archive, messages(*range(start, start + 10), size=2000))
    archive.close()
    sizes = [file.stat().st_size for file in sorted((path / "packs").iterdir())]
    assert len(sizes) > 2
    assert all(20_000 <= size < 32_000 for size in sizes[:-1])
    assert stored(path) == uids(*range(60))
    assert count_in_mbox(path) == 60
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_a_batch_over_several_packs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_frames, "FRAME_OCTETS", 4000)
    archive = PacksArchive(path, seal_octets=9_000)
    archive.open()
    delivered(archive, messages(*range(20), size=2000))
    delivered(archive, messages(20))
    archive.close()
    assert len(list((path / "packs").iterdir())) > 2
    assert stored(path) == uids(*range(21))
    assert problems(path) == []


def test_real_mail_comes_back_and_is_small(archive: PacksArchive, path: Path) -> None:
    """As POP3 serves it, with CRLF; generated mail where there is none."""
    found = [data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for data in corpus()]
    batch = [message(key, data) for key, data in enumerate(found or [mail(key) for key in range(50)])]
    for start in range(0, len(batch), 1000):
        delivered(archive, batch[start : start + 1000])
    check(archive, {m.key: Receipt(m.body.sha256) for m in batch}, batch)
    archive.close()
    assert count_in_mbox(path) == len({m.body.sha256 for m in batch})
    assert problems(path) == []
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert size <= (0.26 if found else 4) * sum(m.body.octets for m in batch)
