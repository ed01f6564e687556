"""The file that says which archive this is: JSON with a UUID, written once and never changed.

    {"uuid": "…", "format": "maildir", "version": 1, …what the format must remember}

A folder without this file is not an archive of ours: its disk is not mounted, or it was deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from syncd.durable import Step, durable_step, sync_directory, write_all
from syncd.errors import ArchiveMissing, FormatDamaged, Locked, printable, storage_error
from syncd.formats.regular import open_regular

_CAP_OCTETS = 64 << 10


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity and layout of an archive. `options` are words that the format reads back."""

    uuid: UUID
    format: str
    version: int
    options: dict[str, str] = field(default_factory=dict)


def write_identity(path: Path, identity: Identity) -> None:
    """Write the file durably: whole under its name, or not there. Raises OSError; Locked if another program is faster.

    The file under its temporary name is a lock: whoever owns it, and finds no file under the final name, writes.
    """
    content = {"uuid": str(identity.uuid), "format": identity.format, "version": identity.version, **identity.options}
    tmp = path.with_name(path.name + ".tmp")
    descriptor = open_regular(tmp, os.O_WRONLY | os.O_CREAT)
    try:
        alone = _is_alone(descriptor, tmp)
        if not alone or os.path.lexists(path):
            if alone:
                tmp.unlink()
            raise Locked(f"another program has just begun an archive in {path.parent}: run again, and that is used")
        os.ftruncate(descriptor, 0)
        write_all(descriptor, [json.dumps(content, indent=1).encode() + b"\n"])
        with durable_step(Step.ARCHIVE_IDENTITY):
            os.fsync(descriptor)
        with durable_step(Step.ARCHIVE_IDENTITY):
            tmp.rename(path)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def _is_alone(descriptor: int, path: Path) -> bool:
    """Lock the file, and see that it is still the one at `path`. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False


def format_of(path: Path) -> str:
    """Returns the format that the file of an archive names; "" where that cannot be told."""
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            return str(json.loads(file.read(_CAP_OCTETS))["format"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def read_identity(path: Path, *, format_name: str, version: int) -> Identity:
    """Read the file of an archive of this format, made by this or an earlier version.

    Raises ArchiveMissing where there is none, FormatDamaged where it is not one we understand, Unusable where it is a
    link or a FIFO.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            octets = file.read(_CAP_OCTETS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArchiveMissing(
            f"{path.parent} holds no archive ({path.name} is missing): mount its disk; "
            "if it was deleted on purpose, `syncd run JOB --refill` begins a new one and fills it"
        ) from error
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error
    identity = _parse(path, octets)
    if identity.format != format_name or identity.version > version:
        raise FormatDamaged(
            f"{path} is of format {printable(identity.format)} version {identity.version}, "
            f"this program reads {format_name} up to version {version}"
        )
    return identity


def _parse(path: Path, octets: bytes) -> Identity:
    try:
        content = json.loads(octets)
        uuid, name, version = UUID(content.pop("uuid")), str(content.pop("format")), int(content.pop("version"))
        return Identity(uuid, name, version, {str(key): str(value) for key, value in content.items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        why = printable(str(error))
        raise FormatDamaged(
            f"{path} is not the description of an archive ({why}): restore this file from a backup"
        ) from error
