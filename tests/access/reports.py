"""Reports, signing, templates."""

from hub.accounts.roles import Role

READERS = {Role.REPORTER.value, Role.REVIEWER.value}
REVIEWER = {Role.REVIEWER.value}
EDITORS = READERS | {Role.DIRECTOR.value}
VIEWERS = EDITORS | {
    Role.TECHNOLOGIST.value,
    Role.CLINICIAN.value,
    Role.EXPERT.value,
    Role.QUALITY.value,
    "machine:report",
}

ROUTES = {
    ("GET", "/api/exams/{exam_id}/reports"): VIEWERS,
    ("PUT", "/api/exams/{exam_id}/report"): READERS,
    ("POST", "/api/exams/{exam_id}/key-images"): READERS,
    ("POST", "/api/exams/{exam_id}/submit"): READERS,
    ("POST", "/api/exams/{exam_id}/withdraw"): READERS,
    ("POST", "/api/exams/{exam_id}/reject"): REVIEWER,
    ("POST", "/api/exams/{exam_id}/amend"): READERS,
    ("POST", "/api/exams/{exam_id}/discard"): READERS,
    ("GET", "/api/reports/{version_id}"): VIEWERS,
    ("GET", "/api/reports/{version_id}/saved"): READERS,
    ("GET", "/api/reports/{version_id}/key-images/{image_id}"): VIEWERS,
    ("POST", "/api/reports/{version_id}/sign"): REVIEWER,
    ("GET", "/api/signing"): READERS,
    ("POST", "/api/signing/identities"): READERS,
    ("POST", "/api/signing/identities/import"): READERS,
    ("POST", "/api/signing/identities/{identity_id}/pin"): READERS,
    ("POST", "/api/signing/identities/{identity_id}/revoke"): READERS,
    ("POST", "/api/signing/unlock"): READERS,
    ("POST", "/api/signing/lock"): READERS,
    ("GET", "/api/signing/ca.pem"): "public",
    ("GET", "/api/signing/ca.crl"): "public",
    ("GET", "/api/templates"): EDITORS,
    ("POST", "/api/templates"): EDITORS,
    ("DELETE", "/api/templates/{template_id}"): EDITORS,
    ("GET", "/signing"): READERS,
    ("GET", "/reports/{version_id}"): VIEWERS,
}
