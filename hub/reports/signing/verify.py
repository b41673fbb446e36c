"""Judging a signed report by the file alone, and the codes that find it.

The check is stricter than a PDF reader's: the signature must cover every byte of the file except its own digits, so
that an appended update is a change even where the PDF standard would allow it. The file is never parsed as a PDF: the
byte range is read from the signature's dictionary and the bytes are hashed, so a hostile file has no parser to attack.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hub.kit.i18n import Message, _
from hub.reports.signing.running import run
from hub.reports.signing.signer import Standing, describe

if TYPE_CHECKING:
    # Twenty megabytes and a third of a second, for each process that judges or signs a file, and for no other.
    from pyhanko_certvalidator import ValidationContext

TimeStampStatus = Literal["trusted", "untrusted", "invalid", "missing"]

PROBLEMS: dict[str, Message] = {
    "not-a-pdf": _("这不是 PDF 文件"),
    "not-signed": _("文件中没有电子签名"),
    "unsupported-signature": _("不支持此种签名格式"),
    "signature-broken": _("签名数据已损坏或被改动"),
    "changed": _("文件内容在签名后被改动"),
    "appended": _("签名之后文件又被追加了内容"),
    "unknown-issuer": _("签名证书不是由受信任的机构签发"),
    "certificate-expired": _("签名时证书不在有效期内"),
    "certificate-revoked": _("签名证书已被吊销"),
    "certificate-usage": _("该证书不能用于签名"),
    "revocation-list-invalid": _("证书吊销列表无效,无法确认证书状态"),
    "timestamp-invalid": _("时间戳无效"),
    "signed-in-future": _("签名时间晚于当前时间"),
    "not-the-issued-file": _("与本影像中心签发的文件不一致"),
}
"""Why a file is not valid, by code."""

NOTES: dict[str, Message] = {
    "timestamp-missing": _("没有可信时间戳,签名时间由签名系统的时钟给出"),
    "timestamp-untrusted": _("时间戳完好,但其签发机构未列入信任"),
    "certificate-revoked-later": _("签名证书在签名之后被吊销,不影响此前的签名"),
}
"""What a reader should know although the file is valid, by code."""


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A certificate to trust (DER) and what it stands for. A self-signed personal certificate may be one too."""

    certificate: bytes
    standing: Standing


@dataclass(frozen=True, slots=True)
class Verification:
    """The judgement on a file.

    Attributes:
        valid: every check passed. False whenever `problems` is not empty.
        signed: the file bears a signature at all.
        intact: no byte of the file differs from what was signed.
        changed_after_signing: a byte was changed or something was added.
        signer_name, organisation, role, staff_number, issuer, serial: from the certificate, unproven unless `valid`.
        signed_at: the trusted time stamp's time, else the claimed one.
        standing: of the trust root that the certificate leads to; None if it leads to none.
        timestamp: see `TimeStampStatus`.
        problems: codes in `PROBLEMS`.
        notes: codes in `NOTES`.
        sha256: of the whole file, hexadecimal.
    """

    valid: bool
    signed: bool = False
    intact: bool = False
    changed_after_signing: bool = False
    signer_name: str = ""
    organisation: str = ""
    role: str = ""
    staff_number: str = ""
    issuer: str = ""
    serial: str = ""
    signed_at: datetime | None = None
    standing: Standing | None = None
    timestamp: TimeStampStatus = "missing"
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sha256: str = ""


_RANGE = re.compile(rb"/ByteRange\s*\[\s*(\d{1,10})\s+(\d{1,10})\s+(\d{1,10})\s+(\d{1,10})\s*\]")
_HEX = re.compile(rb"<((?:[0-9a-f]{2})+|(?:[0-9A-F]{2})+)>")
_CLAIMED = re.compile(rb"/M\s*\(D:(\d{14})(?:Z|([+-])(\d\d)'(\d\d)'?)?")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_SUBFILTER = re.compile(rb"/SubFilter\s*/(ETSI\.CAdES\.detached|adbe\.pkcs7\.detached)\b")
_MAX_DEPTH = 40
_MAX_BYTES = 64 * 1024 * 1024
# The page that judges files is open to everybody: a report has one signature of some ten kilobytes, and what is far
# beyond that costs time and memory to no purpose.
_MAX_SIGNATURES = 16
_MAX_HOLE = 1024 * 1024
_MAX_DICTIONARY = 64 * 1024
_MAX_CERTIFICATES = 16
_FUTURE = timedelta(minutes=10)


@dataclass(slots=True)
class _Findings:
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, code: str) -> None:
        if code not in self.problems:
            self.problems.append(code)


@dataclass(frozen=True, slots=True)
class _Signature:
    """One signature found in the file: the hole's edges, the end of what it covers, the CMS, the claimed time."""

    start: int
    stop: int
    end: int
    der: bytes
    claimed: datetime | None
    supported: bool


def verify_pdf(
    pdf: bytes,
    *,
    trust_roots: Iterable[TrustRoot],
    tsa_roots: Iterable[bytes] = (),
    revocation_lists: Iterable[bytes] = (),
    known_sha256: str | None = None,
    now: datetime | None = None,
) -> Verification:
    """Verifies a signed report by its file. Never raises for anything in the file; does no network I/O.

    Args:
        pdf: the whole file, at most 64 MiB.
        trust_roots: whom to trust, and what each stands for.
        tsa_roots: DER certificates of time-stamp authorities.
        revocation_lists: DER; only those signed by the certificate's issuer count.
        known_sha256: hash of the file as it was issued, if the report is known; another file is a problem.
        now: aware; only to notice a time of signing in the future.
    """
    sha256 = hashlib.sha256(pdf).hexdigest()
    if len(pdf) > _MAX_BYTES or not pdf.startswith(b"%PDF-"):
        return Verification(valid=False, problems=("not-a-pdf",), sha256=sha256)
    found = _signatures(pdf)
    if not found:
        broken = b"/ByteRange" in pdf
        return Verification(
            valid=False,
            signed=broken,
            changed_after_signing=broken,
            problems=("signature-broken",) if broken else ("not-signed",),
            sha256=sha256,
        )
    findings = _Findings()
    # The first signature is the report's own; whatever comes after it is a change.
    signature = min(found, key=lambda s: s.end)
    if signature.end != len(pdf):
        findings.add("appended")
    if known_sha256 is not None and not secrets.compare_digest(known_sha256.lower(), sha256):
        findings.add("not-the-issued-file")
    try:
        result = _judge(pdf, signature, list(trust_roots), list(tsa_roots), list(revocation_lists), findings)
    except Exception:  # a hostile or damaged CMS object fails in many ways, and all mean the same
        findings.add("signature-broken")
        result = Verification(valid=False, signed_at=signature.claimed)
    if result.signed_at and result.signed_at > (now or datetime.now(UTC)) + _FUTURE:
        findings.add("signed-in-future")
    changed = bool({"changed", "appended", "signature-broken", "not-the-issued-file"} & set(findings.problems))
    return replace(
        result,
        valid=not findings.problems,
        signed=True,
        intact=not changed and "timestamp-invalid" not in findings.problems,
        changed_after_signing=changed,
        problems=tuple(findings.problems),
        notes=tuple(findings.notes),
        sha256=sha256,
    )


def _signatures(pdf: bytes) -> list[_Signature]:
    """Signature dictionaries whose byte range brackets exactly one hexadecimal string (ISO 32000-1 §12.8.1).

    Text that merely looks like a byte range cannot pass: its numbers must point at the edges of such a string.
    """
    out: list[_Signature] = []
    matches = list(itertools.islice(_RANGE.finditer(pdf), _MAX_SIGNATURES + 1))
    if len(matches) > _MAX_SIGNATURES:
        return []
    for match in matches:
        zero, start, stop, rest = (int(g) for g in match.groups())
        if zero or not 0 < start < stop <= len(pdf) or stop + rest > len(pdf) or stop - start > _MAX_HOLE:
            continue
        digits = _HEX.fullmatch(pdf, start, stop)
        if digits is None:
            continue
        der = bytes.fromhex(digits.group(1).decode("ascii"))
        near = max(start - _MAX_DICTIONARY, 0)
        head = pdf[max(pdf.rfind(b"obj", near, start), near) : start]
        tail_end = pdf.find(b"endobj", stop, stop + _MAX_DICTIONARY)
        dictionary = head + b" " + pdf[stop : tail_end if tail_end >= 0 else stop]
        out.append(
            _Signature(start, stop, stop + rest, der, _claimed(dictionary), _SUBFILTER.search(dictionary) is not None)
        )
    return out


def _claimed(dictionary: bytes) -> datetime | None:
    # A writer may escape any character of a string by its octal number (ISO 32000-1 §7.3.4.2).
    plain = _OCTAL.sub(lambda m: bytes([int(m.group(1), 8) & 0xFF]), dictionary)
    match = _CLAIMED.search(plain)
    if match is None:
        return None
    digits, sign, hours, minutes = match.groups()
    try:
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == b"-" else offset)
        local = datetime.strptime(digits.decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=zone)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _judge(
    pdf: bytes,
    signature: _Signature,
    trust_roots: Sequence[TrustRoot],
    tsa_roots: Sequence[bytes],
    revocation_lists: Sequence[bytes],
    findings: _Findings,
) -> Verification:
    if not signature.supported:
        findings.add("unsupported-signature")
    signed_data, signer_info, leaf = _opened(signature.der)
    info = describe(leaf)
    result = Verification(
        valid=False,
        signer_name=info.name,
        organisation=info.organisation,
        role=info.role,
        staff_number=info.staff_number,
        issuer=info.issuer,
        serial=info.serial,
        signed_at=signature.claimed,
    )
    covered = pdf[: signature.start] + pdf[signature.stop : signature.end]

    # First round: does it hold, and what does the time stamp say? Trust is asked at the moment of signing.
    moment = signature.claimed or info.not_before
    tsa_context = _context(tsa_roots, None)
    status = _cms_status(covered, signed_data, _context([r.certificate for r in trust_roots], moment), tsa_context)
    if not status.intact:
        findings.add("changed")
    if not status.valid:
        findings.add("signature-broken")

    stamp = status.timestamp_validity
    timestamp: TimeStampStatus = "missing"
    signed_at = signature.claimed
    if stamp is not None:
        if not (stamp.valid and stamp.intact):
            timestamp = "invalid"
            findings.add("timestamp-invalid")
        elif stamp.trusted:
            timestamp, signed_at = "trusted", stamp.timestamp.astimezone(UTC)
            status = _cms_status(
                covered, signed_data, _context([r.certificate for r in trust_roots], signed_at), tsa_context
            )
        else:
            timestamp = "untrusted"
    elif len(signer_info["unsigned_attrs"]):
        findings.add("signature-broken")
    if signed_at is None:
        findings.add("signature-broken")
    if timestamp in {"missing", "untrusted"}:
        findings.notes.append(f"timestamp-{timestamp}")

    standing: Standing | None = None
    if status.trusted:
        anchor = _anchor(status)
        standing = next((r.standing for r in trust_roots if r.certificate == anchor), None)
        _only_the_path(signed_data, status, findings)
    elif signed_at is not None and not info.not_before <= signed_at <= info.not_after:
        findings.add("certificate-expired")
    elif not _may_sign(leaf):
        findings.add("certificate-usage")
    else:
        findings.add("unknown-issuer")
    if standing is None and status.trusted:
        findings.add("unknown-issuer")

    _revocation(leaf, status, trust_roots, revocation_lists, signed_at, timestamp == "trusted", findings)
    return replace(result, standing=standing, timestamp=timestamp, signed_at=signed_at)


def _opened(padded: bytes) -> tuple[cms.SignedData, cms.SignerInfo, bytes]:
    """The CMS object in its one permitted form; anything else in the hole counts as damage.

    The hole is the only part of the file that the signature does not cover, so what is not proven there by the
    signature itself must have exactly the form that a signer writes: DER, one signer, zeros behind.

    Raises:
        ValueError: another form.
    """
    length = _der_length(padded)
    der, padding = padded[:length], padded[length:]
    if padding.strip(b"\x00"):
        raise ValueError("bytes behind the signature")
    _check_der(der)
    content = cms.ContentInfo.load(der, strict=True)
    signed_data = content["content"]
    signer_infos = signed_data["signer_infos"]
    encapsulated = signed_data["encap_content_info"]
    if (
        content["content_type"].native != "signed_data"
        or signed_data["version"].native != "v1"  # RFC 5652 §5.1: "data" and no attribute certificates
        or len(signer_infos) != 1
        or signer_infos[0]["version"].native != "v1"
        or encapsulated["content_type"].native != "data"
        or encapsulated["content"].native is not None
        or len(signed_data["crls"])
        or len(signed_data["digest_algorithms"]) != 1
        or signed_data["digest_algorithms"][0].dump() != signer_infos[0]["digest_algorithm"].dump()
    ):
        raise ValueError("an unusual signature")
    if signer_infos[0]["sid"].name != "issuer_and_serial_number":
        raise ValueError("an unusual signer identifier")
    for attribute in signer_infos[0]["unsigned_attrs"]:
        if attribute["type"].native != "signature_time_stamp_token":
            raise ValueError("an unknown unsigned attribute")
        for token in attribute["values"]:
            _few_paths(token["content"]["certificates"], of_a_name=2)
    _few_paths(signed_data["certificates"], of_a_name=1)
    identifier = signer_infos[0]["sid"].chosen
    for choice in signed_data["certificates"]:
        certificate = choice.chosen
        if (
            choice.name == "certificate"
            and certificate.serial_number == identifier["serial_number"].native
            and certificate.issuer.dump() == identifier["issuer"].dump()
        ):
            return signed_data, signer_infos[0], certificate.dump()
    raise ValueError("the signer's certificate is missing")


def _few_paths(certificates: Any, *, of_a_name: int) -> None:
    """Whoever searches a path tries every order of certificates that name each other: a few of a name must do.

    Raises:
        ValueError: more of them.
    """
    names = Counter(choice.chosen.subject.dump() for choice in certificates)
    if names.total() > _MAX_CERTIFICATES or max(names.values(), default=0) > of_a_name:
        raise ValueError("too many certificates")


def _der_length(data: bytes) -> int:
    """Length of the DER object at the start of `data` (ITU-T X.690 §8.1.3)."""
    if len(data) < 4 or data[0] != 0x30:
        raise ValueError("not a sequence")
    if data[1] < 0x80:
        return 2 + data[1]
    octets = data[1] & 0x7F
    if not 1 <= octets <= 4:
        raise ValueError("an impossible length")
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")


def _check_der(data: bytes, depth: int = 0) -> None:
    """Lengths in their shortest form, and each constructed value filled exactly by its parts (X.690 §10.1).

    Raises:
        ValueError: otherwise.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    position = 0
    while position < len(data):
        tag = data[position]
        if tag == 0 or tag & 0x1F == 0x1F or position + 2 > len(data):
            raise ValueError("an impossible tag")
        length, begin = data[position + 1], position + 2
        if length >= 0x80:
            octets = data[begin : begin + (length & 0x7F)]
            length, begin = int.from_bytes(octets, "big"), begin + len(octets)
            if not 1 <= len(octets) <= 4 or octets[0] == 0 or length < 0x80:
                raise ValueError("a length not in its shortest form")
        if begin + length > len(data):
            raise ValueError("a value longer than its container")
        if tag & 0x20:
            _check_der(data[begin : begin + length], depth + 1)
        position = begin + length


def _context(roots: Sequence[bytes], moment: datetime | None) -> ValidationContext:
    from pyhanko_certvalidator import ValidationContext

    return ValidationContext(
        trust_roots=[asn1_x509.Certificate.load(r) for r in roots],
        allow_fetching=False,
        revocation_mode="soft-fail",
        moment=moment,
    )


def _cms_status(covered: bytes, signed_data: cms.SignedData, context: Any, tsa_context: Any) -> Any:
    from pyhanko.sign.validation.generic_cms import async_validate_detached_cms
    from pyhanko.sign.validation.settings import KeyUsageConstraints

    usage = KeyUsageConstraints(key_usage={"non_repudiation", "digital_signature"}, match_all_key_usages=False)
    return run(
        lambda: async_validate_detached_cms(
            covered,
            signed_data,
            signer_validation_context=context,
            ts_validation_context=tsa_context,
            key_usage_settings=usage,
        )
    )


def _path(status: Any) -> list[bytes]:
    """DER certificates from the trust root to the signer."""
    return [certificate.dump() for certificate in status.validation_path.iter_certs(include_root=True)]


def _anchor(status: Any) -> bytes:
    return _path(status)[0]


def _only_the_path(signed_data: cms.SignedData, status: Any, findings: _Findings) -> None:
    """Certificates beside the path prove nothing and nothing protects them: there must be none."""
    path = set(_path(status))
    if any(choice.chosen.dump() not in path for choice in signed_data["certificates"]):
        findings.add("signature-broken")


def _may_sign(leaf: bytes) -> bool:
    try:
        usage = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.digital_signature or usage.content_commitment


def _revocation(
    leaf: bytes,
    status: Any,
    trust_roots: Sequence[TrustRoot],
    revocation_lists: Sequence[bytes],
    signed_at: datetime | None,
    trusted_time: bool,
    findings: _Findings,
) -> None:
    """A revoked certificate spoils what it signed afterwards.

    Where the key was compromised, a claimed time proves nothing: only a trusted time stamp saves older signatures.
    """
    certificate = x509.load_der_x509_certificate(leaf)
    issuers = [x509.load_der_x509_certificate(r.certificate) for r in trust_roots]
    if status.trusted:
        issuers += [x509.load_der_x509_certificate(c) for c in _path(status)]
    issuers = [i for i in issuers if i.subject == certificate.issuer]
    for data in revocation_lists:
        try:
            crl = x509.load_der_x509_crl(data)
        except ValueError:
            findings.add("revocation-list-invalid")
            continue
        if crl.issuer != certificate.issuer or not issuers:
            continue
        if not any(_signed_by(crl, issuer) for issuer in issuers):
            findings.add("revocation-list-invalid")
            continue
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None:
            continue
        try:
            compromised = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason in {
                x509.ReasonFlags.key_compromise,
                x509.ReasonFlags.ca_compromise,
            }
        except x509.ExtensionNotFound:
            compromised = False
        before = signed_at is not None and signed_at < entry.revocation_date_utc
        if before and (trusted_time or not compromised):
            findings.notes.append("certificate-revoked-later")
        else:
            findings.add("certificate-revoked")


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, ValueError):
        return False


# ---- verification codes --------------------------------------------------------------------------------------------

# No 0 O 1 I L: nobody reads them off paper reliably. 31 letters is a prime, which makes the check character see every
# single wrong letter and every swap of two.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_RANDOM_LETTERS = 15
_SEPARATORS = re.compile(r"[\s\-_.·‐-―]+")


class BadCode(ValueError):
    """Not a verification code: wrong length, a letter that codes do not use, or a typing mistake."""


def new_verification_code() -> str:
    """A new code such as ``"7KQ2-M9XD-4TWB-3HZC"``: 15 random letters (74 bits) and a check letter."""
    body = "".join(secrets.choice(ALPHABET) for _n in range(_RANDOM_LETTERS))
    return format_code(body + _check_letter(body))


def normalise_code(text: str) -> str:
    """What a person typed as the 16 letters to look up: any case, full width, spaces and dashes are forgiven.

    Raises:
        BadCode: it cannot be a code that this hub issued.
    """
    code = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text[:200])).upper()
    if len(code) != _RANDOM_LETTERS + 1 or any(c not in ALPHABET for c in code):
        raise BadCode("not a verification code")
    if _check_letter(code[:-1]) != code[-1]:
        raise BadCode("the check letter does not fit")
    return code


def format_code(code: str) -> str:
    """The 16 letters in groups of four."""
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))


def _check_letter(body: str) -> str:
    total = sum((position + 2) * ALPHABET.index(letter) for position, letter in enumerate(body))
    return ALPHABET[total % len(ALPHABET)]


__all__ = [
    "ALPHABET",
    "NOTES",
    "PROBLEMS",
    "BadCode",
    "TimeStampStatus",
    "TrustRoot",
    "Verification",
    "format_code",
    "new_verification_code",
    "normalise_code",
    "verify_pdf",
]
