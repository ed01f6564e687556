"""How to run `imapsync.pl`, which copies an IMAP account as imapsync does and stands in for it."""

from __future__ import annotations

import shutil
from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".pl")
ADD_HEADER = "--addheader"


def command(old: tuple[str, int, str], new: tuple[str, int, str], *options: str) -> list[str]:
    """The command that copies `old` into `new` (host, port and user of each); PASSWORD is in its environment."""
    return [shutil.which("perl") or "perl", str(SCRIPT), *options, *map(str, (*old, *new))]
