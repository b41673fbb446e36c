"""JSON API of what reader and clinic say to each other. Putting in a picture is in hub.web.conversation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from hub.exams import repository as exam_rows
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.objects import object_store
from hub.reading import service as reading
from hub.reading.conversation import history, retakes, thread, voiding, words
from hub.reading.conversation.schemas import (
    AnswerHistoryBody,
    AskHistoryBody,
    AskRetakeBody,
    DeclineRetakeBody,
    ExamState,
    LineAnswer,
    MessageBody,
    ReadAnswer,
    RetakeAnswer,
    SettingsBody,
    ThreadAnswer,
    VoidBody,
    line_of,
)

router = APIRouter(prefix="/api", tags=["conversation"])

Reader = Annotated[Actor, require("report.write")]
Viewer = Annotated[Actor, require("exam.view", people=True)]
Writer = Annotated[Actor, require("thread.write", people=True)]
Answerer = Annotated[Actor, require("history.answer")]


@router.get("/exams/{exam_id}/thread", summary="What reader and clinic said about an exam")
def get_thread(
    exam_id: str, session: ReadDb, actor: Annotated[Actor, require("exam.view", passive=True, people=True)]
) -> ThreadAnswer:
    """In order. Notes among readers are given to readers of their hospital alone. Keeps no session awake."""
    exam = exam_rows.get(session, actor, exam_id)
    return ThreadAnswer(
        exam_id=exam.id,
        lines=[line_of(exam.id, line) for line in thread.lines(session, actor, exam)],
        unread=thread.unread(session, actor, [exam.id]).get(exam.id, 0),
        may_write=thread.may_write(actor, exam),
        may_note=thread.may_note(actor, exam),
    )


@router.post("/exams/{exam_id}/thread", summary="Write to the other side, or a note among readers", status_code=201)
def post_message(exam_id: str, body: MessageBody, session: WriteDb, actor: Writer) -> LineAnswer:
    """What was written stays as it is. The same `key` sent again is said once."""
    exam = reading.locked(session, actor, exam_id)
    entry = thread.post(session, actor, exam, body.text, note=body.note, pictures=body.pictures, key=body.key)
    line = next(one for one in thread.lines(session, actor, exam) if one.id == entry.id)
    return line_of(exam.id, line)


@router.post("/exams/{exam_id}/thread/read", summary="My side has the thread before it")
def read_thread(
    exam_id: str, session: WriteDb, actor: Annotated[Actor, require("exam.view", passive=True, people=True)]
) -> ReadAnswer:
    """The other side sees when, and who. An overseer's look does not count."""
    return ReadAnswer(read=thread.mark_read(session, actor, exam_id))


@router.get("/exams/{exam_id}/thread/pictures/{picture_id}", response_class=Response, summary="A picture")
def picture(exam_id: str, picture_id: str, request: Request, actor: Viewer) -> Response:
    """JPEG bytes."""
    with database().reading() as session:
        row = thread.get_picture(session, actor, exam_id, picture_id)
        key, content_type, tag = row.object_key, row.content_type, f'"{row.sha256}"'
    # Kept, but asked about each time: a shared workstation must not show one person's images to the next.
    headers = {"Cache-Control": "private, no-cache", "ETag": tag, "Vary": "Cookie"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(object_store().read(key), media_type=content_type, headers=headers)


@router.post("/exams/{exam_id}/request-history", summary="Ask the clinic for more history")
def request_history(exam_id: str, body: AskHistoryBody, session: WriteDb, actor: Reader) -> ExamState:
    """The exam waits for the clinic's answer; the readers' clock stands still, if the county wants so."""
    exam = history.ask(session, actor, exam_id, body.lease, body.reason)
    return ExamState(exam_id=exam.id, state=State(exam.state))


@router.post("/exams/{exam_id}/answer-history", summary="The clinic's answer to a question about the history")
def answer_history(exam_id: str, body: AnswerHistoryBody, session: WriteDb, actor: Answerer) -> ExamState:
    """Adds it to the history, with time and name; the exam is back in the queue, first for who asked."""
    exam = history.answer(session, actor, exam_id, body.text, pictures=body.pictures)
    return ExamState(exam_id=exam.id, state=State(exam.state))


@router.post("/exams/{exam_id}/request-retake", summary="Send an exam back for new images")
def request_retake(exam_id: str, body: AskRetakeBody, session: WriteDb, actor: Reader) -> ExamState:
    """With reasons of the county's list and marked pictures. The retake is an exam of its own."""
    exam = retakes.ask(
        session, actor, exam_id, body.lease, reasons=body.reasons, note=body.reason, pictures=body.pictures
    )
    return ExamState(exam_id=exam.id, state=State(exam.state))


@router.post("/exams/{exam_id}/retake", summary="Register the retake of a returned exam", status_code=201)
def register_retake(
    exam_id: str, session: WriteDb, actor: Annotated[Actor, require("exam.register")]
) -> RetakeAnswer:  # fmt: skip
    """A new exam of the same patient and request, linked with the returned one. Asked twice, it is the same."""
    retake = retakes.register(session, actor, exam_id)
    return RetakeAnswer(exam_id=retake.id, accession=retake.accession, retake_of=exam_id)


@router.post("/exams/{exam_id}/decline-retake", summary="The images cannot be taken again")
def decline_retake(exam_id: str, body: DeclineRetakeBody, session: WriteDb, actor: Answerer) -> ExamState:
    """The exam goes back to be read, or reviewed, as it is."""
    exam = retakes.decline(session, actor, exam_id, body.reason, body.note)
    return ExamState(exam_id=exam.id, state=State(exam.state))


@router.post("/exams/{exam_id}/void", summary="Make an exam void")
def void_exam(
    exam_id: str, body: VoidBody, session: WriteDb, actor: Annotated[Actor, require("exam.void")]
) -> ExamState:
    """Cannot be undone. Images and reports stay, marked; the clinic is told."""
    exam = voiding.void(session, actor, exam_id, body.reason)
    return ExamState(exam_id=exam.id, state=State(exam.state))


@router.put("/conversation/settings", summary="Reasons for a retake, answers, questions")
def change_settings(
    body: SettingsBody, session: WriteDb, actor: Annotated[Actor, require("turnaround.settings")]
) -> SettingsBody:
    """Replaces the county's lists."""
    found = words.change(session, actor, body.model_dump(exclude_none=True))
    return SettingsBody(**words.to_json(found))
