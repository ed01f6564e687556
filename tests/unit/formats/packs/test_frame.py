from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest

from syncd.errors import FormatDamaged
from syncd.formats import zstd
from syncd.formats.packs import frame as pack
from syncd.formats.packs.frame import BadFrame, Damage, Frame, Tail
from syncd.formats.packs.meta import Meta

MAIL = b"From a\nSubject: x\n\nbody\n\n"


def frame(at: int, data: bytes = b"") -> bytes:
    packed = zstd.compress(zstd.compressor(), data) if data else b""
    return pack.encode_frame(zstd.compress(zstd.compressor(), Meta(at).dump()), packed) + packed


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
    assert zstd.decompress(octets[32 : 8 + size], 1000) == Meta(5).dump()
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
        assert isinstance(found[1], Frame)
        assert found[1].meta == Meta(2)


def test_a_pack_cut_at_any_octet_ends_in_a_tail(opened: int) -> None:
    first, second = frame(1), frame(2, MAIL)
    for length in range(1, len(second)):
        found = scanned(opened, first + second[:length])
        assert [type(each) for each in found] == [Frame, Tail], length
        assert found[1].offset == len(first)


def test_zeros_behind_the_last_frame_are_a_tail(opened: int) -> None:
    found = scanned(opened, frame(1) + bytes(3 << 20))
    assert [type(each) for each in found] == [Frame, Tail]


@pytest.mark.parametrize("garbage", [1, 7, 8, 13, 14, 100, pack.SEARCH_OCTETS - 5, pack.SEARCH_OCTETS, 3 << 20])
def test_reading_goes_on_at_the_next_magic(opened: int, garbage: int) -> None:
    noise = (b"SYNCD" * (garbage // 5 + 1))[:garbage]
    found = scanned(opened, noise + frame(1) + frame(2, MAIL))
    assert [type(each) for each in found] == [Damage, Frame, Frame]
    assert found[0][:2] == (0, garbage)


def test_metadata_that_is_no_json_is_damage(opened: int) -> None:
    packed = zstd.compress(zstd.compressor(), MAIL)
    odd = pack.encode_frame(zstd.compress(zstd.compressor(), b"no json"), packed) + packed
    found = scanned(opened, odd + frame(1))
    assert [type(each) for each in found] == [Damage, Frame]


def test_a_newer_version_is_refused(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "VERSION", 2)
    newer = frame(1)
    monkeypatch.undo()
    with pytest.raises(FormatDamaged, match="format 2, this syncd reads up to 1: use a newer syncd"):
        scanned(opened, newer)


def test_data_is_bounded(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = scanned(opened, frame(1, bytes(5000)))
    assert isinstance(found, Frame)
    monkeypatch.setattr(pack, "MAX_DATA_OCTETS", 4999)
    with pytest.raises(BadFrame, match="more than 4999 octets"):
        pack.content(opened, found)
