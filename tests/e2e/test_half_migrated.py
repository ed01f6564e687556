"""An account that imapsync has half migrated is finished. `tests/support/imapsync.pl` stands in for imapsync."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.services.verify.values import Status
from tests.e2e.test_imap_migration import Bench
from tests.e2e.test_verify import verified
from tests.servers.imap import FLAVOURS, PASSWORD, Letter, Login, Shown, dovecot, fill, shown
from tests.support import imapsync

SEEN, WORK = ("\\Seen", "$Work"), ("\\Flagged", "\\Answered", "Later")
YEARS = [f"0{year % 9 + 1}-Feb-20{year:02} 03:04:05 +0000" for year in range(30)]


def mail(number: int, subject: bytes = b"hello") -> bytes:
    return b"Message-ID: <%d@example.org>\r\nSubject: %b\r\n\r\nbody %d\r\n" % (number, subject, number)


def draft(word: bytes) -> bytes:
    """Without Message-Id and Received; all drafts have equal headers, and words of one length make equal sizes."""
    return b"From: anna@example.org\r\nSubject: draft\r\n\r\nReceived: %b\r\n" % word


def contents(
    found: dict[str, list[Shown]], *, added: bool = True
) -> dict[str, Counter[tuple[bytes, frozenset[str], str]]]:
    """Octets, flags and dates by mailbox, without the old server's prefix; without imapsync's lines unless `added`."""
    kept = {}
    for name, messages in found.items():
        level = name.removeprefix("INBOX.").replace(".", "/")
        kept[level] = Counter(
            (one.octets if added else one.octets.partition(b"@imapsync>\r\n")[2] or one.octets, one.flags, one.date)
            for one in messages
        )
    return kept


def copied(old: Login, new: Login, *options: str) -> None:
    done = subprocess.run(
        imapsync.command(old[:3], new[:3], *options),
        env={**os.environ, "PASSWORD": PASSWORD},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.servers
@pytest.mark.parametrize("options", [(imapsync.ADD_HEADER,), ()])
def test_what_imapsync_began_is_finished(tmp_path: Path, options: tuple[str, ...]) -> None:
    with dovecot(FLAVOURS["dot"]) as before, dovecot(FLAVOURS["slash"]) as after:
        old, new = before.user("anna"), after.user("anna")
        several = [Letter(mail(number), SEEN if number % 2 else WORK, YEARS[number]) for number in range(6)]
        odd = [
            Letter(mail(6, "Grüße".encode()), SEEN, YEARS[6]),
            Letter(mail(7, b"Gr\xfc\xdfe \xff"), (), YEARS[7]),
            *[Letter(mail(8), (), YEARS[8])] * 2,
            *[Letter(draft(word), WORK, YEARS[9]) for word in (b"one", b"two", b"two")],
            Letter(mail(9), ("\\Deleted",), YEARS[10]),
        ]
        fill(old, {"INBOX": odd, "INBOX.Projekte.M&APw-ller.2019": [*odd[4:7], *several], "INBOX.Sent": several})
        copied(old, new, "--most", "12", *options)
        half = shown(new)
        assert sum(map(len, half.values())) == 12
        lines = sum(b"@imapsync>" in one.octets for messages in half.values() for one in messages)
        assert lines == (6 if options else 0)

        bench = Bench(tmp_path, old[:3], new[:3], skip_existing="true")
        assert bench.run().exit_code is ExitCode.DONE
        finished = shown(new)
        assert contents(finished, added=False) == contents(shown(old)), "every message once, flags and dates as before"
        assert all(contents(half)[name] <= contents(finished)[name] for name in half), (
            "nothing of imapsync's is touched"
        )
        assert sum("altered" in receipt for receipt in bench.receipts()) == lines
        found = verified(bench, read=True)
        [deleted] = [entry for entry in found.entries if entry.status is Status.DIFFERENT]
        assert (deleted.mailbox, deleted.reason) == (("INBOX",), "flags: at the destination with \\Deleted")
        assert found.counts[Status.ALTERED] == lines
        assert (found.counts[Status.EQUAL], found.report.others) == (22 - lines, ())

        assert bench.run().delivered == {}
        copied(old, new)
        assert shown(new) == finished, "nor does imapsync find anything that is missing"
