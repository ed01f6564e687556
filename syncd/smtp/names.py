"""Our own name, as EHLO and the Received field want it (RFC 5321 §2.3.5, §4.1.3). Pure.

A server may refuse a name that is none: with an underscore, without a dot, "localhost", or with letters beyond ASCII.
Then our address stands in its place, in brackets.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

MAX_NAME_OCTETS = 253  # RFC 1035 §2.3.4: 255 octets as DNS encodes it

# sub-domain = Let-dig [Ldh-str]   ; RFC 5321 §4.1.2; at most 63 octets (RFC 1035 §2.3.4)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# at least two labels; the last one is no number, or an IPv4 address would be a name (RFC 3696 §2)
_FULL_NAME = re.compile(rf"(?:{_LABEL}\.)+(?!\d+\Z){_LABEL}")
_THIS_MACHINE = re.compile(r"(?:.*\.)?(?:localhost|localdomain)", re.IGNORECASE)  # RFC 6761 §6.3; glibc, Red Hat
_LITERAL = re.compile(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", re.IGNORECASE)


def is_full_name(name: str) -> bool:
    """Returns whether `name` is a host name that EHLO may carry and that means something to others."""
    return (
        len(name) <= MAX_NAME_OCTETS
        and _FULL_NAME.fullmatch(name) is not None
        and _THIS_MACHINE.fullmatch(name) is None
    )


def is_literal(text: str) -> bool:
    """Returns whether `text` is an address literal, such as [192.0.2.1] or [IPv6:2001:db8::1]."""
    found = _LITERAL.fullmatch(text)
    try:
        return found is not None and (ip_address(found[2]).version == 6) == bool(found[1])
    except ValueError:
        return False


def literal(address: str) -> str:
    """Returns the address literal of an IP address, without its scope. Raises ValueError."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return f"[IPv6:{ip}]" if isinstance(ip, IPv6Address) else f"[{ip}]"


def our_name(host_name: str, address: str) -> str:
    """Returns the name to say: the machine's own if it is a full name, else the literal of its `address`."""
    name = host_name.removesuffix(".")
    return name if is_full_name(name) else literal(address)
