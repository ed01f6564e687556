"""TLS between two buffers in memory: enciphered octets in and out on one side, plain ones on the other.

Not Python's SSLSocket, for speed and for order. Servers send small records (Dovecot: 4 KiB), and an SSLSocket
needs two system calls and a way through four layers of Python for each; here one call brings 256 KiB of them.
And the socket stays a plain one: deadlines and a cancel from another thread work the same with TLS and without.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

from syncd.errors import ConfigError, ConnectionLost, SyncdError, TlsFailed, printable
from syncd.net.buffer import RECEIVE_OCTETS
from syncd.net.tls import TlsPolicy

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


class TlsStream:
    """One connection's TLS. `receive(memoryview) -> octets, 0 at the end` and `send(bytes)` are the plain socket's."""

    def __init__(
        self, address: str, receive: Callable[[memoryview], int], send: Callable[[bytes | memoryview], None]
    ) -> None:
        self._address = address
        self._receive = receive
        self._send = send
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._received = memoryview(bytearray(RECEIVE_OCTETS))
        self._tls: ssl.SSLObject | None = None
        self._ended = False

    def handshake(self, host: str, policy: TlsPolicy) -> str:
        """Set TLS up, verify, and give its version. `host` is checked, and sent as SNI.

        Raises TlsFailed (never to be retried in clear), ConfigError (the authority's file), ConnectionLost.
        """
        context = _context(policy, self._address)
        try:
            tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
            self._shake(tls)
        except (ssl.SSLError, ValueError) as error:
            raise self._failure(error) from error
        _check_pin(tls, policy, self._address)
        self._tls = tls
        return tls.version() or "TLS"

    def receive(self, target: memoryview) -> int:
        """Some octets into `target`, as many as are here; waits for the first. 0 at the end."""
        assert self._tls is not None
        octets = 0
        try:
            while not octets and not self._ended:
                octets = self._decipher(self._tls, target)
                if not octets and not self._ended and not self._more():
                    self._ended = True
        except ssl.SSLError as error:
            reason = _reason(error)
            raise ConnectionLost(f"{self._address}: TLS broke: {reason}; try again later") from error
        return octets

    def send(self, octets: bytes) -> None:
        """Send all of it."""
        assert self._tls is not None
        self._tls.write(octets)
        self._send(self._outgoing.read())

    def _shake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._more():
                    self._incoming.write_eof()
                continue
            except ssl.SSLError:
                with contextlib.suppress(SyncdError):  # the alert that says why is a courtesy
                    self._flush()
                raise
            self._flush()
            return

    def _decipher(self, tls: ssl.SSLObject, target: memoryview) -> int:
        """What has come, as far as it fits; SSL_read gives one record at a time, and 0 for the peer's farewell."""
        at, incoming = 0, self._incoming
        with contextlib.suppress(ssl.SSLWantReadError):  # most often it is known before that there is no more
            while at < len(target) and not self._ended and (incoming.pending or tls.pending()):
                octets: int = tls.read(len(target) - at, target[at:])  # type: ignore[assignment]
                self._ended = not octets
                at += octets
        return at

    def _more(self) -> int:
        octets = self._receive(self._received)
        self._incoming.write(self._received[:octets])
        return octets

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())

    def _failure(self, error: Exception) -> SyncdError:
        address = self._address
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsFailed(
                f"{address}: the certificate does not verify: {printable(error.verify_message)}; check the host name, "
                "or name the authority (ca_file) or the certificate (fingerprint) to trust"
            )
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ConnectionLost(f"{address}: the server ended the connection while TLS was set up; try again later")
        hint = "; perhaps this port wants another kind of security" if getattr(error, "reason", "") in _NOT_TLS else ""
        return TlsFailed(f"{address}: TLS could not be set up: {_reason(error)}{hint}")


def _context(policy: TlsPolicy, address: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if policy.pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin is the verification
    elif policy.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(policy.ca_file)
        except OSError as error:  # SSLError is one
            reason = error.strerror or str(error)
            raise ConfigError(f"{address}: ca_file {policy.ca_file} cannot be used: {printable(reason)}") from error
    if policy.certificate is not None:
        _show(context, policy.certificate, policy.key, address)
    return context


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None, address: str) -> None:
    """Load the certificate that the server sees. An empty passphrase: OpenSSL would ask the terminal for one."""
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError is one
        which = f"certificate {certificate}" + (f" with key {key}" if key is not None else "")
        reason = "no PEM files, not a pair, or with a passphrase" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"{address}: {which} cannot be used: {reason}") from error


def _check_pin(tls: ssl.SSLObject, policy: TlsPolicy, address: str) -> None:
    if not policy.pin:
        return
    found = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    if found != policy.pin:
        raise TlsFailed(
            f"{address}: the certificate is not the pinned one, its SHA-256 is {found}; "
            "if the server's operator confirms that one, change the fingerprint"
        )


def _reason(error: Exception) -> str:
    return printable((getattr(error, "reason", None) or str(error)).replace("_", " ").lower())
