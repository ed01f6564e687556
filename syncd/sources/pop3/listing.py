"""STAT, LIST and UIDL of one POP3 session, in one flight, joined by message number.

Sizes are kept, 8 octets a message; unique-ids stream by. The three must agree on how many messages there are.
Mail that arrives between their answers makes them differ once (P10): then they are asked again and the rows go
on where the first round ended, for numbers stay the same in a session (RFC 1939 §4).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from syncd.errors import Refused, Unsupported, printable
from syncd.pop3 import grammar
from syncd.pop3.client import Client
from syncd.pop3.refusals import refusal
from syncd.pop3.values import CAPA, LIST, STAT, UIDL
from syncd.sources.base import Listed, Totals

CHUNK_ROWS = 1000
SLIPPED_IN_MESSAGES = 1000  # more in one flight is not new mail but a listing without end
MOST_MESSAGES = 10_000_000  # whose sizes take 80 MB; a server that counts more is not believed
_ROUNDS = 2


class Listing:
    """The listing of one session; `rows` may be run through more than once, and asks anew each time."""

    def __init__(self, client: Client, *, capa_again: bool) -> None:
        """`capa_again`: have the capabilities answered anew in the same flight."""
        self._client = client
        self._capa_again = capa_again
        self._totals: Totals | None = None
        self._open = False  # STAT is read, LIST and UIDL are not
        self._seen = 0  # rows of UIDL's answer

    def totals(self) -> Totals:
        """What STAT said, the last time it was asked."""
        return self._totals or self._ask()

    def settle(self) -> None:
        """Before any other command: read off, or take back, what was asked and never read."""
        if self._open:
            self._open = False
            self._client.drop_unsent()
            while self._client.in_flight:
                self._client.event()

    def rows(self) -> Iterator[list[Listed]]:
        """Every message in chunks of at most CHUNK_ROWS. Raises RemoteProtocolError, Refused (no UIDL: P01)."""
        client, given, said = self._client, 0, ""
        for _ in range(_ROUNDS):
            totals = self._totals if self._open and self._totals else self._ask()
            if not totals.messages:
                self.settle()  # some servers answer -ERR to LIST and UIDL when there is nothing to list
                return
            sizes = self._sizes(totals)
            self._open = False
            for chunk in self._numbered(sizes, given):
                given += len(chunk)
                yield chunk
            if totals.messages == len(sizes) == self._seen:
                return
            said = f"STAT counts {totals.messages} messages, LIST {len(sizes)}, UIDL {self._seen}"
        raise client.nonsense(f"the listings contradict each other: {said}")

    def _ask(self) -> Totals:
        client = self._client
        for verb in (*([CAPA] if self._capa_again else []), STAT, LIST, UIDL):
            client.ask(verb)
        if self._capa_again:
            self._capa_again = False
            client.read_capa()
        answer = client.status()
        if not answer.ok:
            raise refusal(client.address, "the server refuses STAT", STAT, answer)
        with client.naming():
            self._totals = Totals(*grammar.drop_listing(answer.text))
        if self._totals.messages > MOST_MESSAGES:
            raise client.nonsense(
                f"STAT counts {self._totals.messages:,} messages; more than {MOST_MESSAGES:,} cannot be"
            )
        self._open = True
        return self._totals

    def _sizes(self, totals: Totals) -> array[int]:
        """LIST's answer; `sizes[n - 1]` is message n's."""
        client, sizes = self._client, array("Q")
        for lines in client.lines():
            with client.naming():
                sizes.extend(grammar.scan_listings(lines, len(sizes)))
            self._check_end("LIST", len(sizes), totals.messages)
        return sizes

    def _numbered(self, sizes: array[int], given: int) -> Iterator[list[Listed]]:
        """UIDL's answer with sizes, without the first `given` rows; counts in `_seen`."""
        rows: list[Listed] = []
        self._seen = 0
        for ids in self._unique_ids():
            before, self._seen = self._seen, self._seen + len(ids)
            self._check_end("UIDL", self._seen, len(sizes))
            skip = min(max(given - before, 0), len(ids))
            known = sizes[before + skip : self._seen]  # may be fewer: what has no size has just arrived
            rows.extend(map(Listed, range(before + skip + 1, self._seen + 1), ids[skip:], known))
            while len(rows) >= CHUNK_ROWS:
                yield rows[:CHUNK_ROWS]
                del rows[:CHUNK_ROWS]
        if rows:
            yield rows

    def _unique_ids(self) -> Iterator[list[bytes]]:
        client, after = self._client, 0
        try:
            for lines in client.lines():
                with client.naming():
                    ids = grammar.unique_ids(lines, after)
                after += len(ids)
                yield ids
        except Refused as error:
            if error.code or "UIDL" in client.capabilities:
                raise
            raise Unsupported(
                f"{client.address}: the server does not know UIDL (“{printable(error.text)}”), and without it messages "
                "cannot be told apart from one session to the next; such a server cannot be used yet",
                command=UIDL.name,
            ) from error

    def _check_end(self, verb: str, rows: int, messages: int) -> None:
        if rows > messages + SLIPPED_IN_MESSAGES:
            raise self._client.nonsense(f"{verb} goes on after {rows} messages, where there should be {messages}")
