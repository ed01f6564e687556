from __future__ import annotations

import pytest

from syncd.db.rows import Freeze, Overlap
from syncd.engine.anomaly import EMPTIED, EMPTY, RENAMED, VALIDITY, Anomaly, anomaly


@pytest.mark.parametrize(
    ("seen", "validity_changed", "found"),
    [
        (Overlap(0, 0, 0), None, None),  # it never held anything
        (Overlap(5, 0, 0), None, None),
        (Overlap(5, 5, 5), None, None),
        (Overlap(1, 5, 1), None, None),  # one that is as before speaks for the listing
        (Overlap(0, 5, 0), None, EMPTY),
        (Overlap(5, 5, 0), None, RENAMED),
        (Overlap(1, 5, 0), None, RENAMED),
        (Overlap(5, 5, 0), False, EMPTIED),  # with the same UIDVALIDITY ids are never given again
        (Overlap(0, 5, 0), False, EMPTY),
        (Overlap(5, 5, 5), False, None),
        (Overlap(5, 5, 0), True, VALIDITY),
        (Overlap(5, 5, 5), True, VALIDITY),  # the numbers are the same, and name other messages
        (Overlap(0, 5, 0), True, VALIDITY),
        (Overlap(5, 0, 0), True, None),
    ],
)
def test_a_listing_is_judged(seen: Overlap, validity_changed: bool | None, found: Anomaly | None):  # noqa: FBT001
    assert anomaly(seen, validity_changed=validity_changed) == found


@pytest.mark.parametrize("lifted", list(Freeze))
def test_only_an_empty_mailbox_is_believed_when_its_own_freeze_is_lifted(lifted: Freeze):
    believed = None if lifted is Freeze.EMPTY else EMPTY
    assert anomaly(Overlap(0, 5, 0), lifted=lifted) == believed
    assert anomaly(Overlap(5, 5, 0), validity_changed=False, lifted=lifted) == (believed and EMPTIED)
    assert anomaly(Overlap(5, 5, 0), lifted=lifted) == RENAMED
    assert anomaly(Overlap(5, 5, 0), validity_changed=True, lifted=lifted) == VALIDITY


def test_the_code_decides_and_the_reason_is_for_people():
    assert [it.why for it in (EMPTY, EMPTIED, RENAMED, VALIDITY)] == [
        Freeze.EMPTY,
        Freeze.EMPTY,
        Freeze.RENAMED,
        Freeze.VALIDITY,
    ]
