"""STAT, LIST and UIDL of one POP3 session, in one flight, joined by message number.

Sizes are kept, 8 octets a message; unique-ids stream by. The three must agree on how many messages there are.
Mail that arrives between their answers makes them differ once (P10): then they are asked again and the rows go
on where the first round ended, for numbers stay the same in a session (RFC 1939 §4). STAT alone may be wrong (P53):
LIST and UIDL are believed when they agree twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import cast

from syncd.errors import Refused, RemoteProtocolError, Unsupported, printable
from syncd.mail.listing import LineNumber, Listed, Totals
from syncd.mail.message import Uid
from syncd.pop3 import grammar
from syncd.pop3.client import Client
from syncd.pop3.quirks import Quirks, is_padded
from syncd.pop3.refusals import refusal
from syncd.pop3.values import CAPA, LIST, STAT, UIDL

CHUNK_ROWS = 1000
SLIPPED_IN_MESSAGES = 1000  # more in one flight is not new mail but a listing without end
MOST_MESSAGES = 10_000_000  # whose sizes take 80 MB; a server that counts more is not believed
_ROUNDS = 2


class Listing:
    """The listing of one session. `rows` may be run through more than once, and asks again each time.

    `sizes[n - 1]` are the octets of message n, as of the last listing; 0 if the server gives no number (P51).
    """

    def __init__(self, client: Client, quirks: Quirks, *, capa_again: bool) -> None:
        """`capa_again`: ask for the capabilities again in the same flight."""
        self.sizes: array[int] = array("Q")
        self._client = client
        self._session = client.session
        self._quirks = quirks
        self._capa_again = capa_again
        self._counted: int | None = None  # messages, by STAT; None if it gives no number
        self._totals: Totals | None = None
        self._open = False  # STAT is read, LIST and UIDL are not
        self._seen = 0  # rows of UIDL's answer

    def totals(self) -> Totals:
        """Returns what the last listing has, or what STAT says if there was none."""
        if self._totals is None:
            self._ask()
        return self._totals or Totals(0, 0)

    def drain(self) -> None:
        """Before any other command: take back commands that were not sent, read off answers that nobody read."""
        if self._open:
            self._open = False
            self._session.drop_unsent()
            while self._session.in_flight:
                self._session.event()

    def rows(self) -> Iterator[list[Listed]]:
        """Every message in chunks of at most CHUNK_ROWS. Raises RemoteProtocolError, Refused (no UIDL: P01)."""
        given, said, before = 0, "", None
        for _ in range(_ROUNDS):
            if not self._open:
                self._ask()
            if not self._read_sizes():
                self.drain()  # some servers answer -ERR to UIDL when there is nothing to list
                return
            self._open = False
            for chunk in self._numbered(given):
                given += len(chunk)
                yield chunk
            counts = (self._counted, len(self.sizes), self._seen)
            agree = len(self.sizes) == self._seen
            if agree and (self._counted in {None, self._seen} or (counts == before and self._seen)):
                self._note(stat_differs=self._counted != self._seen)
                return
            before = counts
            said = f"STAT counts {self._counted} messages, LIST {len(self.sizes)}, UIDL {self._seen}"
        raise self._session.nonsense(f"the listings contradict each other: {said}")

    def _ask(self) -> None:
        session = self._session
        for verb in (*([CAPA] if self._capa_again else []), STAT, LIST, UIDL):
            session.ask(verb)
        if self._capa_again:
            self._capa_again = False
            self._client.read_capa()
        answer = session.status()
        if not answer.ok:
            raise refusal(session.address, "the server refuses STAT", STAT, answer)
        try:
            messages, octets = grammar.drop_listing(answer.text)
        except RemoteProtocolError:
            if session.pipelines:  # the answer may be that of another command
                with session.naming():
                    raise
            self._counted, self._totals = None, Totals(0, 0)
        else:
            self._counted, self._totals = messages, Totals(messages, octets or 0)
        self._check_most(STAT.name, self._totals.messages)
        self._open = True

    def _read_sizes(self) -> bool:
        """Read LIST's answer. Returns False if there is nothing to list."""
        session, sizes = self._session, array("Q")
        self.sizes = sizes
        try:
            for lines in session.lines():
                with session.naming():
                    found = grammar.scan_listings(lines, len(sizes), sure=not session.pipelines)
                sizes.extend(octets or 0 for octets in found)
                self._check_most(LIST.name, len(sizes))
                if None in found:
                    self._quirks.note("P51", session.address)
                if is_padded(lines):
                    self._quirks.note("P50", session.address)
        except Refused:
            if self._counted:
                raise
        return bool(sizes) or bool(self._counted)

    def _numbered(self, given: int) -> Iterator[list[Listed]]:
        """UIDL's answer with sizes, without the first `given` rows; counts in `_seen`."""
        rows: list[Listed] = []
        self._seen = 0
        for ids in self._unique_ids():
            before, self._seen = self._seen, self._seen + len(ids)
            if self._seen > len(self.sizes) + SLIPPED_IN_MESSAGES:
                where = f"{len(self.sizes)} messages"
                raise self._session.nonsense(f"UIDL goes on after {self._seen} messages, where there should be {where}")
            skip = min(max(given - before, 0), len(ids))
            known = self.sizes[before + skip : self._seen]  # may be fewer: what has no size has just arrived
            numbers = cast("Iterable[LineNumber]", range(before + skip + 1, self._seen + 1))
            rows.extend(map(Listed, numbers, cast("list[Uid]", ids)[skip:], known))
            while len(rows) >= CHUNK_ROWS:
                yield rows[:CHUNK_ROWS]
                del rows[:CHUNK_ROWS]
        if rows:
            yield rows

    def _unique_ids(self) -> Iterator[list[bytes]]:
        session, after = self._session, 0
        try:
            for lines in session.lines():
                with session.naming():
                    ids = grammar.unique_ids(lines, after)
                if is_padded(lines):
                    self._quirks.note("P50", session.address)
                after += len(ids)
                yield ids
        except Refused as error:
            if error.code or "UIDL" in session.capabilities:
                raise
            raise Unsupported(
                f"{session.address}: the server does not know UIDL (“{printable(error.text)}”), and without it "
                "messages cannot be told apart from one session to the next; such a server cannot be used yet",
                command=UIDL.name,
            ) from error

    def _check_most(self, verb: str, messages: int) -> None:
        if messages > MOST_MESSAGES:
            raise self._session.nonsense(f"{verb} counts {messages:,} messages; more than {MOST_MESSAGES:,} cannot be")

    def _note(self, *, stat_differs: bool) -> None:
        """Keep what the listing has, and note what was odd."""
        octets = self._totals.octets if self._totals is not None and not stat_differs else 0
        self._totals = Totals(self._seen, octets or sum(self.sizes))
        if stat_differs:
            self._quirks.note("P53", self._session.address)
        if self._session.passed:
            self._quirks.note("P50", self._session.address)
