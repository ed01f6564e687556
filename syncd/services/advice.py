"""Advice on a destination that is a server, before mail goes there: SPF, DMARC, loops; what it alters (pure).

Each server judges redelivered mail by its own rules; these are the usual reasons for a refusal. `docs/redelivery.md`
explains them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from syncd.settings.delivery import AsItIs, JobDestination
from syncd.settings.load import Loaded
from syncd.settings.relayed import come_back, sender_choice
from syncd.settings.schema import Account, Job, Protocol, Settings

CYRUS: Final = (
    "Cyrus writes X for each 8-bit octet in the header of a message, unless its munge8bit is off; such messages are"
    " read back and recorded as altered. It refuses messages with NUL or without a proper header: they wait for you."
    " Lines that end with LF alone are sent to it with CRLF"
)  # I153, I154


def advice(loaded: Loaded, name: str, announced: Sequence[str]) -> tuple[str, ...]:
    """Returns notes on the account `name` as every job uses it; `announced` are the lines of its EHLO or LHLO."""
    settings = loaded.settings
    account = settings.accounts[name]
    words = frozenset(line.upper().split(" ")[0] for line in announced)
    found = (
        f"job {job_name}: {note}"
        for job_name, job in settings.jobs.items()
        for to in job.destinations
        if to.to == name and job.enabled
        for note in (
            *_on_sender(account, to),
            *_on_content(account, to, words),
            *_on_loops(settings, job, to),
        )
    )
    return tuple(dict.fromkeys(found))


def takes_mail(settings: Settings, name: str) -> bool:
    """Returns whether an enabled job delivers to the account or archive `name`."""
    return any(to.to == name for job in settings.jobs.values() if job.enabled for to in job.destinations)


def is_read(settings: Settings, name: str) -> bool:
    """Returns whether a job reads the account or archive `name`, or none has anything to do with it."""
    return any(job.source == name for job in settings.jobs.values()) or not takes_mail(settings, name)


def imap_advice(settings: Settings, name: str, server: str) -> tuple[str, ...]:
    """Returns notes on the IMAP account `name`, whose server calls itself `server`."""
    return (CYRUS,) if "cyrus" in server.lower() and takes_mail(settings, name) else ()


def _on_sender(account: Account, to: JobDestination) -> Iterator[str]:
    """SPF asks whether this server may send for the envelope sender's domain; DMARC, for the domain of From."""
    choice = sender_choice(to, account)
    if account.protocol is Protocol.LMTP:
        return  # LMTP is final delivery: nobody checks
    if choice == "original":
        yield (
            f'sender = "original": SPF of the original senders\' domains does not name {account.host}; where DMARC is '
            'strict, mail without a valid DKIM signature is refused (550 5.7.26). Safer: sender = "account"'
        )
    elif choice == "empty" and account.username:
        yield (
            'sender = "empty": some servers do not let users who have signed in send with the null sender; '
            "if every message is refused, set sender to one of your addresses"
        )
    elif choice not in {"account", "empty", (account.username or "")} and account.username:
        yield (
            f'sender = "{choice}": the server may refuse this sender from {account.username} (5.7.60, 5.7.1), unless '
            "that address is an alias there"
        )
    domain = (account.username or "").rpartition("@")[2].lower()
    strangers = [address for address in to.recipient or () if address.rpartition("@")[2].lower() != domain]
    if choice != "original" and domain and strangers:
        yield (
            f"{strangers[0]} is at another domain than {account.username}: its server sees mail whose From is not of "
            "the sender's domain, so DMARC depends on the original DKIM signatures; look into its spam folder"
        )


def _on_content(account: Account, to: JobDestination, words: frozenset[str]) -> Iterator[str]:
    sends = to.eight_bit is AsItIs.SEND or (account.protocol is Protocol.LMTP and to.eight_bit is None)
    if "8BITMIME" not in words and not sends:
        yield 'the server does not announce 8BITMIME: 8-bit messages are rejected. To send them: eight_bit = "send"'
    if "CHUNKING" not in words and to.long_lines is AsItIs.REFUSE:
        yield "the server does not announce CHUNKING: messages with lines over 998 octets are rejected"


def _on_loops(settings: Settings, job: Job, to: JobDestination) -> Iterator[str]:
    if to.trace is False:
        yield "trace = false: mail that comes back is not recognised, and goes round in a loop"
    for source, address in come_back(job, to, settings):
        yield (
            f'{address} is also the mailbox that "{source}" reads. This is right if that mailbox moves to another '
            "server; otherwise each message comes back once and is then rejected as a mail loop"
        )
