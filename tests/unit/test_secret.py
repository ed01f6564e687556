import pickle

import pytest

from syncd.secret import Secret


@pytest.mark.parametrize("value", ["hunter2", b"hunter2"])
def test_it_never_prints_itself(value: str | bytes) -> None:
    secret = Secret(value)
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20}" + str([secret])
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("value", "octets", "is_text"),
    [
        ("pä", b"p\xc3\xa4", True),
        (b"p\xc3\xa4", b"p\xc3\xa4", True),
        (b"p\xe4", b"p\xe4", False),
        ("p\udce4", b"p\xe4", False),
    ],
)
def test_octets_come_out_as_they_went_in(value: str | bytes, octets: bytes, *, is_text: bool) -> None:
    secret = Secret(value)
    assert secret.octets() == octets
    assert Secret(secret.reveal()).octets() == octets
    assert secret.is_text is is_text
