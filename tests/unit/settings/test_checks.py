"""What several settings say together: each case is a file, and the mistakes it must give."""

from pathlib import Path
from textwrap import dedent

import pytest

from syncd.errors import ConfigError
from syncd.settings.load import load

GOOD = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:P"

[accounts.new]
protocol = "smtp"
host = "smtp.example.org"

[accounts.old]
protocol = "imap"
host = "imap.example.org"
username = "me"
password = "env:P"

[archives.home]
path = "home"

[archives.second]
path = "second"
format = "maildir"
line_ends = "verbatim"
"""


def mistakes(directory: Path, more: str, start: str = GOOD) -> list[str]:
    file = directory / "syncd.toml"
    file.write_text(start + dedent(more))
    try:
        load(file, environment={})
    except ConfigError as error:
        return [line.removeprefix(f"{file}: ") for line in error.lines]
    return []


def test_what_is_right(tmp_path: Path) -> None:
    assert mistakes(tmp_path, '[jobs.a]\nsource = "road"\ndestinations = ["home", "second"]') == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[archives.road]\npath = "x"', ["archives.road: is the name of an account too"]),
        ('[archives.twin]\npath = "./home/../home"', ["archives.twin.path: is the folder of archives.home too"]),
        ('[archives.m]\npath = "m"\nformat = "mbox"', ['archives.m.format: "mbox" is not available in this version; ']),
        ('[archives.m]\npath = "m"\nline_ends = "verbatim"', ["archives.m.line_ends: means nothing"]),
    ],
)  # fmt: skip
def test_archives(tmp_path: Path, more: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, more)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_a_link_to_an_archive_is_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    assert "the folder of archives.home" in mistakes(tmp_path, '[archives.twin]\npath = "link"')[0]


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ('protocol = "pop3"', ["username: is missing", "password: is missing"]),
        ('protocol = "imap"\nusername = "me"', ["password: is missing"]),
        ('protocol = "smtp"', []),
        ('protocol = "smtp"\npassword = "env:P"', ["username: is missing"]),
        ('protocol = "lmtp"\nusername = "me"', ["password: is missing"]),
        ('protocol = "smtp"\nsecurity = "none"', ['security: "none" sends password and mail in clear']),
        ('protocol = "smtp"\nsecurity = "none"\nallow_insecure = true', []),
        ('protocol = "lmtp"\npipeline_messages = true', []),
        (
            'protocol = "pop3"\nusername = "me"\npassword = "env:P"\npipeline_messages = true',
            ['pipeline_messages: means nothing for protocol = "pop3"; leave it out'],
        ),
        ('protocol = "pop3"\nusername = "me"\npassword = "env:P"\npipelining = false', []),
        ('protocol = "lmtp"\npipelining = false', ['pipelining: means nothing for protocol = "lmtp"; leave it out']),
        (
            'protocol = "pop3"\nusername = "me"\npassword = "env:P"\nconnections = 2',
            ["connections: a POP3 server opens a maildrop once at a time; accepted: 1"],
        ),
    ],
)
def test_accounts(tmp_path: Path, account: str, expected: list[str]) -> None:
    found = mistakes(tmp_path, f'[accounts.x]\nhost = "h"\n{account}')
    assert len(found) == len(expected), found
    assert all(line.startswith(f"accounts.x.{start}") for line, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('mode = "copy"\nleave_on_server = false', 'mode: "copy" leaves everything at the source and leave_on'),
        ('mode = "copy"\nleave_on_server = "30 days"', 'mode: "copy" leaves everything'),
        ('mode = "move"\nleave_on_server = true', 'mode: "move" removes at the source and leave_on_server'),
        ('mode = "mirror"', 'mode: "mirror" is not available in this version; accepted: "copy", "move"'),
        ('duplicates = "message-id"', 'duplicates: "message-id" is not available in this version; accepted: "off"'),
        ('source = "raod"', 'source: "raod" is not the name of an account; did you mean "road"?'),
        ('source = "zzz"', 'source: "zzz" is not the name of an account; accepted: "home", "new", "old"'),
        ('source = "home"', 'destinations[0]: "home" is what this job reads; a job does not write to the archive that'),
        ('source = "new"', 'source: "new" takes mail, none can be read there; accepted: a pop3 account'),
        ('source = "old"', 'source: "old" is an imap account: as a source it is not available in this version'),
        ('destinations = ["hom"]', 'destinations[0]: "hom" is not the name of an archive; did you mean "home"?'),
        ('destinations = ["home", "home"]', 'destinations[1]: "home" is named twice'),
        ('destinations = ["home", "new"]', 'destinations[1].recipient: is missing; for example "me@example.org"'),
        ('destinations = ["old"]', 'destinations[0]: "old" is an imap account: as a destination it is not available'),
        ('destinations = ["road"]', 'destinations[0]: "road" is a pop3 account, which takes no mail'),
        ('destinations = [{ to = "home", recipient = "x@y" }]', 'destinations[0]: "home" is an archive, which'),
    ],
)  # fmt: skip
def test_jobs(tmp_path: Path, line: str, expected: str) -> None:
    lines = {"source": 'source = "road"', "destinations": 'destinations = ["home"]'}
    lines[line.partition(" ")[0]] = line
    found = mistakes(tmp_path, "[jobs.a]\n" + "\n".join(lines.values()))
    assert len(found) == 1
    assert found[0].startswith(f"jobs.a.{expected}"), found


@pytest.mark.parametrize("account", ["road", "new", "old"])
def test_a_mechanism_that_this_version_lacks(tmp_path: Path, account: str) -> None:
    (found,) = mistakes(tmp_path, "", GOOD.replace(f"[accounts.{account}]", f'[accounts.{account}]\nauth = "ntlm"'))
    assert found.startswith(
        f'accounts.{account}.auth: "ntlm" is not available in this version; accepted: "apop", "auto"'
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('auth = "external"\ncertificate = "me.pem"', []),
        ('auth = "external"', ['accounts.road.auth: "external" signs in by a certificate in TLS']),
        (
            'auth = "external"\ncertificate = "me.pem"\nsecurity = "none"\nallow_insecure = true',
            ['accounts.road.auth: "external" signs in by a certificate in TLS'],
        ),
        ('password = "env:P"\nkey = "me.key"', ["accounts.road.key: belongs to a certificate; set certificate too"]),
        ('password = "env:P"\ncertificate = "me.pem"\nkey = "me.key"', []),
    ],
)
def test_certificates_of_our_own(tmp_path: Path, more: str, expected: list[str]) -> None:
    start = f'[accounts.road]\nprotocol = "pop3"\nhost = "pop.example.net"\nusername = "me"\n{more}\n'
    found = mistakes(tmp_path, "", start)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_no_archive_at_all(tmp_path: Path) -> None:
    source, destination = mistakes(tmp_path, '[jobs.a]\nsource = "road"\ndestinations = ["home"]', start="")
    assert source.endswith("not the name of an account; accepted: none, as there is no [accounts.NAME] yet")
    assert destination.endswith("not the name of an archive; accepted: none, as there is no [archives.NAME] yet")
