"""Images of an exam, previews, and the quarantine."""

VIEWERS = {"technologist", "clinician", "reporter", "reviewer", "expert", "quality", "director", "machine:retrieve"}
QUARANTINE = {"quality", "director"}

ROUTES = {
    ("GET", "/api/exams/{exam_id}/images"): VIEWERS,
    ("GET", "/api/previews/{kind}/{item}"): VIEWERS,
    ("GET", "/api/quarantine"): QUARANTINE,
    ("GET", "/api/quarantine/{item}"): QUARANTINE,
    ("GET", "/api/quarantine/{item}/file"): {"quality"},
    ("POST", "/api/quarantine/{item}/release"): {"quality"},
    ("POST", "/api/quarantine/{item}/discard"): {"quality"},
    ("GET", "/api/trash"): {"director"},
    ("POST", "/api/trash/{uid}/restore"): {"director"},
    ("GET", "/quarantine"): QUARANTINE,
    ("POST", "/quarantine/{item}/release"): {"quality"},
    ("POST", "/quarantine/{item}/discard"): {"quality"},
}
