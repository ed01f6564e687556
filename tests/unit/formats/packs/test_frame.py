from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import google_crc32c
import pytest

from syncd.formats import zstd
from syncd.formats.packs import frame as pack
from syncd.formats.packs.frame import BadFrame, Damage, Frame, Tail
from syncd.formats.packs.meta import Meta, PlaceRow, StoredRow
from syncd.formats.packs.parse import MAX_META_OCTETS
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Origin, Uid

MAIL = b"From a\nSubject: x\n\nbody\n\n"


DIGEST = sha256(MAIL).digest()
ROAD = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))


def meta(at: int, data: bytes = b"", part: tuple[int, int] | None = None) -> Meta:
    said = Meta(at, part=part)
    if data:
        said.messages.append(StoredRow(DIGEST, bytes(8), len(data), 0, len(data), crlf=True))
        said.firsts.append(PlaceRow(DIGEST, said.origin(ROAD), Uid(b"u"), 1, "", ""))
    return said


def frame(at: int, data: bytes = b"") -> bytes:
    return wrapped(meta(at, data).dump(), data)


def wrapped(document: bytes, data: bytes = b"") -> bytes:
    """A frame with any metadata, whose checksums agree."""
    packed = zstd.compress(zstd.compressor(), data) if data else b""
    return pack.encode_frame(zstd.compress(zstd.compressor(), document), packed) + packed


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "pack", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def scanned(fd: int, octets: bytes) -> list[Frame | Damage | Tail]:
    os.ftruncate(fd, 0)
    os.pwrite(fd, octets, 0)
    return list(pack.scan(fd, 0, len(octets)))


def test_crc_is_castagnoli() -> None:
    assert google_crc32c.value(b"123456789") == 0xE3069283
    assert google_crc32c.implementation == "c"  # the one in Python is a thousand times slower


def test_layout_in_octets(opened: int) -> None:
    octets = frame(5, MAIL)
    size = int.from_bytes(octets[4:8], "little")
    data = octets[8 + size :]
    assert octets[:4].hex() == "532a4d18"
    assert octets[8:14] == b"SYNCDP"
    assert octets[14:16].hex() == "0100"
    assert int.from_bytes(octets[16:20], "little") == google_crc32c.value(octets[:16] + octets[20 : 8 + size])
    assert int.from_bytes(octets[20:24], "little") == google_crc32c.value(data)
    assert int.from_bytes(octets[24:32], "little") == len(data)
    assert data[:4].hex() == "28b52ffd"
    assert data[4] & 0b100, "no content checksum"
    assert zstd.decompress(octets[32 : 8 + size], 1000) == meta(5, MAIL).dump()
    (found,) = scanned(opened, octets)
    assert isinstance(found, Frame)
    assert pack.content(opened, found) == MAIL


def test_every_flipped_bit_is_found_and_reading_goes_on_behind_it(opened: int) -> None:
    first, second = frame(1, MAIL), frame(2)
    for bit in range(8 * len(first)):
        damaged = bytearray(first + second)
        damaged[bit // 8] ^= 1 << bit % 8
        found = scanned(opened, bytes(damaged))
        assert [type(each) for each in found] == [Damage, Frame], bit
        assert found[0][:2] == (0, len(first))
        assert isinstance(found[0], Damage)
        assert found[0].lost is None or found[0].lost == (DIGEST,)
        assert isinstance(found[1], Frame)
        assert found[1].meta == Meta(2)


def test_a_pack_cut_at_any_octet_ends_in_a_tail(opened: int) -> None:
    first, second = frame(1), frame(2, MAIL)
    for length in range(1, len(second)):
        found = scanned(opened, first + second[:length])
        assert [type(each) for each in found] == [Frame, Tail], length
        assert isinstance(found[1], Tail)
        assert found[1].offset == len(first)
        assert found[1].torn


def test_a_torn_append_tells_how_much_is_known_of_it(opened: int) -> None:
    octets = frame(2, MAIL)
    data = 8 + int.from_bytes(octets[4:8], "little")
    for length, lost in (
        (1, ()),
        (31, ()),
        (32, None),
        (data - 1, None),
        (data, (DIGEST,)),
        (len(octets) - 1, (DIGEST,)),
    ):
        (found,) = scanned(opened, octets[:length])
        assert isinstance(found, Tail)
        assert (found.torn, found.lost) == (True, lost), length


@pytest.mark.parametrize("end", [0, 32, 3 << 20])
def test_zeros_are_no_torn_append(opened: int, end: int) -> None:
    found = scanned(opened, frame(1) * bool(end) + bytes(end))
    assert [type(each) for each in found] == [Frame] * bool(end) + [Tail]
    assert isinstance(found[-1], Tail)
    assert not found[-1].torn


def test_a_flipped_bit_in_the_last_frame_is_no_torn_append(opened: int) -> None:
    """Unless it makes a length go beyond the end."""
    first, last = frame(1), frame(2, MAIL)
    torn = 0
    for bit in range(8 * len(last)):
        damaged = bytearray(last)
        damaged[bit // 8] ^= 1 << bit % 8
        *_, found = scanned(opened, first + bytes(damaged))
        assert isinstance(found, Tail), bit
        torn += found.torn
        assert not found.torn or 32 <= bit < 64 or 192 <= bit < 256, bit
    assert 0 < torn < 64


def test_a_torn_frame_with_a_pack_in_it_is_one_tail(opened: int) -> None:
    """Mail that cannot be compressed lies there as it is: what looks like a frame in it is none."""
    inner = frame(7, MAIL)
    noise = random.Random(1).randbytes(200_000) + inner + random.Random(2).randbytes(200_000)
    found = scanned(opened, frame(1) + frame(2, noise)[:-100])
    assert [type(each) for each in found] == [Frame, Tail]


@pytest.mark.parametrize("garbage", [1, 7, 8, 13, 14, 100, pack.SEARCH_OCTETS - 5, pack.SEARCH_OCTETS, 3 << 20])
def test_reading_goes_on_at_the_next_magic(opened: int, garbage: int) -> None:
    noise = (b"SYNCD" * (garbage // 5 + 1))[:garbage]
    found = scanned(opened, noise + frame(1) + frame(2, MAIL))
    assert [type(each) for each in found] == [Damage, Frame, Frame]
    assert found[0][:2] == (0, garbage)


@pytest.mark.parametrize(
    ("document", "data"),
    [
        (b"no json", MAIL),
        (b"[" * 100_000, MAIL),
        (b"[" * MAX_META_OCTETS + b"[", MAIL),  # 500 octets of frame
        (b'{"at": "2026-11-23T09:28:21Z"}', MAIL),  # mail that nobody describes
        (meta(1, MAIL).dump(), b""),
        (b'{"at": "2026-11-23T09:28:21Z", "x": [' + b"{}," * 1_000_000 + b"{}]}", b""),
    ],
    ids=["no JSON", "nested", "16 MiB", "too little", "too much", "objects"],
)
def test_metadata_that_makes_no_sense_is_damage(opened: int, document: bytes, data: bytes) -> None:
    odd = wrapped(document, data)
    found = scanned(opened, odd + frame(1))
    assert [type(each) for each in found] == [Damage, Frame]
    assert found[0][:2] == (0, len(odd))


def test_a_gigabyte_in_four_kibibytes_costs_little(opened: int) -> None:
    compressor = zstd.compressor()
    packed = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()
    bomb = pack.encode_frame(packed, b"")
    tracemalloc.start()
    found = scanned(opened, bomb + frame(1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(each) for each in found] == [Damage, Frame]
    assert peak < 3 * MAX_META_OCTETS


def test_octets_that_look_like_many_long_frames_are_not_read_again_and_again(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = pack.HEADER.pack(pack.SKIPPABLE, pack.SHORT_OCTETS + 1, pack.MAGIC, 1, 0, 0, 0)
    read, pread = 0, os.pread

    def counted(fd: int, octets: int, offset: int) -> bytes:
        nonlocal read
        read += octets
        return pread(fd, octets, offset)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setattr(pack, "MAX_META_OCTETS", 1 << 20)
    odd = header * 10_000
    found = scanned(opened, odd + bytes(1 << 20) + frame(1))
    assert [type(each) for each in found] == [Damage, Frame]
    assert read < (pack.SEARCH_FACTOR + 4) * (len(odd) + (1 << 20)) + (20_000 * pack.HEADER.size)


def test_a_newer_version_is_told_apart(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "VERSION", 2)
    newer = frame(1)
    monkeypatch.undo()
    first, second = scanned(opened, newer + frame(2))
    assert isinstance(first, Damage)
    assert first.newer
    assert first.reason == "was written in format 2, this syncd reads up to 1: use a newer syncd"
    assert isinstance(second, Frame)


def test_data_is_bounded(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = scanned(opened, frame(1, bytes(5000)))
    assert isinstance(found, Frame)
    monkeypatch.setattr(pack, "MAX_DATA_OCTETS", 4999)
    with pytest.raises(BadFrame, match="more than 4999 octets"):
        pack.content(opened, found)
