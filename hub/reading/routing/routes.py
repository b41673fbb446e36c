"""JSON API of routing: rules, rota, rebalancing, alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, File, Form, Path, Query, Request, Response, UploadFile
from sqlalchemy import select

from hub.accounts.roles import Permission as P
from hub.audit import service as audit
from hub.exams import repository as exam_rows
from hub.exams.catalogue import BODY_PARTS, ENCOUNTERS, MODALITIES, PRIORITIES
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import LOCALE_COOKIE, Message, _, pick_locale, translate
from hub.reading.routing import alerts, balance, plan, rota, service, words
from hub.reading.routing import skills as skill_words
from hub.reading.routing.models import RoutingPlan
from hub.reading.routing.rota import Line
from hub.reading.routing.schemas import (
    AcknowledgeBody,
    AlertsAnswer,
    CountAnswer,
    DecisionAnswer,
    DryRunBody,
    ImportAnswer,
    LoadsAnswer,
    MovedAnswer,
    MovedOne,
    MovesAnswer,
    MovesBody,
    PlanAnswer,
    PlanBody,
    RotaAnswer,
    RouteAnswer,
    ShiftBody,
    SkillsAnswer,
    SkillsBody,
    alert_of,
    decision_of,
    import_of,
    load_of,
    move_of,
    shift_of,
)
from hub.sites.models import Organisation

router = APIRouter(prefix="/api", tags=["routing"])

Keeper = Annotated[Actor, require(P.ROUTING_MANAGE)]
Balancer = Annotated[Actor, require(P.QUEUE_BALANCE)]
Alerted = Annotated[Actor, require(P.ALERTS_VIEW)]

LONGEST_SPAN = timedelta(days=366)


def _locale(request: Request) -> str:
    return pick_locale(request.cookies.get(LOCALE_COOKIE))


# --- rules --------------------------------------------------------------------------------------------------------


def _plan_of(row: RoutingPlan | None) -> PlanAnswer:
    if row is None:
        return PlanAnswer(number=0, plan=plan.to_json(plan.DEFAULT))
    body = plan.to_json(plan.parse(row.body, clinics=None, hospitals=None))
    return PlanAnswer(
        number=row.number, plan=body, note=row.note, changed_at=row.changed_at, changed_by=row.changed_by_name
    )


@router.get("/routing/plan", summary="The routing rules in force")
def get_plan(session: ReadDb, actor: Keeper) -> PlanAnswer:
    """Rules, emergency and answering times, load shares, bounds of rebalancing."""
    return _plan_of(service.current(session))


@router.get("/routing/plan/{number}", summary="A version of the routing rules")
def get_version(number: Annotated[int, Path(ge=1, le=2**31 - 1)], session: ReadDb, actor: Keeper) -> PlanAnswer:
    """As it was saved."""
    row = session.get(RoutingPlan, number)
    if row is None:
        raise NotFound()
    return _plan_of(row)


@router.put("/routing/plan", summary="Save a new version of the routing rules")
def put_plan(body: PlanBody, session: WriteDb, actor: Keeper) -> PlanAnswer:
    """Exams that arrive from now on follow it; exams that wait stay where they are (see rebalancing)."""
    return _plan_of(service.save(session, actor, body.plan, based_on=body.based_on, note=body.note))


@router.post("/routing/dry-run", summary="Where an exam would go, and why")
def dry_run(body: DryRunBody, request: Request, session: ReadDb, actor: Keeper) -> DecisionAnswer:
    """Nothing is written. An exam is found by its number only by who may know it (the director)."""
    exam: Exam | None = None
    if body.accession.strip():
        exam = session.scalars(
            exam_rows.visible_to(actor).where(Exam.accession == body.accession.strip().upper())
        ).one_or_none()
        if exam is None:
            raise NotFound(_("没有找到这项检查"))
        asked = service.asked_of(session, exam)
    else:
        asked = _typed(session, body)
    at = None
    if body.at.strip():
        at = rota.parse_moment(body.at.replace("T", " "))
        if at is None:
            raise Invalid(fields={"at": _("“{text}”不是时间,应写作 2026-03-02 08:00").format(text=body.at[:40])})
    rules = service.check(session, body.plan) if body.plan is not None else None
    decision = service.dry_run(session, asked, plan=rules, at=at, exam=exam)
    return decision_of(session, decision, _locale(request))


def _typed(session: ReadDb, body: DryRunBody) -> service.Asked:
    fields: dict[str, Message | str] = {}
    clinic, retake_by = body.clinic.strip().upper(), body.retake_by.strip().upper()
    named = select(Organisation.code, Organisation.kind).where(Organisation.code.in_((clinic, retake_by)))
    kinds = {row.code: row.kind for row in session.execute(named)}
    if kinds.get(clinic) != "clinic":
        fields["clinic"] = _("请选择申请机构")
    if retake_by and kinds.get(retake_by) not in service.READS:
        fields["retake_by"] = _("没有找到这家阅片医院")
    if body.modality not in MODALITIES:
        fields["modality"] = _("请选择检查类型")
    if any(part not in BODY_PARTS for part in body.body_parts):
        fields["body_parts"] = _("没有这个部位")
    if body.priority not in PRIORITIES:
        fields["priority"] = _("没有这个优先级")
    if body.encounter not in ENCOUNTERS:
        fields["encounter"] = _("没有这种就诊类型")
    if fields:
        raise Invalid(fields=fields)
    return service.Asked(clinic, body.modality, tuple(body.body_parts), body.priority, body.encounter, retake_by)


@router.get("/exams/{exam_id}/route", summary="Where an exam was routed, and why")
def get_route(
    exam_id: str, request: Request, session: ReadDb, actor: Annotated[Actor, require(P.QUEUE_VIEW)]
) -> RouteAnswer:
    """For its readers and the director."""
    exam = exam_rows.get(session, actor, exam_id)
    row, why = service.explain(session, exam)
    locale = _locale(request)
    named = words.names(session, locale)
    return RouteAnswer(
        hospital=exam.reading_org.code if exam.reading_org is not None else None,
        rule=row.rule if row is not None else "",
        plan=row.plan if row is not None else 0,
        why=[words.say(reason, locale, named) for reason in why],
        decided_at=row.decided_at if row is not None else None,
        answer_by=row.answer_by if row is not None else None,
    )


# --- rota ---------------------------------------------------------------------------------------------------------


Day = Annotated[str, Query(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2026-03-02"])]


def _span(first: str, last: str) -> tuple[datetime, datetime]:
    start, end = rota.parse_moment(f"{first} 00:00"), rota.parse_moment(f"{last} 24:00")
    if start is None or end is None or not timedelta() < end - start <= LONGEST_SPAN:
        raise Invalid(fields={"to": _("请选择一年以内的日期范围")})
    return start, end


@router.get("/rota", summary="The rota")
def get_rota(
    session: ReadDb,
    actor: Annotated[Actor, require(P.ROTA_VIEW)],
    first: Annotated[str, Query(alias="from", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")],
    to: Day,
    hospital: Annotated[str, Query(max_length=26, description="Its id; empty: all.")] = "",
) -> RotaAnswer:
    """Shifts that overlap these days of the county's zone."""
    start, end = _span(first, to)
    return RotaAnswer(shifts=[shift_of(one) for one in rota.shifts(session, start, end, hospital_id=hospital)])


def _line(body: ShiftBody) -> Line:
    starts, ends = body.starts.replace("T", " "), body.ends.replace("T", " ")
    return Line(0, body.person.strip(), body.hospital.strip(), starts, ends, body.role, body.skills)


@router.post("/rota", summary="Add a shift", status_code=201)
def add_shift(body: ShiftBody, session: WriteDb, actor: Keeper) -> CountAnswer:
    """Refused where the person is on duty elsewhere at that time."""
    return CountAnswer(count=len(rota.apply(session, actor, [_line(body)]).entries))


@router.put("/rota/{shift_id}", summary="Change a shift")
def change_shift(shift_id: str, body: ShiftBody, session: WriteDb, actor: Keeper) -> CountAnswer:
    """As a new one in its place."""
    rota.get(session, shift_id)
    return CountAnswer(count=len(rota.apply(session, actor, [_line(body)], instead_of=[shift_id]).entries))


@router.delete("/rota/{shift_id}", summary="Take a shift out of the rota", status_code=204)
def remove_shift(shift_id: str, session: WriteDb, actor: Keeper) -> None:
    """Exams that were routed meanwhile stay where they are."""
    rota.remove(session, actor, shift_id)


@router.post("/rota/import", summary="Take a rota from a CSV file")
def import_rota(
    request: Request,
    session: WriteDb,
    actor: Keeper,
    file: Annotated[UploadFile, File(description="CSV, UTF-8 or GB18030, with a heading")],
    replace: Annotated[bool, Form(description="Shifts of these hospitals in the file's span go.")] = False,
    dry: Annotated[bool, Form(description="Only say what it would do.")] = False,
) -> ImportAnswer:
    """All of it or nothing: each line that cannot be is named with its reason."""
    lines = rota.read_csv(file.file.read(rota.MAX_BYTES + 1))
    found = rota.check(session, lines, replace=replace)
    if not dry and not found.errors:
        found = rota.apply(session, actor, lines, replace=replace)
    return import_of(found, written=not dry and not found.errors, locale=_locale(request))


@router.get("/rota/export.csv", summary="The rota as a CSV file")
def export_rota(
    session: WriteDb,
    actor: Annotated[Actor, require(P.ROTA_VIEW)],
    first: Annotated[str, Query(alias="from", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")],
    to: Day,
    hospital: Annotated[str, Query(max_length=26)] = "",
) -> Response:
    """What the import takes in again."""
    start, end = _span(first, to)
    found = rota.shifts(session, start, end, hospital_id=hospital)
    audit.record(session, actor, "rota.export", "organisation", hospital, shifts=len(found))
    return Response(
        rota.export_csv(found),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="rota-{first}-{to}.csv"', "Cache-Control": "no-store"},
    )


@router.put("/rota/skills/{person_id}", summary="Say what a person reads")
def put_skills(person_id: str, body: SkillsBody, request: Request, session: WriteDb, actor: Keeper) -> SkillsAnswer:
    """`CT`, `DX:chest`, `*:breast`; empty: everything. Who lacks a skill is not offered such an exam."""
    found = rota.set_skills(session, actor, person_id, body.skills)
    return SkillsAnswer(person_id=person_id, skills=found, words=skill_words.words(found, _locale(request)))


# --- rebalancing --------------------------------------------------------------------------------------------------


@router.get("/queue/loads", summary="How the reading hospitals stand")
def get_loads(request: Request, session: ReadDb, actor: Balancer) -> LoadsAnswer:
    """Waiting, held, overdue, share of the load, who is on duty."""
    locale = _locale(request)
    return LoadsAnswer(hospitals=[load_of(one, locale) for one in balance.loads(session)])


@router.get("/queue/balance", summary="What rebalancing would move")
def get_balance(
    request: Request,
    session: ReadDb,
    actor: Balancer,
    hospital: Annotated[str, Query(max_length=26, description="Only from this one; empty: from all behind.")] = "",
) -> MovesAnswer:
    """Nothing is moved: POST what should be."""
    locale = _locale(request)
    named = words.names(session, locale)
    return MovesAnswer(
        moves=[move_of(session, one, locale, named) for one in balance.propose(session, hospital_id=hospital)]
    )


@router.post("/queue/balance", summary="Move waiting exams to other hospitals")
def post_balance(body: MovesBody, request: Request, session: WriteDb, actor: Balancer) -> MovedAnswer:
    """Each where it still lies at its source, waits, and nobody has a draft; what is not moved says why."""
    wanted = [balance.Wanted(one.exam_id, one.source, one.target) for one in body.moves]
    locale = _locale(request)
    return MovedAnswer(
        moved=[
            MovedOne(
                exam_id=one.exam_id,
                moved=one.refusal is None,
                refusal=translate(one.refusal, locale) if one.refusal is not None else "",
            )
            for one in balance.move(session, actor, wanted, reason=body.reason)
        ]
    )


# --- alerts -------------------------------------------------------------------------------------------------------


@router.get("/alerts", summary="Exams whose limit runs out")
def get_alerts(request: Request, session: ReadDb, actor: Alerted) -> AlertsAnswer:
    """The highest open alert of each exam; a reader's hospital, director and administrators acknowledge apart."""
    locale = _locale(request)
    return AlertsAnswer(alerts=[alert_of(one, locale) for one in alerts.of(session, actor)])


@router.post("/alerts/acknowledge", summary="Acknowledge alerts")
def acknowledge(body: AcknowledgeBody, session: WriteDb, actor: Alerted) -> CountAnswer:
    """They leave the list of the actor's side; the next level comes back."""
    return CountAnswer(count=alerts.acknowledge(session, actor, body.ids))
