"""Brings the search index of an archive up to date (`services.answers` asks it).

The index follows from the archive, and is made in short transactions: whoever stops in between has lost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Final, NamedTuple

from syncd import clock
from syncd.errors import Locked, StorageError
from syncd.formats.search.contract import Document, Index, storable
from syncd.formats.search.order import packed
from syncd.formats.search.words import Field, indexed, words
from syncd.formats.view import ArchiveView, Fresh, Further, Gone, Mark
from syncd.mail import headers
from syncd.mail.mime.structure import Structure, structure
from syncd.mail.mime.text import text_of
from syncd.services.indexes import FILES, Indexes

BATCH: Final = 1_000  # messages in a transaction
BATCH_S: Final = 2.0  # of reading, after which a transaction is made
_TO: Final = ("to", "cc", "bcc")


@dataclass(slots=True)
class Indexed:
    """What was done to bring an index up to date. `left` messages are not in it; None: nobody knows how many."""

    messages: int = 0
    octets: int = 0
    gone: int = 0
    unreadable: int = 0
    left: int | None = 0


class Texts(NamedTuple):
    """The texts of a message that can be searched. An index that keeps the order of words has them in this order."""

    sender: str
    to: str
    subject: str
    names: str  # of attachments
    text: str


def update(
    view: ArchiveView,
    indexes: Indexes = FILES,
    *,
    go_on: Callable[[], bool] = lambda: True,
    progress: Callable[[Indexed], None] = lambda _: None,
    tidy: bool = False,
) -> Indexed:
    """Bring the search index of an archive up to date, until that is so or `go_on` says no. Memory: two batches.

    `go_on` is asked after each batch, and where a page of messages had nothing new.
    With `tidy=True` the parts that it was written in are merged at the end: searches get faster, the file smaller.
    Raises StorageError, also where nothing can be written beside the archive, and LedgerError.
    """
    done = Indexed()
    # The writer opens the index first. If somebody makes it again between the two, the writer adds to what is no index
    # any more; the other way round, it would put a mark of the former index into the new one.
    with closing(_Writer(indexes.make(view), done)) as writer, closing(indexes.make(view)) as index:
        batch = _Batch()
        for change in view.changes(index):
            match change:
                case Fresh():
                    batch.documents.append(_document(change, done, with_order=index.keeps_order))
                case Further():
                    batch.further.append(change)
                case Gone():
                    batch.gone.append(change.key)
                case Mark():
                    batch.mark = change.mark
            if batch.is_full and (isinstance(change, Mark) or not batch.documents):
                writer.write(batch)
                batch = _Batch()
                progress(done)
            elif not isinstance(change, Mark) or batch.documents:
                continue
            if not go_on():
                writer.wait()
                done.left = view.unindexed(index)
                return done
        writer.write(batch)
        writer.wait()
        if tidy and done.messages:
            with suppress(Locked):  # somebody adds to it, and it is whole without
                index.tidy()
    return done


def rebuild(
    view: ArchiveView, indexes: Indexes = FILES, progress: Callable[[Indexed], None] = lambda _: None
) -> Indexed:
    """Make the search index of an archive again from nothing. Raises StorageError, LedgerError."""
    indexes.remove(view)
    return update(view, indexes, progress=progress, tidy=True)


def unindexed(view: ArchiveView, indexes: Indexes = FILES) -> int | None:
    """Returns how many messages are not in the search index; None where that is not known."""
    index = indexes.open(view)
    if index is None:
        return view.figures().messages
    with closing(index):
        return view.unindexed(index)


# --- one message -------------------------------------------------------------------------------------------


def texts(found: Structure) -> Texts:
    """Returns what can be searched of a message."""
    raw = found.fields
    decoded = {name: headers.decode(raw[name.encode()]) for name in ("from", "subject", *_TO) if name.encode() in raw}
    names = " ".join(part.what.name for part in found.parts if part.is_attachment)
    to = " ".join(decoded[name] for name in _TO if name in decoded)
    return Texts(decoded.get("from", ""), to, decoded.get("subject", ""), names, text_of(found))


def as_words(said: Texts, octets: int, *, attachments: bool) -> tuple[list[str], list[list[str]]]:
    """Returns all words that an index has of a message, and the words of its texts in their order."""
    sender, to, subject, *others = in_order = [words(text) for text in said]
    fields = ((Field.FROM, sender), (Field.TO, to), (Field.SUBJECT, subject))
    return indexed(fields, others, octets, attachments=attachments), in_order


def _document(fresh: Fresh, done: Indexed, *, with_order: bool) -> Document:
    """Returns a message for the index. One that cannot be read is there without its words."""
    try:
        found = structure(fresh.chunks)
    except StorageError:
        done.unreadable += 1
        size = indexed((), (), fresh.octets, attachments=False)
        return Document(fresh.key, fresh.at, fresh.octets, 0, "", "", " ".join(size), b"", fresh.origins)
    said = texts(found)
    attachments = sum(part.is_attachment for part in found.parts)
    everything, in_order = as_words(said, fresh.octets, attachments=attachments > 0)
    dated = {
        name: headers.decode(found.fields[name.encode()]) for name in headers.DATED if name.encode() in found.fields
    }
    at = headers.sent_at(dated) or fresh.at
    order = packed(everything, in_order) if with_order else b""
    shown = storable(said.sender), storable(said.subject)
    return Document(fresh.key, at, fresh.octets, attachments, *shown, " ".join(everything), order, fresh.origins)


# --- inside ------------------------------------------------------------------------------------------------


class _Batch:
    """Changes that go into the index together; a mark is written with all that came before it."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.further: list[Further] = []
        self.gone: list[bytes] = []
        self.mark: str | None = None
        self._begun = clock.monotonic()

    @property
    def is_full(self) -> bool:
        waiting = len(self.documents) + len(self.further) + len(self.gone)
        return waiting >= BATCH or (waiting > 0 and clock.monotonic() - self._begun >= BATCH_S)

    def write(self, index: Index, done: Indexed) -> None:
        with index.writing():
            messages = index.add(self.documents)
            for change in self.further:
                index.place(change.key, change.origins)
            for key in self.gone:
                index.forget(key)
            if self.mark is not None:
                index.set_mark(self.mark)
        done.messages += messages
        done.octets += sum(one.octets for one in self.documents)
        done.gone += len(self.gone)


class _Writer:
    """Writes batches in their order; where another process does the work, in a thread, while the next one is made.

    SQLite works in this process, and takes Python's lock again for each row: with a thread it took a tenth longer.
    Two batches are in memory at most. `index` is for this class alone. Whoever reads has another one, which may lack
    what is being written: `Index.add` passes over a message that is there by then.
    """

    def __init__(self, index: Index, done: Indexed) -> None:
        self._index = index
        self._done = done
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def write(self, batch: _Batch) -> None:
        """Write a batch, or begin to as soon as the one before is written. Raises what writing either has raised."""
        self.wait()
        if not self._index.elsewhere:
            batch.write(self._index, self._done)
            return
        self._thread = Thread(target=self._write, args=(batch,), name="search-write", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until all batches are written. Raises what writing raised; nothing is written after an error."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until the batch under way is written or has failed, and let go of the index."""
        if self._thread is not None:
            self._thread.join()
        self._index.close()

    def _write(self, batch: _Batch) -> None:
        try:
            batch.write(self._index, self._done)
        except BaseException as error:  # noqa: BLE001  raised by the thread that makes batches
            self._error = error
