import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.mail.addresses import is_address


@pytest.mark.parametrize("text", ["a@b", "a.b+c@example.org", '"a b"@example.org', "a@[192.0.2.1]", "é@é.example"])
def test_addresses(text: str):
    assert is_address(text)


NO_ADDRESSES = ("", "a", "@b", "a@", "a b@c", "<a@b>", "a@b>", "a@b c", "a@-", '"a"b@c', "a\x00@b", "x" * 400 + "@b")


@pytest.mark.parametrize("text", [*NO_ADDRESSES, "a@b\r\nRCPT TO:<x@y>", "a@b\u2028"])
def test_no_addresses(text: str):
    assert not is_address(text)


@given(st.text(max_size=40))
def test_one_line_and_nothing_that_ends_a_path(text: str):
    if is_address(text):
        assert text.isprintable()
        assert text.count("@") == 1 or text.startswith('"')
        assert not set("<>") & set(text) or text.startswith('"')
