"""Tells people what they should know of jobs: looks, decides (`notify`), claims (`db.notices`), sends (`channels`).

`tick` is called by the scheduler that leads. It returns at once: one thread looks and sends, and while it is busy a
tick is left out. So a mail server that hangs never holds the schedule up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from syncd import clock
from syncd.db import notices
from syncd.errors import ConfigError, SyncdError
from syncd.services.channels import TOTAL_S, Channel, Mail, Ping, Webhook, short_waits
from syncd.services.notify import Message, again_at, compose, decide, trouble
from syncd.settings.quiet import late_since

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.loaded import LoadedService
    from syncd.settings.service import EMail

log = logging.getLogger(__name__)

PING_S: Final = 300.0
CLAIM: Final = timedelta(seconds=2 * TOTAL_S)  # longer than a message may take
PURGE_S: Final = 3600.0


class Notifier:
    """Tells by `channels`, and calls `ping`. `blank` takes secrets out of a text, as the log does."""

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        ping: Ping | None = None,
        blank: Callable[[str], str] = str,
    ) -> None:
        self._database = database
        self._channels = channels
        self._ping = ping
        self._blank = blank
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pinged: tuple[float, bool] | None = None  # when by the monotonic clock, and whether all was well
        self._purged = clock.monotonic()

    def tick(self) -> None:
        """Look, and tell what is new, in a thread of its own. Returns at once."""
        if not (self._channels or self._ping) or not self._busy.acquire(blocking=False):
            return
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="notices", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until what is under way is done; whether it is."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self.look(clock.now())
        except SyncdError as error:
            log.warning("notices.failed: %s", error)
        except Exception:
            log.exception("notices.failed")
        finally:
            self._busy.release()

    def look(self, now: datetime) -> None:
        """Look, and tell what is new, in this thread. Raises LedgerError, StorageError."""
        conditions = notices.conditions(self._database, now, late_since)
        for channel in self._channels:
            self._tell(channel, conditions, now)
        self._call_ping(well=not trouble(conditions))
        if clock.monotonic() - self._purged >= PURGE_S:
            self._purged = clock.monotonic()
            notices.purge(self._database, now)

    def _tell(self, channel: Channel, conditions: Sequence[notices.Condition], now: datetime) -> None:
        told = notices.told(self._database, channel.name)
        news = decide(conditions, told, now)
        if not news:
            return
        wanted = [(it.job_id, it.before) for it in news]
        ours = notices.claim(self._database, channel.name, wanted, now, now + CLAIM)
        news = [it for it in news if it.job_id in ours]
        if not news:
            return
        try:
            channel.send(self._blanked(compose(news, now)))
        except SyncdError as error:
            log.warning("notice.failed: %s: %s", channel.name, error)
            for it in news:
                tries = told[it.job_id].tries if it.job_id in told else 0
                notices.failed(self._database, channel.name, [it.job_id], again_at(tries, now))
            return
        notices.done(self._database, channel.name, [(it.job_id, it.marks) for it in news], now)
        log.info("notice.sent: %s: %d jobs", channel.name, len(news))

    def _blanked(self, message: Message) -> Message:
        return Message(self._blank(message.title), self._blank(message.text), _blanked(message.document, self._blank))

    def _call_ping(self, *, well: bool) -> None:
        at, was_well = self._pinged or (0.0, not well)
        now = clock.monotonic()
        if self._ping is None or (was_well == well and now - at < PING_S):
            return
        self._pinged = (now, well)
        try:
            self._ping.send(well=well)
        except SyncdError as error:
            log.warning("ping.failed: %s", error)


def make_notifier(loaded: LoadedService, database: Database, blank: Callable[[str], str]) -> Notifier:
    """Returns the notifier that `[notify]` asks for; without it, one that does nothing."""
    notify = loaded.settings.notify
    channels: list[Channel] = []
    if notify.email is not None and (mail := _mail(loaded, notify.email)) is not None:
        channels.append(mail)
    if notify.webhook is not None:
        channels.append(Webhook(notify.webhook))
    return Notifier(database, channels, None if notify.ping_url is None else Ping(notify.ping_url), blank)


def _mail(loaded: LoadedService, email: EMail) -> Mail | None:
    """Returns the way by mail. A process that reads no accounts reads the file once more, for the one that is needed.

    None, and a line in the log, where the file is wrong: the other ways are used then.
    """
    from syncd.services.wiring import make_relay
    from syncd.settings.load import load
    from syncd.settings.loaded import Loaded

    if not isinstance(loaded, Loaded):
        try:
            loaded = load(loaded.file, environment=loaded.environment)
        except ConfigError as error:
            log.warning("notify.no_mail: the configuration is wrong: %s", error.lines[0])
            return None
    options = replace(make_relay(loaded, email.through).options, deadlines=short_waits())
    return Mail(options, email.to)


def _blanked(value: object, blank: Callable[[str], str]) -> dict[str, object]:
    assert isinstance(value, dict)
    return {name: _plain(each, blank) for name, each in value.items()}


def _plain(value: object, blank: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return blank(value)
    if isinstance(value, dict):
        return _blanked(value, blank)
    return [_plain(each, blank) for each in value] if isinstance(value, list) else value
