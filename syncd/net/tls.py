"""The policy for verifying a server's certificate. `tls_stream` enforces it.

By default a certificate is verified against the system's authorities and the host name (RFC 8314, RFC 9525). TLS is
1.2 at least (RFC 8996). The host name is always sent (SNI), because some servers have another certificate without it.
An account may name its own authority, or pin one certificate by its SHA-256: then only that certificate is accepted,
whoever signed it. There is no "do not verify". An account may also name another host to verify against, for a server
that is reached by an address or through a tunnel. It may present a client certificate (SASL EXTERNAL signs in by it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from syncd.errors import ConfigError, printable

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """Rules for verifying a server's certificate. `fingerprint`: SHA-256 of the DER form in hex, colons or not.

    `certificate` is a PEM file with our client certificate, for a server that asks for one. `key` is the file of its
    private key, without a passphrase, if the key is not in the same file. `name` is the name to verify the server's
    certificate against, and to send as SNI, in place of the host's. Raises ConfigError for a bad fingerprint.
    """

    ca_file: Path | None = None
    fingerprint: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.fingerprint and not _SHA256.fullmatch(self.pin):
            raise ConfigError(
                f"tls fingerprint {printable(self.fingerprint)!r} is not a SHA-256 in hex, 64 digits "
                "as `openssl x509 -fingerprint -sha256` prints them"
            )

    @property
    def pin(self) -> str:
        """Returns the fingerprint as lower-case digits, or an empty text."""
        return (self.fingerprint or "").replace(":", "").lower()
