"""Maps a mailbox of a source to its path at a destination (pure).

For destinations that have mailboxes of their own (Maildir, IMAP); packs record the path that the source lists. The
path of a message follows, in this order, from

    `map`           the longest path of the source that it names; what is below that path follows it
    special use     where the destination says which path a use has there
    `prefix`        before every other path

With Gmail the messages of the mailbox "All Mail" carry labels instead of lying in several mailboxes. The first label
that is no system label decides, then Sent and the like, then INBOX; a message without any goes to Archive.

INBOX is INBOX in any spelling (RFC 3501 §5.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from syncd.mail.mailbox import INBOX_PATH, Mailbox, Path

ALL: Final = "\\All"  # RFC 6154 §2
ARCHIVE_PATH: Final[Path] = ("Archive",)
SYSTEM_LABELS: Final[Mapping[str, Path]] = {  # by how much they tell; others (\Important, \Starred) are no place
    "\\sent": ("Sent",),
    "\\draft": ("Drafts",),
    "\\drafts": ("Drafts",),
    "\\junk": ("Junk",),
    "\\spam": ("Junk",),
    "\\trash": ("Trash",),
    "\\inbox": INBOX_PATH,
}
_OWNER: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/")
_CACHED: Final = 256  # sets of labels


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a job for one destination. Keys of `names` are paths of the source with "/", or a mailbox's name."""

    names: Mapping[str, Path] = field(default_factory=dict)
    prefix: Path = ()
    uses: Mapping[str, Path] = field(default_factory=dict)  # special use → the path that has it at the destination


class Why(StrEnum):
    """The rule that gave a mailbox its path."""

    MAP = "map"
    USE = "special use"
    LABELS = "labels"
    PREFIX = "prefix"
    SAME = "same path"


class Clash(NamedTuple):
    """Mailboxes of one account that would become one at a destination."""

    path: Path
    mailboxes: tuple[Mailbox, ...]


class Paths:
    """The paths that the mailboxes of a job's source have at one of its destinations."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self._rules = rules
        self._labelled = lru_cache(_CACHED)(self._of_labels)

    def of(self, mailbox: Mailbox, labels: tuple[str, ...] = ()) -> Path:
        """Returns the path of a message with these labels in a mailbox; without labels, that of the mailbox itself."""
        return self.explain(mailbox, labels)[0]

    def explain(self, mailbox: Mailbox, labels: tuple[str, ...] = ()) -> tuple[Path, Why]:
        """Returns the path, as `of`, and the rule that gave it. With Gmail's All Mail the labels of messages decide."""
        path = _with_inbox(mailbox.path)
        named = self._named(path, mailbox.name)
        if mailbox.use == ALL and (labels or named is None):
            return self._labelled(labels) or named or self._placed(ARCHIVE_PATH), Why.LABELS
        if named is not None:
            return named, Why.MAP
        used = self._rules.uses.get(mailbox.use)
        if used is not None:
            return used, Why.USE
        return self._placed(path), Why.PREFIX if self._rules.prefix else Why.SAME

    def clashes(self, mailboxes: Iterable[Mailbox], key: Callable[[Path], Hashable] = lambda path: path) -> list[Clash]:
        """Returns which of these mailboxes would become one.

        `key` is equal for paths that are one mailbox at the destination. Mailboxes may become one where `map` names
        each of them, and where they are of different accounts (of an archive as the source).
        """
        groups: dict[Hashable, list[Mailbox]] = {}
        for mailbox in mailboxes:
            groups.setdefault((mailbox.account, key(self.of(mailbox))), []).append(mailbox)
        return [
            Clash(self.of(group[0]), tuple(group))
            for group in groups.values()
            if len(group) > 1 and not all(map(self._is_named, group))
        ]

    def unused(self, mailboxes: Iterable[Mailbox]) -> list[str]:
        """Returns the names in `map` that are neither one of these mailboxes nor above one."""
        used: set[str] = set()
        for mailbox in mailboxes if self._rules.names else ():
            path = _with_inbox(mailbox.path)
            used.update(_texts(mailbox.name), ("/".join(path[:levels]) for levels in range(1, len(path) + 1)))
        return [name for name in self._rules.names if name not in used]

    def _of_labels(self, labels: tuple[str, ...]) -> Path | None:
        paths = [tuple(label.split("/")) for label in labels if not label.startswith("\\")]
        told = {label.lower() for label in labels}
        paths += [path for label, path in SYSTEM_LABELS.items() if label in told]
        return (self._named(paths[0]) or self._placed(paths[0])) if paths else None

    def _named(self, path: Path, name: bytes = b"") -> Path | None:
        """Returns the path that `map` gives; the name of the mailbox itself counts before all paths."""
        names = self._rules.names
        if not names:
            return None
        for text in _texts(name) if name else ():
            if text in names:
                return _with_inbox(names[text])
        for levels in range(len(path), 0, -1):
            above = names.get("/".join(path[:levels]))
            if above is not None:
                return _with_inbox(above + path[levels:])
        return None

    def _is_named(self, mailbox: Mailbox) -> bool:
        return not self._rules.names.keys().isdisjoint({"/".join(mailbox.path), *_texts(mailbox.name)})

    def _placed(self, path: Path) -> Path:
        return self._rules.prefix + path


def _with_inbox(path: Path) -> Path:
    """Returns the path; INBOX in any spelling is INBOX."""
    return INBOX_PATH if len(path) == 1 and path[0].upper() == INBOX_PATH[0] else path


def clash_line(clash: Clash, name: str) -> str:
    """Returns why the mailboxes of a clash are refused, for the destination called `name`."""
    to, moved = "/".join(clash.path), next((it for it in clash.mailboxes if it.path != clash.path), clash.mailboxes[0])
    joined = ", ".join(_entry(it, to) for it in clash.mailboxes)
    return (
        f"{' and '.join(map(_called, clash.mailboxes))} would become one mailbox in {name} (“{to}”): nothing is copied"
        f" from them. In the job's destination {name}, give one of them a path of its own, such as"
        f" map = {{ {_entry(moved, 'another path')} }}; or join them: map = {{ {joined} }}"
    )


def _entry(mailbox: Mailbox, path: str) -> str:
    """Returns what `map` says of a mailbox, as TOML."""
    name, to = (text.replace("\\", "\\\\").replace('"', '\\"') for text in (_texts(mailbox.name)[-1], path))
    return f'"{name}" = "{to}"'


def _called(mailbox: Mailbox) -> str:
    path, name = "/".join(mailbox.path), _texts(mailbox.name)[-1]
    return f"“{path}”" if path == name else f"“{path}” ({name})"


def _texts(name: bytes) -> list[str]:
    """Returns what a mailbox's name may be called in `map`: whole, and without the account that archives put before."""
    text = name.decode("utf-8", "backslashreplace")
    return [text, text[owner.end() :]] if (owner := _OWNER.match(text)) else [text]
