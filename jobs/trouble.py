"""A failure that comes again and again, as the database is away: one line when it begins, one when it is over."""

from __future__ import annotations

import logging


class Trouble:
    """The failures of one part that tries again and again. For one thread at a time."""

    def __init__(self, log: logging.Logger, part: str) -> None:
        """The events are `part`.failed and `part`.works_again."""
        self._log = log
        self._part = part
        self._told = ""

    def tell(self, error: Exception) -> None:
        """It failed: say so, unless this was said last."""
        line = str(error)
        if line != self._told:
            self._told = line
            self._log.warning("%s.failed: %s", self._part, line)

    def over(self) -> None:
        """It worked: say so, if it failed before. Repeatable."""
        if self._told:
            self._told = ""
            self._log.info("%s.works_again", self._part)
