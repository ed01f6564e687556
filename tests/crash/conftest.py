"""Sites for the kill tests: each has a directory and a user of its own on the worker's server."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.dovecot import Dovecot

if TYPE_CHECKING:
    from tests.crash.scenarios import MakeSite
    from tests.crash.site import Scenario, Site

pytest.register_assert_rewrite("tests.crash.site", "tests.crash.relay")  # which therefore are imported later

_numbers = itertools.count(1)


@pytest.fixture
def make_site(tmp_path: Path, dovecot: Dovecot) -> Iterator[MakeSite]:
    """Makes sites: of a scenario, with messages if sixty of all sorts will not do."""
    from tests.crash.scenarios import sixty
    from tests.crash.site import Site

    users: list[str] = []

    def make(scenario: Scenario, messages: list[bytes] | None = None, **more: Any) -> Site:
        number = next(_numbers)
        user = f"{scenario}{number}"
        dovecot.add_user(user)
        users.append(user)
        mail = list(sixty() if messages is None else messages)
        return Site(tmp_path / f"site{number}", dovecot, user, scenario, mail, **more)

    yield make
    for user in users:  # some have 30 MiB
        shutil.rmtree(dovecot.mail / user)
