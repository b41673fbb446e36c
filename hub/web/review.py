"""Pages of review: feedback to authors, reading again, results and arbitration, a hospital's policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Permission as P
from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, require
from hub.reading.signatures import PANELS
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports.review import keeping, peer, service
from hub.reports.review.grades import AGREEMENT_NAMES, RADPEER, RADPEER_NAMES
from hub.reports.review.models import Arbitration, PeerReview, Review
from hub.reports.review.routes import policy_answer
from hub.reports.review.service import CONCLUSION_NAMES, DECISIONS, FIELD_NAMES
from hub.reports.review.states import ARBITRATION_NAMES, PEER_NAMES
from hub.sites.models import Organisation
from hub.web.pages import locale_of, render
from hub.web.review_views import open_conclusions

router = APIRouter(tags=["review"], include_in_schema=False)

Writer = Annotated[Actor, require(P.REPORT_WRITE)]
Reviewer = Annotated[Actor, require(P.REPORT_REVIEW)]
Overseer = Annotated[Actor, require(P.REVIEW_OVERSEE)]
Keeper = Annotated[Actor, require(P.REVIEW_POLICY)]
Days = Annotated[int, Query(ge=1, le=730)]
Id = Annotated[str, Query(max_length=26)]

_WORDS: dict[str, Any] = {
    "agreement_names": AGREEMENT_NAMES,
    "radpeer_names": RADPEER_NAMES,
    "decisions": DECISIONS,
    "field_names": FIELD_NAMES,
    "conclusion_names": CONCLUSION_NAMES,
    "peer_names": PEER_NAMES,
    "arbitration_names": ARBITRATION_NAMES,
}


@router.get("/review/bar", include_in_schema=False)
def bar(request: Request, actor: Annotated[Actor, require(P.REPORT_SEE, P.CRITICAL_VIEW, passive=True)]) -> Response:
    """The changed conclusions that a clinic has not acknowledged; fetched by the pages themselves."""
    return render(request, "review/_bar.html", {"conclusions": open_conclusions(actor, locale_of(request))})


@router.get("/reviews", include_in_schema=False)
def my_reviews(request: Request, session: ReadDb, actor: Writer, unread: bool = False) -> Response:
    """My reports after their review: what was changed, what the reviewer says; and disagreements that concern me."""
    rows = service.reviews_of_mine(session, actor, unread=unread)
    quarrels = service.arbitrations(session, actor)
    locale = locale_of(request)
    exams = service.exams_of(session, [*rows, *quarrels])
    numbers = service.numbers_of(session, rows)
    values = {
        **_WORDS,
        "unread": unread,
        "reviews": [
            {
                "row": row,
                "words": exam_words(exams[row.exam_id], locale),
                "patient": _patient(exams[row.exam_id], locale),
                "number": numbers.get(row.exam_id, ""),
                "tracked": service.track(row.version, row.submitted or None),
            }
            for row in rows
        ],
        "arbitrations": _quarrels(session, quarrels, actor, locale),
    }
    return render(request, "review/mine.html", values)


def _patient(exam: Any, locale: str) -> str:
    return f"{exam.patient.name} {sex_words(exam.patient.sex, locale)} {age_words(exam, locale)}"


def _quarrels(session: Session, rows: list[Arbitration], actor: Actor, locale: str) -> list[dict[str, Any]]:
    """Disagreements with both sides. The second reader of a blinded reading stays without a name for the author."""
    exams = service.exams_of(session, rows)
    people = {one for row in rows for one in (row.first_id, row.second_id, row.arbiter_id)}
    names = {row[0]: row[1] for row in session.execute(select(Person.id, Person.name).where(Person.id.in_(people)))}
    found = []
    for row in rows:
        parts = actor.id in (row.first_id, row.second_id)
        review = session.get(Review, row.source_id) if row.source == "review" else None
        reading = session.get(PeerReview, row.source_id) if row.source == "peer" else None
        found.append(
            {
                "row": row,
                "words": exam_words(exams[row.exam_id], locale),
                "exam": exams[row.exam_id],
                "review": review,
                "peer": reading,
                "tracked": service.track(row.version, review.submitted or None) if review else None,
                # Of a blinded reading both stay nameless to each other, and to whoever decides.
                "first": names.get(row.first_id, "") if review or row.first_id == actor.id else "",
                "second": names.get(row.second_id, "") if review or row.second_id == actor.id else "",
                "arbiter": names.get(row.arbiter_id, ""),
                "mine": parts,
                "may_decide": service.may_decide(row, actor),
                "unread": row.state == "decided"
                and (
                    (row.first_id == actor.id and row.first_seen_at is None)
                    or (row.second_id == actor.id and row.second_seen_at is None)
                ),
            }
        )
    return found


@router.get("/peer", include_in_schema=False)
def peer_list(request: Request, session: ReadDb, actor: Reviewer) -> Response:
    """Signed exams that I am to read again, and those that I have graded."""
    rows, done = peer.mine(session, actor), peer.mine(session, actor, done=True, limit=20)
    exams = service.exams_of(session, [*rows, *done])
    locale = locale_of(request)
    words = {
        row.id: (exam_words(exams[row.exam_id], locale), _person(exams[row.exam_id], locale)) for row in (*rows, *done)
    }
    return render(request, "review/peer.html", {**_WORDS, "rows": rows, "done": done, "words": words})


def _person(exam: Any, locale: str) -> str:
    return f"{sex_words(exam.patient.sex, locale)} {age_words(exam, locale)}"


@router.get("/peer/{peer_id}", include_in_schema=False)
def peer_page(request: Request, peer_id: str, actor: Reviewer) -> Response:
    """One reading: images, my verdict, and then the report to grade."""
    with database().reading() as session:
        found = peer.show(session, actor, peer_id)
        locale = locale_of(request)
        query = urlencode({"StudyInstanceUIDs": ",".join(found.studies), "lng": locale})
        values = {
            **_WORDS,
            "row": found.row,
            "history": found.history,
            "words": exam_words(found.exam, locale),
            "person": _person(found.exam, locale),
            "report": found.report,
            "images": found.images,
            "viewer": f"/ohif/viewer?{query}" if found.studies and found.row.state != "graded" else "",
        }
        return render(request, "review/peer_case.html", values)


@router.get("/quality/reviews", include_in_schema=False)
def results(request: Request, session: ReadDb, actor: Overseer, days: Days = 90, org: Id = "") -> Response:
    """Agreement, RADPEER scores, what was graded, and disagreements to decide."""
    locale = locale_of(request)
    until = clock.now()
    since = until - timedelta(days=days)
    hospitals = keeping.hospitals(session)
    rows = peer.results(session, org_id=org)
    exams = service.exams_of(session, rows)
    quarrels = service.arbitrations(session, actor)
    # Whoever decides does it without the names: while that is open, no other line of his page tells them.
    blind = set(service.undecided_readings(session))
    values = {
        **_WORDS,
        "days": days,
        "org": org,
        "hospitals": hospitals,
        "hospital_names": {one.id: _org(one, locale) for one in hospitals},
        "radpeer": RADPEER,
        "figures": {
            "review": peer.review_figures(session, since, until, org_id=org),
            "random": peer.peer_figures(session, since, until, org_id=org, rule="random"),
            "targeted": peer.peer_figures(session, since, until, org_id=org, rule="targeted"),
        },
        "by_hospital": [
            (one, peer.peer_figures(session, since, until, org_id=one.id, rule="random")) for one in hospitals
        ],
        "progress": peer.progress(session),
        "rows": [
            {"row": row, "words": exam_words(exams[row.exam_id], locale), "blind": row.id in blind} for row in rows
        ],
        "arbitrations": _quarrels(session, quarrels, actor, locale),
    }
    return render(request, "review/results.html", values)


def _org(org: Organisation, locale: str) -> str:
    return org.name_en if locale == "en" and org.name_en else org.name


@router.get("/admin/review-policy", include_in_schema=False)
def policy_page(request: Request, session: ReadDb, actor: Keeper, org: Id = "") -> Response:
    """A hospital's policy of review, with its meaning in plain words."""
    del actor
    locale = locale_of(request)
    hospitals = keeping.hospitals(session)
    chosen = keeping.hospital(session, org) if org else (hospitals[0] if hospitals else None)
    values: dict[str, Any] = {"hospitals": hospitals, "names": {one.id: _org(one, locale) for one in hospitals}}
    if chosen is not None:
        values |= {
            "doctors": keeping.doctors(session, chosen.id),
            "arbiters": keeping.arbiters(session, chosen.id),
            "modalities": MODALITIES,
            "body_parts": {code: part.name for code, part in BODY_PARTS.items()},
            "panels": PANELS,
        }
        answer = policy_answer(session, chosen, locale)
        values |= {"answer": answer, "data": answer.model_dump()}
    values["chosen"] = chosen
    return render(request, "review/policy.html", values)
