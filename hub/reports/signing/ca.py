"""The hub's own small certification authority: a root, personal certificates, a revocation list (RFC 5280).

It proves within the county who signed and that nothing changed. It is *not* a licensed electronic certification
service, and every certificate and report says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.reports.signing.signer import (
    KdfCost,
    SealedKey,
    Standing,
    UnlockedKey,
    check_pin,
    seal,
    seal_with_secret,
    unlock_with_secret,
)

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a personal certificate names.

    Attributes:
        organisation: the reading organisation.
        staff_number: unique within the hub; becomes the subject's serialNumber.
        role: e.g. ``"审核医师"``; becomes the subject's title.
    """

    name: str
    organisation: str
    staff_number: str
    role: str = ""


class RevocationReason(StrEnum):
    """Why a certificate was revoked (RFC 5280 §5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION = "cessationOfOperation"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revoked certificate: serial in hexadecimal (`CertificateInfo.serial`), when, why."""

    serial: str
    at: datetime
    reason: RevocationReason = RevocationReason.UNSPECIFIED


def passphrase(secret: str | bytes) -> bytes:
    """The CA key's passphrase, derived from the hub's secret setting (32 bytes)."""
    material = secret.encode() if isinstance(secret, str) else secret
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"county imaging hub: CA key").derive(material)


def pepper(secret: str | bytes) -> bytes:
    """The pepper for personal keys, derived from the hub's secret setting (32 bytes)."""
    material = secret.encode() if isinstance(secret, str) else secret
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"county imaging hub: PIN pepper").derive(material)


def create_ca(
    name: str, organisation: str, secret: bytes, *, now: datetime, years: int = 20, cost: KdfCost | None = None
) -> SealedKey:
    """Makes a root: EC P-256, self-signed, may sign only end certificates and revocation lists.

    Args:
        name: common name, e.g. ``"于都县影像中心自建CA"``; readers of the PDF see it.
        organisation: the county's medical community.
        secret: see `passphrase`.
        now: aware.

    Returns:
        The sealed CA key; its `certificate` is the root to trust and to publish.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _fit(organisation)),
            x509.NameAttribute(NameOID.COMMON_NAME, _fit(name)),
        ]
    )
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=round(365.25 * years)))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    unlocked = UnlockedKey(certificate.public_bytes(serialization.Encoding.DER), (), Standing.HUB_CA, _pkcs8(key))
    return seal_with_secret(unlocked, secret, cost=cost)


def open_ca(sealed: SealedKey, secret: bytes) -> UnlockedKey:
    """Opens the CA's key.

    Raises:
        WrongPin: the secret setting is not the one it was made under.
    """
    return unlock_with_secret(sealed, secret)


def issue(
    ca: UnlockedKey,
    subject: Subject,
    pin: str,
    *,
    now: datetime,
    pepper: bytes = b"",
    days: int = 1095,
    crl_url: str = "",
    cost: KdfCost | None = None,
) -> SealedKey:
    """Makes a personal key (EC P-256) and certificate, sealed under its owner's PIN.

    Args:
        ca: from `open_ca`.
        now: aware. The certificate never outlives the root.
        pepper: see `pepper`; `unlock` needs the same.
        crl_url: where the revocation list is published; left out of the certificate if empty.

    Raises:
        WeakPin: see `signer.check_pin`.
    """
    check_pin(pin)
    root = x509.load_der_x509_certificate(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _fit(subject.organisation)),
    ]
    if subject.role:
        attributes.append(x509.NameAttribute(NameOID.TITLE, _fit(subject.role)))
    attributes += [
        x509.NameAttribute(NameOID.SERIAL_NUMBER, _fit(subject.staff_number)),
        x509.NameAttribute(NameOID.COMMON_NAME, _fit(subject.name)),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _SKEW, root.not_valid_before_utc))
        .not_valid_after(min(now + timedelta(days=days), root.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, content_commitment=True), critical=True)
        # Mail protection is what several PDF readers ask of a signer; document signing is what it is.
        .add_extension(x509.ExtendedKeyUsage([DOCUMENT_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    certificate = builder.sign(ca.key(), hashes.SHA256())
    der = certificate.public_bytes(serialization.Encoding.DER)
    return seal(UnlockedKey(der, (ca.certificate,), Standing.HUB_CA, _pkcs8(key)), pin, pepper=pepper, cost=cost)


def revocation_list(
    ca: UnlockedKey, revoked: Iterable[Revocation], *, number: int, now: datetime, days: int = 7
) -> bytes:
    """The CA's revocation list (RFC 5280 §5), DER.

    Args:
        revoked: all revocations so far.
        number: rises with each list.
        now: aware; the next list is due `days` later.
    """
    root = x509.load_der_x509_certificate(ca.certificate)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(now)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    for entry in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16)).revocation_date(entry.at)
        if entry.reason is not RevocationReason.UNSPECIFIED:
            one = one.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason.value)), critical=False)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(ca.key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def to_pem(certificate: bytes) -> bytes:
    """A DER certificate as PEM, for download."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _fit(text: str) -> str:
    """At most 64 characters, the bound of RFC 5280 appendix A for these attributes."""
    return text[:64]


def _usage(
    *,
    digital_signature: bool = False,
    content_commitment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=content_commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
