"""Pages of a clinic: exams, registration, upload, inbox, exam."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Permission as P
from hub.delivery import service as delivery
from hub.exams import catalogue, listing, registration, repository
from hub.exams.models import Exam, Transition
from hub.exams.states import OPEN_STATES, STATE_NAMES, Event, State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, require
from hub.kit.errors import Forbidden
from hub.kit.i18n import Message, _, translate
from hub.kit.settings import get_settings
from hub.patients import service as patients
from hub.reading.conversation import thread
from hub.reading.conversation.models import ThreadEntry
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports import repository as reports
from hub.reports.critical.states import STATE_NAMES as CRITICAL_STATES
from hub.studies import uploads, verifying
from hub.studies.models import ExamStudy, Instance, Series, Study, UploadBatch, UploadFile
from hub.studies.repository import note_view
from hub.web import conversation, critical_views, pictures, recognition, scoring
from hub.web.pages import can, locale_of, render

router = APIRouter(tags=["clinic"])

ALERT_NAMES: dict[str, Message] = {
    "no_images": _("未收到影像"),
    "verify": _("待核对"),
    "incomplete": _("待补"),
    "unseen": _("报告未查看"),
    "history": _("待补充病史"),
    "retake": _("退回重拍"),
}
ALERT_TONES = {
    "no_images": "red",
    "verify": "amber",
    "incomplete": "amber",
    "unseen": "green",
    "history": "amber",
    "retake": "orange",
}
DAYS: dict[str, Message] = {"today": _("今天与未完成"), "week": _("近 7 天"), "all": _("全部")}

EVENT_NAMES: dict[Event, Message] = {
    Event.IMAGES_ARRIVE: _("影像到达"),
    Event.COMPLETE: _("影像齐全,进入阅片队列"),
    Event.DISAGREE: _("有不一致,等待核对"),
    Event.VERIFY: _("核对通过"),
    Event.DETACH: _("影像已移走"),
    Event.CLAIM: _("开始书写"),
    Event.TAKE_OVER: _("接手书写"),
    Event.RELEASE: _("放回队列"),
    Event.LEASE_EXPIRES: _("书写超时,放回队列"),
    Event.SUBMIT: _("提交审核"),
    Event.WITHDRAW: _("撤回提交"),
    Event.CLAIM_REVIEW: _("开始审核"),
    Event.TAKE_OVER_REVIEW: _("接手审核"),
    Event.RELEASE_REVIEW: _("放回待审核"),
    Event.REVIEW_LEASE_EXPIRES: _("审核超时,放回队列"),
    Event.REJECT: _("驳回修改"),
    Event.SIGN: _("签发"),
    Event.RETURN: _("报告回传"),
    Event.SEE: _("报告已查看"),
    Event.AMEND: _("补充或更正报告"),
    Event.ISSUE_PRELIMINARY: _("发出急诊报告"),
    Event.REQUEST_RETAKE: _("退回重拍"),
    Event.DECLINE_RETAKE: _("卫生院答复:无法重拍"),
    Event.DECLINE_RETAKE_REVIEW: _("卫生院答复:无法重拍"),
    Event.REQUEST_HISTORY: _("要求补充病史"),
    Event.ANSWER_HISTORY: _("已补充病史"),
    Event.CONSULT: _("请求会诊"),
    Event.END_CONSULTATION: _("会诊结束"),
    Event.CANCEL: _("取消"),
    Event.VOID: _("作废"),
}
CLOCK_SOURCES: dict[str, Message] = {
    "modality": _("设备时间"),
    "registration": _("设备时间不可信,以登记时间代替"),
    "arrival": _("设备时间不可信,以首幅影像到达时间代替"),
}

_QUIET_EVENTS = frozenset({Event.LEASE_EXPIRES, Event.REVIEW_LEASE_EXPIRES, Event.RELEASE, Event.RELEASE_REVIEW})
_CANCELLABLE = frozenset({State.REGISTERED, State.RECEIVING, State.TO_VERIFY, State.TO_READ})
_TAKES_IMAGES = frozenset({State.REGISTERED, State.RECEIVING, State.TO_VERIFY, State.TO_READ})


def waiting(exam: Exam) -> dict[str, Any]:
    """Since when an exam waits in its present state, against which limit; `done` where it no longer waits."""
    settings = get_settings()
    since, due, done = exam.registered_at, None, None
    state = State(exam.state)
    if state is State.REGISTERED:
        due = exam.registered_at + timedelta(minutes=settings.no_images_alert_minutes)
    elif state is State.RECEIVING:
        since = exam.first_image_at or since
    elif state is State.TO_VERIFY:
        since, due = exam.verify_since or since, registration.verify_due(exam)
    elif state is State.HISTORY_REQUESTED:
        since = exam.history_requested_at or since
    elif state in OPEN_STATES:
        since, due = exam.received_at or exam.queued_at or since, exam.due_at
    else:
        since = exam.received_at or since
        done = exam.returned_at or exam.signed_at or exam.ended_at
        due = exam.due_at
    return {"since": since, "due": due, "done": done}


def row_of(exam: Exam, locale: str) -> dict[str, Any]:
    """What a list shows of an exam."""
    return {
        "exam": exam,
        "words": exam_words(exam, locale),
        "person": " ".join(part for part in (sex_words(exam.patient.sex, locale), age_words(exam, locale)) if part),
        "number": "" if patients.hub_given(exam.patient.number) else exam.patient.number,
        "alerts": [(code, ALERT_NAMES[code], ALERT_TONES[code]) for code in listing.alerts_of(exam)],
        "missing": [registration.FIELD_NAMES.get(code, code) for code in exam.incomplete],
        **waiting(exam),
    }


@router.get("/clinic", response_class=HTMLResponse, include_in_schema=False)
def home(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.EXAM_REGISTER, P.REPORT_SEE, people=True)],
    q: Annotated[str, Query(max_length=60)] = "",
    day: Annotated[str, Query(max_length=10)] = "today",
    state: Annotated[str, Query(max_length=20)] = "",
    priority: Annotated[str, Query(max_length=10)] = "",
    modality: Annotated[str, Query(max_length=4)] = "",
    alert: Annotated[str, Query(max_length=20)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """The clinic's exams, live; filters stand in the address."""
    wanted = listing.ExamFilter(
        q, "all" if q.strip() and day == "today" else day, state, priority, modality, alert, page
    )
    found = listing.find(session, actor, wanted)
    locale = locale_of(request)
    chosen = {"q": q, "day": day, "state": state, "priority": priority, "modality": modality, "alert": alert}

    def address(**changes: Any) -> str:
        values = {
            key: value for key, value in {**chosen, **changes}.items() if value and (key, value) != ("day", "today")
        }
        return "/clinic" + (f"?{urlencode(values)}" if values else "")

    return render(
        request,
        "clinic/home.html",
        {
            "rows": [row_of(exam, locale) for exam in found.items],
            "unread": thread.unread(session, actor, [exam.id for exam in found.items]),
            "found": found,
            "filter": chosen,
            "filtered": any(value for key, value in chosen.items() if key != "day"),
            "address": address,
            "page_url": lambda number: address(page=number),
            "alerts": [
                (code, ALERT_NAMES[code], ALERT_TONES[code], count)
                for code, count in listing.alert_counts(session, actor).items()
            ],
            "days": DAYS,
            "states": STATE_NAMES,
            "priorities": catalogue.PRIORITIES,
            "modalities": catalogue.MODALITIES,
        },
    )


def _recent(session: Session, org_id: str | None) -> dict[str, list[str]]:
    """What the clinic's last registrations said, to be offered while typing."""
    since = clock.now() - timedelta(days=60)
    rows = session.execute(
        select(Exam.department, Exam.doctor, Exam.doctor_phone, func.max(Exam.registered_at))
        .where(Exam.org_id == org_id, Exam.registered_at > since, Exam.doctor != "")
        .group_by(Exam.department, Exam.doctor, Exam.doctor_phone)
        .order_by(func.max(Exam.registered_at).desc())
        .limit(40)
    ).all()
    return {
        "departments": list(dict.fromkeys(row[0] for row in rows if row[0])),
        "doctors": list(dict.fromkeys(row[1] for row in rows)),
        "phones": [f"{row[1]}\t{row[0]}\t{row[2]}" for row in rows],
    }


def _register_page(
    request: Request,
    session: Session,
    actor: Actor,
    form: registration.RegistrationForm,
    exam: Exam | None,
) -> HTMLResponse:
    locale = locale_of(request)
    headers = [study.header_patient for study in verifying.studies_of(session, exam.id)] if exam else []
    recent = _recent(session, actor.org_id)
    return render(
        request,
        "clinic/register.html",
        {
            "form": form,
            "exam": exam,
            "header": headers[0] if headers else None,
            "missing": [registration.FIELD_NAMES.get(code, code) for code in exam.incomplete] if exam else [],
            "phrases": catalogue.phrases(session),
            "parts": catalogue.BODY_PARTS.values(),
            "modalities": catalogue.MODALITIES,
            "priorities": catalogue.PRIORITIES,
            "encounters": catalogue.ENCOUNTERS,
            "pregnancies": catalogue.PREGNANCY,
            "recent": recent,
            "page_data": {
                "exam": exam.id if exam else None,
                "phones": recent["phones"],
                "regions": catalogue.REGIONS,
                "ionising": sorted(catalogue.IONISING),
                "ages": catalogue.PREGNANCY_AGES,
                "numbers": {code: translate(name, locale) for code, name in catalogue.ENCOUNTER_NUMBERS.items()},
                "pregnancy_parts": [part.code for part in catalogue.BODY_PARTS.values() if part.pregnancy],
                "common": _common_parts(session, actor.org_id),
            },
        },
    )


def _common_parts(session: Session, org_id: str | None) -> dict[str, list[str]]:
    """Body parts by modality in the order in which a clinic usually asks for them."""
    rows = session.execute(
        select(Exam.modality, Exam.body_parts)
        .where(Exam.org_id == org_id)
        .order_by(Exam.registered_at.desc())
        .limit(300)
    )
    counts: dict[str, dict[str, int]] = {}
    for modality, parts in rows:
        for part in parts:
            counts.setdefault(modality, {})[part] = counts.setdefault(modality, {}).get(part, 0) + 1
    return {modality: sorted(found, key=lambda part: -found[part]) for modality, found in counts.items()}


@router.get("/clinic/register", response_class=HTMLResponse, include_in_schema=False)
def register_page(
    request: Request, session: ReadDb, actor: Annotated[Actor, require(P.EXAM_REGISTER, people=True)], patient: str = ""
) -> HTMLResponse:
    """The form of a new exam; `patient` fills in somebody known."""
    form = registration.RegistrationForm()
    if patient and actor.org_id:
        row = patients.get_own(session, actor.org_id, patient)
        form = registration.RegistrationForm(
            patient_id=row.id,
            name=row.name[:60],
            sex=row.sex,
            birth_date=row.birth_date.isoformat() if row.birth_date and not row.birth_estimated else "",
            age=registration.typed_age(row),
            identity_number=row.identity_number,
            number="" if patients.hub_given(row.number) else row.number,
            phone=row.phone,
        )
    return _register_page(request, session, actor, form, None)


@router.get("/clinic/exams/{exam_id}/register", response_class=HTMLResponse, include_in_schema=False)
def complete_page(
    request: Request, exam_id: str, session: ReadDb, actor: Annotated[Actor, require(P.EXAM_REGISTER, people=True)]
) -> HTMLResponse:
    """Completing (待补) or correcting a registration, filled with what is known, from the images, too."""
    exam = repository.get(session, actor, exam_id)
    if exam.org_id != actor.org_id:
        raise Forbidden(_("只有登记的机构可以修改登记"))
    return _register_page(request, session, actor, registration.form_of(exam), exam)


@router.get("/clinic/upload", response_class=HTMLResponse, include_in_schema=False)
def upload_page(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.IMAGES_UPLOAD, people=True)],
    exam: str = "",
) -> HTMLResponse:
    """Uploading a folder, files, a ZIP or a DICOMDIR; `exam` chooses the exam it is for."""
    settings = get_settings()
    locale = locale_of(request)
    chosen = repository.get(session, actor, exam) if exam else None
    since = clock.now() - timedelta(days=3)
    waiting_exams = session.scalars(
        select(Exam)
        .where(
            Exam.org_id == actor.org_id,
            Exam.registered_at > since,
            Exam.state.in_([State.REGISTERED.value, State.RECEIVING.value, State.TO_VERIFY.value]),
        )
        .order_by(Exam.priority_rank, Exam.registered_at.desc())
        .limit(60)
    ).unique()
    exams = [row_of(row, locale) for row in waiting_exams if chosen is None or row.id != chosen.id]
    if chosen is not None:
        exams.insert(0, row_of(chosen, locale))
    opened = [(batch, uploads.reconcile(session, batch.id)) for batch in uploads.open_batches(session, actor)[:5]]
    return render(
        request,
        "clinic/upload.html",
        {
            "exams": exams,
            "chosen": chosen,
            "opened": opened,
            "page_data": {
                "chunk": settings.upload_chunk_mb * 2**20,
                "exam": chosen.id if chosen else None,
                "expire_hours": settings.upload_expire_hours,
                "max_file": settings.upload_max_file_mb * 2**20,
                "open": [
                    {"id": batch.id, "exam_id": batch.exam_id, "counts": asdict(state)} for batch, state in opened
                ],
            },
        },
    )


@router.get("/clinic/inbox", response_class=HTMLResponse, include_in_schema=False)
def inbox(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.REPORT_SEE, people=True)],
    q: Annotated[str, Query(max_length=60)] = "",
    unseen: bool = False,
) -> HTMLResponse:
    """Reports that came back, those that nobody has opened first."""
    locale = locale_of(request)
    items = delivery.inbox(session, actor, unseen=unseen, text=q, limit=100)
    items.sort(key=lambda item: item.delivery.state == "seen")
    return render(
        request,
        "clinic/inbox.html",
        {
            "items": [
                {
                    "item": item,
                    "words": exam_words(item.exam, locale),
                    "person": f"{sex_words(item.exam.patient.sex, locale)} {age_words(item.exam, locale)}".strip(),
                }
                for item in items
            ],
            "criticals": critical_views.of_exams(session, actor, [item.exam.id for item in items]),
            "critical_names": {state.value: name for state, name in CRITICAL_STATES.items()},
            "critical_tones": critical_views.TONES,
            "q": q,
            "unseen": unseen,
            "unseen_count": delivery.unseen_count(session, actor.org_id),
        },
    )


# --- one exam -----------------------------------------------------------------------------------------------------


def _steps(session: Session, actor: Actor, exam: Exam) -> list[dict[str, Any]]:
    """The timeline: registration, every transition, and the clocks that are still to come."""
    registered_by = session.get(Person, exam.registered_by)
    steps: list[dict[str, Any]] = [
        {
            "time": exam.registered_at,
            "what": _("影像先到,自动建立") if exam.source == "images" else _("完成登记"),
            "who": registered_by.name if registered_by else "",
            "tone": "done",
        }
    ]
    if exam.exam_at is not None:
        steps.append(
            {
                "time": exam.exam_at,
                "what": _("检查开始"),
                "note": CLOCK_SOURCES.get(exam.exam_at_source),
                "tone": "done",
            }
        )
    rows = session.scalars(select(Transition).where(Transition.exam_id == exam.id).order_by(Transition.id)).all()
    bad = {Event.DISAGREE, Event.REQUEST_RETAKE, Event.REQUEST_HISTORY, Event.CANCEL, Event.VOID, Event.REJECT}
    for row in rows:
        event = Event(row.event)
        if event in _QUIET_EVENTS:
            continue
        steps.append(
            {
                "time": row.at,
                "what": EVENT_NAMES[event],
                "who": row.actor_name if row.actor_name != "hub" else "",
                "note": repository.reason_for(actor, exam, row) or None,
                "tone": "bad" if event in bad else "done",
            }
        )
    steps.sort(key=lambda step: step["time"])
    if exam.state in OPEN_STATES:
        steps.append({"time": None, "what": STATE_NAMES[State(exam.state)], "tone": "now"})
    return [{"who": "", "note": None, **step} for step in steps]


def _question(session: Session, exam: Exam) -> str:
    """What the reader last asked the clinic."""
    return (
        session.scalar(
            select(ThreadEntry.text)
            .where(ThreadEntry.exam_id == exam.id, ThreadEntry.kind == "history_asked")
            .order_by(ThreadEntry.id.desc())
            .limit(1)
        )
        or ""
    )


def _pictures(session: Session, exam: Exam) -> list[dict[str, Any]]:
    """Studies with their series and the previews of their images, for the light viewer."""
    found: list[dict[str, Any]] = []
    for study in verifying.studies_of(session, exam.id):
        series_rows = session.scalars(
            select(Series).where(Series.study_id == study.id).order_by(Series.number, Series.created_at)
        ).all()
        series_list: list[dict[str, Any]] = []
        for series in series_rows:
            instances = session.execute(
                select(Instance.id, Instance.number, Instance.preview_key, Instance.preview_note, Instance.frames)
                .where(Instance.series_id == series.id, Instance.has_pixels, Instance.made_by_hub.is_(False))
                .order_by(Instance.number, Instance.id)
            ).all()
            if instances:
                series_list.append(
                    {
                        "series": series,
                        "count": len(instances),
                        "images": [
                            {"id": row[0], "number": row[1], "ready": bool(row[2]), "note": row[3]} for row in instances
                        ],
                    }
                )
        found.append({"study": study, "series": series_list})
    return found


@router.get("/clinic/exams/{exam_id}", response_class=HTMLResponse, include_in_schema=False)
def exam_page(
    request: Request, exam_id: str, actor: Annotated[Actor, require(P.IMAGES_VIEW, people=True)]
) -> HTMLResponse:
    """One exam: its clocks, its images as previews, its report."""
    locale = locale_of(request)
    with database().reading() as session:
        exam = repository.get(session, actor, exam_id)
        own = exam.org_id == actor.org_id
        studies = _pictures(session, exam)
        versions = reports.signed_versions(session, [exam.id]).get(exam.id, [])
        receipts = delivery.deliveries_of(session, [version.id for version in versions])
        refused = session.execute(
            select(UploadFile)
            .join(ExamStudy, ExamStudy.exam_id == exam.id)
            .join(Study, (Study.id == ExamStudy.study_id) & (Study.uid == UploadFile.study_uid))
            .join(UploadBatch, UploadBatch.id == UploadFile.batch_id)
            # Another clinic's files may name the same study: that is refused, and its file names are its own.
            .where(UploadFile.state == uploads.REFUSED, UploadBatch.org_id == exam.org_id)
            .limit(20)
        ).scalars()
        values = {
            "exam": exam,
            "row": row_of(exam, locale),
            "own": own,
            "steps": _steps(session, actor, exam),
            "question": _question(session, exam),
            "talk": conversation.values_of(request, session, actor, exam),
            "recognition": recognition.notice(session, actor, exam),
            "score": scoring.card(session, actor, exam, studies, locale),
            "studies": studies,
            "versions": [(version, receipts.get(version.id)) for version in versions],
            "refused": [(row.path, uploads.reason_of(row)) for row in refused],
            "encounter": catalogue.ENCOUNTERS.get(exam.encounter),
            "encounter_number_name": catalogue.ENCOUNTER_NUMBERS.get(exam.encounter),
            "pregnancy": catalogue.PREGNANCY.get(exam.pregnancy),
            "may_upload": own and can(actor, P.IMAGES_UPLOAD) and exam.state in _TAKES_IMAGES,
            "may_edit": own and can(actor, P.EXAM_REGISTER) and exam.state in OPEN_STATES,
            "may_cancel": can(actor, P.EXAM_CANCEL) and exam.state in _CANCELLABLE,
            "page_data": {
                "exam": exam.id,
                "series": [
                    {
                        "id": item["series"].id,
                        "title": item["series"].description or item["series"].modality,
                        "images": [
                            [image["id"], image["number"] or position + 1, image["note"]]
                            for position, image in enumerate(item["images"])
                        ],
                    }
                    for study in studies
                    for item in study["series"]
                ],
            },
        }
        held = [study["study"].id for study in studies]
    for study_id in held:
        note_view(actor, study_id)
    return render(request, "clinic/exam.html", values)


@router.get("/clinic/exams/{exam_id}/pictures/{kind}/{row_id}", response_class=Response, include_in_schema=False)
def picture(
    request: Request, exam_id: str, kind: str, row_id: str, actor: Annotated[Actor, require(P.IMAGES_VIEW, people=True)]
) -> Response:
    """A preview as JPEG: of an `image`, a `series`, a `study`, or the contact `sheet` of one."""
    with database().reading() as session:
        found = pictures.key_of(session, repository.get(session, actor, exam_id), kind, row_id)
    note_view(actor, found.study_id)
    return pictures.answer(request, found)
