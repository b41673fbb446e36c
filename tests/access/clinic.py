"""Pages of the clinic, which are for people, and the verification of identities."""

IMAGE_VIEWERS = {
    "technologist",
    "clinician",
    "reporter",
    "reviewer",
    "expert",
    "quality",
    "director",
}
VERIFIERS = {"technologist", "quality", "director"}
SEERS = {"technologist", "clinician"}

ROUTES = {
    ("GET", "/clinic"): SEERS,
    ("GET", "/clinic/register"): {"technologist"},
    ("GET", "/clinic/exams/{exam_id}/register"): {"technologist"},
    ("GET", "/clinic/upload"): {"technologist"},
    ("GET", "/clinic/inbox"): SEERS,
    ("GET", "/clinic/exams/{exam_id}"): IMAGE_VIEWERS,
    ("GET", "/clinic/exams/{exam_id}/pictures/{kind}/{row_id}"): IMAGE_VIEWERS,
    ("GET", "/verify-identity"): VERIFIERS,
    ("POST", "/api/exams/{exam_id}/verify"): VERIFIERS,
    ("POST", "/api/exams/{exam_id}/studies/{study_id}/move"): VERIFIERS,
}
