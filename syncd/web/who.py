"""Who asks: a person who is signed in, or a program with a token."""

from __future__ import annotations

from typing import NamedTuple

from syncd.db.people import Role


class Who(NamedTuple):
    """A person who is signed in, or a program with a token."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Returns whether they may run, pause, cancel, retry and drop."""
        return self.role >= Role.OPERATOR

    @property
    def is_admin(self) -> bool:
        """Returns whether they decide who may sign in."""
        return self.role >= Role.ADMIN
