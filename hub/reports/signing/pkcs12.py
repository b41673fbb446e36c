"""A key and certificate that a doctor already has, as a PKCS#12 file (RFC 7292)."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from hub.kit.i18n import Message, _
from hub.reports.signing.ca import DOCUMENT_SIGNING
from hub.reports.signing.signer import KdfCost, SealedKey, SigningError, Standing, UnlockedKey, check_pin, seal

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SIGNING_USES = {
    DOCUMENT_SIGNING,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.12"),  # Microsoft document signing
    x509.ObjectIdentifier("1.2.840.113583.1.1.5"),  # Adobe authentic documents
}
_MAX_BYTES = 256 * 1024
_MAX_ISSUERS = 8


class Pkcs12Error(SigningError):
    """The file cannot be used; `code` is one of ``p12-…``, the message says what to do."""

    code = "p12-unusable"

    def __init__(self, message: Message | str, code: str) -> None:
        super().__init__(message, code=code)


def import_pkcs12(
    data: bytes,
    password: str,
    pin: str,
    *,
    now: datetime,
    pepper: bytes = b"",
    standing: Standing = Standing.IMPORTED,
    cost: KdfCost | None = None,
) -> SealedKey:
    """Opens a PKCS#12 file with its password and seals its key under the owner's PIN.

    The issuers' certificates in the file are put in order; one that does not belong to the chain is dropped.

    Args:
        now: aware; the certificate must be valid at this moment.
        standing: `Standing.LICENSED` only if a person has checked the issuer.

    Raises:
        Pkcs12Error: ``p12-too-large``, ``p12-password`` (wrong password or damaged file), ``p12-no-key``,
            ``p12-mismatch``, ``p12-expired``, ``p12-not-yet-valid``, ``p12-key-type``, ``p12-key-size``,
            ``p12-is-ca``, ``p12-key-usage``.
        WeakPin: see `signer.check_pin`.
    """
    check_pin(pin)
    if len(data) > _MAX_BYTES:
        raise Pkcs12Error(_("证书文件过大"), "p12-too-large")
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(data, password.encode("utf-8"))
    except Exception:  # the library raises several kinds for damaged files and old ciphers alike
        raise Pkcs12Error(_("密码不正确,或文件不是完好的 PKCS#12 证书(.p12/.pfx)"), "p12-password") from None
    if key is None or certificate is None:
        raise Pkcs12Error(_("文件中没有私钥或没有与私钥对应的证书"), "p12-no-key")
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Pkcs12Error(_("不支持此种密钥,请使用 RSA 或 NIST 椭圆曲线证书"), "p12-key-type")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        raise Pkcs12Error(_("RSA 密钥短于 2048 位,不能用于签名"), "p12-key-size")
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, _CURVES):
        raise Pkcs12Error(_("不支持此种密钥,请使用 RSA 或 NIST 椭圆曲线证书"), "p12-key-type")
    if _spki(key.public_key()) != _spki(certificate.public_key()):
        raise Pkcs12Error(_("私钥与证书不匹配"), "p12-mismatch")
    if now > certificate.not_valid_after_utc:
        raise Pkcs12Error(_("证书已过期"), "p12-expired")
    if now < certificate.not_valid_before_utc:
        raise Pkcs12Error(_("证书尚未生效"), "p12-not-yet-valid")
    _check_usage(certificate)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return seal(UnlockedKey(der, _ordered(certificate, others), standing, private), pin, pepper=pepper, cost=cost)


def _check_usage(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise Pkcs12Error(_("这是签发机构的证书,不是个人证书"), "p12-is-ca")
    except x509.ExtensionNotFound:
        pass
    wrong_use = Pkcs12Error(_("证书的用途不包括签名"), "p12-key-usage")
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature or usage.content_commitment):
            raise wrong_use
    except x509.ExtensionNotFound:
        pass
    try:
        if not _SIGNING_USES & set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value):
            raise wrong_use
    except x509.ExtensionNotFound:
        pass


def _ordered(certificate: x509.Certificate, others: list[x509.Certificate]) -> tuple[bytes, ...]:
    """The issuers of `certificate` from `others`, nearest first."""
    chain: list[bytes] = []
    current = certificate
    while current.issuer != current.subject and len(chain) < _MAX_ISSUERS:
        for candidate in others:
            try:
                current.verify_directly_issued_by(candidate)
            except Exception:  # noqa: S112 - wrong name, key type or signature: not the issuer
                continue
            chain.append(candidate.public_bytes(serialization.Encoding.DER))
            current = candidate
            break
        else:
            break
    return tuple(chain)


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
