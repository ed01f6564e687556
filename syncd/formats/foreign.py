"""Folders of mail that other programs made, as sources: which one it is follows from its path.

Nothing is ever written there, so there is no file with a UUID. A folder that is moved is another source; `syncd run JOB
--rebind` says that it is the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5


def uuid_of(path: Path, format_name: str) -> UUID:
    """Returns the UUID that stands for the folder or file at `path`."""
    return uuid5(NAMESPACE_URL, f"syncd:{format_name}:{os.path.realpath(path)}")
