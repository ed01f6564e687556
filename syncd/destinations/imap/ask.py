"""Asks a mailbox what became of messages that were about to be put into it: after a crash, or a reply that was lost.

Candidates are the messages from the intent's UIDNEXT on that are no other delivery's receipt; each stands for one
message at most.

    a candidate with equal octets                                   delivered
    … with an equal header, line ends made alike (I154, I162)       delivered, and altered by the destination
    … whose octets are equal with LF in place of each CRLF          the same
    no candidate is left, and none has gone meanwhile               surely not sent
    otherwise, or the mailbox was renumbered                        uncertain
    the mailbox is not opened, or a candidate is not given          not known now: to be asked again, and not sent;
                                                                    after PATIENCE uncertain

Several messages with one header may be on their way: where fewer candidates have it, none of these messages is matched
by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from syncd import clock
from syncd.destinations.imap.account import ImapAccount
from syncd.destinations.imap.targets import about_mailbox
from syncd.errors import MailboxRefused, Refused, SyncdError, Throttled, printable
from syncd.formats.line_ends import without_cr
from syncd.imap.client import Client
from syncd.imap.sets import LAST, UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems, Selected
from syncd.mail.body import Body, BodyWriter, header_hash
from syncd.mail.mailbox import INBOX
from syncd.mail.message import ALTERED as NOTE
from syncd.mail.message import Receipt, plain_hint
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict

CONVERTED: Final = f"{NOTE}by us: CRLF at the end of each line]"
MOST_HOW: Final = 200  # characters of the ways in which a message was altered
LINE_ENDS: Final = ("line ends are others",)
PATIENCE: Final = timedelta(days=3)  # with a mailbox that does not tell
ABSENT: Final = "it was not put into the mailbox before the session ended"
_MISSING: Final = frozenset({"NONEXISTENT", "TRYCREATE"})
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")

Taken = Callable[[Collection[str]], Collection[str]]  # hints → those that are receipts


def hint_of(name: bytes, validity: int, uid: int) -> str:
    """Returns the hint of a receipt: UIDVALIDITY, UID and the mailbox."""
    return f"{validity}:{uid} {name.decode('utf-8', 'backslashreplace')}"


def uid_in(hint: str) -> int:
    """Returns the UID of a hint that is not empty."""
    return int(hint.partition(" ")[0].partition(":")[2])


def altered(ways: Sequence[str] = ()) -> str:
    """Returns the note of a receipt whose message the destination has altered; `ways` are those that are known."""
    how = printable("; ".join(ways), MOST_HOW)
    return f"{NOTE}by the destination{': ' if how else ''}{how}]"


def without_note(hint: str) -> tuple[str, str]:
    """Returns a hint without its note, and who has altered the message: "", "by the destination: …", "by us: …"."""
    plain = plain_hint(hint)
    return plain, hint.removeprefix(plain).removeprefix(NOTE).removesuffix("]")


def ask(account: ImapAccount, intended: Sequence[Intended], taken: Taken) -> list[Outcome]:
    """Returns an outcome for each message, SENDING where its mailbox does not tell.

    Raises SyncdError where the destination cannot be asked now.
    """
    outcomes = [_uncertain(one, "it is not known where it was put") for one in intended if one.intent is None]
    places: dict[tuple[bytes, int], list[Intended]] = {}
    for one in intended:
        if one.intent is not None:
            places.setdefault((one.intent.place, one.intent.validity), []).append(one)
    for (name, validity), here in places.items():
        outcomes += _ask_mailbox(account, name, validity, here, taken)
    return outcomes


def _ask_mailbox(
    account: ImapAccount, name: bytes, validity: int, wanted: Sequence[Intended], taken: Taken
) -> list[Outcome]:
    client = account.client()
    try:
        with about_mailbox(client):
            opened = _opened(client, name)
    except MailboxRefused as error:
        if error.code in _MISSING or (name != INBOX and name not in account.names):
            return [_uncertain(one, f"the mailbox is not there any more: {error}") for one in wanted]
        return [_unknown(one, error) for one in wanted]
    try:
        if opened.uid_validity != validity:
            return [_uncertain(one, "the server has given the mailbox a new UIDVALIDITY") for one in wanted]
        return _Search(account, client, opened, wanted, taken).outcomes()
    except Refused as error:
        if client.over or isinstance(error, Throttled):
            raise
        return [_unknown(one, error) for one in wanted]
    finally:
        account.targets.pop(name, None)  # what is there now counts
        if not client.over:
            client.unselect().wait()


def _opened(client: Client, name: bytes) -> Selected:
    """EXAMINE. Courier tells UIDNEXT by STATUS alone, and rightly of a mailbox that is not open."""
    opened = client.examine(name).wait()
    if opened.uid_next is not None:
        return opened
    client.unselect().wait()
    status = client.status(name).wait()
    opened = client.examine(name).wait()
    opened.uid_next = opened.uid_next if status is None else status.uid_next
    return opened


class _Search:
    """The messages of one mailbox that are looked for, and the candidates."""

    def __init__(
        self, account: ImapAccount, client: Client, opened: Selected, wanted: Sequence[Intended], taken: Taken
    ) -> None:
        self._account = account
        self._client = client
        self._opened = opened
        self._left = list(wanted)
        self._taken = taken
        self._found: list[Outcome] = []

    def outcomes(self) -> list[Outcome]:
        first = min(_intent(one).following for one in self._left)
        sizes: dict[int, int] = {
            row.uid: row.size or 0
            for rows in self._client.rows(UidSet([(first, LAST)]), FetchItems(size=True))
            for row in rows
        }
        gone = self._opened.uid_next is None or not 0 <= self._opened.uid_next - first <= len(sizes)
        candidates = set(sizes) - self._receipts(sizes)
        octets = {one.octets for one in self._left}
        self._by_body([uid for uid in candidates if sizes[uid] in octets], candidates)
        self._by_header(candidates)
        longer = [uid for uid in candidates if any(one.octets < sizes[uid] <= 2 * one.octets for one in self._left)]
        self._by_body(longer, candidates, lf=True)
        return self._found + [self._unmatched(one, candidates, gone=gone) for one in self._left]

    def _unmatched(self, one: Intended, candidates: Collection[int], *, gone: bool) -> Outcome:
        if not gone and not any(uid >= _intent(one).following for uid in candidates):
            return Outcome(one.key, Verdict.NOT_SENT, reason=ABSENT, intent=one.intent)
        why = "messages that came later have gone" if gone else "other messages have come that are not equal to it"
        return _uncertain(one, f"it is not in the mailbox as it was sent, and {why}")

    def _receipts(self, uids: Iterable[int]) -> set[int]:
        """Returns the UIDs that are receipts."""
        name, validity = self._opened.name, self._opened.uid_validity or 0
        hints = {hint_of(name, validity, uid): uid for uid in uids}
        return {hints[hint] for hint in self._taken(hints)} if hints else set()

    def _by_body(self, uids: Sequence[int], candidates: set[int], *, lf: bool = False) -> None:
        """Match by all octets; with `lf=True` those that the message has with LF for each CRLF."""
        found: dict[int, bytes] = {}
        stream = self._client.bodies(FetchItems(body=True), self._new_body)
        try:
            if uids:
                stream.ask(UidSet.of(uids))
            while stream.in_flight:
                event = stream.next()
                if isinstance(event, Answered):
                    if event.refused is not None:
                        raise event.refused
                elif event.body is not None:
                    found[event.row.uid] = _with_lf(event.body) if lf else event.body.sha256
                    event.body.close()
        finally:
            stream.close()
        for uid, sha256 in sorted(found.items()):
            self._match(uid, candidates, partial(_has_octets, sha256), altered(LINE_ENDS) if lf else "")

    def _by_header(self, candidates: set[int]) -> None:
        found: dict[int, bytes] = {}
        stream = self._client.bodies(FetchItems(header=True), self._new_body)
        try:
            if self._left and candidates:
                stream.ask(UidSet.of(candidates))
            while stream.in_flight:
                event = stream.next()
                if isinstance(event, Answered):
                    if event.refused is not None:
                        raise event.refused
                elif event.row.header:
                    found[event.row.uid] = header_hash(_LINE_END.sub(b"\r\n", event.row.header))
        finally:
            stream.close()
        alike: dict[bytes, list[int]] = {}
        for uid, header in sorted(found.items()):
            alike.setdefault(header, []).append(uid)
        for header, uids in alike.items():
            mine = [one for one in self._left if _has_header(header, one)]
            if len(uids) < len(mine) and len({one.sha256 for one in mine}) > 1:
                continue  # nothing tells which of them has arrived
            for uid in uids:
                self._match(uid, candidates, partial(_has_header, header), altered())

    def _match(self, uid: int, candidates: set[int], equal: Callable[[Intended], bool], note: str) -> None:
        """Give a candidate to the first message that it is equal to."""
        one = next((one for one in self._left if uid >= _intent(one).following and equal(one)), None)
        if one is None:
            return
        self._left.remove(one)
        candidates.discard(uid)
        hint = hint_of(self._opened.name, _intent(one).validity, uid) + note
        receipt, is_altered = Receipt(one.sha256, hint), bool(note)
        self._found.append(Outcome(one.key, Verdict.DELIVERED, receipt, intent=one.intent, altered=is_altered))

    def _new_body(self, _uid: int, _octets: int) -> BodyWriter:
        return BodyWriter(self._account.spool)


def _with_lf(body: Body) -> bytes:
    digest = hashlib.sha256()
    for chunk in without_cr(body.chunks()):
        digest.update(chunk)
    return digest.digest()


def _has_octets(sha256: bytes, one: Intended) -> bool:
    return one.sha256 == sha256


def _has_header(found: bytes, one: Intended) -> bool:
    return one.header_hash == found


def _intent(one: Intended) -> Intent:
    assert one.intent is not None, "those without are not looked for"
    return one.intent


def _unknown(one: Intended, error: SyncdError) -> Outcome:
    if one.since is not None and clock.now() - one.since >= PATIENCE:
        return _uncertain(one, f"its mailbox has not told for {PATIENCE.days} days: {error}")
    return Outcome(one.key, Verdict.SENDING, reason=str(error), intent=one.intent)


def _uncertain(one: Intended, reason: str) -> Outcome:
    return Outcome(one.key, Verdict.UNCERTAIN, reason=reason, intent=one.intent)
