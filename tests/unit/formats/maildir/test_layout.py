from __future__ import annotations

import hashlib

import pytest

from syncd.formats.maildir.layout import Layout, folder, path_of, subscribed_name
from syncd.mail.mailbox import Path


@pytest.mark.parametrize(
    ("path", "plus_plus", "nested"),
    [
        (("INBOX",), "", ""),
        (("inbox",), ".inbox", "inbox"),
        (("INBOX", "Sent"), ".INBOX.Sent", "INBOX/Sent"),
        (("Sent Items",), ".Sent Items", "Sent Items"),
        (("Archive", "2019"), ".Archive.2019", "Archive/2019"),
        (("Archive/2019",), ".Archive=2F2019", "Archive=2F2019"),
        (("a.b",), ".a=2Eb", "a.b"),
        (("[Gmail]", "All Mail"), ".[Gmail].All Mail", "[Gmail]/All Mail"),
        (("..", "..", "etc"), ".=2E=2E.=2E=2E.etc", "=2E=2E/=2E=2E/etc"),
        ((".hidden", "end."), ".=2Ehidden.end=2E", "=2Ehidden/end=2E"),
        (("", "etc", "", "passwd"), ".=.etc.=.passwd", "=/etc/=/passwd"),
        (("Entwürfe",), ".Entw&APw-rfe", "Entw&APw-rfe"),  # as Dovecot and Courier have it on disk
        (("Entw&APw-rfe",), ".Entw&-APw-rfe", "Entw&-APw-rfe"),
        (("R&D",), ".R&-D", "R&-D"),
        (("\x00\n:\udcff",), ".&AAAACg-=3A=FF", "&AAAACg-=3A=FF"),
        (("&\udcff",), ".&-=FF", "&-=FF"),
        (("trailing ", " leading"), ".trailing=20.=20leading", "trailing=20/=20leading"),
        (("syncd-lock",), ".=73yncd-lock", "syncd-lock"),
        (("a", "cur"), ".a.cur", "a/=63ur"),
        (("Subscriptions", "dovecot.index"), ".Subscriptions.dovecot=2Eindex", "=53ubscriptions/=64ovecot.index"),
        (("",), ".=", "="),
    ],
)
def test_i40_folders_of_mailboxes(path: Path, plus_plus: str, nested: str):
    assert folder(path) == plus_plus
    assert path_of(plus_plus) == path
    assert folder(path, Layout.NESTED) == nested
    assert path_of(nested, Layout.NESTED) == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (".Entw=C3=BCrfe", ("Entwürfe",)),  # as archives had it first
        (".R&D", ("R&D",)),  # another program's
        (".Entw&APw-\udcff", ("Entwü\udcff",)),
        (".a b!", ("a b!",)),
    ],
)
def test_folders_of_other_programs_have_a_path(name: str, path: Path):
    assert path_of(name) == path


def test_any_text_has_a_folder():
    assert folder(("\ud800",)) == ".&2AA-"  # a surrogate that stands for no octet
    assert folder(()) == ".=~" + hashlib.sha256(b".").hexdigest()[:24]
    assert folder((), Layout.NESTED).startswith("=~")


@pytest.mark.parametrize("layout", Layout)
def test_a_long_mailbox_name_fits_a_file_name(layout: Layout):
    names = {folder(("\udcff" * 300 + str(number), "sub"), layout) for number in range(20)}
    assert len(names) == 20
    assert all(len(level) <= 200 for name in names for level in name.split("/"))


def test_a_path_of_many_levels_fits_a_path():
    names = {folder(("x" * 90,) * 50 + (str(number),), Layout.NESTED) for number in range(20)}
    assert len(names) == 20
    assert all(len(name) <= 1_000 for name in names)


def test_a_subscription_is_called_as_its_folder():
    assert subscribed_name("", Layout.NESTED) == b"INBOX"
    assert subscribed_name(".Lists.2026", Layout.PLUS_PLUS) == b"Lists.2026"
    assert subscribed_name("Lists/2026", Layout.NESTED) == b"Lists/2026"
