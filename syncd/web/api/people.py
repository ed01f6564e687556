"""The API for admins: users and tokens, as `syncd user` and `syncd token`.

GET     users · tokens
POST    users · tokens                a token is in the answer, and is never shown again
PUT     users/{name}/password
DELETE  users/{name} · tokens/{name}
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from syncd.db.people import Role, Token, User, known_tokens, known_users
from syncd.services import people
from syncd.web.access import ApiAdmin, TheSite
from syncd.web.api.v1 import ERRORS, PREFIX
from syncd.web.pages.people import removed, role_of
from syncd.web.problems import Problem
from syncd.web.render import Json

router = APIRouter(prefix=PREFIX, responses=ERRORS, tags=["who may sign in"])
Name = Annotated[str, Path(max_length=200)]
RoleName = Literal["reader", "operator", "admin"]


class Password(BaseModel):
    """A password."""

    model_config = ConfigDict(extra="forbid")

    password: str = Field(max_length=4000)


class NewUser(Password):
    """A user to be added."""

    name: str = Field(max_length=200)
    role: RoleName = "reader"


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200)
    scope: RoleName = "reader"
    days: int | None = Field(default=90, ge=1, le=3650, description="null: it does not expire")


class UserLine(BaseModel):
    """A user."""

    name: str
    role: RoleName
    created_at: datetime
    signed_in_at: datetime | None


class TokenLine(BaseModel):
    """A token, without its secret."""

    name: str
    scope: RoleName
    created_at: datetime
    expires_at: datetime | None


class Users(BaseModel):
    """All users."""

    items: list[UserLine]


class Tokens(BaseModel):
    """All tokens."""

    items: list[TokenLine]


class MadeToken(BaseModel):
    """A token that was made; it cannot be shown again."""

    name: str
    token: str


@router.get("/users", response_model=Users)
def get_users(site: TheSite, _who: ApiAdmin) -> Response:
    """The users, by name."""
    return Json({"items": [_user(it) for it in known_users(site.database)]})


@router.post("/users", status_code=201, response_model=UserLine)
def add_user(site: TheSite, _who: ApiAdmin, wanted: NewUser) -> Response:
    """Add a user."""
    return Json(_user(people.add_user(site.database, wanted.name, role_of(wanted.role), wanted.password)), 201)


@router.put("/users/{name}/password", status_code=204)
def set_password(site: TheSite, _who: ApiAdmin, name: Name, wanted: Password) -> Response:
    """Set a new password, which ends the sessions of that user."""
    _check_known(name, [it.name for it in known_users(site.database)])
    people.set_password(site.database, name, wanted.password)
    return Response(status_code=204)


@router.delete("/users/{name}", status_code=204)
def remove_user(site: TheSite, who: ApiAdmin, name: Name) -> Response:
    """Remove a user, and end the user's sessions."""
    _check_known(name, [it.name for it in known_users(site.database)])
    removed(site, who, name)
    return Response(status_code=204)


@router.get("/tokens", response_model=Tokens)
def get_tokens(site: TheSite, _who: ApiAdmin) -> Response:
    """The tokens, by name, also those that have expired."""
    return Json({"items": [_token(it) for it in known_tokens(site.database)]})


@router.post("/tokens", status_code=201, response_model=MadeToken)
def create_token(site: TheSite, _who: ApiAdmin, wanted: NewToken) -> Response:
    """Make a token for a program."""
    lasts = None if wanted.days is None else timedelta(wanted.days)
    token = people.create_token(site.database, wanted.name, role_of(wanted.scope), lasts)
    return Json({"name": wanted.name.strip().lower(), "token": token}, 201)


@router.delete("/tokens/{name}", status_code=204)
def revoke_token(site: TheSite, _who: ApiAdmin, name: Name) -> Response:
    """End a token."""
    _check_known(name, [it.name for it in known_tokens(site.database)])
    people.revoke_token(site.database, name)
    return Response(status_code=204)


def _check_known(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise Problem(404, f"there is no {name[:100]!r}")


def _user(it: User) -> dict[str, Any]:
    role = Role(it.role).name.lower()
    return {"name": it.name, "role": role, "created_at": it.created_at, "signed_in_at": it.signed_in_at}


def _token(it: Token) -> dict[str, Any]:
    scope = Role(it.role).name.lower()
    return {"name": it.name, "scope": scope, "created_at": it.created_at, "expires_at": it.expires_at}
