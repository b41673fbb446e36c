"""JSON API of review: tracked changes, grades, feedback, changed conclusions, arbitration, reading again, policy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Permission as P
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import LOCALE_COOKIE, pick_locale, translate
from hub.reading.signatures import policy_of, summary, to_json
from hub.reports import repository
from hub.reports.review import keeping, peer, service
from hub.reports.review.schemas import (
    AcknowledgeBody,
    ArbitrationAnswer,
    ArbitrationsAnswer,
    ChangeAnswer,
    ChangesAnswer,
    ChangesListAnswer,
    DecideBody,
    DeclineBody,
    FeedbackAnswer,
    GradeBody,
    PeerAnswer,
    PeerCase,
    PeerFiguresAnswer,
    PeerListAnswer,
    PolicyAnswer,
    PolicyBody,
    ReviewAnswer,
    ReviewBody,
    ReviewState,
    VerdictBody,
    arbitration_answer,
    change_answer,
    changes_answer,
    figures_answer,
    peer_answer,
    peer_case,
    review_answer,
)
from hub.sites.models import Organisation

router = APIRouter(prefix="/api", tags=["review"])

Writer = Annotated[Actor, require(P.REPORT_WRITE)]
Reviewer = Annotated[Actor, require(P.REPORT_REVIEW)]
Viewer = Annotated[Actor, require(P.REPORT_VIEW)]
Receiver = Annotated[Actor, require(P.REPORT_SEE)]
Party = Annotated[Actor, require(P.REPORT_WRITE, P.REVIEW_OVERSEE)]
Overseer = Annotated[Actor, require(P.REVIEW_OVERSEE)]
Keeper = Annotated[Actor, require(P.REVIEW_POLICY)]


# --- review and feedback ------------------------------------------------------------------------------------------


@router.get("/reports/{version_id}/changes", summary="What was changed of the author's text")
def changes(version_id: str, session: ReadDb, actor: Party) -> ChangesAnswer:
    """Word by word, against his text as he submitted it; that text stays, whatever is changed."""
    return changes_answer(service.tracked(session, actor, version_id))


@router.get("/reports/{version_id}/review", summary="How my review of a version stands")
def get_review(version_id: str, session: ReadDb, actor: Reviewer) -> ReviewState:
    """With what its conclusion has otherwise than the preliminary report that the clinic has."""
    version, _report, _exam = repository.get_version(session, actor, version_id)
    preliminary, found = service.differences_from_preliminary(session, version)
    row = service.review_of(session, version.id, actor.id)
    return ReviewState(
        review=review_answer(row) if row is not None else None,
        preliminary=preliminary.id if preliminary is not None else None,
        differences=found,
    )


@router.put("/reports/{version_id}/review", summary="Keep what I think of a text under my review")
def put_review(version_id: str, body: ReviewBody, session: WriteDb, actor: Reviewer) -> ReviewAnswer:
    """May be changed until the signature; `POST /api/reports/{version_id}/sign` takes it as `review`, too."""
    row = service.give_opinion(session, actor, version_id, lease=body.lease, opinion=_opinion(body))
    return review_answer(row)


def _opinion(body: ReviewBody) -> service.Opinion:
    return service.Opinion(**body.model_dump(exclude={"lease"}))


@router.get("/reviews", summary="Reviews of my reports")
def my_reviews(session: ReadDb, actor: Writer, unread: bool = False) -> FeedbackAnswer:
    """Newest first; what was signed only."""
    rows = service.reviews_of_mine(session, actor, unread=unread)
    return FeedbackAnswer(reviews=[review_answer(row) for row in rows], unread=service.unread(session, actor))


@router.post("/reviews/{review_id}/read", summary="I have read a review of my report")
def read_review(review_id: str, session: WriteDb, actor: Writer) -> ReviewAnswer:
    """Again, it changes nothing."""
    return review_answer(service.mark_read(session, actor, review_id))


# --- changed conclusions ------------------------------------------------------------------------------------------


@router.get("/conclusion-changes", summary="Formal reports that say something else than the preliminary one")
def conclusion_changes(
    session: ReadDb, actor: Viewer, state: Literal["open", "all"] = "open"
) -> ChangesListAnswer:  # fmt: skip
    """Those of the exams that the caller may see, newest first."""
    rows = service.changes_for(session, actor, only_open=state == "open")
    return ChangesListAnswer(changes=[change_answer(row) for row in rows])


@router.post("/conclusion-changes/{change_id}/acknowledge", summary="Acknowledge a changed conclusion by name")
def acknowledge(change_id: str, body: AcknowledgeBody, session: WriteDb, actor: Receiver) -> ChangeAnswer:
    """A person of the clinic; again, it changes nothing."""
    return change_answer(service.acknowledge(session, actor, change_id, body.note))


# --- arbitration --------------------------------------------------------------------------------------------------


@router.get("/arbitrations", summary="Significant disagreements")
def arbitrations(
    session: ReadDb, actor: Party, state: Literal["", "open", "decided"] = ""
) -> ArbitrationsAnswer:  # fmt: skip
    """All for who oversees the county; else one's own, and those that one decides."""
    rows = service.arbitrations(session, actor, state=state)
    return ArbitrationsAnswer(arbitrations=[arbitration_answer(row) for row in rows])


@router.post("/arbitrations/{arbitration_id}/decide", summary="Decide a disagreement")
def decide(arbitration_id: str, body: DecideBody, session: WriteDb, actor: Party) -> ArbitrationAnswer:
    """The named arbiter or the director, never one of the two; both doctors are told."""
    row = service.decide(
        session, actor, arbitration_id, decision=body.decision, score=body.radpeer, reason=body.reason
    )  # fmt: skip
    return arbitration_answer(row)


@router.post("/arbitrations/{arbitration_id}/read", summary="I have read a decision")
def read_decision(arbitration_id: str, session: WriteDb, actor: Party) -> ArbitrationAnswer:
    """Again, it changes nothing."""
    return arbitration_answer(service.read_decision(session, actor, arbitration_id))


# --- reading again ------------------------------------------------------------------------------------------------


@router.get("/peer", summary="Signed exams that I am to read again")
def readings(session: ReadDb, actor: Reviewer, done: bool = False) -> PeerListAnswer:
    """Nearest limit first."""
    return PeerListAnswer(readings=[peer_answer(row) for row in peer.mine(session, actor, done=done)])


@router.get("/peer/{peer_id}", summary="One of them, blinded")
def reading(peer_id: str, request: Request, session: ReadDb, actor: Reviewer) -> PeerCase:
    """Without names; without the report until the verdict is written."""
    locale = pick_locale(request.cookies.get(LOCALE_COOKIE))
    return peer_case(peer.show(session, actor, peer_id), locale)


@router.post("/peer/{peer_id}/decline", summary="Give a reading back")
def decline(peer_id: str, body: DeclineBody, session: WriteDb, actor: Reviewer) -> PeerAnswer:
    """With a reason; somebody else gets it, and its images are mine to see no longer."""
    return peer_answer(peer.decline(session, actor, peer_id, body.reason))


@router.post("/peer/{peer_id}/verdict", summary="Write my own verdict")
def verdict(peer_id: str, body: VerdictBody, session: WriteDb, actor: Reviewer) -> PeerAnswer:
    """It cannot be changed: the report is shown from here on."""
    return peer_answer(peer.judge(session, actor, peer_id, verdict=body.verdict, positive=body.positive))


@router.post("/peer/{peer_id}/grade", summary="Grade the report")
def grade(peer_id: str, body: GradeBody, session: WriteDb, actor: Reviewer) -> PeerAnswer:
    """Ends the reading; 3b goes to arbitration."""
    row = peer.grade(
        session, actor, peer_id, agreement=body.agreement, significant=body.significant, note=body.note
    )  # fmt: skip
    return peer_answer(row)


@router.get("/review-figures", summary="Agreement and RADPEER scores")
def figures(
    session: ReadDb,
    actor: Overseer,
    since: datetime | None = None,
    until: datetime | None = None,
    org_id: Annotated[str, Query(max_length=26)] = "",
) -> PeerFiguresAnswer:
    """Of the last 90 days where no time is named. Rates are null where nothing was graded."""
    del actor
    until = until or clock.now()
    since = since or until - timedelta(days=90)
    return PeerFiguresAnswer(
        peer=figures_answer(peer.peer_figures(session, since, until, org_id=org_id)),
        random=figures_answer(peer.peer_figures(session, since, until, org_id=org_id, rule="random")),
        review=figures_answer(peer.review_figures(session, since, until, org_id=org_id)),
        progress={state.value: count for state, count in peer.progress(session).items()},
    )


# --- policy -------------------------------------------------------------------------------------------------------


@router.get("/review-policies/{org_id}", summary="A hospital's policy of review")
def get_policy(org_id: str, request: Request, session: ReadDb, actor: Keeper) -> PolicyAnswer:
    """With its meaning in plain words."""
    del actor
    return policy_answer(session, keeping.hospital(session, org_id), pick_locale(request.cookies.get(LOCALE_COOKIE)))


@router.put("/review-policies/{org_id}", summary="Change a hospital's policy of review")
def put_policy(org_id: str, body: PolicyBody, request: Request, session: WriteDb, actor: Keeper) -> PolicyAnswer:
    """It holds from the next deed on."""
    keeping.change(session, actor, org_id, body.review, double=body.double_signature)
    return policy_answer(session, keeping.hospital(session, org_id), pick_locale(request.cookies.get(LOCALE_COOKIE)))


def policy_answer(session: Session, org: Organisation, locale: str) -> PolicyAnswer:
    """A policy with its sentences."""
    policy = policy_of(org)
    wanted = {*policy.alone_by, *policy.residents, *policy.attendings, policy.arbiter_id} - {""}
    names = {row[0]: row[1] for row in session.execute(select(Person.id, Person.name).where(Person.id.in_(wanted)))}
    return PolicyAnswer(
        org_id=org.id,
        double_signature=policy.double,
        review=to_json(policy),
        summary=[translate(line, locale) for line in summary(policy, names)],
    )
