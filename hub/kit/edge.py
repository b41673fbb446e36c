"""What every HTTP route shares: its database session, and who may call it.

The permission of a route is part of its signature: `actor: Annotated[Actor, require("exam.view")]`, or `public()`.
How a request is turned into an actor is installed by the composition root, so that routes of every feature can
declare a permission without importing the accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from hub.kit.actor import ANONYMOUS, Actor
from hub.kit.db import database
from hub.kit.errors import Forbidden, Unauthenticated

Authenticator = Callable[[Request, bool], Actor]
"""`(request, passive) -> Actor`; ANONYMOUS where nobody is logged in. A passive request does not extend a session."""

Granted = Callable[[Actor], frozenset[str]]

_authenticate: Authenticator | None = None
_granted: Granted | None = None


def install(authenticator: Authenticator, granted: Granted) -> None:
    """Install how requests become actors, and what an actor is permitted."""
    global _authenticate, _granted
    _authenticate, _granted = authenticator, granted


def _writing() -> Iterator[Session]:
    with database().writing() as session:
        yield session


def _reading() -> Iterator[Session]:
    with database().reading() as session:
        yield session


WriteDb = Annotated[Session, Depends(_writing, scope="function")]
"""A session that commits before the response starts, so that a failed commit is a 5xx and never a 200."""

ReadDb = Annotated[Session, Depends(_reading, scope="function")]
"""A session that only reads; it is closed before the response starts."""


class Require:
    """Dependency: the actor, if any of `permissions` is his. The access tests read `permissions` and `people`."""

    def __init__(self, permissions: tuple[str, ...], *, passive: bool = False, people: bool = False) -> None:
        self.permissions = permissions
        self.passive = passive
        self.people = people

    def __call__(self, request: Request) -> Actor:
        """The actor of this request.

        Raises:
            Unauthenticated: Nobody is logged in and the route is not public.
            Forbidden: None of the permissions is granted, or the CSRF token is wrong.
        """
        if _authenticate is None or _granted is None:
            raise RuntimeError("hub.kit.edge.install was not called")
        actor = _authenticate(request, self.passive)
        request.state.actor = actor
        if not self.permissions:
            return actor
        if actor is ANONYMOUS:
            raise Unauthenticated()
        if _granted(actor).isdisjoint(self.permissions) or (self.people and actor.kind != "person"):
            raise Forbidden()
        return actor


def require(*permissions: str, passive: bool = False, people: bool = False) -> Any:
    """Declare that a route needs any of `permissions`; `passive` requests do not extend the session.

    `people`: no machine gets in. A page shows everything that belongs to a person's work, a key's scope is one thing.
    """
    if not permissions:
        raise ValueError("a route that needs no permission says public()")
    return Depends(Require(tuple(permissions), passive=passive, people=people))


def public(*, passive: bool = False) -> Any:
    """Declare that a route is open to everybody; its actor may be anonymous. `passive`: as for `require`."""
    return Depends(Require((), passive=passive))
