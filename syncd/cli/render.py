"""Output for people and programs: sizes, counts, times, tables, documents. Data goes to standard output.

Notes and errors go to standard error. All text passes `errors.printable`: a subject or a server's text cannot move the
cursor of a terminal. rich is not imported here: a table does not need it, and a run with nothing to do should end soon.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self, TextIO

from syncd import clock
from syncd.cli.options import Common
from syncd.errors import printable, storage_error
from syncd.services.words import MAX_TEXT, ago, count, duration, instant, octets, plain, roughly

__all__ = (
    "ERASE_LINE",
    "GAP",
    "JSON_VERSION",
    "MAX_TEXT",
    "REDRAW_SECONDS",
    "TIME_FORMAT",
    "Output",
    "StatusLine",
    "add_line",
    "ago",
    "columns",
    "count",
    "cut",
    "duration",
    "flush",
    "instant",
    "octets",
    "pad",
    "paint",
    "roughly",
    "to_terminal",
    "write_octets",
)

JSON_VERSION: Final = 1  # of JSON lines; grows where a field changes its meaning or goes
TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
GAP: Final = "  "
REDRAW_SECONDS: Final = 0.1
ERASE_LINE: Final = "\r\x1b[K"
_COLOURS: Final = {"green": "32", "yellow": "33", "red": "31", "bold": "1"}


class Output:
    """The output of a verb. With `json`, standard output gets nothing but JSON."""

    def __init__(self, options: Common) -> None:
        self.json = options.json
        self.log_file = options.log_file
        self.quiet = options.quiet
        self.verbose = options.verbose
        self.noted: set[str] = set()  # notes on standard error that are errors of a run: said once is enough

    def log(self, text: str) -> None:
        """Add a line to the log file, if there is one, with the time. Raises StorageError."""
        if self.log_file is not None:
            add_line(self.log_file, text)

    def timed_note(self, text: str) -> None:
        """Write a note, with the time where standard error is no terminal."""
        if not self.quiet:
            time = "" if sys.stderr.isatty() else f"{clock.now().astimezone():{TIME_FORMAT}} "
            _write(sys.stderr, time + printable(text, MAX_TEXT) + "\n")

    def line(self, text: str = "", colour: str = "") -> None:
        """Write a line of data."""
        self.log(text)
        _write(sys.stdout, paint(printable(text, MAX_TEXT), colour, sys.stdout) + "\n")

    def note(self, text: str) -> None:
        """Write a line beside the data, which --quiet leaves out."""
        if not self.quiet:
            _write(sys.stderr, printable(text, MAX_TEXT) + "\n")

    def error(self, text: str) -> None:
        """Write a line about an error."""
        self.log(text)
        _write(sys.stderr, printable(text, MAX_TEXT) + "\n")

    def document(self, value: object) -> None:
        """Write a JSON document; ASCII only, so that a terminal gets nothing unescaped."""
        _write(sys.stdout, json.dumps(value, indent=2, default=plain) + "\n")

    def text(self, pieces: Iterable[str]) -> None:
        """Write pieces of a JSON document as they are."""
        for piece in pieces:
            _write(sys.stdout, piece)

    def documents(self, values: Iterable[object]) -> None:
        """Write a JSON document: a list, written as its values come."""
        _write(sys.stdout, "[")
        for number, value in enumerate(values):
            _write(sys.stdout, ("," if number else "") + "\n" + json.dumps(value, default=plain))
        _write(sys.stdout, "\n]\n")

    def event(self, value: Mapping[str, object]) -> None:
        """Write a JSON document on one line, at once, with the time and the version of the format; see docs/json.md."""
        head = {"time": clock.now(), "version": JSON_VERSION}
        _write(sys.stdout, json.dumps({**head, **value}, default=plain) + "\n", flush=True)

    def table(
        self, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()
    ) -> None:
        """Write a table, with the columns `right` aligned to the right; on a terminal lines are cut to fit."""
        rows = list(rows)
        widths = self.widths(heads, rows)
        self.columns(heads, widths, right=right, head=True)
        for row in rows:
            self.columns(row, widths, right=right)

    def widths(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
        """Returns the width that each column of a table needs."""
        shown = [[printable(cell, MAX_TEXT) for cell in row] for row in rows]
        return [max(map(columns, cells)) for cells in zip(heads, *shown, strict=True)]

    def columns(
        self, cells: Sequence[str], widths: Sequence[int], *, right: frozenset[int] = frozenset(), head: bool = False
    ) -> None:
        """Write a row of a table whose widths are known: a long list is written as it is read."""
        text = GAP.join(
            pad(printable(cell, MAX_TEXT), width, right=at in right)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        if sys.stdout.isatty():
            text = cut(text, shutil.get_terminal_size().columns)
        _write(sys.stdout, paint(text, "bold" if head else "", sys.stdout) + "\n")


def add_line(path: Path, text: str) -> None:
    """Add a line to a file, with the time. Opens it each time: it may have been rotated. Raises StorageError."""
    line = f"{clock.now().astimezone():{TIME_FORMAT}} {printable(text, MAX_TEXT)}\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK  # a FIFO that nobody reads is an error
    try:
        with os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(line)
    except OSError as error:
        raise storage_error(error, f"cannot write to the log file {path}") from error


class StatusLine:
    """A line on a terminal that shows progress; nothing is shown elsewhere. A context manager."""

    def __init__(self, output: Output) -> None:
        self._on = sys.stderr.isatty() and not output.quiet and not output.json
        self._shown_at = -1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.erase()

    def show(self, text: str) -> None:
        """Replace the line, at most ten times a second."""
        now = clock.monotonic()
        if self._on and now - self._shown_at >= REDRAW_SECONDS:
            self._shown_at = now
            to_terminal(ERASE_LINE + printable(text))

    def erase(self) -> None:
        """Leave an empty line."""
        if self._shown_at >= 0:
            self._shown_at = -1.0
            to_terminal(ERASE_LINE)


def _write(stream: TextIO, text: str, *, flush: bool = False) -> None:
    try:
        stream.write(text)
        if flush:
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise storage_error(error, f"cannot write to {stream.name}") from error


def to_terminal(text: str) -> None:
    """Write text to standard error as it is and at once: cursor movements, a prompt."""
    _write(sys.stderr, text, flush=True)


def flush() -> None:
    """Write out what is buffered. Raises StorageError or BrokenPipeError: lost output is not success."""
    _write(sys.stdout, "", flush=True)


def write_octets(chunks: Iterable[bytes]) -> None:
    """Write octets to standard output, unchanged."""
    sys.stdout.flush()
    try:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise storage_error(error, "cannot write to standard output") from error


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Returns the text in colour for a terminal that wants it (https://no-color.org)."""
    wanted = colour and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wanted else text


def columns(text: str) -> int:
    """Returns the width of a text on a terminal (UAX #11: wide characters take two columns, combining ones none)."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Returns at most `width` columns of a text, with an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    used, end = 0, 0
    for end, character in enumerate(text):  # noqa: B007 (its last value is what we are after)
        used += _columns(character)
        if used >= width:
            break
    return text[:end] + "…"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill with spaces up to `width` columns."""
    space = " " * (width - columns(text))
    return space + text if right else text + space
