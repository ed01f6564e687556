"""The IMAP source against a scripted server: what a session says, in how many flights, and what it believes.

Names of tests begin with the id of the quirk that they are about, as `docs/rfcs.md` and `imap/quirks.py` have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from syncd import clock
from syncd.errors import (
    MailboxRefused,
    MessageLost,
    MessageRefused,
    NoHeaders,
    Scope,
    SessionLost,
    SyncdError,
    Throttled,
)
from syncd.mail.listing import Fetched, LineNumber, Totals, Wanted
from syncd.mail.mailbox import Mailbox
from syncd.mail.message import Key, Uid
from syncd.mail.patterns import Selection
from syncd.services.signin import try_out
from syncd.services.words import quota
from syncd.sources.base import OpenMailbox, QuotaUse
from syncd.sources.imap.flight import SET_MESSAGES
from syncd.sources.imap.retrieval import MOST_REFUSED, MOST_THROTTLED
from tests.contract.destination_kit import octets
from tests.contract.imap_kit import impatient, source
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.contract.source_kit import at, each, fetched, inbox, mailboxes, opened, some
from tests.fakes.imap import BARE, EXTENDED, GMAIL, FakeImap
from tests.fakes.imap_words import Word, flat, numbers

FIRST = ["CAPABILITY", "AUTHENTICATE PLAIN AHVzZXIAc2VjcmV0", 'ID ("name" "syncd")']


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


def answers(box: OpenMailbox, *, alone: bool = False) -> dict[int, Fetched]:
    """Everything that is listed, asked for: answers by UID."""
    rows = listed(box)
    uids = {int(row.number): int(row.uid) for row in rows}
    found = [answer for answer in box.fetch(wanted(rows), Plenty(), alone=alone) if answer is not None]
    assert len(found) == len(rows)
    return {uids[answer.key]: answer for answer in found}


def broken(box: OpenMailbox) -> tuple[dict[int, Fetched], SyncdError]:
    """The same, where the session breaks off: answers by number, and the error."""
    found: dict[int, Fetched] = {}
    with pytest.raises(SyncdError) as caught:  # noqa: PT012  what came before the error counts
        for answer in box.fetch(wanted(listed(box)), Plenty()):
            if answer is not None:
                found[answer.key] = answer
    return found, caught.value


# --- what a session says -----------------------------------------------------------------------------------


def test_a_session_with_one_changed_mailbox_in_six_flights_and_a_farewell(server: FakeImap):
    server.box("INBOX").add(*some(3))
    server.box("Sent")
    with opened(source(server)) as session:
        assert len(mailboxes(session)) == 2
        assert len(fetched(inbox(session))) == 3
        session.finish()
    server.settle()
    assert server.commands == [
        *FIRST,
        "NAMESPACE",
        'LIST "" "*" RETURN (SUBSCRIBED SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))',
        'LIST "" "*" RETURN (SUBSCRIBED SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))',
        "EXAMINE INBOX",
        "UID FETCH 1:4294967295 (UID RFC822.SIZE)",
        "UID FETCH 1:3 (UID FLAGS INTERNALDATE BODY.PEEK[])",
        "LOGOUT",
    ]
    assert server.flights == [1, 1, 3, 1, 2, 1, 1]


def test_i137_nothing_at_the_server_is_changed(server: FakeImap):
    server.box("INBOX").add(*some(3))
    server.box("Sent").add(*some(2), flags=[b"\\Flagged"])
    before = {name: [(mail.uid, list(mail.flags)) for mail in box.mail] for name, box in server.boxes.items()}
    with opened(source(server)) as session:
        for box in each(session):
            fetched(box)
            list(box.headers(wanted(listed(box))))
    assert before == {name: [(mail.uid, mail.flags) for mail in box.mail] for name, box in server.boxes.items()}
    assert not {"SELECT", "STORE", "CLOSE", "EXPUNGE"} & set(server.verbs())


def test_flags_keywords_and_dates_come_with_a_message(server: FakeImap):
    server.box("INBOX").add(*some(1), flags=[b"\\seen", b"$Forwarded", b"\\Recent"], date=b" 1-Feb-2003 04:05:06 +0130")
    with opened(source(server)) as session:
        answer = answers(inbox(session))[1]
    assert answer.flags == ("\\Seen", "$Forwarded")
    assert answer.internal_date == datetime(2003, 2, 1, 4, 5, 6, tzinfo=timezone(timedelta(hours=1, minutes=30)))


@pytest.mark.parametrize("date", [b"00-Jan-0000 00:00:00 +0000", b"Fri, 1 Feb 2003 04:05:06 +0100", b""])
def test_i143_impossible_dates_stop_nothing(server: FakeImap, date: bytes):
    server.box("INBOX").add(*some(1), date=date)
    with opened(source(server)) as session:
        answer = answers(inbox(session))[1]
    assert answer.body is not None
    assert answer.internal_date is None


def test_i138_nothing_is_asked_of_an_empty_mailbox(server: FakeImap):
    with opened(source(server)) as session:
        box = inbox(session)
        assert (listed(box), box.totals()) == ([], Totals(0, 0))
    assert "UID FETCH" not in server.verbs()


def test_small_messages_are_asked_for_in_sets_of_which_several_are_in_flight(server: FakeImap):
    server.box("INBOX").add(*some(900))
    with opened(source(server)) as session:
        assert len(fetched(inbox(session))) == 900
    sets = [command for command in server.commands if "BODY.PEEK[]" in command]
    assert sets[0] == "UID FETCH 1:200 (UID FLAGS INTERNALDATE BODY.PEEK[])"
    assert len(sets) == 5
    assert max(server.flights) >= 4


def test_without_pipelining_every_command_waits(server: FakeImap):
    server.box("INBOX").add(*some(450))
    with opened(source(server, pipelining=False)) as session:
        assert len(fetched(inbox(session))) == 450
    assert set(server.flights) == {1}
    assert [command for command in server.commands if "BODY.PEEK[]" in command][2].startswith("UID FETCH 401:450 ")


# --- mailboxes ---------------------------------------------------------------------------------------------


def test_i37_mailboxes_that_hold_no_messages_are_passed_over(server: FakeImap):
    server.box("[Gmail]", attributes=[b"\\Noselect", b"\\HasChildren"])
    server.box("gone", attributes=[b"\\NonExistent"])
    server.box("real", attributes=[b"\\HasNoChildren"])
    with opened(source(server)) as session:
        assert [mailbox.path for mailbox in mailboxes(session)] == [("INBOX",), ("real",)]


def test_i34_i38_i39_names_are_kept_as_octets_and_paths_are_for_people(server: FakeImap):
    server.delimiter = b"."
    names = [b"INBOX", b"inbox.Entw&APw-rfe", b'quo"ted\\', b"R&D", b"caf\xc3\xa9", b"bad \xff"]
    server.boxes = {name: server.box(name) for name in names}
    with opened(source(server)) as session:
        found = mailboxes(session)
        assert [mailbox.name for mailbox in found] == names
        assert [mailbox.path for mailbox in found] == [
            ("INBOX",),
            ("INBOX", "Entwürfe"),
            ('quo"ted\\',),
            ("R&D",),
            ("café",),
            ("bad \udcff",),
        ]
        for mailbox in found:
            assert session.open(mailbox).mailbox.name == mailbox.name


def test_special_use_and_subscriptions_are_facts_of_a_mailbox(server: FakeImap):
    server.box("Papierkorb", attributes=[b"\\Trash"], subscribed=False)
    with opened(source(server)) as session:
        trash = mailboxes(session)[1]
    assert (trash.use, trash.subscribed) == ("\\Trash", False)


def test_the_token_changes_with_what_a_mailbox_has(server: FakeImap):
    box = server.box("INBOX")
    box.add(*some(2))

    def now() -> Mailbox:
        with opened(source(server)) as session:
            return mailboxes(session)[0]

    tokens = {now().contents}
    assert now().contents in tokens
    for change in (lambda: box.add(*some(1)), lambda: box.expunge(1), lambda: box.renew(9)):
        change()
        assert now().contents not in tokens
        tokens.add(now().contents)
    found = now()
    assert (found.validity, found.messages, found.modseq) == (9, 2, box.modseq)


def test_i166_a_thousand_mailboxes_are_asked_about_in_one_flight_or_in_windows(server: FakeImap):
    for number in range(1000):
        server.box(f"box {number}")
    with opened(source(server)) as session:
        assert len(mailboxes(session)) == 1001
    assert server.flights == [1, 1, 3]
    server.flights.clear()
    server.inside = BARE
    with opened(source(server)) as session:
        assert len(mailboxes(session)) == 1001
    assert server.verbs().count("STATUS") == 1001
    assert max(server.flights) == 100


@pytest.mark.parametrize(("capabilities", "daily"), [(EXTENDED, False), (BARE, True)])
def test_i116_without_a_count_of_changes_a_mailbox_is_listed_once_a_day(
    server: FakeImap,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: tuple[str, ...],
    daily: bool,  # noqa: FBT001
):
    server.capabilities, server.inside = BARE, capabilities
    tokens = []
    for hours in (0, 1, 24):
        later = datetime(2024, 5, 1, 12, tzinfo=UTC) + timedelta(hours=hours)
        monkeypatch.setattr(clock, "now", lambda later=later: later)
        with opened(source(server)) as session:
            tokens.append(mailboxes(session)[0].contents)
    assert tokens[0] == tokens[1]
    assert (tokens[0] != tokens[2]) is daily


def test_i57_i139_a_mailbox_whose_status_is_not_told_is_always_listed(server: FakeImap):
    server.inside = BARE
    server.box("INBOX").add(*some(2))
    server.replies["STATUS"] = b"<tag> NO not now\r\n"
    server.replies["EXAMINE"] = b"* 2 EXISTS\r\n<tag> OK [READ-ONLY] opened\r\n"
    with opened(source(server)) as session:
        [mailbox] = mailboxes(session)
        assert (mailbox.contents, mailbox.validity) == (b"", None)
        server.replies.pop("EXAMINE")
        assert session.open(mailbox).mailbox.validity == 1


def test_what_examine_says_wins_over_what_the_list_said(server: FakeImap):
    server.box("INBOX").add(*some(2))
    with opened(source(server)) as session:
        [mailbox] = mailboxes(session)
        server.box("INBOX").renew(77)
        found = session.open(mailbox).mailbox
    assert (found.validity, found.contents) == (77, b"")


def test_a_mailbox_that_cannot_be_opened_leaves_the_session_as_it_is(server: FakeImap):
    server.box("Sent").add(*some(1))
    server.replies["EXAMINE INBOX"] = b"<tag> NO [NOPERM] not for you\r\n"
    with opened(source(server)) as session:
        with pytest.raises(MailboxRefused, match="not for you"):
            inbox(session)
        assert len(fetched(at(session, ("Sent",)))) == 1


# --- Gmail -------------------------------------------------------------------------------------------------


@pytest.fixture
def gmail(server: FakeImap) -> FakeImap:
    server.inside = GMAIL
    server.box("[Gmail]", attributes=[b"\\Noselect"])
    for name, use in (("All", b"\\All"), ("Spam", b"\\Junk"), ("Bin", b"\\Trash"), ("Sent", b"\\Sent")):
        server.box(f"[Gmail]/{name}", attributes=[use])
    server.box("Work")
    return server


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {"All"}),
        (Selection(("*", r"\Junk")), {"All", "Spam"}),
        (Selection(("*", "[Gmail]/Bin")), {"All", "Bin"}),
        (Selection(("*",), ("Work",)), {"All"}),
    ],
)
def test_i45_gmail_all_mail_once_and_spam_and_trash_only_if_named(
    gmail: FakeImap, selection: Selection, expected: set[str]
):
    with opened(source(gmail, selection=selection)) as session:
        assert {mailbox.path[-1] for mailbox in mailboxes(session)} == expected


def test_i45_a_job_that_names_labels_of_gmail_reads_their_mailboxes(gmail: FakeImap):
    with opened(source(gmail, selection=Selection(("INBOX", "Work")))) as session:
        assert {("INBOX",), ("Work",)} <= {mailbox.path for mailbox in mailboxes(session)}


def test_i164_gmail_labels_are_recorded_with_a_message(gmail: FakeImap):
    box = gmail.box("[Gmail]/All")
    box.add(*some(2))
    box.mail[0].labels = [b"\\Inbox", b"Entw&APw-rfe", b'quo"ted']
    with opened(source(gmail)) as session:
        found = answers(at(session, ("[Gmail]", "All")))
    assert found[1].labels == ("Entwürfe", "\\Inbox", 'quo"ted')
    assert found[2].labels == ()


# --- what is not proven ------------------------------------------------------------------------------------


def test_i130_rows_that_were_not_asked_for_are_no_answer(server: FakeImap):
    server.box("INBOX").add(*some(4))
    server.last_for_missing = True
    with opened(source(server)) as session:
        box = inbox(session)
        rows = listed(box)
        server.box("INBOX").expunge(2)
        gone = Wanted(Key(2), rows[1].number, rows[1].uid, rows[1].octets)
        [answer] = [answer for answer in box.fetch([gone], Plenty()) if answer]
    assert answer.body is None
    assert "not there any more" in str(answer.error)


@pytest.mark.parametrize("put", [b"From: server\r\n\r\nThis message is unavailable.\r\n", b""])
def test_i131_what_comes_in_place_of_a_message_that_is_gone_is_not_taken(server: FakeImap, put: bytes):
    server.box("INBOX").add(*some(3))
    with opened(source(server)) as session:
        box = inbox(session)
        rows = listed(box)
        server.serves[2] = put
        server.on["NOOP"] = lambda _: server.box("INBOX").expunge(2)
        found = {answer.key: answer for answer in box.fetch(wanted(rows), Plenty()) if answer}
    assert {key for key, answer in found.items() if answer.body} == {1, 3}
    assert "not there any more" in str(found[Key(2)].error)


def test_i72_no_octets_of_a_message_that_has_some_are_no_message(server: FakeImap):
    server.box("INBOX").add(*some(3))
    server.serves[2] = b""
    with opened(source(server)) as session:
        found = answers(inbox(session))
    assert isinstance(found[2].error, MessageRefused)
    assert found[1].body
    assert found[3].body


def test_i76_i142_the_octets_that_come_count_not_the_size_that_is_listed(server: FakeImap):
    messages = some(6)
    server.box("INBOX").add(*messages)
    for mail, size in zip(server.box("INBOX").mail, (0, 1, 10_000, 0, 7, None), strict=True):
        mail.listed = size
    with opened(source(server)) as session:
        found = answers(inbox(session))
    assert {uid: octets(answer.body) for uid, answer in found.items() if answer.body} == dict(enumerate(messages, 1))


def test_i73_i132_a_message_without_a_row_is_asked_for_once_more_and_then_set_aside(server: FakeImap):
    server.box("INBOX").add(*some(4))
    server.leaves_out = {3}
    with opened(source(server)) as session:
        found = answers(inbox(session))
        session.finish()
    assert {uid for uid, answer in found.items() if answer.body} == {1, 2, 4}
    assert "gives nothing of it" in str(found[3].error)
    assert "UID FETCH 3 (UID FLAGS INTERNALDATE BODY.PEEK[])" in server.commands


def test_i132_a_row_that_was_left_out_once_comes_when_it_is_asked_for_alone(server: FakeImap):
    server.box("INBOX").add(*some(4))
    server.leaves_out = {3}
    server.on["NOOP"] = lambda _: server.leaves_out.clear()
    with opened(source(server)) as session:
        assert all(answer.body for answer in answers(inbox(session)).values())


def test_i133_the_uid_may_stand_behind_the_body(server: FakeImap, tmp_path: Path):
    large = b"Subject: large\r\n\r\n" + b"x" * 3_000_000
    server.box("INBOX").add(*some(2), large)
    server.uid_last = True
    with opened(source(server, spool=tmp_path)) as session:
        assert fetched(inbox(session)) == dict(enumerate([*some(2), large], 1))


# --- refusals ----------------------------------------------------------------------------------------------


def test_i15_i74_a_refused_command_is_divided_until_the_message_at_fault_stands_alone(server: FakeImap):
    server.box("INBOX").add(*some(40))
    server.refuses = {7, 23}
    with opened(source(server)) as session:
        found = answers(inbox(session))
        session.finish()
    assert {uid for uid, answer in found.items() if answer.body is None} == {7, 23}
    assert all(isinstance(found[uid].error, MessageRefused) for uid in (7, 23))
    assert len(server.commands) < 40


def test_i105_commands_that_the_server_calls_bad_are_not_repeated_by_halves(server: FakeImap):
    server.box("INBOX").add(*some(12))

    def bad(arguments: list[Word]) -> bytes | None:
        asked, items = flat(arguments[0])[0], flat(arguments[1])
        hit = any(first <= 7 <= last for first, last in numbers(asked, 12))
        return b"<tag> BAD Command Argument Error. 11\r\n" if hit and b"BODY.PEEK[]" in items else None

    server.on["UID FETCH"] = bad
    with opened(source(server)) as session:
        found = answers(inbox(session))
    assert {uid for uid, answer in found.items() if answer.body is None} == {7}


def test_a_server_that_refuses_every_message_refuses_the_mailbox(server: FakeImap):
    server.box("INBOX").add(*some(MOST_REFUSED + 10))
    server.refuses = set(range(1, 100))
    with opened(source(server)) as session:
        found, error = broken(inbox(session))
        server.refuses = set()
        assert len(fetched(inbox(session))) == MOST_REFUSED + 10
    assert found == {}
    assert isinstance(error, MailboxRefused)
    assert error.scope is Scope.MAILBOX


def throttle(server: FakeImap, count: int) -> None:
    """The server says behind its next answers with bodies that it slows us down."""
    left = iter(range(count))

    def slow(arguments: list[Word]) -> bytes | None:
        if b"BODY.PEEK[]" not in flat(arguments[1]) or next(left, None) is None:
            return None
        box, (first, last) = server.boxes[b"INBOX"], next(numbers(flat(arguments[0])[0], 10_000))
        rows = [
            b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n" % (mail.uid, mail.uid, len(mail.octets), mail.octets)
            for mail in box.mail
            if first <= mail.uid <= last
        ]
        return b"".join(rows) + b"<tag> OK done [THROTTLED]\r\n"

    server.on["UID FETCH"] = slow


def test_i09_a_server_that_slows_us_down_has_less_to_do_at_a_time_until_it_stops(server: FakeImap):
    server.box("INBOX").add(*[b"From: a\r\n\r\nx\r\n"] * 3000)
    throttle(server, 4)
    with opened(source(server)) as session:
        box = inbox(session)
        before = len(server.flights)
        assert len(fetched(box)) == 3000
    flights = server.flights[before:]
    assert flights[0] == 5
    assert 1 in flights[1:]
    assert sum(flights) == 15


def test_i09_a_server_that_goes_on_slowing_us_down_is_left_alone(server: FakeImap):
    server.box("INBOX").add(*[b"From: a\r\n\r\nx\r\n"] * (MOST_THROTTLED + 5) * SET_MESSAGES)
    throttle(server, 1000)
    with opened(source(server)) as session:
        found, error = broken(inbox(session))
    assert isinstance(error, Throttled)
    assert error.code == "THROTTLED"
    assert len(found) == (MOST_THROTTLED + 1) * SET_MESSAGES


def test_i105_after_a_bad_one_command_is_in_flight(server: FakeImap):
    server.box("INBOX").add(*[b"From: a\r\n\r\nx\r\n"] * 2000)
    bads = iter([b"<tag> BAD Command Argument Error. 11\r\n"])
    server.on["UID FETCH"] = lambda words: next(bads, None) if b"BODY.PEEK[]" in flat(words[1]) else None
    with opened(source(server)) as session:
        assert len(fetched(inbox(session))) == 2000
    assert max(server.flights[-5:]) == 1


@pytest.mark.parametrize("reply", [b"NO [LIMIT] Rate limit hit", b"NO [THROTTLED] slow down"])
def test_i15_a_pause_that_the_server_wants_is_about_the_account(server: FakeImap, reply: bytes):
    server.box("INBOX").add(*some(3))
    with opened(source(server)) as session:
        box = inbox(session)
        rows = listed(box)
        server.replies["UID FETCH"] = b"<tag> %b\r\n" % reply
        with pytest.raises(Throttled):
            list(box.fetch(wanted(rows), Plenty()))


# --- sessions that break off -------------------------------------------------------------------------------


def test_i132_a_server_that_breaks_off_inside_a_message_names_it(server: FakeImap):
    server.box("INBOX").add(*some(6))
    server.breaks_off_at = {4}
    with opened(source(server)) as session:
        found, error = broken(inbox(session))
    assert {key for key, answer in found.items() if answer.body} == {1, 2, 3}
    assert isinstance(found[4].error, MessageLost)
    assert isinstance(error, SessionLost)
    assert "UID 4" in str(error)


def test_i132_a_server_that_hangs_up_before_a_message_leaves_the_first_one_suspected(server: FakeImap):
    server.box("INBOX").add(*some(3))
    with opened(source(server)) as session:
        box = inbox(session)
        rows = listed(box)
        server.hangs_up_on = {"UID FETCH"}
        with pytest.raises(SessionLost) as caught:
            list(box.fetch(wanted(rows), Plenty()))
    assert "UID 1" in str(caught.value)


def test_a_server_that_falls_silent_inside_a_message_names_it_as_well(server: FakeImap):
    server.box("INBOX").add(*some(2))
    with opened(source(server, deadlines=impatient(body=0.2, listing=0.2))) as session:
        box = inbox(session)
        rows = listed(box)
        server.hangs_on = {"UID FETCH"}
        with pytest.raises(SessionLost):
            list(box.fetch(wanted(rows), Plenty()))


def test_i119_a_mailbox_that_is_deleted_while_it_is_read_is_an_error_of_that_mailbox(server: FakeImap):
    server.box("Sent").add(*some(3))
    server.box("INBOX").add(*some(2))
    with opened(source(server)) as session:
        box = at(session, ("Sent",))
        rows = listed(box)
        server.box("Sent").mail.clear()
        del server.boxes[b"Sent"]
        with pytest.raises(MailboxRefused, match="no such mailbox"):
            list(box.fetch(wanted(rows), Plenty()))
        assert len(fetched(inbox(session))) == 2


def test_a_loss_while_a_mailbox_is_opened_or_listed_may_be_followed_by_another_session(server: FakeImap):
    server.box("INBOX").add(*some(2))
    server.hangs_up_on = {"EXAMINE"}
    with opened(source(server)) as session, pytest.raises(SessionLost):
        inbox(session)
    server.hangs_up_on = {"UID FETCH"}
    with opened(source(server)) as session, pytest.raises(SessionLost):
        listed(inbox(session))


def test_headers_that_end_the_session_are_said_to_do_so(server: FakeImap):
    server.box("INBOX").add(*some(2))
    with opened(source(server)) as session:
        box = inbox(session)
        rows = listed(box)
        server.hangs_up_on = {"UID FETCH"}
        with pytest.raises(NoHeaders):
            list(box.headers(wanted(rows)))


def test_a_message_without_a_header_of_its_own_is_answered_by_none(server: FakeImap):
    server.box("INBOX").add(*some(2))
    with opened(source(server)) as session:
        box = inbox(session)
        rows = [*listed(box)]
        asked = [*wanted(rows), Wanted(Key(9), rows[0].number, Uid(b"99"), 5)]
        assert dict(box.headers(iter(asked)))[Key(9)] is None


def test_a_listing_that_came_with_the_opening_and_is_not_wanted_is_read_off(server: FakeImap):
    server.box("INBOX").add(*some(3))
    server.box("Sent").add(*some(2))
    with opened(source(server)) as session:
        first, second = mailboxes(session)
        box = session.open(first)
        assert [start is not None for _, start in box.headers([Wanted(Key(2), LineNumber(2), Uid(b"2"), 0)])] == [True]
        session.open(first)
        assert len(fetched(session.open(second))) == 2


def test_a_mailbox_that_cannot_be_opened_is_not_listed_again_and_again(server: FakeImap):
    server.replies["EXAMINE"] = b"<tag> NO out of reach\r\n"
    server.on["UID FETCH"] = lambda _: b"<tag> BAD no mailbox is open\r\n"
    for name in ("INBOX", "a", "b", "c"):
        server.box(name).add(*some(1))
    with opened(source(server)) as session:
        for mailbox in mailboxes(session):
            with pytest.raises(MailboxRefused, match="out of reach"):
                session.open(mailbox)
    assert server.verbs().count("EXAMINE") == 4
    assert server.verbs().count("UID FETCH") == 3  # I105


# --- listings ----------------------------------------------------------------------------------------------


def test_i61_a_listing_with_fewer_rows_than_the_server_counts_does_not_claim_to_be_whole(server: FakeImap):
    server.box("INBOX").add(*some(3))
    with opened(source(server)) as session:
        server.on["UID FETCH"] = lambda _: b"* 1 FETCH (UID 1 RFC822.SIZE 30)\r\n<tag> OK done\r\n"
        box = inbox(session)
        assert len(listed(box)) == 1
        assert box.totals().messages == 3


def test_mail_that_arrives_while_a_listing_comes_is_listed_behind_it(server: FakeImap):
    there = server.box("INBOX")
    there.add(*some(2))

    def arrives(_: list[Word]) -> bytes | None:
        if len(there.mail) == 3:
            return None
        there.add(*some(1, start=8))
        rows = b"".join(b"* %d FETCH (UID %d RFC822.SIZE 50)\r\n" % (uid, uid) for uid in (1, 2))
        return rows + b"* 3 EXISTS\r\n<tag> OK done\r\n"

    with opened(source(server)) as session:
        server.on["UID FETCH"] = arrives
        box = inbox(session)
        assert [(row.number, int(row.uid)) for row in listed(box)] == [(1, 1), (2, 2), (3, 3)]
        assert box.totals().messages == 3
    assert "UID FETCH 3:4294967295 (UID RFC822.SIZE)" in server.commands


# --- quotas ------------------------------------------------------------------------------------------------


QUOTAS = (
    b'* QUOTAROOT INBOX "" "%s"\r\n* QUOTA "" (STORAGE 512 1024)\r\n'
    b'* QUOTA "%s" (STORAGE 0 0 MESSAGE 7 10)\r\n* QUOTA "other" (STORAGE 1 2)\r\n<tag> OK\r\n'
) % (b"team", b"team")


def test_quotas_are_told_when_a_person_asks_and_no_run_asks_for_them(server: FakeImap):
    server.inside = (*EXTENDED, "QUOTA")
    server.on["GETQUOTAROOT"] = lambda _: QUOTAS
    found = try_out(source(server)).quotas
    assert found == (QuotaUse("", 512 << 10, 1 << 20, None, None), QuotaUse("team", 0, 0, 7, 10))
    assert [quota(it) for it in found] == ["512.0 KiB of 1.0 MiB (50 %)", "0 B of 0 B and 7 of 10 messages (70 %)"]
    server.commands.clear()
    with opened(source(server)) as session:
        assert mailboxes(session)
    assert not [it for it in server.commands if "QUOTA" in it]


@pytest.mark.parametrize("answer", [b"<tag> NO no such mailbox\r\n", b"<tag> OK\r\n", b"* QUOTA\r\n<tag> OK\r\n"])
def test_a_server_that_does_not_tell_its_quotas_is_signed_in_to_all_the_same(server: FakeImap, answer: bytes):
    server.inside = (*EXTENDED, "QUOTA")
    server.on["GETQUOTAROOT"] = lambda _: answer
    assert try_out(source(server)).quotas == ()
    server.inside = EXTENDED
    assert try_out(source(server)).quotas == ()
