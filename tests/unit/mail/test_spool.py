"""Long messages on disk: many in one file, given back when nobody needs it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from syncd.mail import body as bodies
from syncd.mail.body import MEMORY_CAP_OCTETS, Body, BodyWriter, Spool


def written(spool: Spool | Path, octets: bytes, *, fits: bool = False) -> Body:
    writer = BodyWriter(spool, lambda _: fits)
    for start in range(0, len(octets), 1000):
        writer.write(octets[start : start + 1000])
    return writer.finish()


def content(body: Body) -> bytes:
    return b"".join(body.chunks())


def descriptors(directory: Path) -> int:
    """Open files that were made in a directory."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith(str(directory)) for link in links if link.is_symlink())


def test_what_fits_stays_in_memory_up_to_the_cap(tmp_path: Path):
    assert written(tmp_path, b"x" * MEMORY_CAP_OCTETS, fits=True).data is not None
    large = written(tmp_path, b"x" * (MEMORY_CAP_OCTETS + 1), fits=True)
    assert (large.data, len(content(large))) == (None, MEMORY_CAP_OCTETS + 1)


def test_what_does_not_fit_goes_to_a_file_whatever_its_size(tmp_path: Path):
    spool = Spool(tmp_path)
    letters = [b"From: a\r\n\r\n" + b"%d" % number * number for number in range(1, 300)]
    found = [written(spool, letter) for letter in letters]
    assert [body.data for body in found] == [None] * len(letters)
    assert [content(body) for body in found] == letters
    assert [body.sha256 for body in found] == [Body.of(letter).sha256 for letter in letters]
    assert [body.header_hash for body in found] == [Body.of(letter).header_hash for letter in letters]


def test_many_messages_take_one_open_file(tmp_path: Path):
    """Each had a file of its own: a few hundred were too many for the process."""
    spool = Spool(tmp_path)
    found = [written(spool, b"x" * 2000) for _ in range(500)]
    assert descriptors(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [], "a crash leaves nothing behind"
    assert len(found) == 500


def test_a_file_is_closed_with_its_last_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "FILE_OCTETS", 3000)
    spool = Spool(tmp_path)
    found = [written(spool, b"%d" % number * 2000) for number in range(4)]
    assert descriptors(tmp_path) == 2
    for body in found[:2]:
        body.close()
        body.close()
    gc.collect()
    assert descriptors(tmp_path) == 1
    assert [content(body) for body in found[2:]] == [b"2" * 2000, b"3" * 2000]


def test_what_is_discarded_leaves_no_gap(tmp_path: Path):
    spool = Spool(tmp_path)
    writer = BodyWriter(spool, lambda _: False)
    writer.write(b"x" * 5000)
    writer.discard()
    writer.discard()
    assert content(written(spool, b"y" * 10)) == b"y" * 10
    assert spool.file().end == 10
