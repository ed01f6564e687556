"""Suite of what every destination must do, archive or mail server: the suite for `destinations.base.Destination`.

`destination_suite.py` has what archives must do besides: give messages back, survive crashes and failing disks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from syncd.destinations.base import Destination, Endable, Stoppable
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome, Repeat, Verdict
from tests.contract.destination_kit import message

FINAL = frozenset(Verdict) - {Verdict.SENDING}


@dataclass(frozen=True)
class Target:
    """A kind of destination with the place that it delivers to."""

    destination: Callable[[], Destination]  # a new instance, not opened; all lead to the same place
    arrived: Callable[[], Counter[bytes]]  # the messages there, without what the destination put before them


def mail(count: int, first: int = 1) -> list[Message]:
    return [message(key, b"Subject: %d\r\n\r\n.hello %d\r\n" % (key, key)) for key in range(first, first + count)]


def octets(messages: Sequence[Message]) -> Counter[bytes]:
    return Counter(m.body.data or b"" for m in messages)


def final(groups: Sequence[Sequence[Outcome]]) -> dict[int, Outcome]:
    found = [outcome for group in groups for outcome in group if outcome.verdict in FINAL]
    assert len({outcome.key for outcome in found}) == len(found), "one final outcome each"
    return {outcome.key: outcome for outcome in found}


class DeliverySuite:
    """Inherit, and give a fixture `target`."""

    @pytest.fixture
    def to(self, target: Target) -> Iterator[Destination]:
        destination = target.destination()
        destination.open()
        yield destination
        destination.close()

    def test_each_message_has_one_final_outcome_and_arrives_once(self, target: Target, to: Destination) -> None:
        messages = mail(30)
        found = final(list(to.deliver(messages)))
        assert sorted(found) == [m.key for m in messages]
        assert {outcome.verdict for outcome in found.values()} == {Verdict.DELIVERED}
        assert target.arrived() == octets(messages)

    def test_a_receipt_has_the_hash_of_the_original_octets(self, to: Destination) -> None:
        messages = mail(3)
        found = final(list(to.deliver(messages)))
        for m in messages:
            receipt = found[m.key].receipt
            assert receipt is not None
            assert receipt.sha256 == m.body.sha256

    def test_an_empty_batch_has_no_outcome(self, target: Target, to: Destination) -> None:
        assert [outcome for group in to.deliver([]) for outcome in group] == []
        assert target.arrived() == Counter()

    def test_batches_come_one_after_the_other(self, target: Target, to: Destination) -> None:
        for first in (1, 11, 21):
            assert len(final(list(to.deliver(mail(10, first))))) == 10
        assert target.arrived() == octets(mail(30))

    def test_another_instance_goes_on(self, target: Target) -> None:
        for first in (1, 11):
            destination = target.destination()
            destination.open()
            assert len(final(list(destination.deliver(mail(10, first))))) == 10
            destination.close()
        assert target.arrived() == octets(mail(20))

    def test_sending_is_told_before_the_outcome_and_only_by_the_class_uncertain(self, to: Destination) -> None:
        order: dict[int, list[Verdict]] = {}
        for group in to.deliver(mail(10)):
            for outcome in group:
                order.setdefault(outcome.key, []).append(outcome.verdict)
        expected = [Verdict.DELIVERED]
        if to.repeat is Repeat.UNCERTAIN:
            expected.insert(0, Verdict.SENDING)
        assert order == dict.fromkeys(range(1, 11), expected)

    def test_what_is_dropped_while_sending_never_arrives(self, target: Target, to: Destination) -> None:
        groups = iter(to.deliver(mail(10)))
        told = next(groups)
        del groups
        to.close()
        certain = sum(outcome.verdict is Verdict.DELIVERED for outcome in told)
        assert target.arrived().total() == certain

    def test_what_has_no_outcome_is_delivered_by_the_next_try(self, target: Target) -> None:
        """A batch that was broken off is given again, without the messages that have an outcome."""
        messages = mail(10)
        first = target.destination()
        first.open()
        told = [next(iter(first.deliver(messages)))]
        first.close()
        done = {outcome.key for outcome in told[0] if outcome.verdict is Verdict.DELIVERED}
        again = target.destination()
        again.open()
        final(list(again.deliver([m for m in messages if m.key not in done])))
        again.close()
        assert target.arrived() == octets(messages)

    def test_upcoming_messages_leave_no_trace(self, target: Target, to: Destination) -> None:
        messages = mail(10)
        found = final(list(to.deliver(messages[:5], messages[5:])))
        assert sorted(found) == [1, 2, 3, 4, 5]
        assert target.arrived() == octets(messages[:5])
        final(list(to.deliver(messages[5:])))
        assert target.arrived() == octets(messages)

    def test_close_is_repeatable_also_without_open(self, target: Target) -> None:
        destination = target.destination()
        destination.close()
        destination.open()
        final(list(destination.deliver(mail(1))))
        destination.close()
        destination.close()
        assert target.arrived() == octets(mail(1))


class UncertainSuite(DeliverySuite):
    """The same for a destination of class UNCERTAIN, which can be stopped."""

    def test_a_message_arrives_only_after_the_group_that_tells_it_is_durable(
        self, target: Target, to: Destination
    ) -> None:
        """A message that is SENDING arrives when the next group is asked for, never earlier."""
        durable = 0
        for group in to.deliver(mail(10)):
            assert target.arrived().total() <= durable
            durable += sum(outcome.verdict is Verdict.SENDING for outcome in group)

    def test_stop_is_for_good_and_begins_no_further_message(self, target: Target, to: Destination) -> None:
        assert isinstance(to, Stoppable)
        groups: list[Sequence[Outcome]] = []
        for group in to.deliver(mail(10)):
            groups.append(group)
            to.stop()
            to.stop()
        verdicts = {outcome.verdict for outcome in final(groups).values()}
        assert verdicts <= {Verdict.DELIVERED, Verdict.NOT_SENT}
        assert [outcome for group in to.deliver(mail(3, 20)) for outcome in group] == []
        delivered = sum(outcome.verdict is Verdict.DELIVERED for outcome in final(groups).values())
        assert target.arrived().total() == delivered

    def test_it_ends_between_two_messages_and_goes_on_with_the_next_batch(
        self, target: Target, to: Destination
    ) -> None:
        assert isinstance(to, Endable)
        groups: list[Sequence[Outcome]] = []
        to.end_when(lambda: bool(groups))
        for group in to.deliver(mail(30)):
            groups.append(group)  # noqa: PERF402  `over` looks at it meanwhile
        delivered = final(groups)
        assert {outcome.verdict for outcome in delivered.values()} == {Verdict.DELIVERED}
        assert 0 < len(delivered) < 30
        assert target.arrived().total() == len(delivered)
        to.end_when(lambda: False)
        assert len(final(list(to.deliver(mail(3, 40))))) == 3
