"""A county of many studies, written straight into the tables: `python -m tests.benchmarks.population 1000000`.

Every study has its patient, exam, link, series, instance and header, as if it had come in and been reported; a few
thousand of the newest are still to be read. The dates spread over two years whatever the count, and one name in 260
begins with K1, so that a page has as many rows at 10,000 studies as at 1,000,000: what differs is the index.

The database is that of the settings (`HUB_DATA_DIR`, `HUB_DATABASE_URL`); bytes of images are not written.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import zlib
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from hub.accounts import sessions
from hub.delivery.models import Delivery
from hub.exams.models import Exam, Transition
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_id, new_secret, new_uid
from hub.patients.models import CountyPatient, Patient, PatientPair
from hub.reading.conversation.models import ThreadEntry
from hub.reading.routing.models import LimitAlert
from hub.reading.scoring.models import ImageScore
from hub.reports.critical.models import CriticalValue
from hub.reports.models import Report, ReportVersion
from hub.reports.review.models import Arbitration, PeerDraw, PeerReview, Review
from hub.sites.models import Agreement, ApiKey, Organisation, OrgKind
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, Study

CLINICS, HOSPITALS = 20, 3
DAYS = 730
_BATCH = 5000
_CT = "1.2.840.10008.5.1.4.1.1.2"
_HEADER = zlib.compress(json.dumps({"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}).encode())


def organisations(session: Session) -> tuple[list[str], list[str]]:
    """Ids of the clinics and of the hospitals that read for them; made where they are missing."""
    found: dict[str, str] = {row.code: row.id for row in session.execute(select(Organisation.code, Organisation.id))}
    for kind, letter, count in ((OrgKind.CLINIC, "C", CLINICS), (OrgKind.HOSPITAL, "H", HOSPITALS)):
        for number in range(1, count + 1):
            code = f"{letter}{number:02}"
            if code not in found:
                found[code] = new_id()
                session.add(
                    Organisation(
                        id=found[code],
                        code=code,
                        name=f"机构{code}",
                        kind=kind,
                        issuer=f"360731.{code}",
                        created_at=clock.now(),
                    )
                )
    session.flush()
    clinics = [found[f"C{number:02}"] for number in range(1, CLINICS + 1)]
    hospitals = [found[f"H{number:02}"] for number in range(1, HOSPITALS + 1)]
    agreed = set(session.scalars(select(Agreement.clinic_id)))
    for number, clinic in enumerate(clinics):
        if clinic not in agreed:
            session.add(Agreement(clinic_id=clinic, hospital_id=hospitals[number % HOSPITALS], rank=1))
    return clinics, hospitals


def machine_key(code: str = "C01") -> str:
    """A fresh API key of an organisation, which may retrieve and send."""
    token = sessions.KEY_PREFIX + new_secret()
    with database().writing() as session:
        org = session.scalars(select(Organisation).where(Organisation.code == code)).one()
        session.add(
            ApiKey(
                org_id=org.id,
                label="benchmark",
                prefix=token[:12],
                sha256=sessions.digest(token),
                scopes=["stow", "retrieve"],
                created_at=clock.now(),
                created_by="benchmark",
            )
        )
    return token


def _rows(
    number: int, dice: random.Random, clinics: list[str], hospitals: list[str], newest: date, waiting: bool
) -> dict[type[Any], dict[str, Any]]:
    which = dice.randrange(len(clinics))
    clinic, hospital = clinics[which], hospitals[which % len(hospitals)]
    day = newest - timedelta(days=dice.randrange(DAYS))
    at = datetime(day.year, day.month, day.day, dice.randrange(24), dice.randrange(60), tzinfo=clock.now().tzinfo)
    name = f"{dice.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{dice.randrange(10**5):05}^TINY"
    birth = date(1940 + dice.randrange(70), 1 + dice.randrange(12), 1 + dice.randrange(28))
    county, patient, exam, study, series, instance = (new_id() for _ in range(6))
    sop = new_uid()
    priority = dice.choices([0, 1, 2], [5, 10, 85])[0]
    sent = {
        "name": name,
        "patient_id": f"{number:07}",
        "issuer": "",
        "sex": dice.choice("MF"),
        "birth_date": birth.isoformat(),
        "age": "",
        "name_flagged": False,
    }
    ended = None if waiting else at
    return {
        CountyPatient: {"id": county, "number": f"B{number:010}", "created_at": at},
        Patient: {
            "id": patient,
            "org_id": clinic,
            "county_patient_id": county,
            "number": sent["patient_id"],
            "name": name.replace("^", " "),
            "pinyin": name.replace("^", "").lower(),
            "initials": "kt",
            "sex": sent["sex"],
            "birth_date": birth,
            "birth_estimated": False,
            "from_header": True,
            "created_at": at,
        },
        Exam: {
            "id": exam,
            "accession": f"B{number:09}",
            "org_id": clinic,
            "reading_org_id": hospital if dice.random() < 0.95 else None,
            "patient_id": patient,
            "state": "to_read" if waiting else "seen",
            "modality": "CT",
            "body_parts": ["head"],
            "priority_rank": priority,
            "priority": ("emergency", "urgent", "routine")[priority],
            "registered_at": at,
            "received_at": at,
            "queued_at": at,
            "due_at": at + timedelta(minutes=(30, 60, 240)[priority]),
            "signed_at": ended,
            "returned_at": ended,
            "seen_at": ended,
            "author_id": None,
            "reviewer_id": None,
            "thread_last": None,
        },
        Study: {
            "id": study,
            "uid": new_uid(),
            "org_id": clinic,
            "patient_id": patient,
            "study_date": day.strftime("%Y%m%d"),
            "study_time": at.strftime("%H%M%S"),
            "accession": f"T{number:07}",
            "study_id": str(number),
            "description": "Head",
            "referring": "LI^MING",
            "modalities": ["CT"],
            "series_count": 1,
            "instance_count": 1,
            "total_bytes": 1000,
            "header_patient": sent,
            "revision": 1,
            "prepared_revision": 1,
            "archived_revision": 1,
            "created_at": at,
            "last_instance_at": at,
        },
        ExamStudy: {"exam_id": exam, "study_id": study, "linked_at": at, "linked_by": "benchmark"},
        Series: {
            "id": series,
            "study_id": study,
            "uid": new_uid(),
            "modality": "CT",
            "number": 1,
            "description": "Axial",
            "instance_count": 1,
            "created_at": at,
        },
        Instance: {
            "id": instance,
            "uid": sop,
            "series_id": series,
            "study_id": study,
            "org_id": clinic,
            "sop_class": _CT,
            "transfer_syntax": "1.2.840.10008.1.2.1",
            "number": 1,
            "object_key": f"instances/benchmark/{number // 1000}",
            "size": 1000,
            "file_sha256": f"{number:064x}",
            "dataset_sha256": "",
            "created_at": at,
        },
        InstanceHeader: {"instance_id": instance, "body": _HEADER},
    }


_STEPS = (
    ("images_arrive", "registered", "receiving"),
    ("complete", "receiving", "to_read"),
    ("claim", "to_read", "reading"),
    ("submit", "reading", "to_review"),
    ("claim_review", "to_review", "reviewing"),
    ("sign", "reviewing", "signed"),
    ("return", "signed", "returned"),
    ("see", "returned", "seen"),
)
_PEOPLE = [f"{number:026}" for number in range(1, 41)]
"""Who wrote and reviewed: ids of nobody's account. The first of them may be given to whoever looks."""


def _story(
    number: int, dice: random.Random, made: dict[type[Any], dict[str, Any]], neighbour: str | None
) -> list[tuple[type[Any], dict[str, Any]]]:
    """What is kept of an exam that has come home: nothing of it waits for anybody any more."""
    exam = made[Exam]
    at, clinic, key = exam["registered_at"], exam["org_id"], exam["id"]
    hospital = exam["reading_org_id"]
    author, reviewer = dice.sample(_PEOPLE, 2)
    exam["author_id"], exam["reviewer_id"] = author, reviewer
    report, version = new_id(), new_id()
    found: list[tuple[type[Any], dict[str, Any]]] = [
        (Transition, {"exam_id": key, "at": at, "event": event, "from_state": old, "to_state": new, "actor_id": author})
        for event, old, new in _STEPS
    ]
    found.append((Report, {"id": report, "exam_id": key, "number": f"B-{number:09}", "created_at": at}))
    found.append(
        (
            ReportVersion,
            {
                "id": version,
                "report_id": report,
                "state": "signed",
                "findings": "脑实质密度未见异常,脑室系统形态、大小正常,中线结构居中。" * 4,
                "impression": "颅脑CT平扫未见明显异常。",
                "author_id": author,
                "reviewer_id": reviewer,
                "signer_id": reviewer,
                "issuer_id": hospital,
                "created_at": at,
                "saved_at": at,
                "submitted_at": at,
                "signed_at": at,
            },
        )
    )
    home = {"version_id": version, "exam_id": key, "org_id": clinic, "state": "seen"}
    found.append((Delivery, {**home, "queued_at": at, "delivered_at": at, "seen_at": at}))
    # The marks that readers of a hospital leave: reviews, scores, alerts that are done with.
    if hospital is None:
        return found
    opinion = {"version_id": version, "exam_id": key, "org_id": hospital, "author_id": author, "reviewer_id": reviewer}
    found.append(
        (
            Review,
            {**opinion, "agreement": "agree", "radpeer": "1", "saved_at": at, "signed_at": at, "author_seen_at": at},
        )
    )
    alert = {"exam_id": key, "limit_key": exam["priority"], "at": at, "due_at": None, "state": "closed"}
    found += [(LimitAlert, {**alert, "level": level, "raised_at": at, "hospital_id": hospital}) for level in (50, 80)]
    drawn = {"version_id": version, "org_id": hospital, "modality": "CT"}
    found.append((PeerDraw, {**drawn, "at": at, "share": 0.5, "rate": 0.05, "rule": "", "taken": number % 20 == 0}))
    if number % 2 == 0:
        found.append(
            (
                ImageScore,
                {"exam_id": key, "grade": "A", "reasons": [], "at": at, "person_id": author, "org_id": hospital},
            )
        )
    if number % 4 == 0:
        asked, answered = new_id(), new_id()
        line = {"exam_id": key, "at": at, "text": "请补充病史。", "read_at": at}
        found.append((ThreadEntry, {**line, "id": asked, "side": "reader", "org_id": hospital, "person_id": author}))
        found.append((ThreadEntry, {**line, "id": answered, "side": "clinic", "org_id": clinic, "person_id": "nobody"}))
        exam["thread_last"] = answered
    if number % 20 == 0:
        graded = {"exam_id": key, "rule": "random", "state": "graded", "drawn_at": at, "reader_id": reviewer}
        found.append((PeerReview, {**drawn, **graded, "due_at": at, "radpeer": "1", "graded_at": at}))
    if number % 50 == 0:
        said = {"exam_id": key, "version_id": version, "org_id": clinic, "hospital_id": hospital, "state": "closed"}
        times = dict.fromkeys(("discovered_at", "flagged_at", "escalate_due", "breach_due", "closed_at"), at)
        found.append(
            (CriticalValue, {**said, **times, "class_code": "bleeding", "finding": "脑出血", "flagged_by": author})
        )
    if number % 50 == 1 and neighbour is not None:
        one, two = sorted((exam["patient_id"], neighbour))
        found.append(
            (PatientPair, {"one_id": one, "two_id": two, "state": "apart", "created_at": at, "changed_at": at})
        )
    if number % 200 == 0:
        quarrel = {"source": "peer", "source_id": version, "exam_id": key, "version_id": version, "org_id": hospital}
        sides = {"first_id": author, "second_id": reviewer, "state": "decided", "opened_at": at, "decided_at": at}
        found.append(
            (
                Arbitration,
                {**quarrel, **sides, "first_seen_at": at, "second_seen_at": at, "decision": "first", "radpeer": "1"},
            )
        )
    return found


def populate(count: int, *, waiting: int = 2000, seed: int = 1, stories: bool = False, say: bool = False) -> None:
    """Add `count` studies.

    Args:
        count: How many.
        waiting: How many of their exams are still to be read.
        seed: Same seed, same names and dates; pass another to add more.
        stories: Also what is kept of exams that are done: reports, reviews, threads, alerts and the like.
        say: Print progress.
    """
    dice = random.Random(seed)
    newest = clock.now().date()
    with database().writing() as session:
        clinics, hospitals = organisations(session)
    every = max(1, count // max(1, waiting))
    started = time.monotonic()
    for start in range(0, count, _BATCH):
        made = [
            _rows(seed * 10_000_000 + number, dice, clinics, hospitals, newest, number % every == 0)
            for number in range(start, min(count, start + _BATCH))
        ]
        told: dict[type[Any], list[dict[str, Any]]] = {}
        neighbour: str | None = None
        for number, row in enumerate(made, start):
            if stories and row[Exam]["state"] == "seen":
                for table, values in _story(seed * 10_000_000 + number, dice, row, neighbour):
                    told.setdefault(table, []).append(values)
            neighbour = row[Patient]["id"]
        with database().writing() as session:
            for table in made[0]:
                session.execute(insert(table.__table__), [row[table] for row in made])
            for table in sorted(told, key=lambda one: (one is not Report, one is not ReportVersion)):
                session.execute(insert(table.__table__), told[table])
        if say and start % (_BATCH * 10) == 0:
            print(f"{start + len(made)} studies, {time.monotonic() - started:.0f} s", flush=True)
    with database().engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--waiting", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stories", action="store_true", help="also reports, reviews, threads and the like")
    arguments = parser.parse_args()
    from hub.kit.settings import get_settings
    from hub.migrations.upgrade import upgrade

    upgrade(get_settings())
    populate(
        arguments.count,
        waiting=arguments.waiting,
        seed=arguments.seed,
        stories=arguments.stories,
        say=True,
    )
    print(machine_key())


if __name__ == "__main__":
    main()
