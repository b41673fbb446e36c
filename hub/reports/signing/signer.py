"""Who can sign, and how a private key is kept.

The interface is narrow on purpose: a digest goes out; a signature, the certificate's chain and perhaps a time stamp
come back. A licensed CA keeps keys on a token or in its cloud and gives nothing else.

A key of the hub lies sealed under its owner's PIN: Argon2id over the PIN (keyed with the server's pepper, so that a
stolen database alone cannot be searched through a million PINs), then AES-256-GCM. Between signatures an unlocked key
lies sealed under a random session key that only the user's cookie holds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any, Literal, Protocol, Self

from argon2.low_level import Type, hash_secret_raw
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

from hub.kit.errors import HubError
from hub.kit.i18n import Message, _

DigestName = Literal["sha256", "sha384", "sha512"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_MIN_PIN = 6


class SigningError(HubError):
    """A signature cannot be made; `code` says why."""

    status = 422
    code = "signing-failed"


class WrongPin(SigningError):
    """The PIN does not open this key. Count it, in a transaction of its own."""

    status = 403
    code = "wrong-pin"

    def __init__(self, message: Message | str = _("签名密码不正确"), **detail: Any) -> None:
        super().__init__(message, **detail)


class WeakPin(SigningError):
    """The PIN is too short or too easily guessed."""

    code = "weak-pin"

    def __init__(
        self, message: Message | str = _("签名密码至少 6 位数字,且不能是相同或连续的数字"), **detail: Any
    ) -> None:
        super().__init__(message, **detail)


class KeyLocked(SigningError):
    """The session does not hold the unlocked key (any more); ask for the PIN again."""

    status = 403
    code = "key-locked"

    def __init__(self, message: Message | str = _("签名密钥已锁定,请重新输入签名密码"), **detail: Any) -> None:
        super().__init__(message, **detail)


class Standing(StrEnum):
    """What stands behind a certificate."""

    HUB_CA = "hub-ca"
    IMPORTED = "imported"
    LICENSED = "licensed"


_SENTENCES = {
    Standing.HUB_CA: _("签名证书由本影像中心自建CA签发,该CA不是依法设立的电子认证服务机构。"),
    Standing.IMPORTED: _("签名证书由签名人自行导入,本影像中心未核实其签发机构的资质。"),
    Standing.LICENSED: _("签名证书由依法设立的电子认证服务机构签发。"),
}


def standing_sentence(standing: Standing) -> Message:
    """The sentence that a report and the verification page print about a signature's standing."""
    return _SENTENCES[standing]


@dataclass(frozen=True, slots=True)
class SignatureAnswer:
    """What a signer gives back.

    Attributes:
        signature: raw signature: PKCS#1 v1.5 for RSA, DER ECDSA-Sig-Value for elliptic curves.
        time_stamp: RFC 3161 TimeStampToken (DER ContentInfo) over `signature`, if the signer supplies one.
    """

    signature: bytes
    time_stamp: bytes | None = None


class Signer(Protocol):
    """Digest out; signature, certificate chain and time stamp back."""

    @property
    def certificate(self) -> bytes:
        """The signer's X.509 certificate, DER. Must be known before signing: PAdES signs its hash too."""
        ...

    @property
    def chain(self) -> Sequence[bytes]:
        """The issuers' certificates, DER, nearest first; the root may be among them."""
        ...

    @property
    def standing(self) -> Standing:
        """What stands behind the certificate."""
        ...

    def sign_digest(self, digest: bytes, algorithm: DigestName) -> SignatureAnswer:
        """Signs `digest`, the hash of the CMS signed attributes (RFC 5652 §5.4).

        Raises:
            SigningError: the key is locked, the token is gone, the service refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """The readable part of a certificate.

    Attributes:
        serial: serial number, lower-case hexadecimal.
        fingerprint: SHA-256 of the DER, hexadecimal.
        staff_number: subject serialNumber.
        role: subject title.
    """

    name: str
    organisation: str
    staff_number: str
    role: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    key_type: str


def describe(certificate: bytes) -> CertificateInfo:
    """Reads a DER certificate."""
    cert = x509.load_der_x509_certificate(certificate)

    def first(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
        found = name.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key_type = f"RSA-{key.key_size}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key_type = f"EC {key.curve.name}"
    else:
        key_type = type(key).__name__
    return CertificateInfo(
        name=first(cert.subject, NameOID.COMMON_NAME),
        organisation=first(cert.subject, NameOID.ORGANIZATION_NAME),
        staff_number=first(cert.subject, NameOID.SERIAL_NUMBER),
        role=first(cert.subject, NameOID.TITLE),
        issuer=first(cert.issuer, NameOID.COMMON_NAME) or cert.issuer.rfc4514_string(),
        serial=f"{cert.serial_number:x}",
        not_before=cert.not_valid_before_utc,
        not_after=cert.not_valid_after_utc,
        fingerprint=cert.fingerprint(hashes.SHA256()).hex(),
        key_type=key_type,
    )


@dataclass(frozen=True, slots=True)
class UnlockedKey:
    """A private key in the clear, in memory only. It is a `Signer`.

    Attributes:
        private: PKCS#8 DER.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    standing: Standing
    private: bytes = field(repr=False)

    def key(self) -> PrivateKey:
        """The private key as an object."""
        key = serialization.load_der_private_key(self.private, None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise SigningError(_("不支持的密钥类型"), code="key-type")
        return key

    def sign_digest(self, digest: bytes, algorithm: DigestName) -> SignatureAnswer:
        """See `Signer.sign_digest`."""
        key = self.key()
        prehashed = Prehashed(_DIGESTS[algorithm])
        if isinstance(key, rsa.RSAPrivateKey):
            return SignatureAnswer(key.sign(digest, padding.PKCS1v15(), prehashed))
        return SignatureAnswer(key.sign(digest, ec.ECDSA(prehashed)))


@dataclass(frozen=True, slots=True)
class KdfCost:
    """Argon2id cost (RFC 9106 §3.1): passes, memory in KiB, lanes. The default takes about 0.1 s."""

    passes: int = 3
    memory_kib: int = 65536
    lanes: int = 2


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A private key under its owner's PIN, with its certificate. Safe to store.

    Attributes:
        certificate, chain: DER; readable without the PIN.
        salt, nonce, ciphertext: Argon2id salt, AES-GCM nonce and the sealed PKCS#8 key.
    """

    certificate: bytes
    chain: tuple[bytes, ...]
    standing: Standing
    cost: KdfCost
    salt: bytes
    nonce: bytes
    ciphertext: bytes

    def to_json(self) -> str:
        """JSON text for a database column."""
        return json.dumps(
            {
                "v": 1,
                "kdf": ["argon2id", self.cost.passes, self.cost.memory_kib, self.cost.lanes],
                "standing": self.standing.value,
                "certificate": _b64(self.certificate),
                "chain": [_b64(c) for c in self.chain],
                "salt": _b64(self.salt),
                "nonce": _b64(self.nonce),
                "ciphertext": _b64(self.ciphertext),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: not a sealed key of a known version.
        """
        try:
            data = json.loads(text)
            name, passes, memory, lanes = data["kdf"]
            if data["v"] != 1 or name != "argon2id":
                raise ValueError("unknown version of a sealed key")
            return cls(
                certificate=base64.b64decode(data["certificate"]),
                chain=tuple(base64.b64decode(c) for c in data["chain"]),
                standing=Standing(data["standing"]),
                cost=KdfCost(int(passes), int(memory), int(lanes)),
                salt=base64.b64decode(data["salt"]),
                nonce=base64.b64decode(data["nonce"]),
                ciphertext=base64.b64decode(data["ciphertext"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not a sealed key") from error


def check_pin(pin: str) -> None:
    """Refuses a PIN that is not six or more digits, or is one digit repeated, or a run such as 123456.

    Raises:
        WeakPin: with the rule in words.
    """
    if len(pin) < _MIN_PIN or len(pin) > 64 or not (pin.isascii() and pin.isdigit()):
        raise WeakPin()
    steps = {(int(b) - int(a)) % 10 for a, b in pairwise(pin)}
    if len(steps) == 1 and steps <= {0, 1, 9}:
        raise WeakPin()


def seal(key: UnlockedKey, pin: str, *, pepper: bytes = b"", cost: KdfCost | None = None) -> SealedKey:
    """Seals a private key under a PIN.

    Args:
        pepper: secret of the server (from its settings), needed again by `unlock`.
        cost: Argon2id cost; the default is right outside tests.

    Raises:
        WeakPin: see `check_pin`.
    """
    check_pin(pin)
    return seal_with_secret(key, pin.encode("ascii"), pepper=pepper, cost=cost)


def seal_with_secret(key: UnlockedKey, secret: bytes, *, pepper: bytes = b"", cost: KdfCost | None = None) -> SealedKey:
    """As `seal`, for a secret that is not a person's PIN (the CA's passphrase)."""
    cost = cost or KdfCost()
    salt, nonce = os.urandom(16), os.urandom(12)
    aead = AESGCM(_derive(secret, pepper, salt, cost))
    return SealedKey(
        certificate=key.certificate,
        chain=key.chain,
        standing=key.standing,
        cost=cost,
        salt=salt,
        nonce=nonce,
        ciphertext=aead.encrypt(nonce, key.private, _bound(key.certificate, key.chain, key.standing)),
    )


def unlock(sealed: SealedKey, pin: str, *, pepper: bytes = b"") -> UnlockedKey:
    """Opens a key with its owner's PIN.

    Raises:
        WrongPin: the PIN is wrong, or the stored key or its certificate was altered.
    """
    return unlock_with_secret(sealed, pin.encode("utf-8"), pepper=pepper)


def unlock_with_secret(sealed: SealedKey, secret: bytes, *, pepper: bytes = b"") -> UnlockedKey:
    """As `unlock`, for what `seal_with_secret` sealed."""
    aead = AESGCM(_derive(secret, pepper, sealed.salt, sealed.cost))
    try:
        bound = _bound(sealed.certificate, sealed.chain, sealed.standing)
        private = aead.decrypt(sealed.nonce, sealed.ciphertext, bound)
    except InvalidTag:
        raise WrongPin() from None
    return UnlockedKey(sealed.certificate, sealed.chain, sealed.standing, private)


def change_pin(sealed: SealedKey, old_pin: str, new_pin: str, *, pepper: bytes = b"") -> SealedKey:
    """The same key under another PIN.

    Raises:
        WrongPin: `old_pin` does not open it.
        WeakPin: `new_pin` is not good enough.
    """
    check_pin(new_pin)
    return seal(unlock(sealed, old_pin, pepper=pepper), new_pin, pepper=pepper, cost=sealed.cost)


def reseal_for_session(key: UnlockedKey, *, binding: bytes = b"") -> tuple[bytes, bytes]:
    """Seals an unlocked key for one session.

    Keep the blob in the database and the key in the user's cookie only; neither is of use alone. How long the pair
    may be used is for the caller to enforce; deleting the blob locks the key.

    Args:
        binding: what the blob belongs to (the session's id); `open_session` must be given the same.

    Returns:
        ``(blob, session_key)``; the session key has 32 bytes.
    """
    session_key = AESGCM.generate_key(256)
    nonce = os.urandom(12)
    inner = json.dumps(
        {
            "certificate": _b64(key.certificate),
            "chain": [_b64(c) for c in key.chain],
            "standing": key.standing.value,
            "private": _b64(key.private),
        }
    ).encode()
    return b"\x01" + nonce + AESGCM(session_key).encrypt(nonce, inner, binding), session_key


def open_session(blob: bytes, session_key: bytes, *, binding: bytes = b"") -> UnlockedKey:
    """Opens what `reseal_for_session` sealed.

    Raises:
        KeyLocked: wrong key, wrong session, or an altered blob.
    """
    if len(session_key) != 32 or blob[:1] != b"\x01":
        raise KeyLocked()
    try:
        data = json.loads(AESGCM(session_key).decrypt(blob[1:13], blob[13:], binding))
    except (InvalidTag, ValueError):
        raise KeyLocked() from None
    return UnlockedKey(
        certificate=base64.b64decode(data["certificate"]),
        chain=tuple(base64.b64decode(c) for c in data["chain"]),
        standing=Standing(data["standing"]),
        private=base64.b64decode(data["private"]),
    )


def _derive(secret: bytes, pepper: bytes, salt: bytes, cost: KdfCost) -> bytes:
    return hash_secret_raw(
        secret=hmac.digest(b"hub-signing-key\x00" + pepper, secret, "sha256"),
        salt=salt,
        time_cost=cost.passes,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=32,
        type=Type.ID,
    )


def _bound(certificate: bytes, chain: Sequence[bytes], standing: Standing) -> bytes:
    """Ties the ciphertext to the certificate, so that a sealed key cannot be given another owner's."""
    parts = [standing.value.encode(), certificate, *chain]
    return b"".join(hashlib.sha256(part).digest() for part in parts)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
