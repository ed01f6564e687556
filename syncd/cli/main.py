"""The command `syncd`: its verbs, imported late, and the one way out.

A verb's module is imported when the verb is used: `syncd --help` loads click and nothing else. Every error ends in
`exit.report`, as one clear line on standard error and an exit code.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from syncd.cli import process
from syncd.cli.options import Common, Group, common

PROGRAM: Final = "syncd"
COLLECT_EVERY: Final = 150_000  # objects; 700, the default, walks again and again what the imports made: 110,000
SWITCH_S: Final = 0.0005  # reader and writer hand over at every system call; Python's 5 ms for each adds a third
M_ARENA_MAX: Final = -8  # mallopt(3)
COMPLETE_VARIABLE: Final = "_SYNCD_COMPLETE"  # click's name for it; set by the shell's completion function

VERBS: Final[dict[str, tuple[str, str]]] = {  # name → module and function, purpose
    "init": ("syncd.cli.config:init", "Write a commented syncd.toml here."),
    "check": ("syncd.cli.check:check", "Sign in and show what a run would do; change nothing."),
    "run": ("syncd.cli.run:run", "Run jobs now."),
    "serve": ("syncd.cli.serve:serve", "Run jobs on their schedules, in one process."),
    "worker": ("syncd.cli.serve:worker", "Work on runs: one of many processes, on any machine."),
    "scheduler": ("syncd.cli.serve:scheduler", "Queue what is due, for workers."),
    "web": ("syncd.cli.serve:web", "Serve the page and the API alone."),
    "apply": ("syncd.cli.serve:apply", "Have the service work by the configuration as it is now."),
    "status": ("syncd.cli.status:status", "Show jobs, their last runs and where messages stand."),
    "runs": ("syncd.cli.status:runs", "Show the history of runs."),
    "pause": ("syncd.cli.control:pause", "Start no run of a job by its schedule."),
    "resume": ("syncd.cli.control:resume", "Run a paused job by its schedule again."),
    "cancel": ("syncd.cli.control:cancel", "End the run of a job."),
    "errors": ("syncd.cli.errors:errors", "List messages that wait for another try or for you."),
    "retry": ("syncd.cli.errors:retry", "Have the next run try waiting messages again."),
    "drop": ("syncd.cli.errors:drop", "Give up waiting messages."),
    "doctor": ("syncd.cli.doctor:doctor", "Find out what is wrong with database, disks, broker and service."),
    "archive": ("syncd.cli.archive:archive", "List, search, show, check and export the messages of an archive."),
    "verify": ("syncd.cli.verify:verify", "Prove that everything is at the destinations; write a report."),
    "user": ("syncd.cli.people:user", "Manage who may sign in to the page."),
    "token": ("syncd.cli.people:token", "Manage the tokens of programs that use the API."),
    "config": ("syncd.cli.config:config", "Show and check the settings, and where each comes from."),
    "help": ("syncd.cli.manual:help_", "Show help for a command, or the manual page."),
    "completion": ("syncd.cli.manual:completion", "Print the completion script of a shell."),
}

EXIT_CODES: Final = """\
\b
Exit codes: 0 done · 1 failed · 2 usage · 3 some messages wait for a person ·
4 sign-in refused · 5 temporary, try again · 6 configuration invalid ·
7 stopped by a brake or for a confirmation · 8 differences found ·
10 another run of the job is under way · 130 interrupted
"""


class _LazyGroup(Group):
    """The verbs of VERBS, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (the same)
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (the same)
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_, what) in VERBS.items()])


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 (click's signature)
    if wanted:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        context.exit()


@click.group(
    PROGRAM,
    cls=_LazyGroup,
    examples=(
        ("syncd init", "write a commented syncd.toml here"),
        ("syncd check", "sign in and show what a run would do"),
        ("syncd run", "fetch new messages, with progress bars"),
        ("syncd serve", "do so on the schedules of the jobs"),
        ("syncd status", "see what has been done so far"),
    ),
    epilog=EXIT_CODES,
)
@common
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def app() -> None:
    """Move and back up mail. Nothing is lost or delivered twice, and a run continues where the last one stopped."""


def call(arguments: Sequence[str]) -> int:
    """Carry out a command line. Returns the exit code; never raises an Exception."""
    options = Common()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that is not UTF-8 shows \\u2026 rather than nothing
            stream.reconfigure(errors="backslashreplace")
    try:
        with app.make_context(PROGRAM, list(arguments), obj=options) as context:
            result: Any = app.invoke(context)
        from syncd.cli.render import flush

        flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the one place that judges them all)
        from syncd.cli.exit import report

        return report(error, options)
    return int(result or 0)


def _share_arena() -> None:
    """Have all threads allocate from one heap, with glibc: the memory that each thread keeps to itself adds up."""
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def main() -> NoReturn:
    """Run as the console script."""
    process.open_streams()
    process.forget_bad_home()
    _share_arena()
    gc.set_threshold(COLLECT_EVERY)
    sys.setswitchinterval(SWITCH_S)
    if COMPLETE_VARIABLE in os.environ:
        app.main(prog_name=PROGRAM)
    code = call(sys.argv[1:])
    gc.freeze()  # the objects end with the process; there is no need to visit them
    sys.exit(code)


if __name__ == "__main__":
    main()
