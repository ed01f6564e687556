r"""Commands that take messages away: UID STORE of \Deleted, UID EXPUNGE, EXPUNGE, UID MOVE.

    store       = "UID STORE" SP sequence-set SP ("+" / "-") "FLAGS.SILENT" SP "(\Deleted)"    RFC 3501 §6.4.6
    uid-expunge = "UID EXPUNGE" SP sequence-set                                                RFC 4315 §2.1
    expunge     = "EXPUNGE"                                                                    RFC 3501 §6.4.3
    move        = "UID MOVE" SP sequence-set SP mailbox                                        RFC 6851 §3.2

Each waits for its answers, and raises Refused at the first no, and what a session raises. A set that is longer than a
command may be goes in several, which leave together.
"""

from __future__ import annotations

from typing import Final

from syncd.imap.encoder import Word
from syncd.imap.session import Command, Session
from syncd.imap.sets import UidSet
from syncd.imap.values import Verb

_DELETED: Final = Word(b"(\\Deleted)")


def mark(session: Session, uids: UidSet) -> None:
    r"""Put \Deleted on messages. Those that are not there any more are passed over."""
    _store(session, uids, Word(b"+FLAGS.SILENT"))


def unmark(session: Session, uids: UidSet) -> None:
    r"""Take \Deleted off messages."""
    _store(session, uids, Word(b"-FLAGS.SILENT"))


def uid_expunge(session: Session, uids: UidSet) -> None:
    r"""Remove those of these messages that have \Deleted, and no others. Only where UIDPLUS is announced."""
    _finish(
        session,
        [session.ask(Verb.UID_EXPUNGE, Word(piece.encode())) for piece in uids.pieces()],
        "the server does not remove messages",
    )


def expunge(session: Session) -> None:
    r"""Remove every message of the mailbox that has \Deleted, whoever put it there."""
    _finish(session, [session.ask(Verb.EXPUNGE)], "the server does not remove messages")


def uid_move(session: Session, uids: UidSet, name: bytes) -> None:
    """Move messages into the mailbox `name`. Only where MOVE is announced."""
    commands = [session.ask(Verb.UID_MOVE, Word(piece.encode()), name) for piece in uids.pieces()]
    _finish(session, commands, "the server does not move messages")


def _store(session: Session, uids: UidSet, sign: Word) -> None:
    commands = [session.ask(Verb.UID_STORE, Word(piece.encode()), sign, _DELETED) for piece in uids.pieces()]
    _finish(session, commands, "the server does not change flags")


def _finish(session: Session, commands: list[Command], what: str) -> None:
    for command in commands:
        session.finish(command)
    for command in commands:
        if command.status is not None and not command.status.ok:
            raise session.refused(command, what)
