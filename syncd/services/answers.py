"""Asks the search indexes of archives: one archive, or several of which the newest messages come first.

A part of a result ends at a place in the order of all archives that are asked, so the next part begins there whatever
is stored meanwhile. For words one after another, the messages that have all of them are looked at, at most LOOKS of
them for one part: in the index, if it keeps the order of words, or in the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from syncd.errors import ArchiveMissing, FormatDamaged, SyncdError, UsageError, printable
from syncd.formats.search.contract import Box, Hit, Index
from syncd.formats.search.order import packed, unpacked
from syncd.formats.search.words import Field
from syncd.formats.view import ArchiveView
from syncd.mail.mime.structure import structure
from syncd.services.archive import id_of, open_view
from syncd.services.indexes import FILES, Files, Indexes, Tables
from syncd.services.search import as_words, texts

if TYPE_CHECKING:
    from syncd.formats.search.question import Question, Term
    from syncd.settings.loaded import Loaded

LOOKS: Final = 500  # messages that are read for one part of a result
FEWEST_LOOKS: Final = 50  # in each of several archives
MOST_ARCHIVES: Final = 200  # that are asked at once: each takes some milliseconds
SOME: Final = 20  # names in an error line
WORDS_A_LOOK: Final = 10_000  # a part ends with the message whose texts exceed this for all of its looks together
AT_ONCE: Final = 10  # messages whose texts are in memory: some 5 MB each at most
TEXTS: Final = (Field.FROM, Field.TO, Field.SUBJECT)  # the first of a message's `Texts`
Said = list[list[str]]  # a message's `Texts`, as words


@dataclass(frozen=True, slots=True)
class Target:
    """An open archive. `view` is None where its folder is on another machine, `index` where it has none."""

    index: Index | None
    view: ArchiveView | None
    id_of: Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Searched:
    """An archive that is searched, opened when its turn comes. `site` is where its folder is, if that is known."""

    name: str
    open: Callable[[], AbstractContextManager[Target]]
    site: str = ""


class Below(NamedTuple):
    """The end of a part of a result: the last place in the order, and the number of the archive that it was in."""

    place: int
    archive: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `str` wrote."""
        place, _, archive = text.partition(".")
        return cls(int(place), int(archive or 0))

    def __str__(self) -> str:
        """Returns it as text, for an address."""
        return f"{self.place}.{self.archive}" if self.archive else str(self.place)


class Found(NamedTuple):
    """A message that was found. `id` is what a list of its archive calls it."""

    archive: str
    id: str
    hit: Hit

    def as_json(self) -> dict[str, object]:
        """Returns plain values; `key` is the message's address in the API, together with the archive."""
        hit = self.hit
        return {
            "archive": self.archive,
            "id": self.id,
            "key": hit.key.hex(),
            "octets": hit.octets,
            "at": hit.at,
            "sender": hit.sender,
            "subject": hit.subject,
            "attachments": hit.attachments,
            "accounts": hit.accounts,
            "mailboxes": ["/".join(path) for path in hit.mailboxes],
        }


@dataclass(slots=True)
class Looked:
    """A limit that a search had in an archive.

    `missing` messages are not in its index (None: nobody knows how many). With `here=False` its folder is on another
    machine: messages can be found, and not read. `error` says why it was left out.
    """

    archive: str
    site: str = ""
    here: bool = True
    missing: int | None = 0
    error: str = ""


class Answer(NamedTuple):
    """A part of a result. `below` is where the next part begins; None: that was all."""

    hits: list[Found]
    below: Below | None
    looked: list[Looked]


def find(
    archives: Sequence[Searched], question: Question, limit: int, below: Below | None = None, *, alone: bool = False
) -> Answer:
    """Returns messages that answer a question, the newest first; `below` is that of the part before.

    Where phrases are looked for, a part may have fewer messages than `limit`, and still not be the last one.
    An archive that cannot be searched is left out, and told of; with `alone=True` its error is raised.
    Raises UsageError for a mailbox or account that none of the archives has, and for too many archives.
    """
    if len(archives) > MOST_ARCHIVES:
        raise UsageError(f"{len(archives):,} archives are too many to search at once; choose {MOST_ARCHIVES} or fewer")
    boxes, looked = _Boxes(question), [Looked(it.name, it.site) for it in archives]
    found: list[tuple[int, int, Found]] = []
    ends: list[int] = []
    looks = max(FEWEST_LOOKS, LOOKS // max(1, len(archives)))
    for number, archive in enumerate(archives):
        start = None if below is None else below.place + (number > below.archive)
        try:
            with archive.open() as target:
                part = _part(target, question, boxes, (limit, looks, start), looked[number])
                found += [(-hit.id, number, Found(archive.name, target.id_of(hit.key), hit)) for hit in part.hits]
        except UsageError:
            raise
        except SyncdError as error:
            if alone:
                raise
            looked[number].here = not isinstance(error, ArchiveMissing)
            looked[number].error = str(error)
            continue
        ends += [] if part.end is None else [part.end]
    if not any(it.error for it in looked):
        boxes.check(len(archives))
    end = max(ends, default=None)
    found.sort(key=lambda it: it[:2])
    known = [it for it in found if end is None or -it[0] >= end]
    if len(known) > limit:
        place, number, _ = known[limit - 1]
        return Answer([it for *_, it in known[:limit]], Below(-place, number), looked)
    return Answer([it for *_, it in known], None if end is None else Below(end, len(archives) - 1), looked)


def hits(archives: Sequence[Searched], question: Question, page: int = LOOKS) -> Iterator[Found]:
    """Every message that answers a question, the newest first. Raises as `find` with `alone=True`."""
    below = None
    while True:
        found, below, *_ = find(archives, question, page, below, alone=True)
        yield from found
        if below is None:
            return


# --- archives ----------------------------------------------------------------------------------------------


def of_view(view: ArchiveView, name: str, indexes: Indexes = FILES) -> Searched:
    """Returns an open archive as one that is searched."""
    return Searched(name, partial(_of_view, view, indexes))


def of_name(loaded: Loaded | None, name: str, indexes: Files | Tables) -> Searched:
    """Returns an archive of the configuration, or the one at a path, as one that is searched."""
    known = loaded.settings.archives.get(name) if loaded is not None else None
    return Searched(name, partial(_of_name, loaded, name, indexes), (known.site or "") if known is not None else "")


@contextmanager
def _of_view(view: ArchiveView, indexes: Indexes) -> Iterator[Target]:
    with ExitStack() as stack:
        index = indexes.open(view)
        if index is not None:
            stack.enter_context(closing(index))
        yield Target(index, view, view.id_of)


@contextmanager
def _of_name(loaded: Loaded | None, name: str, indexes: Files | Tables) -> Iterator[Target]:
    known = loaded.settings.archives.get(name) if loaded is not None else None
    try:
        view = open_view(loaded, name)
    except ArchiveMissing:  # its disk is another machine's, or not mounted
        index = indexes.elsewhere(name) if isinstance(indexes, Tables) else None
        if known is None or index is None:
            if known is not None and not known.path.exists():
                raise ArchiveMissing(f"the archive {name} is not on this machine, or not made yet") from None
            raise
        with closing(index):
            yield Target(index, None, partial(id_of, known.format.value))
        return
    with closing(view), _of_view(view, indexes) as target:
        yield target


# --- inside ------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Hits of one archive, all there are down to the place `end`; None: these are all."""

    hits: list[Hit]
    end: int | None


def _part(
    target: Target, question: Question, boxes: _Boxes, bounds: tuple[int, int, int | None], looked: Looked
) -> _Part:
    index, view, (limit, looks, start) = target.index, target.view, bounds
    looked.here = view is not None
    if view is not None:
        looked.missing = view.figures().messages if index is None else view.unindexed(index)
    if index is None:
        return _Part([], None)
    within, without = boxes.of(index)
    if within is not None and not within:
        return _Part([], None)
    wanted = looks if question.has_phrases else limit + 1
    found = index.find(question, wanted, start, within, without)
    end = found[-1].id if len(found) == wanted else None
    if not question.has_phrases:
        return _Part(found, end)
    hits: list[Hit] = []
    left = looks * WORDS_A_LOOK
    for hit, said in _with_texts(target, found):
        left -= sum(map(len, said))
        if _says(said, hit, question):
            hits.append(hit)
        if len(hits) > limit or left < 0:
            return _Part(hits, hit.id)
    return _Part(hits, end)


class _Boxes:
    """The mailboxes that a question names, in each of several archives."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._known: list[Box] = []  # in all archives

    def of(self, index: Index) -> tuple[list[int] | None, list[int]]:
        """Returns the numbers of mailboxes to look in (None: all), and of those in which no message may be."""
        asked = self._question
        if not asked.names_places:
            return None, []
        known = index.mailboxes()
        self._known += known.values()
        without = [n for n, box in known.items() if _is_of(box, asked.not_accounts) or _is_in(box, asked.not_mailboxes)]
        if not asked.accounts and not asked.mailboxes:
            return None, without
        within = [
            n
            for n, box in known.items()
            if (not asked.accounts or _is_of(box, asked.accounts))
            and (not asked.mailboxes or _is_in(box, asked.mailboxes))
        ]
        return within, without

    def check(self, archives: int) -> None:
        """Raise UsageError for a name that none of the archives has."""
        asked, known = self._question, self._known
        for name in (*asked.accounts, *asked.not_accounts):
            if not any(_is_of(box, (name,)) for box in known):
                raise UsageError(_not_there("account", name, {box.name for box in known} - {""}, archives))
        for name in (*asked.mailboxes, *asked.not_mailboxes):
            if not any(_is_in(box, (name,)) for box in known):
                raise UsageError(_not_there("mailbox", name, {"/".join(box.path) for box in known}, archives))


def _not_there(what: str, name: str, there: Collection[str], archives: int) -> str:
    some = ", ".join(printable(each) for each in sorted(there)[:SOME]) or "none"
    has = "this archive; it has" if archives == 1 else "these archives; they have"
    return f"no {what} {printable(name)!r} in {has} {some}"


def _is_of(box: Box, accounts: Collection[str]) -> bool:
    return bool({box.name.casefold(), str(box.account)} & {name.casefold() for name in accounts})


def _is_in(box: Box, mailboxes: Collection[str]) -> bool:
    return "/".join(box.path).casefold() in {name.casefold() for name in mailboxes}


def _with_texts(target: Target, hits: Sequence[Hit]) -> Iterator[tuple[Hit, Said]]:
    """Every message with its texts; without any, where it cannot be read."""
    index, view = target.index, target.view
    if index is not None and index.keeps_order:
        for start in range(0, len(hits), AT_ONCE):
            some = hits[start : start + AT_ONCE]
            known = index.texts([hit.id for hit in some])
            yield from ((hit, known.get(hit.id, [])) for hit in some)
    elif view is not None:
        yield from ((hit, _read(view, hit)) for hit in hits)


def _read(view: ArchiveView, hit: Hit) -> Said:
    found = view.by_key(hit.key)
    if found is None:
        return []
    try:
        said = texts(structure(found.chunks()))
    except FormatDamaged:
        return []
    known, in_order = as_words(said, hit.octets, attachments=hit.attachments > 0)
    return unpacked(known, packed(known, in_order))  # of a very long message only what is in the index


def _says(said: Said, hit: Hit, question: Question) -> bool:
    """Tells whether a message answers what has words one after another in it. One without texts does not."""
    groups = [group for group in question.terms if any(term.in_order for term in group)]
    excluded = [term for term in question.without if term.in_order]
    return (
        bool(said)
        and all(any(_has(term, said, hit) for term in group) for group in groups)
        and not any(_has(term, said, hit) for term in excluded)
    )


def _has(term: Term, said: Said, hit: Hit) -> bool:
    if term.field is Field.HAS:
        return hit.attachments > 0
    at = None if term.field is None else TEXTS.index(term.field)
    where = said if at is None else said[at : at + 1]  # a damaged order may have fewer texts
    if term.in_order:
        return any(_follow(term.words, text) for text in where)
    there = set(chain.from_iterable(where))
    *first, last = term.words
    return there.issuperset(first) and (any(word.startswith(last) for word in there) if term.open else last in there)


def _follow(wanted: Sequence[str], text: Sequence[str]) -> bool:
    return f" {' '.join(wanted)} " in f" {' '.join(text)} "
