"""Examines one message: finds its copy by its receipt, compares the two, and gives the message its status."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.db.ledger.proof import Known
from syncd.db.states import DeliveryState, Disposal
from syncd.destinations.imap.ask import MOST_HOW
from syncd.destinations.imap.line_ends import crlf
from syncd.errors import printable
from syncd.mail.alterations import MOST_OCTETS, ways
from syncd.mail.flags import DELETED
from syncd.services.verify import comparison
from syncd.services.verify.comparison import Fact, Original, undelivered
from syncd.services.verify.copies import Copies, Found
from syncd.services.verify.results import Results
from syncd.services.verify.scratch import Lost, Spotted
from syncd.services.verify.values import Case, Status, Verdict

if TYPE_CHECKING:
    from syncd.mail.mailbox import Mailbox
    from syncd.services.verify.ends import End

LEFT: Final = "it left the source before it was delivered"
KEPT: Final = "its copy is at the destination"
AT_NEITHER: Final = "its copy is not at the destination any more either"
MARKED: Final = 'it is marked as deleted at the source (deleted = "skip")'
MEANWHILE: Final = "a run delivered it while this was under way: verify again"
TWICE: Final = "another message of the source has the same copy"
MOST_EXPLAINED: Final = 200  # messages that are read at both ends, to say in what way they differ
_LEAVING: Final = frozenset({Disposal.REMOVING, Disposal.REMOVED})


class Examiner:
    """Examines the messages of one verification. For one thread."""

    def __init__(self, source: End, results: Results, *, skips: bool = False) -> None:
        """With `skips=True` the job leaves out what is marked as deleted at the source."""
        self._skips = skips
        self._began = clock.now()
        self._source = source
        self._results = results
        self._explained = 0

    def examine(self, case: Case, row: Known, here: Fact | None) -> None:
        """Give a message its status, or note that its copy is to be looked for. `here`: as the source shows it."""
        if row.delivery is not DeliveryState.DELIVERED:
            verdict = self.left_out(here) or undelivered(row)
            left = here is None and not self._source.pages and verdict.status is not Status.SKIPPED
            self._results.tell(case, Verdict(Status.GONE, _left(verdict)) if left else verdict)
            return
        copies = self._copies(case)
        if copies is None:
            self._results.tell(case, self._departed(row, here, "") or Verdict(Status.RECEIPT))
            return
        scope = self._results.mailboxes[case.mailbox].scope
        assert scope is not None, "a message of the ledger is in a mailbox of the ledger"
        found = copies.find(scope, row)
        if found.copy is not None:
            self.settle(case, Original.of(row), here, found.copy, self._departed(row, here, KEPT))
        elif found.unknown:
            self._results.tell(case, Verdict(Status.UNREADABLE, found.reason), _name(found))
        elif row.at is not None and row.at > self._began:
            if here is not None:
                self._results.tell(case, Verdict(Status.WAITING, MEANWHILE), _name(found))
        elif here is None and row.disposal in _LEAVING and not found.certain:
            self._lose(case, row, Fact(row.uid, 0, row.listed_octets), found)
        elif here is None:
            self._results.tell(case, self._at_neither(row, copies, found), _name(found))
        else:
            self._lose(case, row, here, found)

    def left_out(self, here: Fact | None) -> Verdict | None:
        """Returns the status of a message that the job leaves out; None where it does not."""
        skips = self._skips and here is not None and here.flags is not None and DELETED in here.flags
        return Verdict(Status.SKIPPED, MARKED) if skips else None

    def examine_departed(self, case: Case, row: Known) -> None:
        """Examine a message that is in the source no more, as far as its copy tells anything.

        A message that was recognised under another id has its copy there; nothing is said of it here.
        """
        copies = self._copies(case)
        if row.delivery is not DeliveryState.DELIVERED or copies is None:
            return
        scope = self._results.mailboxes[case.mailbox].scope
        assert scope is not None, "a message of the ledger is in a mailbox of the ledger"
        found = copies.find(scope, row)
        if found.unknown:
            if row.disposal in _LEAVING:
                self._results.tell(case, Verdict(Status.UNREADABLE, found.reason), _name(found))
            return
        if found.copy is None:
            verdict = self._at_neither(row, copies, found)
            if verdict.status is Status.GONE:
                return
            if (found.certain and copies.moves) or (not found.certain and row.disposal in _LEAVING):
                self._lose(case, row, Fact(row.uid, 0, row.listed_octets), found)
            else:
                self._results.tell(case, verdict, _name(found))
        elif not found.copy.claimed:
            self.settle(case, Original.of(row), None, found.copy, self._departed(row, None, KEPT))

    def settle(
        self, case: Case, original: Original, here: Fact | None, copy: Spotted, departed: Verdict | None = None
    ) -> None:
        """Compare a message with its copy, and claim that. `departed`: the status where nothing differs."""
        copies = self._copies(case)
        assert copies is not None, "a copy was found"
        box, tally = copies.box_of(copy), self._results.tally(case)
        verdict = self._compared(case, copies, original, here, copy)
        if copy.claimed:
            verdict = Verdict(Status.DIFFERENT, TWICE)
        elif departed is not None and verdict.status is not Status.DIFFERENT:
            verdict = departed
        self._results.scratch.claim(copy)
        tally.messages += 1
        tally.octets += copy.fact.octets
        tally.places.add(box.name)
        self._results.tell(case, verdict, box.name)

    def original(self, case: Case, here: Fact) -> bytes:
        """Returns a message as the source gives it; see `text`."""
        return text(self._source, self._results.mailboxes[case.mailbox].mailbox, here)

    # --- inside ----------------------------------------------------------------------------------------

    def _copies(self, case: Case) -> Copies | None:
        return self._results.destinations[case.destination].copies

    def _lose(self, case: Case, row: Known, here: Fact, found: Found) -> None:
        """Note a message whose copy is to be looked for."""
        number, place = (-1, "") if found.box is None else (found.box.number, found.box.name)
        lost = Lost(case, Original.of(row), here, number, place, found.reason, found.certain)
        self._results.scratch.lose(lost)

    def _departed(self, row: Known, here: Fact | None, text: str) -> Verdict | None:
        """Returns the status of a message that is not in the source any more; None where it is, or may be."""
        if here is not None or self._source.pages:
            return None
        return Verdict(Status.MOVED) if row.disposal in _LEAVING else Verdict(Status.GONE, text)

    def _at_neither(self, row: Known, copies: Copies, found: Found) -> Verdict:
        """Returns the status of a message that neither end has: only what was to stay is missed."""
        if row.disposal in _LEAVING or not copies.moves or self._source.pages:
            return Verdict(Status.REMOVED, found.reason)
        return Verdict(Status.GONE, AT_NEITHER)

    def _compared(self, case: Case, copies: Copies, original: Original, here: Fact | None, copy: Spotted) -> Verdict:
        compared = comparison.compare(original, here, copy.fact, copies.rules)
        if not compared.octets:
            return compared.verdict
        there = copies.confirmed(original, copy)
        compared = comparison.compare(original, here, there, copies.rules)
        recorded = copies.rules.altered(original.receipt)
        is_told = recorded.startswith(comparison.HOW)
        if recorded and there.sha256 is not None and (now := self._otherwise(case, copies, here, copy, recorded)):
            return Verdict(Status.DIFFERENT, f"altered {recorded}, as recorded, and since then: {now}")
        if here is not None and compared.octets and not is_told and (how := self._explain(case, copies, here, copy)):
            compared = comparison.compare(original, here, there, copies.rules, how)
        return compared.verdict

    def _otherwise(self, case: Case, copies: Copies, here: Fact | None, copy: Spotted, recorded: str) -> str:
        """Read an altered message at both ends; returns in what other way than recorded it differs now, "" in none."""
        if not copy.fact.octets:
            return "it has no octets any more"
        original = b"" if here is None else self.original(case, here)
        stored = text(copies.end, copies.box_of(copy).mailbox, copy.fact) if original else b""
        if not stored or stored == original:
            return ""
        if not recorded.startswith(comparison.HOW):
            return "; ".join(ways(crlf(original), stored)) if recorded.startswith(comparison.BY_US) else ""
        now = printable("; ".join(ways(original, stored)), MOST_HOW)
        return "" if now == recorded.removeprefix(comparison.HOW) else now

    def _explain(self, case: Case, copies: Copies, here: Fact, copy: Spotted) -> str:
        """Read a message at both ends; returns in what way it differs, empty where that cannot be told."""
        if self._explained >= MOST_EXPLAINED:
            return ""
        self._explained += 1
        original, stored = self.original(case, here), text(copies.end, copies.box_of(copy).mailbox, copy.fact)
        return "; ".join(ways(original, stored)) if original and stored else ""


def text(end: End, mailbox: Mailbox, fact: Fact) -> bytes:
    """Returns the octets of a message at one end; none where it does not come, or is larger than MOST_OCTETS."""
    body = None if fact.octets > MOST_OCTETS else end.body(mailbox, fact)
    if body is None:
        return b""
    with closing(body):
        return b"".join(body.chunks())


def _left(verdict: Verdict) -> str:
    """Returns why a message that is in the source no more was not delivered, where that is not only that it waits."""
    return LEFT if verdict.status is Status.WAITING else f"{LEFT}: {verdict.reason}"


def _name(found: Found) -> str:
    return "" if found.box is None else found.box.name
