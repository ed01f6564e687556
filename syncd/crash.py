"""An exception that nobody expected becomes a line for a person, and its trace in a file.

It is a fault of this program, or of what surrounds it (limits, memory, locale), never of the mail or the server.
Wherever it is caught, it is told in the same words.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from syncd import clock
from syncd.errors import printable

CRASH_FILE: Final = "crash.log"
MAX_OCTETS: Final = 1 << 20  # of the file; then it begins again
MAX_REASON: Final = 500  # characters


def line(error: BaseException, where: str = "") -> str:
    """Returns the line that tells a person; `where` is from `keep`."""
    if outside := surroundings(error):
        return outside
    kind = type(error).__name__
    reason = printable(str(error), MAX_REASON)
    return f"this is a bug in syncd: {kind}{f': {reason}' if reason else ''}; please report it{where}"


def surroundings(error: BaseException) -> str:
    """Returns what is wrong around the program, and what to do, if that is to blame for an exception; else ""."""
    return next(filter(None, map(_outside, _chain(error))), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception and those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _outside(error: BaseException) -> str:
    match error:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return "too many open files: allow more (ulimit -n 4096), or run fewer jobs at a time"
        case MemoryError() | OSError(errno=errno.ENOMEM):
            return "there is not enough memory: run fewer jobs at a time, or allow more (ulimit -v)"
        case RuntimeError(args=("can't start new thread",)):
            return "too many threads: allow more (ulimit -u), or run fewer jobs at a time"
        case FileNotFoundError() if _is_nowhere():
            return "the working directory does not exist any more: change to one that does"
        case UnicodeEncodeError() if sys.getfilesystemencoding() != "utf-8":
            return f"the locale ({sys.getfilesystemencoding()}) has no octets for this name: set LC_ALL=C.UTF-8"
        case _:
            return ""


def _is_nowhere() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 (the question is whether it fails)
    except OSError:
        return True
    return False


def keep(error: BaseException, directory: Path | None = None, about: str = "") -> str:
    """Add the trace to the file beside the ledger. Returns how to find it, to be put behind a line; never raises.

    `directory` is the state directory where settings say which; `about` says what was being done.
    """
    try:
        if surroundings(error):
            return ""
        file = (state_directory() if directory is None else directory) / CRASH_FILE
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "".join(traceback.format_exception(error))
        full = file.exists() and file.stat().st_size > MAX_OCTETS
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | (os.O_TRUNC if full else os.O_APPEND)
        with os.fdopen(os.open(file, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"--- {clock.now():%Y-%m-%d %H:%M:%S} UTC {about}\n{text}\n")
    except Exception:  # noqa: BLE001 (the last handler cannot fail: without HOME, or with a disk that is full)
        return ", with what --verbose shows"
    return f", with {file}"


def state_directory() -> Path:
    """Returns the state directory without reading the settings: they may have failed. Raises RuntimeError."""
    if home := os.environ.get("SYNCD_HOME"):
        return Path(home).expanduser()
    from platformdirs import user_state_path

    path = user_state_path("syncd", appauthor=False)
    if not path.is_absolute():
        raise RuntimeError("there is no home directory")
    return path
