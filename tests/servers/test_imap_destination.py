"""IMAP destinations against real servers: every message arrives once, and each difference is recorded and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from syncd.destinations.imap.account import MANY
from syncd.destinations.packs import PacksArchive
from syncd.engine.exit_codes import ExitCode
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Entry, Status
from syncd.settings.load import load
from tests.servers import courier, cyrus, mailutils
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.imap import FLAVOURS, PASSWORD, ImapServer, Letter, Login, dovecot, fill, shown, signed_in
from tests.servers.mailutils import Mailutils
from tests.support import mail
from tests.support.accounts import Held, filled, of_account

pytestmark = pytest.mark.servers
PATHS = [("INBOX",), ("Sent",), ("Projekte", "Müller & Söhne"), ("R&D", "2019")]
FLAGS = [(), ("\\Seen",), ("\\Answered", "\\Flagged", "$Work")]
DATE = datetime(2004, 2, 29, 23, 59, 59, tzinfo=UTC)
NUMBER = b"X-Number: %d\r\n"
EMPTY = {"empty"}  # which no IMAP server takes


class Place(NamedTuple):
    """A server, and how it calls mailboxes."""

    name: str
    server: ImapServer
    delimiter: str
    prefix: str


@pytest.fixture(scope="module", params=["slash", "bare", "Cyrus", "Courier", "mailutils"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    name = request.param
    if name in FLAVOURS:
        with dovecot(FLAVOURS[name]) as server:
            yield Place(name, server, "/", "")
        return
    kind, module = {"Cyrus": (Cyrus, cyrus), "Courier": (Courier, courier), "mailutils": (Mailutils, mailutils)}[name]
    if reason := module.missing():
        pytest.skip(reason)
    with kind() as other:
        yield Place(name, other, "/" if name == "mailutils" else ".", "" if name == "mailutils" else "INBOX.")


def letters() -> list[bytes]:
    """Well-formed and odd mail. Each has a number in its first field, unless its oddity is there."""
    well = [*mail.samples().values(), *mail.realistic(5, seed=2), *mail.small(6, seed=8)]
    found = [NUMBER % number + octets for number, octets in enumerate(well)]
    return found + [octets for name, octets in mail.nasty().items() if name not in EMPTY]


def archived(
    path: Path, octets_of: Sequence[bytes] = (), paths: Sequence[tuple[str, ...]] = PATHS
) -> dict[tuple[str, ...], Counter[Held]]:
    """An archive of such mail, or of other, spread over mailboxes. Returns what is in it."""
    archive, expected = PacksArchive(path), {it: Counter[Held]() for it in paths}
    archive.create(uuid4())
    archive.open()
    account, messages = uuid4(), []
    for number, octets in enumerate(octets_of or letters()):
        where, flags = paths[number % len(paths)], FLAGS[number % len(FLAGS)]
        origin = Origin(account, "old", "/".join(where).encode(), Epoch(1), where)
        ref = MessageRef(origin, Uid(b"%d" % number), 1)
        messages.append(Message(Key(number), ref, Body.of(octets), flags, DATE))
        expected[where][Held(octets, flags, DATE)] += 1
    with closing(archive):
        for group in archive.deliver(messages):
            assert len(group) == len(messages)
    return expected


def configured(directory: Path, login: Login) -> Path:
    path = directory / "syncd.toml"
    path.write_text(
        f'state_directory = "state"\n[archives]\nold = {{ path = "old" }}\n'
        f'[accounts.new]\nprotocol = "imap"\nhost = "{login.host}"\nport = {login.port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "{login.username}"\npassword = "env:PASSWORD"\n'
        '[jobs.restore]\nsource = "old"\ndestinations = ["new"]\n'
    )
    return path


def test_every_message_arrives_once_and_what_differs_is_named(place: Place, tmp_path: Path) -> None:
    login = place.server.user("restored")
    expected = archived(tmp_path / "old")
    loaded = load(configured(tmp_path, login), environment={"PASSWORD": PASSWORD})
    [report] = RunsByHand(loaded, ["restore"], RunOptions(), lambda _: None).execute()
    with Verification(loaded, "restore", read=True) as verification:
        proof = verification.execute()
        named = list(proof.entries())
    [again] = RunsByHand(loaded, ["restore"], RunOptions(), lambda _: None).execute()
    assert again.delivered == {}
    there = filled(of_account(login, place.delimiter, place.prefix))
    refused = Counter("/".join(entry.mailbox) for entry in named if entry.status is Status.REJECTED)
    counts = {"/".join(path): held.total() for path, held in there.items()}
    assert counts == {"/".join(path): held.total() - refused["/".join(path)] for path, held in expected.items()}
    for path, held in expected.items():
        lacking = (held - there[path]).total()
        assert lacking == sum(entry.mailbox == path for entry in named), (path, lacking, told(named))
    if place.name != "mailutils":  # it loses flags and dates
        well = {octets for octets in letters() if octets.startswith(b"X-Number: ") and octets.isascii()}
        assert well <= {held.octets for mailbox in there.values() for held in mailbox}
    assert report.exit_code in {ExitCode.DONE, ExitCode.WAITING} if refused else report.exit_code is ExitCode.DONE


def test_many_into_a_mailbox_that_its_user_has_marked_messages_in(place: Place, tmp_path: Path) -> None:
    """It may be open for writing meanwhile, and is then left by CLOSE where the server knows no other way."""
    login = place.server.user("many")
    theirs = b"Subject: marked\r\n\r\nnot to be removed by us\r\n"
    fill(login, {"INBOX": [Letter(theirs)]})
    with signed_in(login) as client:
        client.select()
        client.store("1", "+FLAGS", "(\\Deleted)")
    expected = Counter(mail.small(2 * MANY, seed=3))
    archived(tmp_path / "old", list(expected), [("INBOX",)])
    loaded = load(configured(tmp_path, login), environment={"PASSWORD": PASSWORD})
    for _ in range(2):
        [report] = RunsByHand(loaded, ["restore"], RunOptions(), lambda _: None).execute()
        assert report.exit_code is ExitCode.DONE, report.errors
    there = shown(login)["INBOX"]
    assert Counter(it.octets for it in there) == expected + Counter([theirs])
    assert "\\Deleted" in next(it.flags for it in there if it.octets == theirs)


def told(named: list[Entry]) -> list[str]:
    return [f"{'/'.join(it.mailbox)} {it.uid}: {it.status} {it.reason}" for it in named]
