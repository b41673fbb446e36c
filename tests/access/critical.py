"""Critical values."""

CLINIC = {"technologist", "clinician"}
FLAGGERS = {"reporter", "reviewer"}
CALLERS = FLAGGERS | {"director"}
VIEWERS = CLINIC | CALLERS | {"quality"}
KEEPERS = CLINIC | {"director", "administrator"}
SETTERS = {"director", "administrator"}
MEASURERS = {"quality", "director", "administrator"}

ROUTES = {
    ("GET", "/critical"): VIEWERS,
    ("GET", "/critical/bar"): VIEWERS,
    ("GET", "/critical/contacts"): KEEPERS,
    ("GET", "/critical/rules"): SETTERS,
    ("GET", "/critical/exams/{exam_id}/rows"): CALLERS,
    ("GET", "/critical/{critical_id}"): VIEWERS,
    ("GET", "/critical/{critical_id}/panel"): VIEWERS,
    ("GET", "/turnaround/critical"): MEASURERS,
    ("GET", "/api/turnaround/critical"): MEASURERS,
    ("GET", "/api/turnaround/critical.csv"): MEASURERS,
    ("GET", "/api/critical"): VIEWERS,
    ("GET", "/api/critical/classes"): VIEWERS,
    ("PUT", "/api/critical/rules"): SETTERS,
    ("GET", "/api/critical/contacts/{org_id}"): KEEPERS,
    ("PUT", "/api/critical/contacts/{org_id}"): KEEPERS,
    ("POST", "/api/exams/{exam_id}/critical"): FLAGGERS,
    ("GET", "/api/critical/{critical_id}"): VIEWERS,
    ("POST", "/api/critical/{critical_id}/read-back"): CLINIC,
    ("POST", "/api/critical/{critical_id}/confirm"): CALLERS,
    ("POST", "/api/critical/{critical_id}/ask-again"): CALLERS,
    ("POST", "/api/critical/{critical_id}/phone"): CALLERS,
    ("POST", "/api/critical/{critical_id}/calls"): CALLERS | CLINIC,
    ("POST", "/api/critical/{critical_id}/actions"): CALLERS | CLINIC,
    ("POST", "/api/critical/{critical_id}/close"): CALLERS | CLINIC,
    ("POST", "/api/critical/{critical_id}/withdraw"): CALLERS,
    ("POST", "/api/critical/{critical_id}/withdrawal-seen"): CLINIC,
}
