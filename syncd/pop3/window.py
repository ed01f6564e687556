"""Bounds on outstanding commands, and on the octets of their answers. Pure arithmetic.

Both bounds begin small and double at each refill while answers keep coming, as TCP's own window does: few answers are
outstanding at a slow server, and a distant server soon has enough to do. A refill is due when half of what the last
refill left outstanding is answered, by count or by octets. So many commands leave together, and the server never runs
out of commands.
"""

from __future__ import annotations

FIRST_COMMANDS = 64
MOST_COMMANDS = 1024  # measured at 40 ms with messages of 2 KiB: 64 gives 1,400 a second, 1,024 gives 10,000
FIRST_OCTETS = 4 << 20
MOST_OCTETS = 16 << 20  # a third of the budget for bodies of the whole process


class Window:
    """Counts commands that are asked and answered. With `pipelined=False` one command at a time."""

    __slots__ = ("_due_commands", "_due_octets", "_most_commands", "commands", "octets", "outstanding", "waiting")

    def __init__(self, *, pipelined: bool) -> None:
        self.commands = FIRST_COMMANDS if pipelined else 1
        self.octets = FIRST_OCTETS
        self._most_commands = MOST_COMMANDS if pipelined else 1
        self.outstanding = 0  # octets of answers
        self.waiting = 0  # commands
        self._due_commands = 0
        self._due_octets = 0

    def admits(self, octets: int) -> bool:
        """Returns whether a command whose answer has `octets` may be asked. An answer of any size is admitted alone."""
        return not self.waiting or (self.waiting < self.commands and self.outstanding + octets <= self.octets)

    def asked(self, octets: int) -> None:
        """Count a command that is on its way."""
        self.waiting += 1
        self.outstanding += octets

    def answered(self, octets: int) -> bool:
        """Count an answer. Returns True when a refill is due."""
        self.waiting -= 1
        self.outstanding -= octets
        return self.waiting <= self._due_commands or self.outstanding <= self._due_octets

    def refilled(self) -> None:
        """Note that all the window admits is asked; work out when the next refill is due, and make it larger."""
        self._due_commands = self.waiting // 2
        self._due_octets = self.outstanding // 2
        self.commands = min(self.commands * 2, self._most_commands)
        self.octets = min(self.octets * 2, MOST_OCTETS)
