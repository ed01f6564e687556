"""What a job says of mailboxes that its source does not have: most likely misspelt (pure).

mailboxes.include   a pattern that matches nothing. Where all of them do, the job can never copy anything
mailboxes.exclude   the same. A special use is not told of, nor a name beside the special use of that name: the
                    examples have these for mailboxes that an account may get, under whatever name
map                 a name that is neither a mailbox nor above one
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from syncd.engine.mapping import Paths
from syncd.errors import printable
from syncd.mail.mailbox import Mailbox
from syncd.mail.patterns import Selection, matches

_BELOW: Final = re.compile(r"/\*+$")


def unmatched(
    selection: Selection, maps: Mapping[str, Paths], mailboxes: Sequence[Mailbox], source: str
) -> Iterator[str]:
    """Yields a line for each pattern, and each name in the `map` of a destination, that matches no mailbox.

    A source without any mailbox is no mistake of the job.
    """
    if not mailboxes:
        return
    for pattern in _unused(selection.include, mailboxes):
        yield _line("mailboxes.include", pattern, mailboxes, source)
    for pattern in _unused(selection.exclude, mailboxes):
        if not pattern.startswith("\\") and f"\\{pattern}" not in selection.exclude:
            yield _line("mailboxes.exclude", pattern, mailboxes, source)
    for destination, paths in maps.items():
        for name in paths.unused(mailboxes):
            yield _line(f"map of destination {destination}", name, mailboxes, source)
    if not any(map(selection.chooses, mailboxes)):
        yield "no mailbox is chosen: mailboxes.exclude leaves out all that mailboxes.include has"


def nothing_chosen(selection: Selection, mailboxes: Sequence[Mailbox], source: str) -> str:
    """Returns why `include` chooses none of the mailboxes; empty where it chooses one, or the source has none."""
    if not mailboxes or len(_unused(selection.include, mailboxes)) < len(selection.include):
        return ""
    lines = (_line("mailboxes.include", pattern, mailboxes, source) for pattern in selection.include)
    return f"no mailbox is chosen, so nothing can be copied. {'; '.join(lines)}"


def _unused(patterns: Iterable[str], mailboxes: Sequence[Mailbox]) -> list[str]:
    return [it for it in patterns if not any(matches(it, mailbox.path, mailbox.use) for mailbox in mailboxes)]


def _line(setting: str, name: str, mailboxes: Iterable[Mailbox], source: str) -> str:
    nearest = _nearest(name, mailboxes)
    hint = f"did you mean “{printable(nearest)}”?" if nearest else "none has a similar name"
    return f"{setting}: “{name}” matches no mailbox of {source}; {hint}"


def _nearest(name: str, mailboxes: Iterable[Mailbox]) -> str:
    """Returns the path that is most like a name or pattern, by itself or as the server spells it; "" if none is."""
    spellings: dict[str, str] = {}
    for mailbox in mailboxes:
        path = "/".join(mailbox.path)
        for spelling in (path, mailbox.name.decode("utf-8", "replace")):
            spellings.setdefault(spelling.casefold(), path)
    found = get_close_matches(_BELOW.sub("", name).casefold(), spellings, 1)
    return spellings[found[0]] if found else ""
