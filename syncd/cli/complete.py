"""Completion of names in the shell: jobs, accounts and archives of the configuration that the command line names.

A configuration that cannot be read completes nothing, without a word: the command itself says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from syncd.cli.options import Common
from syncd.errors import SyncdError

if TYPE_CHECKING:
    from syncd.settings.schema import Settings


def jobs(context: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Returns the jobs that begin with `start`."""
    settings = _settings(context)
    return _beginning(start, settings.jobs) if settings is not None else []


def archives(context: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Returns the archives that begin with `start`."""
    settings = _settings(context)
    return _beginning(start, settings.archives) if settings is not None else []


def everything(context: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Returns the jobs, accounts and archives that begin with `start`."""
    settings = _settings(context)
    if settings is None:
        return []
    return _beginning(start, [*settings.jobs, *settings.accounts, *settings.archives])


def _settings(context: click.Context) -> Settings | None:
    try:
        return (context.find_object(Common) or Common()).load().settings
    except SyncdError:
        return None


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(start)})
