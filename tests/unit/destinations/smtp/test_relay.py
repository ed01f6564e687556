"""The options of an account."""

from __future__ import annotations

import pytest

from syncd.destinations.smtp.relay import RelayOptions
from syncd.errors import ConfigError
from tests.fakes.smtp_client import ENDPOINT


@pytest.mark.parametrize("name", ["", "laptop.example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_names_that_ehlo_may_say(name: str):
    assert RelayOptions(ENDPOINT, ehlo_name=name).ehlo_name == name


@pytest.mark.parametrize(
    "name", ["laptop", "my_laptop.example.org", "localhost", "büro.example.org", "192.0.2.1", "a.b\r\nMAIL"]
)
def test_a_name_that_is_none_is_a_mistake(name: str):
    with pytest.raises(ConfigError, match="is no full host name; accepted: a name such as"):
        RelayOptions(ENDPOINT, ehlo_name=name)
