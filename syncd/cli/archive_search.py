"""`syncd archive search`, `syncd archive reindex`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from syncd import clock
from syncd.cli import complete
from syncd.cli.archive_open import ARCHIVE, load_for, opened
from syncd.cli.archive_tables import MessageTable
from syncd.cli.options import Common, Verb, common
from syncd.cli.render import Output, StatusLine, count, octets
from syncd.engine.exit_codes import ExitCode
from syncd.errors import ArchiveMissing, StorageError, SyncdError, UsageError

if TYPE_CHECKING:
    from syncd.formats.search.question import Question
    from syncd.formats.view import Entry
    from syncd.services.answers import Found, Searched
    from syncd.services.indexes import Files, Tables
    from syncd.services.search import Indexed
    from syncd.settings.load import Loaded

CATCH_UP_S: Final = 2.0  # that a search takes at most to bring its indexes up to date
PAGE: Final = 500  # messages asked for at a time
_PATHS: Final = ("/", "./", "../", "~")  # what is a path for sure begins so


@click.command(
    cls=Verb,
    short_help="Search messages: words, phrases, fields.",
    examples=(
        ("syncd archive search home invoice", "the word anywhere: people, subject, attachments, text"),
        ("syncd archive search home work invoice", "in two archives"),
        ("syncd archive search invoice", "in all archives of the configuration"),
        ("syncd archive search home 'from:ann subject:\"annual report\"'", "a field, and words one after another"),
        ("syncd archive search home 'invoice OR receipt -draft'", "one of two words, and without a third"),
        ("syncd archive search home 'has:attachment larger:5M after:2024-01-31'", "large mail since then"),
        ("syncd archive search home 'mailbox:Lists/2019 invoi*'", "words that begin so, in one mailbox"),
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="[ARCHIVE]... QUERY", shell_complete=complete.archives)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Messages at most.")
@common
@click.pass_obj
def search(options: Common, words: tuple[str, ...], limit: int) -> int:
    """Search archives, and list the messages that have all that QUERY says, the newest first.

    QUERY has words, "words one after another", words* that begin so, and fields: from: to: subject: has:attachment
    before:DATE after:DATE larger:5M account: mailbox:. OR between two of them takes either; "-" before one leaves out
    messages with it, in quotes with another word ('invoice -draft').

    The first words that name an ARCHIVE say where to search. Without them all archives of the configuration are
    searched.

    The search indexes are brought up to date first where that takes no longer than two seconds. What is then left of
    them is told, and made by: syncd archive reindex ARCHIVE
    """
    from syncd.formats.search.question import parse
    from syncd.services.answers import of_name
    from syncd.services.indexes import opened_indexes

    output, loaded = Output(options), load_for(options, words[0])
    names, asked = _split(loaded, words)
    question = parse(" ".join(asked))
    with opened_indexes(loaded) as indexes:
        archives = [of_name(loaded, it, indexes) for it in _caught_up(output, loaded, names, indexes)]
        found = _found(archives, question, limit)
        if output.json:
            output.documents(it.as_json() for it in found)
            return _code(archives, names)
        table = MessageTable(output, "ARCHIVE" if len(names) > 1 else "ACCOUNT")
        for it in found:
            table.add(_entry(it, several=len(names) > 1))
    of_limit = f", of --limit {limit}" if table.rows == limit else ""
    where = f" in {', '.join(it.name for it in archives) or 'no archive'}" if len(names) > 1 else ""
    output.note(f"{count(table.rows, 'message')}{where}{of_limit}")
    return _code(archives, names)


@click.command(
    cls=Verb,
    short_help="Make the search index of an archive, or bring it up to date.",
    examples=(
        ("syncd archive reindex home", "add what is new"),
        ("syncd archive reindex home --all", "make it again from nothing"),
    ),
)
@ARCHIVE
@click.option("--all", "everything", is_flag=True, help="Delete the index first, and make it again.")
@common
@click.pass_obj
def reindex(options: Common, archive: str, *, everything: bool) -> None:
    """Make the search index of an archive, or bring it up to date.

    The index is a file beside the archive, which may be deleted at any time; with a ledger on PostgreSQL it is there.
    Mail that is stored meanwhile waits for nothing. A search brings a small index up to date by itself.
    """
    from syncd.services import search as searching
    from syncd.services.indexes import opened_indexes

    output = Output(options)
    loaded = load_for(options, archive)
    with (
        opened_indexes(loaded, purge=True) as indexes,
        closing(opened(loaded, archive)) as view,
        StatusLine(output) as line,
    ):

        def show(done: Indexed) -> None:
            line.show(f"{count(done.messages, 'message')}, {octets(done.octets)} …")

        if everything:
            done = searching.rebuild(view, indexes, show)
        else:
            done = searching.update(view, indexes, progress=show, tidy=True)
        line.erase()
        if output.json:
            output.document({"path": indexes.where(view), **asdict(done)})
            return
        output.line(f"{count(done.messages, 'message')} ({octets(done.octets)}) added to {indexes.where(view)}")
        if done.gone:
            output.note(f"{count(done.gone, 'message')} removed, which are no longer in the archive")
        if done.unreadable:
            output.error(f"syncd: {count(done.unreadable, 'message')} cannot be read; see: syncd archive check")


def _split(loaded: Loaded | None, words: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """Returns the archives to search, and the question. The last word is never an archive. Raises ConfigError."""
    known = loaded.settings.archives if loaded is not None else {}
    number = 0
    while number < len(words) and (words[number] in known or _is_path(words[number], is_first=number == 0)):
        number += 1
    if number == len(words) == 1:
        raise UsageError(f"say what to look for in {words[0]}: syncd archive search {words[0]} QUERY")
    number = min(number, len(words) - 1)
    if number:
        return list(dict.fromkeys(words[:number])), words[number:]
    if not known or words[0].startswith(_PATHS):
        opened(loaded, words[0]).close()  # which says what is wrong with it
    return list(known), words


def _is_path(word: str, *, is_first: bool) -> bool:
    """Tells whether a word is the path of something that is there; a word behind the first one must look like it."""
    return (is_first or word.startswith(_PATHS)) and Path(word).expanduser().exists()


def _caught_up(output: Output, loaded: Loaded | None, names: Sequence[str], indexes: Files | Tables) -> list[str]:
    """Bring indexes up to date where that is quick; tell what is left. Returns the archives that can be searched."""
    end, able = clock.monotonic() + CATCH_UP_S, []
    for name in names:
        try:
            _catch_up(output, loaded, name, indexes, end)
            able.append(name)
        except SyncdError as error:
            if len(names) == 1:
                raise
            output.error(f"syncd: {name} is not searched: {error}")
    return able


def _catch_up(output: Output, loaded: Loaded | None, name: str, indexes: Files | Tables, end: float) -> None:
    from syncd.services import search as searching
    from syncd.services.indexes import Tables

    try:
        view = opened(loaded, name)
    except ArchiveMissing:
        if not isinstance(indexes, Tables) or indexes.elsewhere(name) is None:
            raise
        output.note(f"syncd: {name} is not on this machine: messages can be found, and not be read")
        return
    with closing(view):
        try:
            left = searching.update(view, indexes, go_on=lambda: clock.monotonic() < end).left
        except StorageError as error:
            left = searching.unindexed(view, indexes)
            output.note(f"syncd: the search index cannot be brought up to date: {error}")
    if left != 0:
        number = "an unknown number of messages" if left is None else count(left, "message")
        output.note(f"syncd: not searched yet: {number}; run: syncd archive reindex {name}")


def _found(archives: Sequence[Searched], question: Question, limit: int) -> Iterator[Found]:
    from syncd.services.answers import find

    below = None
    while limit > 0 and archives:
        hits, below, _ = find(archives, question, min(limit, PAGE), below, alone=True)
        yield from hits
        limit -= len(hits)
        if below is None:
            return


def _entry(found: Found, *, several: bool) -> Entry:
    from syncd.formats.view import Entry

    hit = found.hit
    accounts = (found.archive,) if several else hit.accounts
    return Entry(found.id, accounts, hit.mailboxes, hit.octets, hit.at, hit.sender, hit.subject)


def _code(archives: Sequence[Searched], names: Sequence[str]) -> int:
    return ExitCode.DONE if len(archives) == len(names) else ExitCode.FAILED
