from __future__ import annotations

import pytest

from jobs.app import make_app
from syncd.settings.urls import parse_broker


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("memory://", "memory"),
        ("redis://localhost:6379/0", "redis"),
        ("rediss://localhost:6379/0", "redis"),
        ("amqp://localhost", "amqp"),
        ("amqps://localhost", "amqp"),
    ],
)
def test_each_broker_has_the_options_of_its_transport(url: str, transport: str) -> None:
    options = make_app(parse_broker(url)).conf.broker_transport_options
    assert ("polling_interval" in options) == (transport == "memory")
    assert ("visibility_timeout" in options) == (transport == "redis")
    assert (options.get("max_retries") == 0) == (transport != "memory")
