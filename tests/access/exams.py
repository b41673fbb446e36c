"""Registration and exams."""

REGISTRARS = {"technologist", "machine:register"}
VIEWERS = {
    "technologist",
    "clinician",
    "reporter",
    "reviewer",
    "expert",
    "quality",
    "director",
    "machine:register",
}
ROUTES = {
    ("POST", "/api/exams"): REGISTRARS,
    ("GET", "/api/exams"): VIEWERS,
    ("GET", "/api/exams/phrases"): REGISTRARS,
    ("GET", "/api/exams/{exam_id}"): VIEWERS,
    ("GET", "/api/exams/{exam_id}/transitions"): VIEWERS,
    ("PATCH", "/api/exams/{exam_id}"): REGISTRARS,
    ("POST", "/api/exams/{exam_id}/cancel"): {"technologist", "director", "machine:register"},
    ("GET", "/api/patients/search"): REGISTRARS,
}
