"""Mail goes from account to account, into an archive, and from there into a third account: nothing is lost on the way.

    first (Dovecot) → second (Dovecot, other names) → packs → last (Dovecot, Cyrus, mailutils)

Whatever the last server does not keep as it is, the report names, and nothing else.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.errors import printable
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Entry, Status
from syncd.settings.load import Loaded, load
from syncd.sources.packs import PacksSource
from tests.servers import courier, cyrus, mailutils
from tests.servers.imap import FLAVOURS, PASSWORD, ImapServer, Letter, Login, dovecot, fill
from tests.servers.test_imap_destination import letters
from tests.support import mail
from tests.support.accounts import Holdings, by_uid, filled, of_account, of_packs

pytestmark = pytest.mark.servers
NAMES = ("INBOX", "Sent", "Projekte/M&APw-ller/2019", "R&-D")
FLAGS = ((), ("\\Seen",), ("\\Answered", "\\Flagged", "$Work"))
DATES = ("17-Jul-1996 02:44:25 -0700", "29-Feb-2004 23:59:59 +0000")


class Last(NamedTuple):
    """The kind of server at the end, how it separates the levels of names, and its prefix."""

    kind: str
    delimiter: str = "/"
    prefix: str = ""


LAST = (Last("Dovecot"), Last("Cyrus", ".", "INBOX."), Last("mailutils"))


@contextmanager
def started(last: Last, plain: ImapServer) -> Iterator[ImapServer]:
    """The last server: the first one once more, or of another kind."""
    if last.kind == "Dovecot":
        yield plain
        return
    if reason := cyrus.missing() if last.kind == "Cyrus" else mailutils.missing():
        pytest.skip(reason)
    with cyrus.Cyrus() if last.kind == "Cyrus" else mailutils.Mailutils() as other:
        yield other


class Chain:
    """Jobs from account to account; by default the three of the chain."""

    WAYS: ClassVar = {"across": ("first", "second"), "down": ("second", "home"), "up": ("home", "last")}

    def __init__(
        self, directory: Path, logins: dict[str, Login], ways: Mapping[str, tuple[str, str]] = WAYS, *, job: str = ""
    ) -> None:
        """`ways`: source and destination of each job. `job` is more of each, in lines."""
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "imap"\nhost = "{it.host}"\nport = {it.port}\nsecurity = "none"\n'
            f'allow_insecure = true\nusername = "{it.username}"\npassword = "env:PASSWORD"\n'
            f"expunge_without_uidplus = true\n"
            for name, it in logins.items()
        )
        jobs = "".join(f'[jobs.{name}]\nsource = "{a}"\ndestinations = ["{b}"]\n{job}' for name, (a, b) in ways.items())
        self.file = directory / "syncd.toml"
        self.file.write_text(f'state_directory = "state"\n[archives]\nhome = {{ path = "home" }}\n{accounts}{jobs}')

    def loaded(self) -> Loaded:
        return load(self.file, environment={"PASSWORD": PASSWORD})

    def run(self, job: str) -> tuple[ExitCode, int]:
        """Run one job; returns its exit code and how much it delivered."""
        [report] = RunsByHand(self.loaded(), [job], RunOptions(), lambda _: None).execute()
        return report.exit_code, sum(report.delivered.values())

    def verify(self, job: str) -> tuple[Counter[Status], list[Entry]]:
        with Verification(self.loaded(), job, read=True) as verification:
            proof = verification.execute()
            entries = list(proof.entries())
        counts = sum((tally.counts for box in proof.mailboxes for tally in box.tallies), Counter[Status]())
        return counts, entries


def spread(some: list[bytes]) -> dict[str, list[Letter]]:
    """Mail in several mailboxes, with flags and dates."""
    found: dict[str, list[Letter]] = {name: [] for name in NAMES}
    ways = itertools.cycle(itertools.product(NAMES, FLAGS, DATES))
    for octets, (name, flags, date) in zip(some, ways, strict=False):
        found[name].append(Letter(octets, flags, date))
    return found


def test_a_chain(tmp_path: Path) -> None:
    goes_through(LAST[0], tmp_path, letters()[::3])


@pytest.mark.soak
@pytest.mark.parametrize("last", LAST, ids=lambda last: last.kind)
def test_a_chain_of_real_mail(last: Last, tmp_path: Path) -> None:
    """The corpus, where there is one, and what the project ships."""
    goes_through(last, tmp_path, [*letters(), *mail.corpus()])


def named(entries: list[Entry], archive: Path) -> Holdings:
    """The messages that entries name, as the archive has them."""
    had = by_uid(PacksSource(archive, archive / "spool"))
    found: Holdings = defaultdict(Counter)
    for entry in entries:
        found[entry.mailbox][{printable(uid): it for uid, it in had[entry.mailbox].items()}[entry.uid]] += 1
    return dict(found)


def lacking(expected: Holdings, there: Holdings) -> Holdings:
    """The messages that are not there as they are expected."""
    return filled({path: box - there.get(path, Counter()) for path, box in expected.items()})


def goes_through(last: Last, directory: Path, some: list[bytes]) -> None:
    with ExitStack() as servers:
        plain = servers.enter_context(dovecot(FLAVOURS["slash"]))
        other = servers.enter_context(dovecot(FLAVOURS["dot"]))
        logins = {"first": plain.user("first"), "second": other.user("second")}
        logins["last"] = servers.enter_context(started(last, plain)).user("last")
        fill(logins["first"], spread(some))
        chain = Chain(directory, logins)
        expected = filled(of_account(logins["first"], "/"))
        total = sum(box.total() for box in expected.values())
        for job in ("across", "down"):
            assert chain.run(job) == (ExitCode.DONE, total)
            assert chain.verify(job) == ({Status.EQUAL: total}, [])
        assert filled(of_account(logins["second"], ".", "INBOX.")) == expected
        assert filled(of_packs(directory / "home")) == expected
        chain.run("up")
        there = filled(of_account(logins["last"], last.delimiter, last.prefix))
        counts, entries = chain.verify("up")
        assert counts.total() == total
        assert named(entries, directory / "home") == lacking(expected, there)
        assert chain.run("up")[1] == 0, "a second run delivers nothing"
        if last.kind == "Dovecot":
            assert there == expected
        assert sum(box.total() for box in there.values()) == total - counts[Status.REJECTED], (
            "each message is there once"
        )
        assert not counts[Status.REMOVED]


@pytest.mark.soak
@pytest.mark.parametrize("kind", [courier.Courier, mailutils.Mailutils])
def test_mail_moves_away(kind: type[courier.Courier | mailutils.Mailutils], tmp_path: Path) -> None:
    """Courier has no MULTIAPPEND and its own names, mailutils no UIDPLUS and no dates."""
    if reason := courier.missing() if kind is courier.Courier else mailutils.missing():
        pytest.skip(reason)
    delimiter, prefix = (".", "INBOX.") if kind is courier.Courier else ("/", "")
    with dovecot(FLAVOURS["slash"]) as plain, kind() as server:
        old, new = server.user("old"), plain.user("new")
        well = [octets for octets in letters() if octets.startswith(b"X-Number: ")]
        names = [name if name == "INBOX" else prefix + name.replace("/", delimiter) for name in NAMES]
        fill(
            old,
            {
                name: [
                    Letter(octets, flags)
                    for octets, flags in zip(well[at::4], itertools.cycle(FLAGS[:2]), strict=False)
                ]
                for at, name in enumerate(names)
            },
        )
        ways = {"away": ("old", "new")}
        chain = Chain(tmp_path, {"old": old, "new": new}, ways, job='mode = "move"\nconfirm_removal = true\n')
        before = octets_of(of_account(old, delimiter, prefix))
        assert chain.run("away")[1] == len(well)
        assert octets_of(of_account(new, "/")) == before
        # EXPUNGE of mailutils leaves one message of each mailbox, which the next run finds.
        assert chain.run("away") == (ExitCode.DONE, 0)
        assert not filled(of_account(old, delimiter, prefix))
        assert chain.verify("away") == ({Status.MOVED: len(well)}, [])


def octets_of(holdings: Holdings) -> dict[tuple[str, ...], Counter[bytes]]:
    """The octets of all messages: mailutils has a date of the moment for each."""
    return {path: Counter(one.octets for one in box.elements()) for path, box in filled(holdings).items()}
