"""Pages of what reader and clinic say to each other: threads, the county's lists; and putting a picture in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Permission as P
from hub.accounts.roles import Role
from hub.exams import repository as exam_rows
from hub.exams.catalogue import MODALITIES
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, require
from hub.kit.i18n import Message, _
from hub.reading.conversation import retakes, thread, words
from hub.reading.conversation.schemas import PictureAnswer, picture_of, picture_url
from hub.reading.conversation.voiding import VOIDABLE
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports import images
from hub.sites.models import CountySetting
from hub.web.pages import can, locale_of, render

router = APIRouter(tags=["conversation"])

SAYINGS: dict[str, Message] = {
    "history_asked": _("请补充病史"),
    "history_answered": _("已补充病史"),
    "retake_asked": _("退回重拍"),
    "retake_registered": _("已登记重拍"),
    "retake_declined": _("无法重拍,请按现有影像出报告"),
    "images_late": _("书写开始后又收到影像"),
    "returned": _("报告已回传"),
    "void": _("检查已作废"),
}
"""What a line of each kind says before anybody's own words."""
TONES = {"history_asked": "warn", "retake_asked": "warn", "void": "bad", "returned": "ok"}


def lines_of(session: Session, actor: Actor, exam: Exam, locale: str) -> list[dict[str, Any]]:
    """The thread for a template: each line with its heading and the names of its reasons in the page's language."""
    found = []
    for line in thread.lines(session, actor, exam):
        reasons = line.data.get("reasons") or []
        found.append(
            {
                "line": line,
                "org": line.org_en if locale == "en" and line.org_en else line.org,
                "heading": SAYINGS.get(line.kind),
                "tone": TONES.get(line.kind, ""),
                "reasons": [
                    one["name_en"] if locale == "en" and one.get("name_en") else one["name"] for one in reasons
                ],
                "pictures": [(one, picture_url(exam.id, one.id)) for one in line.pictures],
                "mine": thread.side_of(actor, exam) == line.side,
            }
        )
    return found


def _said(lines: list[dict[str, Any]]) -> dict[str, str]:
    """The reasons that are on record in Chinese, as the reader of the page reads them."""
    found = {}
    for one in lines:
        names = [str(reason["name"]) for reason in one["line"].data.get("reasons") or []]
        if names:
            recorded = retakes.said_of(names, one["line"].text)[:400]
            found[recorded] = "\n".join(part for part in (", ".join(one["reasons"]), one["line"].text) if part)
    return found


def values_of(request: Request, session: Session, actor: Actor, exam: Exam) -> dict[str, Any]:
    """What a page needs to show the thread of an exam and its retakes, and to answer."""
    locale = locale_of(request)
    rules = words.load(session)
    side = thread.side_of(actor, exam)
    asked = retakes.latest(session, exam.id) if exam.state == State.RETAKE else None
    retake = retakes.retaken_by(session, actor, exam)
    own = side == "clinic"
    lines = lines_of(session, actor, exam, locale)
    return {
        "lines": lines,
        "said": _said(lines) if locale == "en" else {},
        "marks": next((one["pictures"] for one in reversed(lines) if one["line"].kind == "retake_asked"), []),
        "side": side,
        "unread": thread.unread(session, actor, [exam.id]).get(exam.id, 0),
        "may_write": thread.may_write(actor, exam),
        "may_note": thread.may_note(actor, exam),
        "retake_of": retakes.retake_of(session, actor, exam),
        "retake": retake,
        "may_answer_retake": own and asked is not None and retake is None,
        "may_register_retake": own and asked is not None and retake is None and can(actor, P.EXAM_REGISTER),
        "may_answer_history": own and exam.state == State.HISTORY_REQUESTED and can(actor, P.HISTORY_ANSWER),
        "decline": [(one.code, one.words(locale)) for one in rules.decline if one.fits(exam.modality)],
        "reasons": [(one.code, one.words(locale)) for one in rules.retake if one.fits(exam.modality)],
        "questions": rules.questions,
        "may_void": can(actor, P.EXAM_VOID) and State(exam.state) in VOIDABLE,
        "max_text": thread.MAX_TEXT,
    }


@router.post("/api/exams/{exam_id}/thread/pictures", summary="Put in a picture", status_code=201)
def add_picture(
    exam_id: str,
    actor: Annotated[Actor, require("thread.write", people=True)],
    file: Annotated[UploadFile, File(description="PNG or JPEG")],
    caption: Annotated[str, Form()] = "",
    sop_uid: Annotated[str, Form()] = "",
    frame: Annotated[int | None, Form()] = None,
) -> PictureAnswer:
    """Kept until its message, question or answer is sent. Encoded anew: place and device of a photograph stay out."""
    data = file.file.read(images.MAX_BYTES + 1)
    with database().reading() as session:
        thread.check_picture(session, actor, exam_id)
    image = images.store(data, caption=caption, sop_uid=sop_uid, frame=frame)
    with database().writing() as session:
        return picture_of(exam_id, thread.add_picture(session, actor, exam_id, image))


@router.get("/clinic/exams/{exam_id}/thread", response_class=HTMLResponse, include_in_schema=False)
def thread_part(
    request: Request,
    exam_id: str,
    session: ReadDb,
    actor: Annotated[Actor, require(P.EXAM_VIEW, passive=True, people=True)],
) -> HTMLResponse:
    """The lines of a thread by themselves; fetched by the pages that show them, so it keeps no session awake."""
    exam = exam_rows.get(session, actor, exam_id)
    values = {"exam": exam, "talk": values_of(request, session, actor, exam)}
    return render(request, "conversation/_lines.html", values)


@router.get("/messages", response_class=HTMLResponse, include_in_schema=False)
def messages(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.THREAD_WRITE, people=True)],
    unread: Annotated[str, Query(max_length=1)] = "",
) -> HTMLResponse:
    """Threads of the reader's clinic or hospital, unread ones first."""
    locale = locale_of(request)
    reads = actor.has(Role.REPORTER, Role.REVIEWER, Role.DIRECTOR)
    return render(
        request,
        "conversation/messages.html",
        {
            "threads": [
                {
                    "thread": row,
                    "words": exam_words(row.exam, locale),
                    "person": f"{sex_words(row.exam.patient.sex, locale)} {age_words(row.exam, locale)}".strip(),
                    "heading": SAYINGS.get(row.last.kind),
                    "href": f"/read/{row.exam.id}?view=1#thread" if reads else f"/clinic/exams/{row.exam.id}#thread",
                }
                for row in thread.threads(session, actor, only_unread=bool(unread))
            ],
            "unread": bool(unread),
        },
    )


@router.get("/admin/conversation", response_class=HTMLResponse, include_in_schema=False)
def settings_page(
    request: Request, session: ReadDb, actor: Annotated[Actor, require(P.TURNAROUND_SETTINGS, people=True)]
) -> Response:
    """The county's lists: reasons for a retake, answers of a clinic, questions."""
    del actor
    row = session.get(CountySetting, words.SETTING)
    who = session.scalar(select(Person.name).where(Person.id == row.changed_by)) if row is not None else None
    return render(
        request,
        "conversation/settings.html",
        {
            "rules": words.to_json(words.load(session)),
            "modalities": MODALITIES,
            "changed_at": row.changed_at if row is not None else None,
            "changed_by": who,
        },
    )


def waiting(session: Session, actor: Actor) -> int:
    """How many threads have something unread for the actor's side."""
    return len(thread.unread(session, actor))
