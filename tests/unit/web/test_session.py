"""Logging in, sessions, and what surrounds every request."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import func, select

from hub.accounts import passwords, sessions
from hub.accounts.models import LoginFailure, LoginSession, Person
from hub.accounts.roles import Role
from hub.accounts.secrets import seal_secret
from hub.app import ROUTERS
from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.db import database
from hub.kit.edge import Require
from hub.kit.settings import get_settings
from hub.sites.models import ApiKey, Organisation
from support.world import PASSWORD

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

ORIGIN = {"Origin": "http://testserver"}
FORM = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}


def log_in(world: World, login: str = "reporter", password: str = PASSWORD, **more: str) -> Any:
    """Log in by the page's form, as a fresh browser."""
    client = world.anonymous()
    answer = client.post("/login", data={"login": login, "password": password, **more}, headers=ORIGIN)
    return client, answer


def audited(action: str) -> list[AuditEntry]:
    with database().reading() as session:
        return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)))


def change(login: str, **values: Any) -> None:
    with database().writing() as session:
        person = session.scalars(select(Person).where(Person.login == login)).one()
        for name, value in values.items():
            setattr(person, name, value)


def later(**by: float) -> datetime:
    """Let time pass."""
    moment = clock.now() + timedelta(**by)
    clock.set_source(lambda: moment)
    return moment


class TestLogin:
    def test_right_password(self, world: World) -> None:
        client, answer = log_in(world)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/queue"
        assert client.get("/account").status_code == 200
        (entry,) = audited("session.start")
        assert entry.actor_id == world.people["reporter"].id

    def test_cookie_is_out_of_reach_of_scripts_and_other_sites(self, world: World) -> None:
        _client, answer = log_in(world)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "path=/" in cookie
        assert "secure" not in cookie

    def test_cookie_goes_over_tls_only_where_the_hub_is_reached_by_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HUB_PUBLIC_URL", "https://hub.example")
        get_settings.cache_clear()
        _client, answer = log_in(world)
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "max-age" in answer.headers["strict-transport-security"]

    def test_token_is_kept_as_a_hash_only(self, world: World) -> None:
        client, _answer = log_in(world)
        token = client.cookies[sessions.SESSION_COOKIE]
        with database().reading() as session:
            (row,) = session.scalars(select(LoginSession))
        assert token not in (row.id, row.csrf)
        assert row.id == sessions.digest(token)

    @pytest.mark.parametrize("login", ["reporter", "nobody.here"])
    def test_wrong_password_and_unknown_login_are_told_alike(self, world: World, login: str) -> None:
        client, answer = log_in(world, login, "wrong-password")
        assert answer.status_code == 401
        assert "用户名或密码不正确" in answer.text
        assert sessions.SESSION_COOKIE not in client.cookies
        (entry,) = audited("session.refused")
        assert entry.ip == "testclient"
        assert entry.object_id == (world.people[login].id if login in world.people else "unknown")

    def test_an_unknown_login_costs_a_hash_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        real = passwords.matches

        def matches(stored: str, password: str) -> bool:
            seen.append(stored)
            return real(stored, password)

        monkeypatch.setattr(passwords, "matches", matches)
        log_in(world, "nobody.here")
        assert seen == [passwords.dummy()]

    def test_inactive_people_and_organisations_stay_out(self, world: World) -> None:
        change("reporter", active=False)
        assert log_in(world)[1].status_code == 401
        with database().writing() as session:
            session.get_one(Organisation, world.orgs["C01"].id).active = False
        assert log_in(world, "technologist")[1].status_code == 401

    def test_login_is_not_case_sensitive_and_blanks_do_not_matter(self, world: World) -> None:
        assert log_in(world, " Reporter ")[1].status_code == 303

    def test_api_login_gives_the_token_for_changes(self, world: World) -> None:
        client = world.anonymous()
        answer = client.post("/api/session", json={"login": "reporter", "password": PASSWORD})
        assert answer.status_code == 200
        body = answer.json()
        assert body["roles"] == ["reporter"]
        assert not body["must_change_password"]
        assert client.delete("/api/account/sessions").status_code == 403
        sent = client.delete("/api/account/sessions", headers={"X-CSRF-Token": body["csrf"]})
        assert sent.status_code == 204

    def test_api_login_refused_is_a_problem(self, world: World) -> None:
        answer = world.anonymous().post("/api/session", json={"login": "reporter", "password": "no"})
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "bad-login"


class TestThrottle:
    def test_a_name_is_paused_even_for_the_right_password(self, world: World) -> None:
        limit = get_settings().login_attempts
        for _n in range(limit):
            assert log_in(world, password="guess")[1].status_code == 401
        answer = log_in(world)[1]
        assert answer.status_code == 429
        assert log_in(world, "reviewer")[1].status_code == 303
        later(minutes=16)
        assert log_in(world)[1].status_code == 303

    def test_an_address_that_tries_many_names_is_paused(self, world: World) -> None:
        with database().writing() as session:
            session.add_all(
                LoginFailure(subject="ip:testclient", at=clock.now()) for _n in range(get_settings().login_attempts * 5)
            )
        assert log_in(world)[1].status_code == 429

    def test_success_forgets_the_failures_of_the_name_only(self, world: World) -> None:
        log_in(world, password="guess")
        log_in(world)
        with database().reading() as session:
            left = session.scalars(select(LoginFailure.subject)).all()
        assert left == ["ip:testclient"]

    def test_guessing_ones_own_password_is_slowed_down(self, world: World) -> None:
        client = world.client("reporter")
        body = {"old": "guess", "password": "another-horse-8"}
        for _n in range(get_settings().login_attempts):
            assert client.post("/api/account/password", json=body).status_code == 422
        assert client.post("/api/account/password", json=body).status_code == 429
        assert len(audited("person.refused")) == get_settings().login_attempts

    def test_failures_do_not_pile_up(self, world: World) -> None:
        log_in(world, password="guess")
        later(hours=2)
        log_in(world, password="guess")
        with database().reading() as session:
            assert session.scalar(select(func.count()).select_from(LoginFailure)) == 2


class TestSecondFactor:
    SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

    @pytest.fixture(autouse=True)
    def with_totp(self, world: World) -> None:
        moment = clock.now().replace(second=1, microsecond=0)
        clock.set_source(lambda: moment)
        change("reporter", totp_secret=seal_secret(self.SECRET))

    def code(self, offset: int = 0) -> str:
        return pyotp.TOTP(self.SECRET).at(clock.now() + timedelta(seconds=offset))

    def test_is_asked_for_after_the_right_password_only(self, world: World) -> None:
        assert 'name="totp"' in log_in(world)[1].text
        assert 'name="totp"' not in log_in(world, password="wrong")[1].text

    def test_right_digits(self, world: World) -> None:
        assert log_in(world, totp=self.code())[1].status_code == 303
        with database().reading() as session:
            assert session.scalars(select(LoginSession)).one().second_factor

    @pytest.mark.parametrize(("offset", "status"), [(-90, 401), (-30, 303), (30, 303), (90, 401)])
    def test_one_step_of_clock_error(self, world: World, offset: int, status: int) -> None:
        assert log_in(world, totp=self.code(offset))[1].status_code == status

    def test_digits_count_once(self, world: World) -> None:
        assert log_in(world, totp=self.code())[1].status_code == 303
        assert log_in(world, totp=self.code())[1].status_code == 401
        assert log_in(world, totp=self.code(-30))[1].status_code == 401
        assert [entry.detail["what"] for entry in audited("session.refused")] == ["totp-again", "totp-again"]
        later(seconds=30)
        assert log_in(world, totp=self.code())[1].status_code == 303

    def test_guessing_digits_is_throttled(self, world: World) -> None:
        for _n in range(get_settings().login_attempts):
            assert log_in(world, totp="000000")[1].status_code == 401
        assert log_in(world, totp=self.code())[1].status_code == 429

    def test_secret_is_sealed_at_rest(self, world: World) -> None:
        with database().reading() as session:
            stored = session.scalars(select(Person.totp_secret).where(Person.login == "reporter")).one()
        assert self.SECRET not in (stored or "")

    def test_turning_on_and_off(self, world: World) -> None:
        client = world.client("reviewer")
        offer = client.post("/api/account/totp").json()
        assert "<svg" in offer["svg"]
        assert client.put("/api/account/totp", json={"secret": offer["secret"], "code": "000000"}).status_code == 422
        assert client.put("/api/account/totp", json={"secret": "not base32!", "code": "000000"}).status_code == 422
        digits = pyotp.TOTP(offer["secret"]).at(clock.now())
        assert client.put("/api/account/totp", json={"secret": offer["secret"], "code": digits}).status_code == 204
        other = {"secret": self.SECRET, "code": pyotp.TOTP(self.SECRET).now()}
        assert client.put("/api/account/totp", json=other).json()["code"] == "totp-on", "not without the password"
        wrong = client.request("DELETE", "/api/account/totp", json={"password": "wrong"})
        assert wrong.status_code == 422
        assert client.request("DELETE", "/api/account/totp", json={"password": PASSWORD}).status_code == 204


class TestSession:
    def test_idle_limit(self, world: World) -> None:
        client = world.client("reporter")
        later(minutes=get_settings().session_idle_minutes - 1)
        assert client.get("/account").status_code == 200
        later(minutes=get_settings().session_idle_minutes - 1)
        assert client.get("/account").status_code == 200
        later(minutes=get_settings().session_idle_minutes + 1)
        assert client.get("/api/admin/people").status_code == 401

    def test_passive_requests_do_not_extend_it(self, world: World) -> None:
        client = world.client("reporter")
        passive = [
            path for (method, path), guard in guards().items() if method == "GET" and guard.passive and "{" not in path
        ]
        assert "/nav" in passive
        assert "/api/live" in passive
        for _n in range(3):
            later(minutes=get_settings().session_idle_minutes / 4)
            assert client.get("/nav").status_code == 200
        later(minutes=get_settings().session_idle_minutes / 4 + 1)
        assert client.get("/nav").status_code == 401

    def test_absolute_limit(self, world: World) -> None:
        client = world.client("reporter")
        for _n in range(get_settings().session_hours * 2 - 1):
            later(minutes=30)
            assert client.get("/account").status_code == 200
        later(minutes=31)
        assert client.get("/api/admin/people").status_code == 401

    def test_a_token_set_by_somebody_else_is_never_adopted(self, world: World) -> None:
        client = world.anonymous()
        client.cookies.set(sessions.SESSION_COOKIE, "chosen-by-an-attacker")
        answer = client.post("/login", data={"login": "reporter", "password": PASSWORD}, headers=ORIGIN)
        assert answer.status_code == 303
        given = re.search(rf"{sessions.SESSION_COOKIE}=([^;]+)", answer.headers["set-cookie"])
        assert given
        assert given[1] != "chosen-by-an-attacker"

    def test_logging_in_again_leaves_no_older_session(self, world: World) -> None:
        client, _answer = log_in(world)
        client.post("/login", data={"login": "reviewer", "password": PASSWORD}, headers=ORIGIN)
        with database().reading() as session:
            (row,) = session.scalars(select(LoginSession))
        assert row.person_id == world.people["reviewer"].id

    def test_logout_ends_it_on_the_server(self, world: World) -> None:
        client = world.client("reporter")
        token = client.cookies[sessions.SESSION_COOKIE]
        assert client.post("/logout").status_code == 303
        client.cookies.set(sessions.SESSION_COOKIE, token)
        assert client.get("/account", headers={"Accept": "application/json"}).status_code == 401
        assert audited("session.end")

    def test_logout_everywhere_else(self, world: World) -> None:
        here, there = world.client("reporter"), world.client("reporter")
        assert here.delete("/api/account/sessions").status_code == 204
        assert here.get("/account").status_code == 200
        assert there.get("/nav").status_code == 401

    def test_a_new_password_ends_the_other_sessions(self, world: World) -> None:
        here, there = world.client("reporter"), world.client("reporter")
        body = {"old": PASSWORD, "password": "another-horse-8"}
        assert here.post("/api/account/password", json=body).status_code == 204
        assert here.get("/account").status_code == 200
        assert there.get("/nav").status_code == 401
        assert log_in(world)[1].status_code == 401
        assert log_in(world, password="another-horse-8")[1].status_code == 303

    @pytest.mark.parametrize("weak", ["short", "aaaaaaaaaaaa", "reporter-12345", PASSWORD])
    def test_weak_or_same_passwords_are_refused(self, world: World, weak: str) -> None:
        answer = world.client("reporter").post("/api/account/password", json={"old": PASSWORD, "password": weak})
        assert answer.status_code == 422
        assert "password" in answer.json()["fields"]

    def test_taken_roles_end_the_session(self, world: World) -> None:
        reporter, administrator = world.client("reporter"), world.client("administrator")
        person = world.people["reporter"].id
        answer = administrator.patch(f"/api/admin/people/{person}", json={"roles": ["technologist"]})
        assert answer.status_code == 200
        assert reporter.get("/nav").status_code == 401
        again = world.client("reporter")
        assert again.get("/queue", headers={"Accept": "application/json"}).status_code == 403

    def test_a_role_taken_in_the_table_counts_at_once(self, world: World) -> None:
        client = world.client("reporter")
        change("reporter", roles=["clinician"])
        assert client.get("/queue", headers={"Accept": "application/json"}).status_code == 403


class TestFirstPassword:
    @pytest.fixture
    def newcomer(self, world: World) -> TestClient:
        change("reporter", must_change_password=True)
        return world.client("reporter")

    def test_login_leads_to_the_account_whatever_was_asked_for(self, world: World, newcomer: TestClient) -> None:
        answer = log_in(world, next="/queue")[1]
        assert answer.headers["location"] == "/account"

    def test_pages_lead_to_the_account(self, newcomer: TestClient) -> None:
        answer = newcomer.get("/queue", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/account")
        page = newcomer.get("/account", headers={"Accept": "text/html"})
        assert "请修改初始密码" in page.text
        assert "/queue" not in page.text

    def test_every_route_but_the_account_is_closed(self, newcomer: TestClient) -> None:
        own = {"account.self", "live"}
        open_to_him = []
        for (method, path), guard in guards().items():
            if not guard.permissions or set(guard.permissions) & own:
                continue
            answer = newcomer.request(method, concrete(path), headers={"Accept": "application/json"})
            if answer.status_code != 403 or (method != "HEAD" and answer.json()["code"] != "password-change-needed"):
                open_to_him.append(f"{method} {path} → {answer.status_code}")
        assert not open_to_him

    def test_afterwards_everything_opens(self, newcomer: TestClient) -> None:
        body = {"old": PASSWORD, "password": "another-horse-8"}
        assert newcomer.post("/api/account/password", json=body).status_code == 204
        assert newcomer.get("/queue").status_code == 200


def guards() -> dict[tuple[str, str], Require]:
    """(method, path) → the declared permission of every route."""
    found: dict[tuple[str, str], Require] = {}
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for dependency in route.dependant.dependencies:
                if isinstance(dependency.call, Require):
                    found |= {(method, route.path): dependency.call for method in route.methods}
    return found


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "01zzzzzzzzzzzzzzzzzzzzzzzz", path)


UNSAFE = sorted(key for key in guards() if key[0] not in ("GET", "HEAD", "OPTIONS"))


class TestCrossSite:
    def test_every_change_needs_the_sessions_token(self, world: World) -> None:
        """All unsafe routes, with a session of every role but without its token: nothing but 403."""
        wrong = []
        person = world.people["technologist"].id
        change("technologist", roles=[role.value for role in Role])
        client = world.client("technologist")
        del client.headers["X-CSRF-Token"]
        before = database_state(person)
        assert len(UNSAFE) > 20
        for method, path in UNSAFE:
            for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x" * 32}):
                answer = client.request(method, concrete(path), headers={"Accept": "application/json", **headers})
                if answer.status_code != 403 or answer.json()["code"] != "csrf":
                    wrong.append(f"{method} {path} {headers} → {answer.status_code}")
        assert not wrong
        assert database_state(person) == before

    def test_another_origin_is_refused_with_the_token_too(self, world: World) -> None:
        client = world.client("administrator")
        for method, path in UNSAFE:
            answer = client.request(method, concrete(path), headers={"Origin": "http://evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (403, "cross-origin"), path

    def test_a_machines_key_needs_no_token_and_any_origin(self, world: World) -> None:
        machine = world.machine("C01", "stow")
        answer = machine.post("/api/admin/people", json={}, headers={"Origin": "http://elsewhere.example"})
        assert answer.status_code == 403
        assert answer.json()["code"] == "forbidden"

    def test_a_plain_form_of_ours_works_without_a_script(self, world: World) -> None:
        client = world.client("reporter")
        del client.headers["X-CSRF-Token"]
        assert client.post("/logout", content="", headers=FORM).status_code == 303

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example/",
            "\\\\evil.example",
            "javascript:alert(1)",
            "evil.example",
            "/\t/evil.example",
            "/%09/evil.example\r\nSet-Cookie: a=b",
            " //evil.example",
            "http:evil.example",
        ],
    )
    def test_login_leads_nowhere_else(self, world: World, target: str) -> None:
        answer = log_in(world, next=target)[1]
        where = answer.headers["location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\", "/\t"))
        assert "set-cookie: a=b" not in str(answer.headers).lower()
        assert "\t" not in where

    def test_login_leads_where_one_wanted_to_go(self, world: World) -> None:
        assert log_in(world, next="/read/01abc?tab=2")[1].headers["location"] == "/read/01abc?tab=2"
        answer = world.anonymous().get("/queue?state=to_read", headers={"Accept": "text/html"})
        assert answer.headers["location"] == "/login?next=%2Fqueue%3Fstate%3Dto_read"

    def test_headers_of_every_answer(self, world: World) -> None:
        client = world.client("administrator")
        for path in ("/login", "/account", "/admin/people", "/api/admin/people", "/nowhere", "/healthz", "/api/docs"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "script-src 'self'" in policy, path
            assert "unsafe-eval" not in policy
            assert "object-src 'none'" in policy
            assert "frame-ancestors 'self'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "SAMEORIGIN"
            assert headers["referrer-policy"] == "same-origin"

    def test_pages_of_a_session_are_not_kept_by_caches(self, world: World) -> None:
        assert world.client("administrator").get("/admin/people").headers["cache-control"] == "no-store"

    def test_no_page_has_inline_scripts_or_foreign_hosts(self, world: World) -> None:
        client = world.client("administrator")
        for path in ("/login", "/account", "/admin/people", "/admin/organisations", "/admin/audit", "/api/docs"):
            page = (world.anonymous() if path == "/login" else client).get(path).text
            for tag in re.findall(r"<script[^>]*>", page):
                assert 'src="/static/' in tag or 'type="application/json"' in tag, (path, tag)
            assert not re.findall(r'(?:src|href)="(?:https?:)?//', page), path
            assert not re.findall(r"\son\w+=", page), path


def database_state(person_id: str) -> tuple[Any, ...]:
    with database().reading() as session:
        person = session.get_one(Person, person_id)
        return (
            person.password_hash,
            person.totp_secret,
            person.locale,
            session.scalar(select(func.count()).select_from(Person)),
            session.scalar(select(func.count()).select_from(Organisation)),
            session.scalar(select(func.count()).select_from(ApiKey)),
        )


class TestMachines:
    def test_revoked_expired_unknown_and_inactive(self, world: World) -> None:
        token = world.key("C01", "stow")
        client = world.anonymous()
        client.headers["Authorization"] = f"Bearer {token}"

        def status() -> int:
            # The administrator's route: a valid key is told 403, any other 401.
            return client.get("/api/admin/keys").status_code

        def set_key(**values: Any) -> None:
            with database().writing() as session:
                key = session.scalars(select(ApiKey)).one()
                for name, value in values.items():
                    setattr(key, name, value)

        assert status() == 403
        set_key(revoked_at=clock.now())
        assert status() == 401
        set_key(revoked_at=None, expires_at=clock.now())
        assert status() == 401
        set_key(expires_at=clock.now() + timedelta(minutes=1))
        assert status() == 403
        with database().writing() as session:
            session.get_one(Organisation, world.orgs["C01"].id).active = False
        assert status() == 401
        client.headers["Authorization"] = "Bearer hub_unknown"
        answer = client.get("/api/admin/keys")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_a_bad_key_is_not_replaced_by_a_session(self, world: World) -> None:
        client = world.client("administrator")
        assert client.get("/api/admin/keys", headers={"Authorization": "Bearer hub_wrong"}).status_code == 401

    def test_last_use_is_written_once_a_minute(self, world: World) -> None:
        client = world.machine("C01", "stow")

        def used() -> datetime | None:
            with database().reading() as session:
                return session.scalars(select(ApiKey.last_used_at)).one()

        assert used() is None
        client.get("/api/admin/keys")
        first = used()
        assert first is not None
        later(seconds=30)
        client.get("/api/admin/keys")
        assert used() == first
        later(seconds=40)
        client.get("/api/admin/keys")
        assert (used() or first) > first

    def test_key_is_kept_as_a_hash_only(self, world: World) -> None:
        token = world.key()
        with database().reading() as session:
            key = session.scalars(select(ApiKey)).one()
        assert token not in (key.sha256, key.prefix)
        assert len(key.prefix) <= 12


class TestTransactions:
    def test_a_failing_commit_is_never_a_success(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        from sqlalchemy.orm import Session

        client = world.client("administrator")
        org = world.orgs["C01"].id
        body = {"org_id": org, "login": "somebody", "name": "某人", "roles": ["clinician"]}

        def commit(_self: Session) -> None:
            raise RuntimeError("the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr(Session, "commit", commit)
            for method, path, sent in (
                ("POST", "/api/admin/people", body),
                ("PATCH", f"/api/admin/people/{world.people['reporter'].id}", {"title": "主任"}),
                ("PATCH", f"/api/admin/organisations/{org}", {"phone": "1"}),
                ("POST", "/api/admin/keys", {"org_id": org}),
            ):
                assert client.request(method, path, json=sent).status_code == 500, path
        assert client.post("/api/admin/people", json=body).status_code == 201

    def test_a_refusal_is_recorded_although_nothing_else_is(self, world: World) -> None:
        log_in(world, password="wrong")
        assert len(audited("session.refused")) == 1
        with database().reading() as session:
            assert session.scalar(select(func.count()).select_from(LoginFailure)) == 2
            assert not session.scalar(select(func.count()).select_from(LoginSession))

    def test_text_that_no_database_keeps(self, world: World) -> None:
        client = world.client("administrator")
        org = world.orgs["C01"].id
        for name in ("\\ud800", "a\\u0000b"):
            answer = client.post(
                "/api/admin/people",
                content=f'{{"org_id":"{org}","login":"odd","name":"{name}","roles":["clinician"]}}',
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code in (201, 422), (name, answer.text)


def test_nothing_secret_and_no_patient_reaches_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Logins, refusals and errors with names, identity numbers, passwords and keys in every place of a request."""
    secrets = ["张智宏", "360731199001011234", "wrong-pass-987", PASSWORD, "13800138000"]
    caplog.set_level(logging.DEBUG)
    log_in(world, "reporter", "wrong-pass-987")
    client, _answer = log_in(world)
    secrets.append(client.cookies[sessions.SESSION_COOKIE])
    administrator = world.client("administrator")
    secrets.append(administrator.headers["X-CSRF-Token"])
    token = world.key()
    secrets.append(token)
    machine = world.anonymous()
    machine.headers["Authorization"] = f"Bearer {token}"
    machine.post("/dicomweb/studies?name=张智宏", content="360731199001011234")
    administrator.get("/admin/audit?person=张智宏&object_id=360731199001011234")
    administrator.get("/api/admin/audit?patient=360731199001011234")
    administrator.post(
        "/api/admin/people", json={"org_id": "x", "login": "张智宏", "name": "张智宏", "phone": "13800138000"}
    )
    body = {"org_id": world.orgs["C01"].id, "login": "reporter", "name": "张智宏", "roles": ["clinician"]}
    assert administrator.post("/api/admin/people", json=body).status_code == 409
    technologist = world.client("technologist")
    technologist.post("/api/exams", json={"name": "张智宏", "identity_number": "360731199001011234"})
    technologist.post("/api/exams", content='{"name": "张智宏')
    technologist.get("/clinic?q=张智宏")
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    httpx_free = "\n".join(line for line in told.splitlines() if "httpx" not in line)
    for secret in secrets:
        assert secret not in httpx_free, secret


def test_errors_are_logged_without_the_values_of_a_statement(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database error quotes its parameters: names and numbers of patients."""
    from sqlalchemy import text

    def broken(*_a: object, **_k: object) -> None:
        with database().reading() as session:
            session.execute(text("SELECT :name FROM no_such_table"), {"name": "张智宏 360731199001011234"})

    monkeypatch.setattr("hub.web.admin.people.everybody", broken)
    caplog.set_level(logging.DEBUG)
    assert world.client("administrator").get("/api/admin/people").status_code in (500, 503)
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "张智宏" not in told
    assert "360731199001011234" not in told


def test_the_account_page_names_devices() -> None:
    from hub.web.session import device

    assert device("Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.36 Chrome/109.0 Safari/537.36") == "Chrome · Windows"
    assert device("Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36 Edg/120.0") == "Edge · Windows"
    assert device("curl/8.5") == "curl"
    assert device("") == "—"
