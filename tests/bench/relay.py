"""Where redelivered mail goes when it is measured: a private Postfix on the same disk, Dovecot's LMTP, distances."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.bench.measure import RunFailed, Usage, run
from tests.bench.redelivery_programs import Sender, Target
from tests.bench.rows import FAR_S
from tests.bench.stage import PASSWORD, Maildrop, Stage
from tests.bench.verify import compare
from tests.servers.postfix import Postfix, missing

POSTFIX_FIELDS = 4  # Return-Path, X-Original-To, Delivered-To, Received
LMTP_FIELDS = 2  # Return-Path, Received
READ_OCTETS = 1 << 20
USER = "relay"


class Relay:
    """The servers of a stage. Each target has a recipient of its own, so that runs can be told apart."""

    def __init__(self, stage: Stage) -> None:
        if reason := missing():
            raise RunFailed(reason)
        self._stage = stage
        self._postfix = stage.keep(Postfix(stage.server, directory=stage.directory))
        self._numbers = itertools.count(1)
        stage.server.add_user(USER, PASSWORD)

    # --- where to -----------------------------------------------------------------------------------

    def open_port(self) -> Target:
        """Postfix without sign-in and TLS."""
        return Target(self._postfix.ports.smtp, self._recipient(), options="connections = 4")

    def submission(self, connections: int = 4) -> Target:
        """Postfix with both, and CHUNKING."""
        return self._signed_in(self._postfix.ports.submissions, connections)

    def without_bdat(self, connections: int = 4) -> Target:
        """Postfix with both, and DATA alone."""
        return self._signed_in(self._postfix.ports.without_bdat, connections)

    def lmtp(self, connections: int = 4) -> Target:
        """Dovecot, messages pipelined."""
        recipient = self._recipient()
        self._stage.server.add_user(recipient.partition("@")[0])
        return Target(
            self._stage.server.lmtp_port,
            recipient,
            host="127.0.0.1",
            protocol="lmtp",
            options=f"connections = {connections}",
        )

    def far(self, target: Target) -> Target:
        """The same, 40 ms away."""
        return replace(target, port=self._stage.distant(target.port, FAR_S))

    def _signed_in(self, port: int, connections: int) -> Target:
        ca_file, options = self._postfix.ca_file, f"connections = {connections}"
        return Target(port, self._recipient(), USER, PASSWORD, ca_file, options=options)

    def _recipient(self) -> str:
        return f"run{next(self._numbers)}@example.org"

    # --- runs ---------------------------------------------------------------------------------------

    def redeliver(self, sender: Sender, maildrop: Maildrop, target: Target) -> Usage:
        """One first run to a recipient of its own; measured, then verified."""
        target = replace(target, recipient=self._recipient()) if target.protocol == "smtp" else self._anew(target)
        directory = self._stage.fresh()
        usage = run(sender.prepare(self._stage.access(maildrop.user), target, directory), directory)
        self.verify(sender, target, maildrop)
        return usage

    def _anew(self, target: Target) -> Target:
        return replace(target, recipient=self.lmtp().recipient)

    def verify(self, sender: Sender, target: Target, maildrop: Maildrop) -> None:
        """Raise RunFailed unless what came, without what was put on top, is what was sent."""
        files = self.wait_for(target, maildrop.messages)
        fields = sender.fields + (POSTFIX_FIELDS if target.protocol == "smtp" else LMTP_FIELDS)
        found = Counter(_below(file, fields, with_first=sender.moves_return_path) for file in files)
        compare(found, maildrop.expected, sender.name)

    def wait_for(self, target: Target, messages: int) -> list[Path]:
        """The files that came for a recipient, when all are there."""
        if target.protocol == "smtp":
            return self._postfix.files(target.recipient, at_least=messages)
        return self._stage.server.files(target.recipient.partition("@")[0])


@functools.cache
def relay_of(stage: Stage) -> Relay:
    """That of a stage, made when it is first asked for."""
    return Relay(stage)


def _below(file: Path, fields: int, *, with_first: bool) -> bytes:
    """SHA-256 of a file of LF without its first header fields (but for the very first), read in a stream."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        line = opened.readline()
        if with_first:
            found.update(line)
        for _ in range(fields):
            line = opened.readline()
            while line[:1] in {b" ", b"\t"}:
                line = opened.readline()
        found.update(line)
        while chunk := opened.read(READ_OCTETS):
            found.update(chunk)
    return found.digest()
