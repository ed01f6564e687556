"""What every source must do, whatever it reads from: one suite, run against each of them."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from syncd.errors import Cancelled, MessageRefused, Scope, SyncdError
from syncd.mail.body import MEMORY_CAP_OCTETS, header_hash
from syncd.sources.base import Fetched, Listed, Source, Totals, Wanted
from tests.contract.destination_kit import MAIL, octets
from tests.contract.pop3_kit import Plenty, Scarce, listed, wanted
from tests.contract.source_kit import HEAD, Kit, fetched, opened, some
from tests.support import mail


class SourceSuite:
    """Inherit, and give a fixture `kit`."""

    @pytest.fixture
    def source(self, kit: Kit, tmp_path: Path) -> Source:
        return kit.source(tmp_path / "spool")

    # --- listing ---

    def test_lists_every_message_once_numbered_from_1(self, kit: Kit, source: Source) -> None:
        kit.add(some(7))
        with opened(source) as session:
            rows = listed(session)
            totals = session.totals()
        assert [row.number for row in rows] == list(range(1, 8))
        assert len({row.uid for row in rows}) == 7
        assert totals == Totals(7, sum(row.octets for row in rows))

    def test_totals_need_no_listing(self, kit: Kit, source: Source) -> None:
        kit.add(some(3))
        with opened(source) as session:
            before = session.totals()
            rows = listed(session)
            assert before == session.totals() == Totals(3, sum(row.octets for row in rows))

    def test_nothing_is_there(self, source: Source) -> None:
        with opened(source) as session:
            assert (listed(session), session.totals(), fetched(session)) == ([], Totals(0, 0), {})
            session.finish()

    def test_a_listing_comes_in_chunks_of_at_most_1000_and_can_be_asked_for_again(
        self, kit: Kit, source: Source
    ) -> None:
        kit.add(some(2001))
        with opened(source) as session:
            chunks = list(session.list())
            again = listed(session)
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
            first = listed(session)
            session.finish()
        with opened(source) as session:
            assert listed(session) == first
        kit.add(some(2, start=6))
        with opened(source) as session:
            more = {(row.uid, row.octets) for row in listed(session)}
        assert {(row.uid, row.octets) for row in first} < more
        assert len(more) == 7

    # --- fetching ---

    def test_gives_the_octets(self, kit: Kit, source: Source) -> None:
        messages = [*MAIL, *mail.nasty().values()]
        kit.add(messages)
        with opened(source) as session:
            assert Counter(fetched(session).values()) == Counter(map(kit.given, messages))

    def test_gives_what_is_wanted_in_the_order_in_which_it_is_wanted(self, kit: Kit, source: Source) -> None:
        kit.add(some(9))
        with opened(source) as session:
            all_of_it = fetched(session)
            rows = listed(session)
            some_of_it = [rows[6], rows[2], rows[8], rows[0]]
            asked = [Wanted(100 + row.number, row.number, row.uid, row.octets) for row in some_of_it]
            answers = list(session.fetch(iter(asked), Plenty()))
            session.finish()
        got = [(answer.key, octets(answer.body)) for answer in answers if answer and answer.body]
        assert got == [(100 + row.number, all_of_it[row.number]) for row in some_of_it]

    def test_every_body_has_its_digest_and_the_header_hash_that_is_told_without_it(
        self, kit: Kit, source: Source
    ) -> None:
        kit.add([*some(4), HEAD + b"x" * 300_000 + b"\r\n"])
        with opened(source) as session:
            rows = listed(session)
            told = dict(session.header_hashes(wanted(rows)))
            for answer in session.fetch(wanted(rows), Plenty()):
                assert answer
                assert answer.body
                hashed = answer.body.header_hash
                assert hashed == header_hash(octets(answer.body)) == told[answer.key]

    def test_takes_room_before_each_message_and_says_when_there_is_none(self, kit: Kit, source: Source) -> None:
        kit.add(some(20))
        with opened(source) as session:
            rows = listed(session)
            limit = max(row.octets for row in rows)
            room, got, held = Scarce(limit), 0, 0
            by_number = {row.number: row.octets for row in rows}
            for answer in session.fetch(wanted(rows), room):
                if answer is None:  # what we hold is handed over, and its room given back
                    room.free, held = room.free + held, 0
                    assert room.free == limit
                    continue
                assert answer.body
                answer.body.close()
                got, held = got + 1, held + by_number[answer.key]
                assert room.free + held <= limit
        assert got == 20
        assert room.waits

    def test_a_message_that_cannot_be_had_fails_alone(self, kit: Kit, source: Source) -> None:
        messages = some(6)
        for message in messages:
            kit.add([message])
        with opened(source) as session:
            rows = listed(session)
            kit.spoil(messages[2])
            answers = [answer for answer in session.fetch(wanted(rows), Plenty()) if answer]
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
            answers = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer]
            [body] = [a.body for a in answers if a.body and a.body.data is None]
            assert octets(body) == large
        assert (tmp_path / "spool").is_dir()
        assert list((tmp_path / "spool").iterdir()) == []

    # --- ends ---

    def test_close_is_repeatable_also_after_finish(self, kit: Kit, source: Source) -> None:
        kit.add(some(2))
        for finish in (False, True):
            session = source.connect()
            assert len(listed(session)) == 2
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

            def fetch() -> None:
                for answer in session.fetch(wanted(listed(session)), Plenty()):
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
            rows: list[Listed] = listed(session)
            doomed = [Wanted(7, 2, rows[1].uid, rows[1].octets), Wanted(8, 4, rows[3].uid, rows[3].octets)]
            answers = list(session.remove(iter(doomed)))
            session.finish()
        assert [answer.key for answer in answers] == [7, 8]
        for answer in answers:
            assert (answer.error is None) is kit.removes
            assert kit.removes or isinstance(answer.error, SyncdError)
        if not kit.removes:
            assert {"is an archive: a job copies from it and never" in str(a.error) for a in answers} == {True}
            with opened(source) as session:
                assert listed(session) == rows
