"""What administrators do over HTTP, and what they do not see."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.accounts.models import Person
from hub.accounts.people import ROLES_AT
from hub.accounts.roles import Role
from hub.audit import search, service
from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.patients import service as patients
from hub.sites import service as sites
from hub.sites.models import ApiKey, OrgKind

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World


@pytest.fixture
def admin(world: World) -> TestClient:
    return world.client("administrator")


def audited(action: str) -> list[AuditEntry]:
    with database().reading() as session:
        return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)))


class TestPeople:
    def add(self, admin: TestClient, world: World, **more: Any) -> Any:
        body = {"org_id": world.orgs["H01"].id, "login": "li.na", "name": "李娜", "roles": ["reporter"], **more}
        return admin.post("/api/admin/people", json=body)

    def test_add_gives_a_first_password_that_must_be_changed(self, admin: TestClient, world: World) -> None:
        made = self.add(admin, world)
        assert made.status_code == 201
        answer = world.anonymous().post("/api/session", json={"login": "li.na", "password": made.json()["password"]})
        assert answer.json()["must_change_password"]
        (entry,) = audited("person.add")
        assert entry.actor_id == world.people["administrator"].id
        assert made.json()["password"] not in str(entry.detail)
        shown = next(one for one in admin.get("/api/admin/people").json() if one["login"] == "li.na")
        assert "password" not in str(shown).replace("must_change_password", "")

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"login": "李"}, "login"),
            ({"login": ""}, "login"),
            ({"login": "a b"}, "login"),
            ({"name": "  "}, "name"),
            ({"roles": []}, "roles"),
            ({"roles": ["administrator"]}, "roles"),
            ({"roles": ["emperor"]}, "roles"),
            ({"roles": ["reporter", "reporter"]}, "roles"),
            ({"password": "short"}, "password"),
        ],
    )
    def test_wrong_values_are_named(self, admin: TestClient, world: World, more: dict[str, Any], field: str) -> None:
        answer = self.add(admin, world, **more)
        assert answer.status_code == 422
        assert any(name.split(".")[0] == field for name in answer.json()["fields"])

    def test_a_login_is_taken_once(self, admin: TestClient, world: World) -> None:
        assert self.add(admin, world, login="Reporter").status_code == 409

    @pytest.mark.parametrize("kind", list(OrgKind))
    def test_roles_fit_the_kind_of_organisation(self, admin: TestClient, world: World, kind: OrgKind) -> None:
        code = {"clinic": "C01", "hospital": "H01", "tertiary": "T01", "hub": "HUB"}[kind]
        for number, role in enumerate(Role):
            made = self.add(admin, world, org_id=world.orgs[code].id, login=f"n{number}", roles=[role.value])
            assert (made.status_code == 201) == (role in ROLES_AT[kind]), role

    def test_change(self, admin: TestClient, world: World) -> None:
        person = world.people["reporter"].id
        sent = {
            "title": "副主任医师",
            "roles": ["reporter", "reviewer"],
            "licence": {"number": "110360000012345", "scope": "医学影像", "expires": "2030-12-31"},
        }
        answer = admin.patch(f"/api/admin/people/{person}", json=sent)
        assert answer.status_code == 200
        assert {name: answer.json()[name] for name in sent} == sent
        (entry,) = audited("person.change")
        assert set(entry.detail["fields"]) == set(sent)
        assert entry.detail["roles"] == ["reporter", "reviewer"]
        admin.patch(f"/api/admin/people/{person}", json=sent)
        assert len(audited("person.change")) == 1

    def test_nobody_changes_his_own_rights(self, admin: TestClient, world: World) -> None:
        own = world.people["administrator"].id
        assert admin.patch(f"/api/admin/people/{own}", json={"active": False}).status_code == 422
        assert admin.patch(f"/api/admin/people/{own}", json={"roles": ["director"]}).status_code == 422
        assert admin.patch(f"/api/admin/people/{own}", json={"phone": "1"}).status_code == 200

    def test_deactivation_and_reset_end_the_sessions(self, admin: TestClient, world: World) -> None:
        person = world.people["reporter"].id
        for change in (
            lambda: admin.patch(f"/api/admin/people/{person}", json={"active": False}),
            lambda: admin.patch(f"/api/admin/people/{person}", json={"active": True}),
            lambda: admin.post(f"/api/admin/people/{person}/password"),
            lambda: admin.delete(f"/api/admin/people/{person}/sessions"),
        ):
            client = world.client("reporter")
            assert change().is_success
            assert client.get("/nav").status_code == 401
        with database().reading() as session:
            assert session.get_one(Person, person).must_change_password

    def test_unknown_people_are_not_found(self, admin: TestClient) -> None:
        assert admin.patch("/api/admin/people/nobody", json={"title": "x"}).status_code == 404
        assert admin.post("/api/admin/people/nobody/password").status_code == 404
        assert admin.delete("/api/admin/people/nobody/sessions").status_code == 404

    def test_page_narrows(self, admin: TestClient, world: World) -> None:
        page = admin.get("/admin/people", params={"role": "reporter", "org": world.orgs["H01"].id}).text
        assert world.people["reporter"].name in page
        assert f'data-edit="{world.people["reporter.h02"].id}"' not in page
        assert "没有符合条件的人员" in admin.get("/admin/people?q=nobody").text


class TestOrganisations:
    def test_add_with_its_readers(self, admin: TestClient, world: World) -> None:
        hospitals = [world.orgs["H02"].id, world.orgs["H01"].id]
        body = {"code": "c09", "name": "新村卫生院", "kind": "clinic", "readers": hospitals}
        made = admin.post("/api/admin/organisations", json=body)
        assert made.status_code == 201
        assert made.json()["code"] == "C09"
        with database().reading() as session:
            assert sites.readers(session)[made.json()["id"]] == hospitals
        assert admin.post("/api/admin/organisations", json=body).status_code == 409

    @pytest.mark.parametrize(
        ("more", "field"),
        [({"code": "中"}, "code"), ({"code": ""}, "code"), ({"name": " "}, "name"), ({"kind": "moon"}, "kind")],
    )
    def test_wrong_values_are_named(self, admin: TestClient, more: dict[str, str], field: str) -> None:
        answer = admin.post("/api/admin/organisations", json={"code": "X1", "name": "名", "kind": "clinic", **more})
        assert answer.status_code == 422
        assert field in answer.json()["fields"]

    def test_readers_in_another_order_and_fewer(self, admin: TestClient, world: World) -> None:
        clinic, first, second = (world.orgs[code].id for code in ("C01", "H01", "H02"))
        for wanted in ([first, second], [second, first], [second], [], [first, first]):
            assert (
                admin.put(f"/api/admin/organisations/{clinic}/readers", json={"hospitals": wanted}).status_code == 204
            )
            with database().reading() as session:
                assert sites.readers(session).get(clinic, []) == list(dict.fromkeys(wanted))
        assert audited("agreement.set")
        assert audited("agreement.end")

    def test_only_hospitals_read_for_clinics(self, admin: TestClient, world: World) -> None:
        clinic, other, hospital = (world.orgs[code].id for code in ("C01", "C02", "H01"))
        address = "/api/admin/organisations/{}/readers"
        assert admin.put(address.format(clinic), json={"hospitals": [other]}).status_code == 422
        assert admin.put(address.format(hospital), json={"hospitals": [hospital]}).status_code == 422
        assert admin.put(address.format(clinic), json={"hospitals": ["nowhere"]}).status_code == 404
        with database().reading() as session:
            assert sites.readers(session)[clinic] == [hospital]

    def test_policy_and_deactivation(self, admin: TestClient, world: World) -> None:
        hospital = world.orgs["H01"].id
        changed = admin.patch(f"/api/admin/organisations/{hospital}", json={"double_signature": False})
        assert not changed.json()["double_signature"]
        (entry,) = audited("organisation.change")
        assert entry.detail == {"fields": ["double_signature"], "double_signature": False}
        reader = world.client("reporter")
        assert admin.patch(f"/api/admin/organisations/{hospital}", json={"active": False}).status_code == 200
        assert reader.get("/nav").status_code == 401
        own = world.orgs["HUB"].id
        assert admin.patch(f"/api/admin/organisations/{own}", json={"active": False}).status_code == 422


class TestKeys:
    def test_made_shown_once_used_revoked(self, admin: TestClient, world: World) -> None:
        body = {"org_id": world.orgs["C01"].id, "label": "CT 工作站", "scopes": ["stow"], "expires_on": "2099-12-31"}
        made = admin.post("/api/admin/keys", json=body).json()
        assert made["key"].startswith("hub_")
        listed = admin.get("/api/admin/keys")
        assert made["key"] not in listed.text
        assert listed.json()[0]["scopes"] == ["stow"]
        assert made["key"] not in admin.get("/admin/organisations").text
        machine = world.anonymous()
        machine.headers["Authorization"] = f"Bearer {made['key']}"
        assert machine.get("/api/admin/keys").status_code == 403
        assert admin.delete(f"/api/admin/keys/{made['id']}").status_code == 204
        assert machine.get("/api/admin/keys").status_code == 401
        assert admin.delete("/api/admin/keys/none").status_code == 404
        assert [len(audited(action)) for action in ("key.add", "key.revoke")] == [1, 1]

    @pytest.mark.parametrize("more", [{"scopes": []}, {"scopes": ["admin"]}, {"expires_on": "2001-01-01"}])
    def test_wrong_values_are_refused(self, admin: TestClient, world: World, more: dict[str, Any]) -> None:
        answer = admin.post("/api/admin/keys", json={"org_id": world.orgs["C01"].id, **more})
        assert answer.status_code == 422

    def test_last_day_counts_in_the_countys_zone(self, admin: TestClient, world: World) -> None:
        admin.post("/api/admin/keys", json={"org_id": world.orgs["C01"].id, "expires_on": "2099-12-31"})
        with database().reading() as session:
            (key,) = session.scalars(select(ApiKey))
        assert key.expires_at is not None
        assert key.expires_at.isoformat() == "2099-12-31T16:00:00+00:00"


class TestAudit:
    @pytest.fixture(autouse=True)
    def entries(self, world: World) -> None:
        self.patient = ""
        start = clock.now() - timedelta(days=10)
        reader = world.actor("reporter")
        with database().writing() as session:
            patient = patients.ensure(session, world.orgs["C01"].id, "C-1", name="王小明", sex="M", birth_date=None)
            session.flush()
            self.patient = patient.id
            for number in range(30):
                clock.set_source(lambda at=start + timedelta(days=number / 3): at)  # type: ignore[misc]
                service.record(
                    session,
                    reader,
                    "images.view" if number % 2 else "report.view",
                    "study" if number % 2 else "report",
                    f"study-{number % 5}",
                    org_id=world.orgs["C01"].id,
                    patient_id=patient.id if number < 6 else "01other",
                    n=number,
                )
            clock.set_source(None)
            service.record(
                session, Actor(kind="machine", id="01key", name="=HYPERLINK(1)"), "study.receive", "study", "@x"
            )

    def found(self, admin: TestClient, **query: Any) -> list[dict[str, Any]]:
        answer = admin.get("/api/admin/audit", params=query)
        assert answer.status_code == 200, answer.text
        entries: list[dict[str, Any]] = answer.json()["entries"]
        return entries

    def test_by_each_thing(self, admin: TestClient, world: World) -> None:
        name = world.people["reporter"].name
        assert len(self.found(admin, person="reporter")) == 30
        assert len(self.found(admin, person=name[:1])) >= 30
        assert len(self.found(admin, person=world.people["reporter"].id)) == 30
        assert len(self.found(admin, person="01key")) == 1
        assert self.found(admin, person="%") == []
        assert self.found(admin, person="_eporter") == []
        assert len(self.found(admin, action="images.view")) == 15
        assert len(self.found(admin, action="images.")) == 15
        assert len(self.found(admin, object_type="study", object_id="study-1")) == 3
        assert len(self.found(admin, patient=self.patient)) == 6
        assert len(self.found(admin, org=world.orgs["C01"].id)) == 30
        assert len(self.found(admin, org=world.orgs["H01"].id)) == 30
        assert len(self.found(admin, patient=self.patient, action="report.view")) == 3

    def test_by_period_in_the_countys_days(self, admin: TestClient) -> None:
        day = clock.local(clock.now() - timedelta(days=5), "Asia/Shanghai").date()
        entries = self.found(admin, since=day.isoformat(), until=day.isoformat(), person="reporter")
        assert 2 <= len(entries) <= 4
        assert self.found(admin, since="9999-12-31") == []
        assert admin.get("/api/admin/audit?since=yesterday").status_code == 422
        assert admin.get("/admin/audit?since=&until=&person=").status_code == 200

    def test_pages_follow_one_another_without_gap(self, admin: TestClient) -> None:
        seen: list[int] = []
        before = None
        while True:
            query = {"limit": 7, "person": "reporter", **({"before": before} if before else {})}
            page = admin.get("/api/admin/audit", params=query).json()
            seen += [entry["id"] for entry in page["entries"]]
            before = page["next"]
            if before is None:
                break
        assert len(seen) == len(set(seen)) == 30
        assert seen == sorted(seen, reverse=True)

    def test_page_shows_rows_not_patients(self, admin: TestClient) -> None:
        page = admin.get(f"/admin/audit?patient={self.patient}")
        assert page.status_code == 200
        assert self.patient in page.text
        assert "王小明" not in page.text

    def test_export_is_logged_and_harmless_to_spreadsheets(
        self, admin: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "EXPORT_BATCH", 8)
        answer = admin.get("/api/admin/audit/export.csv?object_type=study")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="audit-')
        assert answer.text.startswith("\ufeff")
        rows = list(csv.DictReader(io.StringIO(answer.text.lstrip("\ufeff"))))
        assert len(rows) == 16
        assert rows[0]["actor_name"] == "'=HYPERLINK(1)"
        assert rows[0]["object_id"] == "'@x"
        assert "王小明" not in answer.text
        (entry,) = audited("audit.export")
        assert entry.detail == {"filter": {"object_type": "study"}}

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
    def test_no_cell_is_a_formula(self, text: str) -> None:
        assert search._cell(text).startswith("'")
        assert search._cell("plain") == "plain"

    def test_export_needs_the_permission(self, world: World) -> None:
        assert world.client("director").get("/api/admin/audit/export.csv").status_code == 403
        assert not audited("audit.export")


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_pages_speak_both_languages(world: World, locale: str) -> None:
    client = world.client("administrator")
    client.cookies.set("hub_locale", locale)
    for path, chinese, english in (
        ("/admin/people", "新增人员", "Add a person"),
        ("/admin/organisations", "新增机构", "Add an organisation"),
        ("/admin/audit", "导出 CSV", "Export CSV"),
        ("/account", "我的账户", "My account"),
        ("/api/docs", "接口说明", "OpenAPI JSON"),
    ):
        page = client.get(path)
        assert page.status_code == 200
        assert (chinese if locale == "zh" else english) in page.text
