"""Renaming a file to a name that must be free, for file systems without hard links (FAT, exFAT, many network shares).

Linux and macOS can do it in one step (renameat2(2) with RENAME_NOREPLACE, renamex_np(2)). Where the kernel or the file
system cannot, a look comes before the rename: that serves whoever has the archive's lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Final

# What file systems say to something that they cannot do, such as a hard link: often as if it were not permitted.
UNABLE: Final = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
_NOT_HERE: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_CALLS: Final = (("renameat2", 1), ("renameatx_np", 4))  # name, and the flag that forbids to overwrite

Rename = Callable[[int, bytes, int, bytes], None]


def rename_exclusively(source: str, name: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Rename a file. Raises FileExistsError where the name is taken, OSError."""
    rename = _system_call()
    if rename is not None:
        try:
            rename(src_dir_fd, os.fsencode(source), dst_dir_fd, os.fsencode(name))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        else:
            return
    try:
        os.stat(name, dir_fd=dst_dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


@cache
def _system_call() -> Rename | None:
    """Returns the system's way to rename exclusively, None where the C library has none."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    called, flag = next(((name, flag) for name, flag in _CALLS if hasattr(library, name)), ("", 0))
    if not called:
        return None
    call = getattr(library, called)
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def rename(src: int, source: bytes, dst: int, name: bytes) -> None:
        if call(src, source, dst, name, flag):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), name)

    return rename
