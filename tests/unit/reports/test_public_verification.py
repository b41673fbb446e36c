"""The public page: what is needed and no more; a changed byte is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from hub.kit.db import database
from hub.kit.objects import object_store
from hub.reports.models import ReportVersion
from hub.reports.verification import mask_name
from hub.web.verification import CALLS, throttle
from support.reading import PIN, cheap_keys, claim, ok, open_key, sign, signed, submitted, write
from support.signed_reports import a_certificate


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)
    throttle.reset()
    yield
    throttle.reset()


def pdf_of(world, version):
    return world.client("reviewer").get(f"/api/reports/{version['version_id']}/pdf").content


def judge(client, pdf):
    return ok(client.post("/api/verify", files={"file": ("r.pdf", pdf, "application/pdf")}))


def test_a_code_says_what_is_needed_and_no_more(world):
    _exam, version = signed(world, name="王伟")
    found = ok(world.anonymous().get(f"/api/verify/{version['verification_code']}"))
    assert (found["verdict"], found["valid"]) == ("valid", True)
    assert found["report"]["patient"] == "王*"
    assert found["report"]["signer"] == world.people["reviewer"].name
    assert found["report"]["issuer"] == world.orgs["H01"].name
    assert "自建CA" in found["signature"]["standing"]
    page = world.anonymous().get(f"/v/{version['verification_code']}")
    assert page.status_code == 200
    for secret in ("王伟", version["findings"], version["impression"], "P0", "13807970000"):
        assert secret not in page.text
    assert page.headers["x-robots-tag"].startswith("noindex")


def test_a_code_may_be_typed_as_people_type(world):
    _exam, version = signed(world)
    code = version["verification_code"]
    typed = " ".join(code[i : i + 4] for i in range(0, 16, 4)).lower()
    assert ok(world.anonymous().get(f"/api/verify/{typed}"))["valid"]
    wrong = code[:-1] + ("2" if code[-1] != "2" else "3")
    assert world.anonymous().get(f"/api/verify/{wrong}").json()["code"] == "bad-code"
    assert world.anonymous().get("/api/verify/2222222222222222").status_code == 404
    assert world.anonymous().get(f"/v/{wrong}", headers={"Accept": "text/html"}).status_code == 404


def test_the_file_itself_and_every_change_of_it(world):
    _exam, version = signed(world)
    pdf, anybody = pdf_of(world, version), world.anonymous()
    assert judge(anybody, pdf)["verdict"] == "valid"
    for at in (30, len(pdf) // 3, len(pdf) // 2, len(pdf) - 3):
        throttle.reset()
        changed = bytearray(pdf)
        changed[at] ^= 1
        found = judge(anybody, bytes(changed))
        assert not found["valid"], at
        assert found["verdict"] in ("changed", "invalid"), at
        assert found["report"] is None
    assert judge(anybody, pdf + b"\n%appended")["verdict"] == "changed"
    assert judge(anybody, pdf[:-100])["valid"] is False
    assert judge(anybody, b"%PDF-1.7\n%%EOF\n")["verdict"] == "invalid"
    assert judge(anybody, b"hello")["problems"]


def test_a_changed_copy_of_the_hub_is_found_by_its_code(world):
    _exam, version = signed(world)
    with database().reading() as session:
        row = session.get_one(ReportVersion, version["version_id"])
        key = row.pdf_key
    body = bytearray(object_store().read(key))
    body[len(body) // 2] ^= 1
    object_store().delete(key)
    object_store().put(key, bytes(body))
    assert ok(world.anonymous().get(f"/api/verify/{version['verification_code']}"))["verdict"] == "changed"


def test_an_older_version_says_that_a_newer_one_counts(world):
    exam_id, first = signed(world)
    author, reviewer = world.client("reviewer2"), world.client("reviewer")
    second = ok(author.post(f"/api/exams/{exam_id}/amend", json={"kind": "correction", "reason": "左右"}), 201)
    second = write(author, exam_id, "", second["revision"], impression="左侧。")
    second = ok(author.post(f"/api/exams/{exam_id}/submit", json={"revision": second["revision"]}))
    open_key(reviewer)
    ok(sign(reviewer, second, ""))
    old = ok(world.anonymous().get(f"/api/verify/{first['verification_code']}"))
    assert (old["verdict"], old["valid"], old["report"]["newer_version"]) == ("superseded", True, 2)
    assert judge(world.anonymous(), pdf_of(world, first))["verdict"] == "superseded"


def test_an_addendum_adds_and_does_not_replace(world):
    exam_id, first = signed(world)
    author, reviewer = world.client("reviewer2"), world.client("reviewer")
    second = ok(author.post(f"/api/exams/{exam_id}/amend", json={"kind": "addendum", "reason": "补充测量"}), 201)
    second = write(author, exam_id, "", second["revision"])
    second = ok(author.post(f"/api/exams/{exam_id}/submit", json={"revision": second["revision"]}))
    open_key(reviewer)
    ok(sign(reviewer, second, ""))
    old = ok(world.anonymous().get(f"/api/verify/{first['verification_code']}"))
    assert (old["verdict"], old["report"]["newer_version"], old["report"]["addendum_version"]) == ("valid", None, 2)
    assert "补充" in reviewer.get(f"/reports/{first['version_id']}").text


def test_a_certificate_revoked_for_disclosure_spoils_what_has_no_time_stamp(world):
    _exam, version = signed(world)
    reviewer = world.client("reviewer")
    identity = ok(reviewer.get("/api/signing"))["identities"][0]
    ok(reviewer.post(f"/api/signing/identities/{identity['id']}/revoke", json={"reason": "keyCompromise"}))
    found = ok(world.anonymous().get(f"/api/verify/{version['verification_code']}"))
    assert not found["valid"]
    assert found["problems"]


def test_a_certificate_replaced_later_spoils_nothing(world):
    _exam, version = signed(world)
    ok(world.client("reviewer").post("/api/signing/identities", json={"pin": PIN}), 201)
    assert ok(world.anonymous().get(f"/api/verify/{version['verification_code']}"))["valid"]


def test_it_is_throttled(world):
    anybody = world.anonymous()
    codes = [anybody.get("/api/verify/2222222222222222").status_code for _n in range(CALLS + 1)]
    assert codes == [404] * CALLS + [429]


def test_the_page_gives_html_where_html_is_asked_for(world):
    _exam, version = signed(world)
    pdf = pdf_of(world, version)
    answer = world.anonymous().post(
        "/api/verify", files={"file": ("r.pdf", pdf, "application/pdf")}, headers={"Accept": "text/html"}
    )
    assert 'data-verdict="valid"' in answer.text
    assert world.anonymous().get("/verify").status_code == 200


@pytest.mark.parametrize(
    ("name", "masked"), [("王伟", "王*"), ("欧阳春梅", "欧***"), ("李", "李*"), ("", "*"), ("Müller^Hans", "M******")]
)
def test_masking(name, masked):
    assert mask_name(name) == masked


def test_the_ca_publishes_its_certificate_and_its_list(world):
    from cryptography import x509

    anybody = world.anonymous()
    assert anybody.get("/api/signing/ca.pem").status_code == 404
    reviewer = world.client("reviewer")
    for _n in range(2):
        ok(reviewer.post("/api/signing/identities", json={"pin": PIN}), 201)
    root = x509.load_pem_x509_certificate(anybody.get("/api/signing/ca.pem").content)
    crl = x509.load_der_x509_crl(anybody.get("/api/signing/ca.crl").content)
    assert crl.is_signature_valid(root.public_key())
    assert len(list(crl)) == 1


def test_an_imported_certificate_signs_and_says_so(world):
    now, password = datetime.now(UTC), "secret"
    private = ec.generate_private_key(ec.SECP256R1())
    certificate = a_certificate(private, start=now - timedelta(days=1), end=now + timedelta(days=9))
    data = pkcs12.serialize_key_and_certificates(
        b"x", private, certificate, None, serialization.BestAvailableEncryption(password.encode())
    )
    reviewer = world.client("reviewer")
    ok(
        reviewer.post(
            "/api/signing/identities/import",
            files={"file": ("my.p12", data)},
            data={"password": password, "pin": PIN},
        ),
        201,
    )
    exam_id, version = submitted(world)
    lease = claim(reviewer, exam_id)
    ok(reviewer.post("/api/signing/unlock", json={"pin": PIN}))
    done = ok(sign(reviewer, version, lease))
    found = ok(world.anonymous().get(f"/api/verify/{done['verification_code']}"))
    assert found["valid"]
    assert "自行导入" in found["signature"]["standing"]


def test_a_revoked_certificate_does_not_come_back_by_another_import(world):
    now = datetime.now(UTC)
    private = ec.generate_private_key(ec.SECP256R1())
    certificate = a_certificate(private, start=now - timedelta(days=1), end=now + timedelta(days=9))
    data = pkcs12.serialize_key_and_certificates(
        b"x", private, certificate, None, serialization.BestAvailableEncryption(b"secret")
    )

    def bring(client, pin):
        return client.post(
            "/api/signing/identities/import",
            files={"file": ("my.p12", data)},
            data={"password": "secret", "pin": pin},
        )

    reviewer = world.client("reviewer")
    first = ok(bring(reviewer, PIN), 201)
    again = ok(bring(reviewer, "741852"), 201)
    assert again["id"] == first["id"], "a forgotten PIN is replaced"
    assert reviewer.post("/api/signing/unlock", json={"pin": PIN}).status_code != 200
    ok(reviewer.post("/api/signing/unlock", json={"pin": "741852"}))
    ok(reviewer.post(f"/api/signing/identities/{first['id']}/revoke", json={"reason": "keyCompromise"}))
    for client in (reviewer, world.client("reviewer2")):
        refused = bring(client, PIN)
        assert (refused.status_code, refused.json()["code"]) == (409, "certificate-revoked")
    assert reviewer.post("/api/signing/unlock", json={"pin": PIN}).json()["code"] == "no-certificate"
