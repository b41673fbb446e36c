"""Public verification of reports: by code (typed, or from the QR) and by file."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from hub.kit.actor import Actor
from hub.kit.edge import public
from hub.kit.errors import NotFound, TooLarge, TooMany
from hub.kit.i18n import Message, _, translate
from hub.reports import verification
from hub.reports.states import KIND_NAMES
from hub.reports.verification import Finding
from hub.web.auth import client_ip
from hub.web.pages import locale_of, render

router = APIRouter(tags=["verification"])

Anybody = Annotated[Actor, public()]

CALLS = 30
PER_SECONDS = 60.0

VERDICTS: dict[str, tuple[str, Message, Message]] = {
    "valid": ("ok", _("有效"), _("报告由本影像中心签发,签名完好,内容没有改动。")),
    "superseded": ("warn", _("有效,但已有新版本"), _("签名完好;此后又签发了新的版本,请以新版本为准。")),
    "void": ("bad", _("已作废"), _("签名完好,但影像中心已将这次检查作废,报告不能再作为依据。请与出具报告的医院联系。")),
    "changed": ("bad", _("内容已被改动"), _("文件与签名时不一致,请不要采信,并向出具报告的医院索取原件。")),
    "invalid": ("bad", _("不能确认"), _("文件没有有效的电子签名,不能确认是本影像中心签发的报告。")),
    "unknown": ("warn", _("没有签发记录"), _("签名有效,但本影像中心没有签发这个文件的记录。")),
    "unreadable": ("warn", _("暂时无法查验"), _("有这份报告的签发记录,但暂时读不到原文件,请稍后再试。")),
}
"""Tone, headline and explanation of each verdict."""


class _Throttle:
    """At most CALLS a minute from an address: the page is open to everybody, and judging a file costs time."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Count a call.

        Raises:
            TooMany: One too many.
        """
        now = time.monotonic()
        with self._lock:
            if len(self._calls) > 10_000:
                for key in [k for k, calls in self._calls.items() if not calls or calls[-1] < now - PER_SECONDS]:
                    del self._calls[key]
            calls = self._calls[address]
            while calls and calls[0] < now - PER_SECONDS:
                calls.popleft()
            if len(calls) >= CALLS:
                raise TooMany(_("查验次数过多,请一分钟后再试"), code="verify-throttled")
            calls.append(now)

    def reset(self) -> None:
        """Forget all calls (tests)."""
        with self._lock:
            self._calls.clear()


throttle = _Throttle()


class VerifiedReport(BaseModel):
    """The public part of a report that the hub has issued."""

    number: str
    version: int
    kind: str
    issuer: str
    signed_at: datetime
    signer: str
    patient: str = Field(examples=["王*"])
    code: str
    newer_version: int | None
    newer_signed_at: datetime | None
    addendum_version: int | None
    addendum_signed_at: datetime | None
    sample: bool


class SignatureAnswer(BaseModel):
    """What the signature itself says."""

    signer: str
    organisation: str
    issuer: str
    serial: str
    signed_at: datetime | None
    timestamp: str
    standing: str = Field(description="What stands behind the certificate: the hub's own CA is no licensed CA.")


class VerificationAnswer(BaseModel):
    """The answer: `verdict` is valid, void, superseded, changed, invalid, unknown or unreadable."""

    verdict: str
    valid: bool
    tone: str
    title: str
    explanation: str
    report: VerifiedReport | None
    signature: SignatureAnswer | None
    problems: list[str]
    notes: list[str]
    sha256: str


def answer_of(finding: Finding, locale: str) -> VerificationAnswer:
    """A finding in the reader's language."""
    tone, title, explanation = VERDICTS[finding.verdict]
    issued, signature = finding.report, finding.signature
    report = None
    if issued is not None:
        report = VerifiedReport(
            number=issued.number,
            version=issued.version,
            kind=translate(KIND_NAMES[issued.kind], locale),
            issuer=issued.issuer_en if locale == "en" and issued.issuer_en else issued.issuer,
            signed_at=issued.signed_at,
            signer=issued.signer,
            patient=issued.patient,
            code=issued.code,
            newer_version=issued.newer[0] if issued.newer else None,
            newer_signed_at=issued.newer[1] if issued.newer else None,
            addendum_version=issued.added[0] if issued.added else None,
            addendum_signed_at=issued.added[1] if issued.added else None,
            sample=issued.sample,
        )
    signed = None
    if signature is not None and signature.signed and finding.verdict != "invalid":
        signed = SignatureAnswer(
            signer=signature.signer_name,
            organisation=signature.organisation,
            issuer=signature.issuer,
            serial=signature.serial,
            signed_at=signature.signed_at,
            timestamp=signature.timestamp,
            standing=translate(finding.standing, locale) if finding.standing is not None else "",
        )
    return VerificationAnswer(
        verdict=finding.verdict,
        valid=finding.verdict in ("valid", "superseded"),
        tone=tone,
        title=translate(title, locale),
        explanation=translate(explanation, locale),
        report=report,
        signature=signed,
        problems=[translate(text, locale) for text in finding.problems],
        notes=[translate(text, locale) for text in finding.notes],
        sha256=signature.sha256 if signature is not None else "",
    )


@router.get("/api/verify/{code}", summary="Verify a report by its code")
def verify_code(code: str, request: Request, actor: Anybody) -> VerificationAnswer:
    """Looks the code up and checks the hub's own copy. Says no more of the patient than 王*."""
    del actor
    throttle.check(client_ip(request))
    return answer_of(verification.by_code(code), locale_of(request))


@router.post("/api/verify", summary="Verify a report by its PDF file", response_model=VerificationAnswer)
def verify_file(
    request: Request, actor: Anybody, file: Annotated[UploadFile, File(description="The PDF")]
) -> VerificationAnswer | Response:
    """The file is judged and forgotten. Where HTML is asked for, it is the part of the page that shows the answer."""
    del actor
    throttle.check(client_ip(request))
    data = file.file.read(verification.MAX_FILE + 1)
    if len(data) > verification.MAX_FILE:
        raise TooLarge(_("文件太大"))
    answer = answer_of(verification.by_file(data), locale_of(request))
    if "text/html" in request.headers.get("accept", ""):
        return render(request, "verification/_answer.html", {"answer": answer})
    return answer


@router.get("/verify", include_in_schema=False, response_class=HTMLResponse)
def verify_page(request: Request, actor: Anybody) -> Response:
    """Enter a code or drop a file."""
    del actor
    return _page(request, {"code": "", "answer": None, "error": None})


@router.get("/v/{code}", include_in_schema=False, response_class=HTMLResponse)
def code_page(code: str, request: Request, actor: Anybody) -> Response:
    """Where the QR of a report leads."""
    del actor
    throttle.check(client_ip(request))
    try:
        answer = answer_of(verification.by_code(code), locale_of(request))
    except NotFound as error:
        return _page(request, {"code": code[:40], "answer": None, "error": error.message}, status=404)
    return _page(request, {"code": code[:40], "answer": answer, "error": None})


def _page(request: Request, values: dict[str, Any], *, status: int = 200) -> Response:
    return render(
        request,
        "verification/verify.html",
        values,
        status=status,
        headers={"X-Robots-Tag": "noindex, nofollow", "Referrer-Policy": "no-referrer"},
    )
