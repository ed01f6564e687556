"""Every source keeps the contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.mbox import MboxArchive
from syncd.destinations.packs import PacksArchive
from syncd.errors import ArchiveMissing
from syncd.formats.maildir.folder import make_folder
from syncd.formats.maildir.layout import Layout, folder
from syncd.formats.mbox.home import file_of
from syncd.formats.mboxrd import from_line, quote, separator
from syncd.formats.packs.frame import read_frame
from syncd.formats.packs.opened import OpenedPacks
from syncd.formats.packs.query import locate
from syncd.formats.readable import readable
from syncd.mail.mailbox import INBOX_PATH, Mailbox
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin
from syncd.sources.base import Source
from syncd.sources.eml import EmlSource
from syncd.sources.maildir import MaildirSource
from syncd.sources.mbox import MboxSource
from syncd.sources.packs import PacksSource
from tests.contract import imap_kit, pop3_kit
from tests.contract.destination_kit import CRLF_MAIL, ROAD, delivered, message
from tests.contract.source_kit import HEAD, Kit, fetched, inbox, opened, some
from tests.contract.source_suite import SourceSuite
from tests.fakes import pop3
from tests.fakes.imap import BARE, FakeImap
from tests.fakes.pop3 import FakePop3
from tests.fakes.source import Mail, MemorySource
from tests.support import mail as letters


def origin_of(path: MailboxPath) -> Origin:
    return ROAD._replace(mailbox="/".join(path).encode(), path=path)


class TestMemory(SourceSuite):
    """The fake that the engine is tested with."""

    @pytest.fixture
    def kit(self) -> Kit:
        mail: Mail = {}
        others: dict[Mailbox, Mail] = {}
        broken: set[bytes] = set()
        uids = (b"uid-%d" % number for number in count())

        def add_to(path: MailboxPath, messages: Sequence[bytes]) -> None:
            box = others.setdefault(Mailbox("/".join(path).encode(), path), {})
            box.update((next(uids), octets) for octets in messages)

        def source(spool: Path) -> MemorySource:
            found = MemorySource(mail, spool=spool, stops=True)
            found.others, found.broken, found.tops, found.backwards = others, broken, True, True
            return found

        def add(messages: Sequence[bytes]) -> None:
            mail.update((next(uids), octets) for octets in messages)

        return Kit(source, add, broken.add, removes=True, add_to=add_to, several=True)


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


def imap_kit_of(server: FakeImap) -> Kit:
    server.delimiter = b"|"  # none of the paths has it

    def add(messages: Sequence[bytes]) -> None:
        server.box("INBOX").add(*messages)

    def add_to(path: MailboxPath, messages: Sequence[bytes]) -> None:
        server.box(imap_kit.name(path, server.delimiter)).add(*messages)

    def spoil(octets: bytes) -> None:
        server.refuses.add(server.box("INBOX").find(octets).uid)

    return Kit(
        lambda spool: imap_kit.source(server, spool=spool, expunge_without_uidplus=True),
        add,
        spoil,
        add_to=add_to,
        several=True,
        removes=True,
    )


class TestImap(SourceSuite):
    """A server with every extension that matters."""

    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        with FakeImap() as server:
            yield imap_kit_of(server)


class TestBareImap(SourceSuite):
    """A server that knows IMAP4rev1 alone, and gives what it is asked for in any order."""

    @pytest.fixture
    def kit(self) -> Iterator[Kit]:
        with FakeImap() as server:
            server.capabilities, server.inside = BARE, None
            server.backwards = server.uid_last = True
            yield imap_kit_of(server)


class TestPacks(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        path, keys = tmp_path / "archive", count()
        PacksArchive(path).create(uuid4())

        def add_to(where: MailboxPath, messages: Sequence[bytes]) -> None:
            if not messages:
                make([where])
                return
            archive, origin = PacksArchive(path), origin_of(where)
            archive.open()
            delivered(archive, [message(next(keys), octets, origin) for octets in messages])
            archive.close()

        def make(paths: Sequence[MailboxPath]) -> None:
            archive = PacksArchive(path)
            archive.open()
            archive.note_mailboxes([origin_of(where) for where in paths])
            archive.close()

        def spoil(octets: bytes) -> None:
            packs = OpenedPacks.open(path)
            at = locate(packs.index, sha256(octets).digest())
            assert at
            file = packs.home.pack_path(at.pack)
            with file.open("r+b") as pack:
                frame = read_frame(pack.fileno(), at.frame, file.stat().st_size)
                pack.seek(frame.end - 9)
                octet = pack.read(1)[0]
                pack.seek(frame.end - 9)
                pack.write(bytes([octet ^ 1]))
            packs.close()

        add = partial(add_to, INBOX_PATH)
        return Kit(lambda spool: PacksSource(path, spool), add, spoil, add_to=add_to, several=True, make=make)


def maildir_kit(path: Path, *, verbatim: bool, layout: Layout = Layout.PLUS_PLUS) -> Kit:
    keys = count()
    MaildirArchive(path, verbatim=verbatim, layout=layout).create(uuid4())

    def add_to(where: MailboxPath, messages: Sequence[bytes]) -> None:
        if not messages:
            make_folder(path, folder(where, layout))
            return
        archive, origin = MaildirArchive(path), origin_of(where)
        archive.open()
        delivered(archive, [message(next(keys), octets, origin) for octets in messages])
        archive.close()

    def spoil(octets: bytes) -> None:
        kept = octets if verbatim else octets.replace(b"\r\n", b"\n")
        [file] = [file for file in (path / "new").iterdir() if file.read_bytes() == kept]
        file.unlink()

    def given(octets: bytes) -> bytes:
        return octets if verbatim or b"\r" in octets else octets.replace(b"\n", b"\r\n")

    add = partial(add_to, INBOX_PATH)
    return Kit(lambda spool: MaildirSource(path, spool), add, spoil, given, add_to=add_to, several=True)


class TestMaildir(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        return maildir_kit(tmp_path / "archive", verbatim=False)


class TestVerbatimMaildir(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        return maildir_kit(tmp_path / "archive", verbatim=True, layout=Layout.NESTED)


class TestMbox(SourceSuite):
    """An archive of syncd."""

    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        path, keys = tmp_path / "archive", count()
        MboxArchive(path).create(uuid4())

        def add_to(where: MailboxPath, messages: Sequence[bytes]) -> None:
            if not messages:
                (path / file_of(where)).touch()
                return
            archive, origin = MboxArchive(path), origin_of(where)
            archive.open()
            delivered(archive, [message(next(keys), octets, origin) for octets in messages])
            archive.close()

        add = partial(add_to, INBOX_PATH)
        return Kit(lambda spool: MboxSource(path, spool), add, spoil_in(path), add_to=add_to, several=True)


class TestMboxOfOthers(SourceSuite):
    """A folder that the standard library has written, as mboxo without notes."""

    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        path = tmp_path / "Mail"
        path.mkdir()

        def add_to(where: MailboxPath, messages: Sequence[bytes]) -> None:
            file = path / file_of(where)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as mbox:
                for octets in messages:
                    text = octets.replace(b"\r\n", b"\n")
                    mbox.write(from_line(0.0) + quote(text) + separator(text))

        def given(octets: bytes) -> bytes:
            text = octets.replace(b"\r\n", b"\n")
            return (text if text.endswith(b"\n") else text + b"\n").replace(b"\n", b"\r\n")

        add = partial(add_to, INBOX_PATH)
        return Kit(lambda spool: MboxSource(path, spool), add, spoil_in(path), given, add_to=add_to, several=True)

    def test_nothing_is_there(self, source: Source) -> None:
        with pytest.raises(ArchiveMissing, match="no mbox file"):
            source.connect()

    def test_gives_the_octets(self, kit: Kit, source: Source) -> None:
        samples = [it for it in letters.samples().values() if b"\nStatus: " not in it]  # which would be a note
        messages = [*samples, *letters.realistic(20, seed=5), CRLF_MAIL]
        kit.add(messages)
        with opened(source) as session:
            assert Counter(fetched(inbox(session)).values()) == Counter(map(kit.given, messages))


def spoil_in(path: Path) -> Callable[[bytes], None]:
    """The last octet of a message in INBOX becomes another one."""

    def spoil(octets: bytes) -> None:
        file = path / "INBOX.mbox"
        content = bytearray(file.read_bytes())
        content[content.index(octets.replace(b"\r\n", b"\n")) + len(octets.replace(b"\r\n", b"\n")) - 2] ^= 1
        file.write_bytes(content)

    return spoil


class TestEml(SourceSuite):
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Kit:
        path, numbers = tmp_path / "mail", count()
        path.mkdir()

        def add_to(where: MailboxPath, messages: Sequence[bytes]) -> None:
            folder = path if where == INBOX_PATH else path / readable(where)
            folder.mkdir(parents=True, exist_ok=True)
            for octets in messages:
                (folder / f"{next(numbers):06d}.eml").write_bytes(octets)

        def spoil(octets: bytes) -> None:
            [file] = [file for file in path.glob("*.eml") if file.read_bytes() == octets]
            file.unlink()

        def given(octets: bytes) -> bytes:
            return octets if b"\r" in octets else octets.replace(b"\n", b"\r\n")

        (path / "no message.txt").write_bytes(HEAD)
        add = partial(add_to, INBOX_PATH)
        return Kit(lambda spool: EmlSource(path, spool), add, spoil, given, add_to=add_to, several=True)

    def test_mailboxes_come_in_chunks_of_at_most_1000(self, kit: Kit, source: Source) -> None:
        kit.add(some(1))  # a folder without any mail may be a disk that is not mounted
        super().test_mailboxes_come_in_chunks_of_at_most_1000(kit, source)

    def test_nothing_is_there(self, source: Source) -> None:
        with pytest.raises(ArchiveMissing, match="no eml file"):
            source.connect()
