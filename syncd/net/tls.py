"""The policy of verification: what a server's certificate must be. `tls_stream` enforces it.

Verified against the system's authorities and the host name by default (RFC 8314, RFC 9525), TLS 1.2 at
least (RFC 8996), the host name always sent (SNI: some servers answer with another certificate without it).
An account may name an authority of its own, or pin one certificate by its SHA-256: then that certificate
is accepted, whoever signed it, and no other. There is no "do not verify". An account may also show a
certificate of its own (SASL's EXTERNAL signs in by it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from syncd.errors import ConfigError, printable

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How a server's certificate is verified. `fingerprint`: SHA-256 of its DER form in hex, colons or not.

    `certificate` is ours, a PEM file, shown where the server asks for one; `key` is its private key's, without
    a passphrase, where that does not stand in the same file.
    """

    ca_file: Path | None = None
    fingerprint: str | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.fingerprint and not _SHA256.fullmatch(self.pin):
            raise ConfigError(
                f"tls fingerprint {printable(self.fingerprint)!r} is not a SHA-256 in hex, 64 digits "
                "as `openssl x509 -fingerprint -sha256` prints them"
            )

    @property
    def pin(self) -> str:
        """The fingerprint as lower-case digits, or nothing."""
        return (self.fingerprint or "").replace(":", "").lower()
