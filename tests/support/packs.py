"""Archives of packs for tests: what is put in, and what comes out of them in various ways."""

from __future__ import annotations

import mailbox
import random
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from syncd.destinations.packs import PacksArchive
from syncd.formats import zstd
from syncd.formats.packs.check import Problem, check
from syncd.formats.packs.frame import Frame, encode_frame, scan
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import LeftOut
from syncd.formats.packs.meta import Meta
from syncd.formats.packs.opened import OpenedPacks
from syncd.formats.packs.query import MessageRecord
from syncd.formats.packs.take_up import build_index
from syncd.formats.zstd import ZstdDecompressor
from syncd.mail.message import Message, Receipt
from tests.contract.destination_suite import ROAD, delivered, message, octets


def zstdcat(archive: Path) -> bytes:
    """What `zstdcat ARCHIVE/packs/*.mbox.zst` gives: by the program where it is installed, else by the library."""
    packs = sorted((archive / "packs").glob("*.mbox.zst"))
    program = shutil.which("zstdcat")
    if program is None or not packs:
        return b"".join(decompressed(pack.read_bytes()) for pack in packs)
    return subprocess.run([program, *packs], check=True, capture_output=True).stdout


def decompressed(frames_: bytes) -> bytes:
    """Every frame's content; skippable frames have none. An unfinished frame gives what there is of it."""
    found = []
    while frames_:
        one = ZstdDecompressor()
        found.append(one.decompress(frames_))
        frames_ = one.unused_data if one.eof else b""
    return b"".join(found)


def mail(key: int, size: int = 300) -> bytes:
    """Incompressible, so that packs have a size that can be counted on."""
    noise = random.Random(key).randbytes(size // 2).hex().encode()
    return b"Subject: %d\r\n\r\n%s\r\n" % (key, noise)


def messages(*keys: int, size: int = 300) -> list[Message]:
    return [message(key, mail(key, size)) for key in keys]


def pack(path: Path, number: int = 1) -> Path:
    return path / "packs" / f"{number:06d}.mbox.zst"


def stored(path: Path) -> set[bytes]:
    """The uids that an archive holds, each read back and compared."""
    archive = PacksArchive(path)
    try:
        places = list(archive.places(ROAD.account))
        for place in places:
            key = int(place.ref.uid[4:])
            expected = mail(key, place.octets - len(mail(key, 0)))
            assert octets(archive.read(Receipt(place.sha256)).body) == expected
    finally:
        archive.close()
    return {place.ref.uid for place in places}


def uids(*keys: int) -> set[bytes]:
    return {b"uid-%d" % key for key in keys}


def count_in_mbox(path: Path) -> int:
    mbox = path.with_name("all.mbox")
    mbox.write_bytes(zstdcat(path))
    box = mailbox.mbox(mbox, create=False)
    try:
        return len(box)
    finally:
        box.close()


def deliver(path: Path, *batches: list[Message]) -> None:
    archive = PacksArchive(path)
    archive.open()
    try:
        for batch in batches:
            delivered(archive, batch)
    finally:
        archive.close()


def checked(path: Path, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """The findings of a check of the archive."""
    with closing(OpenedPacks.open(path)) as packs:
        return list(check(packs, progress))


def problems(path: Path) -> list[str]:
    return [f"{p.file.name}@{p.offset} {p.what}" for p in checked(path)]


def listed(path: Path) -> list[MessageRecord]:
    """Every message with its places, in the order in which they were stored."""
    with closing(OpenedPacks.open(path)) as packs:
        return list(packs.messages())


def dump(path: Path) -> list[tuple[object, ...]]:
    with closing(OpenedPacks.open(path)) as packs:
        return list(packs.index.dump())


def rebuild(path: Path) -> None:
    """Build the index again from the packs."""
    with closing(Home.open(path, writable=True)) as home, home.locked():
        build_index(home)


def rebuilt(path: Path) -> list[tuple[object, ...]]:
    rebuild(path)
    return dump(path)


def frames(file: Path) -> list[Frame]:
    with file.open("rb") as opened:
        found = list(scan(opened.fileno(), 0, file.stat().st_size))
    return [each for each in found if isinstance(each, Frame)]


def forget_after(path: Path, end: int) -> None:
    """Make the index what it was when the first pack ended there."""
    content = pack(path).read_bytes()
    pack(path).write_bytes(content[:end])
    rebuild(path)
    pack(path).write_bytes(content)


def append_facts(path: Path, meta: Meta, number: int = 1) -> None:
    """What another program may have written: metadata alone. The next writer takes it up."""
    append_frame(path, meta.dump(), number=number)


def append_frame(path: Path, document: bytes, data: bytes = b"", number: int = 1) -> int:
    """Append a frame with any metadata and mail, whose checksums agree. Returns where it starts."""
    start = pack(path, number).stat().st_size
    packed = zstd.compress(zstd.compressor(), data) if data else b""
    with pack(path, number).open("ab") as file:
        file.write(encode_frame(zstd.compress(zstd.compressor(), document), packed) + packed)
    return start


def lose_index(path: Path) -> None:
    """Delete every file of the index."""
    for file in path.glob("index.sqlite*"):
        file.unlink()


def left_out(path: Path) -> list[LeftOut]:
    """Damage that a reader knows of without a check."""
    with closing(OpenedPacks.open(path)) as packs:
        return packs.left_out()


def spoil_mail(path: Path, number: int = 1) -> None:
    """Flip a bit in the first data frame of a pack."""
    frame = next(each for each in frames(pack(path, number)) if each.data_octets)
    content = bytearray(pack(path, number).read_bytes())
    content[frame.end - 9] ^= 1
    pack(path, number).write_bytes(content)
