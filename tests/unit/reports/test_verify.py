"""Verification by the file alone: every changed byte is found. And the codes that people type."""

from __future__ import annotations

import contextlib
import random
from dataclasses import fields
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pytest
from asn1crypto import cms
from hypothesis import given
from hypothesis import strategies as st

from hub.reports.document import Patient, render_pdf
from hub.reports.signing import ca
from hub.reports.signing.ca import Revocation, RevocationReason
from hub.reports.signing.pades import sign_pdf
from hub.reports.signing.signer import Standing, describe, unlock
from hub.reports.signing.verify import (
    ALPHABET,
    NOTES,
    PROBLEMS,
    BadCode,
    TrustRoot,
    Verification,
    _opened,
    _signatures,
    format_code,
    new_verification_code,
    normalise_code,
    verify_pdf,
)
from support.signed_reports import CHEAP, NOW, PIN, SECRET, a_county, a_report, a_time_stamp_authority


@lru_cache(maxsize=1)
def signed() -> bytes:
    return sign()


def sign(**changes: Any) -> bytes:
    words: dict[str, Any] = {"reason": "签发", "location": "于都", "name": "陈喆", "signed_at": NOW}
    return sign_pdf(render_pdf(a_report()).bytes, a_county().key, **{**words, **changes}).pdf


def check(pdf: bytes, **changes: Any) -> Verification:
    return verify_pdf(pdf, **{"trust_roots": a_county().trust, **changes})


def test_a_good_report() -> None:
    result = check(signed())
    assert result.valid
    assert result.signed
    assert result.intact
    assert not result.changed_after_signing
    assert (result.signer_name, result.organisation, result.role) == ("陈喆", "于都县人民医院", "审核医师")
    assert result.standing is Standing.HUB_CA
    assert result.signed_at == NOW
    assert result.timestamp == "missing"
    assert result.problems == ()
    assert result.notes == ("timestamp-missing",)


def test_changed_bytes_anywhere() -> None:
    good = signed()
    hole = _signatures(good)[0]
    chooser = random.Random(3)
    outside = [*range(12), *chooser.sample(range(len(good)), 400), *range(len(good) - 12, len(good))]
    outside += [hole.start - 2, hole.start - 1, hole.stop, hole.stop + 1]
    for place in outside:
        changed = bytearray(good)
        changed[place] ^= 1 << chooser.randrange(8)
        result = check(bytes(changed))
        assert not result.valid, place
        assert not result.intact, place


def test_changed_digits_of_the_signature() -> None:
    """The hole is the only part that the signature does not cover; nothing in it may differ unseen either."""
    good = signed()
    hole = _signatures(good)[0]
    used = good.index(b"0000000000", hole.start)
    chooser = random.Random(5)
    places = [*range(hole.start, hole.start + 24), *chooser.sample(range(hole.start, used), 500)]
    places += [used + 1000, hole.stop - 2, hole.stop - 1]
    for place in places:
        changed = bytearray(good)
        changed[place] = chooser.choice([c for c in b"0123456789ABCDEF" if c != good[place]])
        assert not check(bytes(changed)).valid, place - hole.start
    version = bytearray(good)
    version[hole.start + 1 + 2 * 25 + 1 : hole.start + 1 + 2 * 25 + 2] = b"3"
    assert not check(bytes(version)).valid
    other_case = good[: hole.start] + good[hole.start : hole.stop].swapcase() + good[hole.stop :]
    assert not check(other_case, known_sha256=check(good).sha256).valid


def test_appended_bytes() -> None:
    for tail in (b"\n", b" ", b"x" * 500, b"\n5 0 obj\n<<>>\nendobj\nxref\n0 0\ntrailer\n<<>>\nstartxref\n9\n%%EOF\n"):
        result = check(signed() + tail)
        assert not result.valid
        assert result.changed_after_signing
        assert "appended" in result.problems
        assert result.signer_name == "陈喆"


def test_an_incremental_update_that_pdf_would_allow() -> None:
    import io

    from pyhanko.pdf_utils import generic
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

    writer = IncrementalPdfFileWriter(io.BytesIO(signed()))
    writer.root["/Lang"] = generic.TextStringObject("zh")
    writer.update_root()
    out = io.BytesIO()
    writer.write(out)
    assert out.getvalue().startswith(signed())
    assert "appended" in check(out.getvalue()).problems


def test_cut_and_swapped_files() -> None:
    good = signed()
    for pdf in (good[:-1], good[: len(good) // 2], good[1:], good[:9]):
        assert not check(pdf).valid
    other = sign(reason="另一份")
    hole, theirs = _signatures(good)[0], _signatures(other)[0]
    transplanted = good[: hole.start] + other[theirs.start : theirs.stop] + good[hole.stop :]
    result = check(transplanted)
    assert not result.valid
    assert "changed" in result.problems


def test_not_signed_and_not_a_pdf() -> None:
    result = check(render_pdf(a_report()).bytes)
    assert result.problems == ("not-signed",)
    assert not result.signed
    for junk in (b"", b"hello", b"PK\x03\x04", b"\x00" * 1000):
        assert check(junk).problems == ("not-a-pdf",)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_hostile_files_never_raise(content: bytes, start: int, rest: int) -> None:
    pdf = b"%PDF-1.7\n" + content
    dictionary = b"/SubFilter /ETSI.CAdES.detached /ByteRange [0 %d %d %d]" % (start, start + 10, rest)
    assert not check(pdf + dictionary + content).valid
    hexed = b"<" + content.hex().encode() + b">"
    whole = b"%PDF-1.7\n/Contents " + hexed
    tail = b"/SubFilter /ETSI.CAdES.detached /ByteRange [0 19 %d 9999999999]" % (19 + len(hexed))
    size = len(tail)
    tail = tail.replace(b"9999999999", b"%10d" % size)
    assert not check(whole + tail).valid


def test_a_file_of_many_signatures_costs_nothing() -> None:
    """Each byte range points at the same long string: judged one by one they would fill the memory."""
    head, digits = b"%PDF-1.7\n", 4 << 20
    start, stop = len(head), len(head) + digits + 2
    ranges = b"".join(b"/ByteRange[0 %d %d %d]" % (start, stop, number) for number in range(20_000))
    hostile = head + b"<" + b"ab" * (digits // 2) + b">" + ranges
    assert _signatures(hostile) == []
    assert check(hostile).problems == ("signature-broken",)
    assert _signatures(head + b"<" + b"ab" * (digits // 2) + b">" + b"/ByteRange[0 %d %d 1]" % (start, stop)) == []


def test_certificates_that_name_each_other_are_not_tried_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_arguments: Any, **_more: Any) -> Any:
        raise AssertionError("a path was searched")

    pdf = bytearray(signed())
    hole = _signatures(bytes(pdf))[0]
    content = cms.ContentInfo.load(hole.der)
    first = content["content"]["certificates"][0].chosen
    for _number in range(12):
        content["content"]["certificates"].append(cms.CertificateChoices("certificate", first.copy()))
    crowd = content.dump(force=True)
    with pytest.raises(ValueError, match="too many"):
        _opened(crowd)
    room = (hole.stop - hole.start - 2) // 2
    assert len(crowd) <= room, "the hole holds the hostile object"
    pdf[hole.start + 1 : hole.stop - 1] = crowd.ljust(room, b"\0").hex().encode()
    monkeypatch.setattr("hub.reports.signing.verify._cms_status", searched)
    assert "signature-broken" in check(bytes(pdf)).problems


def test_a_name_that_looks_like_a_signature() -> None:
    evil = "/ByteRange [0 10 20 30] /SubFilter /ETSI.CAdES.detached /M (D:19990101000000Z) endobj"
    pdf = render_pdf(a_report(patient=Patient(evil), number=evil[:60])).bytes
    again = sign_pdf(pdf, a_county().key, reason=evil, name=evil, location=evil, signed_at=NOW).pdf
    assert again.count(b"/ByteRange") > 1
    result = check(again)
    assert result.valid, result.problems
    assert result.signed_at == NOW


def test_another_authority_is_not_trusted() -> None:
    opened = ca.open_ca(ca.create_ca("测试影像中心自建CA", "测试医共体", SECRET, now=NOW, cost=CHEAP), SECRET)
    forged = ca.issue(opened, ca.Subject("陈喆", "于都县人民医院", "R0012"), PIN, now=NOW, cost=CHEAP)
    pdf = sign_pdf(
        render_pdf(a_report()).bytes, unlock(forged, PIN), reason="r", location="l", name="n", signed_at=NOW
    ).pdf
    result = check(pdf)
    assert not result.valid
    assert result.problems == ("unknown-issuer",)
    assert result.standing is None
    assert check(signed(), trust_roots=[]).problems == ("unknown-issuer",)


def test_standing_comes_from_the_root() -> None:
    roots = [TrustRoot(a_county().ca.certificate, Standing.LICENSED)]
    assert check(signed(), trust_roots=roots).standing is Standing.LICENSED


def test_known_file() -> None:
    sha256 = check(signed()).sha256
    assert check(signed(), known_sha256=sha256.upper()).valid
    assert check(sign(reason="另一份"), known_sha256=sha256).problems == ("not-the-issued-file",)


def test_signed_in_the_future() -> None:
    assert check(signed(), now=NOW - timedelta(days=1)).problems == ("signed-in-future",)
    assert check(signed(), now=NOW - timedelta(minutes=5)).valid


def revoked(at: timedelta, reason: RevocationReason) -> bytes:
    entry = Revocation(describe(a_county().sealed.certificate).serial, NOW + at, reason)
    return ca.revocation_list(a_county().ca, [entry], number=1, now=NOW + timedelta(days=2))


def test_revocation() -> None:
    day = timedelta(days=1)
    left = RevocationReason.AFFILIATION_CHANGED
    lost = RevocationReason.KEY_COMPROMISE
    empty = ca.revocation_list(a_county().ca, [], number=1, now=NOW)
    assert check(signed(), revocation_lists=[empty]).valid
    assert check(signed(), revocation_lists=[revoked(-day, left)]).problems == ("certificate-revoked",)
    later = check(signed(), revocation_lists=[revoked(day, left)])
    assert later.valid
    assert "certificate-revoked-later" in later.notes
    # With the key, a thief can claim any time; only a trusted time stamp shows that it was before.
    assert check(signed(), revocation_lists=[revoked(day, lost)]).problems == ("certificate-revoked",)
    with a_time_stamp_authority(NOW) as authority:
        stamped = sign(tsa_url=authority.url)
    assert check(stamped, revocation_lists=[revoked(day, lost)], tsa_roots=[authority.certificate]).valid


def test_forged_revocation_lists() -> None:
    other = ca.open_ca(ca.create_ca("测试影像中心自建CA", "测试医共体", SECRET, now=NOW, cost=CHEAP), SECRET)
    forged = ca.revocation_list(other, [], number=1, now=NOW)
    assert check(signed(), revocation_lists=[forged]).problems == ("revocation-list-invalid",)
    assert check(signed(), revocation_lists=[b"junk"]).problems == ("revocation-list-invalid",)


def test_an_expired_certificate_still_proves_what_it_signed() -> None:
    opened = a_county().ca
    short = ca.issue(opened, ca.Subject("甲", "乙", "1"), PIN, now=NOW, days=1, cost=CHEAP)
    pdf = sign_pdf(
        render_pdf(a_report()).bytes, unlock(short, PIN), reason="r", location="l", name="n", signed_at=NOW
    ).pdf
    assert check(pdf, now=NOW + timedelta(days=900)).valid


def test_a_changed_time_stamp() -> None:
    with a_time_stamp_authority(NOW) as authority:
        stamped = sign(tsa_url=authority.url)
    hole = _signatures(stamped)[0]
    from asn1crypto import cms

    token = cms.ContentInfo.load(hole.der)["content"]["signer_infos"][0]["unsigned_attrs"][0]["values"][0]
    at = hole.start + 1 + 2 * hole.der.index(token.dump()[40:140])
    chooser = random.Random(1)
    for _n in range(60):
        place = at + chooser.randrange(0, 2 * len(token.dump()) - 200)
        changed = bytearray(stamped)
        changed[place] = chooser.choice([c for c in b"0123456789ABCDEF" if c != stamped[place]])
        result = check(bytes(changed), tsa_roots=[authority.certificate])
        assert not (result.valid and result.timestamp == "trusted" and result.signed_at != NOW)
        assert not check(bytes(changed), known_sha256=check(stamped).sha256).valid


def test_every_code_has_words() -> None:
    assert {f.name for f in fields(Verification)} >= {"problems", "notes"}
    for code, message in {**PROBLEMS, **NOTES}.items():
        assert str(message), code


# ---- codes ---------------------------------------------------------------------------------------------------------


def test_codes() -> None:
    codes = {new_verification_code() for _ in range(500)}
    assert len(codes) == 500
    for code in codes:
        assert len(code) == 19
        assert not set(code) & set("01OIL")
        assert format_code(normalise_code(code)) == code


@pytest.mark.parametrize("change", [str.lower, lambda c: c.replace("-", " "), lambda c: c.replace("-", "")])
def test_codes_as_people_type_them(change: Any) -> None:
    code = new_verification_code()
    assert normalise_code(change(code)) == code.replace("-", "")
    wide = "".join(chr(ord(c) + 0xFEE0) for c in code)
    assert normalise_code(f"  {wide}\n") == code.replace("-", "")


def test_every_single_mistake_and_swap_is_seen() -> None:
    code = normalise_code(new_verification_code())
    for place, letter in enumerate(code):
        for other in ALPHABET:
            if other != letter:
                with pytest.raises(BadCode):
                    normalise_code(code[:place] + other + code[place + 1 :])
        for second in range(place + 1, len(code)):
            if code[second] != letter:
                swapped = list(code)
                swapped[place], swapped[second] = swapped[second], swapped[place]
                with pytest.raises(BadCode):
                    normalise_code("".join(swapped))


@given(st.text(max_size=40))
def test_other_text_is_not_a_code(text: str) -> None:
    with contextlib.suppress(BadCode):
        assert len(normalise_code(text)) == 16
