"""Signing in to a real server by every mechanism it has, over each kind of connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import AuthRefused, Unsupported
from syncd.net.endpoint import Endpoint
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret
from syncd.sources.pop3.account import Pop3Options, Pop3Source
from tests.servers import config
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.servers

KEY = b"a key that only the private server and this test know"
NAMES = {"apop": "APOP", "user": "USER/PASS", "auto": "AUTH SCRAM-SHA-256"}
PASSWORDS = ["auto", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "user", "apop"]


def sign_in(dovecot: Dovecot, user: str, auth: str, secret: str, security: str = "tls", **more: Any) -> str:
    endpoint: dict[str, Any] = {
        "host": "localhost",
        "port": dovecot.pop3s_port if security == "tls" else dovecot.pop3_port,
        "security": security,
        "username": user,
        "password": lambda: Secret(secret),
        "auth": auth,
        "tls": TlsPolicy(dovecot.ca_file),
    }
    session = Pop3Source(Pop3Options(Endpoint(**{**endpoint, **more}), Path("/nowhere/that/exists"))).connect()
    session.finish()
    return session.info.mechanism


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
@pytest.mark.parametrize("auth", PASSWORDS)
def test_every_password_mechanism(dovecot: Dovecot, user: str, auth: str, security: str):
    taken = sign_in(dovecot, user, auth, "secret", security, allow_insecure=security == "none")
    assert taken == NAMES.get(auth, f"AUTH {auth.upper()}")


@pytest.mark.parametrize("auth", PASSWORDS)
def test_a_wrong_password(dovecot: Dovecot, user: str, auth: str):
    with pytest.raises(AuthRefused, match=rf"the server refuses to sign '{user}' in: \[AUTH\] “") as caught:
        sign_in(dovecot, user, auth, "hunter2-is-not-it")
    assert "hunter2" not in str(caught.value)


def test_s20_auto_on_a_clear_line(dovecot: Dovecot, user: str):
    assert sign_in(dovecot, user, "auto", "secret", "none") == "AUTH SCRAM-SHA-256"
    with pytest.raises(Unsupported, match="would show the secret to anyone on the way"):
        sign_in(dovecot, user, "plain", "secret", "none")


def test_passwords_with_spaces_and_letters_from_elsewhere(dovecot: Dovecot):
    password = "zwei wörter  ∑ "
    dovecot.add_user("odd", password)
    for auth in ("plain", "login", "cram-md5"):
        assert sign_in(dovecot, "odd", auth, password) == f"AUTH {auth.upper()}"


# --- tokens and certificates -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modern() -> Iterator[Dovecot]:
    """A server that verifies access tokens (JSON Web Tokens) by itself, and the certificates of its own authority.

    "alice" has a password and may use tokens, "carol" has none: her certificate is enough.
    """
    binary = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
    assert binary is not None
    if config.version(binary) >= (2, 4):
        pytest.skip("the settings for tokens and certificates are those of Dovecot 2.3")
    server = Dovecot()
    base = server.ca_file.parent
    (keys := base / "keys" / "default" / "HS256").mkdir(parents=True)
    (keys / "default").write_bytes(base64.b64encode(KEY))
    (base / "oauth2.conf").write_text(
        f"introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={base}/keys/\n"
        "username_attribute = sub\n"
    )
    server._settings.update(
        {
            "auth_mechanisms": "plain xoauth2 oauthbearer external",
            "passdb {\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args": f"{base}/oauth2.conf\n}}",
            "ssl_ca": f"<{server.ca_file}",
            "ssl_require_crl": "no",
            "ssl_verify_client_cert": "yes",
            "auth_ssl_username_from_cert": "yes",
            "ssl_cert_username_field": "commonName",
        }
    )
    with server:
        server.add_user("alice")
        server.add_user("carol")
        (server._users / "carol").write_text("carol:::::::nopassword\n")
        yield server


def token(user: str, *, life_s: int = 600) -> str:
    """A JSON Web Token, signed with HMAC-SHA-256 (RFC 7515)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": user, "iat": int(time.time()), "exp": int(time.time()) + life_s})
    signed = b".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return (signed + b"." + _base64url(hmac.digest(KEY, signed, hashlib.sha256))).decode()


def _base64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


@pytest.mark.parametrize("auth", ["xoauth2", "oauthbearer"])
def test_an_access_token(modern: Dovecot, auth: str):
    assert sign_in(modern, "alice", auth, token("alice")) == f"AUTH {auth.upper()}"


@pytest.mark.parametrize("auth", ["xoauth2", "oauthbearer"])
def test_an_access_token_that_has_expired(modern: Dovecot, auth: str):
    old = token("alice", life_s=-60)
    with pytest.raises(AuthRefused, match=r"sign .alice. in \(“.*(invalid_token|401).*meant for mail") as caught:
        sign_in(modern, "alice", auth, old)
    assert old not in str(caught.value)


def test_a_certificate(modern: Dovecot):
    policy = TlsPolicy(modern.ca_file, None, *modern.authority.client("carol"))
    for name in ("carol", ""):
        assert sign_in(modern, name, "external", "", tls=policy) == "AUTH EXTERNAL"
    with pytest.raises(AuthRefused, match="check the account's username, and whether the server knows its certificate"):
        sign_in(modern, "alice", "external", "", tls=policy)
