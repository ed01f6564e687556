"""What every source must do, whatever it reads from: one suite, run against each of them."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from syncd.errors import Cancelled, MessageRefused, Scope, SyncdError
from syncd.mail.body import HEADER_CAP_OCTETS, MEMORY_CAP_OCTETS, header_hash
from syncd.mail.listing import Fetched, Listed, Totals, Wanted
from syncd.mail.mailbox import INBOX_PATH
from syncd.mail.message import Key
from syncd.sources.base import Source
from tests.contract.destination_kit import MAIL, octets
from tests.contract.pop3_kit import Plenty, Scarce, listed, wanted
from tests.contract.source_kit import HEAD, Kit, each, fetched, inbox, mailboxes, opened, some
from tests.support import mail

PATHS = [("Sent",), ("Archive", "2019"), ("Entwürfe",), ("a/b", "c.d")]


class SourceSuite:
    """Inherit, and give a fixture `kit`."""

    @pytest.fixture
    def source(self, kit: Kit, tmp_path: Path) -> Source:
        return kit.source(tmp_path / "spool")

    def test_says_how_many_sessions_it_bears(self, source: Source) -> None:
        assert source.connections >= 1

    # --- mailboxes ---

    def test_each_mailbox_is_listed_once_in_an_order_that_lasts(self, kit: Kit, source: Source) -> None:
        kit.add(some(2))
        for path in PATHS if kit.several else ():
            kit.add_to(path, some(2))
        with opened(source) as session:
            found = mailboxes(session)
            assert mailboxes(session) == found
        with opened(source) as session:
            assert mailboxes(session) == found
        assert len({mailbox.name for mailbox in found}) == len(found)
        assert {mailbox.path for mailbox in found} == {INBOX_PATH, *(PATHS if kit.several else ())}

    def test_new_mail_changes_no_mailbox_and_not_their_order(self, kit: Kit, source: Source) -> None:
        kit.add(some(2))
        for path in PATHS if kit.several else ():
            kit.add_to(path, some(1))
        with opened(source) as session:
            before = mailboxes(session)
        kit.add(some(2, start=5))
        if kit.several:
            kit.add_to(PATHS[1], some(1, start=7))
        with opened(source) as session:
            assert [(m.name, m.path) for m in mailboxes(session)] == [(m.name, m.path) for m in before]

    def test_mailboxes_come_in_chunks_of_at_most_1000(self, kit: Kit, source: Source) -> None:
        if not kit.several:
            pytest.skip("it has one mailbox")
        kit.make_mailboxes([(f"box {number}",) for number in range(1_001)])
        with opened(source) as session:
            chunks = list(session.mailboxes())
        assert max(map(len, chunks)) <= 1_000
        assert {mailbox.path for mailbox in chain.from_iterable(chunks)} >= {(f"box {n}",) for n in range(1_001)}

    def test_mailboxes_are_opened_one_after_the_other_and_each_has_its_own_mail(self, kit: Kit, source: Source) -> None:
        expected = {INBOX_PATH: some(3)}
        kit.add(expected[INBOX_PATH])
        for number, path in enumerate(PATHS if kit.several else (), 1):
            expected[path] = some(number, start=10 * number)
            kit.add_to(path, expected[path])
        with opened(source) as session:
            for _ in range(2):
                got = {}
                for box in each(session):
                    got[box.mailbox.path] = Counter(fetched(box).values())
                    assert box.totals().messages == len(expected[box.mailbox.path])
                assert got == {path: Counter(map(kit.given, messages)) for path, messages in expected.items()}
            session.finish()

    def test_a_mailbox_may_be_opened_and_left(self, kit: Kit, source: Source) -> None:
        kit.add(some(4))
        if kit.several:
            kit.add_to(PATHS[0], some(2, start=8))
        with opened(source) as session:
            for box in each(session):
                next(iter(box.list()))
            assert len(fetched(inbox(session))) == 4
            session.finish()

    # --- listing ---

    def test_lists_every_message_once_numbered_from_1(self, kit: Kit, source: Source) -> None:
        kit.add(some(7))
        with opened(source) as session:
            box = inbox(session)
            rows = listed(box)
            totals = box.totals()
        assert [row.number for row in rows] == list(range(1, 8))
        assert len({row.uid for row in rows}) == 7
        assert totals == Totals(7, sum(row.octets for row in rows))

    def test_totals_need_no_listing(self, kit: Kit, source: Source) -> None:
        kit.add(some(3))
        with opened(source) as session:
            box = inbox(session)
            before = box.totals()
            rows = listed(box)
            assert before == box.totals() == Totals(3, sum(row.octets for row in rows))

    def test_nothing_is_there(self, source: Source) -> None:
        with opened(source) as session:
            for box in each(session):
                assert (listed(box), box.totals(), fetched(box)) == ([], Totals(0, 0), {})
            session.finish()

    def test_a_listing_comes_in_chunks_of_at_most_1000_and_can_be_asked_for_again(
        self, kit: Kit, source: Source
    ) -> None:
        kit.add(some(2001))
        with opened(source) as session:
            box = inbox(session)
            chunks = list(box.list())
            again = listed(box)
        rows = list(chain.from_iterable(chunks))
        assert max(map(len, chunks)) <= 1000
        assert min(map(len, chunks)) > 0
        assert [row.number for row in rows] == list(range(1, 2002))
        assert rows == again

    def test_a_message_keeps_its_uid_and_listings_are_equal_when_nothing_changed(
        self, kit: Kit, source: Source
    ) -> None:
        kit.add(some(5))
        with opened(source) as session:
            first = listed(inbox(session))
            session.finish()
        with opened(source) as session:
            assert listed(inbox(session)) == first
        kit.add(some(2, start=6))
        with opened(source) as session:
            more = {(row.uid, row.octets) for row in listed(inbox(session))}
        assert {(row.uid, row.octets) for row in first} < more
        assert len(more) == 7

    def test_facts_are_the_listing_with_what_comes_with_each_message(self, kit: Kit, source: Source) -> None:
        kit.add(some(9))
        with opened(source) as session:
            box = inbox(session)
            rows = listed(box)
            chunks = list(box.facts())
            answers = {one.key: one for one in box.fetch(wanted(rows[-3:]), Plenty()) if one}
            session.finish()
        facts = list(chain.from_iterable(chunks))
        assert [(one.number, one.uid, one.octets) for one in facts] == rows
        for one in facts[-3:]:
            answer = answers[Key(one.number)]
            assert answer.body
            assert one.flags in {None, answer.flags}
            assert one.internal_date in {None, answer.internal_date}
            assert one.sha256 in {None, answer.body.sha256}
            answer.body.close()

    # --- fetching ---

    def test_gives_the_octets(self, kit: Kit, source: Source) -> None:
        messages = [*MAIL, *mail.nasty().values()]
        kit.add(messages)
        with opened(source) as session:
            assert Counter(fetched(inbox(session)).values()) == Counter(map(kit.given, messages))

    def test_answers_each_wanted_message_exactly_once_whatever_the_order(self, kit: Kit, source: Source) -> None:
        kit.add(some(9))
        with opened(source) as session:
            box = inbox(session)
            all_of_it = fetched(box)
            rows = listed(box)
            some_of_it = [rows[6], rows[2], rows[8], rows[0]]
            asked = [Wanted(Key(100 + row.number), row.number, row.uid, row.octets) for row in some_of_it]
            answers = list(box.fetch(iter(asked), Plenty()))
            session.finish()
        got = {answer.key: octets(answer.body) for answer in answers if answer and answer.body}
        assert len(answers) == len(got) == 4
        assert got == {100 + row.number: all_of_it[row.number] for row in some_of_it}

    def test_headers_alone_are_the_start_of_each_message(self, kit: Kit, source: Source) -> None:
        long = b"X: " + b"y" * 100 + b"\r\n"
        beyond = long * (2 * HEADER_CAP_OCTETS // len(long)) + b"\r\nbody\r\n"
        kit.add([*some(4), HEAD + b"x" * 300_000 + b"\r\n", beyond, b"\r\nno header\r\n"])
        with opened(source) as session:
            box = inbox(session)
            rows = listed(box)
            told = list(box.headers(wanted(rows)))
            assert len(told) == len(dict(told)) == len(rows)
            headers = dict(told)
            for answer in box.fetch(wanted(rows), Plenty()):
                assert answer
                assert answer.body
                hashed, whole, start = answer.body.header_hash, octets(answer.body), headers[answer.key]
                assert start is not None
                assert len(start) <= HEADER_CAP_OCTETS
                assert whole.startswith(start)
                assert b"\r\n\r\n" in start or start.startswith(b"\r\n") or len(start) == HEADER_CAP_OCTETS
                assert hashed == header_hash(whole) == header_hash(start)

    def test_takes_room_before_each_message_and_says_when_there_is_none(self, kit: Kit, source: Source) -> None:
        kit.add(some(20))
        with opened(source) as session:
            box = inbox(session)
            rows = listed(box)
            limit = max(row.octets for row in rows)
            room, got, held = Scarce(limit), 0, 0
            by_number = {int(row.number): row.octets for row in rows}
            for answer in box.fetch(wanted(rows), room):
                if answer is None:  # what we hold is handed over, and its room given back
                    room.free, held = room.free + held, 0
                    assert room.free == limit
                    continue
                assert answer.body
                listed_octets = by_number[answer.key]
                more = 0 if answer.body.data is None else max(0, answer.body.octets - listed_octets)
                answer.body.close()
                got, held = got + 1, held + listed_octets + more
                assert room.free + held <= limit
        assert got == 20
        assert room.waits

    def test_a_message_that_cannot_be_had_fails_alone(self, kit: Kit, source: Source) -> None:
        messages = some(6)
        for message in messages:
            kit.add([message])
        with opened(source) as session:
            box = inbox(session)
            rows = listed(box)
            kit.spoil(messages[2])
            answers = [answer for answer in box.fetch(wanted(rows), Plenty()) if answer]
            session.finish()
        assert len(answers) == 6
        [failed] = [answer for answer in answers if answer.body is None]
        assert isinstance(failed.error, MessageRefused)
        assert failed.error.scope is Scope.MESSAGE
        assert "\n" not in str(failed.error)
        bodies = [octets(answer.body) for answer in answers if answer.body]
        assert Counter(bodies) == Counter(messages[:2] + messages[3:])

    def test_a_message_too_large_for_memory_goes_through_a_file(self, kit: Kit, source: Source, tmp_path: Path) -> None:
        line = b"From the middle of a large message, %07d\r\n"
        large = HEAD + b"".join(line % number for number in range(10 * MEMORY_CAP_OCTETS // len(line)))
        kit.add([HEAD, large, HEAD + b"after\r\n"])
        with opened(source) as session:
            box = inbox(session)
            answers = [answer for answer in box.fetch(wanted(listed(box)), Plenty()) if answer]
            [body] = [a.body for a in answers if a.body and a.body.data is None]
            assert octets(body) == large
        assert (tmp_path / "spool").is_dir()
        assert list((tmp_path / "spool").iterdir()) == []

    # --- ends ---

    def test_close_is_repeatable_also_after_finish(self, kit: Kit, source: Source) -> None:
        kit.add(some(2))
        for finish in (False, True):
            session = source.connect()
            assert len(listed(inbox(session))) == 2
            if finish:
                session.finish()
            session.close()
            session.close()

    def test_cancelled_before_it_connects(self, source: Source) -> None:
        source.cancel()
        source.cancel()
        with pytest.raises(Cancelled):
            source.connect()

    def test_cancelled_while_it_fetches(self, kit: Kit, source: Source) -> None:
        kit.add([HEAD + b"%d " % key + b"x" * 200_000 + b"\r\n" for key in range(20)])
        got: list[Fetched | None] = []
        with opened(source) as session:
            box = inbox(session)

            def fetch() -> None:
                for answer in box.fetch(wanted(listed(box)), Plenty()):
                    got.append(answer)
                    source.cancel()

            with pytest.raises(Cancelled):
                fetch()
        assert 0 < len(got) < 20
        for answer in got:
            assert answer
            assert answer.body
            answer.body.close()

    # --- removal ---

    def test_removes_what_is_asked_for_or_says_that_it_never_does(self, kit: Kit, source: Source) -> None:
        kit.add(some(4))
        with opened(source) as session:
            box = inbox(session, removes=kit.removes)
            rows: list[Listed] = listed(box)
            doomed = [Wanted(Key(7 + n // 3), rows[n].number, rows[n].uid, rows[n].octets) for n in (1, 3)]
            answers = list(box.remove(iter(doomed)))
            session.finish()
        assert [answer.key for answer in answers] == [7, 8]
        for answer in answers:
            assert (answer.error is None) is kit.removes
            assert kit.removes or isinstance(answer.error, SyncdError)
        if not kit.removes:
            assert {kit.keeps in str(answer.error) for answer in answers} == {True}
            with opened(source) as session:
                assert listed(inbox(session)) == rows
