"""Encodes commands. Arguments with CR, LF, NUL or other controls are refused here, for all commands.

A parameter of MAIL is sent only if its extension is announced. If a parameter cannot be left out without changing the
meaning (SMTPUTF8), the command is refused.
"""

from __future__ import annotations

import binascii
import re

from syncd.errors import LocalProtocolError
from syncd.smtp.values import Capabilities, Envelope, Verb

MAX_COMMAND_OCTETS = 512  # RFC 5321 §4.5.3.1.4, CRLF included
MAX_AUTH_OCTETS = 12_288  # a line of an exchange, CRLF included (RFC 4954 §4)
MAX_ENVID_OCTETS = 100  # before it is encoded (RFC 3461 §4.4)
# Extensions add to the length of MAIL: SIZE (RFC 1870 §3), BODY (RFC 6152 §2), SMTPUTF8 (RFC 6531 §3.4), ENVID with
# three octets for each of its own
_MAIL_OCTETS = MAX_COMMAND_OCTETS + 26 + 17 + 10 + len(" ENVID=") + 3 * MAX_ENVID_OCTETS

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_XCHAR = re.compile(rb"[^!-*,-<>-~]")
# Mailbox = Local-part [ "@" ( Domain / address-literal ) ]   ; RFC 5321 §4.1.2, as wide as can be told apart safely
_MAILBOX = re.compile(
    r"""(?: [^\s<>"@\\,;:\[\]\x00-\x20\x7f]+ | "(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*" )
        (?: @ (?: [^\s<>"@\\,;:\[\]\x00-\x20\x7f]+ | \[[0-9A-Za-z:.-]+\] ) )?""",
    re.VERBOSE,
)


def command(verb: Verb, *arguments: str, limit: int = MAX_COMMAND_OCTETS) -> bytes:
    """Returns a command line. Raises LocalProtocolError; the error does not show the argument."""
    line = " ".join((verb.value, *arguments))
    if _CONTROL.search(line):
        raise LocalProtocolError(
            f"an argument of {verb.value} contains a control character such as CR, LF or NUL, which SMTP cannot carry"
        )
    octets = line.encode() + b"\r\n"
    if len(octets) > limit:
        raise LocalProtocolError(f"{verb.value} would be a line of {len(octets)} octets, over the limit of {limit}")
    return octets


def mail(envelope: Envelope, announced: Capabilities, *, binary: bool = False) -> bytes:
    """Returns MAIL FROM with the parameters that apply (RFC 5321 §4.1.1.2). `binary`: BODY=BINARYMIME (RFC 3030 §3)."""
    words = [f"FROM:{_path(envelope.sender, envelope) if envelope.sender else '<>'}"]
    if "SIZE" in announced and envelope.size:
        words.append(f"SIZE={envelope.size}")
    if binary:
        words.append("BODY=BINARYMIME")
    elif envelope.eight_bit and "8BITMIME" in announced:
        words.append("BODY=8BITMIME")
    if envelope.smtputf8 and "SMTPUTF8" in announced:
        words.append("SMTPUTF8")
    elif not envelope.sender.isascii() or not all(recipient.isascii() for recipient in envelope.recipients):
        raise LocalProtocolError(
            "an address of the envelope is not ASCII, and SMTPUTF8 is not announced or not asked for"
        )
    if envelope.envid and "DSN" in announced:
        words.append(f"ENVID={_envid(envelope.envid)}")
    return command(Verb.MAIL, *words, limit=_MAIL_OCTETS)


def rcpt(recipient: str, envelope: Envelope) -> bytes:
    """Returns RCPT TO (RFC 5321 §4.1.1.3)."""
    return command(Verb.RCPT, f"TO:{_path(recipient, envelope)}")


def bdat(octets: int, *, last: bool) -> bytes:
    """Returns BDAT SP chunk-size [SP "LAST"] CRLF (RFC 3030 §2); `octets` of data must follow."""
    return b"BDAT %d LAST\r\n" % octets if last else b"BDAT %d\r\n" % octets


def auth(mechanism: str, initial: bytes | None) -> bytes:
    """Returns AUTH with the initial response, or without it if the line would be too long (RFC 4954 §4).

    An empty initial response is sent as "="; None means that there is no initial response.
    """
    bare = command(Verb.AUTH, mechanism)
    if initial is None:
        return bare
    whole = bare[:-2] + b" " + (base64(initial) or b"=") + b"\r\n"
    return whole if len(whole) <= MAX_COMMAND_OCTETS else bare


def response(octets: bytes) -> bytes:
    """Returns a line of an AUTH exchange. Raises LocalProtocolError if it is too long (RFC 4954 §4)."""
    line = base64(octets) + b"\r\n"
    if len(line) > MAX_AUTH_OCTETS:
        raise LocalProtocolError(f"the response to AUTH has {len(line)} octets, and the limit is {MAX_AUTH_OCTETS}")
    return line


def base64(octets: bytes) -> bytes:
    """Returns base64 as SASL exchanges carry it, without line ends."""
    return binascii.b2a_base64(octets, newline=False)


def xtext(text: str) -> str:
    """Returns xtext: xtext = *( xchar / hexchar ); hexchar = "+" 2HEXDIG in capitals (RFC 3461 §4)."""
    return _NO_XCHAR.sub(lambda found: b"+%02X" % found[0][0], text.encode()).decode("ascii")


def _path(address: str, envelope: Envelope) -> str:
    """Returns Path = "<" Mailbox ">", without source route and quotes that end it early (RFC 5321 §4.1.2)."""
    if _MAILBOX.fullmatch(address) is None or not (address.isascii() or envelope.smtputf8):
        raise LocalProtocolError("SMTP cannot carry an address of the envelope; check sender and recipient")
    return f"<{address}>"


def _envid(text: str) -> str:
    if len(text.encode()) > MAX_ENVID_OCTETS:
        raise LocalProtocolError(f"an ENVID of more than {MAX_ENVID_OCTETS} octets")
    return xtext(text)
