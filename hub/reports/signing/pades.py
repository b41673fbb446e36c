"""Signing a PDF: PAdES B-B, or B-T with a time-stamp authority (ETSI EN 319 142-1), and it stays PDF/A-2.

The field is invisible (a visible stamp would bring a font of its own and break PDF/A; the page shows its own mark),
and the signature certifies the document with "no changes permitted" (ISO 32000-1 §12.8.2.2): a report is complete
when it is signed, and an addendum is a new document.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

import httpx
from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers
from pyhanko.sign.timestamps import TimeStamper
from pyhanko_certvalidator.registry import SimpleCertificateStore

from hub.kit.i18n import _
from hub.reports.signing.running import run
from hub.reports.signing.signer import DigestName, Signer, SigningError, describe

TimeStampResult = Literal["present", "missing", "not-configured"]

FIELD_NAME = "Signature1"
_TSA_TIMEOUT_S = 5.0
# Hexadecimal digits kept free for the CMS object: a chain of three RSA-4096 certificates and a time stamp fit.
_RESERVED = 32768
_MAX_TSA_ANSWER = 64 * 1024


@dataclass(frozen=True, slots=True)
class SignedPdf:
    """A signed file.

    Attributes:
        pdf: the bytes.
        sha256: their SHA-256, hexadecimal.
        timestamp: ``"present"``; ``"missing"`` if an authority is configured and gave none;
            ``"not-configured"``.
        timestamp_error: why it is missing, for the log; empty otherwise.
        serial: serial number of the signer's certificate, hexadecimal.
    """

    pdf: bytes
    sha256: str
    timestamp: TimeStampResult
    timestamp_error: str
    serial: str


class _TimeStampFailed(Exception):
    pass


class _HttpTimeStamper(TimeStamper):
    """RFC 3161 over HTTP (§3.4)."""

    def __init__(self, url: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._url = url

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        async with httpx.AsyncClient(timeout=_TSA_TIMEOUT_S, follow_redirects=False) as client:
            answer = await client.post(self._url, content=req.dump(), headers=headers)
        answer.raise_for_status()
        if len(answer.content) > _MAX_TSA_ANSWER:
            raise _TimeStampFailed("the answer is too large")
        return tsp.TimeStampResp.load(answer.content)


class _Bridge(signers.Signer):
    """pyHanko's signer over ours: hashes the signed attributes, asks once, and lives without a time stamp."""

    def __init__(self, signer: Signer, tsa_url: str | None) -> None:
        certificates = [asn1_x509.Certificate.load(c) for c in signer.chain]
        registry = SimpleCertificateStore()  # type: ignore[no-untyped-call]
        registry.register_multiple(certificates)
        # The root stays out: who trusts it has it, and nothing would protect its bytes inside the signature.
        super().__init__(
            signing_cert=asn1_x509.Certificate.load(signer.certificate), cert_registry=registry, embed_roots=False
        )
        self._signer = signer
        self._tsa_url = tsa_url
        self._answered: bytes | None = None
        self.result: TimeStampResult = "not-configured"
        self.error = ""

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
        if dry_run:
            return bytes(512)
        digest = hashlib.new(digest_algorithm, data).digest()
        answer = self._signer.sign_digest(digest, cast(DigestName, digest_algorithm))
        self._answered = answer.time_stamp
        return answer.signature

    async def unsigned_attrs(
        self,
        digest_algorithm: str,
        signature: bytes,
        signed_attrs: cms.CMSAttributes,
        timestamper: TimeStamper | None = None,
        dry_run: bool = False,
    ) -> cms.CMSAttributes | None:
        if dry_run:
            return None
        if self._answered is not None:
            token = cms.ContentInfo.load(self._answered)
        elif self._tsa_url:
            try:
                imprint = hashlib.new(digest_algorithm, signature).digest()
                token = await _HttpTimeStamper(self._tsa_url).async_timestamp(imprint, digest_algorithm)
                if len(token.dump()) > _RESERVED // 4:
                    raise _TimeStampFailed("the token is too large")
            except Exception as error:  # a report never waits for an authority outside the county
                self.result, self.error = "missing", f"{type(error).__name__}: {error}"[:300]
                return None
        else:
            return None
        self.result = "present"
        attribute = cms.CMSAttribute({"type": "signature_time_stamp_token", "values": [token]})
        return cms.CMSAttributes([attribute])


def sign_pdf(
    pdf: bytes,
    signer: Signer,
    *,
    reason: str,
    location: str,
    name: str,
    signed_at: datetime,
    tsa_url: str | None = None,
) -> SignedPdf:
    """Signs a PDF/A file once, as a whole.

    The signer is asked for exactly one signature, also when the time-stamp authority fails: then the file is signed
    without, and the result says ``"missing"``. Does network I/O if `tsa_url` is given (at most about 5 s), so call it
    outside a database transaction.

    Args:
        pdf: an unsigned file.
        reason, location, name: shown by PDF readers. Never patient data.
        signed_at: aware; the claimed time of signing (``/M``).
        tsa_url: RFC 3161 authority, or None.

    Raises:
        SigningError: the certificate is not valid at `signed_at`, the file is signed already, or the signer refused.
    """
    if signed_at.tzinfo is None:
        raise ValueError("signed_at must be aware")
    info = describe(signer.certificate)
    if not info.not_before <= signed_at <= info.not_after:
        raise SigningError(_("签名证书不在有效期内"), code="certificate-expired")
    # Without a line end before the appended part the file would stop being PDF/A (ISO 19005-2 §6.1.9: an object
    # number is preceded by an end-of-line marker).
    source = pdf if pdf.endswith((b"\n", b"\r")) else pdf + b"\n"
    bridge = _Bridge(signer, tsa_url)
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD_NAME,
        md_algorithm="sha256",
        location=location,
        reason=reason,
        name=name,
        subfilter=fields.SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=fields.MDPPerm.NO_CHANGES,
    )

    async def job() -> bytes:
        writer = IncrementalPdfFileWriter(io.BytesIO(source))
        if writer.prev.embedded_signatures:
            raise SigningError(_("该文件已经签名"), code="already-signed")
        pdf_signer = _PdfSigner(metadata, bridge, signed_at)
        out = await pdf_signer.async_sign_pdf(writer, bytes_reserved=_RESERVED)
        return bytes(out.getvalue())

    signed = run(job)
    return SignedPdf(signed, hashlib.sha256(signed).hexdigest(), bridge.result, bridge.error, info.serial)


def sign_rendered(
    render: Callable[[bool], bytes],
    signer: Signer,
    *,
    reason: str,
    location: str,
    name: str,
    signed_at: datetime,
    tsa_url: str | None = None,
) -> SignedPdf:
    """Renders and signs, so that what the page says of its time stamp is true.

    Args:
        render: gives the PDF; its argument says whether the page may claim a time stamp. It is called again with
            False, and the signer asked again, if the authority gave none.
    """

    def go(url: str | None) -> SignedPdf:
        pdf = render(url is not None)
        return sign_pdf(pdf, signer, reason=reason, location=location, name=name, signed_at=signed_at, tsa_url=url)

    if tsa_url is None:
        return go(None)
    first = go(tsa_url)
    if first.timestamp != "missing":
        return first
    second = go(None)
    return SignedPdf(second.pdf, second.sha256, "missing", first.timestamp_error, second.serial)


class _PdfSigner(signers.PdfSigner):
    """Signs at the given moment rather than at the machine's."""

    def __init__(self, metadata: signers.PdfSignatureMetadata, signer: signers.Signer, at: datetime) -> None:
        super().__init__(metadata, signer)
        self._at = at

    def init_signing_session(self, *args: Any, **kwargs: Any) -> Any:
        session = super().init_signing_session(*args, **kwargs)
        session.system_time = self._at
        return session


__all__ = ["FIELD_NAME", "SignedPdf", "TimeStampResult", "sign_pdf", "sign_rendered"]
