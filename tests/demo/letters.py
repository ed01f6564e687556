"""The mail of the demo: what the project ships, what it makes up, or what somebody points at."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from tests.servers.maildrop import servable
from tests.support import mail

GENERATED = 290  # realistic ones beside the samples: about 14 MiB together
ADDED = 10
LARGE = 6_000  # of the second account: some batches, so that there is a half-way
LARGE_OCTETS = 3 << 10


class NoMail(Exception):
    """There is no mail where somebody said there is some."""


def first(given: Path | None) -> Iterator[bytes]:
    """The first account's mail. Raises NoMail."""
    letters = chain(mail.samples().values(), mail.realistic(GENERATED, seed=1)) if given is None else _of(given)
    return filter(servable, letters)


def further() -> Iterator[bytes]:
    """Ten that arrive later."""
    return mail.realistic(ADDED, seed=2)


def later() -> Iterator[bytes]:
    """As many again."""
    return mail.realistic(ADDED, seed=4)


def large() -> Iterator[bytes]:
    """The second account's."""
    return mail.small(LARGE, seed=3, octets=LARGE_OCTETS)


def _of(path: Path) -> Iterator[bytes]:
    """A folder of eml files (or a Maildir), at any depth; else an mbox. Files are read one at a time."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _is_letter(file))
        if not files:
            raise NoMail(f"no *.eml file in {path}")
        return (file.read_bytes() for file in files)
    if not path.is_file():
        raise NoMail(f"{path} does not exist; give a folder of eml files or an mbox")
    with path.open("rb") as file:
        if file.read(5) != b"From ":
            raise NoMail(f"{path} is not an mbox: it does not begin with 'From '")
    return _of_mbox(path)


def _of_mbox(path: Path) -> Iterator[bytes]:
    with closing(mailbox.mbox(path, create=False)) as box:
        yield from map(box.get_bytes, box.iterkeys())


def _is_letter(file: Path) -> bool:
    return file.suffix.lower() == ".eml" or file.parent.name in {"cur", "new"}
