"""Checks of a report: readers are asked and answer; quality officer and director look; the director chooses."""

READERS = {"reporter", "reviewer"}
WATCH = {"quality", "director"}
VIEWERS = {"technologist", "clinician", "reporter", "reviewer", "expert", "quality", "director", "machine:report"}

ROUTES = {
    ("POST", "/api/exams/{exam_id}/check"): READERS,
    ("POST", "/api/exams/{exam_id}/check/answers"): READERS,
    ("DELETE", "/api/exams/{exam_id}/check/answers/{fingerprint}"): READERS,
    ("GET", "/api/reports/{version_id}/checks"): VIEWERS,
    ("GET", "/api/checks/settings"): WATCH,
    ("PUT", "/api/checks/settings"): {"director"},
    ("GET", "/api/checks/answers"): WATCH,
    ("GET", "/checks"): WATCH,
}
