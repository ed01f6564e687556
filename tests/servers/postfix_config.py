"""Postfix's configuration for a private server on loopback from which no message can leave.

It adds nothing to a message but its own trace headers, removes nothing, and asks no name server.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DOMAIN = "example.org"  # whoever has an address in it, has a mailbox

_MAIN = """
compatibility_level = 3.6
config_directory = {base}/etc
queue_directory = {base}/queue
data_directory = {base}/data
maillog_file = {base}/log
maillog_file_prefixes = {base}
myhostname = mx.{domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
disable_dns_lookups = yes
smtpd_peername_lookup = no
default_transport = discard:nothing leaves this machine
relay_transport = discard:nothing leaves this machine
notify_classes =
virtual_transport = virtual
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = static:all/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
message_size_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_session_cache_database =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl_port}
smtpd_sasl_security_options = noanonymous
broken_sasl_auth_clients = no
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access regexp:{base}/etc/recipients
local_header_rewrite_clients =
message_drop_headers =
header_size_limit = 1048576
"""

# A recipient says what becomes of it, before any octet of a message is sent; everybody else is welcome.
_RECIPIENTS = """
/^refused.*@/  550 5.1.1 No such user here
/^later.*@/    450 4.2.1 Mailbox busy, try again
"""

_SIGNED_IN = (
    "-o smtpd_relay_restrictions=permit_sasl_authenticated,reject",
    "-o smtpd_client_restrictions=permit_sasl_authenticated,reject",
)
_IMPLICIT = ("-o smtpd_tls_wrappermode=yes", *_SIGNED_IN)
_WITHOUT_BDAT = "-o smtpd_discard_ehlo_keywords=chunking,silent-discard"

# Daemons without which a message does not get from a socket into a mailbox. There is no smtp client among them.
_DAEMONS = """
cleanup    unix        n - n -     0 cleanup
qmgr       unix        n - n 300   1 qmgr
tlsmgr     unix        - - n 1000? 1 tlsmgr
rewrite    unix        - - n -     - trivial-rewrite
bounce     unix        - - n -     0 bounce
defer      unix        - - n -     0 bounce
trace      unix        - - n -     0 bounce
proxymap   unix        - - n -     - proxymap
error      unix        - - n -     - error
retry      unix        - - n -     - error
discard    unix        - - n -     - discard
virtual    unix        - n n -     - virtual
anvil      unix        - - n -     1 anvil
postlog    unix-dgram  n - n -     1 postlogd
"""


class Ports(NamedTuple):
    """Where it listens; all but the first want a sign-in."""

    smtp: int  # for everybody on this machine, AUTH only after STARTTLS
    submission: int  # STARTTLS
    submissions: int  # TLS from the first octet
    without_bdat: int  # the same, but CHUNKING is not offered


class Place(NamedTuple):
    """Everything the configuration needs to know."""

    base: Path
    mail: Path
    uid: int
    gid: int
    key: Path
    certificate: Path
    sasl_port: int


def write(place: Place, ports: Ports, settings: Mapping[str, str]) -> None:
    """Write main.cf, master.cf and what they refer to; `settings` are Postfix's own and win over ours."""
    directory = place.base / "etc"
    directory.mkdir(exist_ok=True)
    main = _MAIN.format(domain=DOMAIN, **place._asdict())
    (directory / "main.cf").write_text(main + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    (directory / "recipients").write_text(_RECIPIENTS)
    listeners = (
        (ports.smtp, ()),
        (ports.submission, ("-o smtpd_tls_security_level=encrypt", *_SIGNED_IN)),
        (ports.submissions, _IMPLICIT),
        (ports.without_bdat, (*_IMPLICIT, _WITHOUT_BDAT)),
    )
    lines = [f"127.0.0.1:{port} inet n - n - - smtpd {' '.join(options)}\n" for port, options in listeners]
    (directory / "master.cf").write_text("".join(lines) + _DAEMONS)
