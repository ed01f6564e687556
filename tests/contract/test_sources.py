"""Every source keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.formats.packs.frame import read_frame
from syncd.formats.packs.query import locate
from syncd.formats.packs.view import PackView
from syncd.sources.maildir import MaildirSource
from syncd.sources.packs import PacksSource
from tests.contract import pop3_kit
from tests.contract.destination_kit import delivered, message
from tests.contract.source_kit import Kit
from tests.contract.source_suite import SourceSuite
from tests.fakes import pop3
from tests.fakes.pop3 import FakePop3


class TestPop3(SourceSuite):
    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        with FakePop3() as server:

            def add(messages: Sequence[bytes]) -> None:
                server.messages += messages
                server.uids = [b"uid-%d" % number for number in range(len(server.messages))]

            def spoil(octets: bytes) -> None:
                server.replies[f"RETR {server.messages.index(octets) + 1}"] = b"-ERR cannot open\r\n"

            yield Kit(lambda spool: pop3_kit.source(server, spool=spool), add, spoil, pop3.delivered, removes=True)


class TestPacks(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        path, keys = tmp_path / "archive", count()
        PacksArchive(path).create(uuid4())

        def add(messages: Sequence[bytes]) -> None:
            archive = PacksArchive(path)
            archive.open()
            delivered(archive, [message(next(keys), octets) for octets in messages])
            archive.close()

        def spoil(octets: bytes) -> None:
            view = PackView.open(path)
            at = locate(view.index, sha256(octets).digest())
            assert at
            file = view.home.pack_path(at.pack)
            with file.open("r+b") as pack:
                frame = read_frame(pack.fileno(), at.frame, file.stat().st_size)
                pack.seek(frame.end - 9)
                octet = pack.read(1)[0]
                pack.seek(frame.end - 9)
                pack.write(bytes([octet ^ 1]))
            view.close()

        return Kit(lambda spool: PacksSource(path, spool), add, spoil)


def maildir_kit(path: Path, *, verbatim: bool) -> Kit:
    keys = count()
    MaildirArchive(path, verbatim=verbatim).create(uuid4())

    def add(messages: Sequence[bytes]) -> None:
        archive = MaildirArchive(path)
        archive.open()
        delivered(archive, [message(next(keys), octets) for octets in messages])
        archive.close()

    def spoil(octets: bytes) -> None:
        kept = octets if verbatim else octets.replace(b"\r\n", b"\n")
        [file] = [file for file in (path / "new").iterdir() if file.read_bytes() == kept]
        file.unlink()

    def given(octets: bytes) -> bytes:
        return octets if verbatim or b"\r" in octets else octets.replace(b"\n", b"\r\n")

    return Kit(lambda spool: MaildirSource(path, spool), add, spoil, given)


class TestMaildir(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        return maildir_kit(tmp_path / "archive", verbatim=False)


class TestVerbatimMaildir(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        return maildir_kit(tmp_path / "archive", verbatim=True)
