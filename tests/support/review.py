"""Policies of review for tests."""

from __future__ import annotations

from typing import Any

from hub.kit.db import database
from hub.sites.models import Organisation
from support.world import World

NIGHT = {"preliminary": True, "preliminary_hours": [], "preliminary_emergency": False}


def set_policy(world: World, code: str = "H01", *, double: bool = True, **review: Any) -> None:
    """Give a hospital a policy, as its page would have left it."""
    with database().writing() as session:
        session.get_one(Organisation, world.orgs[code].id).policy = {"double_signature": double, "review": review}


def issue(client: Any, version: Any, lease: str) -> Any:
    """The answer to a request to issue what `version` shows as a preliminary report."""
    body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
    return client.post(f"/api/reports/{version['version_id']}/issue-preliminary", json=body)
