"""Keys under a PIN, the hub's CA, imported certificates, and the signature that foreign tools see."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from hub.reports.document import KeyFigure, render_pdf
from hub.reports.signing import ca, signer
from hub.reports.signing.pades import SignedPdf, sign_pdf, sign_rendered
from hub.reports.signing.pkcs12 import Pkcs12Error, import_pkcs12
from hub.reports.signing.signer import (
    KeyLocked,
    SealedKey,
    SignatureAnswer,
    SigningError,
    Standing,
    UnlockedKey,
    WeakPin,
    WrongPin,
    change_pin,
    describe,
    open_session,
    reseal_for_session,
    unlock,
)
from hub.reports.signing.verify import TrustRoot, verify_pdf
from support.signed_reports import (
    CHEAP,
    NOW,
    PIN,
    SECRET,
    a_certificate,
    a_county,
    a_report,
    a_time_stamp_authority,
)
from support.verapdf.run import VeraPdfMissing, pdfa_problems


def sign(pdf: bytes | None = None, key: signer.Signer | None = None, **changes: Any) -> SignedPdf:
    words: dict[str, Any] = {"reason": "签发诊断报告", "location": "于都县人民医院", "name": "陈喆", "signed_at": NOW}
    return sign_pdf(pdf or render_pdf(a_report()).bytes, key or a_county().key, **{**words, **changes})


# ---- keys and PINs -------------------------------------------------------------------------------------------------


def test_a_key_opens_only_with_its_pin() -> None:
    sealed = SealedKey.from_json(a_county().sealed.to_json())
    assert sealed == a_county().sealed
    assert unlock(sealed, PIN, pepper=b"pepper") == a_county().key
    for pin, pepper in [("258037", b"pepper"), (PIN, b""), (PIN, b"other"), ("", b"pepper"), (PIN + "0", b"pepper")]:
        with pytest.raises(WrongPin):
            unlock(sealed, pin, pepper=pepper)


def test_a_sealed_key_shows_nothing_of_the_key() -> None:
    county = a_county()
    assert county.key.private.hex() not in repr(county.key)
    assert county.key.private not in county.sealed.ciphertext


def test_a_sealed_key_cannot_be_given_another_owner() -> None:
    county = a_county()
    other = ca.issue(county.ca, ca.Subject("别人", "医院", "R2"), PIN, now=NOW, pepper=b"pepper", cost=CHEAP)
    for forged in (
        replace(county.sealed, certificate=other.certificate),
        replace(county.sealed, standing=Standing.LICENSED),
        replace(county.sealed, chain=()),
        replace(county.sealed, ciphertext=bytes([county.sealed.ciphertext[0] ^ 1]) + county.sealed.ciphertext[1:]),
    ):
        with pytest.raises(WrongPin):
            unlock(forged, PIN, pepper=b"pepper")


@pytest.mark.parametrize(
    "pin", ["", "12345", "123456", "654321", "000000", "890123", "abcdef", "25803", "258036", "2" * 65]
)
def test_weak_pins(pin: str) -> None:
    if pin == PIN:
        signer.check_pin(pin)
        return
    with pytest.raises(WeakPin):
        ca.issue(a_county().ca, ca.Subject("甲", "乙", "1"), pin, now=NOW, cost=CHEAP)


def test_change_pin() -> None:
    changed = change_pin(a_county().sealed, PIN, "901527", pepper=b"pepper")
    assert unlock(changed, "901527", pepper=b"pepper") == a_county().key
    with pytest.raises(WrongPin):
        unlock(changed, PIN, pepper=b"pepper")
    with pytest.raises(WrongPin):
        change_pin(changed, PIN, "901528", pepper=b"pepper")
    with pytest.raises(WeakPin):
        change_pin(changed, "901527", "111111", pepper=b"pepper")


def test_session() -> None:
    blob, session_key = reseal_for_session(a_county().key, binding=b"session 1")
    assert len(session_key) == 32
    assert a_county().key.private not in blob
    assert open_session(blob, session_key, binding=b"session 1") == a_county().key
    for b, k, s in [
        (blob, bytes(32), b"session 1"),
        (blob, session_key, b"session 2"),
        (blob[:-1] + bytes([blob[-1] ^ 1]), session_key, b"session 1"),
        (blob, b"", b"session 1"),
        (b"", session_key, b"session 1"),
    ]:
        with pytest.raises(KeyLocked):
            open_session(b, k, binding=s)
    assert reseal_for_session(a_county().key)[1] != session_key


def test_not_a_sealed_key() -> None:
    for text in ("", "{}", "[]", '{"v": 2}', "null"):
        with pytest.raises(ValueError):
            SealedKey.from_json(text)


# ---- the hub's CA --------------------------------------------------------------------------------------------------


def test_certificates() -> None:
    county = a_county()
    root = x509.load_der_x509_certificate(county.ca.certificate)
    leaf = x509.load_der_x509_certificate(county.sealed.certificate)
    leaf.verify_directly_issued_by(root)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.content_commitment
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    info = describe(county.sealed.certificate)
    assert (info.name, info.organisation, info.staff_number, info.role) == (
        "陈喆",
        "于都县人民医院",
        "R0012",
        "审核医师",
    )
    assert info.issuer == "测试影像中心自建CA"
    assert county.sealed.chain == (county.ca.certificate,)
    assert info.not_before < NOW < info.not_after <= root.not_valid_after_utc


def test_the_ca_opens_only_with_the_hubs_secret() -> None:
    sealed = ca.create_ca("CA", "县", SECRET, now=NOW, cost=CHEAP)
    assert ca.open_ca(sealed, SECRET).certificate == sealed.certificate
    with pytest.raises(WrongPin):
        ca.open_ca(sealed, ca.passphrase("another secret"))
    assert ca.passphrase("x") != ca.pepper("x")


def test_a_certificate_never_outlives_the_root() -> None:
    opened = ca.open_ca(ca.create_ca("CA", "县", SECRET, now=NOW, years=1, cost=CHEAP), SECRET)
    sealed = ca.issue(opened, ca.Subject("甲", "乙" * 90, "1"), PIN, now=NOW + timedelta(days=200), cost=CHEAP)
    assert describe(sealed.certificate).not_after == describe(opened.certificate).not_after


# ---- imported certificates -----------------------------------------------------------------------------------------


def p12(key: Any, certificate: x509.Certificate | None, others: Sequence[x509.Certificate] = ()) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"x", key, certificate, list(others), serialization.BestAvailableEncryption("密码".encode())
    )


def imported(data: bytes, password: str = "密码", **changes: Any) -> SealedKey:
    return import_pkcs12(data, password, PIN, now=NOW, cost=CHEAP, **changes)


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
def test_import_and_sign(kind: str) -> None:
    root_key = rsa.generate_private_key(65537, 2048)
    root = a_certificate(root_key, "外部CA", is_ca=True)
    middle_key = ec.generate_private_key(ec.SECP256R1())
    middle = a_certificate(middle_key, "外部二级CA", issuer=(root, root_key), is_ca=True)
    key: Any = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    leaf = a_certificate(key, issuer=(middle, middle_key))
    stranger = a_certificate(root_key, "无关", is_ca=True)
    sealed = imported(p12(key, leaf, [stranger, root, middle]))
    assert [describe(c).name for c in sealed.chain] == ["外部二级CA", "外部CA"]
    assert sealed.standing is Standing.IMPORTED
    signed = sign(key=unlock(sealed, PIN))
    result = verify_pdf(signed.pdf, trust_roots=[TrustRoot(sealed.chain[-1], Standing.IMPORTED)])
    assert result.valid, result.problems
    assert result.standing is Standing.IMPORTED
    assert verify_pdf(signed.pdf, trust_roots=a_county().trust).problems == ("unknown-issuer",)


def test_a_self_signed_import_can_be_trusted_itself() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = imported(p12(key, a_certificate(key)))
    assert sealed.chain == ()
    signed = sign(key=unlock(sealed, PIN))
    result = verify_pdf(signed.pdf, trust_roots=[TrustRoot(sealed.certificate, Standing.IMPORTED)])
    assert result.valid, result.problems


def test_unusable_imports() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    good = p12(key, a_certificate(key))
    short = rsa.generate_private_key(65537, 1024)
    koblitz = ec.generate_private_key(ec.SECP256K1())
    old = dsa.generate_private_key(2048)
    cases: list[tuple[str, bytes, str]] = [
        ("p12-password", good, "wrong"),
        ("p12-password", good[:-20], "密码"),
        ("p12-password", b"", "密码"),
        ("p12-too-large", bytes(300_000), "密码"),
        ("p12-no-key", p12(None, None, [a_certificate(key)]), "密码"),
        ("p12-expired", p12(key, a_certificate(key, end=NOW - timedelta(hours=1))), "密码"),
        ("p12-not-yet-valid", p12(key, a_certificate(key, start=NOW + timedelta(hours=1))), "密码"),
        ("p12-key-size", p12(short, a_certificate(short)), "密码"),
        ("p12-key-type", p12(koblitz, a_certificate(koblitz)), "密码"),
        ("p12-is-ca", p12(key, a_certificate(key, is_ca=True)), "密码"),
        ("p12-key-usage", p12(key, a_certificate(key, usage={"key_encipherment": True})), "密码"),
        ("p12-key-usage", p12(key, a_certificate(key, extended=[ExtendedKeyUsageOID.SERVER_AUTH])), "密码"),
        ("p12-key-type", p12(old, a_certificate(old)), "密码"),  # type: ignore[arg-type]
    ]
    for code, data, password in cases:
        with pytest.raises(Pkcs12Error) as caught:
            imported(data, password)
        assert caught.value.code == code, code
    with pytest.raises(WeakPin):
        import_pkcs12(good, "密码", "123456", now=NOW)


# ---- signing -------------------------------------------------------------------------------------------------------


def test_sign_and_verify() -> None:
    signed = sign()
    assert signed.timestamp == "not-configured"
    assert signed.sha256 == hashlib.sha256(signed.pdf).hexdigest()
    result = verify_pdf(signed.pdf, trust_roots=a_county().trust)
    assert result.valid, result.problems
    assert result.signed_at == NOW
    assert result.serial == signed.serial == describe(a_county().sealed.certificate).serial


def test_sign_inside_an_event_loop() -> None:
    async def job() -> bytes:
        return sign().pdf

    assert verify_pdf(asyncio.run(job()), trust_roots=a_county().trust).valid


def test_a_signer_is_only_digest_out_and_signature_back() -> None:
    """A token or a cloud sees one digest, once, and may bring the time stamp itself."""
    key = a_county().key
    asked: list[tuple[int, str]] = []

    class Token:
        certificate = key.certificate
        chain = key.chain
        standing = Standing.LICENSED

        def sign_digest(self, digest: bytes, algorithm: signer.DigestName) -> SignatureAnswer:
            asked.append((len(digest), algorithm))
            return key.sign_digest(digest, algorithm)

    with a_time_stamp_authority(NOW) as authority:
        authority.broken = b"no"
        signed = sign(key=Token(), tsa_url=authority.url)
    assert asked == [(32, "sha256")]
    assert signed.timestamp == "missing"
    assert verify_pdf(signed.pdf, trust_roots=a_county().trust).valid


def test_a_refusing_signer() -> None:
    class Gone:
        certificate = a_county().key.certificate
        chain = a_county().key.chain
        standing = Standing.LICENSED

        def sign_digest(self, digest: bytes, algorithm: signer.DigestName) -> SignatureAnswer:
            raise SigningError("token removed", code="token-gone")

    with pytest.raises(SigningError) as caught:
        sign(key=Gone())
    assert caught.value.code == "token-gone"


def test_time_stamp() -> None:
    with a_time_stamp_authority(NOW + timedelta(seconds=3)) as authority:
        signed = sign(tsa_url=authority.url)
    assert signed.timestamp == "present"
    result = verify_pdf(signed.pdf, trust_roots=a_county().trust, tsa_roots=[authority.certificate])
    assert result.valid, result.problems
    assert result.timestamp == "trusted"
    assert result.signed_at == NOW + timedelta(seconds=3)
    assert result.notes == ()
    unknown = verify_pdf(signed.pdf, trust_roots=a_county().trust)
    assert unknown.valid
    assert unknown.timestamp == "untrusted"
    assert unknown.signed_at == NOW


@pytest.mark.parametrize("answer", [None, b"", b"not a time stamp", b"0" * 70_000])
def test_a_failing_authority_does_not_hold_the_report(answer: bytes | None) -> None:
    if answer is None:
        signed = sign(tsa_url="http://127.0.0.1:9/")
    else:
        with a_time_stamp_authority(NOW) as authority:
            authority.broken = answer
            signed = sign(tsa_url=authority.url)
    assert signed.timestamp == "missing"
    assert signed.timestamp_error
    assert verify_pdf(signed.pdf, trust_roots=a_county().trust).notes == ("timestamp-missing",)


def test_the_page_tells_the_truth_about_its_time_stamp() -> None:
    asked: list[bool] = []

    def render(time_stamp: bool) -> bytes:
        asked.append(time_stamp)
        doc = a_report()
        assert doc.signature is not None
        return render_pdf(replace(doc, signature=replace(doc.signature, time_stamp=time_stamp))).bytes

    words: dict[str, Any] = {"reason": "r", "location": "l", "name": "n", "signed_at": NOW}
    with a_time_stamp_authority(NOW) as authority:
        assert sign_rendered(render, a_county().key, tsa_url=authority.url, **words).timestamp == "present"
        authority.broken = b"no"
        failed = sign_rendered(render, a_county().key, tsa_url=authority.url, **words)
    assert sign_rendered(render, a_county().key, **words).timestamp == "not-configured"
    assert failed.timestamp == "missing"
    assert asked == [True, True, False, False]


def test_refuses_what_must_not_be_signed() -> None:
    with pytest.raises(SigningError) as caught:
        sign(signed_at=NOW + timedelta(days=4000))
    assert caught.value.code == "certificate-expired"
    with pytest.raises(SigningError) as caught:
        sign(sign().pdf)
    assert caught.value.code == "already-signed"


# ---- strangers -----------------------------------------------------------------------------------------------------


def pdfsig(pdf: bytes, folder: Path, *arguments: str) -> str:
    if shutil.which("pdfsig") is None:
        pytest.skip("pdfsig is not installed")
    path = folder / "signed.pdf"
    path.write_bytes(pdf)
    return subprocess.run(
        ["pdfsig", *arguments, str(path)], capture_output=True, text=True, timeout=60, check=False
    ).stdout


@pytest.mark.stranger
def test_pdfsig_says_valid(tmp_path: Path) -> None:
    with a_time_stamp_authority(NOW) as authority:
        stamped = sign(tsa_url=authority.url)
    for signed in (sign(), stamped):
        said = pdfsig(signed.pdf, tmp_path)
        assert "Signature is Valid." in said, said
        assert "Total document signed" in said
        assert "ETSI.CAdES.detached" in said
        assert "陈喆" in said


@pytest.mark.stranger
def test_pdfsig_says_valid_for_imported_rsa(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    sealed = imported(p12(key, a_certificate(key)))
    assert "Signature is Valid." in pdfsig(sign(key=unlock(sealed, PIN)).pdf, tmp_path)


@pytest.mark.stranger
def test_pdfsig_trusts_the_root_once_told(tmp_path: Path) -> None:
    if shutil.which("certutil") is None:
        pytest.skip("certutil is not installed")
    store = tmp_path / "nss"
    store.mkdir()
    root = tmp_path / "root.pem"
    root.write_bytes(ca.to_pem(a_county().ca.certificate))
    for command in (["-N", "--empty-password"], ["-A", "-n", "hub", "-t", "C,C,C", "-i", str(root)]):
        subprocess.run(["certutil", "-d", f"sql:{store}", *command], check=True, capture_output=True, timeout=60)
    said = pdfsig(sign().pdf, tmp_path, "-nssdir", f"sql:{store}")
    assert "Certificate is Trusted." in said, said


@pytest.mark.stranger
def test_pdfsig_finds_a_changed_byte(tmp_path: Path) -> None:
    pdf = bytearray(sign().pdf)
    place = re.search(rb"stream\r?\n", pdf)
    assert place is not None
    pdf[place.end() + 40] ^= 1
    assert "Signature is Valid." not in pdfsig(bytes(pdf), tmp_path)


@pytest.mark.stranger
@pytest.mark.slow
def test_still_pdfa_2b_after_signing(tmp_path: Path) -> None:
    unsigned = render_pdf(a_report(sample=True)).bytes
    with a_time_stamp_authority(NOW) as authority:
        files = {
            "unsigned.pdf": unsigned,
            "signed.pdf": sign(unsigned).pdf,
            "stamped.pdf": sign(unsigned, tsa_url=authority.url).pdf,
        }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    try:
        problems = pdfa_problems([tmp_path / name for name in files])
    except VeraPdfMissing as missing:
        pytest.skip(f"veraPDF: {missing}")
    assert problems == {tmp_path / name: [] for name in files}


def test_a_figures_metadata_never_reaches_the_file() -> None:
    out = io.BytesIO()
    Image.effect_noise((200, 200), 60).save(out, "JPEG", comment=b"/ByteRange [0 10 20 30] ZHANG^ZHIHONG")
    pdf = render_pdf(a_report(figures=(KeyFigure(out.getvalue()),))).bytes
    assert b"ZHANG^ZHIHONG" not in pdf
    assert verify_pdf(sign(pdf).pdf, trust_roots=a_county().trust).valid


def test_unlocked_key_signs_as_the_protocol_says() -> None:
    as_protocol: signer.Signer = a_county().key
    assert isinstance(as_protocol, UnlockedKey)
