"""The passwords of proxies, which a document of a job does not have: each process takes them from its own settings.

They come from the variable of the proxy (SYNCD_ACCOUNTS__ROAD__PROXY, in the environment or in `.env`), or from the
process's own configuration, if it has read the accounts. Host and port always come from the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from syncd.errors import ConfigError
from syncd.net.proxy import Proxy, parse_proxy
from syncd.settings.layers import variable_name
from syncd.settings.mistakes import Mistake

if TYPE_CHECKING:
    from syncd.settings.loaded import Loaded, LoadedService
    from syncd.settings.schema import Account


def with_password(name: str, shown: str, process: LoadedService) -> Proxy | str:
    """Returns the proxy of an account as this process has it, if it is the one that is `shown`; else what is shown.

    Raises ConfigError where the variable of the proxy is wrong.
    """
    return next((proxy for proxy in _own(name, process) if str(proxy) == shown), shown)


def _own(name: str, process: LoadedService) -> Iterator[Proxy]:
    variable = variable_name(("accounts", name, "proxy"))
    if written := process.environment.get(variable):
        try:
            yield parse_proxy(written)
        except ValueError as error:
            raise ConfigError(f"{variable}: {error}") from error
    accounts: dict[str, Account] = getattr(process.settings, "accounts", {})
    if name in accounts and (proxy := accounts[name].proxy) is not None:
        yield proxy


def in_file(loaded: Loaded) -> Iterator[Mistake]:
    """Yields a warning for each proxy whose password is in the file, from which workers do not get it."""
    for name, account in loaded.settings.accounts.items():
        at = ("accounts", name, "proxy")
        if account.proxy is not None and account.proxy.password.reveal() and loaded.origin(at) == str(loaded.file):
            text = "has a password in the file, which `syncd worker` does not read; set it in .env instead, as"
            yield Mistake(at, f"{text} {variable_name(at)}")
