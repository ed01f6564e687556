"""Opens the archive that a verb of `syncd archive` is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from syncd.cli import complete
from syncd.cli.options import Common
from syncd.errors import ConfigError

if TYPE_CHECKING:
    from syncd.formats.view import ArchiveView
    from syncd.settings.load import Loaded

ARCHIVE: Final = click.argument("archive", metavar="ARCHIVE", shell_complete=complete.archives)


def view_of(options: Common, archive: str) -> ArchiveView:
    """Open an archive by its name or path. Raises ConfigError, StorageError."""
    return opened(load_for(options, archive), archive)


def opened(loaded: Loaded | None, archive: str) -> ArchiveView:
    """Open an archive of a configuration, or by its path. Raises ConfigError, StorageError."""
    from syncd.services.archive import open_view

    return open_view(loaded, archive)


def load_for(options: Common, archive: str) -> Loaded | None:
    """Returns the configuration if there is one; with a path, a configuration with mistakes is ignored."""
    try:
        return options.load(required=False)
    except ConfigError:
        if options.config is None and Path(archive).expanduser().is_dir():
            return None
        raise
