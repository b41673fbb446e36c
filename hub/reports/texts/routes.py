"""JSON API of writing: links, copied sentences, kept texts, differences, phrases, import and export."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Response, UploadFile

from hub.exams import repository as exam_rows
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reports import repository, service
from hub.reports.schemas import VersionAnswer, version_of
from hub.reports.texts import exchange, history, phrases
from hub.reports.texts.links import Target
from hub.reports.texts.schemas import (
    ConfirmBody,
    DifferenceAnswer,
    DifferenceBody,
    EntryAnswer,
    HistoryAnswer,
    ImportAnswer,
    LinkBody,
    PhraseAnswer,
    PhraseBody,
    PhrasesAnswer,
    SegmentAnswer,
)

router = APIRouter(prefix="/api", tags=["reports"])

Writer = Annotated[Actor, require("report.write")]
Editor = Annotated[Actor, require("template.edit")]
Reader = Annotated[Actor, require("template.edit", "report.write")]


def _answer(session: ReadDb, actor: Actor, version_id: str) -> VersionAnswer:
    version, report, exam = repository.get_version(session, actor, version_id)
    return version_of(version, report, exam)


@router.post("/exams/{exam_id}/report/links", summary="Link a piece of the draft with a place in the images")
def add_link(exam_id: str, body: LinkBody, session: WriteDb, actor: Writer) -> VersionAnswer:
    """The same label on the same image again is brought up to date. A link lasts while its label stands in the text."""
    target = Target(body.kind, body.label, body.study, body.series, body.sop, body.frame, body.annotation)
    version = service.add_link(session, actor, exam_id, lease=body.lease, target=target)
    return _answer(session, actor, version.id)


@router.post("/exams/{exam_id}/report/copied/confirm", summary="Confirm copied sentences")
def confirm_copied(exam_id: str, body: ConfirmBody, session: WriteDb, actor: Writer) -> VersionAnswer:
    """Until every copied sentence is confirmed, rewritten or taken out, the report is neither submitted nor signed."""
    version = service.confirm_copied(session, actor, exam_id, lease=body.lease, ids=body.ids)
    return _answer(session, actor, version.id)


@router.get("/exams/{exam_id}/report/history", summary="Every text of the report that was kept")
def texts_of(exam_id: str, session: ReadDb, actor: Writer) -> HistoryAnswer:
    """What the versions say now, and all that was overwritten, in conflict, or came without a lease."""
    exam_rows.get(session, actor, exam_id)
    found = history.of_exam(session, actor, exam_id)
    return HistoryAnswer(
        texts=[
            EntryAnswer(
                id=one.id,
                at=one.at,
                person=one.person,
                mine=one.mine,
                event=one.event,
                version=one.version,
                current=one.current,
                body=dict(one.body),
            )
            for one in found
        ]
    )


@router.post("/texts/difference", summary="What changed between two texts")
def difference(body: DifferenceBody, actor: Writer) -> DifferenceAnswer:
    """By words; Chinese by characters, drawn together to what can be read."""
    del actor
    found = history.between(body.before.model_dump(), body.after.model_dump())
    return DifferenceAnswer(
        fields={
            name: [SegmentAnswer(kind=one.kind, before=one.before, after=one.after) for one in segments]
            for name, segments in found.items()
        }
    )


# --- phrases ------------------------------------------------------------------------------------------------------


def _phrase(row: phrases.Known) -> PhraseAnswer:
    return PhraseAnswer(id=row.id, scope=row.scope, code=row.code, modality=row.modality, text=row.text)


@router.get("/phrases", summary="Phrases by abbreviation")
def list_phrases(session: ReadDb, actor: Reader) -> PhrasesAnswer:
    """Mine, my hospital's and the county's."""
    return PhrasesAnswer(phrases=[_phrase(row) for row in phrases.usable(session, actor)])


@router.post("/phrases", summary="Keep a phrase", status_code=201)
def add_phrase(body: PhraseBody, session: WriteDb, actor: Editor) -> PhraseAnswer:
    """One's own; the hospital's by its reviewers, the county's by the director."""
    return _phrase(phrases.add(session, actor, **body.model_dump()))


@router.put("/phrases/{phrase_id}", summary="Change a phrase")
def change_phrase(phrase_id: str, body: PhraseBody, session: WriteDb, actor: Editor) -> PhraseAnswer:
    """Its scope stays."""
    values = body.model_dump(exclude={"scope"})
    return _phrase(phrases.change(session, actor, phrase_id, **values))


@router.delete("/phrases/{phrase_id}", summary="Remove a phrase", status_code=204)
def remove_phrase(phrase_id: str, session: WriteDb, actor: Editor) -> None:
    """One's own; the hospital's by its reviewers, the county's by the director."""
    phrases.remove(session, actor, phrase_id)


# --- import and export --------------------------------------------------------------------------------------------


@router.get("/texts/export", response_class=Response, summary="Templates or phrases as a file")
def export(
    session: ReadDb,
    actor: Reader,
    kind: Literal["templates", "phrases"] = "templates",
    form: Literal["json", "csv"] = "json",
    scope: Literal["", "own", "hospital", "county"] = "",
) -> Response:
    """What the import takes. The CSV opens in a spreadsheet."""
    data, media = exchange.export(session, actor, kind=kind, form=form, scope=scope)
    name = f"{kind}{f'-{scope}' if scope else ''}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(data, media_type=media, headers=headers)


@router.post("/texts/import", summary="Templates or phrases from a file")
def import_file(
    session: WriteDb,
    actor: Editor,
    file: Annotated[UploadFile, File(description="JSON or CSV, as exported")],
    kind: Annotated[Literal["templates", "phrases"], Form()] = "templates",
    scope: Annotated[Literal["own", "hospital", "county"], Form()] = "own",
    apply: Annotated[bool, Form(description="False: only tell what would be done.")] = True,
) -> ImportAnswer:
    """All of it or nothing: 422 `import-rows` names each row that is wrong, with the reason."""
    data = file.file.read(exchange.MAX_BYTES + 1)
    done = exchange.take(session, actor, data, kind=kind, scope=scope, apply=apply)
    return ImportAnswer(applied=apply, added=done.added, changed=done.changed, same=done.same)
