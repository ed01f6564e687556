"""Whatever mailboxes are called, and whatever stands beside their messages, each kind of archive gives it back."""

from __future__ import annotations

import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.formats.maildir.layout import Layout
from syncd.formats.maildir.view import MaildirView
from syncd.formats.packs.view import PacksView
from syncd.mail.body import Body
from syncd.mail.flags import canonical
from syncd.mail.mailbox import INBOX_PATH, Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from tests.contract.destination_kit import delivered
from tests.support.packs import checked, dump, rebuilt

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
OCTETS = st.binary(max_size=120).map(lambda octets: octets.decode("utf-8", "surrogateescape"))
LEVELS = st.one_of(OCTETS, st.text(max_size=250), st.sampled_from(["INBOX", "inbox", "cur", "..", "a.b", "R&D", ""]))
PATHS = st.lists(LEVELS, min_size=1, max_size=4).map(tuple)
SYSTEM = st.sampled_from(["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded"])
WORDS = st.from_regex(r"[A-Za-z0-9$_.ä\udc80-\udcff-]{1,20}", fullmatch=True)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DATES = st.builds(datetime.fromtimestamp, st.integers(0, 2**31 - 1), ZONES)
ORIGINS = st.lists(
    st.builds(
        Origin,
        st.just(UUID(int=1)),
        st.just("road"),
        st.binary(max_size=30),
        st.integers(1, 2**40).map(Epoch),
        PATHS,
        st.sampled_from(["", "\\Sent", "\\Junk"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=(lambda origin: origin.mailbox, lambda origin: origin.path),
)


def letters(data: st.DataObject, origins: list[Origin], flags: st.SearchStrategy[str]) -> list[Message]:
    """Three messages in each mailbox but the last."""
    found: list[Message] = []
    for origin in origins[:-1]:
        for number in range(3):
            chosen = canonical(tuple(data.draw(st.lists(flags, max_size=4))))
            labels = tuple(sorted(data.draw(st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)))))
            body = Body.of(b"%d in %b\r\n" % (number, origin.mailbox.hex().encode()))
            ref = MessageRef(origin, Uid(b"%d" % number), 1)
            date = data.draw(DATES)
            found.append(Message(Key(len(found)), ref, body, chosen, date, origin.path, labels))
    return found


@SETTINGS
@given(st.data(), ORIGINS)
def test_packs_give_back_everything(data: st.DataObject, origins: list[Origin]):
    messages = letters(data, origins, SYSTEM | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home"
        archive = PacksArchive(path)
        archive.create(UUID(int=9))
        archive.open()
        archive.note_mailboxes(origins)
        delivered(archive, messages)
        archive.close()
        with closing(PacksView(path)) as view:
            assert view.origins() == origins
            stored = {it.ref: it for it in view.stored(Path(folder), pytest.fail)}
        assert stored.keys() == {m.ref for m in messages}
        for m in messages:
            found = stored[m.ref]
            assert (found.flags, found.date, found.labels) == (m.flags, m.internal_date, m.labels)
            assert found.date is not None
            assert m.internal_date is not None
            assert found.date.utcoffset() == m.internal_date.utcoffset()
        assert checked(path) == []
        assert dump(path) == rebuilt(path)


@SETTINGS
@given(st.data(), ORIGINS, st.sampled_from(Layout))
def test_a_maildir_gives_back_mailboxes_flags_and_instants(data: st.DataObject, origins: list[Origin], layout: Layout):
    messages = letters(data, origins, SYSTEM | WORDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home"
        archive = MaildirArchive(path, layout=layout)
        archive.create(UUID(int=9))
        archive.open()
        archive.note_mailboxes(origins)
        delivered(archive, messages)
        archive.close()
        with closing(MaildirView(path)) as view:
            boxes = {box.path: (box.use, box.subscribed) for chunk in view.mailboxes() for box in chunk}
            stored = [(it.ref.origin.path, it.body.sha256, it.flags, it.date) for it in view.stored(path, pytest.fail)]
        expected = {origin.path: (origin.use, origin.subscribed) for origin in origins}
        assert boxes.pop(INBOX_PATH)[1] == expected.pop(INBOX_PATH, ("", False))[1]
        assert boxes == expected
        assert sorted(stored, key=repr) == sorted(
            (
                (m.path, Body.of(b"".join(m.body.chunks()).replace(b"\r\n", b"\n")).sha256, m.flags, instant(m))
                for m in messages
            ),
            key=repr,
        )


def instant(message: Message) -> datetime:
    assert message.internal_date is not None
    return message.internal_date.astimezone(UTC)
