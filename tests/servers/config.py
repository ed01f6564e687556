"""Dovecot's configuration for a private, unprivileged server on loopback, in the words of 2.3 and of 2.4."""

from __future__ import annotations

import grp
import pwd
import re
import subprocess
from pathlib import Path
from typing import Protocol

from tests.servers.certificate import Authority


class Server(Protocol):
    """What the configuration needs to know."""

    _base: Path
    _owner: pwd.struct_passwd
    _users: Path
    authority: Authority
    mail: Path
    log_file: Path
    host: str
    pop3_port: int
    pop3s_port: int
    imap_port: int
    imaps_port: int
    lmtp_port: int
    sasl_port: int
    submission_port: int
    submissions_port: int
    relay: tuple[str, int] | None


def version(binary: str) -> tuple[int, int]:
    """Dovecot's version, such as (2, 3)."""
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"(\d+)\.(\d+)", shown)
    assert found, shown
    return int(found[1]), int(found[2])


# Nobody brute-forces a test: no delay after a refused sign-in, no penalty for its address. Chroots need root.
# A user is the local part of whatever address LMTP is given (auth_username_format).
_COMMON = """
protocols = pop3 imap lmtp
listen = {host}
base_dir = {base}/run
state_dir = {base}/run
log_path = {log}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
auth_failure_delay = 0
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  chroot =
  inet_listener lmtp {{
    port = {lmtp}
  }}
}}
service auth {{
  inet_listener sasl {{
    port = {sasl}
  }}
}}
hostname = mx.example.org
postmaster_address = postmaster@example.org
ssl = yes
"""

_SUBMISSION = """
protocols = pop3 imap lmtp submission
submission_relay_host = {relay[0]}
submission_relay_port = {relay[1]}
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {submission}
  }}
  inet_listener submissions {{
    port = {submissions}
    ssl = yes
  }}
}}
"""

_V23 = """
auth_mechanisms = plain login cram-md5 apop scram-sha-1 scram-sha-256
auth_username_format = %Ln
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_max_userip_connections = 100
lmtp_hdr_delivery_address = none
ssl_cert = <{cert}
ssl_key = <{key}
passdb {{
  driver = passwd-file
  args = {users}/%u
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={mail}/%u
}}
"""

_V24 = """
auth_mechanisms = plain login cram-md5 apop scram-sha-1 scram-sha-256
auth_username_format = %{{user | username | lower}}
auth_allow_cleartext = yes
pop3_logout_format = top=%{{top_count}}/%{{top_bytes}}, retr=%{{retr_count}}/%{{retr_bytes}}, \
del=%{{deleted_count}}/%{{message_count}}, size=%{{message_bytes}}
mail_driver = maildir
mail_path = ~/Maildir
mail_max_userip_connections = 100
lmtp_hdr_delivery_address = none
ssl_server_cert_file = {cert}
ssl_server_key_file = {key}
passdb passwd-file {{
  passwd_file_path = {users}/%{{user}}
}}
userdb static {{
  fields {{
    uid = {user}
    gid = {group}
    home = {mail}/%{{user}}
  }}
}}
"""


def render(version: tuple[int, int], server: Server) -> str:
    """The whole file."""
    modern = version >= (2, 4)
    head = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n" if modern else ""
    group = grp.getgrgid(server._owner.pw_gid).gr_name
    submission = _SUBMISSION if server.relay else ""
    return head + (_COMMON + (_V24 if modern else _V23) + submission).format(
        host=server.host,
        base=server._base,
        log=server.log_file,
        user=server._owner.pw_name,
        group=group,
        pop3=server.pop3_port,
        pop3s=server.pop3s_port,
        imap=server.imap_port,
        imaps=server.imaps_port,
        lmtp=server.lmtp_port,
        sasl=server.sasl_port,
        submission=server.submission_port,
        submissions=server.submissions_port,
        relay=server.relay,
        cert=server.authority.certificate_file,
        key=server.authority.key_file,
        users=server._users,
        mail=server.mail,
    )
