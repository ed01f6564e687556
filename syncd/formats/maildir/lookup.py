"""Finding a message that syncd delivered in a Maildir folder, and reading it back, wherever mail readers moved it.

A message kept with LF line ends may have had CRLF or LF: which of the two follows from the SHA-256 of its receipt.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from syncd.errors import FormatDamaged, storage_error
from syncd.formats.identity import Identity
from syncd.formats.line_ends import to_crlf
from syncd.formats.maildir import names, notes
from syncd.formats.maildir.folder import Folder, read_chunks
from syncd.formats.maildir.home import options
from syncd.formats.regular import NotRegular
from syncd.mail.body import Body, BodyWriter
from syncd.mail.message import Receipt, StoredMessage


def read(root: Path, identity: Identity, receipt: Receipt, spool: Path) -> StoredMessage:
    """Returns the message as it was delivered, with the flags of its file's name now and the file's date.

    The hint of `receipt` is folder and stem. Large messages go to a file in `spool`. Raises FormatDamaged where the
    message is no longer in its folder or has other octets, StorageError.
    """
    name, _, stem = receipt.hint.rpartition("/")
    lf, separator, _ = options(identity)
    try:
        with Folder.to_read(root, name) as folder:
            descriptor, file = open_message(folder, stem, separator)
            try:
                body = _original(descriptor, receipt.sha256, spool, lf=lf)
                date = datetime.fromtimestamp(int(os.fstat(descriptor).st_mtime), UTC)
                keywords = notes.keywords(notes.read(folder, notes.KEYWORDS) or b"")
            finally:
                os.close(descriptor)
    except FileNotFoundError as error:
        raise FormatDamaged(f"the message {receipt.hint} is no longer in the Maildir archive {root}") from error
    except NotRegular as error:
        raise FormatDamaged(f"{receipt.hint} in the Maildir archive {root} is no message: {error.strerror}") from error
    except OSError as error:
        raise storage_error(error, f"cannot read {receipt.hint} in the Maildir archive {root}") from error
    if body is None:
        raise FormatDamaged(f"{receipt.hint} in the Maildir archive {root} is not what was stored: its SHA-256 differs")
    return StoredMessage(body, names.flags_of(file, separator, keywords), date)


def open_message(folder: Folder, stem: str, separator: str) -> tuple[int, str]:
    """Open a message under whatever name it has now; returns descriptor and name. Raises FileNotFoundError."""
    if likely := open_likely(folder, stem, separator):
        return likely
    name = find(folder, {stem}).get(stem)
    if name is None:
        raise FileNotFoundError(stem)
    return folder.open(name), name


def open_likely(folder: Folder, stem: str, separator: str) -> tuple[int, str] | None:
    """Open a message by the names it may have, without a pass over the folder: 1.5 µs for a name that is not there."""
    for name in names.likely_names(stem, separator):
        with suppress(FileNotFoundError):
            return folder.open(name), name
    return None


def find(folder: Folder, stems: Collection[str]) -> dict[str, str]:
    """Returns the names of those stems that the folder holds, under whatever flags. One pass over the folder."""
    named = ((names.stem_of(name[4:]), name) for name in folder.names())
    return {stem: name for stem, name in named if stem is not None and stem in stems}


def originals(descriptor: int, *, lf: bool) -> Iterator[Iterator[bytes]]:
    """The originals that a stored file may come from, likelier first: the SHA-256 of the original tells which it is."""
    forms = (to_crlf(read_chunks(descriptor)), read_chunks(descriptor))
    yield from forms if lf else reversed(forms)


def _original(descriptor: int, sha256: bytes, spool: Path, *, lf: bool) -> Body | None:
    for chunks in originals(descriptor, lf=lf):
        writer = BodyWriter(spool)
        try:
            for chunk in chunks:
                writer.write(chunk)
            body = writer.finish()
        except BaseException:
            writer.discard()
            raise
        if body.sha256 == sha256:
            return body
        body.close()
    return None
