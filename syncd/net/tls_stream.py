"""TLS between two buffers in memory: enciphered octets in and out on one side, plain ones on the other.

This replaces Python's SSLSocket, for two reasons. Speed: servers send small records (Dovecot: 4 KiB), and an SSLSocket
needs two system calls and four layers of Python for each record; here one call brings 64 KiB of them. Order: the
socket stays a plain one, so deadlines and a cancel from another thread work the same with TLS and without.

A server may ask to shake hands again inside the connection (TLS 1.2 renegotiation, RFC 5746): reading and sending do
so. Whatever goes wrong inside is an error of this connection, never an exception of another kind.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from syncd.errors import ConfigError, ConnectionLost, SyncdError, printable
from syncd.net import tls_failures
from syncd.net.buffer import RECEIVE_OCTETS
from syncd.net.tls import TlsPolicy

MOST_CONTEXTS: Final = 32  # kept, see `context_for`

Stamp = tuple[int, int, int]  # tells one content of a file from another: its inode, the time of its last change, octets
Key = tuple[TlsPolicy, bool, tuple[Stamp, ...]]
_CONTEXTS: Final[dict[Key, ssl.SSLContext]] = {}  # the one that was used longest ago comes first
_LOCK: Final = threading.Lock()


class TlsStream:
    """TLS for one connection. `receive` (returns octets, 0 at the end) and `send` are those of the plain socket."""

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
        """Set TLS up and verify the server. Returns the TLS version.

        The policy's name, or else `host`, is verified and sent as SNI. Raises TlsFailed (never to be retried in
        clear), ConfigError (the authority's file), ConnectionLost.
        """
        context, name = context_for(policy, self._address), policy.name or host
        tls: ssl.SSLObject | None = None
        try:
            tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
            self._shake(tls)
            _check_pin(tls, policy, self._address)
        except SyncdError:
            raise
        except Exception as error:  # whatever OpenSSL and its bindings raise
            raise tls_failures.not_set_up(self._address, error, tls, name) from error
        self._tls = tls
        return tls.version() or "TLS"

    def receive(self, target: memoryview) -> int:
        """Receive octets into `target`, as many as are here; wait for the first. Returns 0 at the end."""
        assert self._tls is not None
        octets = 0
        with self._guarded():
            while not octets and not self._ended:
                octets = self._decipher(self._tls, target)
                self._flush()  # what TLS itself says, in a handshake inside the connection
                if not octets and not self._ended and not self._more():
                    self._ended = True
        return octets

    def send(self, octets: bytes) -> None:
        """Send all of `octets`."""
        assert self._tls is not None
        with self._guarded():
            while True:
                try:
                    self._tls.write(octets)
                except ssl.SSLWantReadError:  # a handshake inside the connection goes first
                    self._flush()
                    if not self._more():
                        raise ConnectionLost(
                            f"{self._address}: the server closed the connection; try again later"
                        ) from None
                    continue
                self._flush()
                return

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except SyncdError:
            raise
        except Exception as error:  # whatever OpenSSL and its bindings raise
            raise tls_failures.broke(self._address, error) from error

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
        """Decipher what has come, as much as fits. SSL_read gives one record at a time, and 0 for close_notify."""
        at, incoming = 0, self._incoming
        with contextlib.suppress(ssl.SSLWantReadError):  # rare: the condition below mostly ends the loop
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


def client_hello(name: str) -> bytes:
    """Returns the first octets of a client that begins with TLS, to find out whether a port does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLError, ValueError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def context_for(policy: TlsPolicy, address: str) -> ssl.SSLContext:
    """Returns the context of a connection to `address`. Raises ConfigError for files that cannot be used.

    Connections whose policies name the same files share a context, until one of them changes: reading the system's
    authorities takes 17 ms of processor time, and they take nearly 1 MiB.
    """
    shared = TlsPolicy(policy.ca_file, certificate=policy.certificate, key=policy.key)
    key = shared, bool(policy.pin), tuple(map(_stamp, _files(policy)))
    with _LOCK:  # so that connections which begin together do not all read the authorities
        context = _CONTEXTS.pop(key, None) or _context(policy, address)
        while len(_CONTEXTS) >= MOST_CONTEXTS:
            del _CONTEXTS[next(iter(_CONTEXTS))]
        _CONTEXTS[key] = context
    return context


def _files(policy: TlsPolicy) -> list[str | Path | None]:
    """Returns the files and folders that a context is made of."""
    authorities: list[str | Path | None] = [policy.ca_file]
    if policy.ca_file is None:
        system = ssl.get_default_verify_paths()
        authorities = [system.cafile, system.capath]
    return [*authorities, policy.certificate, policy.key]


def _stamp(path: str | Path | None) -> Stamp:
    try:
        if path is None:
            return 0, 0, 0
        found = Path(path).stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size


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
    """Load our client certificate. The passphrase is empty, so that OpenSSL does not ask the terminal for one."""
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError is one
        which = f"certificate {certificate}" + (f" with key {key}" if key is not None else "")
        reason = (
            "it is not PEM, the two do not match, or the key has a passphrase"
            if isinstance(error, ssl.SSLError)
            else error.strerror
        )
        raise ConfigError(f"{address}: {which} cannot be used: {reason}") from error


def _check_pin(tls: ssl.SSLObject, policy: TlsPolicy, address: str) -> None:
    if not policy.pin:
        return
    found = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    if found != policy.pin:
        raise tls_failures.not_pinned(address, found)
