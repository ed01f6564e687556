"""Checks of several settings together: each case is a file, and the mistakes it must give."""

from pathlib import Path
from textwrap import dedent

import pytest

from syncd.db.models import MAX_SLOT
from syncd.errors import ConfigError
from syncd.mail.patterns import Selection
from syncd.settings import alike
from syncd.settings.checks import MAX_DESTINATIONS
from syncd.settings.load import load
from syncd.settings.mistakes import key_text

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
        ('[archives.road]\npath = "x"', ["archives.road: is also the name of an account"]),
        ('[archives.twin]\npath = "./home/../home"', ["archives.twin.path: is also the folder of archives.home"]),
        ('[archives.twin]\npath = "home/inner/most"', ["archives.twin.path: is inside the folder of archives.home"]),
        ('[archives.twin]\npath = "home-2"', []),
        ('[archives.around]\npath = "."', [f"archives.{name}.path: is inside" for name in ("home", "second")]),
        ('[archives.m]\npath = "m"\nformat = "mbox"', []),
        ('[archives.m]\npath = "m"\nformat = "mbox"\nlayout = "nested"', ["archives.m.layout: has no meaning"]),
        ('[archives.m]\npath = "m"\nformat = "eml"', []),
        ('[archives.m]\npath = "m"\nline_ends = "verbatim"', ["archives.m.line_ends: has no meaning"]),
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
            ['pipeline_messages: has no meaning for protocol = "pop3"; leave it out'],
        ),
        ('protocol = "pop3"\nusername = "me"\npassword = "env:P"\npipelining = false', []),
        ('protocol = "imap"\nusername = "me"\npassword = "env:P"\npipelining = false', []),
        (
            'protocol = "smtp"\nauth = "user"\nusername = "me"\npassword = "env:P"',
            ['auth: "user" is only for pop3; acc'],
        ),
        (
            'protocol = "lmtp"\nauth = "apop"\nusername = "me"\npassword = "env:P"',
            ['auth: "apop" is only for pop3; acc'],
        ),
        ('protocol = "smtp"\nehlo_name = "laptop.example.org"\ntls_name = "x"\nproxy = "http://p:3128"', []),
        ('protocol = "imap"\nusername = "chief"\npassword = "env:P"\nauthzid = "me"', []),
        (
            'protocol = "imap"\nusername = "chief"\npassword = "env:P"\nauthzid = "me"\nauth = "cram-md5"',
            ['auth: "cram-md5" cannot sign in for another user, as authzid wants; accepted: "auto", "external", '],
        ),
        (
            'protocol = "pop3"\nusername = "chief"\npassword = "env:P"\nauthzid = "me"',
            ['authzid: has no meaning for protocol = "pop3"; leave it out'],
        ),
        ('protocol = "lmtp"\nehlo_name = "[IPv6:2001:db8::1]"', []),
        ('protocol = "smtp"\nehlo_name = "laptop"', ['ehlo_name: "laptop" is neither a full host name nor an address']),
        (
            'protocol = "pop3"\nusername = "me"\npassword = "env:P"\nehlo_name = "laptop.example.org"',
            ['ehlo_name: has no meaning for protocol = "pop3"; leave it out'],
        ),
        (
            'protocol = "smtp"\nsecurity = "none"\nallow_insecure = true\ntls_name = "x"',
            ['tls_name: has no meaning for security = "none", which has no certificate; leave it out'],
        ),
        ('protocol = "lmtp"\npipelining = false', ['pipelining: has no meaning for protocol = "lmtp"; leave it out']),
        (
            'protocol = "pop3"\nusername = "me"\npassword = "env:P"\nconnections = 2',
            ["connections: a POP3 server allows one session for a mailbox; accepted: 1"],
        ),
        ('protocol = "imap"\nusername = "me"\npassword = "env:P"\nconnections = 2\nshare_mailboxes = true', []),
        (
            'protocol = "imap"\nusername = "me"\npassword = "env:P"\nshare_mailboxes = true',
            ["share_mailboxes: needs several connections; set connections = 4, or leave it out"],
        ),
        (
            'protocol = "smtp"\nconnections = 2\nshare_mailboxes = true',
            ['share_mailboxes: has no meaning for protocol = "smtp"; leave it out'],
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
        ('mode = "copy"\nleave_on_server = false', 'mode: "copy" keeps mail at the source and leave_on'),
        ('mode = "copy"\nleave_on_server = "30 days"', 'mode: "copy" keeps mail'),
        ('mode = "move"\nleave_on_server = true', 'mode: "move" removes mail at the source and leave_on_server'),
        ('mode = "mirror"', 'mode: "mirror" is not available in this version; accepted: "copy", "move"'),
        ('flags = "follow"', 'flags: "follow" is not available in this version; accepted: "once"'),
        ('labels = "each"', 'labels: has no meaning for "road", a pop3 account; leave it out'),
        ('deleted = "skip"', 'deleted: "skip" has no meaning for "road", a pop3 account; leave it out'),
        ('source = "old"\nlabels = "each"\nmode = "move"', 'labels: "each" reads a message in several mailboxes'),
        ('duplicates = "message-id"', 'duplicates: "message-id" is not available in this version; accepted: "off"'),
        ('source = "raod"', 'source: "raod" is not the name of an account or archive; did you mean "road"?'),
        ('source = "zzz"', 'source: "zzz" is not the name of an account or archive; accepted: "home", "new", "old"'),
        (
            'source = "old"\ndestinations = ["c"]',
            'destinations[0]: "c" is not the name of an archive or account; accepted: "home", "new", "road", "second"',
        ),
        (
            'source = "old"\ndestinations = ["ol"]',
            'destinations[0]: "ol" is not the name of an archive or account; accepted: "home", "new", "road"',
        ),
        ('source = "home"', 'destinations[0]: "home" is the source of this job; a job cannot write to the archive'),
        ('source = "new"', 'source: "new" only takes mail, so it cannot be a source; accepted: a pop3 or imap'),
        ('destinations = ["hom"]', 'destinations[0]: "hom" is not the name of an archive or account; did you mean'),
        ('destinations = ["home", "home"]', 'destinations[1]: "home" is named twice'),
        ('destinations = ["home", "new"]', 'destinations[1].recipient: is missing; for example "me@example.org"'),
        ('source = "old"\ndestinations = ["old"]', "destinations[0]: the jobs form a circle, old → old, in which mail"),
        ('destinations = [{ to = "old", recipient = "x@y" }]', 'destinations[0]: "old" is an imap account and takes'),
        ('destinations = ["old", { to = "old", prefix = "x" }]', 'destinations[1]: "old" is the account of another'),
        ('destinations = [{ to = "home", special_use = true }]', 'destinations[0]: "home" is an archive and takes no'),
        ('destinations = ["road"]', 'destinations[0]: "road" is a pop3 account, which takes no mail'),
        ('mailboxes = { exclude = ["Trash"] }', 'mailboxes: has no meaning for "road", a pop3 account, which has one'),
        ('destinations = [{ to = "home", recipient = "x@y" }]', 'destinations[0]: "home" is an archive and takes no'),
    ],
)  # fmt: skip
def test_jobs(tmp_path: Path, line: str, expected: str) -> None:
    lines = {"source": 'source = "road"', "destinations": 'destinations = ["home"]'}
    lines |= {each.partition(" ")[0]: each for each in line.splitlines()}
    found = mistakes(tmp_path, "[jobs.a]\n" + "\n".join(lines.values()))
    assert len(found) == 1
    assert found[0].startswith(f"jobs.a.{expected}"), found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('mode = "mvoe"', 'jobs.a.mode: "mvoe" is not known; accepted: "copy", "move"'),
        ('flags = "twice"', 'jobs.a.flags: "twice" is not known; accepted: "once"'),
        ('duplicates = "on"', 'jobs.a.duplicates: "on" is not known; accepted: "off"'),
    ],
)
def test_what_this_version_cannot_do_is_not_said_to_be_accepted(tmp_path: Path, line: str, expected: str) -> None:
    found = mistakes(tmp_path, f'[jobs.a]\nsource = "road"\ndestinations = ["home"]\n{line}')
    assert found == [expected]


def test_mail_that_would_come_back_by_other_jobs_is_refused(tmp_path: Path) -> None:
    jobs = """
        [jobs.there]
        source = "old"
        destinations = ["second"]
        [jobs.back]
        source = "second"
        destinations = [{ to = "old", prefix = "Copy" }]
    """
    [line] = mistakes(tmp_path, dedent(jobs))
    assert line.startswith("jobs.back.destinations[0]: the jobs form a circle, second → old → second, in which mail")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{ exclude = ["a//b"] }', '.exclude[0]: "a//b" has // in it; a level needs a name; for example ["Trash"'),
        ("{ exclude = ['\\Bin'] }", r'.exclude[0]: "\\Bin" is no special use; accepted: \All, \Archive'),
        ('{ include = ["*", 3] }', ".include[1]: 3 is not text in quotes"),
        ("{ include = [] }", ".include: is empty; for example"),
        ('["INBOX"]', ': is not a table; for example {"include": ["*"]'),
        ('{ inlcude = ["INBOX"] }', ".inlcude: is not a setting; did you mean include?"),
    ],
)
def test_wrong_mailboxes(tmp_path: Path, value: str, expected: str) -> None:
    job = f'[jobs.a]\nsource = "second"\ndestinations = ["home"]\nmailboxes = {value}'
    (found,) = mistakes(tmp_path, job)
    assert found.startswith(f"jobs.a.mailboxes{expected}"), found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{ dwn = "3 GB" }', ".dwn: is not a setting; did you mean down?"),
        ('{ day = "3 GB" }', ".day: is not a setting; accepted: up, down"),
        ("{ up = 0 }", '.up: 0 must be between 1 octet and 8 EiB; for example "500 MB"'),
        ('"3 GB"', ': "3 GB" is not a table; for example {"up": "500 MB"'),
    ],
)
def test_wrong_octets_of_a_day(tmp_path: Path, value: str, expected: str) -> None:
    lines = f'protocol = "imap"\nhost = "h.example"\nusername = "u"\npassword = "env:P"\noctets_per_day = {value}'
    (found,) = mistakes(tmp_path, f"[accounts.a]\n{lines}")
    assert found.startswith(f"accounts.a.octets_per_day{expected}"), found


def test_the_mailboxes_of_an_archive(tmp_path: Path) -> None:
    job = 'source = "second"\ndestinations = ["home"]\nmailboxes = { include = ["*", "INBOX"], exclude = [\'\\Junk\'] }'
    assert mistakes(tmp_path, f"[jobs.a]\n{job}") == []
    selection = load(tmp_path / "syncd.toml", environment={}).settings.jobs["a"].selection
    assert selection == Selection(("*", "INBOX"), ("\\Junk",))


@pytest.mark.parametrize(("state", "place"), [("state", "state"), ("state", "state/in"), ("x/state", "x")])
def test_an_archive_and_the_state_directory(tmp_path: Path, state: str, place: str) -> None:
    (found,) = mistakes(tmp_path, "", f'state_directory = "{state}"\n[archives.home]\npath = "{place}"\n')
    assert found.startswith("archives.home.path: ")
    assert f"state directory ({tmp_path}/{state})" in found


JOBS = """
[jobs.a]
source = "road"
destinations = ["home"]
[jobs.b]
source = "other"
destinations = ["second"]
"""


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ('host = "POP.example.net."\nusername = "me"', True),
        ('host = "pop.example.net"\nusername = "me"\nport = 110\nsecurity = "starttls"', True),
        ('host = "pop.example.net"\nusername = "me"\nport = 1995', False),
        ('host = "pop.example.net"\nusername = "Me"', False),
        ('host = "pop.example.org"\nusername = "me"', False),
    ],
)
def test_two_accounts_that_are_one_and_the_same(tmp_path: Path, other: str, *, same: bool) -> None:
    account = f'[accounts.other]\nprotocol = "pop3"\npassword = "env:P"\n{other}\n'

    def found(more: str) -> list[str]:
        assert mistakes(tmp_path, account + more) == []  # a run takes them for one
        settings = load(tmp_path / "syncd.toml", environment={}).settings
        return [f"{key_text(warning.path)}: {warning.text}" for warning in alike.accounts(settings)]

    text = 'accounts.other: is the same as accounts.road, by protocol, host, port and username; name "road" in the jobs'
    assert [line.startswith(text) for line in found(JOBS)] == [True] * same
    assert found("") == []  # no job uses it


def test_one_recipient_at_two_names_of_one_server(tmp_path: Path) -> None:
    accounts = "".join(
        f'[accounts.{name}]\nprotocol = "lmtp"\nhost = "127.0.0.1"\nport = 2400\n' for name in ("one", "two")
    )
    to = '{ to = "one", recipient = "me@example.org" }, { to = "two", recipient = "ME@example.org" }'
    (found,) = mistakes(tmp_path, f'{accounts}[jobs.a]\nsource = "road"\ndestinations = [{to}]')
    assert found.startswith('jobs.a.destinations[1].recipient: "me@example.org" is a recipient of another destination')


def test_two_servers_at_one_host_may_have_the_same_recipient(tmp_path: Path) -> None:
    accounts = "".join(
        f'[accounts.l{port}]\nprotocol = "lmtp"\nhost = "127.0.0.1"\nport = {port}\n' for port in (24, 2400, 2401)
    )
    to = ", ".join(f'{{ to = "l{port}", recipient = "me@example.org" }}' for port in (24, 2400, 2401))
    assert mistakes(tmp_path, f'{accounts}[jobs.a]\nsource = "road"\ndestinations = [{to}]') == []


def test_recipients_that_differ_in_case_only(tmp_path: Path) -> None:
    def found(*to: str) -> list[str]:
        return mistakes(tmp_path, f'[jobs.a]\nsource = "road"\ndestinations = [{", ".join(to)}]')

    one = '{ to = "new", recipient = "me@example.org", sender = "empty" }'
    two = one.replace("me@", "ME@")
    assert found(one, two)[0].startswith('jobs.a.destinations[1].recipient: "me@example.org" is a recipient of another')
    both = '{ to = "new", recipient = ["me@example.org", "ME@example.org"], sender = "empty" }'
    assert "has an address twice" in found(both)[0]


@pytest.mark.parametrize(("recipients", "right"), [(30, True), (31, False), (40, False)])
def test_a_job_has_so_many_destinations(tmp_path: Path, recipients: int, *, right: bool) -> None:
    many = ", ".join(f'"r{number}@example.org"' for number in range(recipients))
    to = f'["home", {{ to = "new", sender = "empty", recipient = [{many}] }}]'
    found = mistakes(tmp_path, f'[jobs.a]\nsource = "road"\ndestinations = {to}')
    text = f"jobs.a.destinations: has {recipients + 1} archives and recipients; accepted: at most 31 in a job's life"
    assert [line.startswith(text) for line in found] == [True] * (not right)


def test_the_ledger_has_room_for_so_many() -> None:
    assert MAX_DESTINATIONS == MAX_SLOT + 1


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
    assert source.endswith(
        "not the name of an account or archive; accepted: none, as there is no [accounts.NAME] or [archives.NAME] yet"
    )
    assert destination.endswith(
        "not the name of an archive or account; accepted: none, as there is no [archives.NAME] or [accounts.NAME] yet"
    )
