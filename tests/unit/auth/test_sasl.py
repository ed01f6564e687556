from __future__ import annotations

import pytest

from syncd.auth.sasl import Plain
from syncd.errors import LocalProtocolError
from syncd.secret import Secret


def test_plain_is_utf8_between_nuls():
    assert Plain("jürgen", Secret("geheim ß")).initial() == "\0jürgen\0geheim ß".encode()


def test_plain_answers_one_empty_challenge():
    plain = Plain("tim", Secret("tanstaaftanstaaf"))  # RFC 4616 §4
    assert plain.respond(b"") == b"\0tim\0tanstaaftanstaaf"
    assert plain.respond(b"") is None
    assert Plain("tim", Secret("x")).respond(b"more?") is None


@pytest.mark.parametrize(("name", "word"), [("a\0b", "c"), ("a", "b\0c")])
def test_plain_refuses_nul_and_does_not_show_it(name: str, word: str):
    with pytest.raises(LocalProtocolError) as caught:
        Plain(name, Secret(word)).initial()
    assert word not in str(caught.value).split()
