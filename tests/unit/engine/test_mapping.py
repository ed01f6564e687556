from __future__ import annotations

import tomllib
from uuid import UUID

import pytest

from syncd.db.rows import Became
from syncd.engine.mapping import Paths, Rules, Why, clash_line
from syncd.mail.mailbox import MAILDROP, Mailbox, Path

ALL_MAIL = Mailbox(b"[Gmail]/All Mail", ("[Gmail]", "All Mail"), "\\All")


def mailbox(*path: str, name: bytes = b"", use: str = "", account: int = 0) -> Mailbox:
    return Mailbox(name or "/".join(path).encode(), path, use, account=UUID(int=account) if account else None)


def test_a_maildrop_is_inbox():
    assert Paths().of(MAILDROP) == ("INBOX",)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (("INBOX",), ("INBOX",)),
        (("Inbox",), ("INBOX",)),  # RFC 3501 §5.1
        (("INBOX", "Kind regards"), ("INBOX", "Kind regards")),
        (("Archive", "2026", "März"), ("Archive", "2026", "März")),
        (("Archive", "inbox"), ("Archive", "inbox")),
    ],
)
def test_a_mailbox_keeps_its_path(path: Path, target: Path):
    assert Paths().of(mailbox(*path, use="\\Archive")) == target


# --- the rules of a job -------------------------------------------------------------------------------------

RULES = Rules(
    names={"Gesendet": ("Sent",), "Gesendet/alt": ("Old",), "R&-D": ("Research",), "INBOX/x": ("x",)},
    prefix=("from road",),
    uses={"\\Trash": ("Bin",), "\\Sent": ("Sent Items",)},
)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        (mailbox("INBOX"), ("from road", "INBOX")),
        (mailbox("Work", "2026"), ("from road", "Work", "2026")),
        (mailbox("Gesendet", use="\\Sent"), ("Sent",)),  # a name before a use
        (mailbox("Gesendet", "2026"), ("Sent", "2026")),
        (mailbox("Gesendet", "alt", "a", "b"), ("Old", "a", "b")),  # the longest one
        (mailbox("Gesendetes"), ("from road", "Gesendetes")),
        (mailbox("Papierkorb", use="\\Trash"), ("Bin",)),
        (mailbox("R&D", name=b"R&-D"), ("Research",)),  # by its name at the server
        (mailbox("R&D", name=b"R&D"), ("from road", "R&D")),
        (mailbox("INBOX", "x", "y"), ("x", "y")),
    ],
)
def test_the_rules_of_a_job(given: Mailbox, target: Path):
    assert Paths(RULES).of(given) == target


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        (("Work/2026", "\\Important", "\\Inbox"), ("Work", "2026")),
        (("\\Inbox", "\\Sent"), ("Sent",)),
        (("\\Important", "\\Inbox", "\\Starred"), ("INBOX",)),
        (("\\Important",), ("Archive",)),
        ((), ("Archive",)),
    ],
)
def test_i164_a_label_is_the_place_of_a_message_in_all_mail(labels: tuple[str, ...], target: Path):
    assert Paths().of(ALL_MAIL, labels) == target
    assert Paths(Rules(prefix=("g",))).of(ALL_MAIL, labels) == ("g", *target)
    assert Paths().of(mailbox("Other"), labels) == ("Other",)


def test_labels_can_be_mapped_and_so_can_all_mail():
    paths = Paths(Rules(names={"Work": ("Job",), "[Gmail]/All Mail": ("Rest",)}))
    assert paths.of(ALL_MAIL, ("Work/2026",)) == ("Job", "2026")
    assert paths.of(ALL_MAIL, ("Home",)) == ("Home",)
    assert paths.of(ALL_MAIL) == paths.of(ALL_MAIL, ("\\Important",)) == ("Rest",)


def test_labels_find_the_mailbox_that_has_their_use():
    """The mail of \\Sent went into a new "Sent" although the destination had "Gesendet" for that."""
    uses = {"\\Sent": ("Gesendet",), "\\Archive": ("Ablage",)}
    paths = Paths(Rules(uses=uses))
    assert paths.of(ALL_MAIL, ("\\Inbox", "\\Sent")) == ("Gesendet",)
    assert paths.of(ALL_MAIL, ("\\Important",)) == ("Ablage",)
    assert paths.of(ALL_MAIL, ("Sent",)) == ("Sent",)
    assert Paths(Rules({"Sent": ("Out",)}, uses=uses)).of(ALL_MAIL, ("\\Sent",)) == ("Out",)
    assert Paths(Rules(uses=uses, by_use=False)).of(ALL_MAIL, ("\\Sent",)) == ("Sent",)


# --- what mailboxes became before -----------------------------------------------------------------------------

GESENDET = mailbox("Gesendet", use="\\Sent")
SENT = {"\\Sent": ("Sent",)}


def after(became: Became, rules: Rules, *, there: bool = True) -> tuple[Path, Why]:
    """Returns what "Gesendet" becomes after it became something before."""
    paths = Paths(rules)
    paths.remember({(b"Gesendet", ""): became}, lambda path: there and path == became.path)
    return paths.explain(GESENDET)


def test_a_mailbox_stays_what_it_became_while_that_is_there():
    old = Became(("Gesendet",), by_use=False)
    assert after(old, Rules(uses=SENT)) == (("Gesendet",), Why.BEFORE)
    assert after(old, Rules(uses=SENT), there=False) == (("Sent",), Why.USE)
    assert after(old, Rules()) == (("Gesendet",), Why.SAME)


def test_a_special_use_that_goes_to_another_mailbox_parts_nothing():
    old = Became(("Sent",), by_use=True)
    assert after(old, Rules(uses={"\\Sent": ("Sent Items",)})) == (("Sent",), Why.BEFORE)
    assert after(old, Rules()) == (("Sent",), Why.BEFORE)
    assert after(old, Rules(by_use=False)) == (("Gesendet",), Why.SAME)


@pytest.mark.parametrize("old", [Became(("Gesendet",), by_use=False), Became(("Sent",), by_use=True)])
def test_a_map_counts_before_what_a_mailbox_became(old: Became):
    assert after(old, Rules({"Gesendet": ("Out",)}, uses=SENT)) == (("Out",), Why.MAP)


def test_what_other_rules_gave_does_not_count():
    assert after(Became(("Out",), by_use=False), Rules(uses=SENT)) == (("Sent",), Why.USE)
    assert after(Became(("Gesendet",), by_use=False), Rules(prefix=("old",))) == (("old", "Gesendet"), Why.PREFIX)


def test_what_a_mailbox_becomes_is_decided_once():
    uses = dict(SENT)
    paths = Paths(Rules(uses=uses))
    assert paths.decide(GESENDET) == {}, "an archive remembers nothing"
    paths.remember({}, lambda _: True)
    assert paths.decide(GESENDET) == {"": Became(("Sent",), by_use=True)}
    uses["\\Sent"] = ("Sent Items",)
    assert paths.decide(GESENDET) == {}
    assert paths.of(GESENDET) == ("Sent",)


def test_a_special_use_is_remembered_where_a_map_gave_the_same_mailbox_before():
    """The map was removed, then the use went to another mailbox: the mail was parted."""
    paths = Paths(Rules(uses=SENT))
    paths.remember({(b"Gesendet", ""): Became(("Sent",), by_use=False)}, lambda _: True)
    assert paths.decide(GESENDET) == {"": Became(("Sent",), by_use=True)}
    mapped = Paths(Rules({"Gesendet": ("Sent",)}, uses=SENT))
    mapped.remember({(b"Gesendet", ""): Became(("Sent",), by_use=True)}, lambda _: True)
    assert mapped.decide(GESENDET) == {}


def test_what_a_mailbox_became_gives_way_to_another_mailbox_that_goes_there():
    """The use of Sent went to a new mailbox of the source; nothing was copied from either any more."""
    paths = Paths(Rules(uses=SENT))
    paths.remember({(b"Gesendet", ""): Became(("Sent",), by_use=True)}, lambda _: True)
    plain, other = mailbox("Gesendet"), mailbox("Sent Items", use="\\Sent")
    assert paths.of(plain) == ("Sent",)
    assert paths.clashes([plain, other])
    paths.give_way([plain, other])
    assert paths.clashes([plain, other]) == []
    assert [paths.of(it) for it in (plain, other)] == [("Gesendet",), ("Sent",)]
    assert paths.decide(plain) == {"": Became(("Gesendet",), by_use=False)}


def test_what_labels_become_is_decided_by_their_use():
    uses = dict(SENT)
    paths = Paths(Rules({"Trash": ("Bin",)}, uses=uses))
    paths.remember({}, lambda _: True)
    labels = [("Work",), ("\\Sent",), ("\\Inbox", "\\Sent"), ("\\Inbox",), (), ("\\Trash",)]
    assert paths.decide(ALL_MAIL, labels) == {
        "\\Sent": Became(("Sent",), by_use=True),
        "\\Archive": Became(("Archive",), by_use=False),
        "\\Trash": Became(("Bin",), by_use=False),
    }
    uses.update({"\\Sent": ("Sent Items",), "\\Archive": ("Ablage",)})
    assert [paths.of(ALL_MAIL, some) for some in (("\\Sent",), ())] == [("Sent",), ("Archive",)]


# --- mailboxes that would become one -------------------------------------------------------------------------


def test_mailboxes_with_paths_of_their_own_do_not_clash():
    assert Paths().clashes([mailbox("a"), mailbox("A"), mailbox("a", "b"), mailbox("a/b")]) == []


def test_mailboxes_whose_names_read_alike_clash():
    both = (mailbox("R&D", name=b"R&-D"), mailbox("R&D", name=b"R&D"))
    (clash,) = Paths().clashes([mailbox("x"), *both])
    assert (clash.path, clash.mailboxes) == (("R&D",), both)
    line = clash_line(clash, "home")
    assert line.startswith("“R&D” (R&-D) and “R&D” would become one mailbox in home (“R&D”): ")
    assert 'map = { "R&-D" = "another path" }' in line


def test_i41_mailboxes_that_the_destination_does_not_tell_apart_clash():
    assert Paths().clashes([mailbox("Work"), mailbox("work")], lambda path: "/".join(path).lower())


def test_a_mailbox_of_an_archive_is_called_as_at_its_server():
    boxes = [mailbox("R&D", name=b"%b/%b" % (str(UUID(int=1)).encode(), name), account=1) for name in (b"R&-D", b"R&D")]
    (clash,) = Paths().clashes(boxes)
    assert 'map = { "R&-D" = "another path" }' in clash_line(clash, "home")
    paths = Paths(Rules(names={"R&-D": ("Research",)}))
    assert [paths.of(box._replace(account=None)) for box in boxes] == [("Research",), ("R&D",)]


def test_one_mailbox_that_is_mapped_onto_another_clashes_and_two_that_are_mapped_do_not():
    some = [mailbox("Gesendet"), mailbox("Sent")]
    assert Paths(Rules(names={"Gesendet": ("Sent",)})).clashes(some)
    assert Paths(Rules(names={"Gesendet": ("Sent",), "Sent": ("Sent",)})).clashes(some) == []


def test_inbox_in_any_case_is_inbox_in_a_map():
    """RFC 3501 §5.1. CREATE inbox is refused and STATUS inbox answers for INBOX, so the mail of both became one."""
    some = [mailbox("INBOX"), mailbox("Kram")]
    paths = Paths(Rules(names={"Kram": ("inbox",)}))
    assert [paths.of(it) for it in some] == [("INBOX",), ("INBOX",)]
    assert paths.clashes(some)
    assert Paths(Rules(names={"Kram": ("Inbox", "x")})).of(some[1]) == ("Inbox", "x")


def test_the_message_says_how_mailboxes_that_clash_are_joined_on_purpose():
    paths = Paths(Rules(names={"Gesendet": ("Sent",)}))
    some = [mailbox("Gesendet"), mailbox("Sent")]
    (clash,) = paths.clashes(some)
    line = clash_line(clash, "new")
    assert line.endswith('or join them: map = { "Gesendet" = "Sent", "Sent" = "Sent" }')
    said = tomllib.loads(line.rpartition("join them: ")[2])
    names = {name: tuple(path.split("/")) for name, path in said["map"].items()}
    assert Paths(Rules(names=names)).clashes(some) == []


def test_a_proposed_map_can_be_read_whatever_the_names_are():
    both = (mailbox('a"\\b'), mailbox("x"))
    (clash,) = Paths(Rules(names={"x": ('a"\\b',)})).clashes(both)
    said = tomllib.loads(clash_line(clash, "new").rpartition("join them: ")[2])
    assert said == {"map": {'a"\\b': 'a"\\b', "x": 'a"\\b'}}


def test_mailboxes_of_different_accounts_become_one():
    assert Paths().clashes([mailbox("INBOX", account=1), mailbox("INBOX", account=2)]) == []
    assert Paths().clashes([mailbox("INBOX", account=1), mailbox("INBOX", name=b"inbox", account=1)])


def test_archive_is_where_all_mail_goes_and_so_clashes_with_a_mailbox_of_that_name():
    assert Paths().clashes([ALL_MAIL, mailbox("Archive")])
