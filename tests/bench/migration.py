"""The rows from IMAP account to IMAP account: against mbsync, and what stands in for imapsync, in pairs; with several
connections; with nothing new.
"""

from __future__ import annotations

import imaplib
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from syncd.destinations.imap.letters import GROUP_MESSAGES, GROUP_OCTETS
from tests.bench.imap import IN_EACH, MAILBOXES, fill
from tests.bench.measure import Command, Usage, in_turn, median_wall, run
from tests.bench.programs import Access, Program, executable, private, syncd_command
from tests.bench.rows import FAR_LARGE, FAR_S, FAR_SMALL, LARGE, SMALL, Result, Row, Runs, Setting
from tests.bench.stage import PASSWORD, SEED, Maildrop, Stage
from tests.bench.verify import compare, maildir_messages, manifest
from tests.servers import cyrus
from tests.servers.imap import FLAVOURS, Flavour, ImapServer, Login, dovecot, signed_in
from tests.servers.maildrop import presented
from tests.support import imapsync, mail

_TUID = re.compile(rb"^X-TUID: [^\n]*\n", re.MULTILINE)
_numbers = itertools.count(1)
BOXES, IN_BOX = 4, 250
# fewer, as imapsync takes three round trips for each
FEWER_FAR, FEWER_FAR_SMALL = Setting(1_000, far=True), Setting(1_000, small=True, far=True)
USER = "user"  # the file in a run's directory that names the account into which it copies


def _mbsync(old: Access, new: Access, directory: Path) -> Command:
    stores = "".join(
        f"IMAPAccount {name}\nHost {access.host}\nPort {access.port}\nUser {access.user}\nPass {access.password}\n"
        f"AuthMechs PLAIN\nSSLType None\n\nIMAPStore {name}\nAccount {name}\n\n"
        for name, access in (("old", old), ("new", new))
    )
    (directory / "state").mkdir()
    text = (
        f"{stores}Channel bench\nFar :old:\nNear :new:\nPatterns *\nCreate Near\nSync Pull\n"
        f"SyncState {directory}/state/\n"
    )
    return Command([executable("mbsync"), "--quiet", "--config", str(private(directory / "mbsyncrc", text)), "bench"])


def _imapsync(old: Access, new: Access, _directory: Path) -> Command:
    arguments = imapsync.command((old.host, old.port, old.user), (new.host, new.port, new.user))
    return Command(arguments, {"PASSWORD": PASSWORD})


def _syncd(old: Access, new: Access, directory: Path, connections: int = 1, *, shared: bool = False) -> Command:
    private(directory / "password", PASSWORD)
    accounts = "".join(
        f'[accounts.{name}]\nprotocol = "imap"\nhost = "{access.host}"\nport = {access.port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "{access.user}"\npassword = "file:{directory}/password"\n'
        f"connections = {connections}\nshare_mailboxes = {str(shared).lower()}\n"
        for name, access in (("old", old), ("new", new))
    )
    text = f'state_directory = "{directory}/state"\n{accounts}[jobs.bench]\nsource = "old"\ndestinations = ["new"]\n'
    return syncd_command(private(directory / "syncd.toml", text), "--quiet")


def _access(stage: Stage, user: str, *, far: bool) -> Access:
    port = stage.server.imap_port
    return replace(stage.access(user), port=stage.distant(port, FAR_S) if far else port)


def _into(stage: Stage, name: str, make: Callable[[Access, Access, Path], Command], *, far: bool) -> Program:
    """A program that copies into a new account of the stage's server."""

    def prepare(access: Access, directory: Path) -> Command:
        user = f"into{next(_numbers)}"
        stage.server.add_user(user, PASSWORD)
        (directory / USER).write_text(user)
        return make(access, _access(stage, user, far=far), directory)

    def messages(directory: Path) -> Iterator[bytes]:
        for message in maildir_messages(stage.server.maildir((directory / USER).read_text())):
            yield _TUID.sub(b"", message, count=1)

    return Program(name, prepare, messages)


IMAPSYNC = "Mail::IMAPClient as imapsync uses it"
PEERS = {"mbsync": _mbsync, IMAPSYNC: _imapsync}


def _pair(key: str, setting: Setting, target: float, connections: int = 1, peer: str = "mbsync") -> Row:
    several = f", {connections} connections" if connections > 1 else ""
    make = partial(_syncd, connections=connections, shared=connections > 1)

    def take(stage: Stage, pairs: int) -> Result:
        maildrop = setting.maildrop(stage)
        access = _access(stage, maildrop.user, far=setting.far)
        theirs = _into(stage, f"{peer}, IMAP → IMAP", PEERS[peer], far=setting.far)
        ours = _into(stage, f"syncd, IMAP → IMAP{several}", make, far=setting.far)
        measured = in_turn(
            pairs, lambda: stage.pull(theirs, maildrop, access), lambda: stage.pull(ours, maildrop, access)
        )
        runs = [
            Runs(program.name, usages, maildrop.messages, maildrop.octets)
            for program, usages in ((theirs, measured.theirs), (ours, measured.ours))
        ]
        return Result(f"{measured.ratio:.2f}×", measured.ratio >= target, runs)

    return Row(key, f"IMAP → IMAP against {peer}, {setting}{several}", f"≥ {target:g}×", take)


BARE, BARE_SDBOX = "Dovecot with LITERAL+ alone", "Dovecot with LITERAL+ alone, sdbox"
SINGLY, SINGLY_SDBOX = "Dovecot without MULTIAPPEND", "Dovecot without MULTIAPPEND, sdbox"


def _announcing(capabilities: str, store: str = "maildir") -> AbstractContextManager[ImapServer]:
    return dovecot(Flavour(store=store, settings={"imap_capability": f"IMAP4rev1 ID LITERAL+ {capabilities}"}))


_bare = partial(_announcing, "")
_singly = partial(_announcing, "NAMESPACE SPECIAL-USE UIDPLUS UNSELECT LIST-STATUS")


def _elsewhere(
    key: str, where: str, server: Callable[[], AbstractContextManager[ImapServer]], setting: Setting, target: float
) -> Row:
    """Into another server than the stage's, against mbsync."""

    def take(stage: Stage, pairs: int) -> Result:
        if where == "Cyrus" and (reason := cyrus.missing()):
            return Result(f"not measured: {reason}", None)
        maildrop, there = setting.maildrop(stage), stage.keep(server())
        access = _access(stage, maildrop.user, far=setting.far)

        def program(name: str, make: Callable[[Access, Access, Path], Command]) -> Program:
            logins: dict[Path, Login] = {}

            def prepare(old: Access, directory: Path) -> Command:
                login = logins[directory] = there.user(f"into{next(_numbers)}")
                port = stage.distant(login.port, FAR_S) if setting.far else login.port
                return make(old, Access(login.host, port, login.username, PASSWORD), directory)

            return Program(f"{name} → {where}", prepare, lambda directory: _kept(logins[directory]))

        theirs, ours = program("mbsync, IMAP", _mbsync), program("syncd, IMAP", _syncd)
        measured = in_turn(
            pairs, lambda: stage.pull(theirs, maildrop, access), lambda: stage.pull(ours, maildrop, access)
        )
        runs = [
            Runs(one.name, usages, maildrop.messages, maildrop.octets)
            for one, usages in ((theirs, measured.theirs), (ours, measured.ours))
        ]
        return Result(f"{measured.ratio:.2f}×", measured.ratio >= target, runs)

    return Row(key, f"IMAP → IMAP against mbsync, into {where}, {setting}", f"≥ {target:g}×", take)


def _kept(login: Login) -> Iterator[bytes]:
    """The messages of an INBOX."""
    with signed_in(login) as client:
        count = int(client.select(readonly=True)[1][0] or 0)
        for first in range(1, count + 1, IN_EACH):
            for part in client.fetch(f"{first}:{min(count, first + IN_EACH - 1)}", "(BODY.PEEK[])")[1]:
                if isinstance(part, tuple):
                    yield _TUID.sub(b"", part[1], count=1)


def _storing_alone(stage: Stage, _repeat: int) -> Result:
    """MULTIAPPEND of everything at once in the groups that syncd makes: what the server itself can do."""
    rates = []
    for maildrop, messages in (
        (stage.large(), mail.realistic(stage.scaled(10_000), SEED)),
        (stage.small(), mail.small(stage.scaled(20_000), SEED)),
    ):
        flow = list(_appends([presented(one) for one in messages]))
        for far in (False, True):
            seconds = _store(stage, flow, maildrop, far=far)
            rates.append(f"{maildrop.messages / seconds:,.0f}/s ({seconds:.1f} s)")
    return Result("large {}, at 40 ms {}; small {}, at 40 ms {}".format(*rates), None)


def _appends(messages: Sequence[bytes]) -> Iterator[bytes]:
    """APPEND with LITERAL+ of GROUP_MESSAGES or GROUP_OCTETS each, then LOGOUT."""
    octets = count = 0
    for message in messages:
        if not count or count == GROUP_MESSAGES or octets + len(message) > GROUP_OCTETS:
            yield (b"\r\n" if count else b"") + b"b APPEND INBOX"
            octets = count = 0
        yield b" {%d+}\r\n%b" % (len(message), message)
        octets, count = octets + len(message), count + 1
    yield b"\r\nc LOGOUT\r\n"


def _send(connection: socket.socket, flow: Sequence[bytes]) -> None:
    for piece in flow:
        connection.sendall(piece)


def _store(stage: Stage, flow: Sequence[bytes], maildrop: Maildrop, *, far: bool) -> float:
    """Seconds until all is stored in a new account."""
    user = f"into{next(_numbers)}"
    stage.server.add_user(user, PASSWORD)
    access = _access(stage, user, far=far)
    start = time.monotonic()
    with socket.create_connection((access.host, access.port)) as connection:
        connection.sendall(f"a LOGIN {user} {PASSWORD}\r\n".encode())
        while b"a OK" not in connection.recv(1 << 16):
            pass
        sending = threading.Thread(target=_send, args=(connection, flow))
        sending.start()
        while connection.recv(1 << 16):
            pass
        sending.join()
    seconds = time.monotonic() - start
    compare(manifest(maildir_messages(stage.server.maildir(user))), maildrop.expected, "the server alone")
    return seconds


def _four_connections(stage: Stage, pairs: int) -> Result:
    """Four mailboxes into a server with neither MULTIAPPEND nor LITERAL+, as Courier is."""
    messages = [presented(one) for one in mail.small(stage.scaled(IN_BOX), SEED)]
    bare = stage.keep(dovecot(FLAVOURS["bare"]))
    old, count = "boxes", BOXES * len(messages)
    stage.server.add_user(old, PASSWORD)
    with imaplib.IMAP4(stage.server.host, stage.server.imap_port) as client:
        client.login(old, PASSWORD)
        for box in range(BOXES):
            client.create(f"m{box}")
            for message in messages:
                client.append(f"m{box}", "", "", message)
    source = _access(stage, old, far=True)

    def copy(connections: int) -> Usage:
        login, directory = bare.user(f"into{next(_numbers)}"), stage.fresh()
        new = Access(login.host, stage.distant(login.port, FAR_S), login.username, PASSWORD)
        usage = run(_syncd(source, new, directory, connections), directory)
        home = bare.server.maildir(login.username)
        found = [message for box in range(BOXES) for message in maildir_messages(home / f".m{box}")]
        compare(manifest(found), manifest(messages * BOXES), f"{connections} connections")
        return usage

    measured = in_turn(pairs, lambda: copy(1), lambda: copy(BOXES))
    runs = [
        Runs(f"{number} connections", usages, count, 0)
        for number, usages in ((1, measured.theirs), (BOXES, measured.ours))
    ]
    return Result(f"{measured.ratio:.2f}×", measured.ratio >= 3, runs)


def _nothing_new(stage: Stage, repeat: int) -> Result:
    user, mailboxes = "migrated", stage.scaled(MAILBOXES)
    stage.server.add_user(user, PASSWORD)
    fill(Login(stage.server.host, stage.server.imap_port, user, PASSWORD), mailboxes)
    directory = stage.fresh()
    near = _into(stage, "syncd, IMAP → IMAP", _syncd, far=False)
    run(near.prepare(_access(stage, user, far=False), directory), directory)
    file, port = directory / "syncd.toml", stage.server.imap_port
    file.write_text(file.read_text().replace(f"port = {port}", f"port = {stage.distant(port, FAR_S)}"))
    run(syncd_command(file, "--quiet", "--rebind"), directory)
    command = syncd_command(file, "--quiet")
    usages = [run(command, directory) for _ in range(repeat)]
    wall = median_wall(usages)
    return Result(f"{wall:.2f} s", wall <= 1.5, [Runs(near.name, usages, mailboxes * IN_EACH, 0)])


ROWS = [
    _pair("imap-imap-large", LARGE, 2),
    _pair("imap-imap-small", SMALL, 2),
    _pair("imap-imap-large-far", FAR_LARGE, 6),
    _pair("imap-imap-small-far", FAR_SMALL, 6),
    _pair("imap-imap-large-4", LARGE, 2, 4),
    _pair("imap-imap-small-4", SMALL, 2, 4),
    _pair("imap-imap-large-far-4", FAR_LARGE, 6, 4),
    _pair("imap-imap-small-far-4", FAR_SMALL, 6, 4),
    _pair("imap-imap-imapsync-large", LARGE, 5, peer=IMAPSYNC),
    _pair("imap-imap-imapsync-small", SMALL, 5, peer=IMAPSYNC),
    _pair("imap-imap-imapsync-large-far", FEWER_FAR, 50, peer=IMAPSYNC),
    _pair("imap-imap-imapsync-small-far", FEWER_FAR_SMALL, 50, peer=IMAPSYNC),
    _pair("imap-imap-imapsync-large-4", LARGE, 5, 4, peer=IMAPSYNC),
    _elsewhere("imap-imap-cyrus", "Cyrus", cyrus.Cyrus, LARGE, 1.5),
    *(
        _elsewhere(f"imap-imap-{key}{far}", where, partial(server, store), setting, target)
        for key, where, server, store in (
            ("literal", BARE, _bare, "maildir"),
            ("literal-sdbox", BARE_SDBOX, _bare, "sdbox"),
            ("singly", SINGLY, _singly, "maildir"),
            ("singly-sdbox", SINGLY_SDBOX, _singly, "sdbox"),
        )
        for far, setting, target in (("", LARGE, 0.85), ("-far", FAR_LARGE, 3.5))
    ),
    Row(
        "imap-imap-alone",
        "the server alone: APPEND of everything at once, MULTIAPPEND and LITERAL+",
        "",
        _storing_alone,
    ),
    Row(
        "imap-imap-connections",
        f"IMAP → IMAP with neither MULTIAPPEND nor LITERAL+, {BOXES} mailboxes of {IN_BOX} messages of 2 KiB, 40 ms: "
        "4 connections against 1",
        "≥ 3×",
        _four_connections,
    ),
    Row(
        "imap-imap-nothing-new",
        f"IMAP → IMAP, nothing new, {MAILBOXES:,} mailboxes of {IN_EACH} messages, both sides at 40 ms",
        "≤ 1.5 s",
        _nothing_new,
    ),
]
MIGRATION = {row.key: row for row in ROWS}
