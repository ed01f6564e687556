"""`syncd archive search`, `syncd archive reindex`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from syncd import clock
from syncd.cli.archive_open import ARCHIVE, view_of
from syncd.cli.archive_tables import MessageTable
from syncd.cli.options import Common, Verb, common
from syncd.cli.render import Output, StatusLine, count, octets
from syncd.errors import StorageError

if TYPE_CHECKING:
    from syncd.formats.search.index import Hit
    from syncd.formats.search.question import Question
    from syncd.formats.view import ArchiveView, Entry
    from syncd.services.search import Indexed

CATCH_UP_S: Final = 2.0  # that a search takes at most to bring its index up to date
PAGE: Final = 500  # messages asked for at a time


@click.command(
    cls=Verb,
    short_help="Search messages: words, phrases, fields.",
    examples=(
        ("syncd archive search home invoice", "the word anywhere: people, subject, attachments, text"),
        ("syncd archive search home 'from:ann subject:\"annual report\"'", "a field, and words one after another"),
        ("syncd archive search home 'has:attachment larger:5M after:2024-01-31'", "large mail since then"),
        ("syncd archive search home 'mailbox:Lists/2019 invoi*'", "words that begin so, in one mailbox"),
    ),
)
@ARCHIVE
@click.argument("query", nargs=-1, required=True, metavar="QUERY")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Messages at most.")
@common
@click.pass_obj
def search(options: Common, archive: str, query: tuple[str, ...], limit: int) -> None:
    """Search an archive, and list the messages that have all that QUERY says, the newest first.

    QUERY has words, "words one after another", words* that begin so, and fields: from: to: subject: has:attachment
    before:DATE after:DATE larger:5M account: mailbox:.

    The search index is a file beside the archive. It is brought up to date first where that takes no longer than two
    seconds. What is then left of it is told, and made by: syncd archive reindex ARCHIVE
    """
    from syncd.formats.search.question import parse
    from syncd.services.search import hit_json

    output = Output(options)
    question = parse(" ".join(query))
    with closing(view_of(options, archive)) as view:
        _catch_up(output, view, archive)
        found = _found(view, question, limit)
        if output.json:
            output.documents(hit_json(view, hit) for hit in found)
            return
        table = MessageTable(output)
        for hit in found:
            table.add(_entry(view, hit))
        output.note(count(table.rows, "message") + (f", of --limit {limit}" if table.rows == limit else ""))


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

    The index is a file beside the archive, which may be deleted at any time. Mail that is stored meanwhile waits for
    nothing. A search brings a small index up to date by itself.
    """
    from syncd.services import search as searching

    output = Output(options)
    with closing(view_of(options, archive)) as view, StatusLine(output) as line:

        def show(done: Indexed) -> None:
            line.show(f"{count(done.messages, 'message')}, {octets(done.octets)} …")

        done = searching.rebuild(view, show) if everything else searching.update(view, progress=show, tidy=True)
        line.erase()
        if output.json:
            output.document({"path": str(view.search_index), **asdict(done)})
            return
        output.line(f"{count(done.messages, 'message')} ({octets(done.octets)}) added to {view.search_index}")
        if done.gone:
            output.note(f"{count(done.gone, 'message')} removed, which are no longer in the archive")
        if done.unreadable:
            output.error(f"syncd: {count(done.unreadable, 'message')} cannot be read; see: syncd archive check")


def _catch_up(output: Output, view: ArchiveView, archive: str) -> None:
    """Bring the index up to date where that is quick; tell what is left."""
    from syncd.services import search as searching

    end = clock.monotonic() + CATCH_UP_S
    try:
        left = searching.update(view, go_on=lambda: clock.monotonic() < end).left
    except StorageError as error:
        left = searching.unindexed(view)
        output.note(f"syncd: the search index cannot be brought up to date: {error}")
    if left != 0:
        number = "an unknown number of messages" if left is None else count(left, "message")
        output.note(f"syncd: not searched yet: {number}; run: syncd archive reindex {archive}")


def _found(view: ArchiveView, question: Question, limit: int) -> Iterator[Hit]:
    from syncd.services.search import find

    below = None
    while limit > 0:
        hits, below = find(view, question, min(limit, PAGE), below)
        yield from hits
        limit -= len(hits)
        if below is None:
            return


def _entry(view: ArchiveView, hit: Hit) -> Entry:
    from syncd.formats.view import Entry

    return Entry(view.id_of(hit.key), hit.accounts, hit.mailboxes, hit.octets, hit.at, hit.sender, hit.subject)
