"""`syncd help`, `syncd completion`: what the program says about itself; the manual page is made from the help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
from click.shell_completion import get_completion_class

from syncd.cli.options import Common, Group, Verb, check_names, common

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Verb,
    examples=(
        ("syncd help", "all commands"),
        ("syncd help run", "one command; the same as syncd run --help"),
        ("syncd help --man > syncd.1", "the manual page, for man ./syncd.1"),
    ),
)
@click.argument("verbs", metavar="[COMMAND]...", nargs=-1)
@click.option("--man", is_flag=True, help="Print the manual page of all commands.")
@common
@click.pass_context
def help_(context: click.Context, verbs: tuple[str, ...], *, man: bool) -> None:
    """Show help for syncd or one of its commands."""
    top = context.find_root()
    if man:
        click.echo("\n".join(_page(top)))
        return
    shown = top
    for name in verbs:
        group = shown.command
        names = group.list_commands(shown) if isinstance(group, Group) else []
        check_names("command", [name], names)
        assert isinstance(group, Group)
        found = group.get_command(shown, name)
        assert found is not None
        shown = click.Context(found, info_name=name, parent=shown)
    click.echo(shown.get_help())


@click.command(
    cls=Verb,
    examples=(
        ("syncd completion bash", 'in ~/.bashrc: eval "$(syncd completion bash)"; zsh: the same in ~/.zshrc'),
        ("syncd completion fish > ~/.config/fish/completions/syncd.fish", "once"),
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@common
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that has a shell complete commands, options, and names of jobs, accounts and archives."""
    from syncd.cli.main import COMPLETE_VARIABLE, PROGRAM

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that we offer"
    click.echo(kind(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE).source())


# --- the manual page (man(7)) ----------------------------------------------------------------------------


def _page(top: click.Context) -> Iterator[str]:
    """Yields the lines of the page."""
    yield '.TH SYNCD 1 "" "" "User Commands"'
    yield from (".SH NAME", r"syncd \- move and back up mail", ".SH SYNOPSIS", f".B {_roff(top.get_usage()[7:])}")
    yield ".SH DESCRIPTION"
    yield from _text(top.command.help or "")
    yield ".SH COMMANDS"
    yield from _commands(top)
    yield from (".SH EXIT STATUS", *_text(str(top.command.epilog).replace("\b\n", "").removeprefix("Exit codes: ")))


def _commands(parent: click.Context) -> Iterator[str]:
    group = parent.command
    assert isinstance(group, Group)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent, obj=Common())
        if isinstance(command, Group):
            yield from _commands(context)
            continue
        yield f".SS {_roff(context.get_usage()[7:])}"
        yield from _text(command.help or "")
        for line, what in getattr(command, "examples", ()):
            yield from (".TP", f".B {_roff(line)}", _roff(what))
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                yield from (".TP", f".B {_roff(record[0])}", _roff(record[1]))


def _text(help_text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(help_text)):
        yield from (".PP", _roff(" ".join(paragraph.split())))


def _roff(text: str) -> str:
    """Escape what groff takes for its own (groff_char(7)): backslashes, hyphens, a control character at the start."""
    escaped = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
