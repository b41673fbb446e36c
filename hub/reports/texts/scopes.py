"""Whose a template or phrase is, and who keeps it: one's own, the hospital's by its reviewers, the county's."""

from __future__ import annotations

from typing import Literal

from hub.accounts.roles import Role
from hub.kit.actor import Actor
from hub.kit.errors import Forbidden
from hub.kit.i18n import Message, _

Scope = Literal["own", "hospital", "county"]
SCOPES: tuple[Scope, ...] = ("own", "hospital", "county")
NAMES: dict[Scope, Message] = {"own": _("我的"), "hospital": _("本院"), "county": _("县级")}


def may_keep(actor: Actor, scope: Scope) -> bool:
    """Whether the actor may add, change and remove what is of this scope."""
    if scope == "own":
        return True
    return actor.has(Role.DIRECTOR) or (scope == "hospital" and actor.has(Role.REVIEWER))


def demand(actor: Actor, scope: Scope) -> None:
    """Refuse who may not keep what is of this scope.

    Raises:
        Forbidden: He may not.
    """
    if may_keep(actor, scope):
        return
    if scope == "hospital":
        raise Forbidden(_("本院的模板和短语由审核医师或影像中心主任维护"))
    raise Forbidden(_("县级模板和短语由影像中心主任维护"))
