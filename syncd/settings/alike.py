"""Entries that are alike: two accounts for one mailbox, archives in one folder or inside each other."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

from syncd.db.fingerprints import fingerprint, place
from syncd.settings.mistakes import Mistake, key_text
from syncd.settings.schema import Account, Settings


def identity(account: Account) -> tuple[str, str, str]:
    """Returns protocol, place and username, which tell an account from all others.

    Where a master user signs in for somebody, it is the account of that user.
    """
    protocol = account.protocol.value
    return protocol, place(protocol, account.host, account.port), account.authzid or account.username or ""


def accounts(settings: Settings) -> Iterator[Mistake]:
    """Yields a warning for each account of a job that has the identity of another one.

    The ledger knows one account, so its name there changes with the job that ran last.
    """
    used = {job.source for job in settings.jobs.values()}
    used |= {to.to for job in settings.jobs.values() for to in job.destinations}
    seen: dict[str, str] = {}
    for name, account in settings.accounts.items():
        if name not in used:
            continue
        other = seen.setdefault(fingerprint(*identity(account)), name)
        if other != name:
            text = (
                f"is the same as {key_text(('accounts', other))}, by protocol, host, port and username; "
                f'name "{other}" in the jobs instead'
            )
            yield Mistake(("accounts", name), text)


def folders(settings: Settings) -> Iterator[Mistake]:
    """Yields a mistake for each archive whose folder is not its own."""
    places = {name: os.path.realpath(archive.path) for name, archive in settings.archives.items()}
    state = os.path.realpath(settings.state_directory)
    owners = defaultdict(list)
    for name, folder in places.items():
        owners[folder].append(name)
    seen: dict[str, str] = {}
    for name, folder in places.items():
        at = ("archives", name, "path")
        other = seen.setdefault(folder, name)
        if other != name:
            text = f"is also the folder of {key_text(('archives', other))}; each archive needs its own folder"
            yield Mistake(at, text)
        for outer in (owner for around in _around(folder) for owner in owners.get(around, ())):
            text = f"is inside the folder of {key_text(('archives', outer))}; accepted: a folder beside it"
            yield Mistake(at, text)
        if folder == state or _is_inside(folder, state):
            text = f"is the state directory ({state}), or inside it; each archive needs its own folder"
            yield Mistake(at, text)
        elif _is_inside(state, folder):
            text = f"has the state directory ({state}) inside; each archive needs its own folder"
            yield Mistake(at, text)


def _around(folder: str) -> Iterator[str]:
    """Yields the folders that a folder is in, the nearest first."""
    while (outer := os.path.dirname(folder)) != folder:  # noqa: PTH120 (ten times as fast as a Path)
        yield outer
        folder = outer


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/") and path != folder
