"""Writes a configuration that moves many mailboxes, from a list of users.

    python3 config/examples/migration.py imap.old.example imap.new.example users.csv FOLDER

A line of the list: user;password;user at the new server;password there. Lines that are empty or begin with "#" are
passed over. FOLDER must not exist yet; it gets syncd.toml, with two accounts and a job for each line, and the
passwords, one in each file of FOLDER/secrets, for the owner alone.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

FIELDS = 4
ENTRY = """
[accounts.{name}-old]
protocol = "imap"
host = {old_host}
username = {old_user}
password = "file:secrets/{name}-old"

[accounts.{name}-new]
protocol = "imap"
host = {new_host}
username = {new_user}
password = "file:secrets/{name}-new"

[jobs.{name}]
source = "{name}-old"
mailboxes = {{ include = ["*"], exclude = ['\\Trash', '\\Junk'] }}
destinations = ["{name}-new"]
"""


def users(path: Path) -> Iterator[list[str]]:
    """The lines of the list. Raises SystemExit with the number of a line that has not four fields."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in (rows := csv.reader(file, delimiter=";", quoting=csv.QUOTE_NONE)):
            if row and not row[0].startswith("#"):
                if len(row) != FIELDS or not all(row):
                    sys.exit(f"{path}:{rows.line_num}: a line has four fields: user;password;new user;new password")
                yield row


def name_of(user: str, taken: set[str]) -> str:
    """A name for the entries of a user that no other one has."""
    plain = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "user"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name)
    return name


def main(old_host: str, new_host: str, users_csv: str, folder: str) -> None:
    """Write everything. Raises OSError."""
    rows, home, taken = list(users(Path(users_csv))), Path(folder), set[str]()
    (home / "secrets").mkdir(mode=0o700, parents=True)
    with (home / "syncd.toml").open("x", encoding="utf-8") as file:
        for old_user, old_password, new_user, new_password in rows:
            name = name_of(old_user, taken)
            for side, password in (("old", old_password), ("new", new_password)):
                secret = home / "secrets" / f"{name}-{side}"
                secret.touch(mode=0o600)
                secret.write_text(password + "\n", encoding="utf-8")
            texts = {"old_host": old_host, "new_host": new_host, "old_user": old_user, "new_user": new_user}
            quoted = {key: json.dumps(text, ensure_ascii=False) for key, text in texts.items()}
            file.write(ENTRY.format(name=name, **quoted))
    print(f"{home / 'syncd.toml'}: {len(rows)} users; next: cd {home}; syncd check")  # noqa: T201  it is a script


if __name__ == "__main__":
    if len(sys.argv) != FIELDS + 1:
        sys.exit((__doc__ or "").partition("\n\n")[2])
    main(*sys.argv[1:])
