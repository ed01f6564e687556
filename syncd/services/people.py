"""Who may use the page and the API: signing in, users, tokens. No password is there to begin with.

The first user is made with a set-up token, which the service prints at a start while there is no user; or by
`syncd user add`. Passwords are hashed with argon2id (RFC 9106); cookies and tokens are random, and the database has
their digests. Attempts that fail are counted for the name and for the address, and then have to wait.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from functools import cache
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final, NamedTuple

from syncd import clock
from syncd.db import people
from syncd.db.people import Role, Token, User
from syncd.errors import UsageError, printable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from syncd.db.database import Database

SESSION: Final = timedelta(days=7)  # then the password is asked for again
SETUP: Final = timedelta(hours=24)  # a set-up token nobody used ends; the next start prints another one
MIN_PASSWORD: Final = 10  # characters (NIST SP 800-63B §5.1.1.2 asks for 8)
MAX_PASSWORD: Final = 1000  # characters: hashing must not be made slow by a long one
PREFIX: Final = "syncd_"  # of tokens, so that scanners for secrets know them
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_HASHING: Final = BoundedSemaphore(2)  # each takes 19 MiB and 30 ms
_SECRET_OCTETS: Final = 32


class Refused(NamedTuple):
    """Nobody signed in. `again_at`: no attempt is judged before; None: name or password is wrong."""

    again_at: datetime | None = None


class Session(NamedTuple):
    """Somebody signed in; `secret` is for the cookie."""

    user: User
    secret: str


# --- the first user --------------------------------------------------------------------------------------


def setup_token(database: Database) -> str | None:
    """Returns a new set-up token; None where there is a user already."""
    token, now = secrets.token_urlsafe(_SECRET_OCTETS), clock.now()
    if people.any_user(database) or not people.add_setup_token(database, digest(token), now, now + SETUP):
        return None
    return token


def set_up(database: Database, token: str, name: str, password: str, address: str) -> Session | Refused:
    """Make the first user, an admin, and sign in. Raises UsageError for a name or password that cannot be taken."""
    name = _checked_name(name)
    _check_password(password)
    subjects = [f"address {address}"]
    again_at = people.attempt(database, subjects, clock.now())
    if again_at is not None:
        return Refused(again_at)
    if not people.add_first_user(database, digest(token), name, _hashed(password), clock.now()):
        return Refused()
    people.succeeded(database, subjects)
    found = people.password_of(database, name)
    return Refused() if found is None else _begin(database, found[0])


# --- signing in ------------------------------------------------------------------------------------------


def sign_in(database: Database, name: str, password: str, address: str) -> Session | Refused:
    """Sign in with a password. An unknown name takes as long as a wrong password."""
    name = name.strip().lower()
    known = _NAME.fullmatch(name) is not None
    subjects = [f"address {address}", *([f"user {name}"] if known else [])]
    again_at = people.attempt(database, subjects, clock.now())
    if again_at is not None:
        return Refused(again_at)
    found = people.password_of(database, name) if known else None
    right = _fits(found[1] if found else _nobody(), password[:MAX_PASSWORD])
    if found is None or not right:
        return Refused()
    people.succeeded(database, subjects)
    return _begin(database, found[0])


def signed_in(database: Database, secret: str) -> User | None:
    """Returns who is signed in with a cookie."""
    return people.user_of_session(database, digest(secret), clock.now())


def sign_out(database: Database, secret: str) -> None:
    """End a session. Repeatable."""
    people.end_session(database, digest(secret))


def holder_of(database: Database, token: str) -> Token | None:
    """Returns the token of a program, if it is one and has not expired."""
    return people.token_of(database, digest(token), clock.now()) if token.startswith(PREFIX) else None


def form_key(secret: str) -> str:
    """Returns what a form of this session must have in it, so that no other site can send it."""
    return hashlib.sha256(b"form of " + secret.encode()).hexdigest()


def digest(secret: str) -> bytes:
    """Returns what the database has of a cookie or token."""
    return hashlib.sha256(secret.encode()).digest()


# --- users and tokens ------------------------------------------------------------------------------------


def add_user(database: Database, name: str, role: Role, password: str) -> User:
    """Add a user. Raises UsageError."""
    name = _checked_name(name)
    _check_password(password)
    if not people.add_user(database, name, role, _hashed(password), clock.now()):
        raise UsageError(f"there is a user {name} already; to set a new password: syncd user passwd {name}")
    found = people.password_of(database, name)
    assert found is not None
    return found[0]


def set_password(database: Database, name: str, password: str) -> None:
    """Set a new password and end the sessions of a user. Raises UsageError."""
    _check_password(password)
    if not people.set_password(database, _checked_name(name), _hashed(password)):
        raise _no_user(name)


def remove_user(database: Database, name: str) -> None:
    """Remove a user and end the user's sessions. Raises UsageError."""
    if not people.remove_user(database, name):
        raise _no_user(name)


def create_token(database: Database, name: str, role: Role, lasts: timedelta | None) -> str:
    """Returns a new token for a program; it cannot be shown again. Raises UsageError."""
    token, now = PREFIX + secrets.token_urlsafe(_SECRET_OCTETS), clock.now()
    expires = None if lasts is None else now + lasts
    if not people.add_token(database, _checked_name(name), digest(token), role, now, expires):
        raise UsageError(f"there is a token {name} already; to end it: syncd token revoke {name}")
    return token


def revoke_token(database: Database, name: str) -> None:
    """End a token. Raises UsageError."""
    if not people.remove_token(database, name):
        raise UsageError(f"no token {printable(name)!r}; syncd token list shows those that there are")


# --- inside ----------------------------------------------------------------------------------------------


def _begin(database: Database, user: User) -> Session:
    secret, now = secrets.token_urlsafe(_SECRET_OCTETS), clock.now()
    people.begin_session(database, digest(secret), user.id, now, now + SESSION)
    return Session(user, secret)


def _checked_name(name: str) -> str:
    name = name.strip().lower()
    if _NAME.fullmatch(name) is None:
        raise UsageError("a name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit")
    return name


def _check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UsageError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD:,} characters")


def _no_user(name: str) -> UsageError:
    return UsageError(f"no user {printable(name)!r}; syncd user list shows those that there are")


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)  # KiB; OWASP's smallest


def _hashed(password: str) -> str:
    with _HASHING:
        return _hasher().hash(password)


@cache
def _nobody() -> str:
    """Returns the hash of a password that nobody has."""
    return _hashed(secrets.token_urlsafe(_SECRET_OCTETS))


def _fits(hashed: str, password: str) -> bool:
    from argon2.exceptions import VerificationError

    with _HASHING:
        try:
            return _hasher().verify(hashed, password)
        except VerificationError:
            return False
