"""What all verbs share: the common options, help with examples first, names that are close to what was typed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from syncd.settings.load import Loaded

Examples = Sequence[tuple[str, str]]  # (command line, what it does)
AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


@dataclass(slots=True)
class Common:
    """What every verb takes, before or after its name. One object for the whole command line."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def load(self, *, required: bool = True) -> Loaded:
        """The configuration. Raises ConfigError. Every verb begins here, so --verbose takes effect here."""
        from syncd.settings.load import load

        if self.verbose:
            import logging

            logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
        return load(self.config, required=required)


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value:
        setattr(context.ensure_object(Common), str(parameter.name), value)


_COMMON = (
    click.option(
        "-c", "--config", metavar="FILE", type=click.Path(path_type=Path), envvar="SYNCD_CONFIG",
        expose_value=False, callback=_keep, help="Configuration [default: ./syncd.toml, ~/.config/syncd/syncd.toml].",
    ),
    click.option(
        "--json", is_flag=True, expose_value=False, callback=_keep,
        help="One JSON document; for run, retry and drop one a line.",
    ),
    click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_keep, help="Only what is wrong or was asked for."
    ),
    click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_keep, help="More about what goes on."),
    click.help_option("-h", "--help", help="Show this."),
)  # fmt: skip


def common(command: AnyCommand) -> AnyCommand:
    """Give a verb (or the group) the options that all have."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


class _ExamplesFirst(click.Command):
    """Help in the order people read it: what it is, examples, then the syntax and every option."""

    def __init__(self, *args: Any, examples: Examples = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it all."""
        formatter.write_text(inspect.cleandoc(self.help or ""))
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(self.examples)
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)


class Verb(_ExamplesFirst):
    """One verb."""


class Group(_ExamplesFirst, click.Group):
    """Several verbs below one name; a near miss is told what was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb. Raises UsageError with a guess."""
        name = args[0]
        names = self.list_commands(ctx)
        if name not in names and not name.startswith("-"):
            raise BadName(unknown("command", name, names), ctx)
        return super().resolve_command(ctx, args)


class BadName(click.UsageError):
    """A name that means nothing, or too much; the message says where to look, and needs no help page."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """There is no such thing: what it might have been, else what there is."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(names)}" if names else "there is none yet"
    return f"no {what} {name!r}; {hint}"


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a UsageError for the first name that is not known."""
    known = frozenset(known)
    for name in names:
        if name not in known:
            raise BadName(unknown(what, name, known))
