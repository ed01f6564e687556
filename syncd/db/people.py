"""People and programs that may use the page and the API: users, their sessions, tokens, and attempts to sign in.

No secret is here: of a password its argon2id hash, of a cookie or a token its SHA-256 (they are random and long, so
nobody can guess them from it). Looking somebody up writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, Select, delete, insert, or_, select, text, update

from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import signin_attempts, tokens, users, web_sessions

FREE: Final = 5  # attempts that fail before the next one has to wait
LONGEST_WAIT_S: Final = 300  # so that nobody can lock a person out for long by guessing at their name
FORGET: Final = timedelta(days=1)  # after which a failed attempt does not count any more


class Role(IntEnum):
    """The rights of a person. Each role has the rights of the roles before it, and more."""

    READER = 1  # see everything
    OPERATOR = 2  # run, pause, cancel, retry, drop
    ADMIN = 3  # decide who may sign in


class Purpose(IntEnum):
    """The rights of a token."""

    API = 1  # a program shows it with each request
    SETUP = 2  # the first person shows it once, and becomes the first user


class User(NamedTuple):
    """A person."""

    id: int
    name: str
    role: Role
    created_at: datetime
    signed_in_at: datetime | None


class Token(NamedTuple):
    """A token of a program. `expires_at` is None where it does not expire."""

    id: int
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None


# --- users -----------------------------------------------------------------------------------------------


def any_user(database: Database) -> bool:
    """Returns whether there is a user."""
    with database.read() as connection:
        return connection.execute(select(users.c.id).limit(1)).first() is not None


def known_users(database: Database) -> list[User]:
    """Returns every user, by name."""
    with database.read() as connection:
        return [_user(row) for row in connection.execute(select(users).order_by(users.c.name))]


def password_of(database: Database, name: str) -> tuple[User, str] | None:
    """Returns a user with the hash of the password."""
    with database.read() as connection:
        row = connection.execute(select(users).where(users.c.name == name)).first()
    return None if row is None else (_user(row), row.password)


def add_user(database: Database, name: str, role: Role, password: str, now: datetime) -> bool:
    """Add a user with the hash of a password. Returns False where the name is taken."""
    values = {"name": name, "role": int(role), "password": password, "created_at": to_microseconds(now)}
    with database.write() as connection:
        return connection.execute(_ADD_USER, values).first() is not None


def add_first_user(database: Database, digest: bytes, name: str, password: str, now: datetime) -> bool:
    """Make the first user, an admin, with a set-up token. Returns False where the token is wrong, late, or used.

    All set-up tokens end with it.
    """
    valid = select(tokens.c.id).where(
        tokens.c.digest == digest, tokens.c.purpose == int(Purpose.SETUP), tokens.c.expires_at > to_microseconds(now)
    )
    values = {"name": name, "role": int(Role.ADMIN), "password": password, "created_at": to_microseconds(now)}
    with database.write() as connection:
        used = connection.execute(valid.with_for_update()).first() is not None
        if not used or connection.execute(select(users.c.id).limit(1)).first() is not None:
            return False
        connection.execute(delete(tokens).where(tokens.c.purpose == int(Purpose.SETUP)))
        return connection.execute(_ADD_USER, values).first() is not None


def set_password(database: Database, name: str, password: str) -> bool:
    """Set the hash of a user's password and end the user's sessions. Returns False where there is no such user."""
    with database.write() as connection:
        connection.execute(delete(web_sessions).where(web_sessions.c.user_id.in_(_id_of(name))))
        return bool(connection.execute(update(users).where(users.c.name == name).values(password=password)).rowcount)


def remove_user(database: Database, name: str) -> bool:
    """Remove a user and end the user's sessions. Returns False where there is no such user."""
    with database.write() as connection:
        connection.execute(delete(web_sessions).where(web_sessions.c.user_id.in_(_id_of(name))))
        return bool(connection.execute(delete(users).where(users.c.name == name)).rowcount)


# --- sessions --------------------------------------------------------------------------------------------


def begin_session(database: Database, digest: bytes, user_id: int, now: datetime, expires: datetime) -> None:
    """Begin a session of a browser. Sessions that are over are forgotten."""
    at = to_microseconds(now)
    with database.write() as connection:
        connection.execute(delete(web_sessions).where(web_sessions.c.expires_at <= at))
        values = {"digest": digest, "user_id": user_id, "created_at": at, "expires_at": to_microseconds(expires)}
        connection.execute(insert(web_sessions).values(values))
        connection.execute(update(users).where(users.c.id == user_id).values(signed_in_at=at))


def user_of_session(database: Database, digest: bytes, now: datetime) -> User | None:
    """Returns who is signed in with a cookie."""
    found = select(users).join(web_sessions, web_sessions.c.user_id == users.c.id)
    found = found.where(web_sessions.c.digest == digest, web_sessions.c.expires_at > to_microseconds(now))
    with database.read() as connection:
        row = connection.execute(found).first()
    return None if row is None else _user(row)


def end_session(database: Database, digest: bytes) -> None:
    """End a session. Repeatable."""
    with database.write() as connection:
        connection.execute(delete(web_sessions).where(web_sessions.c.digest == digest))


# --- tokens ----------------------------------------------------------------------------------------------


def add_token(  # noqa: PLR0917  the columns, in their order
    database: Database, name: str, digest: bytes, role: Role, now: datetime, expires: datetime | None
) -> bool:
    """Add a token of a program. Returns False where the name is taken."""
    with database.write() as connection:
        taken = select(tokens.c.id).where(tokens.c.name == name, tokens.c.purpose == int(Purpose.API))
        if connection.execute(taken).first() is not None:
            return False
        connection.execute(insert(tokens).values(_token_values(name, digest, role, now, expires, Purpose.API)))
    return True


def add_setup_token(database: Database, digest: bytes, now: datetime, expires: datetime) -> bool:
    """Add a token by which the first user may be made. Returns False where there is a user already."""
    with database.write() as connection:
        late = (tokens.c.purpose == int(Purpose.SETUP), tokens.c.expires_at <= to_microseconds(now))
        connection.execute(delete(tokens).where(*late))
        if connection.execute(select(users.c.id).limit(1)).first() is not None:
            return False
        values = _token_values("set-up", digest, Role.ADMIN, now, expires, Purpose.SETUP)
        connection.execute(insert(tokens).values(values))
    return True


def known_tokens(database: Database) -> list[Token]:
    """Returns every token of programs, also those that have expired, by name."""
    with database.read() as connection:
        found = connection.execute(_api_tokens().order_by(tokens.c.name))
        return [_token(row) for row in found]


def token_of(database: Database, digest: bytes, now: datetime) -> Token | None:
    """Returns the token of a program that has not expired."""
    lasts = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > to_microseconds(now))
    with database.read() as connection:
        row = connection.execute(_api_tokens().where(tokens.c.digest == digest, lasts)).first()
    return None if row is None else _token(row)


def remove_token(database: Database, name: str) -> bool:
    """Revoke a token of a program. Returns False where there is no such token."""
    with database.write() as connection:
        mine = delete(tokens).where(tokens.c.name == name, tokens.c.purpose == int(Purpose.API))
        return bool(connection.execute(mine).rowcount)


# --- attempts to sign in ---------------------------------------------------------------------------------


def attempt(database: Database, subjects: Sequence[str], now: datetime) -> datetime | None:
    """Count an attempt to sign in before it is judged, so that many at once count as many.

    Returns None where it may be judged. Else nothing is counted, and no attempt of one of the `subjects` is judged
    before the time that is returned.
    """
    at = to_microseconds(now)
    with database.write() as connection:
        connection.execute(delete(signin_attempts).where(signin_attempts.c.until < to_microseconds(now - FORGET)))
        mine = select(signin_attempts).where(signin_attempts.c.subject.in_(list(subjects))).with_for_update()
        rows = {row.subject: row for row in connection.execute(mine)}
        waits = [row.until for row in rows.values() if row.until > at]
        if waits:
            return from_microseconds(max(waits))
        for subject in subjects:
            failures = rows[subject].failures + 1 if subject in rows else 1
            connection.execute(_ATTEMPT, {"subject": subject, "failures": failures, "until": at + _wait(failures)})
    return None


def succeeded(database: Database, subjects: Sequence[str]) -> None:
    """Forget the attempts of somebody who has signed in."""
    with database.write() as connection:
        connection.execute(delete(signin_attempts).where(signin_attempts.c.subject.in_(list(subjects))))


# --- inside ----------------------------------------------------------------------------------------------

_ADD_USER: Final = text(
    "INSERT INTO users (name, role, password, created_at) VALUES (:name, :role, :password, :created_at)"
    " ON CONFLICT (name) DO NOTHING RETURNING id"
)
_ATTEMPT: Final = text(
    "INSERT INTO signin_attempts (subject, failures, until) VALUES (:subject, :failures, :until)"
    " ON CONFLICT (subject) DO UPDATE SET failures = excluded.failures, until = excluded.until"
)


def _wait(failures: int) -> int:
    """Returns for how many microseconds no further attempt is judged: none at first, then twice as long each time."""
    seconds = 0 if failures < FREE else min(LONGEST_WAIT_S, 2 ** min(failures - FREE, 20))
    return seconds * 1_000_000


def _id_of(name: str) -> Select[tuple[int]]:
    return select(users.c.id).where(users.c.name == name)


def _api_tokens() -> Select[Any]:
    return select(tokens).where(tokens.c.purpose == int(Purpose.API))


def _token_values(  # noqa: PLR0917  the columns, in their order
    name: str, digest: bytes, role: Role, now: datetime, expires: datetime | None, purpose: Purpose
) -> dict[str, object]:
    return {
        "name": name,
        "digest": digest,
        "purpose": int(purpose),
        "role": int(role),
        "created_at": to_microseconds(now),
        "expires_at": None if expires is None else to_microseconds(expires),
    }


def _user(row: Row[Any]) -> User:
    signed_in = None if row.signed_in_at is None else from_microseconds(row.signed_in_at)
    return User(row.id, row.name, Role(row.role), from_microseconds(row.created_at), signed_in)


def _token(row: Row[Any]) -> Token:
    expires = None if row.expires_at is None else from_microseconds(row.expires_at)
    return Token(row.id, row.name, Role(row.role), from_microseconds(row.created_at), expires)
