"""The rows about IMAP accounts: against mbsync in pairs, and with nothing new in one mailbox or in a thousand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.measure import Command, RunFailed, Usage, in_turn, median_wall, run
from tests.bench.programs import (
    Access,
    Program,
    executable,
    getmail,
    private,
    syncd_command,
    syncd_configuration,
)
from tests.bench.rows import (
    FAR_LARGE,
    FAR_S,
    FAR_SMALL,
    FEWER,
    GIANT_OCTETS,
    LARGE,
    MIB,
    SMALL,
    TLS,
    Result,
    Row,
    Runs,
    Setting,
)
from tests.bench.stage import PASSWORD, SEED, Stage
from tests.bench.verify import maildir_messages, pack_messages
from tests.fakes.imap import PASSWORD as PASSWORD_OF_FAKE
from tests.fakes.imap import USERNAME, FakeImap
from tests.servers import cyrus
from tests.servers.imap import Login, signed_in
from tests.support import mail

_ADDED = re.compile(rb"^X-(?:TUID|getmail-retrieved-from-mailbox): [^\n]*\n", re.MULTILINE)
MAILBOXES = 1_000
IN_EACH = 100  # messages
FEWER_MAILBOXES, IN_SMALL = 300, 10
LISTED = 1_000_000


def _mbsync(access: Access, directory: Path) -> Command:
    tls = f"SSLType IMAPS\nCertificateFile {access.ca_file}\n" if access.ca_file else "SSLType None\n"
    (directory / "Maildir").mkdir()
    text = (
        f"IMAPAccount bench\nHost {access.host}\nPort {access.port}\nUser {access.user}\nPass {access.password}\n"
        f"AuthMechs PLAIN\n{tls}\nIMAPStore far\nAccount bench\n\n"
        f"MaildirStore near\nPath {directory}/Maildir/\nInbox {directory}/Maildir/INBOX\nSubFolders Verbatim\n\n"
        "Channel bench\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nSyncState *\n"
    )
    return Command([executable("mbsync"), "--quiet", "--config", str(private(directory / "mbsyncrc", text)), "bench"])


def _offlineimap(access: Access, directory: Path) -> Command:
    text = (
        f"[general]\naccounts = bench\nmetadata = {directory}/state\nui = quiet\nfsync = yes\n"
        "[Account bench]\nlocalrepository = near\nremoterepository = far\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {directory}/Maildir\n"
        f"[Repository far]\ntype = IMAP\nremotehost = {access.host}\nremoteport = {access.port}\n"
        f"remoteuser = {access.user}\nremotepass = {access.password}\nauth_mechanisms = PLAIN\n"
        "ssl = no\nstarttls = no\nreadonly = yes\n"
    )
    return Command([executable("offlineimap"), "-o", "-c", str(private(directory / "offlineimaprc", text))])


def _syncd(access: Access, directory: Path, form: str) -> Path:
    """Both programs sign in by PLAIN."""
    file = syncd_configuration(access, directory, form)
    return private(file, file.read_text().replace('protocol = "pop3"', 'protocol = "imap"\nauth = "plain"'))


def _without_added(maildir: Path) -> Iterator[bytes]:
    """What mbsync or getmail stored, without the header field that it adds."""
    for message in maildir_messages(maildir):
        yield _ADDED.sub(b"", message, count=1)


MBSYNC = Program("mbsync → Maildir", _mbsync, lambda directory: _without_added(directory / "Maildir" / "INBOX"))
OFFLINEIMAP = Program(
    "OfflineIMAP → Maildir", _offlineimap, lambda directory: maildir_messages(directory / "Maildir" / "INBOX")
)
GETMAIL = Program(
    "getmail, IMAP → Maildir",
    lambda access, directory: getmail(access, directory, "IMAP"),
    lambda directory: _without_added(directory / "Maildir"),
    attempts=4,
)
PACKS = Program(
    "syncd, IMAP → packs",
    lambda access, directory: syncd_command(_syncd(access, directory, "packs"), "--quiet"),
    lambda directory: pack_messages(directory / "store"),
)
MAILDIR = Program(
    "syncd, IMAP → Maildir",
    lambda access, directory: syncd_command(_syncd(access, directory, "maildir"), "--quiet"),
    lambda directory: maildir_messages(directory / "store"),
)


def _access(stage: Stage, user: str, *, rtt_s: float = 0.0, tls: bool = False) -> Access:
    port = stage.server.imaps_port if tls else stage.server.imap_port
    return replace(stage.access(user, tls=tls), port=stage.distant(port, rtt_s) if rtt_s else port)


def _pair(key: str, ours: Program, setting: Setting, target: float, theirs: Program = MBSYNC) -> Row:
    def take(stage: Stage, pairs: int) -> Result:
        maildrop = setting.maildrop(stage)
        access = _access(stage, maildrop.user, rtt_s=FAR_S if setting.far else 0.0, tls=setting.tls)
        measured = in_turn(
            pairs, lambda: stage.pull(theirs, maildrop, access), lambda: stage.pull(ours, maildrop, access)
        )
        runs = [
            Runs(program.name, usages, maildrop.messages, maildrop.octets)
            for program, usages in ((theirs, measured.theirs), (ours, measured.ours))
        ]
        return Result(f"{measured.ratio:.2f}×", measured.ratio >= target, runs)

    return Row(key, f"{ours.name} against {theirs.name}, {setting}", f"≥ {target:g}×", take)


def _again(stage: Stage, access: Access, repeat: int) -> list[Usage]:
    """Runs with nothing new."""
    directory = stage.fresh()
    command = PACKS.prepare(access, directory)
    run(command, directory)
    return [run(command, directory) for _ in range(repeat)]


def _one_mailbox(stage: Stage, repeat: int) -> Result:
    maildrop = stage.small(10_000)
    usages = _again(stage, _access(stage, maildrop.user, rtt_s=FAR_S), repeat)
    wall = median_wall(usages)
    return Result(f"{wall:.2f} s", wall <= 0.75, [Runs(PACKS.name, usages, maildrop.messages, 0)])


def _many_mailboxes(stage: Stage, repeat: int) -> Result:
    stage.server.add_user("mailboxes", PASSWORD)
    return _nothing_new(stage, Login(stage.server.host, stage.server.imap_port, "mailboxes", PASSWORD), repeat)


def _many_mailboxes_of_cyrus(stage: Stage, repeat: int) -> Result:
    if reason := cyrus.missing():
        raise RunFailed(reason)
    return _nothing_new(stage, stage.keep(cyrus.Cyrus()).user("mailboxes"), repeat, "INBOX.")


def _nothing_new(stage: Stage, login: Login, repeat: int, prefix: str = "") -> Result:
    mailboxes = stage.scaled(MAILBOXES)
    fill(login, mailboxes, prefix)
    access = Access(login.host, stage.distant(login.port, FAR_S), login.username, login.password)
    usages = _again(stage, access, repeat)
    wall = median_wall(usages)
    return Result(f"{wall:.2f} s", wall <= 1.2, [Runs(PACKS.name, usages, mailboxes * IN_EACH, 0)])


def _first_run_of_many(stage: Stage, pairs: int) -> Result:
    user, mailboxes = "many", stage.scaled(FEWER_MAILBOXES)
    stage.server.add_user(user, PASSWORD)
    fill(Login(stage.server.host, stage.server.imap_port, user, PASSWORD), mailboxes, messages=IN_SMALL)
    access, count = _access(stage, user, rtt_s=FAR_S), mailboxes * IN_SMALL

    def first(program: Program) -> Usage:
        directory = stage.fresh()
        return run(program.prepare(access, directory), directory)

    measured = in_turn(pairs, lambda: first(MBSYNC), lambda: first(PACKS))
    runs = [
        Runs(program.name, usages, count, 0) for program, usages in ((MBSYNC, measured.theirs), (PACKS, measured.ours))
    ]
    return Result(f"{measured.ratio:.2f}×", None, runs)


def fill(login: Login, mailboxes: int, prefix: str = "", messages: int = IN_EACH) -> None:
    """Make mailboxes, each with the same messages."""
    first, *others = [f"{prefix}m{number}" for number in range(mailboxes)]
    with signed_in(login) as client:
        client.create(first)
        for message in mail.small(messages, seed=7, octets=500):
            client.append(first, "", "", message)
        client.select(first, readonly=True)
        for name in others:
            client.create(name)
            client.copy(f"1:{messages}", name)


def _memory_listing(stage: Stage, _repeat: int) -> Result:
    """A dry run, so that nothing is fetched, of a mailbox whose UIDs have gaps everywhere."""
    count = stage.scaled(LISTED)
    with million(count) as server:
        directory = stage.fresh()
        file = _syncd(Access(server.host, server.port, USERNAME, PASSWORD_OF_FAKE), directory, "packs")
        usage = run(syncd_command(file, "--quiet", "--dry-run"), directory)
    return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, [Runs(PACKS.name, [usage], count, 0)])


@contextmanager
def million(count: int) -> Iterator[FakeImap]:
    """A server that lists so many messages in INBOX, and has none of them."""
    last = 2 * count + 1
    with FakeImap() as server:
        status = b"(MESSAGES %d UIDNEXT %d UIDVALIDITY 7 HIGHESTMODSEQ 5)" % (count, last)
        server.replies["LIST"] = b'* LIST () "." INBOX\r\n* STATUS INBOX %b\r\n<tag> OK done\r\n' % status
        codes = b"* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT %d] x\r\n<tag> OK [READ-ONLY] done\r\n" % last
        server.replies["EXAMINE"] = b"* %d EXISTS\r\n%b" % (count, codes)
        rows = [b"* %d FETCH (UID %d RFC822.SIZE %d)\r\n" % (n, 2 * n, 2000 + n % 5000) for n in range(1, count + 1)]
        server.replies["UID FETCH"] = b"".join(rows) + b"<tag> OK done\r\n"
        yield server


def _memory_giant(stage: Stage, _repeat: int) -> Result:
    octets = int(GIANT_OCTETS * min(1.0, stage.scale))
    stage.server.add_user("imap-giant", PASSWORD)
    stage.server.deliver_stream("imap-giant", mail.huge(octets, SEED))
    directory = stage.fresh()
    usage = run(PACKS.prepare(_access(stage, "imap-giant"), directory), directory)
    return Result(f"{usage.rss / MIB:.0f} MiB", usage.rss <= 150 * MIB, [Runs(PACKS.name, [usage], 1, octets)])


ROWS = [
    _pair("imap-packs-large", PACKS, LARGE, 1.8),
    _pair("imap-packs-small", PACKS, SMALL, 3.5),
    _pair("imap-packs-large-far", PACKS, FAR_LARGE, 1.9),
    _pair("imap-packs-small-far", PACKS, FAR_SMALL, 4.5),
    _pair("imap-packs-large-tls", PACKS, TLS, 1.5),
    _pair("imap-maildir-large", MAILDIR, LARGE, 1.7),
    _pair("imap-maildir-small", MAILDIR, SMALL, 1.8),
    _pair("imap-maildir-large-far", MAILDIR, FAR_LARGE, 1.5),
    _pair("imap-maildir-small-far", MAILDIR, FAR_SMALL, 1.5),
    _pair("imap-maildir-large-tls", MAILDIR, TLS, 1.1),
    _pair("imap-maildir-offlineimap", MAILDIR, FEWER, 15, OFFLINEIMAP),
    _pair("imap-maildir-getmail", MAILDIR, FEWER, 15, GETMAIL),
    Row("imap-nothing-new", "IMAP, nothing new, one mailbox of 10,000 at 40 ms", "≤ 0.75 s", _one_mailbox),
    Row(
        "imap-nothing-new-mailboxes",
        f"IMAP, nothing new, {MAILBOXES:,} mailboxes of {IN_EACH} messages at 40 ms",
        "≤ 1.2 s",
        _many_mailboxes,
    ),
    Row(
        "imap-nothing-new-cyrus",
        f"IMAP, nothing new, {MAILBOXES:,} mailboxes of {IN_EACH} messages at 40 ms, Cyrus",
        "≤ 1.2 s",
        _many_mailboxes_of_cyrus,
    ),
    Row(
        "imap-first-run-mailboxes",
        f"IMAP → packs against mbsync → Maildir, {FEWER_MAILBOXES} mailboxes of {IN_SMALL} messages, first run, 40 ms",
        "",
        _first_run_of_many,
    ),
    Row("imap-memory-listing", f"peak memory, IMAP, {LISTED:,} messages listed", "≤ 150 MiB", _memory_listing),
    Row("imap-memory-giant", "peak memory, IMAP, one message of 1 GiB → packs", "≤ 150 MiB", _memory_giant),
]
IMAP = {row.key: row for row in ROWS}
