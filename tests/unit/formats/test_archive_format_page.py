"""The page of the format: its reader reads what we write, and we read its example."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from syncd.formats.packs.parse import parse
from tests.contract.destination_suite import batch, delivered, message

PAGE = Path(__file__).parents[3] / "docs" / "archive-format.md"


def test_the_origins_of_the_page() -> None:
    example = PAGE.read_text().split('"origins": ')[1].split(',\n     "messages"')[0]
    origins = example.replace("0b6e…", str(UUID(int=2)))
    road, sent = parse(f'{{"at": "2026-11-23T09:28:21Z", "origins": {origins}}}'.encode()).origins
    assert (road.account_name, road.mailbox, road.epoch, road.path, road.use) == ("road", b"INBOX", 1, ("INBOX",), "")
    assert (sent.mailbox, sent.path, sent.use) == (b"Gesendet/2019", ("Gesendet", "2019"), "\\Sent")
    assert (road.subscribed, sent.subscribed) == (True, False)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the page's reader uses the zstd program")
def test_the_reader_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PAGE.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(pack_writer, "LARGE_OCTETS", 50_000)
    monkeypatch.setattr(pack_frames, "PART_OCTETS", 30_000)
    archive = PacksArchive(tmp_path / "archive", seal_octets=500)
    archive.create(uuid4())
    archive.open()
    delivered(archive, batch())
    delivered(archive, [message(100, b"one\r\nFrom two\r\n"), *batch()])
    archive.close()
    subprocess.run([sys.executable, "-c", program, tmp_path / "archive"], cwd=tmp_path, check=True)
    read = {file.stem: sha256(file.read_bytes()).hexdigest() for file in tmp_path.glob("*.eml")}
    assert all(name == digest for name, digest in read.items())
    assert len(read) == len(batch()) + 1
