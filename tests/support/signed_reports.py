"""Reports, certificates and a time-stamp authority made up for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from asn1crypto import keys as asn1_keys
from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper

from hub.reports.document import Exam, Issuer, Patient, ReportDocument, SignatureStatement
from hub.reports.signing import ca
from hub.reports.signing.signer import KdfCost, SealedKey, Standing, UnlockedKey, standing_sentence, unlock
from hub.reports.signing.verify import TrustRoot

NOW = datetime(2026, 3, 2, 1, 41, 22, tzinfo=UTC)
PIN = "258036"
CHEAP = KdfCost(passes=1, memory_kib=64, lanes=1)
SECRET = ca.passphrase("a secret for tests")


def a_report(**changes: Any) -> ReportDocument:
    """A believable signed report; `changes` replace fields."""
    fields: dict[str, Any] = {
        "issuer": Issuer("于都县人民医院", "0797-0000000", "于都县远程影像诊断中心"),
        "requesting_organisation": "禾丰镇中心卫生院",
        "number": "YD01-20260302-0147",
        "patient": Patient("张智宏", "男", "63岁", date(1962, 11, 4), "360731********1234", "HF-000283"),
        "exam": Exam("CT", ("头部",), NOW, NOW, "HF260302007", "急诊", "急诊科", "李建国"),
        "history": "突发左侧肢体无力2小时。",
        "findings": "右侧基底节区见类圆形高密度影,大小约3.2cm×2.5cm。\n中线结构左移约4mm。",
        "impression": "右侧基底节区脑出血。",
        "positive": True,
        "critical": True,
        "author": "王珺",
        "reviewer": "陈喆",
        "signed_at": NOW,
        "verification_code": "7KQ2-M9XD-4TWB-3HZC",
        "verification_url": "https://hub.example/verify/7KQ2M9XD4TWB3HZC",
        "signature": SignatureStatement(str(standing_sentence(Standing.HUB_CA)), "5f3a9c01"),
    }
    return ReportDocument(**{**fields, **changes})


@dataclass(frozen=True)
class County:
    """A CA, a signer and whom to trust."""

    ca: UnlockedKey
    sealed: SealedKey
    key: UnlockedKey

    @property
    def trust(self) -> list[TrustRoot]:
        return [TrustRoot(self.ca.certificate, Standing.HUB_CA)]


@lru_cache(maxsize=1)
def a_county() -> County:
    """Made once for all tests of a process."""
    opened = ca.open_ca(ca.create_ca("测试影像中心自建CA", "测试医共体", SECRET, now=NOW, cost=CHEAP), SECRET)
    subject = ca.Subject("陈喆", "于都县人民医院", "R0012", "审核医师")
    sealed = ca.issue(opened, subject, PIN, now=NOW, pepper=b"pepper", cost=CHEAP)
    return County(opened, sealed, unlock(sealed, PIN, pepper=b"pepper"))


def a_certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    name: str = "外部医生",
    *,
    issuer: tuple[x509.Certificate, Any] | None = None,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=365),
    is_ca: bool = False,
    usage: dict[str, bool] | None = None,
    extended: list[x509.ObjectIdentifier] | None = None,
) -> x509.Certificate:
    """A certificate by a foreign CA, or self-signed."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    parent, parent_key = issuer or (None, key)
    wanted = {"key_cert_sign": is_ca, "crl_sign": is_ca, "digital_signature": not is_ca} if usage is None else usage
    every = [
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject if parent else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{n: wanted.get(n, False) for n in every}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=True)
    return builder.sign(parent_key, hashes.SHA256())


@dataclass
class Authority:
    """A time-stamp authority on the loopback; `broken` is what it answers instead, if set."""

    url: str
    certificate: bytes
    broken: bytes | None = None
    asked: int = 0


@contextmanager
def a_time_stamp_authority(at: datetime) -> Iterator[Authority]:
    """Serves RFC 3161 time stamps that say `at`."""
    key = rsa.generate_private_key(65537, 2048)
    certificate = a_certificate(key, "测试时间戳", extended=[ExtendedKeyUsageOID.TIME_STAMPING])
    der = certificate.public_bytes(serialization.Encoding.DER)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    stamper = DummyTimeStamper(asn1_x509.Certificate.load(der), asn1_keys.PrivateKeyInfo.load(private), fixed_dt=at)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            authority.asked += 1
            request = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
            body = authority.broken
            if body is None:
                body = stamper.request_tsa_response(request).dump()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    authority = Authority(f"http://127.0.0.1:{server.server_port}/", der)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        server.server_close()
