from __future__ import annotations

import pytest

from syncd.mail import flags
from syncd.mail.flags import System


def test_flags_have_one_order_and_one_spelling():
    one = flags.canonical(("$Work", "\\SEEN", "\\answered", "$work", "$Forwarded"))
    other = flags.canonical(("$Forwarded", "\\Answered", "\\seen", "$Work"))
    assert one == other == ("\\Answered", "\\Seen", "$Forwarded", "$Work")


def test_flags_of_a_session_or_a_mailbox_are_not_kept():
    assert flags.canonical(("\\Recent", "\\*", "\\RECENT", "")) == ()


def test_a_flag_that_nobody_knows_is_kept_as_it_is():
    assert flags.canonical(("\\Junk", "NonJunk")) == ("\\Junk", "NonJunk")


@pytest.mark.parametrize("name", [b"$caf\xc3\xa9", b"$caf\xe9", b"a\x00b", b"\xff"])
def test_octets_of_a_keyword_come_back(name: bytes):
    assert flags.to_octets(flags.from_octets([name, b"\\Seen"])) == (b"\\Seen", name)


def test_system_flags_are_bits_and_the_rest_is_not():
    some = flags.canonical(("\\Seen", "\\Draft", "$Forwarded", "\\Odd"))
    assert flags.system(some) == System.SEEN | System.DRAFT
    assert flags.others(some) == ("$Forwarded", "\\Odd")


@pytest.mark.parametrize("bits", range(32))
def test_bits_and_names_give_the_flags_again(bits: int):
    combined = flags.combined(System(bits), ("b", "a"))
    assert (flags.system(combined), flags.others(combined)) == (bits, ("a", "b"))


def test_thousands_of_keywords_are_not_kept_in_memory():
    before = flags._of_few.cache_info().currsize
    many = flags.canonical(tuple(f"keyword{number}" for number in range(1_000)))
    assert len(many) == 1_000
    assert flags._of_few.cache_info().currsize == before


def test_letters_of_a_maildir_are_in_ascii_order():
    assert flags.letters(("\\Seen", "\\ANSWERED", "$Forwarded", "\\Draft", "$Work")) == "DPRS"
    assert flags.letters(("\\Seen", "$Work", "$Never"), {"$work": "c"}) == "Sc"
    assert flags.letters(("$Forwarded",), {"$forwarded": "a"}) == "Pa", "Dovecot does not know P"
    assert flags.of_letters("Pa", {"a": "$Forwarded"}) == ("$Forwarded",)


def test_letters_of_a_maildir_are_read_again():
    assert flags.of_letters("DPRSX") == ("\\Answered", "\\Draft", "\\Seen", "$Forwarded")
    assert flags.of_letters("Sca", {"c": "$Work"}) == ("\\Seen", "$Work")
