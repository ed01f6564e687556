"""The one way out of every error: one clear line on standard error, and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Final

import click

from syncd import crash
from syncd.cli.options import BadName, Common
from syncd.engine.exit_codes import ExitCode, exit_code
from syncd.errors import SyncdError, printable

MAX_LINE: Final = 2000  # characters; the longest line is a configuration mistake that lists every key
BROKEN_PIPE: Final = 141  # what a shell reports for a program that SIGPIPE ended, and scripts know


def report(error: BaseException, options: Common) -> int:
    """Print an error and return its exit code. With --json it is printed as a document on standard output, too.

    Never raises: what fails here is left out.
    """
    try:
        return _report(error, options)
    except Exception:  # noqa: BLE001 (nobody is left to judge it)
        with suppress(OSError):
            os.write(2, f"syncd: {type(error).__name__}: {printable(str(error), MAX_LINE)}\n".encode())
        return int(ExitCode.FAILED)


def _report(error: BaseException, options: Common) -> int:
    if isinstance(error, BrokenPipeError):  # closed by the reader, as by `| head`: end silently
        _drop_output()
        return BROKEN_PIPE
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return int(ExitCode.USAGE)
    lines, code = _judge(error, options)
    if options.log_file is not None:
        from syncd.cli.render import add_line

        with suppress(SyncdError):  # it may be the log file that fails
            for line in lines:
                add_line(options.log_file, f"syncd: {line}")
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
    where = "" if options.verbose else crash.keep(error)
    return [crash.line(error, where)], ExitCode.FAILED


def _drop_output() -> None:
    """Send buffered output that cannot be written to /dev/null, or the interpreter would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
