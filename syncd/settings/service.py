"""The settings of a service: where it listens, how much it does at a time, whom it tells, and limits across workers."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final

from pydantic import Field

from syncd.settings.fields import BaseUrl, Hook, Host, Listen, Octets, Proxies, Recipients, Span, Table, Text
from syncd.settings.urls import parse_listen

DEFAULT_MESSAGE_OCTETS: Final = 2 << 30  # more than any server takes, and the largest size below 2^31 + 1
MAX_WORKERS: Final = 256  # threads of a process; each needs about 2 MiB and a connection to the database
MAX_HOST_CONNECTIONS: Final = 10_000


class LogFormat(StrEnum):
    """The form of log lines: for people, or a JSON object for each."""

    CONSOLE = "console"
    JSON = "json"


class Service(Table):
    """The settings of `syncd serve`, `worker` and `scheduler`."""

    listen: Listen = Field(
        default="127.0.0.1:8425",
        description='address and port of health checks, metrics, the page and the API; "" for none',
        examples=["127.0.0.1:8425", ""],
    )
    page: bool = Field(
        default=True, description="false: no page and no API, only health checks and metrics", examples=[True]
    )
    base_url: BaseUrl | None = Field(
        default=None,
        description="address by which browsers reach the page, where that is not the address that syncd listens at",
        examples=["https://mail.example.org"],
    )
    trusted_proxies: Proxies = Field(
        default=(),
        description="addresses of the reverse proxies whose word counts for who asks, and whether by https",
        examples=[["127.0.0.1"]],
    )
    search: bool = Field(
        default=True,
        description="keep a search index beside each archive, made while no run is under way; false: by hand alone",
        examples=[True],
    )
    workers: int = Field(
        default=8, ge=1, le=MAX_WORKERS, description="largest number of runs at a time in a process", examples=[8]
    )
    keep_history: Span = Field(
        default=timedelta(days=90),
        description="time for which runs that are over are kept",
        examples=["90 days"],
        json_schema_extra={"default": "90 days"},  # as people write it
    )
    log: LogFormat = Field(default=LogFormat.CONSOLE, description="form of log lines: for people, or JSON")

    @property
    def address(self) -> tuple[str, int] | None:
        """Returns host and port to listen at; None if there is nothing to listen at."""
        return parse_listen(self.listen) if self.listen else None


class HostLimits(Table):
    """Limits of all accounts at one host, across all workers."""

    connections: int = Field(
        ge=1,
        le=MAX_HOST_CONNECTIONS,
        description="largest number of connections to the host at a time, across all workers",
        examples=[4],
    )


class Limits(Table):
    """Limits of a run, and of all runs together."""

    message_octets: Octets = Field(
        default=DEFAULT_MESSAGE_OCTETS,
        description="largest message; larger messages are reported and not fetched",
        examples=["2 GiB"],
    )
    hosts: dict[Host, HostLimits] = Field(default={}, description="limits of hosts", examples=[{}])

    @cached_property
    def _connections(self) -> dict[str, int]:
        return {host.lower().rstrip("."): limits.connections for host, limits in self.hosts.items()}

    def connections_to(self, host: str) -> int | None:
        """Returns how many connections to a host all workers may have together; None without a limit."""
        return self._connections.get(host.lower().rstrip("."))


class EMail(Table):
    """The way of a notification by mail."""

    through: Text = Field(description="smtp or lmtp account that sends the mail", examples=["new"])
    to: Recipients = Field(description="address, or list of addresses", examples=["me@example.org"])


class Notify(Table):
    """The ways in which a service tells people that something is wrong, and that it is right again."""

    email: EMail | None = Field(
        default=None, description="send mail", examples=[{"through": "new", "to": "me@example.org"}]
    )
    webhook: Hook | None = Field(
        default=None,
        description="address that gets a JSON document by POST",
        examples=["https://chat.example.org/hook"],
    )
    ping_url: Hook | None = Field(
        default=None,
        description="address of a dead man's switch, which is called while all is well",
        examples=["https://hc.example.org/ping"],
    )
