r"""Dialogues with servers as text, played to a client in place of a socket.

    # anything
    S: * OK ready              what the server says, CRLF behind it; "S+ " has none
    C: a1 NOOP                 what the client must say then
    = result                   what the client makes of it, in the end
    \xNN in a line is an octet

A client that says something else, or waits while it is its turn, fails the test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport

_OCTET = re.compile(rb"\\x([0-9a-f]{2})")


class Turn(NamedTuple):
    """What one side says without being answered."""

    server: bool
    octets: bytes


@dataclass
class Dialogue:
    """A dialogue as its file has it."""

    turns: list[Turn] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Dialogue:
        """Reads a dialogue from a file."""
        dialogue = cls()
        for line in file.read_bytes().split(b"\n"):
            kind, text = line[:3], _OCTET.sub(lambda found: bytes([int(found[1], 16)]), line[3:])
            if kind in {b"S: ", b"C: ", b"S:", b"S+ "}:
                dialogue._say(kind.startswith(b"S"), text + (b"" if kind == b"S+ " else b"\r\n"))
            elif line.startswith(b"= "):
                dialogue.results.append(line[2:].decode())
            else:
                assert not line or line.startswith(b"#"), line
        return dialogue

    def _say(self, server: bool, octets: bytes) -> None:  # noqa: FBT001
        last = self.turns[-1] if self.turns else None
        if last is not None and last.server == server:
            self.turns[-1] = Turn(server, last.octets + octets)
        else:
            self.turns.append(Turn(server, octets))


class Played(Transport):
    """A transport that plays a dialogue. `piece`: the most octets that are received at once."""

    def __init__(self, dialogue: Dialogue, piece: int) -> None:
        super().__init__("imap.example.net", 993)
        self.tls = "TLSv1.3"
        self._turns = list(dialogue.turns)
        self._piece = piece

    def connect(self, seconds: float) -> None:
        """Does nothing."""

    def start_tls(self, policy: TlsPolicy, seconds: float) -> None:
        """Does nothing."""

    def receive(self, target: memoryview, deadline: Deadline) -> int:
        """Gives some octets of the server's turn; the end of the stream after its last."""
        del deadline
        if not self._turns:
            return 0
        server, octets = self._turns[0]
        assert server, f"the client waits, and it should say {octets!r}"
        now = octets[: min(self._piece, len(target))]
        target[: len(now)] = now
        self._turns[0] = Turn(server, octets[len(now) :])
        if len(now) == len(octets):
            self._turns.pop(0)
        self.octets_in += len(now)
        return len(now)

    def send(self, octets: bytes, deadline: Deadline) -> None:
        """Compares what the client says with its turn."""
        del deadline
        self.octets_out += len(octets)
        assert self._turns, f"the client says {octets!r}, and the dialogue is over"
        server, expected = self._turns[0]
        assert not server, f"the client says {octets!r}, and has not heard {expected!r}"
        assert expected.startswith(octets), f"the client says {octets!r}, and should say {expected!r}"
        self._turns[0] = Turn(server, expected[len(octets) :])
        if len(octets) == len(expected):
            self._turns.pop(0)

    def end(self) -> None:
        """Fails if the dialogue has not come to its end."""
        assert not self._turns, f"not said: {self._turns[0]}"
