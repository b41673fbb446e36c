"""Threads between reader and clinic, history, retakes, void exams."""

READERS = {"reporter", "reviewer"}
WRITERS = {"technologist", "clinician", "reporter", "reviewer", "quality", "director"}
VIEWERS = WRITERS | {"expert"}
ANSWERERS = {"technologist", "clinician", "machine:register"}
SETTERS = {"director", "administrator"}

ROUTES = {
    ("GET", "/api/exams/{exam_id}/thread"): VIEWERS,
    ("POST", "/api/exams/{exam_id}/thread"): WRITERS,
    ("POST", "/api/exams/{exam_id}/thread/read"): VIEWERS,
    ("POST", "/api/exams/{exam_id}/thread/pictures"): WRITERS,
    ("GET", "/api/exams/{exam_id}/thread/pictures/{picture_id}"): VIEWERS,
    ("POST", "/api/exams/{exam_id}/request-history"): READERS,
    ("POST", "/api/exams/{exam_id}/answer-history"): ANSWERERS,
    ("POST", "/api/exams/{exam_id}/request-retake"): READERS,
    ("POST", "/api/exams/{exam_id}/retake"): {"technologist", "machine:register"},
    ("POST", "/api/exams/{exam_id}/decline-retake"): ANSWERERS,
    ("POST", "/api/exams/{exam_id}/void"): {"director"},
    ("PUT", "/api/conversation/settings"): SETTERS,
    ("GET", "/api/reports/{version_id}/passages"): READERS,
    ("POST", "/api/reports/passages/{passage_id}/resolve"): READERS,
    ("GET", "/clinic/exams/{exam_id}/thread"): VIEWERS,
    ("GET", "/messages"): WRITERS,
    ("GET", "/admin/conversation"): SETTERS,
}
