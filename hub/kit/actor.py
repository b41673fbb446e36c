"""Who acts: a person in a session, a machine with an API key, or the hub itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

QUERY_SCOPE: Final = "query"
"""Scope of a hospital's picture archive: it sees what its readers see. Devices alone have it, API keys never."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The acting party of a service call. Plain values, so that no service sees a request.

    `roles` holds role codes of hub.accounts.roles; `scopes` the scopes of an API key (machines only).
    """

    kind: Literal["person", "machine", "system", "anonymous"]
    id: str
    name: str = ""
    org_id: str | None = None
    org_kind: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    scopes: frozenset[str] = field(default_factory=frozenset)
    session_id: str | None = None
    ip: str = ""

    def has(self, *roles: str) -> bool:
        """Whether the actor holds any of `roles`."""
        return not self.roles.isdisjoint(roles)


SYSTEM = Actor(kind="system", id="system", name="hub")
ANONYMOUS = Actor(kind="anonymous", id="anonymous")
