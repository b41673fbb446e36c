"""The viewer's window, and what is drawn in the viewer."""

from hub.accounts.roles import Role

READERS = {Role.REPORTER.value, Role.REVIEWER.value}
QUEUE = READERS | {Role.DIRECTOR.value}
REPORTS = QUEUE | {
    Role.TECHNOLOGIST.value,
    Role.CLINICIAN.value,
    Role.EXPERT.value,
    Role.QUALITY.value,
    "machine:report",
}

ROUTES = {
    ("GET", "/viewer"): QUEUE,
    ("GET", "/ohif/viewer"): "public",
    ("GET", "/viewer/session"): QUEUE,
    ("GET", "/reports/{version_id}/images/{link_id}"): REPORTS,
    ("GET", "/api/exams/{exam_id}/drawings"): QUEUE,
    ("PATCH", "/api/exams/{exam_id}/drawings"): READERS,
}
