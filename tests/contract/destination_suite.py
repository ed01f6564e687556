"""What every archive must do, whatever its format: one suite, run against each of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.destinations.base import Archive, Recording
from syncd.durable import Moment, Step
from syncd.errors import ArchiveMissing, FormatDamaged, StorageError
from syncd.mail.body import MEMORY_CAP_OCTETS, Body, BodyWriter
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Receipt, Uid
from syncd.mail.outcome import Outcome, Repeat, Verdict
from tests.contract.destination_kit import (
    CRLF_MAIL,
    MAIL,
    OTHER,
    ROAD,
    SENT,
    Crash,
    Kit,
    batch,
    check,
    count_steps,
    delivered,
    failing_as,
    message,
    octets,
    outcomes_of,
    powerless,
    watching,
)


class DestinationSuite:
    """Inherit, and give a fixture `kit`."""

    @pytest.fixture
    def path(self, kit: Kit, tmp_path: Path) -> Path:
        path = tmp_path / "archive"
        kit.create(path)
        return path

    def test_is_repeat_safe(self, kit: Kit, path: Path) -> None:
        assert kit.archive(path).repeat is Repeat.SAFE

    def test_gives_one_outcome_each_and_the_octets_back(self, kit: Kit, path: Path) -> None:
        messages = batch()
        with kit.opened(path) as archive:
            check(archive, delivered(archive, messages), messages)
        assert kit.copies(path) == len(messages)

    def test_takes_an_empty_batch(self, kit: Kit, path: Path) -> None:
        with kit.opened(path) as archive:
            assert outcomes_of(archive, []) == []
        assert kit.copies(path) == 0

    def test_repeat_by_the_same_and_by_another_instance_changes_nothing(self, kit: Kit, path: Path) -> None:
        messages = batch()
        with kit.opened(path) as archive:
            first = delivered(archive, messages)
            again = delivered(archive, messages)
            check(archive, again, messages)
        with kit.opened(path) as archive:
            other = delivered(archive, messages)
            for receipts in (first, again, other):
                check(archive, receipts, messages)
        assert kit.copies(path) == len(messages)

    def test_repeat_with_other_flags_changes_nothing(self, kit: Kit, path: Path) -> None:
        with kit.opened(path) as archive:
            delivered(archive, [message(1, CRLF_MAIL)])
            delivered(archive, [message(1, CRLF_MAIL, flags=("\\Seen",))])
        with kit.opened(path) as archive:
            delivered(archive, [message(1, CRLF_MAIL, flags=("\\Seen", "\\Flagged"))])
        assert kit.copies(path) == 1

    def test_mailboxes_are_recorded_once_and_hold_no_message(self, kit: Kit, path: Path) -> None:
        origins = [SENT, *(ROAD._replace(mailbox=b"%d" % n, path=("x", str(n)), use="\\Junk") for n in range(9))]
        with kit.opened(path) as archive:
            assert isinstance(archive, Recording)
            assert count_steps(lambda: archive.note_mailboxes(origins)) > 0
            assert count_steps(lambda: archive.note_mailboxes([*reversed(origins), SENT])) == 0
            archive.note_mailboxes([])
            m = message(1, CRLF_MAIL, SENT)
            check(archive, delivered(archive, [m]), [m])
        assert kit.copies(path) == 1

    def test_one_message_twice_in_a_batch_is_stored_once(self, kit: Kit, path: Path) -> None:
        same = [message(1, CRLF_MAIL, uid=b"u"), message(2, CRLF_MAIL, uid=b"u", flags=("\\Seen",))]
        with kit.opened(path) as archive:
            check(archive, delivered(archive, same), same)
        assert kit.copies(path) == 1

    def test_batches_and_receipts_of_earlier_runs(self, kit: Kit, path: Path) -> None:
        first, second = batch(ROAD), batch(SENT)
        with kit.opened(path) as archive:
            of_first = delivered(archive, first)
            of_second = delivered(archive, second)
            check(archive, of_first, first)
        with kit.opened(path) as archive:
            check(archive, of_first, first)
            check(archive, of_second, second)

    def test_close_is_repeatable_and_open_makes_usable_again(self, kit: Kit, path: Path) -> None:
        archive = kit.archive(path)
        archive.close()
        for key in range(3):
            archive.open()
            delivered(archive, [message(key, CRLF_MAIL + b"%d\r\n" % key)])
            archive.close()
            archive.close()
        assert kit.copies(path) == 3

    def test_the_same_octets_from_several_places(self, kit: Kit, path: Path) -> None:
        origins = (ROAD, SENT, OTHER, ROAD._replace(epoch=Epoch(2)))
        messages = [message(key, CRLF_MAIL, origin, uid=b"same") for key, origin in enumerate(origins)]
        messages.append(Message(Key(9), MessageRef(ROAD, Uid(b"same"), 2), Body.of(CRLF_MAIL)))
        with kit.opened(path) as archive:
            check(archive, delivered(archive, messages), messages)
        assert kit.copies(path) == (1 if kit.shares_octets else len(messages))

    def test_a_uid_may_be_any_octets(self, kit: Kit, path: Path) -> None:
        uids = [b"../../x", b"a/b", b"\x00\xff\n", b"a" * 5000, b":2,S", b"con", b" "]
        messages = [message(key, b"%d\r\n" % key, uid=uid) for key, uid in enumerate(uids)]
        with kit.opened(path) as archive:
            check(archive, delivered(archive, messages), messages)
        with kit.opened(path) as archive:
            delivered(archive, messages)
            self.check_places(kit, archive, messages)
        assert kit.copies(path) == len(uids)

    def test_reading_gives_flags_and_date_back(self, kit: Kit, path: Path) -> None:
        date = datetime(2020, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=-3)))
        flags = [(), ("\\Seen",), ("\\Flagged", "\\Answered", "$Junk")]
        messages = [message(key, b"%d\r\n" % key, (ROAD, SENT)[key % 2], flags[key]) for key in range(3)]
        for m in messages:
            m.internal_date = date
        with kit.opened(path) as archive:
            receipts = delivered(archive, messages)
            for m in messages:
                read = archive.read(receipts[m.key], m.ref)
                assert (set(read.flags), read.internal_date) == (set(m.flags), date)
                if kit.keeps_offsets:
                    assert read.internal_date is not None
                    assert read.internal_date.utcoffset() == date.utcoffset()
                assert octets(read.body) == octets(m.body)

    def test_flags_and_date_are_those_of_the_place_that_is_asked_for(self, kit: Kit, path: Path) -> None:
        dates = [datetime(2020, 2, day, tzinfo=UTC) for day in (3, 4, 5)]
        places = ((ROAD, b"u", ("\\Seen",)), (SENT, b"u", ()), (ROAD, b"v", ("\\Draft",)))
        messages = [message(key, CRLF_MAIL, origin, flags, uid) for key, (origin, uid, flags) in enumerate(places)]
        for m, date in zip(messages, dates, strict=True):
            m.internal_date = date
        with kit.opened(path) as archive:
            receipts = delivered(archive, messages)
            for m in messages:
                read = archive.read(receipts[m.key], m.ref)
                assert (read.flags, read.internal_date) == (m.flags, m.internal_date)
            assert archive.read(receipts[Key(0)]).internal_date in dates
            unknown = archive.read(receipts[Key(0)], messages[0].ref._replace(uid=Uid(b"w")))
            assert unknown.internal_date in dates

    def test_places_are_what_was_delivered(self, kit: Kit, path: Path) -> None:
        messages = batch(ROAD)
        messages += [message(100 + m.key, octets(m.body), SENT) for m in messages]
        other = [message(200, b"of another account\r\n", OTHER)]
        with kit.opened(path) as archive:
            delivered(archive, messages + other)
            delivered(archive, messages)
        with kit.opened(path) as archive:
            self.check_places(kit, archive, messages)
            self.check_places(kit, archive, other)
            assert list(archive.places(UUID(int=77))) == []

    @staticmethod
    def check_places(kit: Kit, archive: Archive, messages: Sequence[Message]) -> None:
        """The places of these messages' account are exactly these messages, and each can be read."""
        places = list(archive.places(messages[0].ref.origin.account))
        if not kit.gives_places:
            assert places == []
            return
        wanted = {m.ref: (m.body.sha256, m.body.octets, m.body.header_hash) for m in messages}
        assert len(places) == len(wanted)
        assert {place.ref: (place.sha256, place.octets, place.header_hash) for place in places} == wanted
        by_ref = {m.ref: m for m in messages}
        for place in places:
            assert octets(archive.read(Receipt(place.sha256, place.hint)).body) == octets(by_ref[place.ref].body)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=300),
                st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b">", b"From ", b"F", b".", b"\0", b"x"])).map(
                    b"".join
                ),
            ),
            max_size=12,
        )
    )
    def test_any_octets_come_back(self, kit: Kit, bodies: list[bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "archive"
            kit.create(path)
            messages = [message(key, data) for key, data in enumerate(bodies)]
            with kit.opened(path) as archive:
                receipts = delivered(archive, messages)
            with kit.opened(path) as archive:
                check(archive, receipts, messages)

    @pytest.mark.parametrize("last", [b"\r\n", b"\r", b"\nend"], ids=["crlf", "bare-cr", "bare-lf"])
    def test_a_message_too_large_for_memory(self, kit: Kit, path: Path, tmp_path: Path, last: bytes) -> None:
        writer = BodyWriter(tmp_path / "spool")
        line = b"From the middle of a large message, %07d\r\n"
        for start in range(0, 12 * MEMORY_CAP_OCTETS, 1 << 20):
            writer.write(b"".join(line % number for number in range(start, start + (1 << 20) // len(line))))
        writer.write(last)
        large = Message(Key(5), MessageRef(ROAD, Uid(b"large"), 1), writer.finish())
        assert large.body.data is None
        messages = [message(1, CRLF_MAIL), large, message(2, b"after\r\n")]
        with kit.opened(path) as archive:
            receipts = delivered(archive, messages)
            delivered(archive, messages)
        with kit.opened(path) as archive:
            check(archive, receipts, messages)
        assert kit.copies(path) == 3
        large.body.close()

    def test_knows_who_it_is(self, kit: Kit, tmp_path: Path) -> None:
        uuid = kit.create(tmp_path / "one")
        assert kit.archive(tmp_path / "one").identity() == uuid
        assert kit.create(tmp_path / "two") != uuid

    def test_is_not_made_where_one_is(self, kit: Kit, path: Path) -> None:
        uuid = kit.archive(path).identity()
        with pytest.raises(StorageError):
            kit.create(path)
        assert kit.archive(path).identity() == uuid


class DiskSuite(DestinationSuite):
    """And this is what an archive on a disk must do besides."""

    def test_a_missing_archive_is_not_made_again(self, kit: Kit, path: Path) -> None:
        shutil.rmtree(path)
        for _ in range(2):  # the second time, the mount point is there and empty
            archive = kit.archive(path)
            with pytest.raises(ArchiveMissing, match="`syncd run JOB --refill`"):
                archive.open()
            with pytest.raises(ArchiveMissing):
                archive.identity()
            archive.close()
            path.mkdir(exist_ok=True)
        assert list(path.iterdir()) == []

    def test_vanished_between_two_batches(self, kit: Kit, path: Path) -> None:
        archive = kit.archive(path)
        archive.open()
        delivered(archive, [message(1, CRLF_MAIL)])
        path.rename(path.with_name("unmounted"))
        with pytest.raises(ArchiveMissing):
            outcomes_of(archive, [message(2, CRLF_MAIL)])
        assert not path.exists()
        archive.close()

    def test_replaced_between_two_batches(self, kit: Kit, path: Path) -> None:
        archive = kit.archive(path)
        archive.open()
        delivered(archive, [message(1, CRLF_MAIL)])
        path.rename(path.with_name("unmounted"))
        kit.create(path)
        with pytest.raises(ArchiveMissing):
            outcomes_of(archive, [message(2, CRLF_MAIL)])
        assert kit.copies(path) == 0
        archive.close()

    def test_replaced_while_it_was_closed(self, kit: Kit, path: Path) -> None:
        archive = kit.archive(path)
        archive.open()
        archive.close()
        path.rename(path.with_name("unmounted"))
        kit.create(path)
        with pytest.raises(ArchiveMissing):
            archive.open()
        archive.close()

    def test_read_only(self, kit: Kit) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            path = Path(folder) / "archive"
            kit.create(path)
            outcomes: list[Outcome] = []
            archive = kit.archive(path)

            def attempt() -> None:
                archive.open()
                outcomes.extend(outcomes_of(archive, batch()))

            with powerless(path), pytest.raises(StorageError) as caught:
                attempt()
            archive.close()
            assert outcomes == []
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
            with kit.opened(path) as again:
                check(again, delivered(again, batch()), batch())

    def test_damage_is_found(self, kit: Kit, path: Path) -> None:
        data = os.urandom(1 << 16)
        with kit.opened(path) as archive:
            receipt = delivered(archive, [message(1, data)])[Key(1)]
        largest = max((each for each in path.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        with kit.opened(path) as archive, pytest.raises(FormatDamaged):
            archive.read(receipt)

    def test_a_receipt_for_something_else(self, kit: Kit, path: Path) -> None:
        with kit.opened(path) as archive:
            receipt = delivered(archive, [message(1, CRLF_MAIL)])[Key(1)]
            with pytest.raises(FormatDamaged):
                archive.read(receipt._replace(sha256=bytes(32)))

    def test_only_the_owner_can_look(self, kit: Kit, path: Path) -> None:
        with kit.opened(path) as archive:
            delivered(archive, [*batch(), message(99, CRLF_MAIL, SENT)])
            for each in [path, *path.rglob("*")]:
                assert each.stat().st_mode & 0o077 == 0, each

    def test_killed_at_every_durable_step(self, kit: Kit, tmp_path: Path) -> None:
        messages = [message(key, b"%d\r\n" % key + MAIL[key], ROAD, ("\\Seen",) * (key % 2)) for key in range(4)]
        messages.append(message(9, CRLF_MAIL, SENT))

        def run(path: Path) -> None:
            with kit.opened(path) as archive:
                delivered(archive, messages[:2])
                delivered(archive, messages[2:])

        kit.create(tmp_path / "counted")
        steps = count_steps(lambda: run(tmp_path / "counted"))
        assert steps >= 6
        for stop in range(1, steps + 1):
            path = tmp_path / f"stopped-{stop}"
            kit.create(path)

            def die(number: int, _step: Step, _moment: Moment, stop: int = stop) -> None:
                if number >= stop:
                    raise Crash

            with watching(die), pytest.raises(Crash):
                run(path)
            self.check_after_crash(kit, path, messages)

    def check_after_crash(self, kit: Kit, path: Path, messages: Sequence[Message]) -> None:
        """What is repeated is there once, whole, and no second repeat changes it."""
        for _ in range(2):
            with kit.opened(path) as archive:
                check(archive, delivered(archive, messages), messages)
                self.check_places(kit, archive, messages)
            assert kit.copies(path) == len(messages)

    def test_killed_while_it_is_made(self, kit: Kit, tmp_path: Path) -> None:
        steps = count_steps(lambda: kit.create(tmp_path / "counted"))
        assert steps >= 2
        for stop in range(1, steps + 1):
            path = tmp_path / f"stopped-{stop}"

            def die(number: int, _step: Step, _moment: Moment, stop: int = stop) -> None:
                if number >= stop:
                    raise Crash

            with watching(die), pytest.raises(Crash):
                kit.create(path)
            try:
                kit.archive(path).identity()
            except ArchiveMissing:
                kit.create(path)
            with kit.opened(path) as archive:
                check(archive, delivered(archive, batch()), batch())

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
    def test_the_disk_fails_at_any_step(self, kit: Kit, tmp_path: Path, code: int) -> None:
        """What is acknowledged is there although the disk failed; the rest is not acknowledged, and can be repeated."""
        messages = [message(key, b"%d\r\n" % key + MAIL[key], ROAD, ("\\Seen",) * (key % 2)) for key in range(4)]
        kit.create(tmp_path / "counted")

        def run(path: Path, outcomes: list[Outcome]) -> None:
            with kit.opened(path) as archive:
                outcomes.extend(outcomes_of(archive, messages[:2]))
                for group in archive.deliver(messages[2:]):
                    outcomes.extend(group)  # what came before an error counts

        steps = count_steps(lambda: run(tmp_path / "counted", []))
        for stop in range(1, steps + 1):
            path = tmp_path / f"failed-{stop}"
            kit.create(path)
            outcomes: list[Outcome] = []

            def fail(number: int, _step: Step, moment: Moment, stop: int = stop) -> None:
                if number >= stop and moment == "before":
                    raise OSError(code, os.strerror(code))

            with watching(fail), suppress(StorageError), failing_as(code):
                run(path, outcomes)
            assert all(outcome.verdict is Verdict.DELIVERED for outcome in outcomes)
            known = {outcome.key: outcome.receipt for outcome in outcomes if outcome.receipt}
            with kit.opened(path) as archive:
                check(archive, known, [m for m in messages if m.key in known])
            self.check_after_crash(kit, path, messages)
