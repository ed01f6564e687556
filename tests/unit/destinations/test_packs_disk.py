"""Disks that fail, crashes, several writers, strangers in the folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.durable import Moment, Step
from syncd.errors import DiskFull, FormatDamaged, StateError, StorageError
from syncd.formats.packs import append as pack_append
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import home as pack_home
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Origin, Receipt
from tests.contract.destination_suite import ROAD, Crash, delivered, message, octets, watching
from tests.support.packs import (
    checked,
    count_in_mbox,
    deliver,
    dump,
    mail,
    messages,
    pack,
    problems,
    rebuild,
    rebuilt,
    stored,
    uids,
)

# --- disks that fail ---


def test_a_failed_fsync_gives_the_pack_up(archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered(archive, messages(1))
    before = pack(path).read_bytes()

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pack_append, "_fdatasync", fail)
    with pytest.raises(StorageError, match=f"cannot make {pack(path)} durable: Input/output error"):
        delivered(archive, messages(2))
    monkeypatch.undo()
    assert pack(path).read_bytes() == before
    assert stored(path) == uids(1)
    archive.close()
    deliver(path, messages(2))
    assert pack(path).read_bytes() == before
    assert stored(path) == uids(1, 2)
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


@pytest.mark.parametrize("room", [0, 10, 500, 40_000])
def test_no_space_left_in_the_middle_of_a_batch(
    archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(pack_frames, "FRAME_OCTETS", 10_000)
    delivered(archive, messages(1))
    before = pack(path).read_bytes()
    write, left = os.pwrite, room

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[:left], offset)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(DiskFull, match=f"cannot write to {pack(path)}: No space left"):
        delivered(archive, messages(*range(2, 90), size=1000))
    monkeypatch.setattr(os, "pwrite", write)
    assert pack(path).read_bytes() == before
    delivered(archive, messages(*range(2, 90), size=1000))
    assert stored(path) == uids(*range(1, 90))
    assert problems(path) == []


def test_what_could_not_be_cut_at_once_the_next_writer_cuts(
    archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(archive, messages(1))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    write = os.pwrite
    monkeypatch.setattr(os, "ftruncate", fail)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:20], at) if len(data) > 20 else fail())
    with pytest.raises(StorageError, match="cannot write"):
        delivered(archive, messages(2))
    monkeypatch.undo()
    delivered(archive, messages(2))
    assert stored(path) == uids(1, 2)
    assert len(list((path / "packs").glob("*.torn-*"))) == 1
    assert problems(path) == []


def test_a_disk_that_takes_few_octets_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torn tail was kept in part, and cut whole."""
    deliver(path, messages(1))
    whole = pack(path).stat().st_size
    tail = bytes(range(1, 200))
    with pack(path).open("ab") as opened:
        opened.write(tail)
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, octets: write(fd, octets[:7]))
    monkeypatch.setattr(os, "pwrite", lambda fd, octets, at: pwrite(fd, octets[:50], at))
    deliver(path, messages(2))
    assert (path / f"packs/000001.torn-{whole}").read_bytes() == tail
    assert stored(path) == uids(1, 2)
    assert problems(path) == []


def test_a_pack_has_its_name_when_its_first_frame_is_durable(path: Path) -> None:
    """A power cut may leave a name and no content: `zstdcat` takes an empty pack for an error."""
    seen: list[Step] = []
    with watching(lambda _, step, moment: seen.append(step) if moment == "before" else None):
        deliver(path, messages(1))
    made = seen.index(Step.PACK_CREATE)
    assert seen[made - 1 : made + 2] == [Step.PACK_SYNC, Step.PACK_CREATE, Step.DIRECTORY_SYNC]


def test_a_folder_deep_below_is_made_durably(tmp_path: Path) -> None:
    """Only the last name was synced: after a power cut the archive could be gone with the folders above it."""
    seen: list[Step] = []
    with watching(lambda _, step, moment: seen.append(step) if moment == "before" else None):
        PacksArchive(tmp_path / "a/b/home").create(uuid4())
    assert seen.count(Step.DIRECTORY_SYNC) == 5  # a, b, home, packs, archive.json


@pytest.mark.parametrize("crash_at", ["before", "after"])
def test_a_batch_is_undone_through_the_gate(
    archive: PacksArchive, path: Path, crash_at: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash there leaves what the next writer puts right."""
    delivered(archive, messages(1))

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def crash(_: int, step: Step, moment: Moment) -> None:
        if (step, moment) == (Step.PACK_UNDO, crash_at):
            raise Crash

    monkeypatch.setattr(pack_append, "_fdatasync", fail)
    with pytest.raises(Crash), watching(crash):
        delivered(archive, messages(2))
    monkeypatch.undo()
    archive.close()
    archive.open()
    delivered(archive, messages(2, 3))
    assert stored(path) == uids(1, 2, 3)
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_a_crash_before_or_after_any_durable_step(tmp_path: Path) -> None:
    """The process is gone; another one finds all that was acknowledged, and stores the rest."""
    for number in range(1, 100):
        path = tmp_path / str(number)
        PacksArchive(path).create(UUID(int=7))
        archive = PacksArchive(path, seal_octets=2_000)
        last = [0]

        def see(step_number: int, *_: object, crash_at: int = number, last: list[int] = last) -> None:
            last[0] = step_number
            if step_number >= crash_at:
                raise Crash

        acknowledged: set[bytes] = set()
        with watching(see):
            try:
                archive.open()
                for key in range(4):
                    delivered(archive, messages(key, size=1500))
                    acknowledged |= uids(key)
                archive.close()
            except Crash:
                archive.close()
        assert acknowledged <= stored(path)
        deliver(path, messages(*range(4), size=1500))
        assert stored(path) == uids(*range(4))
        assert count_in_mbox(path) == 4
        assert problems(path) == []
        assert dump(path) == rebuilt(path)
        if last[0] < number:
            assert number > 10
            return
    pytest.fail("never came to an end")


# --- two writers, and strangers ---


def test_two_writers_alternate(path: Path) -> None:
    one, two = PacksArchive(path, seal_octets=3_000), PacksArchive(path, seal_octets=3_000)
    one.open()
    two.open()
    for key in range(0, 20, 2):
        delivered(one, messages(key, 100, size=900))
        delivered(two, messages(key + 1, key, size=900))
    one.close()
    two.close()
    assert stored(path) == uids(*range(20), 100)
    assert count_in_mbox(path) == 21
    assert problems(path) == []
    assert dump(path) == rebuilt(path)


def test_a_writer_waits_for_the_lock_and_says_so_in_the_end(
    archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = pack_home.Home.open(path, writable=True)
    slept: list[float] = []
    monkeypatch.setattr("syncd.clock.sleep", slept.append)
    monkeypatch.setattr("syncd.clock.monotonic", lambda: sum(slept))
    with other.locked(), pytest.raises(StorageError, match="is locked by another process"):
        delivered(archive, messages(1))
    assert pack_home.LOCK_WAIT_S <= sum(slept) < pack_home.LOCK_WAIT_S + 1
    delivered(archive, messages(1))
    other.close()


def test_a_reader_needs_no_lock(archive: PacksArchive, path: Path) -> None:
    delivered(archive, messages(1))
    other = pack_home.Home.open(path, writable=True)
    with other.locked():
        assert stored(path) == uids(1)
        assert problems(path) == []
    other.close()


def test_symbolic_links_inside_are_not_followed(path: Path, tmp_path: Path) -> None:
    deliver(path, messages(1))
    for name in ("packs/000001.mbox.zst", "index.sqlite", "archive.json", "packs"):
        aside = tmp_path / "aside"
        (path / name).rename(aside)
        (path / name).symlink_to(aside)
        archive = PacksArchive(path)
        with pytest.raises(StorageError) as caught:
            archive.open()
        assert str(path) in str(caught.value)
        (path / name).unlink()
        aside.rename(path / name)
    assert stored(path) == uids(1)


def test_a_newer_format_is_refused(path: Path) -> None:
    identity = json.loads((path / "archive.json").read_text())
    (path / "archive.json").write_text(json.dumps(identity | {"version": 2}))
    with pytest.raises(FormatDamaged, match="version 2"):
        PacksArchive(path).open()


def test_packs_without_their_identity_are_not_taken_for_a_place_to_begin(path: Path) -> None:
    deliver(path, messages(1))
    (path / "archive.json").unlink()
    with pytest.raises(StorageError, match=r"without its archive\.json"):
        PacksArchive(path).create(uuid4())


def test_check_names_a_pack_of_another_archive(path: Path, tmp_path: Path) -> None:
    deliver(path, messages(1))
    other = tmp_path / "other"
    PacksArchive(other).create(UUID(int=5))
    deliver(other, messages(2))
    shutil.copy(pack(other), pack(path, 2))
    deliver(path)
    assert stored(path) == uids(1, 2)
    assert problems(path) == [f"000002.mbox.zst@0 is a pack of archive {UUID(int=5)}"]


def test_check_tells_how_far_it_is(archive: PacksArchive, path: Path) -> None:
    for key in range(3):
        delivered(archive, messages(key))
    told: list[tuple[int, int]] = []
    assert checked(path, lambda done, total: told.append((done, total))) == []
    size = pack(path).stat().st_size
    assert told == sorted(told)
    assert told[-1] == (size, size)


def test_a_message_that_is_not_there(archive: PacksArchive) -> None:
    with pytest.raises(FormatDamaged, match="does not hold the message with SHA-256 00"):
        archive.read(Receipt(bytes(32)))


def test_delivering_needs_open(path: Path) -> None:
    with pytest.raises(StateError, match="not open"):
        delivered(PacksArchive(path), messages(1))


def test_an_index_lost_while_open_is_found_again_for_reading(path: Path) -> None:
    archive, reader = PacksArchive(path), PacksArchive(path)
    archive.open()
    delivered(archive, messages(1))
    assert len(list(reader.places(ROAD.account))) == 1
    archive.close()
    rebuild(path)
    deliver(path, messages(2))
    assert octets(reader.read(Receipt(messages(2)[0].body.sha256)).body) == mail(2)
    reader.close()


def test_origins_may_be_any_octets(archive: PacksArchive, path: Path) -> None:
    path_ = ("", "%41", "\udcff\ud800 /", "\n")
    origin = Origin(UUID(int=3), "naïve \n name", b"\xff/\x00 %41", Epoch(2**32 - 1), path_, "\\Junk", subscribed=False)
    one = [message(1, mail(1), origin)]
    delivered(archive, one)
    (place,) = archive.places(origin.account)
    assert place.ref.origin == origin
    assert dump(path) == rebuilt(path)
