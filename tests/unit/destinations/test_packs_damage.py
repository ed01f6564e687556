"""Torn tails, flipped bits, indexes that are lost, late or wrong."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.errors import DiskFull, FormatDamaged, StorageError, Unusable
from syncd.formats.packs.index import Index, explained
from syncd.mail.message import Receipt
from tests.contract.destination_suite import delivered, message
from tests.support.packs import (
    checked,
    count_in_mbox,
    deliver,
    dump,
    frames,
    left_out,
    lose_index,
    mail,
    messages,
    pack,
    problems,
    stored,
    uids,
)

# A third of all octets here, every one in soak.
from_octet = pytest.mark.parametrize("first", [0, *(pytest.param(it, marks=pytest.mark.soak) for it in (1, 2))])

# --- crashes and damage ---


@from_octet
def test_a_pack_torn_at_any_octet(archive: PacksArchive, path: Path, first: int) -> None:
    delivered(archive, messages(1, 2, size=40))
    whole = pack(path).stat().st_size
    archive.close()
    index = (path / "index.sqlite").read_bytes()
    deliver(path, messages(3, size=40))
    content = pack(path).read_bytes()
    for end in [*range(whole + first, len(content), 3), len(content)]:
        pack(path).write_bytes(content[:end])
        (path / "index.sqlite").write_bytes(index)
        expected = uids(1, 2) if end < len(content) else uids(1, 2, 3)
        if end % 16 == 0:  # a reader passes over the tail
            assert stored(path) == uids(1, 2)
            assert [p for p in problems(path) if "to the end of the pack" not in p] == []
        archive.open()
        archive.close()
        assert stored(path) == expected
        torn = [file.read_bytes() for file in (path / "packs").glob("*.torn-*")]
        assert torn == ([content[whole:end]] if whole < end < len(content) else [])
        for file in (path / "packs").glob("*.torn-*"):
            file.unlink()
    assert count_in_mbox(path) == 3
    assert problems(path) == []


def test_a_tail_is_kept_once_more_where_one_was_kept_before(path: Path) -> None:
    deliver(path, messages(1))
    whole = pack(path).stat().st_size
    for again in range(3):
        with pack(path).open("ab") as file:
            file.write(b"rest %d" % again)
        deliver(path, [])
    names = sorted(file.name for file in (path / "packs").glob("*.torn-*"))
    assert names == [f"000001.torn-{whole}", f"000001.torn-{whole}-1", f"000001.torn-{whole}-2"]
    assert [(path / "packs" / name).read_bytes() for name in names] == [b"rest 0", b"rest 1", b"rest 2"]


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 9000)])
def test_a_tail_is_never_cut_when_the_index_is_lost(path: Path, lost: Callable[[Path], object]) -> None:
    deliver(path, messages(1), messages(2))
    content = pack(path).read_bytes()
    pack(path).write_bytes(content[:-3])
    lost(path / "index.sqlite")
    deliver(path, messages(2, 3))
    deliver(path, messages(4))
    assert pack(path).read_bytes() == content[:-3]
    assert stored(path) == uids(1, 2, 3, 4)
    assert len(problems(path)) == 1
    assert left_out(path) == []  # it was stored again


# --- damage where no index knows what was stored ---


@from_octet
def test_no_bit_flips_unseen_without_an_index(path: Path, first: int) -> None:
    """The last frame is not taken for an append that was interrupted: its mail was called sound, and left out."""
    deliver(path, messages(1), messages(2))
    lose_index(path)
    content = pack(path).read_bytes()
    last = frames(pack(path))[-1]
    for octet in range(last.offset + first, len(content), 3):
        damaged = bytearray(content)
        damaged[octet] ^= 1 << octet % 8
        pack(path).write_bytes(damaged)
        assert any(p.offset == last.offset and not p.harmless for p in checked(path)), octet
        (found,) = left_out(path)
        assert (found.offset, found.messages in {1, None}) == (last.offset, True)


@from_octet
def test_a_cut_is_not_called_sound_without_an_index(path: Path, first: int) -> None:
    deliver(path, messages(1), messages(2))
    content, index = pack(path).read_bytes(), (path / "index.sqlite").read_bytes()
    last = frames(pack(path))[-1]
    for end in range(last.offset + 1 + first, len(content), 3):
        pack(path).write_bytes(content[:end])
        lose_index(path)
        (problem,) = checked(path)
        header_alone = end < last.offset + 32
        assert (problem.offset, problem.harmless) == (last.offset, header_alone), end
        assert [each.messages for each in left_out(path)] == (
            [] if header_alone else [None] if end < last.data_offset else [1]
        )
        if end % 16 == 0:  # where the index knows that the octets were stored
            (path / "index.sqlite").write_bytes(index)
            assert not any(problem.harmless for problem in checked(path))


def test_a_torn_append_is_harmless_where_the_index_knows_what_was_stored(path: Path) -> None:
    deliver(path, messages(1))
    index = (path / "index.sqlite").read_bytes()
    deliver(path, messages(2))
    content, last = pack(path).read_bytes(), frames(pack(path))[-1]
    for end in (last.offset + 1, last.offset + 40, last.data_offset + 1, len(content) - 1):
        pack(path).write_bytes(content[:end])
        lose_index(path)
        (path / "index.sqlite").write_bytes(index)
        (problem,) = checked(path)
        assert problem.harmless
        assert left_out(path) == []
    pack(path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # whole, and not what was written
    (problem,) = checked(path)
    assert not problem.harmless
    deliver(path, messages(3))
    assert stored(path) == uids(1, 3)
    assert len(list((path / "packs").glob("*.torn-*"))) == 1
    assert problems(path) == []


@pytest.mark.parametrize("octets", [0, 1000, 3 << 20])
def test_a_pack_of_zeros_is_damage(path: Path, octets: int) -> None:
    deliver(path, messages(1))
    lose_index(path)
    pack(path).write_bytes(bytes(octets))
    assert [problem.harmless for problem in checked(path)] == [False]
    (found,) = left_out(path)
    assert (found.pack, found.offset, found.messages) == (1, 0, None)
    deliver(path, messages(2))
    assert pack(path).read_bytes() == bytes(octets)
    assert stored(path) == uids(2)
    assert [problem.harmless for problem in checked(path)] == [False]
    assert len(left_out(path)) == 1


def test_packs_that_are_missing_between_others_are_noticed(path: Path) -> None:
    archive = PacksArchive(path, seal_octets=1)
    archive.open()
    for key in range(1, 6):
        delivered(archive, messages(key))
    archive.close()
    lose_index(path)
    for number in (1, 3, 4):
        pack(path, number).unlink()
    expected = ["000001.mbox.zst@None is missing", "000003.mbox.zst@None is missing, with all packs up to 000004"]
    assert problems(path) == expected
    assert [each.pack for each in left_out(path)] == [1, 3]
    assert stored(path) == uids(2, 5)
    deliver(path, messages(6))
    assert stored(path) == uids(2, 5, 6)
    assert problems(path) == expected
    assert [each.pack for each in left_out(path)] == [1, 3]


@pytest.mark.parametrize("stranger", [Path.mkdir, os.mkfifo, lambda pack: pack.symlink_to("elsewhere")])
def test_a_stranger_in_place_of_a_pack_costs_that_pack(path: Path, stranger: Callable[[Path], object]) -> None:
    archive = PacksArchive(path, seal_octets=1)
    archive.open()
    for key in (1, 2):
        delivered(archive, messages(key))
    archive.close()
    lose_index(path)
    pack(path).unlink()
    stranger(pack(path))
    assert stored(path) == uids(2)
    assert [(each.pack, each.messages) for each in left_out(path)] == [(1, None)]
    assert [problem.file for problem in checked(path)] == [pack(path)]
    with pytest.raises(Unusable, match="000001"):
        PacksArchive(path).open()


def test_a_disk_that_fails_costs_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = PacksArchive(path, seal_octets=1)
    archive.open()
    for key in (1, 2):
        delivered(archive, messages(key))
    archive.close()
    lose_index(path)
    pread, first = os.pread, pack(path).stat()

    def fail(fd: int, octets: int, offset: int) -> bytes:
        if os.path.samestat(os.fstat(fd), first):
            raise OSError(errno.EIO, "Input/output error")
        return pread(fd, octets, offset)

    monkeypatch.setattr(os, "pread", fail)
    assert [each.reason for each in left_out(path)] == ["cannot be read: Input/output error"]
    assert problems(path) == ["000001.mbox.zst@None cannot be read: Input/output error"]
    assert stored(path) == uids(2)


def test_names_that_are_no_pack_are_passed_over(path: Path) -> None:
    deliver(path, messages(1))
    names = ("0000001.mbox.zst", "٠٠٠٠٠٢.mbox.zst", "9" * 40 + ".mbox.zst", "000002.mbox.zst.new")
    for name in names:
        (path / "packs" / name).write_bytes(b"x")
    lose_index(path)
    assert problems(path) == []
    deliver(path, messages(2))
    assert stored(path) == uids(1, 2)


@from_octet
def test_every_flipped_bit_is_found(archive: PacksArchive, path: Path, first: int) -> None:
    delivered(archive, messages(1))
    delivered(archive, messages(2))
    archive.close()
    content = pack(path).read_bytes()
    assert problems(path) == []
    for octet in range(first, len(content), 3):
        damaged = bytearray(content)
        damaged[octet] ^= 1 << octet % 8
        pack(path).write_bytes(damaged)
        assert any(p.file == pack(path) and p.offset is not None and not p.harmless for p in checked(path)), octet


def test_damage_is_reported_never_cut_and_reading_goes_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deliver(path, messages(1), messages(2), messages(3))
    content = bytearray(pack(path).read_bytes())
    second = frames(pack(path))[2]
    content[second.data_offset + 30] ^= 1
    pack(path).write_bytes(content)
    assert problems(path) == [
        f"000001.mbox.zst@{second.offset} the mail is damaged (CRC-32C of the data frame differs); 1 message lost"
    ]
    archive = PacksArchive(path)
    with pytest.raises(FormatDamaged, match=f"{pack(path)} at offset {second.offset}: the mail is damaged"):
        archive.read(Receipt(messages(2)[0].body.sha256))
    archive.close()
    (path / "index.sqlite").unlink()
    deliver(path, messages(4))
    assert f"{pack(path)} is damaged at offset {second.offset}" in caplog.text
    assert pack(path).read_bytes().startswith(bytes(content))
    assert stored(path) == uids(1, 3, 4)
    deliver(path, messages(2))  # what was lost is stored again
    assert stored(path) == uids(1, 2, 3, 4)


def test_a_shorter_pack_stops_the_writer_and_says_what_to_do(path: Path) -> None:
    deliver(path, messages(1), messages(2))
    os.truncate(pack(path), pack(path).stat().st_size - 1)
    archive = PacksArchive(path)
    with pytest.raises(FormatDamaged, match=r"were stored: restore it from a backup, or delete .*index\.sqlite"):
        archive.open()
    assert len(problems(path)) == 2  # it is shorter, and ends in half a frame


def test_a_missing_pack_is_found(path: Path) -> None:
    deliver(path, messages(1))
    pack(path).unlink()
    assert any("or is missing" in problem for problem in problems(path))
    with pytest.raises(FormatDamaged, match="holds 0 octets"):
        PacksArchive(path).open()


# --- the index ---


def test_the_index_lags_behind(archive: PacksArchive, path: Path) -> None:
    delivered(archive, messages(1))
    archive.close()
    old = (path / "index.sqlite").read_bytes()
    deliver(path, messages(2, 3), [message(4, mail(1))])
    new = dump(path)
    (path / "index.sqlite").write_bytes(old)
    assert problems(path) == []
    deliver(path)
    assert dump(path) == new


@pytest.mark.parametrize(
    "spoil",
    [
        lambda index: index.unlink(),
        lambda index: index.write_bytes(b""),
        lambda index: index.write_bytes(b"no database at all" * 1000),
        lambda index: index.write_bytes(index.read_bytes()[:4096]),
        lambda index: _sql(index, "UPDATE archive SET uuid = x'00'"),
        lambda index: _sql(index, "PRAGMA user_version = 99"),
        lambda index: _sql(index, "DROP TABLE places"),
    ],
    ids=["missing", "empty", "nonsense", "cut", "of another archive", "other version", "no places"],
)
def test_a_lost_index_is_built_again(path: Path, spoil: Callable[[Path], object]) -> None:
    deliver(path, messages(*range(30)), messages(30, 31))
    good = dump(path)
    spoil(path / "index.sqlite")
    assert stored(path) == uids(*range(32))  # for reading, in a temporary file
    deliver(path, messages(5))
    assert dump(path) == good
    assert problems(path) == []


def _sql(index: Path, statement: str) -> None:
    connection = sqlite3.connect(index)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_check_finds_an_index_that_differs(path: Path) -> None:
    deliver(path, messages(1, 2))
    _sql(path / "index.sqlite", "DELETE FROM places WHERE uid = x'" + b"uid-2".hex() + "'")
    assert problems(path) == ["index.sqlite@None does not agree with the packs: delete it, it is built again"]


def test_an_index_that_turns_out_damaged_is_deleted_and_built_again(
    archive: PacksArchive, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(archive, messages(1))

    def corrupt(*_: object) -> None:
        with sqlite3.connect(":memory:") as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 99, 'CREATE TABLE x (y)')")
            connection.execute("PRAGMA writable_schema = RESET")
            connection.execute("SELECT * FROM x")

    monkeypatch.setattr(Index, "known", corrupt)
    with pytest.raises(StorageError, match=r"index\.sqlite is damaged; the next run builds it again"):
        delivered(archive, messages(2))
    monkeypatch.undo()
    assert not (path / "index.sqlite").exists()
    deliver(path, messages(2))
    assert stored(path) == uids(1, 2)


def test_errors_of_sqlite_are_explained(tmp_path: Path) -> None:
    full = sqlite3.connect(tmp_path / "full", isolation_level=None)
    full.execute("CREATE TABLE t (x)")
    full.execute("PRAGMA max_page_count = 3")
    with pytest.raises(DiskFull, match=r"cannot write to .*index: no space left"), explained(tmp_path / "index"):
        full.execute("INSERT INTO t VALUES (zeroblob(100000))")
    full.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(tmp_path / "full", timeout=0)
    with pytest.raises(StorageError, match="in use by another program"), explained(tmp_path / "index"):
        other.execute("SELECT * FROM t")
    with pytest.raises(StorageError, match=r"cannot use .*no such table"), explained(tmp_path / "index"):
        full.execute("SELECT * FROM other")
    other.close()
    full.close()
