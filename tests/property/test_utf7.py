"""Modified UTF-7: every text has a name, every name has a text, and what decodes comes back octet for octet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.mail import utf7


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_has_a_name_that_gives_it_again(text: str):
    assert utf7.decode(utf7.encode(text)) == text
    assert utf7.octets_of(text).isascii()


@given(st.binary() | st.from_regex(rb"[&A-Za-z,+ -]*", fullmatch=True))
def test_every_name_gives_a_text_and_a_decoded_name_comes_back(name: bytes):
    text = utf7.text_of(name)
    assert utf7.text_of(name, utf8=True).encode("utf-8", "surrogateescape") == name
    try:
        assert utf7.encode(utf7.decode(name)) == name
    except ValueError:
        assert text.encode("utf-8", "surrogateescape") == name
