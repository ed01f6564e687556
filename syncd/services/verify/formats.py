"""Reports of `syncd verify` as Markdown, JSON and HTML: each is a stream of text, whatever the number of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Final

from syncd.errors import printable
from syncd.services.verify.report import canonical, shown
from syncd.services.verify.values import TITLES, Status
from syncd.services.words import count, octets

if TYPE_CHECKING:
    from syncd.services.verify.report import Report
    from syncd.services.verify.values import Entry, Tally

HEADS: Final = ("MAILBOX", "MESSAGES", "OCTETS", "TO", "MAILBOX THERE", "THERE", "OCTETS", "EQUAL", "NOTED", "DIFFER")
RIGHT: Final = frozenset({1, 2, 5, 6, 7, 8, 9})
ENTRY_HEADS: Final = ("Mailbox", "Message", "To", "Mailbox there", "Result", "Reason")
OTHER_HEADS: Final = ("To", "Mailbox", "Messages", "Octets", "Perhaps copies")
EQUAL: Final = (Status.EQUAL, Status.MOVED, Status.RECEIPT)
NO_ENTRY: Final = "none"
MOST_PLACES: Final = 3  # mailboxes of a destination that are named in a row
MOST_CELL: Final = 2000  # characters
_MARKS: Final = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#|&~"})
STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{border:1px solid #d0d7de;padding:.3rem .5rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}th{background:#f2f4f7}.n{text-align:right;"
    "font-variant-numeric:tabular-nums}th,.n,.s{overflow-wrap:normal}.bad{background:#ffe9e6}.good{color:#116329}.wrong{color:#a40e26}"
    "code{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{background:#15181c;color:#e6e8eb}th{background:#22272e}"
    "th,td{border-color:#3a414a}.bad{background:#472022}.good{color:#6fdd8b}.wrong{color:#ff938a}}"
)


# --- what all formats show ---------------------------------------------------------------------------


def mailbox_rows(report: Report, most: int = MOST_CELL) -> Iterator[list[str]]:
    """Yields a row of HEADS for each mailbox and destination."""
    for mailbox in report.mailboxes:
        path = printable("/".join(shown(mailbox.path)), most)
        size = [f"{mailbox.messages:,}", octets(mailbox.octets)]
        if not mailbox.chosen:
            size[1] = octets(mailbox.octets) if mailbox.octets else "-"  # not every server tells it
            yield [path, *size, "-", "left out by the job", "-", "-", "-", "-", "-"]
        for tally, first in zip(mailbox.tallies, (True, *(False,) * len(mailbox.tallies)), strict=False):
            yield [*((path, *size) if first else ("", "", "")), *_tally_cells(tally, most)]


def _tally_cells(tally: Tally, most: int) -> list[str]:
    places = sorted(tally.places)
    named = ", ".join(printable(place, most) for place in places[:MOST_PLACES])
    more = f" and {len(places) - MOST_PLACES:,} more" if len(places) > MOST_PLACES else ""
    equal = sum(tally.counts[status] for status in EQUAL)
    noted = tally.counts.total() - equal - tally.differences
    numbers = (tally.messages, equal, noted, tally.differences)
    there, alike, notes, differ = (f"{number:,}" for number in numbers)
    return [tally.to, (named + more) or "-", there, octets(tally.octets), alike, notes, differ]


def method(report: Report) -> str:
    """Returns what was compared."""
    if report.read:
        return "every octet was read and hashed (SHA-256), and flags and dates were compared"
    return "messages were compared by id, octets, flags and date; their contents were not read (--read does that)"


def results(report: Report) -> Iterator[str]:
    """Yields the result in a line for each destination, and what cannot be known."""
    for number, destination in enumerate(report.destinations):
        total = report.totals(number)
        counts = [f"{total.counts[status]:,} {TITLES[status]}" for status in Status if total.counts[status]]
        verdict = count(total.differences, "difference") if total.differences else "no difference"
        yield f"{destination.name}: {verdict}; {'; '.join(counts) or 'no message'}"
        if destination.note:
            yield f"{destination.name}: {destination.note}"
    yield method(report)
    others = [other for other in report.others if other.messages]
    if others:
        messages = sum(other.messages for other in others)
        alike = sum(other.alike for other in others)
        also = f"; {alike:,} with the octets and the date of one that is: perhaps second copies" if alike else ""
        yield f"{count(messages, 'message')} in these mailboxes of the destinations: no copy of what was compared{also}"


def _entry_cells(entry: Entry) -> list[str]:
    nth = f" ({entry.occurrence})" if entry.occurrence > 1 else ""
    path = "/".join(shown(entry.mailbox))
    return [
        path,
        entry.uid + nth,
        entry.to,
        printable(entry.place),
        entry.status.value,
        printable(entry.reason, MOST_CELL),
    ]


def _other_rows(report: Report) -> Iterator[list[str]]:
    for one in report.others:
        yield [one.to, printable(one.mailbox), f"{one.messages:,}", octets(one.octets), f"{one.alike:,}"]


def _head(report: Report) -> Iterator[tuple[str, str]]:
    to = ", ".join(f"{one.name} ({one.kind})" for one in report.destinations)
    yield "Job", report.job
    yield "Source", f"{report.source} ({report.source_kind})"
    yield "Destinations", to
    yield "Begun", f"{report.at:%Y-%m-%d %H:%M:%S} UTC"
    yield "Messages at the source", f"{report.messages:,} ({octets(report.octets)})"


def _digest_line(digest: str) -> str:
    return f"SHA-256 of the report in JSON (its member “report”, keys in order, no spaces): {digest}"


# --- formats -----------------------------------------------------------------------------------------


def as_json(report: Report, digest: str) -> Iterator[str]:
    """Yields the report as JSON."""
    yield '{"report":'
    yield from canonical(report)
    yield f',"sha256":"{digest}"}}\n'


def as_markdown(report: Report, digest: str) -> Iterator[str]:
    """Yields the report as Markdown."""
    yield f"# Verification of {_plain(report.job)}\n\n"
    for name, text in _head(report):
        yield f"* {name}: {_plain(text)}\n"
    yield "\n## Result\n\n"
    for line in results(report):
        yield f"* {_plain(line)}\n"
    yield "\n## Mailboxes\n\n"
    yield from _markdown_table([head.capitalize() for head in HEADS], mailbox_rows(report), RIGHT)
    if report.others:
        yield "\n## Other messages in these mailboxes\n\n"
        yield from _markdown_table(OTHER_HEADS, _other_rows(report), frozenset({2, 3, 4}))
    yield "\n## Messages that are not equal or not there\n\n"
    entries = report.entries()
    if first := next(entries, None):
        yield from _markdown_table(ENTRY_HEADS, map(_entry_cells, chain([first], entries)), frozenset())
    else:
        yield f"{NO_ENTRY}\n"
    yield f"\n{_plain(_digest_line(digest))}\n"


def _markdown_table(heads: Sequence[str], rows: Iterator[list[str]], right: frozenset[int]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |\n"
    yield f"| {' | '.join('---:' if at in right else '---' for at in range(len(heads)))} |\n"
    for row in rows:
        yield f"| {' | '.join(map(_plain, row))} |\n"


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is."""
    return text.translate(_MARKS)


def as_html(report: Report, digest: str) -> Iterator[str]:
    """Yields the report as one HTML page that needs nothing else."""
    title = escape(f"Verification of {report.job}")
    yield f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    yield f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}</style>\n</head>\n<body>\n'
    yield f"<h1>{title}</h1>\n"
    kind, word = ("wrong", "something differs") if report.differences else ("good", "no difference")
    yield f'<p class="{kind}"><strong>{word}</strong></p>\n<ul>\n'
    for name, text in _head(report):
        yield f"<li>{name}: {escape(text)}</li>\n"
    for line in results(report):
        yield f"<li>{escape(line)}</li>\n"
    yield "</ul>\n<h2>Mailboxes</h2>\n"
    yield from _html_table([head.capitalize() for head in HEADS], mailbox_rows(report), RIGHT, bad=9)
    if report.others:
        yield "<h2>Other messages in these mailboxes</h2>\n"
        yield from _html_table(OTHER_HEADS, _other_rows(report), frozenset({2, 3, 4}))
    yield "<h2>Messages that are not equal or not there</h2>\n"
    entries = report.entries()
    if first := next(entries, None):
        cells = map(_entry_cells, chain([first], entries))
        yield from _html_table(ENTRY_HEADS, cells, frozenset(), whole=ENTRY_HEADS.index("Result"))
    else:
        yield f"<p>{NO_ENTRY}</p>\n"
    yield f"<p>{escape(_digest_line(digest))}</p>\n</body>\n</html>\n"


def _html_table(
    heads: Sequence[str],
    rows: Iterator[list[str]],
    right: frozenset[int],
    bad: int | None = None,
    whole: int | None = None,
) -> Iterator[str]:
    """Yields a table; a row whose column `bad` is no zero stands out, and no word of the column `whole` is broken."""
    kinds = ["n" if at in right else "s" if at == whole else "" for at in range(len(heads))]
    yield f"<table>\n<thead><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr></thead>\n<tbody>\n"
    for row in rows:
        mark = ' class="bad"' if bad is not None and row[bad] not in {"0", "-"} else ""
        cells = "".join(
            f'<td class="{kind}">{escape(cell)}</td>' if kind else f"<td>{escape(cell)}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        yield f"<tr{mark}>{cells}</tr>\n"
    yield "</tbody>\n</table>\n"


FORMATS: Final[Mapping[str, Callable[[Report, str], Iterator[str]]]] = {
    ".md": as_markdown,
    ".json": as_json,
    ".html": as_html,
}
