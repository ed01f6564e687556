"""Addresses of mailboxes as an envelope may have them: narrower than RFC 5321 §4.1.2 where width has been misused.

No escapes in quoted local parts, no comments, no source routes, nothing that could end a path or a line. UTF-8 is
allowed (RFC 6531 §3.3); whether a server takes it is for others to ask.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARACTERS: Final = 254  # a path has 256 octets with its brackets (RFC 5321 §4.5.3.1.3)

_LOCAL: Final = r'(?:[^\s<>()\[\]@,;:\\"\x00-\x20\x7f]+|"[^"\\\x00-\x1f\x7f]+")'
_DOMAIN: Final = r"(?:[^\W_](?:[\w.-]*[^\W_])?|\[[0-9A-Za-z:.]+\])"
_ADDRESS: Final = re.compile(f"{_LOCAL}@{_DOMAIN}")


def is_address(text: str) -> bool:
    """Returns whether it is one mailbox, without name and angle brackets."""
    return len(text) <= MAX_CHARACTERS and text.isprintable() and _ADDRESS.fullmatch(text) is not None
