"""Images judged: by whom, on what ground, and that a change keeps what was said before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.reading.scoring import service
from hub.reading.scoring.catalogue import GRADE_NOTES, GRADES, REASONS, reasons_for
from hub.studies.models import ExamStudy, Instance
from support.reading import make_exam, ok

if TYPE_CHECKING:
    from support.world import World


def _score(world: World, exam_id: str, login: str = "reporter", **values: Any) -> Any:
    with database().writing() as session:
        return service.score(session, world.actor(login), exam_id, **{"grade": "A", **values})


def _image(exam_id: str) -> str:
    with database().reading() as session:
        return str(
            session.scalars(
                select(Instance.id)
                .join(ExamStudy, ExamStudy.study_id == Instance.study_id)
                .where(ExamStudy.exam_id == exam_id)
            ).one()
        )


def test_a_change_keeps_the_former_judgement(world: World) -> None:
    exam_id = make_exam(world)
    _score(world, exam_id, grade="B", reasons=["position", "motion"], note="请摆正")
    _score(world, exam_id, "quality", grade="reject", reasons=["motion"], artefact="bad", number=1)
    with database().reading() as session:
        rows = service.history(session, exam_id)
        assert [(row.number, row.grade, row.source, row.replaced_at is None) for row in rows] == [
            (2, "reject", "quality", True),
            (1, "B", "reader", False),
        ]
        current = service.current(session, exam_id)
        assert current is not None and current.number == 2
        assert len(session.scalars(select(AuditEntry).where(AuditEntry.action == "image.score")).all()) == 2


def test_of_two_who_judge_the_second_sees_the_first(world: World) -> None:
    exam_id = make_exam(world)
    _score(world, exam_id, number=0)
    with pytest.raises(Conflict) as caught:
        _score(world, exam_id, "reviewer", grade="B", reasons=["position"], number=0)
    assert caught.value.code == "changed-meanwhile"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"grade": "D", "reasons": ["motion"]}, "grade"),
        ({"grade": "C"}, "reasons"),
        ({"grade": "B", "reasons": ["compression"]}, "reasons"),
        ({"grade": "B", "reasons": ["other"]}, "note"),
        ({"artefact": "huge"}, "artefact"),
        ({"artefact": "bad"}, "artefact"),
        ({"examples": [{"instance_id": "another"}]}, "examples"),
        ({"examples": [{"instance_id": str(n)} for n in range(7)]}, "examples"),
    ],
)
def test_what_is_wrong_is_said_by_field(world: World, values: dict[str, Any], field: str) -> None:
    exam_id = make_exam(world)
    with pytest.raises(Invalid) as caught:
        _score(world, exam_id, **values)
    assert set(caught.value.fields) == {field}


def test_examples_are_images_of_the_exam(world: World) -> None:
    one, other = make_exam(world), make_exam(world)
    _score(world, one, grade="C", reasons=["motion"], examples=[{"instance_id": _image(one), "note": "膈面"}])
    with pytest.raises(Invalid):
        _score(world, one, grade="C", reasons=["motion"], examples=[{"instance_id": _image(other)}])


def test_readers_judge_what_their_hospital_reads(world: World) -> None:
    elsewhere = make_exam(world, reading="H02", org="C02")
    shared = make_exam(world, reading=None)
    with pytest.raises(NotFound):
        _score(world, elsewhere)
    _score(world, shared)
    _score(world, elsewhere, "quality")
    with pytest.raises(Forbidden):
        _score(world, elsewhere, "director")
    for login in ("technologist", "clinician"):
        with pytest.raises(Forbidden):
            _score(world, shared, login)


@pytest.mark.parametrize("state", [State.REGISTERED, State.RECEIVING, State.TO_VERIFY, State.CANCELLED, State.VOID])
def test_without_images_there_is_nothing_to_judge(world: World, state: State) -> None:
    exam_id = make_exam(world, state=state)
    with pytest.raises((Forbidden, NotFound)):
        _score(world, exam_id, "quality")


def test_a_clinic_sees_what_was_wrong_with_its_own_and_not_who_said_so(world: World) -> None:
    exam_id = make_exam(world)
    body = {"grade": "reject", "reasons": ["motion"], "artefact": "bad", "note": "请屏气", "number": 0}
    said = ok(world.client("reporter").put(f"/api/exams/{exam_id}/image-score", json=body))
    assert said["retake_suggested"]
    assert said["current"]["person_name"]
    own = ok(world.client("technologist").get(f"/api/exams/{exam_id}/image-score"))
    assert (own["current"]["note"], own["current"]["person_name"]) == ("请屏气", "")
    assert world.client("technologist.c02").get(f"/api/exams/{exam_id}/image-score").status_code == 404
    page = world.client("technologist").get(f"/clinic/exams/{exam_id}").text
    assert "运动模糊" in page and world.people["reporter"].name not in page
    assert "score-form" in world.client("quality").get(f"/clinic/exams/{exam_id}").text


def test_the_catalogue_is_whole() -> None:
    assert set(GRADES) == set(GRADE_NOTES)
    for modality in ("CT", "DX", "MG", "MR", "US", "RF", "OT"):
        found = reasons_for(modality)
        assert "other" in found and len(found) > 3
    assert not any(reason.modalities - {"CT", "DX", "MG", "MR", "US", "RF"} for reason in REASONS.values())


def test_scores_do_not_hinder_the_exam(world: World) -> None:
    exam_id = make_exam(world)
    _score(world, exam_id)
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).version == 1
