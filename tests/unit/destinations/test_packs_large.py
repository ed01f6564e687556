"""Messages that are stored in parts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from syncd.mail.body import BodyWriter
from syncd.mail.message import Key, Message, MessageRef, Uid
from tests.contract.destination_suite import ROAD, check, delivered, message
from tests.support.packs import (
    count_in_mbox,
    deliver,
    dump,
    forget_after,
    frames,
    listed,
    messages,
    pack,
    problems,
    rebuilt,
    stored,
    uids,
)

# --- large messages ---


def large(tmp_path: Path, size: int, line: bytes = b"From the middle %09d\r\n") -> Message:
    writer = BodyWriter(tmp_path / "spool")
    number = 0
    while writer.octets < size:
        writer.write(b"".join(line % n for n in range(number, number + 40_000)))
        number += 40_000
    return Message(Key(9), MessageRef(ROAD, Uid(b"large"), 1), writer.finish())


def test_a_large_message_is_in_parts_and_one_in_the_mbox(archive: PacksArchive, path: Path, tmp_path: Path) -> None:
    body = large(tmp_path, 13 << 20)
    batch = [*messages(1), body, *messages(2)]
    check(archive, delivered(archive, batch), batch)
    (found,) = (each for each in listed(path) if each.sha256 == body.body.sha256)
    assert found.location.parts > 3
    assert count_in_mbox(path) == 3
    assert problems(path) == []
    assert dump(path) == rebuilt(path)
    body.body.close()


def test_a_large_message_that_is_in_memory(archive: PacksArchive) -> None:
    batch = [message(1, b"\n>From " * (9 << 20 >> 3) + b"end\r")]
    check(archive, delivered(archive, batch), batch)
    batch = [message(2, b">" * (9 << 20))]
    check(archive, delivered(archive, batch), batch)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "LARGE_OCTETS", 900)
    monkeypatch.setattr(pack_frames, "PART_OCTETS", 400)


@pytest.mark.usefixtures("small_parts")
def test_a_large_message_stays_in_one_pack(path: Path) -> None:
    archive = PacksArchive(path, seal_octets=5_000)
    archive.open()
    for key in range(5):
        delivered(archive, messages(key, size=3000))
    archive.close()
    assert len(list((path / "packs").iterdir())) == 5
    assert stored(path) == uids(*range(5))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("multiple", [1, 3, 4])
def test_parts_that_end_at_the_end(archive: PacksArchive, multiple: int) -> None:
    for size in range(400 * multiple - 2, 400 * multiple + 3):
        batch = [message(size, b"x" * size), message(5000 + size, b"y" * (size - 1) + b"\n")]
        check(archive, delivered(archive, batch), batch)


@pytest.mark.usefixtures("small_parts")
def test_parts_without_their_last_are_void(archive: PacksArchive, path: Path) -> None:
    delivered(archive, messages(1))
    whole = pack(path).stat().st_size
    delivered(archive, messages(2, size=3000))
    archive.close()
    starts = [frame.offset for frame in frames(pack(path)) if frame.offset >= whole]
    assert len(starts) > 5
    for end in (*starts[1:], pack(path).stat().st_size - 1):
        other = path.with_name(f"cut-{end}")
        shutil.copytree(path, other)
        os.truncate(pack(other), end)
        forget_after(other, whole)
        deliver(other, messages(3))
        assert stored(other) == uids(1, 3)
        assert count_in_mbox(other) == 2
        assert problems(other) == []


@pytest.mark.usefixtures("small_parts")
def test_parts_that_are_not_in_a_row_are_damage(archive: PacksArchive, path: Path) -> None:
    delivered(archive, messages(1))
    delivered(archive, messages(2, size=3000))
    delivered(archive, messages(3))
    archive.close()
    content = pack(path).read_bytes()
    parts = [frame for frame in frames(pack(path)) if frame.meta.part]
    for without in (parts[0], parts[2], parts[-1]):
        pack(path).write_bytes(content[: without.offset] + content[without.end :])
        (path / "index.sqlite").unlink(missing_ok=True)
        assert any("large message" in problem for problem in problems(path))
        assert stored(path) == uids(1, 3)
