from __future__ import annotations

import pytest

from syncd.errors import ConfigError
from syncd.net.tls import TlsPolicy


def test_a_fingerprint_is_taken_as_openssl_prints_it():
    assert TlsPolicy(fingerprint=":".join(["AB"] * 32)).pin == "ab" * 32
    assert TlsPolicy().pin == ""


@pytest.mark.parametrize("wrong", ["ab", "g" * 64, "ab" * 33])
def test_what_is_no_fingerprint_is_refused(wrong: str):
    with pytest.raises(ConfigError, match="not a SHA-256 in hex, 64 digits"):
        TlsPolicy(fingerprint=wrong)
