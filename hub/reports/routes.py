"""JSON API of hub.reports: drafts, review, signing, certificates, templates, public verification."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from hub.accounts.sessions import SIGNING_COOKIE
from hub.exams import repository as exam_rows
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, public, require
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.reading.schemas import LeaseAnswer, lease_of
from hub.reports import identities, images, repository, service, signing_service, templates
from hub.reports.checks import service as checks
from hub.reports.passages import Marked
from hub.reports.review import service as review
from hub.reports.schemas import (
    AmendBody,
    IdentityAnswer,
    NewPinBody,
    PinBody,
    RejectBody,
    ReportBody,
    ReportsAnswer,
    RevokeBody,
    SavedTextAnswer,
    SavedTextsAnswer,
    SignBody,
    SignedAnswer,
    SigningAnswer,
    SubmitBody,
    TemplateAnswer,
    TemplateBody,
    TemplatesAnswer,
    UnlockBody,
    UnlockedAnswer,
    VersionAnswer,
    identity_of,
    template_of,
    version_of,
)
from hub.reports.states import RELEASED

router = APIRouter(prefix="/api", tags=["reports"])

Writer = Annotated[Actor, require("report.write")]
Reviewer = Annotated[Actor, require("report.review")]
Viewer = Annotated[Actor, require("report.view")]
Signer = Annotated[Actor, require("signing.key")]
Public = Annotated[Actor, public()]

MAX_P12 = 256 * 1024
COOKIE_PATH = "/api"


# --- drafts -------------------------------------------------------------------------------------------------------


@router.get("/exams/{exam_id}/reports", summary="The versions of an exam's report")
def list_versions(exam_id: str, session: ReadDb, actor: Viewer) -> ReportsAnswer:
    """Newest first. A clinic, and another hospital, is given what was signed, or issued as preliminary, only."""
    exam = exam_rows.get(session, actor, exam_id)
    report = repository.report_of(session, exam.id)
    if report is None:
        return ReportsAnswer(versions=[])
    drafts = repository.may_see_drafts(actor, exam)
    found = [v for v in repository.versions_of(session, report.id) if drafts or v.state in RELEASED]
    return ReportsAnswer(versions=[version_of(version, report, exam) for version in found])


@router.put("/exams/{exam_id}/report", summary="Save the draft")
def save(exam_id: str, body: ReportBody, actor: Writer) -> VersionAnswer:
    """Saves the whole text.

    409 `revision-conflict` (with `current`) where somebody else saved meanwhile, `lease-lost` where the lease is gone;
    in both cases the text sent is kept on the server (`GET /api/reports/{version_id}/saved`).
    """
    with database().writing() as session:
        saved = service.save(session, actor, exam_id, lease=body.lease, revision=body.revision, content=body.content())
        answer = _answer(session, actor, saved.version.id) if saved.version is not None else None
    if saved.problem is not None:
        raise saved.problem
    assert answer is not None
    return answer


@router.post("/exams/{exam_id}/key-images", summary="Put a key image into the draft", status_code=201)
def add_key_image(
    exam_id: str,
    actor: Writer,
    file: Annotated[UploadFile, File(description="PNG or JPEG")],
    lease: Annotated[str, Form()] = "",
    caption: Annotated[str, Form()] = "",
    sop_uid: Annotated[str, Form()] = "",
    frame: Annotated[int | None, Form()] = None,
) -> VersionAnswer:
    """Taken from the viewer; printed with the report."""
    data = file.file.read(images.MAX_BYTES + 1)
    with database().reading() as session:
        exam_rows.get(session, actor, exam_id)
    image = images.store(data, caption=caption, sop_uid=sop_uid, frame=frame)
    with database().writing() as session:
        version, _entry = service.add_key_image(session, actor, exam_id, lease=lease, image=image)
        exam = exam_rows.get(session, actor, exam_id)
        report = repository.report_of(session, exam_id)
        assert report is not None
        return version_of(version, report, exam)


@router.get("/reports/{version_id}/key-images/{image_id}", response_class=Response, summary="A key image")
def key_image(version_id: str, image_id: str, request: Request, actor: Viewer) -> Response:
    """JPEG bytes."""
    with database().reading() as session:
        version, _report, _exam = repository.get_version(session, actor, version_id)
        image = next((entry for entry in version.key_images if entry["id"] == image_id), None)
    if image is None:
        raise NotFound(_("没有找到这张图像"))
    # Kept, but asked about each time: a shared workstation must not show one person's images to the next.
    headers = {"Cache-Control": "private, no-cache", "ETag": f'"{image["sha256"]}"', "Vary": "Cookie"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(object_store().read(image["key"]), media_type=image["type"], headers=headers)


@router.post("/exams/{exam_id}/submit", summary="Give the report to review")
def submit(exam_id: str, body: SubmitBody, session: WriteDb, actor: Writer) -> VersionAnswer:
    """The author's words are kept as they are now."""
    checks.answer(session, actor, exam_id, [one.answer() for one in body.answers], lease=body.lease)
    version = service.submit(session, actor, exam_id, lease=body.lease, revision=body.revision)
    return _answer(session, actor, version.id)


@router.post("/exams/{exam_id}/withdraw", summary="Take back a report that nobody reviews yet")
def withdraw(exam_id: str, session: WriteDb, actor: Writer) -> LeaseAnswer | None:
    """The author holds the exam again; null for an addendum or correction, which need no lease."""
    _version, lease = service.withdraw(session, actor, exam_id)
    return lease_of(lease) if lease else None


@router.post("/exams/{exam_id}/reject", summary="Send the report back to its author")
def reject(exam_id: str, body: RejectBody, session: WriteDb, actor: Reviewer) -> VersionAnswer:
    """With a note; the reviewer's changes stay in the draft."""
    marked = [Marked(one.field, one.start, one.end, one.comment) for one in body.passages]
    version = service.reject(
        session, actor, exam_id, lease=body.lease, note=body.note, passages=marked, revision=body.revision
    )
    return _answer(session, actor, version.id)


@router.post("/exams/{exam_id}/amend", summary="Begin an addendum or a correction", status_code=201)
def amend(exam_id: str, body: AmendBody, session: WriteDb, actor: Writer) -> VersionAnswer:
    """The signed version stays and counts until the new one is signed."""
    version = service.amend(session, actor, exam_id, kind=body.kind, reason=body.reason)
    return _answer(session, actor, version.id)


@router.post("/exams/{exam_id}/discard", summary="Give up a new version", status_code=204)
def discard(exam_id: str, session: WriteDb, actor: Writer) -> None:
    """One that was not signed."""
    service.discard(session, actor, exam_id)


@router.get("/reports/{version_id}", summary="A report version")
def get_version(version_id: str, session: ReadDb, actor: Viewer) -> VersionAnswer:
    """Texts, key images, state and the hash that a request to sign must name."""
    return _answer(session, actor, version_id)


@router.get("/reports/{version_id}/saved", summary="Texts kept beside a version")
def saved(version_id: str, session: ReadDb, actor: Writer) -> SavedTextsAnswer:
    """Overwritten words, the author's words as submitted, words of a window that had lost its lease."""
    return SavedTextsAnswer(texts=[SavedTextAnswer(**entry) for entry in service.saved_of(session, actor, version_id)])


def _answer(session: ReadDb, actor: Actor, version_id: str) -> VersionAnswer:
    version, report, exam = repository.get_version(session, actor, version_id)
    return version_of(version, report, exam)


# --- signing ------------------------------------------------------------------------------------------------------


@router.post("/reports/{version_id}/sign", summary="Sign the displayed report")
def sign(version_id: str, body: SignBody, request: Request, actor: Reviewer) -> SignedAnswer:
    """One deliberate act on one displayed report: names its revision and the hash of what stood on the screen.

    403 `key-locked`: the PIN is due (`POST /api/signing/unlock`). Sent again, it answers as the first time.
    """
    return _sign(version_id, body, request, actor, preliminary=False)


@router.post("/reports/{version_id}/issue-preliminary", summary="Issue the displayed draft as a preliminary report")
def issue_preliminary(
    version_id: str, body: SignBody, request: Request, actor: Annotated[Actor, require("report.write")]
) -> SignedAnswer:
    """Where the hospital's policy allows it: signed by its author, at the clinic at once, and the draft to review.

    The answer names the preliminary version, which is another than the draft's. Otherwise as `sign`.
    """
    return _sign(version_id, body, request, actor, preliminary=True)


def _sign(version_id: str, body: SignBody, request: Request, actor: Actor, *, preliminary: bool) -> SignedAnswer:
    # Sent again after the signature, it must answer as the first time.
    if body.review is not None and not preliminary:
        with database().writing() as session:
            version, _report, _exam = repository.get_version(session, actor, version_id)
            if version.state not in RELEASED:
                opinion = body.review.opinion()
                review.give_opinion(session, actor, version_id, lease=body.lease, opinion=opinion)
    if body.answers:
        with database().writing() as session:
            version, _report, exam = repository.get_version(session, actor, version_id)
            if version.state not in RELEASED:
                checks.answer(session, actor, exam.id, [one.answer() for one in body.answers], lease=body.lease)
    done = signing_service.sign(
        actor,
        version_id,
        lease=body.lease,
        revision=body.revision,
        shown=body.content_hash,
        cookie=request.cookies.get(SIGNING_COOKIE),
        preliminary=preliminary,
    )
    return SignedAnswer(
        version_id=done.version_id,
        exam_id=done.exam_id,
        number=done.number,
        version=done.version,
        signed_at=done.signed_at,
        verification_code=done.verification_code,
        timestamped=done.timestamped,
        pdf=f"/api/reports/{done.version_id}/pdf",
    )


@router.get("/signing", summary="My certificates, and whether my key is open")
def signing_state(request: Request, session: ReadDb, actor: Signer) -> SigningAnswer:
    """Certificates newest first."""
    state = identities.state_of(session, actor, request.cookies.get(SIGNING_COOKIE))
    return SigningAnswer(
        identities=[identity_of(row) for row in identities.identities(session, actor)],
        unlocked=state.unlocked,
        until=state.until,
        idle_until=state.idle_until,
    )


@router.post("/signing/identities", summary="Issue me a certificate by the hub's CA", status_code=201)
def issue(body: PinBody, actor: Signer) -> IdentityAnswer:
    """Its key is sealed under the PIN; earlier certificates of the CA are revoked as superseded."""
    return identity_of(identities.issue(actor, body.pin))


@router.post("/signing/identities/import", summary="Import a certificate (PKCS#12)", status_code=201)
def import_p12(
    actor: Signer,
    file: Annotated[UploadFile, File(description=".p12 or .pfx")],
    password: Annotated[str, Form(max_length=200)],
    pin: Annotated[str, Form(max_length=64)],
) -> IdentityAnswer:
    """The file and its password are not kept."""
    data = file.file.read(MAX_P12 + 1)
    return identity_of(identities.import_p12(actor, data, password, pin))


@router.post("/signing/identities/{identity_id}/pin", summary="Change the PIN")
def change_pin(identity_id: str, body: NewPinBody, actor: Signer) -> IdentityAnswer:
    """Wrong PINs are counted."""
    return identity_of(identities.set_pin(actor, identity_id, body.old, body.new))


@router.post("/signing/identities/{identity_id}/revoke", summary="Revoke a certificate")
def revoke(identity_id: str, body: RevokeBody, session: WriteDb, actor: Signer) -> IdentityAnswer:
    """Reports that it signed stay valid, unless its key was compromised."""
    return identity_of(identities.revoke(session, actor, identity_id, body.reason))


@router.post("/signing/unlock", summary="Open my key with its PIN for this session")
def unlock(body: UnlockBody, response: Response, actor: Signer) -> UnlockedAnswer:
    """Four hours at most, fifteen minutes without a signature (settings)."""
    settings = get_settings()
    opened = identities.open_for_session(actor, body.pin, identity_id=body.identity_id, settings=settings)
    response.set_cookie(
        SIGNING_COOKIE,
        opened.cookie,
        max_age=settings.signing_hours * 3600,
        path=COOKIE_PATH,
        secure=bool(settings.secure_cookies),
        httponly=True,
        samesite="strict",
    )
    return UnlockedAnswer(unlocked=True, until=opened.until)


@router.post("/signing/lock", summary="Lock my key", status_code=204)
def lock(response: Response, session: WriteDb, actor: Signer) -> None:
    """Drops the opened key of this session."""
    identities.lock(session, actor)
    response.delete_cookie(SIGNING_COOKIE, path=COOKIE_PATH)


@router.get("/signing/ca.pem", response_class=Response, summary="The certificate of the hub's CA")
def ca_certificate(session: ReadDb, actor: Public) -> Response:
    """To be trusted by whoever checks signatures with a program of his own."""
    del actor
    pem = identities.ca_certificate(session)
    if pem is None:
        raise NotFound(_("本影像中心还没有签发过证书"))
    return Response(
        pem, media_type="application/x-pem-file", headers={"Content-Disposition": 'attachment; filename="hub-ca.pem"'}
    )


@router.get("/signing/ca.crl", response_class=Response, summary="Revoked certificates (RFC 5280)")
def ca_crl(actor: Public) -> Response:
    """DER."""
    del actor
    crl = identities.revocation_list()
    if crl is None:
        raise NotFound(_("本影像中心还没有签发过证书"))
    return Response(crl, media_type="application/pkix-crl")


# --- templates ----------------------------------------------------------------------------------------------------


@router.get("/templates", summary="Report templates")
def list_templates(
    session: ReadDb,
    actor: Annotated[Actor, require("template.edit", "report.write")],
    modality: str = "",
    body_part: str = "",
) -> TemplatesAnswer:
    """The county's, my hospital's and my own."""
    found = templates.usable(session, actor, modality=modality, body_part=body_part)
    return TemplatesAnswer(templates=[template_of(row) for row in found])


@router.post("/templates", summary="Keep a template", status_code=201)
def add_template(
    body: TemplateBody, session: WriteDb, actor: Annotated[Actor, require("template.edit")]
) -> TemplateAnswer:
    """One's own; the hospital's by its reviewers, the county's by the director."""
    return template_of(templates.add(session, actor, body.model_dump(), scope=body.scope))


@router.put("/templates/{template_id}", summary="Change a template")
def change_template(
    template_id: str, body: TemplateBody, session: WriteDb, actor: Annotated[Actor, require("template.edit")]
) -> TemplateAnswer:
    """Whose it is stays."""
    return template_of(templates.change(session, actor, template_id, body.model_dump()))


@router.delete("/templates/{template_id}", summary="Remove a template", status_code=204)
def remove_template(template_id: str, session: WriteDb, actor: Annotated[Actor, require("template.edit")]) -> None:
    """One's own; the hospital's by its reviewers, the county's by the director."""
    templates.remove(session, actor, template_id)
