"""The columns that searches compare: filled as images come in, and worked out anew by the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from pydicom.dataset import Dataset
from sqlalchemy import insert, inspect, text

from hub.dicom import dicomjson
from hub.kit import clock
from hub.kit.db import database, reset_database
from hub.kit.ids import new_id, new_uid
from hub.migrations.upgrade import config
from hub.studies import keys, metadata
from hub.studies.models import Instance, InstanceHeader, Series, Study

if TYPE_CHECKING:
    from support.world import World


@pytest.mark.parametrize(
    ("name", "latin", "han", "sound"),
    [
        ("WANG^WEI", "wang^wei", "", "wangwei"),
        ("Müller^Jörg^^Dr^ ", "muller^jorg^^dr", "", "mullerjorgdr"),
        ("王^伟", "", "王伟", "wangwei"),
        ("WANG^WEI=王^伟", "wang^wei", "王伟", "wangwei"),
        ("=王 伟=", "", "王伟", "wangwei"),
        ("", "", "", ""),
        ("^^^^", "", "", ""),
    ],
)
def test_names(name: str, latin: str, han: str, sound: str) -> None:
    assert (keys.latin(name), keys.han(name), keys.sound(name)) == (latin, han, sound)


def a_study(world: World) -> dict[str, Any]:
    """Rows of one study, written straight into the tables."""
    from hub.patients import service as patients

    header = Dataset()
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "SPS", "RP"
    header.RequestAttributesSequence = [item]
    header.PerformedProcedureStepStartDate, header.PerformedProcedureStepStartTime = "20260102", "0930"
    now, ids = clock.now(), {one: new_id() for one in ("study", "series", "instance")}
    org = world.orgs["C01"].id
    with database().writing() as session:
        patient = patients.ensure(session, org, "001", "王伟")
        session.execute(
            insert(Study),
            [
                {
                    "id": ids["study"], "uid": new_uid(), "org_id": org, "patient_id": patient.id, "created_at": now,
                    "header_patient": {"name": "WANG^WEI=王^伟", "patient_id": "001"}, "last_instance_at": now,
                }
            ],
        )  # fmt: skip
        session.add(
            Series(
                id=ids["series"], study_id=ids["study"], uid=new_uid(), instance_count=1, created_at=now,
                **keys.of_series(header),
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Instance(
                id=ids["instance"], uid=new_uid(), series_id=ids["series"], study_id=ids["study"], org_id=org,
                sop_class="1.2", transfer_syntax="1.2", object_key="k", size=1, file_sha256="",
                created_at=now,
            )
        )  # fmt: skip
        session.flush()
        session.add(
            InstanceHeader(instance_id=ids["instance"], body=dicomjson.compress(dicomjson.to_dicom_json(header)))
        )
    return ids


def columns() -> tuple[Any, ...]:
    with database().reading() as session:
        study = session.query(Study).one()
        series = session.query(Series).one()
        return (
            study.name_latin, study.name_han, study.name_sound, study.patient_number, series.performed_date,
            series.performed_time, series.requests,
        )  # fmt: skip


def test_back_and_forward_with_rows_in_the_tables(world: World) -> None:
    ids = a_study(world)
    assert metadata.prepare_study(ids["study"]) == 1
    before = columns()
    assert before == (
        "wang^wei", "王伟", "wangwei", "001", "20260102", "0930", [{"step": "SPS", "procedure": "RP"}],
    )  # fmt: skip
    reset_database()
    command.downgrade(config(), "0004")
    with database().reading() as session:
        there = {column["name"] for column in inspect(session.connection()).get_columns("study")}
        assert "name_latin" not in there
        assert session.scalar(text("SELECT count(*) FROM study")) == 1
    reset_database()
    command.upgrade(config(), "head")
    assert columns() == before
    assert metadata.prepare_study(ids["study"]) == 1
