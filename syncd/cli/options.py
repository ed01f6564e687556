"""Shared by all verbs: the common options, help with examples first, suggestions for misspelt names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from syncd.settings.loaded import Loaded, LoadedService

Examples = Sequence[tuple[str, str]]  # (command line, what it does)
AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


@dataclass(slots=True)
class Common:
    """The options that every verb takes, before or after its name. One object for the whole command line."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None

    def load(self, *, required: bool = True) -> Loaded:
        """Read the configuration. Raises ConfigError. Every verb begins here, so --verbose takes effect here."""
        from syncd.settings.load import load

        self._begin()
        return load(self.config, required=required)

    def load_service(self) -> LoadedService:
        """Read what a process of the service needs of the configuration, not its jobs. Raises ConfigError."""
        from syncd.settings.load import load_service

        self._begin()
        return load_service(self.config)

    def _begin(self) -> None:
        if self.verbose:
            import logging

            logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value:
        setattr(context.ensure_object(Common), str(parameter.name), value)


def _config(*names: str) -> Callable[[AnyCommand], AnyCommand]:
    return click.option(
        *names, metavar="FILE", type=click.Path(path_type=Path), envvar="SYNCD_CONFIG",
        expose_value=False, callback=_keep,
        help="Configuration file [default: ./syncd.toml, then ~/.config/syncd/syncd.toml].",
    )  # fmt: skip


_COMMON = (
    click.option(
        "--json", is_flag=True, expose_value=False, callback=_keep,
        help="Print one JSON document; run, retry and drop print one per line.",
    ),
    click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_keep, help="Print only results and errors."
    ),
    click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_keep, help="Print more details."),
    click.option(
        "--log-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), expose_value=False,
        callback=_keep, help="Add progress, results and errors to FILE, each line with its time.",
    ),
    click.help_option("-h", "--help", help="Show this help."),
)  # fmt: skip


def common(command: AnyCommand) -> AnyCommand:
    """Add the common options to a verb, or to the group."""
    return _with_options(command, "-c", "--config")


def common_but_c(command: AnyCommand) -> AnyCommand:
    """Add the common options to a verb that has another -c: there --config has no short form."""
    return _with_options(command, "--config")


def _with_options(command: AnyCommand, *config: str) -> AnyCommand:
    for option in reversed((_config(*config), *_COMMON)):
        command = option(command)
    return command


class _ExamplesFirst(click.Command):
    """Help in the order people read it: purpose, examples, then the syntax and every option."""

    def __init__(self, *args: Any, examples: Examples = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all of the help."""
        formatter.write_text(inspect.cleandoc(self.help or ""))
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(self.examples)
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class Verb(_ExamplesFirst):
    """A verb."""


class Group(_ExamplesFirst, click.Group):
    """Several verbs below one name; a misspelt verb gets a suggestion."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb. Raises UsageError with a suggestion."""
        name = args[0]
        names = self.list_commands(ctx)
        if name not in names and not name.startswith("-"):
            raise BadName(unknown("command", name, names), ctx)
        return super().resolve_command(ctx, args)


class BadName(click.UsageError):
    """A name that is unknown or ambiguous; the message says where to look, so it needs no hint at --help."""


def is_number(word: str) -> bool:
    """Returns whether a word may be the number of a run or of a message; databases have numbers of 18 digits."""
    return word.isascii() and word.isdecimal() and len(word) <= 18


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Returns an error line for an unknown name: with the closest known name, else with all of them."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}" if names else "there is none yet"
    return f"no {what} {name!r}; {hint}"


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for the first name that is not known."""
    known = frozenset(known)
    for name in names:
        if name not in known:
            raise BadName(unknown(what, name, known))
