"""Metadata that somebody else wrote: nothing gets past `parse` that a later step cannot take."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.formats.packs import listing, query
from syncd.formats.packs.index import Index
from syncd.formats.packs.parse import MAX_DATA_OCTETS, MAX_META_OCTETS, MAX_OBJECTS, parse
from syncd.formats.packs.reader import Unit

ACCOUNT = str(UUID(int=1))
Document = dict[str, Any]


def document() -> Document:
    """A sound one that uses everything."""
    digests = [sha256(b"%d" % number).hexdigest() for number in range(2)]
    refs = {"uid": ["u1", "%FF"], "origin": [0, 1], "occurrence": [1, 2]}
    return {
        "at": "2026-11-23T09:28:21Z",
        "archive": str(UUID(int=2)),
        "origins": [[ACCOUNT, "road", "INBOX", 1], [ACCOUNT, "road", "Sent", 7, ["Sent"], "\\Sent", False]],
        "messages": {
            **refs,
            "sha256": digests,
            "header": ["00" * 8] * 2,
            "octets": [10, 20],
            "offset": [40, 90],
            "length": [9, 20],
            "form": ["crlf", "raw"],
            "flags": ["\\Seen", ""],
            "date": ["2026-11-23T09:28:21+01:00", ""],
        },
        "places": {**refs, "sha256": digests, "flags": "x y", "date": ""},
        "removed": dict(refs),
        "flags": {**refs, "flags": "\\Flagged"},
    }


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def used(meta_octets: bytes) -> None:
    """Take it up as the writer of an index does, and ask everything that readers ask."""
    index = Index.create("", UUID(int=2))
    try:
        index.begin()
        index.add(1, Unit(0, 1, parse(meta_octets)))
        index.commit()
        list(index.dump())
        for message in query.stored(index):
            message.stored_at.astimezone()
            for place in message.places:
                list(query.places(index, place.ref.origin.account))
                query.locate_at(index, message.sha256, place.ref)
                assert place.internal_date is None or place.internal_date.astimezone()
        query.figures(index, {}, 0)
        for chunk in listing.mailboxes(index):
            for mailbox in chunk:
                lines = listing.Lines(index, mailbox.name)
                lines.note()
                list(lines.pages())
                lines.page(0)
                lines.totals()
    finally:
        index.close()


def test_the_sound_document_is_taken() -> None:
    used(encoded(document()))


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(whole: Document) -> None:
        *above, last = path
        inner: Any = whole
        for key in above:
            inner = inner[key]
        inner[last] = value

    return change


HUGE = [1 << 63, 1 << 64, 1 << 70, 10**4000]
NUMBERS: list[object] = [*HUGE, -1, 1.0, 1.5, "1", True, None, [1], {}, float("nan"), float("inf")]
EMPTY: dict[str, object] = {}
TEXTS: list[object] = ["\ud800", "a\udfff", 7, None, ["x"], {}]
DATES = [
    "yesterday",
    "2026-11-23",
    "2026-11-23T09:28:21",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-23:59",
    *TEXTS,
]


@pytest.mark.parametrize(
    "change",
    [
        *(put("at", value=at) for at in ["", "yesterday", "9999-12-31T23:59:59-23:59", "1969-12-31T00:00:00Z", *TEXTS]),
        *(put("archive", value=uuid) for uuid in ["", "x" * 36, *TEXTS]),
        *(put("part", value=part) for part in [[1], [2, 1], [0, 1], [1, 1 << 40], [1, 2, 3], ["1", "2"], 1, "12"]),
        *(put("origins", value=value) for value in [{}, [[]], ["abcd"], [[ACCOUNT, "n", "m", 1, [], "", True, 1]]]),
        *(put("origins", 0, 0, value=account) for account in ["", "x", *TEXTS]),
        *(put("origins", 0, 1, value=name) for name in TEXTS),
        *(put("origins", 0, 2, value=mailbox) for mailbox in TEXTS),
        *(put("origins", 0, 3, value=epoch) for epoch in NUMBERS),
        *(put("origins", 1, 4, value=path) for path in ["Sent", None, [1], ["\ud800"], ["%FF"], EMPTY]),
        *(put("origins", 1, 5, value=use) for use in TEXTS),
        *(put("origins", 1, 6, value=subscribed) for subscribed in [0, 1, None, "true"]),
        *(put("messages", value=table) for table in [[1], "table", 7, {"uid": ["u"]}]),
        *(put("messages", "sha256", 0, value=digest) for digest in ["", "00", "zz" * 32, "0 " * 64, *TEXTS]),
        *(put("messages", "sha256", value=column) for column in ["00" * 32, EMPTY, None, [["00" * 32]]]),
        *(put("messages", "header", 0, value=digest) for digest in ["", "00" * 9, *TEXTS]),
        *(put("messages", "octets", 0, value=octets) for octets in [19, *NUMBERS]),
        *(put("messages", "offset", 0, value=offset) for offset in [MAX_DATA_OCTETS, *NUMBERS]),
        *(put("messages", "length", 0, value=length) for length in [MAX_DATA_OCTETS + 1, *NUMBERS]),
        *(put("messages", "form", 0, value=form) for form in ["CRLF", "lf", *TEXTS]),
        *(put("messages", "origin", 0, value=origin) for origin in [2, *NUMBERS]),
        *(put("messages", "uid", 0, value=uid) for uid in TEXTS),
        *(put("messages", "uid", value=column) for column in [["u"], ["u"] * 3, None, 7, EMPTY]),
        *(put("messages", "occurrence", 0, value=occurrence) for occurrence in [0, 1 << 31, *NUMBERS]),
        *(put("messages", "flags", 0, value=flags) for flags in ["a " * 40_000, *TEXTS]),
        *(put("messages", "date", 0, value=date) for date in DATES),
        *(put("places", "date", value=date) for date in DATES),
        *(put("removed", "uid", value=column) for column in ["text", None, [7, 8]]),
        *(put("flags", "flags", value=flags) for flags in TEXTS),
    ],
)  # fmt: skip
def test_odd_values_are_refused(change: Callable[[Document], None]) -> None:
    odd = document()
    change(odd)
    with pytest.raises(ValueError):
        parse(encoded(odd))


@pytest.mark.parametrize(
    "octets",
    [
        b"[" * 100_000,
        b'{"at":' * 100_000,
        b'{"at": "2026-11-23T09:28:21Z", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"at": "2026-11-23T09:28:21Z", "x": ' + b"9" * 10_000 + b"}",
        '{"at": "2026-11-23T09:28:21Z"}'.encode("utf-16"),
        b'{"at": "2026-11-23T09:28:21Z", "x": "\xff"}',
    ],
)
def test_odd_documents_are_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):
        parse(octets)


AT = b'{"at": "2026-11-23T09:28:21Z", "x": [%b]}'


MANY: dict[str, Callable[[], bytes]] = {  # made by the tests: every worker would keep 40 MiB
    "numbers": lambda: AT % b",".join([b"0"] * MAX_OBJECTS),
    "objects": lambda: AT % b",".join([b"{}"] * 1_000_000),
    "escapes": lambda: AT % b",".join([b'"\\\\"'] * 1_000_000),
    "texts": lambda: AT % (b'"",' * 1_000_000 + b'"\\",\\"[{"'),
    "octets": lambda: AT % (b"[" * (MAX_META_OCTETS + 1)),
    "no end": lambda: AT % (b'"",' * 1_000_000 + b'"'),
}


@pytest.mark.parametrize("kind", MANY)
def test_many_values_cost_little(kind: str) -> None:
    octets = MANY[kind]()
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than"):
        parse(octets)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MAX_META_OCTETS


def test_commas_in_texts_are_no_values() -> None:
    whole = document()
    whole["messages"]["uid"] = [',[{"\\' * 200_000, "u"]
    assert parse(encoded(whole)).firsts[0].uid == b',[{"\\' * 200_000


def test_one_value_for_all_rows_is_bounded_by_what_it_stands_for() -> None:
    """16,000 rows with the same id of 1 MiB: 16 GiB."""
    rows = 16_000
    table = {"uid": "%41" * 300_000, "sha256": ["00" * 32] * rows}
    whole = {"at": "2026-11-23T09:28:21Z", "origins": [[ACCOUNT, "n", "m", 1]], "places": table}
    with pytest.raises(ValueError, match="column uid is more than"):
        parse(encoded(whole))
    table["uid"] = "%41" * 300
    found = parse(encoded(whole)).places
    assert found[0].uid == b"A" * 300
    assert found[0].uid is found[-1].uid


def test_a_large_message_may_have_more_octets_than_its_part() -> None:
    part = document() | {"part": [1, 3]}
    part["messages"]["octets"] = [1 << 30, 20]
    assert parse(encoded(part)).messages[0].octets == 1 << 30


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(min_codepoint=0), max_size=5)
    | st.sampled_from([*HUGE, "\ud800", "2026-11-23T09:28:21Z", "00" * 32, "%FF"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn) -> Document:
    """A document with a few values, anywhere in it, replaced by others."""
    whole = document()
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = whole
        while True:
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            key = draw(st.sampled_from(keys))
            if not (isinstance(inner[key], dict | list) and inner[key]) or draw(st.integers(0, 5)) == 0:
                inner[key] = draw(JSON)
                break
            inner = inner[key]
    return whole


@settings(max_examples=300, deadline=None)
@given(changed())
def test_what_is_taken_can_be_used(whole: Document) -> None:
    octets = encoded(whole)
    try:
        parse(octets)
    except ValueError:
        return
    used(octets)
