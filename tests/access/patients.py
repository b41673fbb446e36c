"""The county patient index, mutual recognition, image scores."""

DECIDERS = {"quality", "director"}
REGISTRARS = {"technologist", "machine:register"}
CLINIC = {"technologist", "clinician"}
READERS = {"reporter", "reviewer"}
KEEPER = {"administrator"}

ROUTES = {
    ("GET", "/patients"): DECIDERS,
    ("GET", "/patients/{patient_id}"): DECIDERS,
    ("GET", "/patients/pairs/{pair_id}"): DECIDERS,
    ("GET", "/api/patients/pairs"): DECIDERS,
    ("POST", "/api/patients/pairs"): DECIDERS,
    ("GET", "/api/patients/pairs/{pair_id}"): DECIDERS,
    ("POST", "/api/patients/pairs/{pair_id}/link"): DECIDERS,
    ("POST", "/api/patients/pairs/{pair_id}/keep-apart"): DECIDERS,
    ("POST", "/api/patients/pairs/{pair_id}/undo"): DECIDERS,
    ("POST", "/api/patients/{patient_id}/correct"): DECIDERS,
    ("POST", "/api/exams/{exam_id}/recognition"): REGISTRARS,
    ("GET", "/api/recognition/{recognition_id}"): CLINIC | REGISTRARS,
    ("POST", "/api/recognition/{recognition_id}/reuse"): REGISTRARS,
    ("POST", "/api/recognition/{recognition_id}/repeat"): REGISTRARS,
    ("GET", "/clinic/exams/{exam_id}/recognition"): CLINIC,
    ("GET", "/recognition/{recognition_id}/exams/{exam_id}/pictures/{kind}/{row_id}"): CLINIC,
    ("GET", "/recognition/{recognition_id}/exams/{exam_id}/reports/{version_id}.pdf"): CLINIC,
    ("GET", "/admin/recognition"): KEEPER,
    ("GET", "/api/recognition-rules"): KEEPER,
    ("PUT", "/api/recognition-rules"): KEEPER,
    ("GET", "/api/recognition-evaluations"): KEEPER,
    ("POST", "/api/recognition-evaluations"): KEEPER,
    ("POST", "/api/recognition-evaluations/{row_id}/end"): KEEPER,
    ("GET", "/api/exams/{exam_id}/image-score"): CLINIC | READERS | {"quality"},
    ("PUT", "/api/exams/{exam_id}/image-score"): READERS | {"quality"},
    ("GET", "/turnaround/quality"): {"quality", "director", "administrator"},
    ("GET", "/api/turnaround/quality"): {"quality", "director", "administrator"},
    ("GET", "/api/turnaround/quality.csv"): {"quality", "director", "administrator"},
    ("PUT", "/api/turnaround/settings/quality"): {"director", "administrator"},
    ("GET", "/clinic/quality"): CLINIC,
    ("GET", "/image-scores"): READERS | {"quality"},
}
