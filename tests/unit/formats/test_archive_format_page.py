"""The reader that the format's page shows reads what we write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.formats.packs import frames as pack_frames
from syncd.formats.packs import writer as pack_writer
from tests.contract.destination_suite import batch, delivered, message

PAGE = Path(__file__).parents[3] / "docs" / "archive-format.md"


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
