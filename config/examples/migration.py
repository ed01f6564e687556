"""Writes a configuration that moves many mailboxes, from a list of users.

    python3 config/examples/migration.py imap.old.example imap.new.example:1993 users.csv FOLDER

A line of the list: user;password;user at the new server;password there. Lines that are empty or begin with "#" are
passed over. A field with ";" in it stands in quotes, and one that begins with a quote as well, with each quote in it
twice: so spreadsheets write them. The list is in UTF-8.

FOLDER must not exist yet. It gets syncd.toml, with two accounts and a job for each line, and the passwords, one in each
file of FOLDER/secrets, for the owner alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIELDS = 4
LINE = "user;password;new user;new password"
HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w-]{1,63}(?:\.[\w-]{1,63})*\.?))(?::(?P<port>[0-9]{1,5}))?"
)
MOST_PORT = 65535
ACCOUNT = """
[accounts.{name}-{side}]
protocol = "imap"
{server}
username = {user}
password = "file:secrets/{name}-{side}"
"""
JOB = """
[jobs.{name}]
source = "{name}-old"
mailboxes = {{ include = ["*"], exclude = ['\\Trash', '\\Junk'] }}
destinations = ["{name}-new"]
"""


@dataclass(frozen=True)
class Host:
    """A server's name or address; without a port it is the usual one."""

    name: str
    port: int | None


def host(text: str) -> Host:
    """Read HOST, HOST:PORT or [IPv6]:PORT. Raises ArgumentTypeError."""
    match = HOST.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= MOST_PORT):
        raise argparse.ArgumentTypeError(
            f'"{text}" is not a server: write its name or address, and perhaps a port: imap.example.net,'
            " imap.example.net:1993, [2001:db8::1]:993"
        )
    return Host(match["v6"] or match["name"], port)


def ca_file(text: str) -> Path:
    """Returns the whole path of a file, as the configuration lies elsewhere. Raises ArgumentTypeError."""
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f'"{text}" is no file: name a file of certificates in PEM')
    return path


def server(place: Host, security: str, trusted: Path | None) -> str:
    """Returns the lines of an account that say where its server is and how the connection is protected."""
    values: dict[str, str | int] = {"host": place.name, "security": security}
    if place.port is not None:
        values["port"] = place.port
    if trusted is not None:
        values["ca_file"] = str(trusted)
    lines = [f"{key} = {quoted(value)}" for key, value in values.items()]
    return "\n".join([*lines, "allow_insecure = true"] if security == "none" else lines)


def quoted(value: str | int) -> str:
    """Returns a value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def users(path: Path) -> Iterator[list[str]]:
    """Yields the lines of the list. Raises SystemExit that names the line which cannot be used."""
    lines: dict[str, int] = {}  # of the accounts at the new server
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=";", strict=True)
        try:
            for row in rows:
                if row and not row[0].startswith("#"):
                    if len(row) != FIELDS or not all(row):
                        sys.exit(f"{path}:{rows.line_num}: a line has four fields: {LINE}")
                    if any("\n" in field or "\r" in field for field in row):
                        sys.exit(f"{path}:{rows.line_num}: a field goes over two lines: is a quote not closed?")
                    before = lines.setdefault(row[2].casefold(), rows.line_num)
                    if before != rows.line_num:
                        sys.exit(f"{path}:{rows.line_num}: {row[2]} at the new server is in line {before}, too")
                    yield row
        except csv.Error as error:
            sys.exit(
                f"{path}:{rows.line_num}: {error}: a field that begins with a quote stands in quotes as a whole, with"
                " each quote in it twice"
            )
    if not lines:
        sys.exit(f"{path}: there is no user in it; a line for each: {LINE}")


def listed(path: Path) -> list[list[str]]:
    """Returns the lines of the list. Raises SystemExit."""
    try:
        return list(users(path))
    except UnicodeDecodeError:
        sys.exit(f'{path}: is not in UTF-8: save the list in UTF-8 (spreadsheets call it "CSV UTF-8")')
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}: name the list of users, a file with a line for each: {LINE}")


def name_of(user: str, taken: set[str]) -> str:
    """Returns a name for the entries of a user that no other one has."""
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "user"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name


def write(home: Path, rows: list[list[str]], servers: dict[str, str]) -> None:
    """Write the configuration and the passwords into a new folder. Raises OSError."""
    taken = set[str]()
    home.mkdir(parents=True)
    (home / "secrets").mkdir(mode=0o700)
    with (home / "syncd.toml").open("x", encoding="utf-8") as file:
        for old_user, old_password, new_user, new_password in rows:
            name = name_of(old_user, taken)
            for side, user, password in (("old", old_user, old_password), ("new", new_user, new_password)):
                secret = home / "secrets" / f"{name}-{side}"
                secret.touch(mode=0o600)
                secret.write_text(password + "\n", encoding="utf-8")
                file.write(ACCOUNT.format(name=name, side=side, server=servers[side], user=quoted(user)))
            file.write(JOB.format(name=name))


def arguments() -> argparse.Namespace:
    """Read the command line. Raises SystemExit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for side in ("old", "new"):
        parser.add_argument(
            f"{side}_host", metavar=f"{side.upper()}_HOST", type=host, help=f"the {side} server: HOST or HOST:PORT"
        )
        parser.add_argument(
            f"--{side}-security",
            choices=("tls", "starttls", "none"),
            default="tls",
            help=f"protection of the connection to the {side} server; none sends passwords in clear (default: tls)",
        )
        parser.add_argument(
            f"--{side}-ca-file",
            metavar="FILE",
            type=ca_file,
            help=f"trust these certificates (PEM) at the {side} server instead of the system's",
        )
    parser.add_argument("users", metavar="USERS", type=Path, help="the list of users")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder for the configuration")
    return parser.parse_args()


def main() -> None:
    """Write everything. Raises SystemExit."""
    given = arguments()
    rows, home = listed(given.users), given.folder
    servers = {
        "old": server(given.old_host, given.old_security, given.old_ca_file),
        "new": server(given.new_host, given.new_security, given.new_ca_file),
    }
    try:
        write(home, rows, servers)
    except FileExistsError:
        sys.exit(f"{home}: is there already: name a new folder, or remove this one; nothing was written")
    except OSError as error:
        sys.exit(f"{error.filename or home}: {error.strerror}: name a folder that can be made, with room on its disk")
    print(f"{home / 'syncd.toml'}: {len(rows)} users; next: cd {home}; syncd check")  # noqa: T201  it is a script


if __name__ == "__main__":
    main()
