"""What the kill tests run, and on which mail."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from syncd.durable import Moment
from tests.crash.site import Scenario, Site
from tests.servers.maildrop import servable
from tests.support import mail

MakeSite = Callable[..., Site]

PACKS = Scenario("packs", {"packs": "packs"})
MAILDIR = Scenario("maildir", {"maildir": "maildir"})
MBOX = Scenario("mbox", {"mbox": "mbox"})
BOTH = Scenario("both", {"packs": "packs", "maildir": "maildir"})
MOVE = Scenario("move", {"packs": "packs"}, removes=True)
SCENARIOS = (PACKS, MAILDIR, BOTH, MOVE)


def one_of(last: int, moment: Moment) -> int:
    """Returns the occurrence of a step for a short test: before the middle one, or after the last one."""
    return (last + 1) // 2 if moment == "before" else last


@cache
def sixty() -> tuple[bytes, ...]:
    """All sorts of messages, some of them twice, as they lie on the server."""
    odd = [message for message in mail.nasty().values() if servable(message)]
    some = [*odd, *mail.samples().values(), *mail.small(12, seed=3), *mail.realistic(6, seed=4)]
    return (*some, *some[5:8])
