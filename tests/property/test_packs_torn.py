"""A pack torn anywhere in its last append: what was durable before is kept, and the rest is stored again."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.destinations.packs import PacksArchive
from syncd.formats.packs import append as pack_append
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from syncd.mail.message import Message, Receipt
from tests.contract.destination_suite import ROAD, check, delivered, message
from tests.support.packs import dump, frames, pack, rebuilt

PART_OCTETS = 300_000  # a message of some MB has several
FEW = 60  # octets of an append that is torn at each of them; a longer one near its frames' ends, and where drawn
MAIL = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\r\n", b"From \n" * 100_000, b"\0" * 3_000_000]),
    st.builds(
        lambda seed, octets: random.Random(seed).randbytes(octets), st.integers(0, 99), st.integers(0, 2_000_000)
    ),
)
BODIES = st.lists(MAIL, min_size=1, max_size=3, unique=True)
BEHIND = st.sampled_from([b"", b"\0" * 5_000, b"garbage SYNCDP " * 30])  # what a power cut leaves in place of the rest


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(BODIES, BODIES, st.lists(st.floats(0, 1, exclude_max=True), max_size=5), BEHIND, st.booleans())
def test_a_torn_append_takes_nothing_with_it(
    before: list[bytes],
    last: list[bytes],
    drawn: list[float],
    behind: bytes,
    index_is_lost: bool,  # noqa: FBT001  from hypothesis
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(os, "fsync"),  # nothing is really torn here
        patch.object(pack_append, "_fdatasync"),
        patch.object(pack_writer, "LARGE_OCTETS", 2 * PART_OCTETS),
        patch.object(pack_frames, "PART_OCTETS", PART_OCTETS),
    ):
        path = Path(folder) / "archive"
        durable = [message(key, data) for key, data in enumerate(before)]
        torn = [message(key, data) for key, data in enumerate(last, len(before)) if data not in before]
        PacksArchive(path).create(UUID(int=1))
        store(path, durable)
        start = pack(path).stat().st_size
        at_rest = Path(folder) / "at_rest"
        shutil.copytree(path, at_rest)
        store(path, torn)
        content = pack(path).read_bytes()
        ends = {frame.offset for frame in frames(pack(path))} | {frame.data_offset for frame in frames(pack(path))}
        for end in cuts(start, len(content), ends, drawn):
            shutil.rmtree(path)
            shutil.copytree(at_rest, path)
            pack(path).write_bytes(content[:end] + behind)
            if index_is_lost:
                (path / "index.sqlite").unlink()
            prove(path, durable, torn)


def cuts(start: int, end: int, marks: set[int], drawn: list[float]) -> Iterator[int]:
    if end - start <= FEW:
        yield from range(start, end)
        return
    near = {mark + step for mark in marks for step in (-1, 0, 1)}
    chosen = near | {start, start + 1, end - 1} | {start + int((end - start) * share) for share in drawn}
    yield from sorted(at for at in chosen if start <= at < end)


def prove(path: Path, durable: list[Message], torn: list[Message]) -> None:
    archive = PacksArchive(path)
    archive.open()
    check(archive, {m.key: Receipt(m.body.sha256) for m in durable}, durable)
    uids = {place.ref.uid for place in archive.places(ROAD.account)}
    assert uids >= {m.ref.uid for m in durable}
    delivered(archive, torn)
    everything = [*durable, *torn]
    check(archive, {m.key: Receipt(m.body.sha256) for m in everything}, everything)
    archive.close()
    assert dump(path) == rebuilt(path)


def store(path: Path, batch: list[Message]) -> None:
    archive = PacksArchive(path)
    archive.open()
    if batch:
        delivered(archive, batch)
    archive.close()
