"""A private certificate authority and one server certificate, made on the spot."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=2)  # longer than any test, short enough to be worth nothing if it leaks

ISSUER = "syncd test authority"
_PEM = serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey, now: dt.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )


class Authority:
    """Writes `ca.pem`, `server.pem` and `server.key` into `directory`; the server is called `names` (DNS or address).

    A negative `age` shifts the whole life of the server's certificate: `age=LIFE * 2` is one that ran out.
    """

    def __init__(self, directory: Path, *names: str, age: dt.timedelta = dt.timedelta()) -> None:
        self.ca_file = directory / "ca.pem"
        self.certificate_file = directory / "server.pem"
        self.key_file = directory / "server.key"
        self._now = dt.datetime.now(dt.UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        authority = (
            _builder(ISSUER, ISSUER, self._key.public_key(), self._now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file.write_bytes(authority.public_bytes(_PEM))
        self._issue(names, ExtendedKeyUsageOID.SERVER_AUTH, self.certificate_file, self.key_file, age)

    def client(self, name: str) -> tuple[Path, Path]:
        """A client's certificate and its key, as `NAME.pem` and `NAME.key`."""
        files = self.ca_file.with_name(f"{name}.pem"), self.ca_file.with_name(f"{name}.key")
        self._issue((name,), ExtendedKeyUsageOID.CLIENT_AUTH, *files)
        return files

    def _issue(
        self,
        names: tuple[str, ...],
        purpose: x509.ObjectIdentifier,
        certificate_file: Path,
        key_file: Path,
        age: dt.timedelta = dt.timedelta(),
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(names[0], ISSUER, key.public_key(), self._now - age)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file.write_bytes(certificate.public_bytes(_PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
