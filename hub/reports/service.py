"""Rules of reports: drafts that are never lost, submission, review, addenda and corrections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.service import NO_LEASE
from hub.exams.states import Event, State
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, HubError, Invalid
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.kit.settings import get_settings
from hub.reading import service as reading
from hub.reading.policy import is_resident, needs_second_signature
from hub.reading.routing import rows as routing_rows
from hub.reading.service import required_reason
from hub.reports import repository
from hub.reports.checks import service as checks
from hub.reports.critical import service as criticals
from hub.reports.models import Report, ReportVersion, SavedText, StrayText
from hub.reports.passages import Marked, mark, passages_note
from hub.reports.policy import AMENDABLE, MAX_KEY_IMAGES, MAX_TEXT, attending_needed, check_complete, own_report
from hub.reports.states import STATE_NAMES, TRANSITIONS, VersionEvent, VersionState
from hub.reports.texts import copied, links
from hub.reports.texts.copied import Copy
from hub.studies.models import ExamStudy, Instance, Study

TEXTS = ("technique", "comparison", "findings", "impression", "recommendation")
KINDS = ("addendum", "correction")

# Somebody who goes on writing replaces his own text every few seconds; keeping each of these would keep nothing
# readable. What another person wrote, what was shortened, and a copy a minute are kept.
_SNAPSHOT_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Content:
    """What a page saves. `key_images`: `[{id, caption}]` in order; None leaves them; one left out is taken off."""

    technique: str = ""
    comparison: str = ""
    findings: str = ""
    impression: str = ""
    recommendation: str = ""
    positive: bool | None = None
    critical: bool = False
    key_images: list[dict[str, str]] | None = None
    copied: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """How a save went. With a `problem` the text was kept beside the draft, and the edge refuses after its commit.

    `version` is None where there was none to lie beside: the lease was gone before the first save (StrayText).
    """

    version: ReportVersion | None
    problem: HubError | None = None


def body_of(version: ReportVersion) -> dict[str, Any]:
    """A version's words as JSON values."""
    return {
        **{name: getattr(version, name) for name in TEXTS},
        "positive": version.positive,
        "critical": version.critical,
        "key_images": [{"id": image["id"], "caption": image.get("caption", "")} for image in version.key_images],
    }


def content_hash(version: ReportVersion, exam: Exam) -> str:
    """SHA-256 of what a signer sees: whose report of which exam it is and every word and figure of it, in hexadecimal.

    A request to sign names it, so that a signature never falls on another text than the one that was displayed.
    """
    seen = {
        "version": version.id,
        "kind": version.kind,
        "reason": version.reason,
        "accession": exam.accession,
        "patient": [
            exam.patient_id,
            exam.patient.name,
            exam.patient.sex,
            exam.patient.number,
            exam.patient.birth_date.isoformat() if exam.patient.birth_date else "",
            exam.stated_age,
        ],
        "exam": [exam.modality, exam.body_parts, exam.procedure],
        # Printed as well, and the clinic may correct them until the signature.
        "request": [
            *(exam.history, exam.department, exam.doctor),
            *(exam.encounter, exam.encounter_number, exam.bed, exam.patient.identity_number),
        ],
        "texts": [getattr(version, name) for name in TEXTS],
        "positive": version.positive,
        "critical": version.critical,
        "figures": [[image["id"], image["sha256"], image.get("caption", "")] for image in version.key_images],
    }
    return hashlib.sha256(json.dumps(seen, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def move(
    session: Session, actor: Actor, version: ReportVersion, event: VersionEvent, **changes: Any
) -> ReportVersion:  # fmt: skip
    """Raise `event` on a version: the one place that writes its state.

    Raises:
        Conflict: The state does not know the event, or somebody else changed the version first.
        Forbidden: The actor has none of the event's roles.
    """
    rule = TRANSITIONS.get((VersionState(version.state), event))
    if rule is None:
        raise Conflict(
            _("这份报告现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[VersionState(version.state)]),
            code="wrong-state",
            state=version.state,
            event=event.value,
        )
    if actor.roles.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    session.flush()
    result = session.execute(
        update(ReportVersion)
        .where(
            ReportVersion.id == version.id,
            ReportVersion.state == version.state,
            ReportVersion.revision == version.revision,
        )
        .values(state=rule.target.value, **changes)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("这份报告刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(version)
    return version


def draft_for(session: Session, actor: Actor, exam: Exam) -> ReportVersion:
    """The exam's open version; a first one is begun where there is none. The exam must be locked."""
    version = repository.open_version(session, exam.id, lock=True)
    if version is not None:
        return version
    now = clock.now()
    report = repository.report_of(session, exam.id)
    if report is None:
        report = Report(id=new_id(), exam_id=exam.id, created_at=now)
        session.add(report)
        session.flush()
    number = session.scalar(select(func.max(ReportVersion.number)).where(ReportVersion.report_id == report.id)) or 0
    if number > 0:
        raise Conflict(_("报告已签发;请用补充或更正报告"), code="already-signed")
    version = ReportVersion(
        id=new_id(),
        report_id=report.id,
        number=1,
        kind="original",
        state=VersionState.DRAFT.value,
        revision=1,
        author_id=actor.id,
        author_name=actor.name,
        key_images=[],
        created_at=now,
        saved_at=now,
        saved_by=actor.id,
    )
    session.add(version)
    session.flush()
    routing_rows.keep(session, exam)
    return version


def _writable(session: Session, actor: Actor, exam_id: str, lease: str) -> tuple[Exam, ReportVersion, Conflict | None]:
    """The exam and the version that `actor` writes, both locked; a Conflict if he may not write it (any more).

    The original report is written under the exam's lease. An addendum or correction has none: its draft belongs to who
    began it, and after submission to whoever reviews it; the revision keeps two of them from overwriting each other.
    """
    exam = reading.locked(session, actor, exam_id)
    if State(exam.state) in AMENDABLE:
        version = repository.open_version(session, exam_id, lock=True)
        if version is None:
            raise Conflict(_("报告已签发;请用补充或更正报告"), code="already-signed")
        if exam.reading_org_id != actor.org_id:
            raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
        if version.state == VersionState.DRAFT and version.author_id != actor.id:
            raise Conflict(_("{name}正在书写这份报告").format(name=version.author_name), code="exam-held")
        if version.state == VersionState.SUBMITTED:
            if version.author_id == actor.id and needs_second_signature(exam, actor.id):
                raise own_report()
            if version.author_id != actor.id and is_resident(exam, actor.id):
                raise attending_needed()
        return exam, version, None
    try:
        held = reading.hold(session, actor, exam_id, lease)
    except Conflict as problem:
        version = repository.open_version(session, exam_id, lock=True)
        if version is None:
            raise
        return exam, version, problem
    return held, draft_for(session, actor, held), None


def writable(session: Session, actor: Actor, exam_id: str, lease: str) -> tuple[Exam, ReportVersion]:
    """The exam and the version that `actor` writes, both locked.

    Raises:
        Conflict: He may not write it, or not any more.
    """
    exam, version, problem = _writable(session, actor, exam_id, lease)
    if problem is not None:
        raise problem
    return exam, version


def save(session: Session, actor: Actor, exam_id: str, *, lease: str, revision: int, content: Content) -> Saved:
    """Save the draft that `actor` writes.

    Args:
        session: The transaction.
        actor: Who writes.
        exam_id: The exam.
        lease: Token of his lease; empty for an addendum or correction.
        revision: The revision that the page's text is based on; 0 where it had none yet.
        content: The whole text.

    Returns:
        The version. Where the lease was lost or somebody else saved meanwhile, `problem` says so and the text lies
        beside the draft (SavedText), in a transaction that the caller must commit.

    Raises:
        Invalid: A text is too long.
        Conflict: There is nothing to write to.
    """
    for name in TEXTS:
        if len(getattr(content, name)) > MAX_TEXT:
            raise Invalid(fields={name: _("最多 {n} 个字").format(n=MAX_TEXT)})
    try:
        exam, version, problem = _writable(session, actor, exam_id, lease)
    except Conflict as refused:
        _stray(session, actor, exam_id, content)
        return Saved(None, refused)
    incoming = _incoming(content, version)
    # Its procedure is withdrawn with a reason, not by a box in a draft.
    incoming["critical"] = incoming["critical"] or criticals.must_be_marked(session, exam.id)
    beside = {**incoming, "copied": [asdict(copy) for copy in content.copied]} if content.copied else incoming
    if problem is not None:
        keep(session, actor, version, "lease-lost", beside)
        return Saved(version, problem)
    fresh = version.revision == 1 and not any(getattr(version, name) for name in TEXTS)
    if revision != version.revision and not (revision == 0 and fresh):
        if incoming == body_of(version):
            return Saved(version)
        keep(session, actor, version, "conflict", beside)
        return Saved(
            version,
            Conflict(
                _("这份报告在另一个窗口或由另一人改动过;您的文字已另存,请对照后再保存"),
                code="revision-conflict",
                revision=version.revision,
                current=body_of(version),
            ),
        )
    copied.add(session, actor, version, content.copied)
    before = body_of(version)
    if incoming == before:
        return Saved(version)
    _snapshot(session, actor, version, before, incoming)
    images = {image["id"]: image for image in version.key_images}
    move(
        session,
        actor,
        version,
        VersionEvent.SAVE,
        **{name: incoming[name] for name in (*TEXTS, "positive", "critical")},
        key_images=[{**images[image["id"]], "caption": image["caption"]} for image in incoming["key_images"]],
        revision=version.revision + 1,
        saved_at=clock.now(),
        saved_by=actor.id,
    )
    _announce(session, exam, version, "saved")
    return Saved(version)


def _incoming(content: Content, version: ReportVersion) -> dict[str, Any]:
    known = {image["id"]: image.get("caption", "") for image in version.key_images}
    if content.key_images is None:
        images = [{"id": key, "caption": caption} for key, caption in known.items()]
    else:
        images = [
            {"id": image["id"], "caption": str(image.get("caption", ""))[:100]}
            for image in content.key_images
            if image.get("id") in known
        ]
    return {
        **{name: getattr(content, name).replace("\r\n", "\n") for name in TEXTS},
        "positive": content.positive,
        "critical": content.critical,
        "key_images": images,
    }


def _stray(session: Session, actor: Actor, exam_id: str, content: Content) -> None:
    body = {**asdict(content), "key_images": [], "copied": [asdict(copy) for copy in content.copied]}
    mine = select(StrayText).where(StrayText.exam_id == exam_id, StrayText.person_id == actor.id)
    newest = session.scalars(mine.order_by(StrayText.id.desc()).limit(1)).one_or_none()
    if any(body[name] for name in TEXTS) and (newest is None or newest.body != body):
        session.add(StrayText(exam_id=exam_id, at=clock.now(), person_id=actor.id, body=body))


def keep(session: Session, actor: Actor, version: ReportVersion, event: str, body: dict[str, Any]) -> None:
    """Keep text beside a version, once."""
    newest = next(iter(repository.saved_texts(session, version.id, event=event, limit=1)), None)
    if newest is not None and newest.body == body:
        return
    session.add(
        SavedText(
            version_id=version.id,
            revision=version.revision,
            at=clock.now(),
            person_id=actor.id,
            event=event,
            body=body,
        )
    )


def _snapshot(
    session: Session, actor: Actor, version: ReportVersion, before: dict[str, Any], after: dict[str, Any]
) -> None:
    if not any(before[name] for name in TEXTS):
        return
    removed = any(_removed(before[name], after[name]) > 4 for name in TEXTS)
    newest = next(iter(repository.saved_texts(session, version.id, limit=1)), None)
    old = newest is None or newest.at < clock.now() - _SNAPSHOT_EVERY
    if removed or old or version.saved_by != actor.id:
        session.add(
            SavedText(
                version_id=version.id,
                revision=version.revision,
                at=clock.now(),
                person_id=version.saved_by or actor.id,
                event="overwritten",
                body=before,
            )
        )


def _removed(before: str, after: str) -> int:
    """How many characters of one place in a text are gone, whatever came instead of them."""
    start = _alike(before, after)
    return len(before) - start - _alike(before[start:][::-1], after[start:][::-1])


def _alike(one: str, two: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _announce(session: Session, exam: Exam, version: ReportVersion, event: str) -> None:
    """Tell the reader's other windows; drafts do not concern the clinic."""
    live.publish(
        session,
        "draft",
        exam.id,
        orgs=[exam.reading_org_id or "shared"],
        event=event,
        version_id=version.id,
        revision=version.revision,
        state=version.state,
        by=version.saved_by,
    )


def add_key_image(
    session: Session, actor: Actor, exam_id: str, *, lease: str, image: dict[str, Any]
) -> tuple[ReportVersion, dict[str, Any]]:
    """Put a key image, whose bytes lie in the object store already, into the draft.

    Args:
        session: The transaction.
        actor: Who writes.
        exam_id: The exam.
        lease: Token of his lease.
        image: `{key, sha256, type, width, height, caption, sop_uid, frame}`.

    Raises:
        Conflict: The lease is lost.
        Invalid: There are as many as a report can hold, or it shows another exam's image.
    """
    exam, version, problem = _writable(session, actor, exam_id, lease)
    if problem is not None:
        raise problem
    if of_another_exam(session, exam, str(image.get("sop_uid") or "")):
        raise Invalid(_("这是另一次检查的影像,不能作为本报告的关键图像"), code="other-exam")
    if len(version.key_images) >= MAX_KEY_IMAGES:
        raise Invalid(_("一份报告最多 {n} 张关键图像").format(n=MAX_KEY_IMAGES), code="too-many-images")
    entry = {"id": new_id(), **image}
    move(
        session,
        actor,
        version,
        VersionEvent.SAVE,
        key_images=[*version.key_images, entry],
        revision=version.revision + 1,
        saved_at=clock.now(),
        saved_by=actor.id,
    )
    _announce(session, exam, version, "key-image")
    return version, entry


def of_another_exam(session: Session, exam: Exam, sop_uid: str) -> bool:
    """Whether an image that the archive holds is none of the exam's: a prior, or the last patient's still shown."""
    study_id = session.scalar(select(Instance.study_id).where(Instance.uid == sop_uid)) if sop_uid else None
    return study_id is not None and session.get(ExamStudy, (exam.id, study_id)) is None


def add_link(session: Session, actor: Actor, exam_id: str, *, lease: str, target: links.Target) -> ReportVersion:
    """Link a piece of the draft's text with a place in the exam's images; the same link again changes nothing.

    Raises:
        Conflict: The lease is lost.
        Invalid: No label, too much of it, or another exam's image.
    """
    exam, version = writable(session, actor, exam_id, lease)
    study = session.scalar(select(Study.id).where(Study.uid == target.study_uid))
    elsewhere = study is not None and session.get(ExamStudy, (exam.id, study)) is None
    if elsewhere or of_another_exam(session, exam, target.sop_uid):
        raise Invalid(_("这是另一次检查的影像,不能链接到本报告"), code="other-exam")
    links.add(session, actor, version, target)
    return version


def confirm_copied(
    session: Session, actor: Actor, exam_id: str, *, lease: str, ids: Sequence[str]
) -> ReportVersion:  # fmt: skip
    """Sentences copied from an earlier report hold for this exam, says who writes it.

    Raises:
        Conflict: The lease is lost.
    """
    exam, version = writable(session, actor, exam_id, lease)
    copied.confirm(session, actor, version, ids)
    _announce(session, exam, version, "confirmed")
    return version


def _at(version: ReportVersion, revision: int) -> None:
    if version.revision != revision:
        raise Conflict(
            _("这份报告在另一个窗口或由另一人改动过,请先核对最新文字"),
            code="revision-conflict",
            revision=version.revision,
            current=body_of(version),
        )


def submit(session: Session, actor: Actor, exam_id: str, *, lease: str, revision: int) -> ReportVersion:
    """Give the report to review. The author's own words are kept before anybody changes them.

    Raises:
        Conflict: `lease-lost`, `revision-conflict`, `wrong-state`, `checks` (a warning that nobody answered).
        Invalid: A mandatory field is empty.
    """
    exam, version, problem = _writable(session, actor, exam_id, lease)
    if problem is not None:
        raise problem
    _at(version, revision)
    check_complete(version)
    copied.check(version)
    checks.enforce(session, actor, exam, version)
    move(
        session,
        actor,
        version,
        VersionEvent.SUBMIT,
        author_id=actor.id,
        author_name=actor.name,
        submitted_at=clock.now(),
        review_note="",
    )
    keep(session, actor, version, "submitted", body_of(version))
    if version.kind == "original":
        exams.apply(session, actor, exam, Event.SUBMIT, author_id=actor.id, critical=version.critical, **NO_LEASE)
    else:
        _record(session, actor, exam, version, "report.submit")
    _announce(session, exam, version, "submitted")
    return version


def withdraw(session: Session, actor: Actor, exam_id: str) -> tuple[ReportVersion, reading.Lease | None]:
    """The author takes his report back before anybody reviews it, and holds the exam again.

    A preliminary report that was issued stays with the clinic; a better one may be issued, and counts instead.

    Raises:
        Conflict: Somebody reviews it already.
        Forbidden: Somebody else wrote it.
    """
    exam = reading.locked(session, actor, exam_id)
    version = repository.open_version(session, exam_id, lock=True)
    if version is None or version.state != VersionState.SUBMITTED:
        raise Conflict(_("没有可以撤回的报告"), code="wrong-state")
    if version.author_id != actor.id:
        raise Forbidden(_("只有书写医师可以撤回自己的报告"))
    if exam.reading_org_id != actor.org_id:
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    if version.kind != "original":
        move(session, actor, version, VersionEvent.WITHDRAW)
        _record(session, actor, exam, version, "report.withdraw")
        _announce(session, exam, version, "withdrawn")
        return version, None
    changes = exams.lease_values(actor, new_id(), minutes=get_settings().lease_minutes)
    exams.apply(session, actor, exam, Event.WITHDRAW, **changes)
    move(session, actor, version, VersionEvent.WITHDRAW)
    _announce(session, exam, version, "withdrawn")
    return version, reading.Lease(exam, changes["lease_token"], changes["lease_until"])


def reject(
    session: Session,
    actor: Actor,
    exam_id: str,
    *,
    lease: str,
    note: str,
    passages: Sequence[Marked] = (),
    revision: int | None = None,
) -> ReportVersion:
    """Send the report back to its author with a note; the reviewer's changes stay in the draft.

    Args:
        session: The transaction.
        actor: The reviewer.
        exam_id: The exam.
        lease: Token of his lease; empty for an addendum or correction.
        note: What is to be changed; may be empty where passages are marked.
        passages: The places that it is about.
        revision: Of the text in which they were marked.

    Raises:
        Conflict: `lease-lost`, `revision-conflict`, `wrong-state`.
        Invalid: No note, or a place that is not in the text.
    """
    if passages and not note.strip():
        note = passages_note(passages)
    note = required_reason(note)
    exam, version, problem = _writable(session, actor, exam_id, lease)
    if problem is not None:
        raise problem
    if passages and revision is not None:
        _at(version, revision)
    mark(session, actor, version, passages)
    move(
        session,
        actor,
        version,
        VersionEvent.REJECT,
        review_note=note,
        reviewer_id=actor.id,
        reviewer_name=actor.name,
    )
    if version.kind == "original":
        exams.apply(session, actor, exam, Event.REJECT, reason=note, **NO_LEASE)
    else:
        _record(session, actor, exam, version, "report.reject")
    _announce(session, exam, version, "rejected")
    return version


def amend(session: Session, actor: Actor, exam_id: str, *, kind: str, reason: str) -> ReportVersion:
    """Begin an addendum or a correction of a signed report.

    The signed version stays what it is, and stays the one that counts, until the new one is signed. A correction begins
    with the words of the version it corrects, an addendum with an empty page.

    Raises:
        Conflict: The report is not signed, or a new version is being written already.
        Invalid: No reason, or an unknown kind.
        Forbidden: Another hospital's report.
    """
    if kind not in KINDS:
        raise Invalid(fields={"kind": _("只能是补充或更正")})
    reason = required_reason(reason)
    exam = reading.locked(session, actor, exam_id)
    if State(exam.state) not in AMENDABLE:
        raise Conflict(_("报告签发之后才能补充或更正"), code="wrong-state", state=exam.state)
    if exam.reading_org_id != actor.org_id or not actor.has(Role.REPORTER, Role.REVIEWER):
        raise Forbidden(_("只有出具报告的医院可以补充或更正"), code="other-hospital")
    report = repository.report_of(session, exam_id)
    base = repository.latest_signed(session, report.id) if report else None
    if report is None or base is None:
        raise Conflict(_("报告签发之后才能补充或更正"), code="wrong-state", state=exam.state)
    if (other := repository.open_version(session, exam_id, lock=True)) is not None:
        raise Conflict(_("{name}正在书写新的版本").format(name=other.author_name), code="amendment-open")
    now = clock.now()
    whole = kind == "correction"
    version = ReportVersion(
        id=new_id(),
        report_id=report.id,
        number=base.number + 1,
        kind=kind,
        reason=reason,
        state=VersionState.DRAFT.value,
        revision=1,
        author_id=actor.id,
        author_name=actor.name,
        technique=base.technique,
        comparison=base.comparison,
        findings=base.findings if whole else "",
        impression=base.impression if whole else "",
        recommendation=base.recommendation if whole else "",
        positive=base.positive,
        critical=criticals.carried(session, exam.id, base.critical),
        key_images=list(base.key_images) if whole else [],
        created_at=now,
        saved_at=now,
        saved_by=actor.id,
    )
    session.add(version)
    session.flush()
    if whole:
        links.carry(session, base, version)
    _record(session, actor, exam, version, "report.amend", kind=kind)
    _announce(session, exam, version, "amendment")
    exams.announce(session, exam, event="amendment")
    return version


def discard(session: Session, actor: Actor, exam_id: str) -> None:
    """Give up a new version that was not signed. Its words stay in the database.

    Raises:
        Conflict: There is none, or it is under review.
        Forbidden: Somebody else began it.
    """
    exam = reading.locked(session, actor, exam_id)
    version = repository.open_version(session, exam_id, lock=True)
    if version is None or version.kind == "original":
        raise Conflict(_("没有可以放弃的新版本"), code="wrong-state")
    if version.author_id != actor.id:
        raise Forbidden(_("只有书写医师可以放弃自己的版本"))
    lowest = session.scalar(select(func.min(ReportVersion.number)).where(ReportVersion.report_id == version.report_id))
    move(session, actor, version, VersionEvent.DISCARD, number=min(0, lowest or 0) - 1)
    _record(session, actor, exam, version, "report.discard")
    _announce(session, exam, version, "discarded")
    exams.announce(session, exam, event="amendment")


def _record(session: Session, actor: Actor, exam: Exam, version: ReportVersion, action: str, **detail: Any) -> None:
    audit.record(
        session,
        actor,
        action,
        "report_version",
        version.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
        **detail,
    )


def saved_of(session: Session, actor: Actor, version_id: str) -> list[dict[str, Any]]:
    """Text kept beside a version, newest first, for a reader to take back."""
    version, _report, exam = repository.get_version(session, actor, version_id)
    if not repository.may_see_drafts(actor, exam):
        raise Forbidden()
    return [
        {
            "id": text.id,
            "revision": text.revision,
            "at": text.at,
            "event": text.event,
            "mine": text.person_id == actor.id,
            "body": text.body,
        }
        for text in repository.saved_texts(session, version.id)
    ]
