"""The rota: who is on duty where, from when to when. Typed line by line or from a CSV file, all of it or nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.kit.turns import one_at_a_time
from hub.reading.routing import skills as skill_words
from hub.reading.routing.decide import Skills
from hub.reading.routing.models import ReadingSkill, RotaShift
from hub.sites.models import Organisation, OrgKind

ROLES: dict[str, Message] = {"all": _("书写和审核"), "read": _("书写"), "review": _("审核")}
KEEPS_ROTA = timedelta(days=7)
"""A hospital with a shift in so many days around now keeps a rota: where it names nobody, nobody is there."""

LONGEST = timedelta(hours=48)
MAX_BYTES = 1_000_000
MAX_LINES = 5000
COLUMNS = ("person", "hospital", "from", "to", "role", "skills")
_HEADINGS = {
    "person": ("person", "login", "医师", "人员", "姓名", "登录名", "值班医师"),
    "hospital": ("hospital", "医院", "医院代码", "机构"),
    "from": ("from", "start", "开始", "开始时间", "上班"),
    "to": ("to", "end", "结束", "结束时间", "下班"),
    "role": ("role", "职责", "岗位"),
    "skills": ("skills", "阅片能力", "能力", "专长"),
}
_MOMENT = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T\s]+(\d{1,2})[::](\d{2})(?:[::]00)?")
READS = frozenset({Role.REPORTER.value, Role.REVIEWER.value})


@dataclass(frozen=True, slots=True)
class Line:
    """One line as typed: `number` in the file (1 is the heading), or 0 for a form."""

    number: int
    person: str
    hospital: str
    starts: str
    ends: str
    role: str = ""
    skills: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that has become values; `known` where the same shift stands in the rota already."""

    number: int
    hospital: Organisation
    person: Person
    starts_at: datetime
    ends_at: datetime
    role: str
    skills: tuple[str, ...]
    known: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file would do: `entries` to add, `removed` shifts that they replace, `errors` by line."""

    entries: list[Entry] = field(default_factory=list)
    removed: list[RotaShift] = field(default_factory=list)
    errors: list[tuple[int, Message]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shift:
    """One row of the table."""

    row: RotaShift
    person: Person
    hospital: Organisation


def zone() -> ZoneInfo:
    """The county's zone, in which a rota is written."""
    return ZoneInfo(get_settings().timezone)


# --- reading ------------------------------------------------------------------------------------------------------


def shifts(session: Session, first: datetime, last: datetime, *, hospital_id: str = "") -> list[Shift]:
    """Shifts that overlap `first` … `last`, by time and hospital."""
    statement = (
        select(RotaShift, Person, Organisation)
        .join(Person, Person.id == RotaShift.person_id)
        .join(Organisation, Organisation.id == RotaShift.hospital_id)
        .where(RotaShift.ends_at > first, RotaShift.starts_at < last)
        .order_by(RotaShift.starts_at, Organisation.code, Person.name, RotaShift.id)
    )
    if hospital_id:
        statement = statement.where(RotaShift.hospital_id == hospital_id)
    return [Shift(*row) for row in session.execute(statement)]


def on_duty(session: Session, at: datetime) -> dict[str, tuple[Skills, ...]]:
    """Code of a hospital → the skills of each active person who is on duty there at `at`."""
    rows = session.execute(
        select(Organisation.code, RotaShift.skills, ReadingSkill.skills)
        .join(Organisation, Organisation.id == RotaShift.hospital_id)
        .join(Person, Person.id == RotaShift.person_id)
        .outerjoin(ReadingSkill, ReadingSkill.person_id == RotaShift.person_id)
        .where(RotaShift.starts_at <= at, RotaShift.ends_at > at, Person.active, Organisation.active)
        # An exam that waits to be read is no work for who only reviews.
        .where(RotaShift.role != "review")
        .order_by(Organisation.code, RotaShift.id)
    )
    found: dict[str, tuple[Skills, ...]] = {}
    for code, of_shift, of_person in rows:
        found[code] = (*found.get(code, ()), tuple(of_shift or of_person or ()))
    return found


def keeping(session: Session, at: datetime) -> frozenset[str]:
    """Codes of the hospitals that keep a rota around `at`."""
    return frozenset(
        session.scalars(
            select(Organisation.code)
            .join(RotaShift, RotaShift.hospital_id == Organisation.id)
            .where(RotaShift.ends_at > at - KEEPS_ROTA, RotaShift.starts_at < at + KEEPS_ROTA)
            .distinct()
        )
    )


def names_on_duty(session: Session, at: datetime) -> dict[str, list[tuple[str, datetime]]]:
    """Hospital id → who is on duty there at `at`, with the end of his shift."""
    rows = session.execute(
        select(RotaShift.hospital_id, Person.name, RotaShift.ends_at)
        .join(Person, Person.id == RotaShift.person_id)
        .where(RotaShift.starts_at <= at, RotaShift.ends_at > at, Person.active)
        .order_by(RotaShift.ends_at, Person.name)
    )
    found: dict[str, list[tuple[str, datetime]]] = {}
    for hospital_id, name, ends in rows:
        found.setdefault(hospital_id, []).append((name, ends))
    return found


def skills_of(session: Session, person_id: str, at: datetime) -> list[str]:
    """What a person reads now: what his present shift says, else what he declared; empty: everything."""
    of_shift = session.scalars(
        select(RotaShift.skills)
        .where(RotaShift.person_id == person_id, RotaShift.starts_at <= at, RotaShift.ends_at > at)
        .limit(1)
    ).one_or_none()
    if of_shift:
        return list(of_shift)
    row = session.get(ReadingSkill, person_id)
    return list(row.skills) if row is not None else []


def declared_skills(session: Session) -> dict[str, list[str]]:
    """Person id → his declared skills."""
    return {person: list(kept) for person, kept in session.execute(select(ReadingSkill.person_id, ReadingSkill.skills))}


def readers(session: Session) -> list[tuple[Person, Organisation]]:
    """Active people who read, by hospital."""
    rows = session.execute(
        select(Person, Organisation)
        .join(Organisation, Organisation.id == Person.org_id)
        .where(Person.active, Organisation.active, Organisation.kind.in_([OrgKind.HOSPITAL, OrgKind.TERTIARY]))
        .order_by(Organisation.code, Person.name)
    )
    return [(person, org) for person, org in rows if not READS.isdisjoint(person.roles)]


# --- checking -----------------------------------------------------------------------------------------------------


def read_csv(data: bytes) -> list[Line]:
    """The lines of a CSV file: UTF-8 or GB18030, comma, semicolon or tab, with a heading.

    Raises:
        Invalid: It is no such file.
    """
    if len(data) > MAX_BYTES:
        raise Invalid(_("文件太大"), code="file-too-large")
    if data[:4] == b"PK\x03\x04":
        raise Invalid(_("这是 Excel 文件,请另存为 CSV 再导入"), code="not-csv")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            raise Invalid(_("文件不是 UTF-8 或 GB18030 文本"), code="not-csv") from None
    if "\x00" in text:
        raise Invalid(_("文件不是 UTF-8 或 GB18030 文本"), code="not-csv")
    first = text.partition("\n")[0]
    mark = max("\t;,", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    except csv.Error:
        raise Invalid(_("不是有效的 CSV 文件"), code="not-csv") from None
    if len(rows) > MAX_LINES:
        raise Invalid(_("最多 {n} 行").format(n=MAX_LINES), code="file-too-large")
    heading = [cell.strip().lower() for cell in rows[0]] if rows else []
    places: dict[str, int] = {}
    for name, spellings in _HEADINGS.items():
        at = next((place for place, cell in enumerate(heading) if cell in spellings), None)
        if at is not None:
            places[name] = at
    missing = [name for name in COLUMNS[:4] if name not in places]
    if missing:
        raise Invalid(
            _("第一行应是列名:医师、医院、开始、结束、职责、阅片能力;缺少:{names}").format(
                names="、".join(_HEADINGS[name][2 if name == "person" else 1] for name in missing)
            ),
            code="no-heading",
        )
    lines = []
    for number, row in enumerate(rows[1:], 2):
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in places.items()}
        if any(cells.values()):
            lines.append(
                Line(
                    number,
                    cells["person"],
                    cells["hospital"],
                    cells["from"],
                    cells["to"],
                    cells.get("role", ""),
                    cells.get("skills", ""),
                )
            )
    if not lines:
        raise Invalid(_("文件里没有班次"), code="empty-file")
    return lines


def check(session: Session, lines: Sequence[Line], *, replace: bool = False, instead_of: Iterable[str] = ()) -> Checked:
    """What these lines would do; every line that cannot be, with its reason.

    Args:
        session: The transaction.
        lines: As typed.
        replace: The shifts of the named hospitals that begin between the first and the last line's beginning go.
        instead_of: Ids of shifts that the lines take the place of.
    """
    found = Checked()
    hospitals, people = _hospitals(session), _people(session)
    for line in lines:
        errors, entry = _values(line, hospitals, people)
        if entry is None:
            found.errors.extend((line.number, error) for error in errors)
        else:
            found.entries.append(entry)
    if not found.entries:
        return found
    first, last = min(e.starts_at for e in found.entries), max(e.ends_at for e in found.entries)
    present = session.scalars(select(RotaShift).where(RotaShift.ends_at > first, RotaShift.starts_at < last)).all()
    gone = set(instead_of)
    if replace:
        named = {entry.hospital.id for entry in found.entries}
        latest = max(e.starts_at for e in found.entries)
        replaced = [row for row in present if row.hospital_id in named and first <= row.starts_at <= latest]
        same = {_same(entry): entry for entry in found.entries}
        found.removed.extend(row for row in replaced if _same(row) not in same)
        gone |= {row.id for row in found.removed}
    _overlaps(found, [row for row in present if row.id not in gone], people)
    return found


def _same(one: Entry | RotaShift) -> tuple[object, ...]:
    hospital = one.hospital.id if isinstance(one, Entry) else one.hospital_id
    person = one.person.id if isinstance(one, Entry) else one.person_id
    return (hospital, person, one.starts_at, one.ends_at, one.role, tuple(one.skills))


def _overlaps(found: Checked, present: Sequence[RotaShift], people: _People) -> None:
    """Nobody is on duty twice at once: neither within the lines nor with what stands already."""
    standing = {_same(row) for row in present}
    kept: list[Entry] = []
    taken: dict[str, list[tuple[datetime, datetime, int]]] = {}
    for row in present:
        taken.setdefault(row.person_id, []).append((row.starts_at, row.ends_at, 0))
    for entry in sorted(found.entries, key=lambda one: (one.starts_at, one.number)):
        if _same(entry) in standing:
            kept.append(
                Entry(
                    entry.number, entry.hospital, entry.person, entry.starts_at, entry.ends_at, entry.role,
                    entry.skills, known=True,
                )
            )  # fmt: skip
            continue
        clash = next(
            (one for one in taken.get(entry.person.id, []) if one[0] < entry.ends_at and entry.starts_at < one[1]), None
        )
        if clash is not None:
            span = _("{start} 至 {end}").format(start=moment_words(clash[0]), end=moment_words(clash[1]))
            error = (
                _("{name}与第 {line} 行的班次重叠:{span}").format(name=entry.person.name, line=clash[2], span=span)
                if clash[2]
                else _("{name}在 {span} 已有班次").format(name=entry.person.name, span=span)
            )
            found.errors.append((entry.number, error))
            continue
        taken.setdefault(entry.person.id, []).append((entry.starts_at, entry.ends_at, entry.number))
        kept.append(entry)
    found.entries[:] = sorted(kept, key=lambda one: one.number)
    found.errors.sort(key=lambda one: one[0])


class _People:
    """People who may be on duty, by what they are called."""

    def __init__(self, rows: Iterable[tuple[Person, str]]) -> None:
        self.by_login: dict[str, Person] = {}
        self.by_name: dict[tuple[str, str], list[Person]] = {}
        self.elsewhere: dict[str, list[Person]] = {}
        for person, _code in rows:
            self.by_login[person.login.lower()] = person
            self.by_name.setdefault((person.name, person.org_id), []).append(person)
            self.elsewhere.setdefault(person.name, []).append(person)

    def find(self, text: str, hospital: Organisation) -> Person | Message:
        """The person, or why nobody is meant."""
        person = self.by_login.get(text.lower())
        if person is None:
            named = self.by_name.get((text, hospital.id), [])
            if len(named) > 1:
                return _("{hospital}有 {n} 位{name},请写登录名").format(hospital=hospital.name, n=len(named), name=text)
            if not named:
                if self.elsewhere.get(text):
                    return _("{name}不属于{hospital}").format(name=text, hospital=hospital.name)
                return _("没有叫“{name}”的医师").format(name=text[:60])
            person = named[0]
        if person.org_id != hospital.id:
            return _("{name}不属于{hospital}").format(name=person.name, hospital=hospital.name)
        if not person.active:
            return _("{name}的账户已停用").format(name=person.name)
        if READS.isdisjoint(person.roles):
            return _("{name}不是书写或审核医师").format(name=person.name)
        return person


def _people(session: Session) -> _People:
    rows = session.execute(select(Person, Organisation.code).join(Organisation, Organisation.id == Person.org_id))
    return _People((person, code) for person, code in rows)


def _hospitals(session: Session) -> dict[str, Organisation]:
    rows = session.scalars(
        select(Organisation).where(
            Organisation.active, Organisation.kind.in_([OrgKind.HOSPITAL.value, OrgKind.TERTIARY.value])
        )
    )
    found: dict[str, Organisation] = {}
    for org in rows:
        found[org.code.lower()] = found[org.name.lower()] = org
    return found


def _values(line: Line, hospitals: Mapping[str, Organisation], people: _People) -> tuple[list[Message], Entry | None]:
    errors: list[Message] = []
    hospital = hospitals.get(line.hospital.lower())
    person: Person | Message | None = None
    if hospital is None:
        errors.append(_("没有医院“{name}”").format(name=line.hospital[:60]))
    elif not line.person:
        errors.append(_("没有写医师"))
    else:
        person = people.find(line.person, hospital)
        if isinstance(person, Message):
            errors.append(person)
    starts, ends = parse_moment(line.starts), parse_moment(line.ends)
    for text, moment in ((line.starts, starts), (line.ends, ends)):
        if moment is None:
            errors.append(_("“{text}”不是时间,应写作 2026-03-02 08:00").format(text=text[:40]))
    if starts is not None and ends is not None:
        if ends <= starts:
            errors.append(_("结束时间应晚于开始时间"))
        elif ends - starts > LONGEST:
            errors.append(_("一个班次最长 {n} 小时").format(n=int(LONGEST.total_seconds() // 3600)))
    role = _role(line.role)
    if role is None:
        errors.append(_("职责只能是书写、审核或书写和审核"))
    found, unknown = skill_words.parse(line.skills)
    if unknown:
        errors.append(_("没有这种阅片能力:{names}").format(names="、".join(unknown)))
    if errors or hospital is None or not isinstance(person, Person) or starts is None or ends is None or role is None:
        return errors, None
    return [], Entry(line.number, hospital, person, starts, ends, role, tuple(found))


def _role(text: str) -> str | None:
    text = text.strip().lower()
    if not text or text == "全部":
        return "all"
    return next((code for code, name in ROLES.items() if text in (code, str(name))), None)


def parse_moment(text: str) -> datetime | None:
    """A moment typed in the county's zone (`2026-03-02 08:00`, `2026/3/2 24:00`), in UTC; None where it is none."""
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute = (int(part) for part in found.groups())
    try:
        if (hour, minute) == (24, 0):
            return datetime.combine(date(year, month, day) + timedelta(days=1), time(), zone()).astimezone(UTC)
        return datetime(year, month, day, hour, minute, tzinfo=zone()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def moment_words(moment: datetime) -> str:
    """A moment as it is typed."""
    return f"{moment.astimezone(zone()):%Y-%m-%d %H:%M}"


# --- writing ------------------------------------------------------------------------------------------------------


def apply(
    session: Session, actor: Actor, lines: Sequence[Line], *, replace: bool = False, instead_of: Iterable[str] = ()
) -> Checked:
    """Write these lines, all or none.

    Raises:
        Invalid: `lines` in its detail names each line that cannot be (`line`, `message`).
    """
    # Two who write at once must each see the other's shifts.
    one_at_a_time(session, "rota")
    found = check(session, lines, replace=replace, instead_of=instead_of)
    if found.errors:
        raise Invalid(
            _("有 {n} 处不对,什么都没有导入").format(n=len(found.errors)),
            code="rota-errors",
            fields={f"lines.{number}": message for number, message in found.errors},
        )
    now = clock.now()
    gone = {row.id for row in found.removed} | set(instead_of)
    if gone:
        session.execute(delete(RotaShift).where(RotaShift.id.in_(gone)))
    added = [entry for entry in found.entries if not entry.known]
    for entry in added:
        session.add(
            RotaShift(
                hospital_id=entry.hospital.id,
                person_id=entry.person.id,
                starts_at=entry.starts_at,
                ends_at=entry.ends_at,
                role=entry.role,
                skills=list(entry.skills),
                changed_at=now,
                changed_by=actor.id,
            )
        )
    session.flush()
    if added or gone:
        by_hospital: dict[str, int] = {}
        for entry in added:
            by_hospital[entry.hospital.id] = by_hospital.get(entry.hospital.id, 0) + 1
        touched = set(by_hospital) | {row.hospital_id for row in found.removed}
        for hospital_id in sorted(touched):
            audit.record(
                session,
                actor,
                "rota.change",
                "organisation",
                hospital_id,
                org_id=hospital_id,
                added=by_hospital.get(hospital_id, 0),
                removed=sum(row.hospital_id == hospital_id for row in found.removed),
                changed=len(set(instead_of)),
            )
        live.publish(session, "rota", "", orgs=touched)
    return found


def get(session: Session, shift_id: str) -> RotaShift:
    """The shift.

    Raises:
        NotFound: There is none.
    """
    row = session.get(RotaShift, shift_id)
    if row is None:
        raise NotFound(_("没有找到这个班次"))
    return row


def remove(session: Session, actor: Actor, shift_id: str) -> None:
    """Take a shift out of the rota."""
    row = get(session, shift_id)
    hospital_id = row.hospital_id
    session.delete(row)
    session.flush()
    audit.record(session, actor, "rota.change", "organisation", hospital_id, org_id=hospital_id, added=0, removed=1)
    live.publish(session, "rota", "", orgs=[hospital_id])


def set_skills(session: Session, actor: Actor, person_id: str, text: str) -> list[str]:
    """Say what a person reads; empty: everything.

    Raises:
        NotFound: There is no such reader.
        Invalid: Something in `text` is no skill.
    """
    person = session.get(Person, person_id)
    if person is None or READS.isdisjoint(person.roles):
        raise NotFound(_("没有找到这位医师"))
    found, unknown = skill_words.parse(text)
    if unknown:
        raise Invalid(fields={"skills": _("没有这种阅片能力:{names}").format(names="、".join(unknown))})
    row = session.get(ReadingSkill, person_id)
    if not found:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(ReadingSkill(person_id=person_id, skills=found, changed_at=clock.now(), changed_by=actor.id))
    else:
        row.skills, row.changed_at, row.changed_by = found, clock.now(), actor.id
    session.flush()
    audit.record(session, actor, "rota.skills", "person", person_id, org_id=person.org_id, skills=found)
    return found


def export_csv(found: Sequence[Shift]) -> str:
    """The table as `read_csv` takes it in again; with a mark that Excel needs for UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["登录名", "医院代码", "开始", "结束", "职责", "阅片能力", "姓名(仅供阅读)"])
    for shift in found:
        writer.writerow(
            [
                _plain(shift.person.login),
                _plain(shift.hospital.code),
                moment_words(shift.row.starts_at),
                moment_words(shift.row.ends_at),
                shift.row.role,
                ";".join(shift.row.skills),
                _plain(shift.person.name),
            ]
        )
    return "\ufeff" + out.getvalue()


def _plain(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
