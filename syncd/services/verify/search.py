"""Looks for copies that are not where their receipts say, once everything with a receipt has its copy.

A server without UIDPLUS tells no UID, and a mailbox may have been given a new UIDVALIDITY: then a message is known by
its SHA-256 (where everything is read), else by its header, octets and date, in the mailbox where it should be. All
messages are looked for by what tells most before any of them is looked for by less. What is left may have been altered
so much that neither is known; then some are read at both ends.

A message that was there and is not any more may have been moved by its user: then it is looked for in all mailboxes, by
its header and octets.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from syncd.mail.alterations import MOST_OCTETS, likenesses
from syncd.services.verify.comparison import Rules
from syncd.services.verify.copies import Copies, MaildirCopies
from syncd.services.verify.examiner import Examiner, text
from syncd.services.verify.results import Results
from syncd.services.verify.scratch import Lost, Scratch, Spotted
from syncd.services.verify.values import Status, Verdict

STAGES: Final[tuple[tuple[str, ...], ...]] = (  # facts that are the same, from all to few
    ("sha256",),
    ("header", "octets", "date"),
    ("header", "octets"),
    ("header", "date"),
    ("header",),
    ("octets", "date"),
    ("date",),
    ("octets", "silent"),  # of messages whose header the server does not give
)
MOST_READ: Final = 64 << 20  # octets of both ends together: a provider may count what is read in a day
NEAR_OCTETS: Final = 1024  # fewer or more, where a server has altered a header
SILENT: Final = "the server lists it, and does not give its text"

Look = Callable[[Lost], Spotted | None]


def search(results: Results, examiner: Examiner, destination: int) -> None:
    """Give each lost message its status at a destination."""
    copies, scratch = results.destinations[destination].copies, results.scratch
    lost = [False, False]  # some that are certain, some that are not
    for _, one in scratch.lost(destination):
        lost[not one.certain] = True
    if copies is None or not any(lost):
        return
    certain, uncertain = lost
    if certain:
        copies.take_in_all()
        if copies.moves and not isinstance(copies, MaildirCopies):
            copies.take_in_headers(None, destination)
    if uncertain:
        copies.take_in_headers({one.box for _, one in scratch.lost(destination) if not one.certain})
    scratch.begin_search()
    for stage in STAGES if uncertain else ():
        _look(results, examiner, destination, certain=False, look=partial(_in_place, scratch, copies.rules, stage))
    by_text = _ByText(copies, scratch, examiner)
    for last in (by_text, by_text.silent) if uncertain else ():
        _look(results, examiner, destination, certain=False, look=last)
    if certain:
        _look(results, examiner, destination, certain=True, look=partial(_elsewhere, scratch, copies))
    for _, one in scratch.lost(destination):
        results.tell(one.case, Verdict(Status.REMOVED, one.reason), one.place)


def _look(results: Results, examiner: Examiner, destination: int, *, certain: bool, look: Look) -> None:
    copies, scratch = results.destinations[destination].copies, results.scratch
    assert copies is not None, "only what has copies loses some"
    for key, one in scratch.lost(destination):
        copy = look(one) if one.certain is certain else None
        if copy is None:
            continue
        scratch.find_lost(key)
        if not certain or not copies.moves:
            examiner.settle(one.case, one.original, one.here, copy)
        else:
            scratch.claim(copy)
            place = copies.box_of(copy).name
            results.tell(one.case, Verdict(Status.RELOCATED, _relocated(one.place, place)), place)


def _relocated(before: str, now: str) -> str:
    if now == before:
        where = "another message with its header and as many octets is in the same mailbox now"
    else:
        where = f"a message with its header and as many octets is in “{now}” now"
    return f"it was delivered to “{before}”; {where}"


def _in_place(scratch: Scratch, rules: Rules, stage: tuple[str, ...], lost: Lost) -> Spotted | None:
    """Returns the likeliest copy of a message in the mailbox where it should be, by the facts of a stage."""
    facts = _facts(lost, rules)
    if any(facts[name] is None for name in stage):
        return None
    flags = set(rules.flags(lost.here.flags or ()))
    found = scratch.free(range(lost.box, lost.box + 1), **{name: facts[name] for name in stage})
    return min(found, key=lambda one: set(one.fact.flags or ()) != flags, default=None)


class _ByText:
    """Finds the copy of a message that is still lost in the mailbox where it should be, by reading."""

    def __init__(self, copies: Copies, scratch: Scratch, examiner: Examiner) -> None:
        self._copies = copies
        self._scratch = scratch
        self._examiner = examiner
        self._left = MOST_READ
        self._known: dict[int, dict[bytes, list[bytes]]] = {}  # box → likeness → uids
        self._unread: dict[int, dict[bytes, int]] = defaultdict(dict)  # box → uid → octets

    def __call__(self, lost: Lost) -> Spotted | None:
        if lost.box not in self._known:
            self._known[lost.box] = self._read(lost.box)
        known = self._known[lost.box]
        if not known or not self._spend(lost.here.octets):
            return None
        for likeness in likenesses(self._examiner.original(lost.case, lost.here)):
            for uid in known.get(likeness, ()):
                found = self._scratch.find(lost.box, uid)
                if found is not None and not found.claimed:
                    return found
        return None

    def silent(self, lost: Lost) -> Spotted | None:
        """Returns the message nearest in octets of those whose text did not come; mailutils renumbers the last one."""
        octets = lost.here.octets
        near = sorted((abs(there - octets), uid) for uid, there in self._unread[lost.box].items())
        for distance, uid in near:
            found = self._scratch.find(lost.box, uid)
            if distance <= NEAR_OCTETS and found is not None and not found.claimed:
                return found
        return None

    def _read(self, box: int) -> dict[bytes, list[bytes]]:
        """Returns the uids of messages that nothing claims, by their likenesses."""
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for fact in self._scratch.unclaimed(box):
            if fact.octets > MOST_OCTETS:
                continue
            if not self._spend(fact.octets):
                break
            octets = text(self._copies.end, self._copies.box_of(Spotted(box, 1, fact)).mailbox, fact)
            if octets:
                self._scratch.note_read(box, fact.number, len(octets), hashlib.sha256(octets).digest())
            else:
                self._scratch.note_read(box, fact.number, fact.octets, None, SILENT)
                self._unread[box][fact.uid] = fact.octets
            for likeness in likenesses(octets):
                found[likeness].append(fact.uid)
        return found

    def _spend(self, octets: int) -> bool:
        self._left -= octets
        return self._left >= 0


def _elsewhere(scratch: Scratch, copies: Copies, lost: Lost) -> Spotted | None:
    """Returns the likeliest copy of a message in any mailbox."""
    facts = _facts(lost, copies.rules)
    if isinstance(copies, MaildirCopies):
        start = copies.stem(lost.original.receipt)
        named = (scratch.starting(box.number, start) for box in copies.boxes.values())
        return next((one for one in named if one is not None and not one.claimed), None)
    for stage in (("sha256",), ("header", "octets")) if copies.moves else (("sha256",),):
        given = {name: facts[name] for name in stage}
        found = scratch.free(copies.numbers, **given) if None not in given.values() else []
        if found:
            return found[0]
    return None


def _facts(lost: Lost, rules: Rules) -> dict[str, Any]:
    date = lost.here.date
    return {
        "sha256": lost.original.sha256,
        "header": lost.original.header_hash,
        "silent": True,
        "octets": lost.original.octets if rules.tells_octets else None,
        "date": None if date is None else rules.date(date, lost.original.at).date,
    }
