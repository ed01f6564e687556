"""APPEND as octets: literals, flags, dates, and the receipt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from syncd.errors import LocalProtocolError
from syncd.imap.append import EARLIEST, Append, Appended, appended, checked, date_time, encode, kept_date, sendable
from syncd.imap.values import Capabilities, Code, Kind, Status, Uid, UidValidity
from syncd.mail.body import Body
from syncd.mail.flags import canonical

NOW = datetime(2026, 7, 1, tzinfo=UTC)
DATE = datetime(1996, 7, 7, 2, 44, 25, tzinfo=timezone(-timedelta(hours=7)))


def letter(octets: bytes, *flags: bytes, date: datetime | None = None) -> Append:
    return Append(Body.of(octets), flags, date)


def sent(*messages: Append, name: bytes = b"Sent", announced: tuple[str, ...] = ()) -> list[bytes]:
    """The octets between the places where the server has to ask for more."""
    parts = [b""]
    for piece in encode(name, messages, Capabilities(announced, known=True)):
        if piece is None:
            parts.append(b"")
        else:
            parts[-1] += piece
    return parts


def test_a_literal_waits_unless_the_server_announces_otherwise() -> None:
    one = letter(b"a\r\n", b"\\Seen", date=DATE)
    head = b'APPEND Sent (\\Seen) "07-Jul-1996 02:44:25 -0700" {3'
    assert sent(one) == [head + b"}\r\n", b"a\r\n\r\n"]
    assert sent(one, announced=("LITERAL+",)) == [head + b"+}\r\n" + b"a\r\n\r\n"]
    assert sent(one, announced=("LITERAL-",)) == [head + b"+}\r\n" + b"a\r\n\r\n"]


def test_i106_literal_minus_ends_at_4096_octets() -> None:
    long = letter(b"x" * 4097)
    assert sent(long, announced=("LITERAL-",))[0] == b"APPEND Sent () {4097}\r\n"
    assert sent(letter(b"x" * 4096), announced=("LITERAL-",))[0].startswith(b"APPEND Sent () {4096+}\r\n")


def test_several_messages_are_one_command() -> None:
    both = letter(b"a\r\n", b"\\Seen"), letter(b"bb\r\n")
    assert sent(*both, announced=("MULTIAPPEND", "LITERAL+")) == [
        b"APPEND Sent (\\Seen) {3+}\r\na\r\n () {4+}\r\nbb\r\n\r\n"
    ]
    assert sent(*both, announced=("MULTIAPPEND",)) == [
        b"APPEND Sent (\\Seen) {3}\r\n",
        b"a\r\n () {4}\r\n",
        b"bb\r\n\r\n",
    ]


def test_nothing_is_whole_before_it_was_asked_whether_it_may_go() -> None:
    asked: list[None] = []
    flow = checked(iter([b"one", None, b"two", b"last"]), lambda: asked.append(None))
    assert [(part, len(asked)) for part in flow] == [(b"one", 0), (None, 0), (b"two", 0), (b"last", 1)]


def test_a_name_that_needs_a_literal_waits_as_well() -> None:
    assert sent(letter(b"a"), name=b"R\xc3\xa9") == [b"APPEND {3}\r\n", b"R\xc3\xa9 () {1}\r\n", b"a\r\n"]


@pytest.mark.parametrize("messages", [[], [letter(b"")], [letter(b"a"), letter(b"b")], [letter(b"a"), letter(b"")]])
def test_what_the_server_does_not_take_is_not_sent(messages: list[Append]) -> None:
    with pytest.raises(LocalProtocolError):
        encode(b"Sent", messages, Capabilities((), known=True))


def test_i156_days_have_two_digits_and_offsets_are_kept() -> None:
    assert date_time(DATE) == b'"07-Jul-1996 02:44:25 -0700"'
    assert date_time(datetime(2020, 12, 31, 23, 59, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))) == (
        b'"31-Dec-2020 23:59:01 +0545"'
    )
    assert date_time(datetime(2020, 1, 1, tzinfo=timezone(-timedelta(hours=3, minutes=30)))).endswith(b' -0330"')


def test_i156_dates_out_of_bounds_are_clamped() -> None:
    assert kept_date(datetime(1969, 12, 31, tzinfo=UTC), NOW) == EARLIEST
    assert kept_date(NOW + timedelta(days=400), NOW) == NOW + timedelta(days=1)
    assert kept_date(DATE, NOW) is DATE
    far = datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=23)))
    assert kept_date(far, NOW) == far
    assert kept_date(far, NOW).utcoffset() == timedelta()


def test_i146_only_system_flags_and_keywords_are_sent() -> None:
    flags = canonical(("\\Seen", "\\Recent", "\\X-EON-Read", "$Forwarded", "bad]", "two words", "k" * 200))
    going, left = sendable(flags, None)
    assert going == (b"\\Seen", b"$Forwarded")
    assert set(left) == {"\\X-EON-Read", "bad]", "two words", "k" * 200}


def test_i147_keywords_that_the_mailbox_does_not_take_stay_behind() -> None:
    flags = canonical(("\\Flagged", "$junk", "Work"))
    assert sendable(flags, ("\\flagged", "$Junk")) == ((b"\\Flagged", b"$junk"), ("Work",))
    assert sendable(flags, ("\\*",)) == ((b"$junk", b"Work"), ("\\Flagged",))
    assert sendable(flags, ()) == ((), flags)


def status(arguments: bytes, name: str = "APPENDUID", kind: Kind = Kind.OK) -> Status:
    return Status(kind, Code(name, arguments), b"done")


@pytest.mark.parametrize(
    ("arguments", "uids"), [(b"7 12", [12]), (b"7 12:14", [12, 13, 14]), (b"7 20,12:13", [20, 12, 13])]
)
def test_appenduid_names_the_messages_in_order(arguments: bytes, uids: list[int]) -> None:
    assert appended(status(arguments), len(uids)) == Appended(UidValidity(7), tuple(map(Uid, uids)))


@pytest.mark.parametrize(
    "arguments",
    [b"", b"7", b"7 none", b"7 0", b"0 1", b"7 12:11", b"7 12:", b"7 1:3", b"7 1,1", b"7 1:4294967295", b"x 1", b"7 *"],
)
def test_i94_i161_a_receipt_that_is_none_is_no_error(arguments: bytes) -> None:
    assert appended(status(arguments), 2) is None


def test_no_receipt_without_a_yes() -> None:
    assert appended(status(b"7 1", kind=Kind.NO), 1) is None
    assert appended(status(b"7 1", name="COPYUID"), 1) is None
