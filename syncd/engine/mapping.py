"""Maps a mailbox of a source to its path at a destination (pure).

For destinations that have mailboxes of their own (Maildir, IMAP); packs record the path that the source lists. The
path of a message follows, in this order, from

    `map`           the longest path of the source that it names; what is below that path follows it
    what it became  in an earlier run, as long as that mailbox is there: a special use that somebody gives to another
                    mailbox of the destination does not part a mailbox from its older mail
    special use     where the destination says which path a use has there
    `prefix`        before every other path

With Gmail the messages of the mailbox "All Mail" carry labels instead of lying in several mailboxes. The first label
that is no system label decides, then Sent and the like, then INBOX; a message without any goes to Archive.

INBOX is INBOX in any spelling (RFC 3501 §5.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from syncd.db.rows import Became
from syncd.mail.mailbox import INBOX_PATH, Mailbox, Path

ALL: Final = "\\All"  # RFC 6154 §2
ARCHIVE: Final = (("Archive",), "\\Archive")
SYSTEM_LABELS: Final[Mapping[str, tuple[Path, str]]] = {  # by how much they tell; \Important and \Starred are no place
    "\\sent": (("Sent",), "\\Sent"),
    "\\draft": (("Drafts",), "\\Drafts"),
    "\\drafts": (("Drafts",), "\\Drafts"),
    "\\junk": (("Junk",), "\\Junk"),
    "\\spam": (("Junk",), "\\Junk"),
    "\\trash": (("Trash",), "\\Trash"),
    "\\inbox": (INBOX_PATH, ""),
}
_OWNER: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/")
_CACHED: Final = 256  # sets of labels


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a job for one destination. Keys of `names` are paths of the source with "/", or a mailbox's name."""

    names: Mapping[str, Path] = field(default_factory=dict)
    prefix: Path = ()
    uses: Mapping[str, Path] = field(default_factory=dict)  # special use → the path that has it at the destination
    by_use: bool = True  # `uses` count


class Why(StrEnum):
    """The rule that gave a mailbox its path."""

    MAP = "map"
    BEFORE = "as before"
    USE = "special use"
    LABELS = "labels"
    PREFIX = "prefix"
    SAME = "same path"


class Clash(NamedTuple):
    """Mailboxes of one account that would become one at a destination."""

    path: Path
    mailboxes: tuple[Mailbox, ...]


class _Decision(NamedTuple):
    """The path of a message. `label` is empty for mail of an ordinary mailbox; None where there is nothing to remember.

    `by_use`: the destination's special use gave the path.
    """

    path: Path
    why: Why
    label: str | None
    by_use: bool = False


class Paths:
    """The paths that the mailboxes of a job's source have at one of its destinations."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self._rules = rules
        self._became: dict[tuple[bytes, str], Became] | None = None  # None: nothing is to be remembered
        self._is_there: Callable[[Path], bool] = lambda _: False

    def remember(self, became: Mapping[tuple[bytes, str], Became], is_there: Callable[[Path], bool]) -> None:
        """Take in what mailboxes (name and label, see `decide`) became in earlier runs.

        `is_there` tells whether the destination has the mailbox of a path.
        """
        self._became, self._is_there = dict(became), is_there

    def decide(self, mailbox: Mailbox, labels: Iterable[tuple[str, ...]] = ((),)) -> dict[str, Became]:
        """Returns what a mailbox becomes, by label, if it has not become that before; and remembers it.

        The label is empty; with messages of Gmail's All Mail it is the special use that their labels tell.
        """
        decided: dict[str, Became] = {}
        became = self._became
        if became is None:
            return decided
        for path, _, label, by_use in [self._decide(mailbox, some) for some in labels]:
            known = None if label is None else became.get((mailbox.name, label))
            if label is not None and (known is None or known.path != path or by_use > known.by_use):
                decided[label] = became[mailbox.name, label] = Became(path, by_use)
        return decided

    def of(self, mailbox: Mailbox, labels: tuple[str, ...] = ()) -> Path:
        """Returns the path of a message with these labels in a mailbox; without labels, that of the mailbox itself."""
        return self._decide(mailbox, labels).path

    def explain(self, mailbox: Mailbox, labels: tuple[str, ...] = ()) -> tuple[Path, Why]:
        """Returns the path, as `of`, and the rule that gave it. With Gmail's All Mail the labels of messages decide."""
        return self._decide(mailbox, labels)[:2]

    def _decide(self, mailbox: Mailbox, labels: tuple[str, ...]) -> _Decision:
        path = _with_inbox(mailbox.path)
        named, told = self._named(path, mailbox.name), _by_labels(labels)
        if mailbox.use == ALL and (told is not None or named is None):
            path, use = told or ARCHIVE
            named = self._named(path)
            decision = _Decision(named, Why.MAP, None) if named else self._ruled(path, use, (mailbox.name, use))
            return decision._replace(why=Why.LABELS, label=use or None)
        if named is not None:
            return _Decision(named, Why.MAP, "")
        return self._ruled(path, mailbox.use, (mailbox.name, ""))

    def _ruled(self, path: Path, use: str, origin: tuple[bytes, str]) -> _Decision:
        """Decides where `map` names nothing."""
        placed = self._rules.prefix + path
        used = self._rules.uses.get(use) if self._rules.by_use else None
        before = (self._became or {}).get(origin)
        if (
            before is not None
            and before.path != (used or placed)
            and (before.path == placed or (before.by_use and self._rules.by_use))  # the rules may still give it
            and self._is_there(before.path)
        ):
            return _Decision(before.path, Why.BEFORE, "", before.by_use)
        if used is not None:
            return _Decision(used, Why.USE, "", by_use=True)
        return _Decision(placed, Why.PREFIX if self._rules.prefix else Why.SAME, "")

    def give_way(self, mailboxes: Sequence[Mailbox], key: Callable[[Path], Hashable] = lambda path: path) -> None:
        """Forget what a mailbox became before where another one of these goes there now; `key` as in `clashes`."""
        became = self._became
        if not became:
            return
        for mailbox in [it for clash in self.clashes(mailboxes, key) for it in clash.mailboxes]:
            if self.explain(mailbox)[1] is Why.BEFORE:
                del became[mailbox.name, ""]

    def clashes(self, mailboxes: Sequence[Mailbox], key: Callable[[Path], Hashable] = lambda path: path) -> list[Clash]:
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


@lru_cache(_CACHED)
def _by_labels(labels: tuple[str, ...]) -> tuple[Path, str] | None:
    """Returns the path that labels tell, and its special use; None where they tell nothing."""
    own = next((label for label in labels if not label.startswith("\\")), None)
    if own is not None:
        return tuple(own.split("/")), ""
    told = {label.lower() for label in labels}
    return next((place for label, place in SYSTEM_LABELS.items() if label in told), None)


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
