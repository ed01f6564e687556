"""Dialogues with IMAP servers as they really speak (`imap/*.txt`), each read whole, in pieces and octet by octet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import SyncdError
from syncd.imap.client import Client, Deadlines
from syncd.imap.fetch import instant
from syncd.imap.sets import UidSet
from syncd.imap.signin import sign_in
from syncd.imap.stream import Answered, Arrived
from syncd.imap.values import FetchItems, FetchRow, MailboxRow, Selected
from syncd.mail.body import BodyWriter, Spool
from syncd.mail.mailbox import path_of
from syncd.secret import Secret
from tests.support.dialogue import Dialogue, Played

FILES = sorted((Path(__file__).parent / "imap").glob("*.txt"))


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dialogue(file: Path, piece: int, tmp_path: Path):
    dialogue = Dialogue.read(file)
    transport = Played(dialogue, piece)
    client = Client(transport, Deadlines(), 1 << 20)
    assert list(told(client, tmp_path)) == dialogue.results
    transport.end()


def told(client: Client, spool: Path) -> Iterator[str]:
    """What a visit tells of a server, line by line."""
    try:
        yield from visit(client, spool)
        client.logout()
    except SyncdError as error:
        yield f"{type(error).__name__}: {str(error).removeprefix(client.address + ': ')}"


def visit(client: Client, spool: Path) -> Iterator[str]:
    """Sign in, list the mailboxes, and read every message of each."""
    client.open(None)
    credentials = Credentials("anna", Secret("secret"), "imap.example.net", 993)
    yield sign_in(client.session, "auto", credentials, allow_insecure=False)
    asked = client.enable("CONDSTORE"), client.namespace(), client.id({"name": "syncd"})
    rows = [row for chunk in client.mailboxes() for row in chunk]
    enabled, namespaces, identity = asked[0].wait(), asked[1].wait(), asked[2].wait()
    prefixes = [one.prefix.decode() + " " + one.delimiter.decode() for one in namespaces.personal]
    yield f"enabled {sorted(enabled)}, namespaces {prefixes}, server {identity.get('name', '')!r}"
    for row in rows:
        yield mailbox(row)
    for row in rows:
        if row.status is not None and row.status.messages:
            yield from contents(client, row, spool)


def contents(client: Client, row: MailboxRow, spool: Path) -> Iterator[str]:
    """Every message of a mailbox."""
    gmail = "X-GM-EXT-1" in client.capabilities
    opening = client.examine(row.name)
    items = FetchItems(size=True, flags=True, gmail_id=gmail, gmail_labels=gmail)
    listed = [one for rows in client.rows(UidSet.everything(), items) for one in rows]
    yield opened(opening.wait())
    for one in listed:
        yield message(one)
    stream = client.bodies(FetchItems(internal_date=True, body=True), lambda *_: BodyWriter(Spool(spool)))
    stream.ask(UidSet.of(one.uid for one in listed))
    while stream.in_flight:
        yield answer(stream.next())


def mailbox(row: MailboxRow) -> str:
    """One line for a mailbox."""
    path = "/".join(path_of(row.name, row.delimiter))
    words = [f"mailbox {path}", row.use, "" if row.subscribed else "not subscribed"]
    if row.status is not None:
        words += [f"{name} {value}" for name, value in row.status._asdict().items() if value]
    return " ".join(filter(None, words))


def opened(selected: Selected) -> str:
    """One line for a mailbox that was opened."""
    return (
        f"opened {selected.name.decode()}: {selected.exists} messages, validity {selected.uid_validity}, "
        f"next {selected.uid_next}, modseq {selected.modseq}"
    )


def message(row: FetchRow) -> str:
    """One line for a message of a listing."""
    words = [f"uid {row.uid} size {row.size} flags {' '.join(row.flags or ())}".strip()]
    if row.gmail_id is not None:
        words.append(f"gmail {row.gmail_id} {[label.decode() for label in row.labels or ()]}")
    return " ".join(words)


def answer(event: Arrived | Answered) -> str:
    """One line for what a stream of bodies gives."""
    if isinstance(event, Answered):
        refused = f", {type(event.refused).__name__}" if event.refused is not None else ""
        return f"answered {event.uids.encode().decode()}, missing {event.missing.encode().decode() or 'none'}{refused}"
    date = instant(event.row.internal_date or b"")
    if event.body is None:
        return f"body {event.row.uid} NIL"
    octets = b"".join(event.body.chunks())
    return f"body {event.row.uid} {len(octets)} octets {hashlib.sha256(octets).hexdigest()[:8]} of {date}"
