"""The OpenAPI description is true to the routes, and no request that it allows ends in a 5xx."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings

from hub.accounts.roles import Role, permissions_of
from hub.app import ROUTERS
from hub.kit.edge import Require

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

EXAMPLES = 6
ENDLESS = {"/api/live"}


BATCH = {"exam_id": None, "files": [{"path": "CT/IM0001.dcm", "size": 526514, "sha256": ""}]}


def registered(world: World) -> str:
    """The id of a registered exam of the first clinic, by the example of the description itself."""
    example = world.app.openapi()["components"]["schemas"]["RegistrationForm"]["examples"][0]
    made = world.client("technologist").post("/api/exams", json=example)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def guard_of(method: str, path: str) -> Require | None:
    """What a route asks for."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path == path and method.upper() in route.methods:
                return next((d.call for d in route.dependant.dependencies if isinstance(d.call, Require)), None)
    return None


def may(guard: Require | None) -> list[str]:
    """Roles that the route is open to; all of them where it is public."""
    if guard is None or not guard.permissions:
        return [role.value for role in Role]
    return [role.value for role in Role if set(guard.permissions) & set(permissions_of(frozenset({role.value})))]


def send(client: TestClient, case: Any) -> Any:
    """Send what was made up; values that HTTP cannot carry count as sent."""
    made = case.as_transport_kwargs(base_url="http://testserver")
    headers = {k: v for k, v in dict(made.get("headers") or {}).items() if k.lower() not in ("user-agent", "cookie")}
    body: dict[str, Any] = {}
    if "json" in made:
        body["json"] = made["json"]
    elif made.get("data") is not None:
        body["content" if isinstance(made["data"], bytes | str) else "data"] = made["data"]
    if made.get("files"):
        body["files"] = made["files"]
    try:
        return client.request(made["method"], made["url"], params=made.get("params"), headers=headers, **body)
    except (UnicodeError, TypeError, ValueError):
        return None


def attack(
    operation: Any, client: TestClient, cookies: dict[str, str], who: str, known: dict[str, str], faults: list[str]
) -> int:
    """Send made-up requests to one operation, noting server errors; how many were sent.

    Every second request is to a row that exists, because random ids end at the first look-up.
    """
    sent = 0
    names = re.findall(r"\{(\w+)\}", operation.path)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        nonlocal sent
        if sent % 2:
            case.path_parameters = {**(case.path_parameters or {}), **{k: v for k, v in known.items() if k in names}}
        client.cookies.clear()
        client.cookies.update(cookies)
        answer = send(client, case)
        sent += 1
        # 503 is an honest answer where a part is away: tests run no worker and no signing key is open.
        if answer is not None and answer.status_code >= 500 and answer.status_code != 503:
            faults.append(f"{who}: {case.method} {case.formatted_path} {case.query} {case.body!r:.300}")

    one()
    return sent


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_that_the_description_allows_is_a_server_error(world: World) -> None:
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    clients = {role.value: world.client(role.value) for role in Role}
    tokens = {name: dict(client.cookies) for name, client in clients.items()}
    exam = registered(world)
    known = {
        "exam_id": exam,
        "person_id": world.people["reviewer2"].id,
        "org_id": world.orgs["C02"].id,
        "batch_id": world.client("technologist").post("/api/uploads", json=BATCH).json()["id"],
    }
    faults: list[str] = []
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        allowed = may(guard_of(operation.method, operation.path))
        who = allowed[sum(operation.path.encode()) % len(allowed)]

        sent += attack(operation, clients[who], tokens[who], who, known, faults)
    assert sent > 200
    assert not faults, f"{len(faults)} server errors:\n" + "\n".join(faults)


def test_description_names_every_route_of_the_api(world: World) -> None:
    described = {(method.upper(), path) for path, methods in world.app.openapi()["paths"].items() for method in methods}
    routes = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods
    }
    assert {(method, re.sub(r":\w+\}", "}", path)) for method, path in routes} <= described | {
        key for key in routes if key[0] in ("HEAD", "OPTIONS")
    }


@pytest.mark.parametrize(
    "body", ["Credentials", "NewPerson", "NewOrganisation", "NewKey", "PersonChange", "OrganisationChange"]
)
def test_main_bodies_have_examples_that_are_valid(world: World, body: str) -> None:
    import hub.web.admin
    import hub.web.session

    model = getattr(hub.web.admin, body, None) or getattr(hub.web.session, body)
    schema = world.app.openapi()["components"]["schemas"][body]
    for example in schema["examples"]:
        model.model_validate(example)


def test_the_page_loads_nothing_from_elsewhere(world: World) -> None:
    page = world.anonymous().get("/api/docs")
    assert page.status_code == 200
    assert re.findall(r'(?:src|href)="(\S+?)"', page.text)
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)
    assert "script-src 'self'" in page.headers["content-security-policy"]
