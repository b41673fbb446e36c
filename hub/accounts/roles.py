"""Roles, permissions and which role holds which: data."""

from __future__ import annotations

from enum import StrEnum

from hub.kit.i18n import Message, _


class Role(StrEnum):
    """Roles of people. What each does is in docs/; who may do what is PERMISSIONS."""

    TECHNOLOGIST = "technologist"
    CLINICIAN = "clinician"
    REPORTER = "reporter"
    REVIEWER = "reviewer"
    EXPERT = "expert"
    QUALITY = "quality"
    DIRECTOR = "director"
    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"


ROLE_NAMES: dict[Role, Message] = {
    Role.TECHNOLOGIST: _("登记员/技师"),
    Role.CLINICIAN: _("临床医生"),
    Role.REPORTER: _("书写医师"),
    Role.REVIEWER: _("审核医师"),
    Role.EXPERT: _("专家"),
    Role.QUALITY: _("质控员"),
    Role.DIRECTOR: _("影像中心主任"),
    Role.ADMINISTRATOR: _("医共体办"),
    Role.OPERATOR: _("运维"),
}


class Permission(StrEnum):
    """What a route asks for. Which rows are then visible is decided in the query (`visible_to`)."""

    ACCOUNT_SELF = "account.self"
    LIVE = "live"
    EXAM_REGISTER = "exam.register"
    EXAM_VIEW = "exam.view"
    EXAM_CANCEL = "exam.cancel"
    EXAM_VERIFY = "exam.verify"
    EXAM_VOID = "exam.void"
    IMAGES_UPLOAD = "images.upload"
    IMAGES_VIEW = "images.view"
    IMAGES_DELETE = "images.delete"
    QUARANTINE_VIEW = "quarantine.view"
    QUARANTINE_DECIDE = "quarantine.decide"
    HISTORY_ANSWER = "history.answer"
    THREAD_WRITE = "thread.write"
    QUEUE_VIEW = "queue.view"
    REPORT_WRITE = "report.write"
    REPORT_REVIEW = "report.review"
    REPORT_VIEW = "report.view"
    REPORT_SEE = "report.see"
    TEMPLATE_EDIT = "template.edit"
    SIGNING_KEY = "signing.key"
    LEASE_BREAK = "lease.break"
    QUEUE_BALANCE = "queue.balance"
    ROUTING_MANAGE = "routing.manage"
    ROTA_VIEW = "rota.view"
    ALERTS_VIEW = "alerts.view"
    REVIEW_OVERSEE = "review.oversee"
    REVIEW_POLICY = "review.policy"
    CRITICAL_VIEW = "critical.view"
    CRITICAL_FLAG = "critical.flag"
    CRITICAL_CALL = "critical.call"
    CRITICAL_RECEIVE = "critical.receive"
    CRITICAL_CONTACTS = "critical.contacts"
    CRITICAL_SETTINGS = "critical.settings"
    PATIENT_LINK = "patient.link"
    RECOGNITION_VIEW = "recognition.view"
    RECOGNITION_SETTINGS = "recognition.settings"
    SCORE_GIVE = "score.give"
    SCORE_OWN = "score.own"
    TURNAROUND_VIEW = "turnaround.view"
    TURNAROUND_SETTINGS = "turnaround.settings"
    AUDIT_VIEW = "audit.view"
    PEOPLE_MANAGE = "people.manage"
    ORGANISATIONS_MANAGE = "organisations.manage"
    KEYS_MANAGE = "keys.manage"
    SYSTEM_VIEW = "system.view"
    CHECKS_VIEW = "checks.view"
    CHECKS_SETTINGS = "checks.settings"


P, R = Permission, Role
ANYBODY = frozenset({P.ACCOUNT_SELF, P.LIVE})
"""What everybody who is logged in may do."""

CRITICAL_CLINIC = frozenset({P.CRITICAL_VIEW, P.CRITICAL_RECEIVE, P.CRITICAL_CONTACTS})
CRITICAL_READER = frozenset({P.CRITICAL_VIEW, P.CRITICAL_FLAG, P.CRITICAL_CALL})
"""What the two sides of a critical value do."""

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    R.TECHNOLOGIST: ANYBODY
    | CRITICAL_CLINIC
    | {
        P.EXAM_REGISTER,
        P.EXAM_VIEW,
        P.EXAM_CANCEL,
        P.EXAM_VERIFY,
        P.HISTORY_ANSWER,
        P.RECOGNITION_VIEW,
        P.SCORE_OWN,
        P.THREAD_WRITE,
        P.IMAGES_UPLOAD,
        P.IMAGES_VIEW,
        P.REPORT_VIEW,
        P.REPORT_SEE,
    },
    R.CLINICIAN: ANYBODY
    | CRITICAL_CLINIC
    | {P.RECOGNITION_VIEW, P.SCORE_OWN}
    | {P.EXAM_VIEW, P.HISTORY_ANSWER, P.THREAD_WRITE, P.IMAGES_VIEW, P.REPORT_VIEW, P.REPORT_SEE},
    R.REPORTER: ANYBODY
    | CRITICAL_READER
    | {P.ROTA_VIEW, P.ALERTS_VIEW}
    | {
        P.EXAM_VIEW,
        P.SCORE_GIVE,
        P.THREAD_WRITE,
        P.IMAGES_VIEW,
        P.QUEUE_VIEW,
        P.REPORT_WRITE,
        P.REPORT_VIEW,
        P.TEMPLATE_EDIT,
        P.SIGNING_KEY,
    },
    R.REVIEWER: ANYBODY
    | CRITICAL_READER
    | {P.ROTA_VIEW, P.ALERTS_VIEW}
    | {
        P.EXAM_VIEW,
        P.SCORE_GIVE,
        P.THREAD_WRITE,
        P.IMAGES_VIEW,
        P.QUEUE_VIEW,
        P.REPORT_WRITE,
        P.REPORT_REVIEW,
        P.REPORT_VIEW,
        P.TEMPLATE_EDIT,
        P.SIGNING_KEY,
    },
    R.EXPERT: ANYBODY | {P.EXAM_VIEW, P.IMAGES_VIEW, P.REPORT_VIEW},
    R.QUALITY: ANYBODY
    | {P.CRITICAL_VIEW}
    | {
        P.EXAM_VIEW,
        P.PATIENT_LINK,
        P.SCORE_GIVE,
        P.THREAD_WRITE,
        P.IMAGES_VIEW,
        P.REPORT_VIEW,
        P.REVIEW_OVERSEE,
        P.QUARANTINE_VIEW,
        P.QUARANTINE_DECIDE,
        P.EXAM_VERIFY,
        P.CHECKS_VIEW,
        P.TURNAROUND_VIEW,
    },
    R.DIRECTOR: ANYBODY
    | {P.CRITICAL_VIEW, P.CRITICAL_CALL, P.CRITICAL_CONTACTS, P.CRITICAL_SETTINGS}
    | {P.QUEUE_BALANCE, P.ROUTING_MANAGE, P.ROTA_VIEW, P.ALERTS_VIEW}
    | {
        P.EXAM_VIEW,
        P.PATIENT_LINK,
        P.THREAD_WRITE,
        P.IMAGES_VIEW,
        P.IMAGES_DELETE,
        P.QUEUE_VIEW,
        P.REPORT_VIEW,
        P.REVIEW_OVERSEE,
        P.REVIEW_POLICY,
        P.EXAM_CANCEL,
        P.EXAM_VERIFY,
        P.EXAM_VOID,
        P.LEASE_BREAK,
        P.QUARANTINE_VIEW,
        P.CHECKS_VIEW,
        P.CHECKS_SETTINGS,
        P.TURNAROUND_VIEW,
        P.TURNAROUND_SETTINGS,
        P.TEMPLATE_EDIT,
    },
    R.ADMINISTRATOR: ANYBODY
    | {P.CRITICAL_CONTACTS, P.CRITICAL_SETTINGS, P.RECOGNITION_SETTINGS}
    | {P.ROUTING_MANAGE, P.ROTA_VIEW, P.ALERTS_VIEW}
    | {
        P.TURNAROUND_VIEW,
        P.TURNAROUND_SETTINGS,
        P.REVIEW_POLICY,
        P.AUDIT_VIEW,
        P.PEOPLE_MANAGE,
        P.ORGANISATIONS_MANAGE,
        P.KEYS_MANAGE,
    },
    R.OPERATOR: ANYBODY | {P.SYSTEM_VIEW},
}

MACHINE_SCOPES: dict[str, frozenset[Permission]] = {
    "stow": frozenset({P.IMAGES_UPLOAD}),
    "retrieve": frozenset({P.IMAGES_VIEW}),
    "register": frozenset({P.EXAM_REGISTER, P.EXAM_VIEW, P.EXAM_CANCEL, P.HISTORY_ANSWER, P.RECOGNITION_VIEW}),
    "report": frozenset({P.REPORT_VIEW, P.REPORT_SEE}),
}
"""Scopes of API keys: what each lets a machine of an organisation do."""

COUNTY_WIDE_ROLES = frozenset({R.QUALITY, R.DIRECTOR})
"""Roles that see the clinical rows of the whole county."""


def permissions_of(roles: frozenset[str], scopes: frozenset[str] = frozenset()) -> frozenset[Permission]:
    """All permissions that `roles` (people) and `scopes` (machines) give."""
    granted: set[Permission] = set()
    for role in roles:
        granted |= PERMISSIONS.get(Role(role), frozenset())
    for scope in scopes:
        granted |= MACHINE_SCOPES.get(scope, frozenset())
    return frozenset(granted)
