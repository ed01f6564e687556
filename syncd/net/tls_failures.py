"""Errors for TLS that cannot be set up, or that broke: each line says which side is to blame and what can be set.

OpenSSL names a failure by a word (`ssl.SSLError.reason`); a certificate that does not verify has a number besides
(X509_V_ERR_…, `verify_code`). Both are decided by tables. Python gives the certificate of a server that failed the
verification only since 3.13 (`get_unverified_chain`); before, the same function is there under a private name.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from typing import Any, Final

from syncd.errors import ConnectionLost, SyncdError, TlsFailed, printable

_NOT_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
        "UNEXPECTED_MESSAGE",
        "BAD_RECORD_TYPE",
    }
)

_NOT_TLS_ADVICE: Final = "what answers does not speak TLS: the port may need another value of security"
_TUNNEL: Final = "until then a tunnel on this machine, such as stunnel, can stand in between"
_OLD_SERVER: Final = (
    "the server is too old: it has no TLS 1.2, which is the least that syncd takes (RFC 8996); "
    f"its operator must update it; {_TUNNEL}"
)
_WEAK_SERVER: Final = (
    "the server is too old: its key is shorter than OpenSSL on this machine takes; "
    f"its operator must change the key; {_TUNNEL}"
)
_NOTHING_COMMON: Final = (
    "the server and OpenSSL on this machine have no cipher in common: mostly the server is too old; some servers say "
    "so when they want a client certificate: then set certificate and key"
)
_OURS_UNKNOWN: Final = "the server does not accept our client certificate: check certificate and key"
_OURS_MISSING: Final = "the server wants a client certificate: set certificate and key"

# reason → what is wrong, and what can be done
_REASONS: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_SERVER,
    "UNSUPPORTED_PROTOCOL": _OLD_SERVER,
    "WRONG_SSL_VERSION": _OLD_SERVER,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": _NOTHING_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NOTHING_COMMON,
    "NO_SHARED_CIPHER": _NOTHING_COMMON,
    "WRONG_CIPHER_RETURNED": _NOTHING_COMMON,
    "DH_KEY_TOO_SMALL": _WEAK_SERVER,
    "EE_KEY_TOO_SMALL": _WEAK_SERVER,
    "WRONG_SIGNATURE_TYPE": _WEAK_SERVER,
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": (
        f"the server is too old: it lacks secure renegotiation (RFC 5746); its operator must update it; {_TUNNEL}"
    ),
    "NO_PROTOCOLS_AVAILABLE": (
        "OpenSSL on this machine allows no version of TLS that syncd takes (1.2 or newer): check MinProtocol and "
        "MaxProtocol in its openssl.cnf"
    ),
    "NO_CIPHERS_AVAILABLE": "OpenSSL on this machine allows no cipher: check CipherString in its openssl.cnf",
    "TLSV1_UNRECOGNIZED_NAME": (
        "the server has no certificate for the name that was sent: set host or tls_name to the name that it expects"
    ),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _OURS_MISSING,
    "TLSV1_ALERT_UNKNOWN_CA": _OURS_UNKNOWN,
    "TLSV1_ALERT_ACCESS_DENIED": _OURS_UNKNOWN,
    "SSLV3_ALERT_BAD_CERTIFICATE": _OURS_UNKNOWN,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _OURS_UNKNOWN,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _OURS_UNKNOWN,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _OURS_UNKNOWN,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _OURS_UNKNOWN,
}

# the server's own trouble, which may pass
_PASSING: Final = frozenset({"TLSV1_ALERT_INTERNAL_ERROR", "TLSV1_ALERT_USER_CANCELLED"})

# X509_V_ERR_… → what is wrong, and what can be done
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_IN_CHAIN, _NO_ISSUER, _ALONE = 9, 10, 18, 19, 20, 21
_WRONG_HOST, _WRONG_ADDRESS = 62, 64
_WEAK_KEYS: Final = frozenset({66, 67, 68})  # of the certificate, its authority, its signature
_UNKNOWN_AUTHORITY: Final = "or set ca_file to the authority's certificate if you know the authority"
_VERDICTS: Final = {
    _NOT_YET_VALID: "check the clock of this machine; the server's operator may have installed it too early",
    _EXPIRED: "the server's operator must renew it; check the clock of this machine too",
    _SELF_SIGNED: "the server signed it itself",
    _SELF_SIGNED_IN_CHAIN: f"an authority of the server's own signed it; {_UNKNOWN_AUTHORITY}",
    _NO_ISSUER: f"no authority that this machine knows signed it; {_UNKNOWN_AUTHORITY}",
    _ALONE: f"the server does not send the certificate of the authority that signed it; {_UNKNOWN_AUTHORITY}",
}


def not_set_up(address: str, error: Exception, tls: object, name: str) -> SyncdError:
    """Returns the error for a handshake that failed. `tls` is the connection, `name` the host that was verified."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _not_verified(address, error, certificate(tls), name)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or _word(error) == "UNEXPECTED_EOF_WHILE_READING":
        return ConnectionLost(f"{address}: the server closed the connection while TLS was set up; try again later")
    if _word(error) in _PASSING:
        return ConnectionLost(f"{address}: TLS could not be set up: {reason(error)}; try again later")
    return TlsFailed(f"{address}: TLS could not be set up: {reason(error)}{_advice(error)}")


def broke(address: str, error: Exception) -> SyncdError:
    """Returns the error for TLS that was set up and broke. A server may refuse our certificate only then (TLS 1.3)."""
    if _REASONS.get(_word(error)) in {_OURS_MISSING, _OURS_UNKNOWN}:
        return TlsFailed(f"{address}: TLS broke: {reason(error)}{_advice(error)}")
    return ConnectionLost(f"{address}: TLS broke: {reason(error)}; try again later")


def not_pinned(address: str, found: str) -> TlsFailed:
    """Returns the error for a certificate that is not the pinned one; `found` is its SHA-256."""
    return TlsFailed(
        f"{address}: the certificate is not the pinned one; its SHA-256 is {found}; "
        f'if the server\'s operator confirms it, set fingerprint = "{found}"'
    )


def certificate(tls: object) -> bytes:
    """Returns the certificate that the server has shown, verified or not, in DER; b"" where Python hides it."""
    with contextlib.suppress(Exception):  # a private function may change
        chain: Any = getattr(tls, "get_unverified_chain", None) or getattr(tls, "_sslobj").get_unverified_chain  # noqa: B009
        first = chain()[0]
        return first if isinstance(first, bytes) else ssl.PEM_cert_to_DER_cert(first.public_bytes())
    return b""


def names(der: bytes) -> list[str]:
    """Returns the host names and addresses that a certificate is for, at most five; none where it cannot be read."""
    from asn1crypto import x509  # type: ignore[import-untyped]  # only for an error: it takes 20 ms to import

    with contextlib.suppress(Exception):  # a certificate of any shape comes here
        shown = x509.Certificate.load(der)
        return [printable(str(name), 80) for name in (*shown.valid_domains, *shown.valid_ips)][:5]
    return []


def reason(error: Exception) -> str:
    """Returns OpenSSL's own words, fit to be shown."""
    return printable((getattr(error, "reason", None) or str(error)).replace("_", " ").lower())


def _not_verified(address: str, error: ssl.SSLCertVerificationError, der: bytes, name: str) -> TlsFailed:
    code = error.verify_code
    if code in {_WRONG_HOST, _WRONG_ADDRESS}:
        verdict = _other_name(names(der), name)
    elif code in _WEAK_KEYS:
        verdict = _WEAK_SERVER
    else:
        verdict = _VERDICTS.get(code, "check the host name, or set ca_file to an authority to trust")
    pin = hashlib.sha256(der).hexdigest() if der else "SHA-256 of the certificate"
    return TlsFailed(
        f"{address}: the certificate does not verify: {printable(error.verify_message).rstrip('.')}; {verdict}; "
        f'to trust exactly this certificate, if the server\'s operator confirms it, set fingerprint = "{pin}"'
    )


def _other_name(shown: list[str], name: str) -> str:
    if not shown:
        return f"check host: the certificate is not for {printable(name)}; tls_name sets another name to verify"
    return f'the certificate is for {", ".join(shown)}: correct host, or set tls_name = "{shown[0]}" if that is meant'


def _advice(error: Exception) -> str:
    word = _word(error)
    known = _NOT_TLS_ADVICE if word in _NOT_TLS else _REASONS.get(word)
    return f"; {known}" if known else ""


def _word(error: Exception) -> str:
    return getattr(error, "reason", None) or ""
