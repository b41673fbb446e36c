"""Every route × every role. A route without its row in tests/access fails here."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.routing import APIRoute

from hub.accounts.roles import MACHINE_SCOPES, Role, permissions_of
from hub.app import ROUTERS, create_app
from hub.kit.edge import Require

if TYPE_CHECKING:
    from support.world import World

AREAS = sorted(path.stem for path in (Path(__file__).parents[2] / "access").glob("*.py"))
Key = tuple[str, str]


def matrix() -> dict[Key, set[str] | str]:
    """All rows of tests/access: (method, path) → roles and `machine:<scope>`, or "public"."""
    rows: dict[Key, set[str] | str] = {}
    for area in AREAS:
        for key, allowed in importlib.import_module(f"access.{area}").ROUTES.items():
            assert key not in rows, f"{key} stands twice"
            rows[key] = allowed
    return rows


def routes() -> dict[Key, APIRoute]:
    """Every route of the application."""
    found: dict[Key, APIRoute] = {}
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute), route
            for method in route.methods:
                assert (method, route.path) not in found, f"{method} {route.path} is answered twice"
                found[(method, route.path)] = route
    return found


def test_nothing_else_answers() -> None:
    """What is not in a router is the framework's description, or built files."""
    outside = {getattr(route, "path", None) for route in create_app().routes} - {None}
    assert outside == {"/api/openapi.json", "/static", "/ohif"}


def declared(route: APIRoute) -> Require | None:
    """The permission in a route's signature."""
    found = [dep.call for dep in route.dependant.dependencies if isinstance(dep.call, Require)]
    return found[0] if found else None


def test_each_route_has_its_row_and_each_row_its_route() -> None:
    assert set(routes()) == set(matrix())


@pytest.mark.parametrize("key", sorted(matrix()), ids=lambda key: f"{key[0]} {key[1]}")
def test_declared_permission_gives_the_roles_of_the_row(key: Key) -> None:
    route = routes().get(key)
    assert route is not None, "no such route"
    guard = declared(route)
    assert guard is not None, "the route declares neither require(…) nor public()"
    allowed = matrix()[key]
    if allowed == "public":
        assert not guard.permissions
        return
    assert guard.permissions, "the row names roles, the route is public"
    wanted = set(guard.permissions)
    got = {role.value for role in Role if wanted & set(permissions_of(frozenset({role})))}
    if not guard.people:
        got |= {f"machine:{scope}" for scope in MACHINE_SCOPES if wanted & set(MACHINE_SCOPES[scope])}
    assert got == allowed


def _address(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "01zzzzzzzzzzzzzzzzzzzzzzzz", path)


def test_each_role_meets_the_door_it_should(world: World) -> None:
    """Through the real application: who may not enter gets 401 or 403, who may gets neither."""
    rows = matrix()
    clients = {role.value: world.client(role.value) for role in Role}
    clients |= {f"machine:{scope}": world.machine("C01", scope) for scope in MACHINE_SCOPES}
    nobody = world.anonymous()
    wrong: list[str] = []
    for (method, path), allowed in rows.items():
        if path in ("/api/live", "/logout"):
            continue
        url = _address(path)
        outside = nobody.request(method, url, headers={"Accept": "application/json"}).status_code
        if allowed == "public":
            if outside in (401, 403) and path not in ("/api/session", "/login"):
                wrong.append(f"{method} {path}: nobody → {outside}")
            continue
        if outside not in (401, 303):
            wrong.append(f"{method} {path}: nobody → {outside}")
        for who, client in clients.items():
            if method not in ("GET", "HEAD") and who in allowed:
                continue
            status = client.request(method, url, headers={"Accept": "application/json"}).status_code
            refused = status in (401, 403)
            if refused == (who in allowed):
                wrong.append(f"{method} {path}: {who} → {status}")
            if status == 500:
                wrong.append(f"{method} {path}: {who} → 500")
    assert not wrong, "\n".join(wrong)


def test_a_change_without_its_csrf_token_is_refused(world: World) -> None:
    client = world.client("technologist")
    del client.headers["X-CSRF-Token"]
    answer = client.post("/api/account/password", json={"old": "a", "password": "b"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "csrf"
    assert client.post("/logout", headers={"Origin": "http://evil.example"}).status_code == 403
