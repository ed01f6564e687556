"""Looks, for `syncd doctor`, at the surroundings of the program: broker, state directory, archives, room on disks."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from syncd.engine.exit_codes import ExitCode, exit_code
from syncd.errors import printable
from syncd.services.findings import Check, Finding
from syncd.settings.urls import MEMORY, without_password

if TYPE_CHECKING:
    from syncd.settings.load import Loaded
    from syncd.settings.urls import HiddenUrl

BROKER_S: Final = 5.0  # for a broker to answer; one that accepts and says nothing is away
LITTLE_OCTETS: Final = 1 << 30  # free on a disk: a message may have as many
FEW_FILES: Final = 1000  # that a file system can still hold
LATE_S: Final = 60.0  # after which a due time that is not queued is worth a line
MAX_REASON: Final = 300  # characters


def broker(check: Check, url: HiddenUrl) -> None:
    """Look whether the broker answers."""
    if str(url) == MEMORY:
        check.facts.append("none is needed: scheduler and worker are one process (memory://)")
        return
    reason = _within(BROKER_S, lambda: _reach(url))
    if reason:
        advice = "start it, or correct broker_url; until then jobs begin some seconds later"
        check.findings.append(Finding(f"the broker {url} does not answer: {reason}", advice, code=ExitCode.TEMPORARY))
    else:
        check.facts.append(f"{url} answers")


def _reach(url: HiddenUrl) -> str:
    """Returns why the broker cannot be reached; "" if it can."""
    from kombu.connection import Connection

    whole = url.reveal()
    waits = {"socket_timeout": BROKER_S, "socket_connect_timeout": BROKER_S, "max_retries": 0}
    options = waits if url.scheme.startswith("redis") else {"max_retries": 0}
    try:
        make: Any = Connection  # it has no types
        connection = make(whole, connect_timeout=BROKER_S, transport_options=options)
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_S)
            connection.channel().close()
    except Exception as error:  # noqa: BLE001  each transport has its own errors
        return printable(_blanked(str(error), whole) or type(error).__name__, MAX_REASON)
    return ""


def _blanked(text: str, url: str) -> str:
    password = urlsplit(url).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "…")
    return without_password(text)


def _within(seconds: float, ask: Callable[[], str]) -> str:
    """Returns the answer, or that there is none after so long. A thread that waits on ends with the process."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), name="doctor", daemon=True)
    thread.start()
    thread.join(2 * seconds)
    return answers[0] if answers else f"no answer within {2 * seconds:g} s"


def disk(check: Check, loaded: Loaded, sites: Collection[str], *, ledger: bool = True) -> None:
    """Look at the state directory and the archives of this machine; with `ledger=False` the ledger is not asked."""
    _state_directory(check, loaded.settings.state_directory)
    left_out = []
    for name, archive in loaded.settings.archives.items():
        if archive.site is not None and archive.site not in sites and (sites or not archive.path.exists()):
            left_out.append(f"{name} ({archive.site})")
        else:
            _archive(check, loaded, name, ledger=ledger)
    if left_out:
        check.facts.append(f"archives of other sites were not looked at: {', '.join(left_out)}")


def _state_directory(check: Check, directory: Path) -> None:
    try:
        status = directory.stat()
    except FileNotFoundError:
        check.facts.append(f"{directory} is not there yet; the first run makes it")
        return
    except OSError as error:
        check.findings.append(Finding(f"cannot look at the state directory {directory}: {error.strerror}"))
        return
    if not stat.S_ISDIR(status.st_mode):
        check.findings.append(Finding(f"the state directory {directory} is not a folder", "move it away"))
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        advice = f"run as user {status.st_uid}, or give the folder to this one"
        check.findings.append(Finding(f"the state directory {directory} cannot be written to by this user", advice))
    if stat.S_IMODE(status.st_mode) & 0o022:
        text = f"others may write to the state directory {directory} (mode {stat.S_IMODE(status.st_mode):o})"
        check.findings.append(Finding(text, f"chmod go-w {directory}"))
    check.facts.append(f"{directory}: {_room(directory)}")
    check.findings.extend(Finding(text, "free some space") for text in _little_room(directory))


def _archive(check: Check, loaded: Loaded, name: str, *, ledger: bool) -> None:
    from syncd.services.check_archive import ArchiveCheck, look

    looked = look(loaded, name) if ledger else ArchiveCheck(name, loaded.settings.archives[name].path)
    if looked.error is not None:
        check.findings.append(Finding(f"archive {name}: {looked.error}", code=exit_code(looked.error)))
    check.findings.extend(Finding(f"archive {name}: {note}", wrong=False) for note in looked.notes)
    if not looked.path.exists():
        if looked.error is None:
            check.facts.append(f"archive {name}: {looked.path} is not there yet; the first run makes it")
        return
    check.facts.append(f"archive {name}: {looked.path}, {_room(looked.path)}")
    check.findings.extend(Finding(f"archive {name}: {text}", "free some space") for text in _little_room(looked.path))


def _room(folder: Path) -> str:
    return f"{size(shutil.disk_usage(folder).free)} free"


def _little_room(folder: Path) -> Iterator[str]:
    free, files = shutil.disk_usage(folder).free, os.statvfs(folder)
    if free < LITTLE_OCTETS:
        yield f"only {size(free)} are free at {folder}"
    if files.f_files and files.f_favail < FEW_FILES:
        yield f"the file system of {folder} has room for only {files.f_favail} more files"


def size(octets: int) -> str:
    """Returns a number of octets for people."""
    power = min(max(octets, 1).bit_length() - 1, 40) // 10
    amount = octets / (1 << 10 * power)
    unit = ("B", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{amount:.1f} {unit}" if power and amount < 10 else f"{amount:.0f} {unit}"
