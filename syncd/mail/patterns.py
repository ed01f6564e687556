r"""Patterns on the paths of mailboxes: which of them a job reads (pure).

A pattern is a path with `/` between its levels, whatever delimiter the server has:

    *            every mailbox, however deep (as the whole pattern; so is **)
    Archive      this mailbox alone
    Archive/*    the mailboxes one level below; * is any text inside a level, as in 20*
    Archive/**   Archive and everything below it: ** is any levels, also none
    \Trash       a special use instead of a path (RFC 6154 §2), whatever the mailbox is called
    \* \/ \\     the character itself, where a name has it

Case counts, except in INBOX as the first level (RFC 3501 §5.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from syncd.mail.mailbox import INBOX_PATH, Mailbox, Path

USES: Final = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
_EVERYTHING: Final = frozenset({"*", "**"})
_BETWEEN: Final = "/"  # behind each level in the text that is matched; inside a level it is _SLASH
_SLASH: Final = "\0"
_LEVEL_END: Final = re.compile(r"((?:[^\\/]|\\.)*)(/|$)", re.DOTALL)
_PART: Final = re.compile(r"\\(.)|(\*)|([^\\*]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Selection:
    """A mailbox is chosen if a pattern of `include` matches it, and none of `exclude`."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def chooses(self, mailbox: Mailbox) -> bool:
        """Returns whether a job with this selection reads the mailbox."""
        return _any(self.include, mailbox) and not self.excludes(mailbox)

    def excludes(self, mailbox: Mailbox) -> bool:
        """Returns whether a pattern of `exclude` matches the mailbox."""
        return _any(self.exclude, mailbox)

    def names(self, mailbox: Mailbox) -> bool:
        """Returns whether the mailbox is chosen by a pattern that says more than "everything"."""
        return self.chooses(mailbox) and _any(tuple(it for it in self.include if it not in _EVERYTHING), mailbox)


EVERYTHING: Final = Selection()


def check(pattern: str) -> None:
    """Raise ValueError where a pattern cannot match any mailbox, or does not mean what it seems to."""
    if not pattern:
        raise ValueError("is empty")
    if any(not c.isprintable() for c in pattern):
        raise ValueError(
            "has a control character; in double quotes a backslash begins an escape, single quotes keep it"
        )
    if use := _use(pattern):
        if use not in {known.lower() for known in USES}:
            raise ValueError(f"is no special use; accepted: {', '.join(USES)}, or \\\\ for a backslash in a name")
        return
    plain = re.sub(r"\\[*/\\]", "_", pattern)
    if "\\" in plain:
        raise ValueError(r"has \ before a character that needs none; accepted: \*, \/ and \\")
    if plain.startswith("/") or plain.endswith("/"):
        raise ValueError("begins or ends with /, which stands between levels only")
    for level in plain.split("/"):
        if not level:
            raise ValueError("has // in it; a level needs a name")
        if "**" in level and level != "**":
            raise ValueError("has ** inside a level; it stands for whole levels, as in Archive/**")


def matches(pattern: str, path: Path, use: str = "") -> bool:
    """Returns whether a pattern that `check` accepts matches the path or the special use of a mailbox."""
    if wanted := _use(pattern):
        return use.lower() == wanted
    return _compiled(pattern).fullmatch(_flat(path)) is not None


def _any(patterns: tuple[str, ...], mailbox: Mailbox) -> bool:
    return any(matches(pattern, mailbox.path, mailbox.use) for pattern in patterns)


def _use(pattern: str) -> str:
    """Returns the special use that a pattern names, in small letters; "" if it is a path."""
    return pattern.lower() if re.match(r"\\[A-Za-z]", pattern) else ""


def _flat(path: Path) -> str:
    first, *rest = path
    folded = INBOX_PATH[0] if first.upper() == INBOX_PATH[0] else first
    return "".join(level.replace(_BETWEEN, _SLASH) + _BETWEEN for level in (folded, *rest))


def _levels(pattern: str) -> list[str]:
    found = []
    for match in _LEVEL_END.finditer(pattern):
        found.append(match[1])
        if not match[2]:
            break
    return found


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern in _EVERYTHING:
        return re.compile(".*", re.DOTALL)
    levels = _levels(pattern)
    if levels[0].upper() == INBOX_PATH[0]:
        levels[0] = INBOX_PATH[0]
    return re.compile("".join(map(_level, levels)), re.DOTALL)


def _level(level: str) -> str:
    if level == "**":
        return f"(?:[^{_BETWEEN}]*{_BETWEEN})*"
    text = ""
    for match in _PART.finditer(level):
        escaped, star, plain = match.groups()
        text += f"[^{_BETWEEN}]*" if star else re.escape((escaped or plain).replace(_BETWEEN, _SLASH))
    return text + _BETWEEN
