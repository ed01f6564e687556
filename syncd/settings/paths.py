"""Paths in a configuration: what can be made absolute, and what is wrong with the others. Pure, but for `folder`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_VARIABLE: Final = re.compile(r"\$(?:\{|[A-Za-z_])")  # as a shell would expand it
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path has made one slash of two


def is_expandable(path: str) -> bool:
    """Returns whether a path may be made absolute; others are kept as they were written, to be refused."""
    return not _misread(path)


def _misread(path: str) -> str:
    """Returns what was meant to be expanded in a path, or to be none, and would be taken as it is; else ""."""
    if _VARIABLE.search(path):
        return "has a variable ($…), which a configuration does not expand; write ~ for the home directory"
    if _URL.match(path):
        return "is not a path but a URL"
    if "~" in path.split("/")[1:]:
        return "has ~ inside, which stands for the home directory only at the beginning"
    return ""


def path_reason(path: str) -> str:
    """Returns what is wrong with a path. `load` has made relative paths absolute, so one that is not cannot be used."""
    if not path.isprintable():
        return "has a control character; in double quotes a backslash begins an escape, and single quotes keep it"
    if misread := _misread(path):
        return misread
    if path == "~" or path.startswith("~/"):
        return "needs a home directory, and this process has none; set HOME, or write the whole path"
    if not path.startswith("/"):
        return "is not a path: it is empty, or ~ stands before a user that this machine does not know"
    return ""


def absolute(path: Path) -> Path:
    """Returns a path that can be used; ValueError says why another cannot."""
    if reason := path_reason(str(path)):
        raise ValueError(reason)
    return path


def folder(path: Path) -> Path:
    """Check the path of a folder in which only syncd writes."""
    if os.path.realpath(path) == "/":
        raise ValueError("is the root of the file system, which cannot be a folder of syncd")
    return path
