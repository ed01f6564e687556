"""The archives of a configuration: their objects, and which archive is at a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from syncd.errors import ArchiveMissing, ConfigError, SyncdError
from syncd.settings.schema import Archive, ArchiveFormat, LineEnds

if TYPE_CHECKING:
    from uuid import UUID

    from syncd.destinations import base


def make_archive(
    name: str, archive: Archive, expected: UUID | None = None, *, spool: Path | None = None
) -> base.Archive:
    """Returns the archive object for an entry of the configuration, which must be the archive `expected`, if given.

    `spool` is a folder for large messages that are read back; by default the archive's own folder.
    """
    if archive.format is ArchiveFormat.MAILDIR:
        from syncd.destinations.maildir import MaildirArchive

        verbatim = archive.line_ends is LineEnds.VERBATIM
        return MaildirArchive(
            archive.path, name, spool=spool, expected=expected, verbatim=verbatim, layout=archive.layout
        )
    if archive.format is ArchiveFormat.MBOX:
        from syncd.destinations.mbox import MboxArchive

        return MboxArchive(archive.path, name, spool=spool, expected=expected)
    if archive.format is ArchiveFormat.EML:
        raise ConfigError(f'archive "{name}" is a folder of eml files, which is only read')
    from syncd.destinations.packs import PacksArchive

    return PacksArchive(archive.path, name, spool=spool, expected=expected)


def uuid_to_read(name: str, archive: Archive) -> UUID:
    """Returns which archive it is that a job reads. Raises ArchiveMissing with what to do, and as `archive_uuid`."""
    try:
        return archive_uuid(name, archive)
    except ArchiveMissing as error:
        refuse_other_format(name, archive)
        which = f'archive "{name}", which this job reads'
        if other := _other_folder(archive):
            raise ArchiveMissing(f"{which}: {other}") from error
        raise ArchiveMissing(
            f"{which}, is not at {archive.path}: mount its disk or correct its path; if it was never filled, first run"
            " the job that fills it"
        ) from error


def archive_uuid(source: str, archive: Archive) -> UUID:
    """Returns which archive a source is. In folders of other programs there is no UUID: their path stands for it.

    Raises ArchiveMissing, FormatDamaged, StorageError.
    """
    if archive.format is ArchiveFormat.MBOX:
        from syncd.formats.mbox.home import find_home

        return find_home(archive.path).uuid
    if archive.format is ArchiveFormat.EML:
        from syncd.formats.eml.folder import find_uuid

        return find_uuid(archive.path)
    if archive.format is ArchiveFormat.MAILDIR:
        from syncd.formats.maildir.home import find_home as find_maildir

        return find_maildir(archive.path, archive.layout).uuid
    return make_archive(source, archive).identity()


def refuse_other_format(name: str, archive: Archive) -> None:
    """Raise ConfigError where the archive at the path of `archive` is there, in another format than it says."""
    for other in ArchiveFormat:
        if other is archive.format:
            continue
        try:
            make_archive(name, archive.model_copy(update={"format": other})).identity()
        except SyncdError:
            continue
        raise ConfigError(
            f'archive "{name}": the archive at {archive.path} has format = "{other.value}", not'
            f' "{archive.format.value}"; set format = "{other.value}" in [archives.{name}], or another path'
        )


def _other_folder(archive: Archive) -> str:
    """Returns a line about a folder that is at the path of a Maildir and is none; "" otherwise. Raises StorageError."""
    if archive.format is not ArchiveFormat.MAILDIR:
        return ""
    from syncd.formats.maildir.home import other_folder

    return other_folder(archive.path)
