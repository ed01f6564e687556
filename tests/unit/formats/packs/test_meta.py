from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.formats.packs.meta import (
    Meta,
    PlaceRow,
    RefRow,
    StoredRow,
    flags_of,
    flags_text,
    octets_of,
    path_of,
    path_text,
    text,
)
from syncd.formats.packs.parse import parse
from syncd.mail.mailbox import Epoch, Path
from syncd.mail.message import Origin, Uid

ROAD = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
NUMBERS = st.integers(0, 2**40)
UIDS = st.binary(max_size=80) | st.text(max_size=20).map(lambda t: t.encode("utf-8", "surrogatepass"))
PATHS = st.lists(st.text(max_size=9, alphabet=st.characters(min_codepoint=0)), max_size=3).map(tuple)
FLAGS = st.lists(st.text(min_size=1, max_size=8).filter(lambda t: t.isascii()), max_size=3).map(flags_text)


@given(UIDS)
def test_octets_become_printable_text_and_come_back(octets: bytes) -> None:
    printed = text(octets)
    assert printed.isprintable()
    assert octets_of(printed) == octets
    json.dumps(printed).encode("ascii")


@pytest.mark.parametrize(
    ("octets", "printed"),
    [
        (b"INBOX", "INBOX"),
        ("Entwürfe".encode(), "Entwürfe"),
        (b"100%", "100%25"),
        (b"a\nb", "a%0Ab"),
        (b"\xff\xfe", "%FF%FE"),
        ("\u202e".encode(), "%E2%80%AE"),  # a bidi control would turn the line round
        (b"", ""),
    ],
)
def test_how_octets_are_printed(octets: bytes, printed: str) -> None:
    assert text(octets) == printed


@pytest.mark.parametrize("flags", [(), ("\\Seen",), ("\\Seen", "$Junk", "two words", "100%", "tab\t")])
def test_flags_come_back(flags: tuple[str, ...]) -> None:
    assert flags_of(flags_text(flags)) == flags


@given(PATHS)
def test_paths_come_back_and_can_be_printed(path: Path) -> None:
    printed = path_text(path)
    assert all(level.isprintable() for level in printed)
    assert path_of(printed) == path


@pytest.mark.parametrize(
    ("origin", "fields"),
    [
        (ROAD, []),
        (ROAD._replace(path=("Sent", "ü%")), [["Sent", "ü%25"]]),
        (ROAD._replace(path=()), [[]]),
        (ROAD._replace(use="\\Sent"), [["INBOX"], "\\Sent"]),
        (ROAD._replace(subscribed=False), [["INBOX"], "", False]),
    ],
)
def test_an_origin_ends_where_the_rest_goes_without_saying(origin: Origin, fields: list[object]) -> None:
    meta = Meta(0, origins=[origin])
    assert json.loads(meta.dump())["origins"] == [[str(UUID(int=1)), "road", "INBOX", 1, *fields]]
    assert parse(meta.dump()).origins == [origin]


@st.composite
def metas(draw: st.DrawFn) -> Meta:
    meta = Meta(draw(st.integers(0, 2**32)))
    meta.archive = draw(st.none() | st.uuids())
    meta.part = draw(st.none() | st.just((2, 3)))
    names = st.text(max_size=9, alphabet=st.characters(codec="utf-8"))
    uses = st.sampled_from(["", "\\Sent", "\\Junk"])
    origin = st.builds(Origin, st.uuids(), names, UIDS, NUMBERS, PATHS, uses, st.booleans())
    meta.origins = draw(st.lists(origin, min_size=1, max_size=3))
    numbers = st.integers(0, len(meta.origins) - 1)
    date = st.sampled_from(["", "2026-11-23T09:28:21+01:00"])
    digest, occurrence = st.binary(min_size=32, max_size=32), st.integers(1, 9)
    place = st.builds(PlaceRow, digest, numbers, UIDS, occurrence, FLAGS, date, FLAGS)
    ref = st.builds(RefRow, numbers, UIDS, st.integers(1, 9))
    meta.firsts = draw(st.lists(place, max_size=4))
    hashes = st.binary(min_size=8, max_size=8)
    sizes = st.integers(0, 1 << 24)
    meta.messages = [
        StoredRow(row.sha256, draw(hashes), min(draw(NUMBERS), length), draw(sizes), length, draw(st.booleans()))
        for row in meta.firsts
        for length in [draw(sizes)]
    ]
    meta.places = draw(st.lists(place, max_size=4))
    meta.removed = draw(st.lists(ref, max_size=4))
    meta.flags = draw(st.lists(st.tuples(ref, FLAGS), max_size=4))
    return meta


@given(metas())
def test_parse_undoes_dump(meta: Meta) -> None:
    assert parse(meta.dump()) == meta


def test_the_document_is_as_it_is_described() -> None:
    meta = Meta(int(datetime(2026, 11, 23, 9, 28, 21, tzinfo=UTC).timestamp()))
    origin = meta.origin(ROAD)
    assert meta.origin(ROAD) == origin == 0
    for number, crlf in ((1, True), (2, True)):
        digest = bytes([number]) * 32
        meta.messages.append(StoredRow(digest, b"\xab" * 8, 100 * number, 50, 90, crlf))
        labels = flags_text(("Work/Ärger", "two words")) if number == 2 else ""
        meta.firsts.append(PlaceRow(digest, origin, Uid(b"u%d" % number), 1, "", "", labels))
    meta.removed.append(RefRow(origin, Uid(b"old"), 2))
    assert json.loads(meta.dump()) == {
        "at": "2026-11-23T09:28:21Z",
        "origins": [["00000000-0000-0000-0000-000000000001", "road", "INBOX", 1]],
        "messages": {
            "sha256": ["01" * 32, "02" * 32],
            "header": "ab" * 8,
            "octets": [100, 200],
            "offset": 50,
            "length": 90,
            "uid": ["u1", "u2"],
            "labels": ["", "Work/Ärger two%20words"],
        },
        "removed": {"uid": ["old"], "occurrence": 2},
    }


AT = '"at": "2026-11-23T09:28:21Z"'
MESSAGES = '"sha256": ["00"], "header": "00", "octets": 1, "offset": 0, "length": 1, "uid": "u"'
UUID_FIELDS = '["00000000-0000-0000-0000-000000000001", "n", "m", 1'
ORIGINS = f'"origins": [{UUID_FIELDS}]]'


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        '{"at": "yesterday"}',
        f'{{{AT}, "part": [3, 2]}}',
        f'{{{AT}, "part": 1}}',
        f'{{{AT}, "origins": [["no uuid", "n", "m", 1]]}}',
        f'{{{AT}, "origins": [[]]}}',
        f'{{{AT}, "origins": [{UUID_FIELDS}, "path"]]}}',
        f'{{{AT}, "origins": [{UUID_FIELDS}, ["path"], 7]]}}',
        f'{{{AT}, "origins": [{UUID_FIELDS}, ["path"], "", 1]]}}',
        f'{{{AT}, "origins": [{UUID_FIELDS}, ["path"], "", true, 1]]}}',
        f'{{{AT}, "origins": [{UUID_FIELDS}, [7]]]}}',
        f'{{{AT}, "messages": {{{MESSAGES}}}}}',  # no origin 0
        f'{{{AT}, {ORIGINS}, "messages": {{{MESSAGES}, "octets": [1, 2]}}}}',
        f'{{{AT}, {ORIGINS}, "messages": {{{MESSAGES}, "offset": -1}}}}',
        f'{{{AT}, {ORIGINS}, "messages": {{{MESSAGES}, "form": 7}}}}',
        f'{{{AT}, {ORIGINS}, "messages": {{"sha256": ["zz"]}}}}',
        f'{{{AT}, {ORIGINS}, "places": {{"sha256": ["{"00" * 32}"], "uid": "u", "labels": 1}}}}',
        f'{{{AT}, {ORIGINS}, "removed": {{"occurrence": [1]}}}}',
        f'{{{AT}, {ORIGINS}, "removed": {{"uid": "text"}}}}',
    ],
)
def test_nonsense_is_refused(document: str) -> None:
    with pytest.raises(ValueError):
        parse(document.encode())
