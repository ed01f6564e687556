"""Frames with right checksums that make no sense: each costs what it holds, and all others are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.errors import FormatDamaged
from syncd.formats import zstd
from syncd.formats.packs import frame as pack_frame
from syncd.formats.packs.frame import encode_frame
from syncd.formats.packs.meta import Meta
from tests.support.packs import append_frame, checked, deliver, dump, left_out, lose_index, messages, pack, stored, uids
from tests.support.packs import rebuilt as rebuilt_index

BODY = b"Subject: odd\r\n\r\n"
RECORD = b"From x\nSubject: odd\n\n\n"
Change = Callable[[dict[str, Any]], object]


def document() -> dict[str, Any]:
    return {
        "at": "2026-11-23T09:28:21Z",
        "origins": [[str(UUID(int=1)), "road", "INBOX", 1]],
        "messages": {
            "sha256": [sha256(BODY).hexdigest()],
            "header": ["00" * 8],
            "octets": [len(BODY)],
            "offset": [7],
            "length": [len(BODY) - 2],
            "uid": ["odd"],
        },
    }


def in_messages(**columns: object) -> Change:
    return lambda whole: whole["messages"].update(columns)


ODD: dict[str, Change] = {
    "occurrence of 65 bits": in_messages(occurrence=[1 << 64]),
    "octets of 62 bits": in_messages(octets=[1 << 62]),
    "offset beyond": in_messages(offset=[1 << 40]),
    "negative length": in_messages(length=[-1]),
    "not a number": in_messages(octets=[float("nan")]),
    "nested lists": in_messages(uid=[[[["u"]]]]),
    "a column too long": in_messages(uid=["u", "v"]),
    "a digest of one octet": in_messages(sha256=["00"]),
    "date that is none": in_messages(date=["yesterday"]),
    "date without a zone": in_messages(date=["2026-11-23T09:28:21"]),
    "flags with a lone surrogate": in_messages(flags=["\ud800"]),
    "no mail described": lambda whole: whole.pop("messages"),
    "instant beyond year 9999": lambda whole: whole.update(at="9999-12-31T23:59:59-23:59"),
    "instant that is a number": lambda whole: whole.update(at=7),
    "epoch of 66 bits": lambda whole: whole["origins"][0].__setitem__(3, 1 << 65),
    "lone surrogate in a name": lambda whole: whole["origins"][0].__setitem__(1, "\ud800"),
    "no UUID": lambda whole: whole["origins"][0].__setitem__(0, "road"),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_an_odd_frame_hides_nothing_else(path: Path, change: Change, caplog: pytest.LogCaptureFixture) -> None:
    deliver(path, messages(1))
    odd = document()
    change(odd)
    start = append_frame(path, json.dumps(odd).encode(), RECORD)
    append_frame(path, Meta(5).dump())
    deliver(path, messages(2))  # takes up what another program wrote
    assert f"{pack(path)} is damaged at offset {start}: " in caplog.text
    for _ in ("the lasting index", "a temporary one"):
        assert stored(path) == uids(1, 2)
        ((_, offset, reason, number),) = left_out(path)
        assert (offset, number) == (start, None)
        assert reason.startswith("the metadata ")
        (problem,) = checked(path)
        assert (problem.offset, problem.harmless) == (start, False)
        lose_index(path)
    deliver(path, messages(3))
    assert stored(path) == uids(1, 2, 3)
    assert dump(path) == rebuilt_index(path)


@pytest.mark.parametrize(
    "octets",
    [
        b"[" * 1_000_000,
        b'{"at": "2026-11-23T09:28:21Z", "x": [' + b"{}," * 2_000_000 + b"0]}",
        bytes(40 << 20),
        b"{" * 9,
    ],
    ids=["nested", "objects", "zeros", "cut"],
)
def test_a_small_frame_that_unpacks_to_much_hides_nothing_else(path: Path, octets: bytes) -> None:
    deliver(path, messages(1))
    start = append_frame(path, octets)
    assert pack(path).stat().st_size - start < 8 << 10
    append_frame(path, Meta(5).dump())
    lose_index(path)
    assert stored(path) == uids(1)
    assert [problem.offset for problem in checked(path)] == [start]
    deliver(path, messages(2))
    assert stored(path) == uids(1, 2)


def test_many_odd_frames_are_each_told(path: Path) -> None:
    deliver(path, messages(1))
    starts = [append_frame(path, b"{}") for _ in range(20)]
    append_frame(path, Meta(5).dump())
    lose_index(path)
    assert [each.offset for each in left_out(path)] == starts
    assert [problem.offset for problem in checked(path)] == starts
    assert stored(path) == uids(1)


def test_parts_that_go_on_without_end_take_no_memory_and_hide_nothing(path: Path) -> None:
    """Each says that it is a part of 65,536; a part that says more than its message is none."""
    deliver(path, messages(1))
    part = document()
    for number in range(1, 200):
        append_frame(path, json.dumps(part | {"part": [number, 1 << 16]}).encode(), RECORD)
    append_frame(path, json.dumps(part | {"part": [1, 2]}).encode(), RECORD)
    append_frame(path, json.dumps(part | {"part": [2, 2], "removed": {"uid": ["u"]}}).encode(), RECORD)
    deliver(path, messages(2))
    lose_index(path)
    assert stored(path) == uids(1, 2)
    assert [each.messages for each in left_out(path)] == [1, 1, 1]


def test_a_large_message_with_more_octets_than_its_parts_is_damage(path: Path) -> None:
    """Sums over such numbers do not fit SQLite's integers."""
    deliver(path, messages(1))
    part = document()
    part["messages"]["octets"] = [(1 << 63) - 1]
    for number in (1, 2):
        append_frame(path, json.dumps(part | {"part": [number, 2]}).encode(), RECORD)
    deliver(path, messages(2))
    assert stored(path) == uids(1, 2)
    assert [problem.what.split(";")[0] for problem in checked(path)] == [
        "a large message has more octets than are stored of it"
    ]


def test_a_frame_of_a_later_version_stops_the_writer_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(path, messages(1))
    monkeypatch.setattr(pack_frame, "VERSION", 2)
    start = append_frame(path, b"nobody knows")
    monkeypatch.undo()
    lose_index(path)
    assert stored(path) == uids(1)
    assert [(each.offset, "use a newer syncd" in each.reason) for each in left_out(path)] == [(start, True)]
    before = pack(path).read_bytes()
    with pytest.raises(FormatDamaged, match=f"{pack(path)} at offset {start}: .*use a newer syncd"):
        PacksArchive(path).open()
    assert pack(path).read_bytes() == before


def test_a_data_frame_of_an_odd_size_is_not_read(path: Path) -> None:
    """The file has a hole of many GiB; the memory has not."""
    deliver(path, messages(1))
    start = pack(path).stat().st_size
    meta = zstd.compress(zstd.compressor(), json.dumps(document()).encode())
    header = bytearray(encode_frame(meta, b"x"))
    header[24:32] = (64 << 30).to_bytes(8, "little")
    crc = pack_frame._crc(bytes(header[:32]), meta)
    header[16:20] = crc.to_bytes(4, "little")
    with pack(path).open("r+b") as file:
        file.seek(start)
        file.write(header)
        file.truncate(start + len(header) + (64 << 30))
    append_frame(path, Meta(5).dump())
    lose_index(path)
    assert stored(path) == uids(1)
    assert [each.offset for each in left_out(path)] == [start]
