"""Rules of the county patient index.

The key of a clinic's identifier is (organisation, PatientID). Who of them is one human being is `hub.patients.links`.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from hub.dicom import pinyin
from hub.kit import clock
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.kit.serials import next_serial
from hub.kit.settings import get_settings
from hub.patients import links
from hub.patients.models import CountyPatient, Patient

HUB_NUMBER = "HUB-"
"""Start of numbers that the hub gives where a clinic has none of its own."""

_LIKE_ESCAPE = "\\"


def hub_given(number: str) -> bool:
    """Whether a patient number was made by the hub and so can stand in no image header of before."""
    return number.startswith(HUB_NUMBER)


def search_keys(name: str) -> tuple[str, str]:
    """Pinyin and initials by which a name is found: `("wangwei", "ww")`."""
    keys = pinyin.keys(name)
    return keys.full[:400], keys.initials[:60]


def new_county_patient(session: Session) -> CountyPatient:
    """A county patient with a fresh county number."""
    number = f"{get_settings().county_code}{next_serial(session, 'county-patient'):08d}"
    row = CountyPatient(number=number, created_at=clock.now())
    session.add(row)
    session.flush()
    return row


def _free_number(session: Session, org_id: str) -> str:
    while True:
        number = f"{HUB_NUMBER}{next_serial(session, f'patient:{org_id}'):06d}"
        if find_by_number(session, org_id, number) is None:
            return number


def find_by_number(session: Session, org_id: str, number: str) -> Patient | None:
    """The patient whom `org_id` knows by `number`."""
    return session.scalars(select(Patient).where(Patient.org_id == org_id, Patient.number == number)).one_or_none()


def find_by_identity_number(session: Session, org_id: str, identity_number: str) -> Patient | None:
    """The newest patient of `org_id` with a (normalised) identity number."""
    return session.scalars(
        select(Patient)
        .where(Patient.org_id == org_id, Patient.identity_number == identity_number)
        .order_by(Patient.created_at.desc())
        .limit(1)
    ).one_or_none()


def ensure(
    session: Session,
    org_id: str,
    number: str | None,
    name: str,
    sex: str = "",
    birth_date: date | None = None,
    *,
    birth_estimated: bool = False,
    identity_number: str = "",
    phone: str = "",
    from_header: bool = False,
) -> Patient:
    """The patient of `org_id` with `number`, made where there is none.

    A known patient keeps what he has: empty columns are filled, and a row that came from an image header (pinyin
    name, invented birth date) takes over what a registration says. Whether the two can be the same human being is
    for the caller to ask first (`same_human`).

    Args:
        session: The transaction.
        org_id: Owner of the number.
        number: PatientID (0010,0020); None or empty: the hub gives one.
        name: Name in ideographs, or what the header has.
        sex: "M", "F", "O" or "".
        birth_date: If known.
        birth_estimated: The date was worked out from an age.
        identity_number: Normalised 18 characters or "".
        phone: Of the patient or a relative.
        from_header: The values come from an image, not from a person.
    """
    if not from_header:
        links.lock(session)
    number = (number or "").strip()[:64]
    name = name.strip()[:200]
    row = find_by_number(session, org_id, number) if number else None
    if row is None:
        full, initials = search_keys(name)
        county = new_county_patient(session)
        row = Patient(
            org_id=org_id,
            county_patient_id=county.id,
            home_county_id=county.id,
            number=number or _free_number(session, org_id),
            name=name,
            pinyin=full,
            initials=initials,
            sex=sex,
            birth_date=birth_date,
            birth_estimated=birth_estimated and birth_date is not None,
            identity_number=identity_number,
            phone=phone[:40],
            from_header=from_header,
            created_at=clock.now(),
        )
        session.add(row)
        session.flush()
    else:
        fill(
            row,
            overwrite=row.from_header and not from_header,
            name=name,
            sex=sex,
            birth_date=birth_date,
            birth_estimated=birth_estimated,
            identity_number=identity_number,
            phone=phone,
        )
        if not from_header:
            row.from_header = False
        session.flush()
    if not from_header:
        links.evaluate(session, row)
    return row


def fill(
    row: Patient,
    *,
    overwrite: bool = False,
    name: str = "",
    sex: str = "",
    birth_date: date | None = None,
    birth_estimated: bool = False,
    identity_number: str = "",
    phone: str = "",
) -> None:
    """Complete a patient's columns; with `overwrite` what is given replaces what stands there.

    A date of birth replaces an estimated one even without `overwrite`.
    """
    if name and (overwrite or not row.name):
        row.name = name.strip()[:200]
        row.pinyin, row.initials = search_keys(row.name)
    if sex and (overwrite or not row.sex):
        row.sex = sex
    better = row.birth_estimated and not birth_estimated
    if birth_date is not None and (overwrite or row.birth_date is None or better):
        row.birth_date, row.birth_estimated = birth_date, birth_estimated
    if identity_number and (overwrite or not row.identity_number):
        row.identity_number = identity_number
    if phone:
        row.phone = phone[:40]


def same_human(
    row: Patient, *, name: str, sex: str = "", birth_date: date | None = None, identity_number: str = ""
) -> bool:
    """Whether `row` may be the person described: nothing that both sides know disagrees.

    A name in pinyin agrees with its ideographs; birth dates may differ by what an estimate allows (two years).
    """
    if pinyin.same_name(row.name, name) == "differs" and pinyin.same_name(name, row.name) == "differs":
        return False
    if row.sex in ("M", "F") and sex in ("M", "F") and row.sex != sex:
        return False
    if row.identity_number and identity_number and row.identity_number != identity_number:
        return False
    if row.birth_date and birth_date:
        years = abs(row.birth_date.year - birth_date.year)
        loose = row.birth_estimated or row.from_header
        return years <= 2 if loose else years <= 1
    return True


def link_automatically(session: Session, patient: Patient) -> bool:
    """Put `patient` under the county patient of another row if the two are surely one human being: see `links`.

    Returns:
        Whether a link was made.
    """
    return links.evaluate(session, patient)


def absorb(session: Session, keep: Patient, header: Patient) -> None:
    """Let a registered patient take the clinic's number of a row that an image header made for the same person.

    Nothing happens where `keep` has a number of the clinic's own, or where `header` is a person's registration.
    """
    if keep.id == header.id or keep.org_id != header.org_id:
        return
    if not hub_given(keep.number) or not header.from_header or hub_given(header.number):
        return
    number, spare = header.number, _free_number(session, header.org_id)
    session.execute(update(Patient).where(Patient.id == header.id).values(number=spare))
    session.execute(update(Patient).where(Patient.id == keep.id).values(number=number))
    session.refresh(header)
    session.refresh(keep)


def hold(session: Session, patient: Patient) -> None:
    """Read a patient again, and keep others from changing him until the transaction ends."""
    session.refresh(patient, with_for_update={"key_share": True})


def get_own(session: Session, org_id: str, patient_id: str) -> Patient:
    """The patient of an organisation, or NotFound."""
    row = session.get(Patient, patient_id)
    if row is None or row.org_id != org_id:
        raise NotFound(_("没有找到这位患者"))
    return row


def _like(text: str) -> str:
    for char in (_LIKE_ESCAPE, "%", "_"):
        text = text.replace(char, _LIKE_ESCAPE + char)
    return text + "%"


def matches(text: str) -> Any:
    """The condition under which a patient is found by what was typed: number, identity number, name, pinyin, initials.

    Everything is matched from its start, so that an index serves.
    """
    typed = text.strip()
    lower = typed.lower().replace(" ", "")
    conditions = [
        Patient.name.like(_like(typed), escape=_LIKE_ESCAPE),
        Patient.number.like(_like(typed), escape=_LIKE_ESCAPE),
    ]
    if len(typed) >= 6 and typed[:6].isdigit():
        conditions.append(Patient.identity_number.like(_like(typed.upper()), escape=_LIKE_ESCAPE))
        conditions.append(Patient.phone.like(_like(typed), escape=_LIKE_ESCAPE))
    if lower.isascii() and lower.isalpha():
        conditions.append(Patient.pinyin.like(_like(lower), escape=_LIKE_ESCAPE))
        conditions.append(Patient.initials.like(_like(lower), escape=_LIKE_ESCAPE))
    return or_(*conditions)


def search(session: Session, org_id: str, text: str, *, limit: int = 8) -> list[Patient]:
    """Patients of one organisation by what was typed (王, wangwei, ww, a number); exact hits first."""
    typed = text.strip()
    if not typed:
        return []
    exact = or_(Patient.name == typed, Patient.number == typed, Patient.pinyin == typed.lower())
    statement: Select[Patient] = (
        select(Patient)
        .where(Patient.org_id == org_id, matches(typed))
        .order_by(exact.desc(), func.length(Patient.name), Patient.created_at.desc())
        .limit(limit)
    )
    return list(session.scalars(statement))
