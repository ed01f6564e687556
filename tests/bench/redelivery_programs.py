"""The programs that pull a maildrop and send it on: how each is told, and how many header fields it adds on top.

mpop hands each message to msmtp, which signs in and speaks TLS as syncd does. fetchmail can do neither towards the
server it delivers to: it, and syncd beside it, use the port that wants neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Command
from tests.bench.programs import SYNCD, Access, executable, private


@dataclass(frozen=True)
class Target:
    """Where mail is to go. `user` is empty for a port without sign-in and TLS; `options` are syncd's own."""

    port: int
    recipient: str
    user: str = ""
    password: str = ""
    ca_file: Path | None = None
    host: str = "localhost"
    protocol: str = "smtp"
    options: str = ""

    @property
    def table(self) -> str:
        """It as an account of syncd's configuration."""
        sign_in = f'username = "{self.user}"\npassword = "file:relay-password"\n' if self.user else ""
        security = f'"tls"\nca_file = "{self.ca_file}"' if self.ca_file else '"none"\nallow_insecure = true'
        return (
            f'[accounts.relay]\nprotocol = "{self.protocol}"\nhost = "{self.host}"\nport = {self.port}\n'
            f"security = {security}\n{sign_in}{self.options}\n"
        )


@dataclass(frozen=True)
class Sender:
    """`prepare` writes a configuration into a fresh directory; `fields` are put before each message.

    One that `moves_return_path` takes it from the message for the envelope, and the server puts it on top again.
    """

    name: str
    prepare: Callable[[Access, Target, Path], Command]
    fields: int = 0
    moves_return_path: bool = False


def _fetchmail(access: Access, target: Target, directory: Path) -> Command:
    text = (
        f"poll {access.host} service {access.port} protocol POP3 uidl no dns\n"
        f'  user "{access.user}" there password "{access.password}"\n'
        f'  smtphost "127.0.0.1/{target.port}" smtpname "{target.recipient}"\n'
        "  keep fetchall no rewrite batchlimit 0 sslproto ''\n"
    )
    file = private(directory / "fetchmailrc", text)
    options = ["--silent", "--nosyslog", "--invisible", "--pidfile", str(directory / "pid")]
    command = [executable("fetchmail"), *options, "--idfile", str(directory / "ids"), "--fetchmailrc", str(file)]
    return Command(command, {"HOME": str(directory), "FETCHMAILHOME": str(directory)})


def _mpop_msmtp(access: Access, target: Target, directory: Path) -> Command:
    assert target.ca_file is not None
    msmtp = private(
        directory / "msmtprc",
        f"account bench\nhost {target.host}\nport {target.port}\ntls on\ntls_starttls off\n"
        f"tls_trust_file {target.ca_file}\nauth plain\nuser {target.user}\npassword {target.password}\n",
    )
    mda = f"{executable('msmtp')} --file={msmtp} --account=bench --from=sender@example.org -- {target.recipient}"
    text = (
        f"account bench\nhost {access.host}\nport {access.port}\ntls off\nauth user\nuser {access.user}\n"
        f"password {access.password}\nkeep on\nreceived_header off\nuidls_file {directory}/uidls\n"
        f'delivery mda "{mda}"\n'
    )
    file = private(directory / "mpoprc", text)
    return Command([executable("mpop"), "--quiet", f"--file={file}", "bench"])


def _syncd(access: Access, target: Target, directory: Path) -> Command:
    private(directory / "password", access.password)
    private(directory / "relay-password", target.password)
    text = (
        f'state_directory = "{directory}/state"\n'
        f'[accounts.bench]\nprotocol = "pop3"\nhost = "{access.host}"\nport = {access.port}\nsecurity = "none"\n'
        f'allow_insecure = true\nusername = "{access.user}"\npassword = "file:password"\n{target.table}'
        f'[jobs.bench]\nsource = "bench"\ndestinations = [{{ to = "relay", recipient = "{target.recipient}" }}]\n'
    )
    return syncd(directory, text)


def syncd(directory: Path, configuration: str, *jobs: str) -> Command:
    """`syncd run` with that configuration, its report as JSON on standard output."""
    file = private(directory / "syncd.toml", configuration)
    return Command(
        [str(SYNCD), "run", *jobs, "--json", "--config", str(file)], {"SYNCD_HOME": str(directory / "state")}
    )


FETCHMAIL = Sender("fetchmail → SMTP", _fetchmail, moves_return_path=True)
MPOP_MSMTP = Sender("mpop → msmtp → SMTP", _mpop_msmtp)
SYNCD_SMTP = Sender("syncd → SMTP", _syncd, fields=2)
