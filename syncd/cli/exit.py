"""The one way out for everything that goes wrong: one clear line on standard error, and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from syncd.cli.options import BadName, Common
from syncd.engine.events import ExitCode
from syncd.engine.exit_codes import exit_code
from syncd.errors import SyncdError, printable

MAX_LINE: Final = 2000  # characters; a configuration mistake that lists every key is the longest we write
BROKEN_PIPE: Final = 141  # what a shell reports for a program that SIGPIPE ended, and scripts know
CRASH_FILE: Final = "crash.log"


def report(error: BaseException, options: Common) -> int:
    """Say what went wrong and give the exit code. With --json also as a document on standard output."""
    if isinstance(error, BrokenPipeError):  # closed at the other end, as by `| head`: leave without a word
        _drop_output()
        return BROKEN_PIPE
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return int(ExitCode.USAGE)
    lines, code = _judge(error, options)
    with suppress(OSError):
        sys.stderr.writelines(f"syncd: {printable(line, MAX_LINE)}\n" for line in lines)
        if options.json:
            sys.stdout.write(json.dumps({"errors": lines, "exit_code": int(code)}) + "\n")
    _drop_output()
    return int(code)


def _judge(error: BaseException, options: Common) -> tuple[list[str], ExitCode]:
    if isinstance(error, SyncdError):
        return str(error).splitlines() or [type(error).__name__], exit_code(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return ["interrupted"], ExitCode.INTERRUPTED
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "syncd"
        hint = "" if isinstance(error, BadName) else f" ({where} --help)"
        return [error.format_message() + hint], ExitCode.USAGE
    if options.verbose:
        traceback.print_exception(error)
    where = "" if options.verbose else _keep_traceback(error)
    return [f"this is a bug in syncd: {type(error).__name__}: {error}; please report it{where}"], ExitCode.FAILED


def _keep_traceback(error: BaseException) -> str:
    """Write the traceback beside the ledger; how to get at it."""
    try:
        file = _state_directory() / CRASH_FILE
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ", with what --verbose shows"
    return f", with {file}"


def _state_directory() -> Path:
    """Without the settings: they may be what failed."""
    if home := os.environ.get("SYNCD_HOME"):
        return Path(home).expanduser()
    from platformdirs import user_state_path

    return user_state_path("syncd", appauthor=False)


def _drop_output() -> None:
    """Send what is still buffered and cannot be written to /dev/null, or the interpreter would complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
