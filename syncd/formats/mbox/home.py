"""Where mbox files are: an archive of syncd, another program's folder of mbox files, or one file.

    ROOT/.syncd-archive.json   which archive this is; not in folders of other programs
    ROOT/.syncd-mbox.sqlite    what syncd knows of its files (`journal`)
    ROOT/.syncd-lock           flock(2) for each batch

A file is a mailbox. INBOX is `INBOX.mbox` and a mailbox below another one lies in a folder (`Work.mbox`,
`Work/2019.mbox`); `formats.readable` makes the names. In folders of other programs a file is a mailbox if it begins
with a `From ` line or is called `*.mbox`, and a folder `NAME.sbd` (Thunderbird) or `NAME.mbox` (Apple Mail) has the
mailboxes below NAME. Hidden files, links, FIFOs and lock files are passed over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from syncd.errors import ArchiveMissing, Unusable, storage_error
from syncd.formats.foreign import uuid_of
from syncd.formats.identity import Identity, read_identity
from syncd.formats.mbox.from_line import MOST_OCTETS, at_start
from syncd.formats.readable import level_of, readable
from syncd.formats.regular import NotRegular, open_regular
from syncd.formats.unread import unread
from syncd.mail.mailbox import INBOX_PATH, Unread
from syncd.mail.mailbox import Path as MailboxPath

FORMAT: Final = "mbox"
VERSION: Final = 1
IDENTITY_FILE: Final = ".syncd-archive.json"
JOURNAL_FILE: Final = ".syncd-mbox.sqlite"
SUFFIX: Final = ".mbox"
MOST_LEVELS: Final = 100  # of nested folders
_FOLDERS: Final = (".sbd", SUFFIX)
_NO_MAIL: Final = (".lock", ".msf")  # locks; Thunderbird's indexes


class MboxHome(NamedTuple):
    """A folder of mbox files, or one of them (`single`, in `root`). `identity` is None where syncd did not make it."""

    path: Path  # as it was given
    root: Path
    single: str
    identity: Identity | None

    @property
    def uuid(self) -> UUID:
        """The archive's UUID, or the one that stands for the path."""
        return uuid_of(self.path, FORMAT) if self.identity is None else self.identity.uuid


def read_home(path: Path) -> Identity:
    """Returns the archive of syncd at `path`. Raises ArchiveMissing, FormatDamaged, StorageError."""
    return read_identity(path / IDENTITY_FILE, format_name=FORMAT, version=VERSION)


def find_home(path: Path) -> MboxHome:
    """Returns what is at `path`, whichever program made it. Raises ArchiveMissing, FormatDamaged, StorageError."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveMissing(f"there is no mbox at {path}: mount its disk, or correct the path") from error
    except OSError as error:
        raise storage_error(error, f"cannot look at {path}") from error
    if stat.S_ISREG(facts.st_mode):
        return MboxHome(path, path.parent, path.name, None)
    if os.path.lexists(path / IDENTITY_FILE):
        return MboxHome(path, path, "", read_home(path))
    home, closed = MboxHome(path, path, "", None), list[Unread]()
    if next(names(home, closed), None) is None:
        if closed:
            raise Unusable(closed[0].why)
        raise ArchiveMissing(f"there is no mbox file in {path}: mount its disk, or correct the path")
    return home


def file_of(path: MailboxPath) -> str:
    """Returns the file of a mailbox below the root of an archive."""
    return readable(path) + SUFFIX


def path_of(name: str) -> MailboxPath:
    """Returns the path that a file stands for, whichever program named it."""
    *above, last = name.split("/")
    if above and last == "mbox" and above[-1].endswith(SUFFIX):
        last = above.pop()  # Apple Mail: NAME.mbox/mbox
    levels = [_without(level, _FOLDERS) for level in above] + [_without(last, (SUFFIX,))]
    path = tuple(map(level_of, levels))
    return INBOX_PATH if len(path) == 1 and path[0].upper() in {"INBOX", "MBOX"} else path


def place_of(name: str) -> MailboxPath:
    """Returns the path of a file or of a folder, which mailboxes in it are below."""
    return path_of(name.removesuffix(_FOLDERS[0]))


def names(home: MboxHome, closed: list[Unread]) -> Iterator[str]:
    """Yields the files that are mailboxes, in no order; adds what cannot be read to `closed`. Raises StorageError."""
    if home.single:
        yield home.single
        return
    try:
        yield from _below(home.root, "", 0, closed)
    except OSError as error:
        raise storage_error(error, f"cannot read {home.root}") from error


def has(home: MboxHome, name: str) -> bool:
    """Tells whether a file is one of `names` now, and no part of its path is a link."""
    if home.single:
        return name == home.single and (home.root / name).is_file()
    levels = name.split("/")
    if any(level.startswith(".") or not level for level in levels):
        return False
    above = [home.root.joinpath(*levels[:end]) for end in range(1, len(levels))]
    try:
        return all(not it.is_symlink() for it in above) and _is_mailbox(home.root / name, name)
    except (FileNotFoundError, NotADirectoryError, NotRegular):
        return False
    except OSError:
        return True  # reading it says why it cannot be read


def _below(root: Path, above: str, depth: int, closed: list[Unread]) -> Iterator[str]:
    try:
        with os.scandir(root / above) as entries:
            found = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        if not above:
            raise
        closed += unread(root, above, error)
        return
    for name in found:
        below = f"{above}/{name}" if above else name
        path = root / below
        try:
            is_mailbox, is_folder = _is_mailbox(path, name), stat.S_ISDIR(path.lstat().st_mode)
        except NotRegular:
            continue
        except OSError as error:
            closed += unread(root, below, error)
            continue
        if is_mailbox:
            yield below
        elif depth < MOST_LEVELS and is_folder:
            yield from _below(root, below, depth + 1, closed)


def _is_mailbox(path: Path, name: str) -> bool:
    """Tells whether a file is a mailbox. Raises OSError where it cannot be read."""
    if name.lower().endswith(_NO_MAIL) or not stat.S_ISREG(path.lstat().st_mode):
        return False
    if name.lower().endswith(SUFFIX):
        return True
    descriptor = open_regular(path, os.O_RDONLY)
    try:
        start = os.pread(descriptor, MOST_OCTETS, 0)
    finally:
        os.close(descriptor)
    return at_start(start) is not None


def _without(name: str, endings: tuple[str, ...]) -> str:
    return next((name[: -len(it)] for it in endings if name.lower().endswith(it) and len(name) > len(it)), name)
