"""Searching an archive: bring its index up to date, and ask it.

The index follows from the archive, and is made in short transactions: whoever stops in between has lost nothing.
Words one after another are looked for in the messages themselves, at most LOOKS of them for one part of a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from syncd import clock
from syncd.errors import FormatDamaged, Locked, StorageError, UsageError, printable
from syncd.formats.search.files import remove
from syncd.formats.search.index import Document, Hit, SearchIndex
from syncd.formats.search.question import Question, Term
from syncd.formats.search.words import Field, indexed, words
from syncd.formats.view import ArchiveView, Fresh, Further, Gone, Mark
from syncd.mail import headers
from syncd.mail.mime.structure import Structure, structure
from syncd.mail.mime.text import text_of

BATCH: Final = 1_000  # messages in a transaction
BATCH_S: Final = 2.0  # of reading, after which a transaction is made
LOOKS: Final = 500  # messages that are read for one part of a result
_TO: Final = ("to", "cc", "bcc")


@dataclass(slots=True)
class Indexed:
    """What was done to bring an index up to date. `left` messages are not in it; None: nobody knows how many."""

    messages: int = 0
    octets: int = 0
    gone: int = 0
    unreadable: int = 0
    left: int | None = 0


class Answer(NamedTuple):
    """A part of a result. `below` is where the next part begins; None: that was all."""

    hits: list[Hit]
    below: int | None


class Texts(NamedTuple):
    """What can be searched of a message."""

    sender: str
    to: str
    subject: str
    names: str  # of attachments
    text: str


def update(
    view: ArchiveView,
    *,
    go_on: Callable[[], bool] = lambda: True,
    progress: Callable[[Indexed], None] = lambda _: None,
    tidy: bool = False,
) -> Indexed:
    """Bring the search index of an archive up to date, until that is so or `go_on` says no. Memory: one batch.

    `go_on` is asked after each batch, and where a page of messages had nothing new.
    With `tidy=True` the parts that it was written in are merged at the end: searches get faster, the file smaller.
    Raises StorageError, also where nothing can be written beside the archive.
    """
    done = Indexed()
    with closing(SearchIndex.make(view.search_index, view.uuid)) as index:
        batch = _Batch(index, done)
        for change in view.changes(index):
            match change:
                case Fresh():
                    batch.add(_document(change, done))
                case Further():
                    batch.further.append(change)
                case Gone():
                    batch.gone.append(change.key)
                case Mark():
                    batch.mark = change.mark
            if batch.is_full and (isinstance(change, Mark) or not batch.documents):
                batch.write()
                progress(done)
            elif not isinstance(change, Mark) or batch.documents:
                continue
            if not go_on():
                done.left = view.unindexed(index)
                return done
        batch.write()
        if tidy and done.messages:
            with suppress(Locked):  # somebody adds to it, and it is whole without
                index.tidy()
    return done


def rebuild(view: ArchiveView, progress: Callable[[Indexed], None] = lambda _: None) -> Indexed:
    """Make the search index of an archive again from nothing. Raises StorageError."""
    remove(view.search_index)
    return update(view, progress=progress, tidy=True)


def unindexed(view: ArchiveView) -> int | None:
    """Returns how many messages are not in the search index; None where that is not known."""
    index = SearchIndex.open(view.search_index, view.uuid)
    if index is None:
        return view.figures().messages
    with closing(index):
        return view.unindexed(index)


def find(view: ArchiveView, question: Question, limit: int, below: int | None = None) -> Answer:
    """Returns messages that answer a question, the newest first; `below` is that of the part before.

    Where phrases are looked for, a part may have fewer messages than `limit`, and still not be the last one.
    Raises UsageError for a mailbox or account that is not there, StorageError.
    """
    index = SearchIndex.open(view.search_index, view.uuid)
    if index is None:
        return Answer([], None)
    with closing(index):
        within = _mailboxes(index, question)
        wanted = LOOKS if question.phrases else limit + 1
        found = index.find(question, wanted, below, within)
        if not question.phrases:
            return Answer(found[:limit], found[limit - 1].id if len(found) > limit else None)
        hits: list[Hit] = []
        for hit in found:
            if _says(view, hit, question.phrases):
                hits.append(hit)
                if len(hits) == limit:
                    return Answer(hits, hit.id)
        return Answer(hits, found[-1].id if len(found) == wanted else None)


def hit_json(view: ArchiveView, hit: Hit) -> dict[str, object]:
    """Returns a message that was found as plain values; `key` is its address in the API."""
    return {
        "id": view.id_of(hit.key),
        "key": hit.key.hex(),
        "octets": hit.octets,
        "at": hit.at,
        "sender": hit.sender,
        "subject": hit.subject,
        "attachments": hit.attachments,
        "accounts": hit.accounts,
        "mailboxes": ["/".join(path) for path in hit.mailboxes],
    }


# --- one message -------------------------------------------------------------------------------------------


def texts(found: Structure) -> Texts:
    """Returns what can be searched of a message."""
    raw = found.fields
    decoded = {name: headers.decode(raw[name.encode()]) for name in ("from", "subject", *_TO) if name.encode() in raw}
    names = " ".join(part.what.name for part in found.parts if part.is_attachment)
    to = " ".join(decoded[name] for name in _TO if name in decoded)
    return Texts(decoded.get("from", ""), to, decoded.get("subject", ""), names, text_of(found))


def _document(fresh: Fresh, done: Indexed) -> Document:
    """Returns a message for the index. One that cannot be read is there without words."""
    try:
        found = structure(fresh.chunks)
    except StorageError:
        done.unreadable += 1
        return Document(fresh.key, fresh.at, fresh.octets, 0, "", "", "", fresh.origins)
    said = texts(found)
    attachments = sum(part.is_attachment for part in found.parts)
    fields = ((Field.FROM, said.sender), (Field.TO, said.to), (Field.SUBJECT, said.subject))
    everything = indexed(fields, (said.names, said.text), fresh.octets, attachments=attachments > 0)
    dated = {
        name: headers.decode(found.fields[name.encode()]) for name in headers.DATED if name.encode() in found.fields
    }
    at = headers.sent_at(dated) or fresh.at
    return Document(fresh.key, at, fresh.octets, attachments, said.sender, said.subject, everything, fresh.origins)


def _says(view: ArchiveView, hit: Hit, phrases: Iterable[Term]) -> bool:
    """Tells whether a message has words one after another. One that cannot be read any more has not."""
    read = view.by_key(hit.key)
    if read is None:
        return False
    try:
        said = texts(structure(read.chunks()))
    except FormatDamaged:
        return False
    where: Mapping[Field | None, tuple[str, ...]] = {
        Field.FROM: (said.sender,), Field.TO: (said.to,), Field.SUBJECT: (said.subject,), None: tuple(said),
    }  # fmt: skip
    return all(any(_follow(term.words, text) for text in where[term.field]) for term in phrases)


def _follow(wanted: tuple[str, ...], text: str) -> bool:
    return f" {' '.join(wanted)} " in f" {' '.join(words(text))} "


# --- inside ------------------------------------------------------------------------------------------------


class _Batch:
    """Changes that go into the index together; a mark is written with all that came before it."""

    def __init__(self, index: SearchIndex, done: Indexed) -> None:
        self._index = index
        self._done = done
        self.documents: list[Document] = []
        self._begun = clock.monotonic()
        self.further: list[Further] = []
        self.gone: list[bytes] = []
        self.mark: str | None = None

    @property
    def is_full(self) -> bool:
        waiting = len(self.documents) + len(self.further) + len(self.gone)
        return waiting >= BATCH or (waiting > 0 and clock.monotonic() - self._begun >= BATCH_S)

    def add(self, document: Document) -> None:
        self.documents.append(document)

    def write(self) -> None:
        with self._index.writing():
            self._done.messages += self._index.add(self.documents)
            for change in self.further:
                self._index.place(change.key, change.origins)
            for key in self.gone:
                self._index.forget(key)
            if self.mark is not None:
                self._index.set_mark(self.mark)
        self._done.octets += sum(one.octets for one in self.documents)
        self._done.gone += len(self.gone)
        self.documents, self.further, self.gone, self.mark = [], [], [], None
        self._begun = clock.monotonic()


def _mailboxes(index: SearchIndex, question: Question) -> list[int] | None:
    """Returns the numbers of the mailboxes that a question names; None: all. Raises UsageError."""
    if question.account is None and question.mailbox is None:
        return None
    known = index.mailboxes()
    if question.account is not None:
        wanted = question.account.casefold()
        of_account = {n: it for n, it in known.items() if wanted in {it.name.casefold(), str(it.account)}}
        _check(of_account, "account", question.account, (it.name for it in known.values() if it.name))
        known = of_account
    if question.mailbox is not None:
        wanted = question.mailbox.casefold()
        of_mailbox = {n: it for n, it in known.items() if "/".join(it.path).casefold() == wanted}
        _check(of_mailbox, "mailbox", question.mailbox, ("/".join(it.path) for it in known.values()))
        known = of_mailbox
    return list(known)


def _check(found: Mapping[int, object], what: str, name: str, there: Iterable[str]) -> None:
    if not found:
        some = ", ".join(printable(each) for each in sorted(set(there))[:20]) or "none"
        raise UsageError(f"no {what} {printable(name)!r} in this archive; it has {some}")
