"""Any octets, in any batches, come back exactly; any mbox reader counts them right; a rebuilt index is equal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.destinations.packs import PacksArchive
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from syncd.mail.message import Message, Receipt
from tests.contract.destination_suite import OTHER, ROAD, check, delivered, message
from tests.support.packs import checked, count_in_mbox, dump, listed, rebuilt

PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\n\n",
    b">",
    b">>",
    b"From ",
    b"From",
    b"From x\r\n",
    b"Subject: a\r\n",
    b"\0",
    b"\xff",
]
MAIL = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join),
    st.binary(max_size=200),
    st.sampled_from([b"", b"x" * 100_000, b"From " * 20_000 + b"\r\n", b">" * 3000 + b"From \n", b"\r\n" * 2000]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(MAIL, min_size=1, max_size=6), max_size=4), st.integers(60, 4000), st.integers(40, 2000))
def test_whatever_is_stored_comes_back(batches: list[list[bytes]], frame: int, part: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(pack_frames, "FRAME_OCTETS", frame),
        patch.object(pack_writer, "LARGE_OCTETS", 2 * part),
        patch.object(pack_frames, "PART_OCTETS", part),
    ):
        path = Path(folder) / "archive"
        archive = PacksArchive(path, seal_octets=3_000)
        archive.create(UUID(int=1))
        archive.open()
        everything: list[Message] = []
        for bodies in batches:
            start = len(everything)
            batch = [message(start + n, data, (ROAD, OTHER)[n % 2]) for n, data in enumerate(bodies)]
            check(archive, delivered(archive, batch), batch)
            everything += batch
        archive.close()
        check(archive, {m.key: Receipt(m.body.sha256) for m in everything}, everything)
        distinct = {m.body.sha256 for m in everything}
        assert {record.sha256 for record in listed(path)} == distinct
        assert count_in_mbox(path) == len(distinct)
        assert checked(path) == []
        live = dump(path)
        assert rebuilt(path) == live
